"""The oracle: the alerts that must stand at the end of a stream, in plain loops over plain numbers.

Written from the rules' docstrings, the catalogue and the design. It knows no batch, no index and no amendment: it looks
at every row that arrived, and works out how every episode ends. Windows of an area contain all rows that came within
the grace period; the order of arrival decides only which reading of a meter comes first.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from zlib import crc32

import numpy as np

from schemas.columns import DeviceEvents, Payments, Readings, Stages
from schemas.master import Area
from schemas.units import HOUR_SECONDS
from tests.adversarial import Row, Stream
from tests.oracle.areas import (
    area_watermark,
    day_endings,
    energy_of,
    interval_endings,
    midnights,
)
from tests.oracle.devices import device_endings
from tests.oracle.master_data import master_data_endings
from tests.oracle.meters import reading_endings
from tests.oracle.office import (
    bill_endings,
    customer_endings,
    transfer_endings,
    work_endings,
)
from tests.oracle.watch import Ending, Endings, Facts

__all__ = ["Ending", "Endings", "expected"]


def expected(stream: Stream) -> Endings:
    """Every episode of a stream, as it stands at its end."""
    endings: Endings = {}
    areas = {area.area: area for area in stream.areas}
    nights = midnights(stream)
    unique: dict[Hashable, Row] = {}
    for row in stream.rows:
        unique.setdefault(contents(row), row)

    for name in dict.fromkeys(row.area for row in stream.rows):
        rows = [row for row in unique.values() if row.area == name]
        endings |= area_endings(stream, name, areas.get(name), rows, nights)
    return endings


def contents(row: Row) -> Hashable:
    """All that a row says, NaN equal to NaN."""
    columns = {name: np.asarray(value).tobytes() for name, value in row.columns.items()}
    return row.kind, row.area, row.subject, row.at, *columns.items()


def area_endings(
    stream: Stream, name: str, area: Area | None, rows: list[Row], nights: list[int]
) -> Endings:
    """Every episode of one area: of its readings, its windows, its office and its devices."""
    endings: Endings = {}
    interval, zone = stream.interval, stream.zone
    readings = of_kind(rows, Readings)
    validated: dict[str, list[Facts]] = {}
    for meter in dict.fromkeys(row.subject for row in readings):
        own_rows = [row for row in readings if row.subject == meter]
        found, validated[meter] = reading_endings(area, name, meter, own_rows, interval)
        endings |= found

    watermark = area_watermark(readings, has_one_meter(area))
    days = closed_days(name, nights, watermark)
    endings |= day_endings(name, area, validated, days, interval, zone)
    last = watermark - interval
    endings |= interval_endings(
        area or Area(area=name), validated, nights, interval, last
    )

    now = office_watermark(rows, watermark)
    payments = of_kind(rows, Payments)
    endings |= customer_endings(name, payments)
    endings |= bill_endings(name, area, zone, payments, now)
    endings |= transfer_endings(name, payments, now)
    endings |= work_endings(name, area, zone, of_kind(rows, Stages), now)
    if area:
        endings |= master_data_endings(area, days)
    used = energy_of(area, validated, nights, interval, watermark)
    events = of_kind(rows, DeviceEvents)
    return endings | device_endings(name, events, now, used, nights)


def of_kind(rows: list[Row], kind: type) -> list[Row]:
    """The rows of one topic."""
    return [row for row in rows if row.kind is kind]


def has_one_meter(area: Area | None) -> bool:
    """Whether the master data has a single meter in the area."""
    return area is not None and len({meter.meter for meter in area.meters}) == 1


def closed_days(name: str, nights: list[int], watermark: int) -> list[tuple[int, int]]:
    """The days that an area has closed: from one to five hours after midnight, by its name."""
    delay = HOUR_SECONDS + crc32(name.encode()) % 16 * HOUR_SECONDS // 4
    return [(start, end) for start, end in pairwise(nights) if end + delay <= watermark]


def office_watermark(rows: list[Row], watermark: int) -> int:
    """The watermark, or the second-highest event time of customers and work items if it is later."""
    newest: dict[str, int] = {}
    for row in rows:
        if row.kind in (Payments, Stages):
            newest[row.subject] = max(newest.get(row.subject, 0), row.at)
    return max([watermark, *sorted(newest.values())[-2:-1]])
