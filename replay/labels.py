"""Labels: what was found of a subject in a span of time, read from files or archives, or made of planted faults."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import msgspec
import pyarrow as pa

from detectors.rule import ALL_RULES
from replay import contents, tables
from replay.archive.kept_records import read_inspections
from replay.archive.manifest import read_manifest
from replay.archive.storage import Storage
from replay.history import SourceError, Tally
from replay.ids import clean
from replay.observed import Observed
from replay.simulation.happenings import Planted
from schemas.alert import Alert
from schemas.columns import EARLIEST_TIME, LATEST_TIME
from schemas.inspection import (
    OUTCOME_CODES,
    VERDICT_WORDS,
    Group,
    Inspection,
    Verdict,
)
from schemas.topics import INSPECTIONS_TOPIC
from schemas.units import DAY_SECONDS

NEEDED_COLUMNS = ("subject", "since", "outcome", "verdict")
LABEL_COLUMNS = (
    "inspection",
    "subject",
    "area",
    "since",
    "until",
    "outcome",
    "verdict",
    "source",
    "inclusion",
    "rules",
    "echoes",
)
GROUP_FAMILIES: dict[Group, tuple[str, ...]] = {
    "theft": ("areas", "consumption", "devices", "metering", "wiring"),
    "breach": ("capacity", "consumption", "master_data"),
    "fault": (
        "areas",
        "consumption",
        "devices",
        "metering",
        "voltage",
        "wiring",
    ),
    "file": ("areas", "master_data", "metering", "wiring"),
    "billing": ("billing", "payments"),
    "grid": ("areas", "capacity", "quality", "voltage"),
    "late": ("workflow",),
}
"""The families of rules that an outcome judges; the other groups judge all rules."""
FAMILY_OUTCOMES = {
    "areas": "hooked_to_line",
    "billing": "computed_wrongly",
    "capacity": "capacity_breach",
    "consumption": "bypass",
    "devices": "meter_tampered",
    "master_data": "file_class",
    "metering": "meter_fault",
    "payments": "booked_wrongly",
    "quality": "quality",
    "voltage": "wiring_fault",
    "wiring": "wiring_fault",
    "workflow": "stage_late",
}
"""The outcome code of a planted fault, by the family of the rule that finds it."""
SIMULATOR_SOURCE = "simulator"
_Cell = str | int | float | bool | list[str] | None


@dataclass(frozen=True, kw_only=True)
class Label:
    """A finding on a meter, customer, area or item, and the rules whose alerts it judges."""

    subject: str
    area: str = ""  # "" if the subject alone says where
    since: int
    until: int
    outcome: str
    verdict: Verdict
    source: str = ""
    inclusion: float = 1.0  # the chance with which the subject was chosen for a visit
    rules: frozenset[str]
    echoes: frozenset[str] = frozenset()  # that may rightly raise for its consequences
    inspection: str = ""  # id of the finding, "" if it has none
    where: str = ""  # its file and row

    def meets(self, alert: Alert) -> bool:
        """True if the alert was raised after the label began, on trouble from before a day after its end."""
        began_in_time = alert.since <= self.until + DAY_SECONDS
        return began_in_time and self.since <= alert.raised

    def overlaps(self, other: Label) -> bool:
        """True if both judge the same rules of a place at the same time; without an answer a label judges none."""
        if "cannot_tell" in (self.verdict, other.verdict):
            return False
        if self.area and other.area and self.area != other.area:
            return False
        meets = self.since < other.until and other.since < self.until
        return meets and not self.rules.isdisjoint(other.rules)


class _RowError(ValueError):
    """A row that is no label: why, and the cell that shows it."""

    def __init__(self, reason: str, cell: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.cell = cell


def read_labels(path: Path, tally: Tally) -> list[Label]:
    """The labels of a CSV, Parquet or JSON lines file; bad rows are refused. Raises SourceError."""
    is_lines = path.suffix.lower() == tables.JSON_LINES
    file = _json_table(path) if is_lines else path
    known = tables.columns(file)
    lacking = [name for name in NEEDED_COLUMNS if name not in known]
    tables.note_unknown(file, LABEL_COLUMNS, tally)
    if lacking:
        notes = "".join(f"; {note}" for note in tally.notes)
        raise SourceError(
            f"{path} has no column {', '.join(lacking)}: a label needs {', '.join(NEEDED_COLUMNS)}{notes}"
        )

    sheet = tables.read(file, LABEL_COLUMNS, tally)
    rows = (
        (f"{path.name} row {number}", row) for number, row in enumerate(_rows(sheet), 1)
    )
    return _labels_of(rows, tally)


def archived_labels(storage: Storage, tally: Tally) -> list[Label]:
    """The inspections of an archive as labels; bad ones are refused, and notes say what it had rejected.

    Raises ArchiveError.
    """
    manifest = read_manifest(storage)
    rejected = manifest.rejected.get(INSPECTIONS_TOPIC, {})
    for reason, count in sorted(rejected.items()):
        tally.notes.append(
            f"{storage.name}: {count:,} inspections were rejected as {reason} when they came: publish them anew"
        )
    found = read_inspections(storage, manifest)
    rows = (
        (f"{storage.name} inspection {each.inspection}", _cells_of(each))
        for each in found
    )
    return _labels_of(rows, tally)


def _cells_of(inspection: Inspection) -> dict[str, str]:
    """The cells of an inspection as those of a row of a file."""
    cells = {name: _text(getattr(inspection, name)) or "" for name in LABEL_COLUMNS}
    return cells if inspection.until else cells | {"until": ""}


def _labels_of(
    rows: Iterable[tuple[str, Mapping[str, str]]], tally: Tally
) -> list[Label]:
    """The labels of rows, each given with its place; bad rows are refused."""
    labels = []
    for where, row in rows:
        try:
            labels.append(_label(row, where))
        except _RowError as error:
            place = f"{where}: {error.cell}" if error.cell else where
            tally.reject(error.reason, place)
    return _without_overlaps(labels, tally)


def known_labels(
    labels: Iterable[Label],
    observed: Observed,
    tally: Tally,
    whole: str = "the history",
) -> list[Label]:
    """The labels whose subjects a history, or another whole, has; the others are refused."""
    fine = []
    for label in labels:
        areas = observed.areas(label.subject)
        if not areas:
            near = nearest_hint(label.subject, observed.places)
            reason = f"{whole} has no such subject (correct the id)"
            tally.reject(reason, f"{label.where}: {label.subject!r}{near}")
        elif label.area and label.area not in areas:
            reason = f"{whole} has the subject in another area (correct the area)"
            place = f"{label.subject!r} is in {min(areas)!r}, not in {label.area!r}"
            tally.reject(reason, f"{label.where}: {place}")
        else:
            fine.append(label)
    return fine


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    """Writes labels as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LABEL_COLUMNS)
        for label in labels:
            span = (utc_text(label.since), utc_text(label.until))
            found = (label.outcome, label.verdict, label.source, label.inclusion)
            rules = (" ".join(sorted(label.rules)), " ".join(sorted(label.echoes)))
            place = (label.inspection, label.subject, label.area)
            writer.writerow((*place, *span, *found, *rules))


def planted_labels(planted: Iterable[Planted]) -> list[Label]:
    """Planted faults as labels that are true, and decoys as labels that are false."""
    labels = []
    for fault in planted:
        outcome = _outcome_of(fault.rules[0]) if fault.rules else "use_changed"

        labels.append(
            Label(
                subject=fault.subject or fault.area,
                area=fault.area,
                since=fault.start,
                until=fault.end,
                outcome=outcome,
                verdict="true" if fault.rules else "false",
                source=SIMULATOR_SOURCE,
                rules=frozenset(fault.rules) or judged_rules(outcome),
                echoes=frozenset(fault.echoes),
            )
        )
    return labels


def judged_rules(outcome: str) -> frozenset[str]:
    """The rules whose alerts an outcome judges."""
    alone = {name for name, rule in ALL_RULES.items() if rule.outcome == outcome}
    if alone:
        return frozenset(alone)
    families = GROUP_FAMILIES.get(OUTCOME_CODES[outcome].group)
    if families is None:
        return frozenset(ALL_RULES)
    return frozenset(
        name
        for name, rule in ALL_RULES.items()
        if rule.family in families and not rule.outcome
    )


def _outcome_of(rule: str) -> str:
    """The outcome code of a planted fault that a rule finds."""
    return ALL_RULES[rule].outcome or FAMILY_OUTCOMES[ALL_RULES[rule].family]


def _json_table(path: Path) -> tables.EmbeddedTable:
    """The objects of a JSON lines file as rows of text. Raises SourceError."""
    rows = []
    lines = contents.whole(path, contents.MOST_BYTES).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            cells = msgspec.json.decode(line, type=dict[str, _Cell])
        except msgspec.DecodeError as error:
            raise SourceError(f"{path} line {number} is no label: {error}") from error
        rows.append({name: _text(cell) for name, cell in cells.items()})

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        columns[name] = pa.array([row.get(name) for row in rows], "string")
    return tables.EmbeddedTable(path.name, pa.table(columns))


def _text(cell: _Cell) -> str | None:
    """A cell of JSON as a cell of CSV."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, list):
        return " ".join(cell)
    return None if cell is None else str(cell)


def _rows(sheet: tables.Sheet) -> Iterator[dict[str, str]]:
    """The cells of each row as clean text; times as Unix seconds, "" if there is none, or as they are if unreadable."""
    columns = {name: [""] * len(sheet) for name in LABEL_COLUMNS}
    for name in sheet.table.column_names:
        words, codes = sheet.words(name)
        texts = [*map(clean, words), ""]
        columns[name] = [texts[code] for code in codes.tolist()]
        if name in ("since", "until"):
            seconds, good = sheet.times(name)
            for row in good.nonzero()[0].tolist():
                columns[name][row] = str(seconds[row])

    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(columns, cells, strict=True))


def _label(row: Mapping[str, str], where: str) -> Label:
    """The label of a row. Raises _RowError."""
    if not row["subject"]:
        raise _RowError("subject is missing")
    if not row["outcome"]:
        raise _RowError("the label has no outcome (write a code, such as bypass)")
    if not row["verdict"]:
        raise _RowError("the label has no verdict (write true, false or cannot_tell)")
    outcome = _known("outcome", row["outcome"], OUTCOME_CODES)
    since = _time("since", row["since"])
    until = _time("until", row["until"]) if row["until"] else LATEST_TIME
    if until < since:
        raise _RowError("until is before since")

    named = [_known("rules", name, ALL_RULES) for name in row["rules"].split()]
    echoes = [_known("echoes", name, ALL_RULES) for name in row["echoes"].split()]
    return Label(
        subject=row["subject"],
        area=row["area"],
        since=since,
        until=until,
        outcome=outcome,
        verdict=_verdict(row["verdict"]),
        source=row["source"],
        inclusion=_chance(row["inclusion"]),
        rules=frozenset(named) or judged_rules(outcome),
        echoes=frozenset(echoes),
        inspection=row["inspection"],
        where=where,
    )


def _verdict(text: str) -> Verdict:
    """The verdict of a word. Raises _RowError."""
    known = _known("verdict", text.lower(), VERDICT_WORDS)
    return next(verdict for verdict in VERDICT_WORDS if verdict == known)


def _known(column: str, word: str, words: Collection[str]) -> str:
    """The word, if it is one of the words. Raises _RowError, with the nearest."""
    if word not in words:
        cell = f"{word!r}{nearest_hint(word, words)}"
        raise _RowError(f"{column} has an unknown word", cell)
    return word


def nearest_hint(word: str, words: Collection[str]) -> str:
    """A hint at the nearest of the words, if any is near."""
    near = get_close_matches(word, words, 1)
    return f", did you mean {near[0]}?" if near else ""


def _time(column: str, text: str) -> int:
    """The Unix seconds of a cell. Raises _RowError."""
    seconds = int(text) if text.isdecimal() else 0
    if not EARLIEST_TIME <= seconds <= LATEST_TIME:
        raise _RowError(f"{column} is no time", repr(text))
    return seconds


def _chance(text: str) -> float:
    """The inclusion probability of a cell, 1 if it is empty. Raises _RowError."""
    try:
        chance = float(text or 1)
    except ValueError:
        chance = 0.0
    if not 0 < chance <= 1:
        raise _RowError("inclusion is no number above 0 and up to 1", repr(text))
    return chance


def _without_overlaps(labels: Sequence[Label], tally: Tally) -> list[Label]:
    """The labels; one that judges what an earlier row of its subject judges is refused."""
    kept: dict[str, list[Label]] = {}
    for label in labels:
        others = kept.setdefault(label.subject, [])
        doubled = next((other for other in others if label.overlaps(other)), None)
        if doubled:
            reason = "the label overlaps another of its subject (end one before the other begins)"
            tally.reject(reason, f"{label.where}: {label.subject!r}, {doubled.where}")
        else:
            others.append(label)
    return [label for others in kept.values() for label in others]


def utc_text(at: int) -> str:
    """A time in UTC, as files have it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
