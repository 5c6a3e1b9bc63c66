"""How areas differ from what the registry holds, subject by subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from replay.master_data.queries import AREA_FIELDS
from schemas.master import Area, Meter, Tariff, Transformer

DatedRecords = Sequence[Meter] | Sequence[Tariff] | Sequence[Transformer]


@dataclass(frozen=True)
class Change:
    """A difference in what the registry says of an area, a meter, a tariff or the transformer."""

    area: str
    subject: str  # such as "meter M1"; "" for the area itself
    change: Literal["added", "changed", "ended"]
    since: int  # Unix seconds from which it holds; 0 from the beginning
    fields: dict[str, tuple[Any, Any]]  # before and after


def changes(held: Mapping[str, Area], after: Mapping[str, Area]) -> list[Change]:
    """All differences between areas."""
    found: list[Change] = []
    for name, area in after.items():
        before = held.get(name)
        if before is None:
            meters = len({meter.meter for meter in area.meters})
            found.append(Change(name, "", "added", 0, {"meters": (0, meters)}))
        elif before != area:
            found += _area_changes(before, area)
    return found


def _area_changes(before: Area, after: Area) -> Iterator[Change]:
    """The differences of an area that the registry has."""
    if own := _differing(before, after, AREA_FIELDS):
        yield Change(after.area, "", "changed", 0, own)
    for noun, key, old, new in (
        ("transformer", "", before.transformers, after.transformers),
        ("meter", "meter", before.meters, after.meters),
        ("tariff", "tariff", before.tariffs, after.tariffs),
    ):
        yield from _record_changes(after.area, noun, key, old, new)


def _record_changes(
    area: str, noun: str, key: str, old: DatedRecords, new: DatedRecords
) -> Iterator[Change]:
    """The differences of the records of meters, tariffs or the transformer."""
    before = _by_subject(old, key)
    for name, records in _by_subject(new, key).items():
        held = before.get(name, [])
        if records == held:
            continue
        subject = f"{noun} {name}".strip()
        latest = records[-1]
        if not held:
            yield Change(area, subject, "added", latest.effective, {})
            continue

        names = [name for name in latest.__struct_fields__ if name != "effective"]
        fields = _differing(held[-1], latest, names)
        ended = set(fields) == {"until"} and latest.until > 0
        since = latest.until if ended else latest.effective
        yield Change(area, subject, "ended" if ended else "changed", since, fields)


def _by_subject(records: DatedRecords, key: str) -> dict[str, list[Any]]:
    """The records of each subject, in order of time."""
    found: dict[str, list[Any]] = {}
    for record in sorted(records, key=attrgetter("effective")):
        found.setdefault(getattr(record, key) if key else "", []).append(record)
    return found


def _differing(
    before: Any, after: Any, names: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, with both values."""
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
