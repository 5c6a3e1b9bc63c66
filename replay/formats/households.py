"""Half-hourly household energy as two trials published it, a row per household and half hour that ends then.

Smart Grid, Smart City (New South Wales, 2012 to 2014) keeps Eastern Standard Time all year: no hour is missing or
double when daylight saving changes, the households' usual day moves by an hour instead, and gaps are whole two-hour
uploads that end on the even hour. Low Carbon London (2011 to 2014) keeps UTC: every day has 48 half hours, the first
of a household ends at 00:30 and the last at midnight. Each household is its own customer and meter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from replay import tables
from replay.formats.readings import MeterRows, history
from replay.history import Names, Source, SourceError, Tally

INTERVAL_SECONDS = 1800
EMPTY_CELL = "(?i:null)"


class _Trial(NamedTuple):
    """The place of a trial, and the names of its columns."""

    area: str
    zone: str
    ahead: int  # seconds of its clock ahead of UTC
    # names of the household, the time, the energy
    columns: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


KNOWN_TRIALS = (
    _Trial(
        "SGSC",
        "Australia/Sydney",
        36_000,
        (("customer_id",), ("reading_datetime",), ("general_supply_kwh",)),
    ),
    _Trial(
        "LCL",
        "Europe/London",
        0,
        (
            ("lclid",),
            ("datetime", "tstp"),
            ("kwh/hh (per half hour)", "energy(kwh/hh)"),
        ),
    ),
)


def recognises(columns: Collection[str]) -> bool:
    """True if the columns are a trial's."""
    return _trial(columns) is not None


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The households of all files as one history of readings."""
    seen = Names()
    trials = [found for path in paths if (found := _trial(tables.columns(path)))]
    meter_rows = []
    for path, (trial, names) in zip(paths, trials, strict=True):
        customer, when, energy = names
        sheet = tables.read(path, names, tally).without(EMPTY_CELL)
        who = sheet.ids(customer, seen)
        at, timed = sheet.times(when)
        kwh = sheet.numbers(energy).astype(np.float64)
        keep = sheet.keep(
            *sheet.id_faults(customer, who),
            (~timed, sheet.no_time(when), when),
            (np.isnan(kwh), f"{energy} is missing", energy),
        )
        rows = MeterRows(who[keep], at[keep] - trial.ahead, {"kwh": kwh[keep]})
        meter_rows.append(rows)

    trial, _ = trials[0]
    if any(other is not trial for other, _ in trials):
        raise SourceError(
            f"households of two trials ({' and '.join(map(str, paths))}) must be opened apart"
        )
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        trial.area,
        trial.zone,
        meter_rows,
        tally,
        un_v=230.0,
        interval=INTERVAL_SECONDS,
    )


def _trial(columns: Collection[str]) -> tuple[_Trial, tuple[str, ...]] | None:
    """The trial whose columns these are, and how the file spells them."""
    spelt = {name.lower(): name for name in columns}
    for trial in KNOWN_TRIALS:
        found = [filter(None, map(spelt.get, known)) for known in trial.columns]
        names = tuple(next(spellings, "") for spellings in found)
        if all(names):
            return trial, names
    return None
