"""What a source holds, as it was understood: columns, ids, times, what was left out, and which rules can judge it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from detectors.needs import Needs
from detectors.rule import ALL_RULES
from replay.history import arrivals, nothing_read
from replay.sources import open_sources
from schemas.columns import Batch, DeviceEvents, Event, Payment, Payments, Stages
from schemas.documents import schema
from streams.settings import Settings
from streams.times import local_time

RECORD_NAMES = {
    "readings": "reading",
    "events": "event",
    "payments": "payment",
    "stages": "stage",
}
MASTER_SUFFIX = " of the master data"
SUBJECT_NAMES = {
    "readings": "meters",
    "events": "devices",
    "payments": "customers",
    "stages": "items",
}


@dataclass
class _ValueRange:
    """The values of a column: how many are known, the lowest and the highest."""

    known: int = 0
    lowest: float = np.inf
    highest: float = -np.inf

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Take values in."""
        known = values[np.isfinite(values)]
        self.known += known.size
        self.lowest = min(self.lowest, float(known.min(initial=np.inf)))
        self.highest = max(self.highest, float(known.max(initial=-np.inf)))


@dataclass
class _KindRows:
    """The rows of one kind."""

    rows: int = 0
    first: int = 1 << 62  # when the first and the last arrived
    last: int = 0
    subjects: set[str] = field(default_factory=set)
    areas: set[str] = field(default_factory=set)
    # of events, payments and stages
    words: Counter[str] = field(default_factory=Counter)
    columns: dict[str, _ValueRange] = field(default_factory=dict)

    def add(self, batch: Batch) -> None:
        """Take a batch in."""
        self.rows += len(batch)
        arrived = arrivals(batch)
        self.first, self.last = (
            min(self.first, int(arrived[0])),
            max(self.last, int(arrived[-1])),
        )
        self.subjects.update(
            batch.names[code] for code in np.unique(batch.subject).tolist()
        )
        self.areas.update(batch.areas[code] for code in np.unique(batch.area).tolist())
        self.words.update(_words(batch))
        for column in fields(batch):
            values = getattr(batch, column.name)
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                self.columns.setdefault(column.name, _ValueRange()).add(values)


def _words(batch: Batch) -> Iterator[str]:
    """What each row of events, payments or stages tells."""
    if isinstance(batch, DeviceEvents):
        yield from (Event(code).name.lower() for code in batch.event.tolist())
    elif isinstance(batch, Payments):
        yield from (Payment(code).name.lower() for code in batch.payment.tolist())
    elif isinstance(batch, Stages):
        yield from (batch.stages[code] for code in batch.stage.tolist())


def understood(paths: Sequence[str], settings: Settings) -> dict[str, Any]:
    """What a source holds, as plain data. Raises ValueError for one of which nothing can be read."""
    told = open_sources(paths)
    source = replace(
        told,
        zone=told.zone or settings.zone,
        interval=told.interval or settings.interval,
    )
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
        "zone_from": "source" if told.zone else "settings",
        "interval_from": "source" if told.interval else "settings",
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
    properties = schema(RECORD_NAMES[kind])["properties"]
    columns = {
        name: {
            "unit": properties.get(name, {}).get("x-unit", ""),
            "known": of.known,
            "lowest": of.lowest,
            "highest": of.highest,
        }
        for name, of in rows.columns.items()
        if of.known
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
    """How ids look, without one of them: a letter, a digit and how often.

    >>> _shape_of(["0012", "0931", "M17"])
    '9999 (2), A99 (1)'
    """
    shapes = Counter(re.sub(r"[^\W\d_]", "A", re.sub(r"\d", "9", name)) for name in ids)
    most = sorted(shapes.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{shape} ({count:,})" for shape, count in most)


def show(found: dict[str, Any], console: Console) -> None:
    """Print it for people."""
    by_zone, by_interval = (
        "as the source says" if found[f"{name}_from"] == "source" else "by the settings"
        for name in ("zone", "interval")
    )
    zone, every = (
        f"{found['zone']} ({by_zone})",
        f"{found['interval']:,} s ({by_interval})",
    )
    console.print(
        f"{found['source']}: days of {zone}, readings every {every}", soft_wrap=True
    )
    for file, layout in found["read_as"].items():
        console.print(f"  {file} is read as {layout}", soft_wrap=True, markup=False)
    for seconds, count in list(found["steps"].items())[:5]:
        console.print(f"  {count:,} meters every {seconds} s")
    for kind, of in found["kinds"].items():
        _show_kind(kind, of, console)
    _show_left_out(found, console)
    _show_rules(found["rules"], console)


def _show_kind(kind: str, of: dict[str, Any], console: Console) -> None:
    subjects = SUBJECT_NAMES[kind]
    console.print(
        f"\n{kind}: {of['rows']:,} rows of {of[subjects]:,} {subjects} in {of['areas']:,} areas, "
        f"{of['from']} to {of['to']}; ids like {of['ids']}",
        soft_wrap=True,
    )
    if of["words"]:
        console.print(
            ", ".join(f"{word} {n:,}" for word, n in of["words"].items()),
            soft_wrap=True,
            markup=False,
        )
    table = Table(
        "column", "unit", "known", "lowest", "highest", box=None, pad_edge=False
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for name, told in of["columns"].items():
        table.add_row(
            name,
            told["unit"],
            f"{told['known']:,}",
            f"{told['lowest']:g}",
            f"{told['highest']:g}",
        )
    if of["columns"]:
        console.print(table)


def _show_left_out(found: dict[str, Any], console: Console) -> None:
    for what in ("refused", "mended"):
        for reason, count in found[what].items():
            where = f"{what}: {reason} {count:,}, first at {found['first'][reason]}"
            console.print(where, soft_wrap=True, markup=False)
    for note in found["notes"]:
        console.print(note, soft_wrap=True, markup=False)


def _show_rules(rules: dict[str, Any], console: Console) -> None:
    judge, lack = rules["judge"], rules["lack"]
    console.print(
        f"\n{len(judge)} of {len(judge) + len(lack)} rules can judge this: {', '.join(judge) or 'none'}",
        soft_wrap=True,
    )
    together: dict[str, list[str]] = {}
    for name, lacking in lack.items():
        together.setdefault(_joined(lacking), []).append(name)
    table = Table("lacking", "rules that cannot tell for it", box=None, pad_edge=False)
    for lacking, names in sorted(together.items(), key=lambda item: -len(item[1])):
        table.add_row(lacking, ", ".join(names))
    console.print(table)


def _joined(lacking: Sequence[str]) -> str:
    """What is lacking, columns of the master data together.

    >>> _joined(["i", "ib of the master data", "un of the master data"])
    'i; of the master data ib, un'
    """
    master = [
        name.removesuffix(MASTER_SUFFIX)
        for name in lacking
        if name.endswith(MASTER_SUFFIX)
    ]
    others = [name for name in lacking if not name.endswith(MASTER_SUFFIX)]
    return "; ".join(
        [*others, *([f"of the master data {', '.join(master)}"] if master else [])]
    )
