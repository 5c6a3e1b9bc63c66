"""The local runner: one process, no broker; alerts and how far it has come in one SQLite file.

A transaction holds the alerts since the last one, the engine's state and the place in the source, so that a process
that is killed at any moment goes on where it stopped and ends with the same alerts. Time is the source's own.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self
from zlib import crc32
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressDisplay
from rich.table import Table

from detectors.engine import SHADOW_STATUS, Engine, SnapshotError
from detectors.rule import ALL_RULES, Rule
from detectors.rulebook import EMPTY_RULEBOOK, applied, rules_of
from replay.history import Source, arrival_groups, arrivals, nothing_read
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.columns import LATEST_TIME, Batch, Readings, Times
from schemas.master import Area
from schemas.rules import Rulebook, decode_rulebook
from schemas.units import DAY_SECONDS
from streams.lines import gravest, line
from streams.report import Watched, page, pictured
from streams.settings import Settings
from streams.times import local_time

# of rows; of single values the last
ROW_OUTCOMES = (
    "in",
    "judged",
    "rejected",
    "duplicate",
    "late",
    "implausible",
)
REASONED_OUTCOMES = ("rejected", "implausible")
CHECKPOINT_SECONDS = 2.0
STEP_SECONDS = 1.0  # that a step is to take, so that progress is saved and shown by time and not by rows
FIRST_ROWS = 500  # of the first step, from which the pace is learned
STORE_ADVICE = "choose another file with --store"


class StoreError(ValueError):
    """A file that is no store, or a store that cannot be gone on with."""


class Progress(msgspec.Struct):
    """How far a source has been read, and what came of it."""

    source: str
    batches: int = 0
    within: int = 0  # rows judged of the batch after those
    first: int = 0  # event time, 0 before the first row
    last: int = 0
    seconds: float = 0.0
    meters: int = 0
    meter_days: float = 0.0  # of each meter from its first reading to its last
    shared: int = 0  # of the meters, those that stand in more than one area
    done: bool = False
    strangers: list[str] = []  # a line for each file with ids that are in no other file
    # rows by kind, outcome and reason
    counts: dict[str, dict[str, dict[str, int]]] = {}

    @property
    def rows(self) -> int:
        """Rows read of all kinds."""
        return sum(
            outcomes.get("in", {}).get("", 0) for outcomes in self.counts.values()
        )

    @property
    def days(self) -> float:
        """Days between the first and the last row."""
        return (self.last - self.first) / DAY_SECONDS

    def count(self, rows: Counter[tuple[str, str, str]]) -> None:
        """Add rows keyed by kind, outcome and reason."""
        for (kind, outcome, reason), n in rows.items():
            reasons = self.counts.setdefault(kind, {}).setdefault(outcome, {})
            reasons[reason] = reasons.get(reason, 0) + n


class Store:
    """Alerts by id, the progress in every source and the engine's state, in one SQLite file."""

    VERSION = 2  # of the tables, as `PRAGMA user_version`; raised where a name or a meaning changes
    # fmt: skip
    COLUMNS: ClassVar[
        dict[str, dict[str, str]]
    ] = {  # by table and name; one that an older store lacks is added
        "alerts": {
            "id": "TEXT PRIMARY KEY",
            "rule": "TEXT",
            "version": "INT",
            "kind": "TEXT",
            "area": "TEXT",
            "subject": "TEXT",
            "state": "TEXT",
            "change": "TEXT",
            "revision": "INT",
            "severity": "INT",
            "since": "INT",
            "raised": "INT",
            "at": "INT",
            "score": "REAL",
            "phase": "TEXT",
            "evidence": "TEXT",
            "suppressed_by": "TEXT",
            "en": "TEXT",
            "zh": "TEXT",
            "code": "TEXT DEFAULT ''",
        },
        "progress": {
            "source": "TEXT PRIMARY KEY",
            "progress": "BLOB",
            "checksum": "INT",
        },
        "areas": {"area": "TEXT PRIMARY KEY", "master": "BLOB", "checksum": "INT"},
        "engine": {"one": "INT PRIMARY KEY CHECK (one = 1)", "state": "BLOB"},
        "rules": {"one": "INT PRIMARY KEY CHECK (one = 1)", "rulebook": "BLOB"},
    }

    RENAMED: ClassVar[tuple[str, ...]] = (  # since version 1
        "ALTER TABLE alerts RENAME COLUMN held TO suppressed_by",
        "UPDATE alerts SET kind = 'master_records' WHERE kind = 'files'",
        "UPDATE alerts SET kind = 'traces' WHERE kind = 'journeys'",
        "ALTER TABLE places RENAME TO progress",
        "ALTER TABLE progress RENAME COLUMN place TO progress",
    )

    def __init__(self, path: Path | str) -> None:
        self.path = path
        try:
            self.db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be used as a store: {error}") from error
        try:
            self._open()
        except StoreError:
            self.db.close()
            raise

    def _open(self) -> None:
        try:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            (found,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = self.db.execute("PRAGMA user_version").fetchone()
            if found == "ok" and version <= self.VERSION:
                self._complete(version)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise StoreError(
                f"{self.path} cannot be used as a store: {error}"
            ) from error
        if found != "ok":
            raise StoreError(f"{self.path} is damaged ({found}); {STORE_ADVICE}")
        if version > self.VERSION:
            raise StoreError(
                f"{self.path} was written by a later version (its tables have version {version}, this program reads up "
                f"to {self.VERSION}): run that version"
            )

    def _complete(self, version: int) -> None:
        """Renames what an older version named otherwise, and makes the tables and columns that are missing."""
        self.db.execute("BEGIN IMMEDIATE")
        (tables,) = self.db.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
        ).fetchone()
        if tables and version < self.VERSION:
            for statement in self.RENAMED:
                self.db.execute(statement)

        for table, columns in self.COLUMNS.items():
            made = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            self.db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({made})"
                + " WITHOUT ROWID" * (table == "alerts")
            )
            known = {
                name for _, name, *_ in self.db.execute(f"PRAGMA table_info({table})")
            }
            for name in columns.keys() - known:
                self.db.execute(
                    f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}"
                )
        self.db.execute(f"PRAGMA user_version = {self.VERSION}")
        self.db.execute("COMMIT")

    def _put(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows of all columns of a table, each in place of the one with its key."""
        columns = self.COLUMNS[table]
        put = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        self.db.executemany(put, rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other runs away from the store. Raises StoreError when one is at it."""
        with Path(f"{self.path}-lock").open("wb") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError as error:
                raise StoreError(
                    f"another run is writing to {self.path}: wait for its end, or {STORE_ADVICE}"
                ) from error
            yield

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Raises StoreError for whatever a damaged file gives."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise StoreError(
                f"{self.path} cannot be used: {error}; {STORE_ADVICE}"
            ) from error

    def progress(self, source: str) -> Progress:
        """How far the source has been read. Raises StoreError when the file is damaged."""
        with self._usable():
            known = {
                name: msgspec.json.decode(
                    _checked(name, progress, checksum), type=Progress
                )
                for name, progress, checksum in self.db.execute(
                    "SELECT source, progress, checksum FROM progress"
                )
            }
            (states,) = self.db.execute("SELECT count(*) FROM engine").fetchone()
            if bool(known) != bool(states):
                raise ValueError("the state or the progress is missing")
        return known.get(source, Progress(source))

    def state(self) -> bytes | None:
        """The engine's state, None before the first checkpoint. Raises StoreError when the file is damaged."""
        with self._usable():
            found = self.db.execute("SELECT state FROM engine").fetchone()
        return found[0] if found else None

    def rulebook(self) -> Rulebook:
        """What the engine's state was judged by. Raises StoreError when the file is damaged."""
        with self._usable():
            found = self.db.execute("SELECT rulebook FROM rules").fetchone()
            return decode_rulebook(found[0]) if found else EMPTY_RULEBOOK

    def enroll(self, areas: Iterable[Area]) -> list[Area]:
        """Keep master data, each area in place of what was known of it; all that is known. Raises StoreError."""
        rows = [
            (area.area, master, _checksum(area.area, master))
            for area in areas
            for master in [msgspec.json.encode(area)]
        ]
        with self._usable():
            self.db.execute("BEGIN IMMEDIATE")
            self._put("areas", rows)
            self.db.execute("COMMIT")
            return [
                msgspec.json.decode(_checked(*kept), type=Area)
                for kept in self.db.execute(
                    "SELECT area, master, checksum FROM areas ORDER BY area"
                )
            ]

    def save(
        self,
        progress: Progress,
        state: bytes,
        alerts: Iterable[Alert],
        rulebook: Rulebook = EMPTY_RULEBOOK,
    ) -> None:
        """All of it or, when the process dies, nothing. Raises StoreError when the file cannot be written."""
        rows = [
            [
                json.dumps(v) if isinstance(v, dict) else v
                for v in msgspec.structs.astuple(a)
            ]
            for a in alerts
        ]
        told = msgspec.json.encode(progress)
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self._put("alerts", rows)
            self._put(
                "progress", [(progress.source, told, _checksum(progress.source, told))]
            )
            self._put("engine", [(1, state)])
            self._put("rules", [(1, msgspec.json.encode(rulebook))])
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be written: {error}") from error

    def alerts(self, *, shadow: bool = False) -> list[Alert]:
        """The last state of every alert that was not withdrawn, as they were raised; those in shadow where asked for.

        Raises StoreError.
        """
        with self._usable():
            found = self.db.execute(
                "SELECT * FROM alerts WHERE state <> 'withdrawn' AND (? OR suppressed_by <> ?) ORDER BY raised, id",
                (shadow, SHADOW_STATUS),
            )
            names = [name for name, *_ in found.description]
            rows = (dict(zip(names, row, strict=True)) for row in found)
            return [
                msgspec.convert(row | {"evidence": json.loads(row["evidence"])}, Alert)
                for row in rows
            ]


def _checksum(key: str, value: bytes) -> int:
    """The checksum of a row."""
    return crc32(value, crc32(key.encode()))


def _checked(key: str, value: bytes, checksum: int | None) -> bytes:
    """The value of a row; the first stores had no checksums. Raises ValueError when it is not what was written."""
    if checksum is not None and _checksum(key, value) != checksum:
        raise ValueError(f"the checksum of {key!r} does not match")
    return value


def follow(
    source: Source,
    store: Store,
    name: str,
    *,
    every: float = CHECKPOINT_SECONDS,
    on_progress: Callable[[Progress], None] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
    rulebook: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> Progress:
    """Read a source, of a known zone and interval, on from its place in the store to its end.

    `watch` is told of every batch, `say` what a person must know of the store. What is left to read is judged by the
    rulebook. Raises StoreError.
    """
    place = store.progress(name)
    if place.done:
        return place
    before = store.rulebook()
    engine = Engine(applied(before, rules), zone=source.zone, interval=source.interval)
    engine.enroll(store.enroll(source.areas))
    if (state := store.state()) is not None:
        try:
            afresh = engine.restore(state)
        except SnapshotError as error:
            raise StoreError(f"{store.path}: {error}; or {STORE_ADVICE}") from error
        if afresh:
            notify(
                f"{store.path} was written by another version, in which these are otherwise; they start afresh: "
                f"{', '.join(afresh)}"
            )
    counted = Counter(engine.counts)
    told = {
        alert.id: alert
        for alert in (
            engine.adopt(applied(rulebook, rules)) if rulebook != before else ()
        )
    }
    then = saved = time.monotonic()
    pace = Pace()
    for part, last in portions(source.batches, place, pace):
        heard = engine.last_read.copy()
        told.update(
            (alert.id, alert) for alert in [*engine.step(part), *engine.shadowed]
        )
        place.batches, place.within = (
            (place.batches + 1, 0)
            if last
            else (place.batches, place.within + len(part))
        )
        arrived = arrivals(part)
        place.first = min(place.first or 1 << 62, int(arrived.min(initial=1 << 62)))
        place.last = max(place.last, int(arrived.max(initial=0)))
        place.meter_days += _observed_days(engine, part, heard, place.first)
        now = time.monotonic()
        pace.rows = max(int(len(part) / max(now - then, 1e-6) * STEP_SECONDS), 1)
        place.seconds, then = place.seconds + now - then, now
        place.meters = engine.meters
        place.count(Counter(engine.counts) - counted)
        counted = Counter(engine.counts)
        on_progress(place)
        if now - saved >= every:
            store.save(place, engine.snapshot(), told.values(), rulebook)
            saved, told = time.monotonic(), {}
    place.done, place.shared = True, engine.meter_index.shared()
    place.strangers = source.tally.named.strangers()
    store.save(place, engine.snapshot(), told.values(), rulebook)
    return place


@dataclass
class Pace:
    """How many rows are judged at a time."""

    rows: int = FIRST_ROWS


def portions(
    batches: Iterable[Batch], progress: Progress, pace: Pace
) -> Iterator[tuple[Batch, bool]]:
    """What is left from a place on, as many rows at a time as the pace says, and whether they end their batch."""
    for batch in islice(batches, progress.batches, None):
        done = progress.within
        while True:
            end = len(batch)
            if pace.rows < end - done:
                turn = arrival_groups(batch)
                # together what came at once
                end = int(np.searchsorted(turn, turn[done + pace.rows - 1], "right"))
            yield (
                batch if end - done == len(batch) else batch.select(slice(done, end)),
                end == len(batch),
            )
            done = end
            if done >= len(batch):
                break


def _observed_days(
    engine: Engine, batch: Batch, last_receipts: Times, first: int
) -> float:
    """Days by which a batch has brought its meters on, all together, from when each was heard before it.

    A new meter is watched from its first row on, one that other sources brought from this one's first row on.
    """
    if not isinstance(batch, Readings):
        return 0.0
    after = engine.last_read
    before = np.zeros(len(after), np.int64)
    before[: len(last_receipts)] = np.where(
        last_receipts > 0, np.maximum(last_receipts, first), 0
    )
    slots = engine.meter_index.slots(batch)
    new = before[slots] == 0
    if new.any():
        begun = np.full(len(after), LATEST_TIME)
        np.minimum.at(begun, slots[new], arrivals(batch)[new])
        before = np.where(before == 0, begun, before)
    return float(np.maximum(after - before, 0).sum()) / DAY_SECONDS


def identity(paths: Sequence[str]) -> str:
    """Names the content that the paths hold now: a file that changes is another source."""
    parts = [":".join(paths)]
    for path in map(Path, paths):
        for file in (
            sorted(path.rglob("*"))
            if path.is_dir()
            else [path]
            if path.exists()
            else []
        ):
            stat = file.stat()
            parts.append(f"{file} {stat.st_size} {stat.st_mtime_ns}")
    return (
        f"{parts[0]} {blake2b(chr(10).join(parts).encode(), digest_size=8).hexdigest()}"
    )


def run(
    paths: Sequence[str],
    store: Path,
    settings: Settings,
    *,
    as_json: bool = False,
    every: float = CHECKPOINT_SECONDS,
    rulebook: Rulebook = EMPTY_RULEBOOK,
    top: int = 0,
    report: Path | None = None,
) -> None:
    """Watch files, folders or a simulated town; print what was found, and so many of the alerts; write the report.

    The settings' zone and interval hold where the source does not say its own. Raises ValueError, with what to do
    about it, for a source or a store that cannot be used.
    """
    out, err = Console(highlight=False), Console(stderr=True, highlight=False)
    with Store(store) as kept, kept.claimed():
        told = open_sources(paths)
        source = replace(
            told,
            zone=told.zone or settings.zone,
            interval=told.interval or settings.interval,
        )
        name = identity(paths)
        before = kept.progress(name)
        if before.batches and kept.rulebook() != rulebook:
            if before.done:
                raise StoreError(
                    f"{store} holds all of {source.name} as other rules judged it; {STORE_ADVICE}"
                )
            err.print(
                f"{store} holds {before.rows:,} rows as other rules judged them; these hold for what follows"
            )
        if before.done:
            err.print(f"{store} holds all of {source.name}: nothing new to read")
        elif before.batches:
            err.print(f"going on after {before.rows:,} rows that {store} holds")
        with _Bar(err, source, quiet=as_json) as bar:
            place = follow(
                source,
                kept,
                name,
                every=every,
                on_progress=bar,
                notify=err.print,
                rulebook=rulebook,
                rules=rules_of(settings.voltage_limits),
            )
        if not place.rows:
            raise nothing_read(source.name, source.tally)
        judged = kept.alerts(shadow=True)
        alerts = [alert for alert in judged if alert.suppressed_by != SHADOW_STATUS]
        if report:
            report.write_text(
                page(_report_input(place, alerts, source, paths)), encoding="utf-8"
            )
        summary = summarise(place, judged, source)
        if as_json:
            print(  # noqa: T201
                msgspec.json.format(
                    msgspec.json.encode(summary | {"list": judged})
                ).decode()
            )
            return
        _show(summary, out)
        for alert in gravest(alerts, top):
            out.print(line(alert, ZoneInfo(source.zone), chinese=False), soft_wrap=True)
        if report:
            out.print(f"The report, with the curves: [bold]{report}[/]", soft_wrap=True)


class _Bar:
    """How far a run has come: a moving bar on a terminal, else a line for every tenth."""

    def __init__(self, console: Console, source: Source, *, quiet: bool) -> None:
        self._source, self._console, self._tenth = source, console, 0
        columns = (
            TextColumn("{task.fields[day]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._progress = ProgressDisplay(
            *columns,
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task(
            "", total=source.rows or None, day="", rate=""
        )
        self._quiet = quiet

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the place."""
        day, rate = (
            local_time(progress.last, self._source.zone),
            f"{progress.rows / max(progress.seconds, 1e-9):,.0f} rows/s",
        )
        self._progress.update(self._task, completed=progress.rows, day=day, rate=rate)
        tenth = 10 * progress.rows // self._source.rows if self._source.rows else 0
        if tenth > self._tenth and self._progress.disable and not self._quiet:
            self._console.print(
                f"{min(tenth, 10) * 10:3d} %  {day}  {progress.rows:,} rows  {rate}"
            )
        self._tenth = max(self._tenth, tenth)


def _report_input(
    progress: Progress, alerts: Sequence[Alert], source: Source, paths: Sequence[str]
) -> Watched:
    """All that the report needs; reads the source a second time for the curves."""
    shown = gravest(alerts, len(alerts))
    pictures = pictured(shown, source.areas, source.zone, open_sources(paths).batches)
    counts = {
        (kind, outcome, reason): n
        for kind, outcomes in progress.counts.items()
        for outcome, reasons in outcomes.items()
        for reason, n in reasons.items()
    }
    readings = sum(
        n
        for (kind, outcome, _), n in counts.items()
        if (kind, outcome) == ("readings", "in")
    )
    return Watched(
        title=f"What the watch saw in {source.name}",
        zone=source.zone,
        start=progress.first,
        end=progress.last,
        meters=progress.meters,
        meter_days=progress.meter_days,
        readings=readings,
        seconds=progress.seconds,
        counts=counts,
        alerts=alerts,
        pictures=pictures,
    )


def _notes_of(progress: Progress) -> list[str]:
    """What a reader of the result should know of its meters."""
    if not progress.shared:
        return progress.strangers
    shared = f"ids of meters that stand in more than one area: {progress.shared:,}; each is judged there as another meter"
    return [*progress.strangers, shared]


def summarise(
    progress: Progress, alerts: Sequence[Alert], source: Source
) -> dict[str, Any]:
    """What a run came to, as plain data."""
    rules: dict[str, Counter[str]] = {}
    for alert in alerts:
        count = rules.setdefault(alert.rule, Counter())
        if alert.suppressed_by:
            count[
                SHADOW_STATUS if alert.suppressed_by == SHADOW_STATUS else "suppressed"
            ] += 1
        else:
            count.update(["shown", alert.state])
    return {
        "source": source.name,
        "meters": progress.meters,
        "rows": progress.rows,
        "seconds": round(progress.seconds, 3),
        "rows_per_second": round(progress.rows / max(progress.seconds, 1e-9)),
        "from": local_time(progress.first, source.zone),
        "to": local_time(progress.last, source.zone),
        "days": round(progress.days, 2),
        "meter_days": round(progress.meter_days, 2),
        "counts": {
            kind: {
                outcome: outcomes.get(outcome, {})
                if outcome in REASONED_OUTCOMES
                else sum(outcomes.get(outcome, {}).values())
                for outcome in ROW_OUTCOMES
            }
            for kind, outcomes in progress.counts.items()
        },
        "refused": dict(source.rejected),
        "mended": dict(source.tally.mended),
        "first": source.tally.first,
        "notes": [*source.tally.notes, *_notes_of(progress)],
        "alerts": {
            rule: {
                "shown": n["shown"],
                "suppressed": n["suppressed"],
                "shadow": n[SHADOW_STATUS],
                "open": n["raised"],
                "shown_per_1000_meters_per_day": round(
                    1000 * n["shown"] / progress.meter_days, 3
                )
                if progress.meter_days
                else None,
            }
            for rule, n in sorted(rules.items())
        },
    }


def _show(summary: dict[str, Any], console: Console) -> None:
    """Print a summary for people."""
    console.print(
        f"[bold]{summary['source']}[/]: {summary['meters']:,} meters, {summary['rows']:,} rows,"
        f" {summary['from']} to {summary['to']}, in {summary['seconds']:.1f} s ({summary['rows_per_second']:,} rows/s)",
        soft_wrap=True,
    )
    rows = Table(
        "rows", *ROW_OUTCOMES[1:-1], "implausible values", box=None, pad_edge=False
    )
    for column in rows.columns[1:]:
        column.justify = "right"
    for kind, outcomes in summary["counts"].items():
        told = (outcomes[outcome] for outcome in ROW_OUTCOMES[1:])
        rows.add_row(
            kind, *(f"{sum(n.values()) if isinstance(n, dict) else n:,}" for n in told)
        )
    console.print(rows)
    for what in REASONED_OUTCOMES:
        reasons = sum(
            (Counter(outcomes[what]) for outcomes in summary["counts"].values()),
            Counter[str](),
        )
        if reasons:
            each = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
            console.print(f"{what}: {each}", soft_wrap=True)
    _show_reading(summary, console)
    alerts = Table(
        "alerts",
        "shown",
        "still open",
        "suppressed",
        "per 1,000 meters and day",
        box=None,
        pad_edge=False,
    )
    for column in alerts.columns[1:]:
        column.justify = "right"
    shown = {
        rule: n
        for rule, n in summary["alerts"].items()
        if n["shown"] or n["suppressed"]
    }
    for rule, n in sorted(shown.items(), key=lambda item: -item[1]["shown"]):
        rate = n["shown_per_1000_meters_per_day"]
        counts = (f"{n[what]:,}" for what in ("shown", "open", "suppressed"))
        alerts.add_row(rule, *counts, "" if rate is None else f"{rate:.2f}")
    console.print(alerts if shown else "no alerts")


def _show_reading(summary: dict[str, Any], console: Console) -> None:
    """Print what the reader left out, with how much of the rows that is, what it mended, and what it did not know."""
    rows = summary["rows"] + sum(summary["refused"].values())
    for reason, count in summary["refused"].items():
        place = f"{count / rows:.1%} of the rows, first at {summary['first'][reason]}"
        console.print(
            f"refused by the reader: {reason} {count:,}, {place}",
            soft_wrap=True,
            markup=False,
        )
    for reason, count in summary["mended"].items():
        place = f"first at {summary['first'][reason]}"
        console.print(
            f"mended by the reader: {reason} {count:,}, {place}",
            soft_wrap=True,
            markup=False,
        )
    for note in summary["notes"]:
        console.print(note, soft_wrap=True, markup=False)
