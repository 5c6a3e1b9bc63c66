"""The common end of every format: readings of meters in one area, in order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.history import Source, Tally, nothing_read, split_batch
from replay.inferred import USUAL_STEP, sure_steps
from schemas.columns import Codes, Readings, Times
from schemas.master import Area, Meter

KWH_PER_UNIT = {"wh": 1e-3, "kwh": 1.0, "mwh": 1e3, "gwh": 1e6}  # by unit of energy
KW_PER_UNIT = {"w": 1e-3, "kw": 1.0, "mw": 1e3}  # by unit of power
NO_FLOW_BACK = "energy that flows back has no column of its own per interval"


class MeterRecords(NamedTuple):
    """What every meter has: it is its own customer, directly metered, and known from its first reading on."""

    un_v: float
    interval_s: int = 0  # 0 if its readings show it


class MeterRows(NamedTuple):
    """Rows of meters, of one file or a part of it."""

    who: Codes  # into the names of all files
    at: Times  # when the interval ended
    columns: dict[str, NDArray[Any]]  # of Readings


def history(
    name: str,
    names: Sequence[str],
    area: str,
    zone: str,
    meter_rows: Sequence[MeterRows],
    tally: Tally,
    *,
    un_v: float = 0.0,
    interval: int = 0,
) -> Source:
    """The rows as one history. Raises SourceError when there is no row.

    Where the nominal voltage is given, each meter is its own customer, directly metered, and known from the first day.
    """
    who = np.concatenate([rows.who for rows in meter_rows])
    at = np.concatenate([rows.at for rows in meter_rows])
    if not len(at):
        raise nothing_read(name, tally)

    order = np.lexsort((who, at))
    columns = {}
    for column in meter_rows[0].columns:
        parts = [rows.columns[column] for rows in meter_rows]
        values = np.concatenate(parts, axis=-1)
        columns[column] = values[..., order]
    readings = Readings.build(
        names, who[order], [area], np.zeros(len(order)), at[order], **columns
    )

    return history_of(
        name, readings, zone, tally, MeterRecords(un_v, interval) if un_v else None
    )


def history_of(
    name: str,
    readings: Readings,
    zone: str,
    tally: Tally,
    records: MeterRecords | None,
) -> Source:
    """Readings in order of time as a history, whose meters have records if something is said of them."""
    steps = sure_steps(readings)
    there, first = np.unique(readings.subject, return_index=True)
    rows = dict(zip(there.tolist(), first.tolist(), strict=True))  # by meter
    areas = {number: readings.areas[readings.area[row]] for number, row in rows.items()}

    interval = records.interval_s if records else 0
    by_name = {
        (areas[number], readings.names[number]): step for number, step in steps.items()
    }
    return Source(
        name=name,
        areas=_with_meters(readings, rows, steps, records) if records else [],
        batches=split_batch(readings),
        rows=len(readings),
        zone=zone,
        interval=interval,
        steps={} if interval else by_name,
        tally=tally,
    )


def _with_meters(
    readings: Readings,
    rows: Mapping[int, int],
    steps: Mapping[int, int],
    records: MeterRecords,
) -> list[Area]:
    """The areas of meters by their first rows, each meter with a highest current that its readings do not exceed."""
    most = np.zeros(len(readings.names))
    np.fmax.at(most, readings.subject, readings.kwh.astype(np.float64))

    meters: dict[str, list[Meter]] = {}
    for number, row in rows.items():
        step = steps.get(number, records.interval_s or USUAL_STEP)
        amps = most[number] * 3_600_000 / step / records.un_v
        meter = Meter(
            meter=readings.names[number],
            customer=readings.names[number],
            effective=int(readings.at[row]) - step,
            un_v=records.un_v,
            imax_a=max(60.0, float(np.ceil(amps))),
            interval_s=step,
        )
        area = readings.areas[readings.area[row]]
        meters.setdefault(area, []).append(meter)
    return [Area(area=area, meters=here) for area, here in meters.items()]
