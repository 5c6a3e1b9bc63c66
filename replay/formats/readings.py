"""The common end of every format: readings of meters in one area, in order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from replay.history import Source, Tally, nothing_read, split_batch
from replay.inferred import USUAL_STEP, sure_steps
from replay.tables import Sheet
from schemas.columns import Codes, Readings, Times
from schemas.master import Area, Meter

KWH_PER_UNIT = {"wh": 1e-3, "kwh": 1.0, "mwh": 1e3, "gwh": 1e6}  # by unit of energy
KW_PER_UNIT = {"w": 1e-3, "kw": 1.0, "mw": 1e3}  # by unit of power
SLASH_DATE = r"^\s*(\d{1,2})/(\d{1,2})/(\d{4})\s*$"
DAY_FIRST, MONTH_FIRST = r"\3-\2-\1", r"\3-\1-\2"
NO_FLOW_BACK = "energy that flows back has no column of its own per interval"


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

    steps = sure_steps(readings)
    areas = []
    if un_v:
        meters = _meters(readings, steps, un_v, interval or USUAL_STEP)
        areas.append(Area(area=area, meters=meters))
    by_name = {(area, readings.names[number]): step for number, step in steps.items()}
    return Source(
        name=name,
        areas=areas,
        batches=split_batch(readings),
        rows=len(readings),
        zone=zone,
        interval=interval,
        steps={} if interval else by_name,
        tally=tally,
    )


def _meters(
    readings: Readings, steps: Mapping[int, int], un_v: float, usual: int
) -> list[Meter]:
    """The record of each meter, with a highest current that its readings do not exceed."""
    there, first = np.unique(readings.subject, return_index=True)
    most = np.zeros(len(readings.names))
    np.fmax.at(most, readings.subject, readings.kwh.astype(np.float64))

    meters = []
    for number, row in zip(there.tolist(), first.tolist(), strict=True):
        step = steps.get(number, usual)
        amps = most[number] * 3_600_000 / step / un_v
        meters.append(
            Meter(
                meter=readings.names[number],
                customer=readings.names[number],
                effective=int(readings.at[row]) - step,
                un_v=un_v,
                imax_a=max(60.0, float(np.ceil(amps))),
                interval_s=step,
            )
        )
    return meters


def day_and_hour(sheet: Sheet, day: str, hour: str, order: str) -> pa.ChunkedArray:
    """The texts of a day and an hour together; a day with slashes has the order of the layout."""
    days, hours = (sheet.table[name].cast(pa.string()) for name in (day, hour))
    dates = pc.replace_substring_regex(days, SLASH_DATE, order)
    return pc.binary_join_element_wise(dates, hours, " ")


def one_phase(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values as phase A, the only phase of a single-phase meter."""
    others = np.full((2, len(values)), np.nan)
    return np.stack([values, *others]).astype(np.float32)
