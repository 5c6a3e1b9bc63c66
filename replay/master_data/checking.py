"""What is wrong with a file of areas, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from replay import contents
from schemas.master import Area, Meter
from schemas.topics import LARGEST_RECORD
from schemas.wire import RejectedError, check_texts


@dataclass(frozen=True)
class Problem:
    """Something wrong, and the line of its area."""

    line: int
    text: str


def problems(path: Path) -> Iterator[Problem]:
    """The problems of a JSON lines file of areas, in its order. Raises SourceError."""
    contents.check(path)
    line_of: dict[str, int] = {}
    standing: dict[str, tuple[str, int]] = {}  # area and line of meters without an end
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                area = msgspec.json.decode(line, type=Area)
                check_texts(area)
            except (msgspec.DecodeError, RejectedError) as error:
                yield Problem(number, f"the line is no area: {error}")
                continue

            if area.area in line_of:
                earlier = line_of[area.area]
                yield Problem(number, f"{area.area} stands in line {earlier} already")
            line_of[area.area] = number
            if len(line) > LARGEST_RECORD:
                limit = LARGEST_RECORD >> 20
                size = f"{len(line):,} bytes, and a topic takes {limit} MiB"
                yield Problem(number, f"{area.area}: its record has {size}")
            for text in _area_problems(area):
                yield Problem(number, f"{area.area}: {text}")
            for meter in _last_records(area):
                where, earlier = standing.setdefault(meter.meter, (area.area, number))
                if where != area.area:
                    also = f"stands in {where} too, line {earlier}"
                    yield Problem(number, f"{area.area}: meter {meter.meter} {also}")


def _area_problems(area: Area) -> Iterator[str]:
    """The problems within an area."""
    names = {meter.meter for meter in area.meters}
    if area.gateway and area.gateway not in names:
        yield f"the gateway meter {area.gateway} has no record"
    doubled = Counter((meter.meter, meter.effective) for meter in area.meters)
    for (name, at), count in doubled.items():
        if count > 1:
            yield f"meter {name} has {count} records that are effective at {at}"

    listed = {tariff.tariff for tariff in area.tariffs}
    for tariff in sorted({meter.tariff for meter in area.meters} - listed - {""}):
        yield f"tariff {tariff} has no prices"
    for meter in area.meters:
        for text in _meter_problems(meter):
            yield f"meter {meter.meter}: {text}"


def _meter_problems(meter: Meter) -> Iterator[str]:
    """The problems within a record of a meter."""
    if 0 < meter.until <= meter.effective:
        yield f"it ends at {meter.until}, before it is effective at {meter.effective}"
    if meter.wiring == "1P2W" and meter.ct > 1:
        yield f"a single-phase meter has a current transformer of {meter.ct:g}"
    if meter.phase and meter.wiring != "1P2W":
        yield f"a {meter.wiring} meter hangs on phase {meter.phase} alone"
    if meter.ib_a > meter.imax_a:
        yield f"its basic current {meter.ib_a:g} A is above its largest, {meter.imax_a:g} A"


def _last_records(area: Area) -> Iterator[Meter]:
    """The last record of each meter that has not been taken away."""
    last = {meter.meter: meter for meter in sorted(area.meters, key=_effective)}
    yield from (meter for meter in last.values() if not meter.until)


def _effective(meter: Meter) -> int:
    return meter.effective
