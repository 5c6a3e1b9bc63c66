"""Half-hourly household energy as the Smart Grid, Smart City trial published it (New South Wales, 2012 to 2014).

A time is the end of its half hour in Eastern Standard Time all year: no hour is missing or double when daylight
saving changes, the households' habits move by an hour instead, and gaps are whole two-hour uploads that end on the
even hour. Each household is its own customer and meter.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from replay import tables
from replay.history import Names, Source, Tally, nothing_read, pieces
from schemas.columns import Readings
from schemas.master import Area, Meter

AREA = "SGSC"
ZONE = "Australia/Sydney"
STANDARD_TIME = 10 * 3600  # seconds ahead of UTC
INTERVAL = 1800
COLUMNS = ("customer_id", "reading_datetime", "general_supply_kwh")


def recognises(columns: Collection[str]) -> bool:
    """Whether the columns are the trial's."""
    return set(COLUMNS) <= {name.lower() for name in columns}


def open_files(paths: Sequence[Path], tally: Tally) -> Source:
    """The households of all files as one history of readings."""
    seen = Names()
    parts = []
    for path in paths:
        spelt = {name.lower(): name for name in tables.columns(path)}
        customer, when, energy = (spelt[name] for name in COLUMNS)
        sheet = tables.read(path, (customer, when, energy), tally)
        who, (at, timed), kwh = sheet.ids(customer, seen), sheet.times(when), sheet.numbers(energy).astype(np.float64)
        keep = sheet.keep(
            *sheet.id_faults(customer, who),
            (~timed, sheet.no_time(when), when),
            (np.isnan(kwh), f"{energy} is missing", energy),
        )
        parts.append((who[keep], at[keep] - STANDARD_TIME, kwh[keep]))
    who, at, kwh = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((who, at))
    name = " + ".join(path.name for path in paths)
    if not len(order):
        raise nothing_read(name, tally)
    readings = Readings.build(seen.names, who[order], [AREA], np.zeros(len(order)), at[order], kwh=kwh[order])
    there, first = np.unique(who[order], return_index=True)
    meters = [
        Meter(meter=seen.names[k], customer=seen.names[k], effective=start, un_v=230.0, interval_s=INTERVAL)
        for k, start in zip(there, (at[order][first] - INTERVAL).tolist(), strict=True)
    ]
    return Source(
        name=name,
        areas=[Area(area=AREA, meters=meters)],
        batches=pieces(readings),
        rows=len(readings),
        zone=ZONE,
        interval=INTERVAL,
        tally=tally,
    )
