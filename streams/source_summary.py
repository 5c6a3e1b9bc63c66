"""The summary of a source: columns, ids, times, omissions, and which rules can judge it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from detectors.needs import Needs
from detectors.rule import ALL_RULES
from replay.history import SUBJECT_NOUNS, Source, arrivals, nothing_read
from replay.sources import open_sources
from schemas.columns import Batch, DeviceEvents, Event, Payment, Payments, Stages
from schemas.documents import schema
from schemas.topics import ALL_TOPICS
from streams.histories import completed
from streams.settings import Settings
from streams.times import local_time

RECORD_NAMES = {
    topic.kind.kind: topic.payloads[0].name for topic in ALL_TOPICS if topic.kind
}
# By kind, as the JSON output has them: programs may read it.
SUBJECT_NAMES = SUBJECT_NOUNS | {DeviceEvents.kind: "devices"}
MASTER_SUFFIX = " of the master data"


@dataclass
class _ValueRange:
    """The values of a column: how many are known, the lowest and the highest."""

    known: int = 0
    lowest: float = np.inf
    highest: float = -np.inf

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Adds values."""
        known = values[np.isfinite(values)]
        self.known += known.size
        self.lowest = min(self.lowest, float(known.min(initial=np.inf)))
        self.highest = max(self.highest, float(known.max(initial=-np.inf)))


@dataclass
class _KindRows:
    """The rows of one kind."""

    rows: int = 0
    first: int = 1 << 62  # receipt times of the first and the last row
    last: int = 0
    subjects: set[str] = field(default_factory=set)
    areas: set[str] = field(default_factory=set)
    # Of events, payments and stages: the kind of each row.
    words: Counter[str] = field(default_factory=Counter)
    columns: dict[str, _ValueRange] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Adds a batch."""
        self.rows += len(batch)
        arrived = arrivals(batch)
        self.first = min(self.first, int(arrived[0]))
        self.last = max(self.last, int(arrived[-1]))

        subjects = np.unique(batch.subject).tolist()
        areas = np.unique(batch.area).tolist()
        self.subjects.update(batch.names[code] for code in subjects)
        self.areas.update(batch.areas[code] for code in areas)
        self.words.update(_words(batch))
        for column in fields(batch):
            values = getattr(batch, column.name)
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                self.columns.setdefault(column.name, _ValueRange()).add(values)


def _words(batch: Batch) -> Iterator[str]:
    """The event, kind of payment or stage of each row; nothing for readings."""
    if isinstance(batch, DeviceEvents):
        yield from (Event(code).name.lower() for code in batch.event.tolist())
    elif isinstance(batch, Payments):
        yield from (Payment(code).name.lower() for code in batch.payment.tolist())
    elif isinstance(batch, Stages):
        yield from (batch.stages[code] for code in batch.stage.tolist())


def source_summary(paths: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The summary of the source of some paths. Raises ValueError if nothing of it can be read."""
    return summary_of(open_sources(paths), settings)


def summary_of(opened: Source, settings: Settings) -> dict[str, Any]:
    """The summary of a source as plain data. Raises ValueError if nothing of it can be read."""
    source = completed(opened, settings)
    needs = Needs(source.areas, source.zone, source.interval)
    kinds: dict[str, _KindRows] = {}
    for batch in source.batches:
        if len(batch):
            kinds.setdefault(batch.kind, _KindRows()).add(batch)
            needs.step(batch)
    if not kinds:
        raise nothing_read(source.name, source.tally)

    lacks = {name: needs.lacks(name) for name in sorted(ALL_RULES)}
    return {
        "source": source.name,
        "read_as": source.read_as,
        "zone": source.zone,
        "interval": source.interval,
        "zone_from": "source" if opened.zone else "settings",
        "interval_from": "source" if opened.interval else "settings",
        "steps": dict(Counter(source.steps.values()).most_common()),
        "areas_with_a_file": len(source.areas),
        "kinds": {
            kind: _plain(kind, rows, source.zone) for kind, rows in kinds.items()
        },
        "refused": dict(source.rejected),
        "mended": dict(source.tally.mended),
        "first": source.tally.first,
        "notes": [*source.tally.notes, *source.tally.named.strangers()],
        "rules": {
            "judge": [name for name, lack in lacks.items() if not lack],
            "lack": {name: lack for name, lack in lacks.items() if lack},
        },
    }


def _plain(kind: str, rows: _KindRows, zone: str) -> dict[str, Any]:
    """The rows of a kind as plain data."""
    properties = schema(RECORD_NAMES[kind])["properties"]
    columns = {
        name: {
            "unit": properties.get(name, {}).get("x-unit", ""),
            "known": values.known,
            "lowest": values.lowest,
            "highest": values.highest,
        }
        for name, values in rows.columns.items()
        if values.known
    }

    return {
        "rows": rows.rows,
        "from": local_time(rows.first, zone),
        "to": local_time(rows.last, zone),
        SUBJECT_NAMES[kind]: len(rows.subjects),
        "areas": len(rows.areas),
        "ids": _shape_of(rows.subjects),
        "words": dict(rows.words.most_common()),
        "columns": columns,
    }


def _shape_of(ids: Iterable[str]) -> str:
    """The shapes of ids, without any id itself: a letter, a digit and how often.

    >>> _shape_of(["0012", "0931", "M17"])
    '9999 (2), A99 (1)'
    """
    shapes = Counter(re.sub(r"[^\W\d_]", "A", re.sub(r"\d", "9", name)) for name in ids)
    most = sorted(shapes.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{shape} ({count:,})" for shape, count in most)


def show_source_summary(found: dict[str, Any], console: Console) -> None:
    """Prints the summary of a source for people."""
    zone = f"{found['zone']} ({_origin(found['zone_from'])})"
    every = f"{found['interval']:,} s ({_origin(found['interval_from'])})"
    console.print(
        f"{found['source']}: days of {zone}, readings every {every}", soft_wrap=True
    )
    for file, layout in found["read_as"].items():
        console.print(f"  {file} is read as {layout}", soft_wrap=True, markup=False)
    for seconds, count in list(found["steps"].items())[:5]:
        console.print(f"  {count:,} meters every {seconds} s")

    for kind, rows in found["kinds"].items():
        _show_kind(kind, rows, console)
    _show_left_out(found, console)
    _show_rules(found["rules"], console)


def _origin(name: str) -> str:
    return "as the source says" if name == "source" else "by the settings"


def _show_kind(kind: str, rows: dict[str, Any], console: Console) -> None:
    """Prints the rows of a kind: how many, of whom, when, and the values of their columns."""
    subjects = SUBJECT_NAMES[kind]
    console.print(
        f"\n{kind}: {rows['rows']:,} rows of {rows[subjects]:,} {subjects} in {rows['areas']:,} areas, "
        f"{rows['from']} to {rows['to']}; ids like {rows['ids']}",
        soft_wrap=True,
    )
    if rows["words"]:
        words = ", ".join(f"{word} {n:,}" for word, n in rows["words"].items())
        console.print(words, soft_wrap=True, markup=False)
    if not rows["columns"]:
        return

    table = Table(
        "column", "unit", "known", "lowest", "highest", box=None, pad_edge=False
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for name, values in rows["columns"].items():
        table.add_row(
            name,
            values["unit"],
            f"{values['known']:,}",
            f"{values['lowest']:g}",
            f"{values['highest']:g}",
        )
    console.print(table)


def _show_left_out(found: dict[str, Any], console: Console) -> None:
    """Prints what the reader left out or mended, and its notes."""
    for outcome in ("refused", "mended"):
        for reason, count in found[outcome].items():
            first = found["first"][reason]
            text = f"{outcome}: {reason} {count:,}, first at {first}"
            console.print(text, soft_wrap=True, markup=False)
    for note in found["notes"]:
        console.print(note, soft_wrap=True, markup=False)


def _show_rules(rules: dict[str, Any], console: Console) -> None:
    """Prints the rules that can judge the source, and what the others lack."""
    judge, lack = rules["judge"], rules["lack"]
    console.print(
        f"\n{len(judge)} of {len(judge) + len(lack)} rules can judge this: {', '.join(judge) or 'none'}",
        soft_wrap=True,
    )
    names_by_lack: dict[str, list[str]] = {}
    for name, lacking in lack.items():
        names_by_lack.setdefault(_joined(lacking), []).append(name)
    table = Table("lacking", "rules that cannot tell for it", box=None, pad_edge=False)
    by_count = sorted(names_by_lack.items(), key=lambda item: -len(item[1]))
    for lacking, names in by_count:
        table.add_row(lacking, ", ".join(names))
    console.print(table)


def _joined(lacking: Sequence[str]) -> str:
    """The names of what is lacking, columns of the master data together.

    >>> _joined(["i", "ib of the master data", "un of the master data"])
    'i; of the master data ib, un'
    """
    master = []
    others = []
    for name in lacking:
        if name.endswith(MASTER_SUFFIX):
            master.append(name.removesuffix(MASTER_SUFFIX))
        else:
            others.append(name)
    if master:
        others.append(f"of the master data {', '.join(master)}")
    return "; ".join(others)
