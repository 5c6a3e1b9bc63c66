"""The slow twin: what must be told of a stream at its end, in plain loops over plain numbers.

Written from the rules' docstrings, the catalogue and the design; it knows no batch, no slot, no wave and no amendment:
it looks at everything that arrived, and works out how every episode ends. Area windows are taken from all rows that
came within the grace period; the order of arrival matters for which reading of a meter comes first alone.
"""

from __future__ import annotations

from itertools import pairwise
from zlib import crc32

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
    told: Endings = {}
    areas = {area.area: area for area in stream.areas}
    nights = midnights(stream)
    once: dict[str, Row] = {}
    for row in stream.rows:
        once.setdefault(repr(row), row)
    for name in dict.fromkeys(row.area for row in stream.rows):
        rows = [row for row in once.values() if row.area == name]
        reads = [row for row in rows if row.kind is Readings]
        area = areas.get(name)
        believed: dict[str, list[Facts]] = {}
        for meter in dict.fromkeys(row.subject for row in reads):
            mine = [row for row in reads if row.subject == meter]
            endings, believed[meter] = reading_endings(
                area, name, meter, mine, stream.interval
            )
            told |= endings
        clock = area_watermark(
            reads, area is not None and len({m.meter for m in area.meters}) == 1
        )
        turn = (
            HOUR_SECONDS + crc32(name.encode()) % 16 * HOUR_SECONDS // 4
        )  # of closing days, after midnight
        days = [(start, end) for start, end in pairwise(nights) if end + turn <= clock]
        told |= day_endings(name, area, believed, days, stream.interval, stream.zone)
        told |= interval_endings(
            area or Area(area=name),
            believed,
            nights,
            stream.interval,
            clock - stream.interval,
        )
        newest: dict[str, int] = {}
        for row in [row for row in rows if row.kind in (Payments, Stages)]:
            newest[row.subject] = max(newest.get(row.subject, 0), row.at)
        now = max([clock, *sorted(newest.values())[-2:-1]])
        paid = [row for row in rows if row.kind is Payments]
        told |= customer_endings(name, paid) | bill_endings(
            name, area, stream.zone, paid, now
        )
        told |= transfer_endings(name, paid, now)
        told |= work_endings(
            name, area, stream.zone, [row for row in rows if row.kind is Stages], now
        )
        used = energy_of(area, believed, nights, stream.interval, clock)
        told |= master_data_endings(area, days) if area else {}
        told |= device_endings(
            name, [row for row in rows if row.kind is DeviceEvents], now, used, nights
        )
    return told
