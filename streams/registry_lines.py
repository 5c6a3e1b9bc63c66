"""Master data and its changes as lines of a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from replay.master_data.changes import Change
from schemas.master import Area, Moment
from streams.times import local_time

CHANGE_MARKS = {"added": "+", "changed": "~", "ended": "-"}


def change_line(change: Change, zone: str) -> str:
    """A change: what it is about, from when on, and each field before and after.

    >>> fields = {"ct": (1.0, 80.0), "credit": ("", "A")}
    >>> change_line(Change("A1", "meter M1", "changed", 1_772_380_800, fields), "Asia/Shanghai")
    '~ A1 meter M1 from 2026-03-02 00:00: ct 1 -> 80, credit none -> A'
    """
    when = f" from {local_time(change.since, zone)}" if change.since else ""
    subject = f"{change.area} {change.subject}".rstrip()
    beginning = f"{CHANGE_MARKS[change.change]} {subject}{when}"
    if change.change == "ended":
        return f"{beginning}: ended"
    if change.change == "added" and not change.subject:
        return f"{beginning}: new, {change.fields['meters'][1]:,} meters"
    fields = ", ".join(
        f"{name} {_text(before)} -> {_text(after)}"
        for name, (before, after) in change.fields.items()
    )
    return f"{beginning}: {fields or 'new'}"


def summary(changes: Sequence[Change], areas: int, *, sent: bool) -> str:
    """How much changes, and what became of it."""
    if not changes:
        return "nothing differs from the registry"
    counts: Counter[str] = Counter(change.change for change in changes)
    parts = [f"{counts[kind]:,} {kind}" for kind in CHANGE_MARKS if counts[kind]]
    done = "sent" if sent else "nothing is sent without --send"
    return f"{', '.join(parts)} in {areas:,} areas; {done}"


def area_lines(area: Area, zone: str) -> Iterator[str]:
    """An area with its transformers, tariffs and meters; fields that are as usual are left out."""
    yield _described(f"area {area.area}", area, zone)
    for transformer in area.transformers:
        yield _described("  transformer", transformer, zone)
    for tariff in area.tariffs:
        yield _described(f"  tariff {tariff.tariff}", tariff, zone)
    for meter in sorted(area.meters, key=lambda meter: (meter.meter, meter.effective)):
        yield _described(f"  meter {meter.meter}", meter, zone)


def _described(title: str, record: msgspec.Struct, zone: str) -> str:
    """A record in a line."""
    parts = []
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        if field.name in title or value == field.default or isinstance(value, list):
            continue
        shown = local_time(value, zone) if field.type == Moment else _text(value)
        parts.append(f"{field.name} {shown}")
    return f"{title}: {', '.join(parts)}" if parts else title


def _text(value: Any) -> str:
    if value is None or value == "":
        return "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
