"""The local runner: one process, no broker; alerts and progress in one SQLite file.

A transaction writes the alerts since the last one, the engine's state and the progress in the source. A process that
is killed at any moment goes on where it stopped, and ends with the same alerts. Time is the source's own.
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
from streams.report.page import Watched, page, pictured
from streams.settings import Settings
from streams.times import local_time

# Outcomes of rows; the last is of single values.
ROW_OUTCOMES = ("in", "judged", "rejected", "duplicate", "late", "implausible")
REASONED_OUTCOMES = ("rejected", "implausible")
CHECKPOINT_SECONDS = 2.0
STEP_SECONDS = 1.0  # of a step, so that progress is saved and shown by time
FIRST_ROWS = 500  # rows of the first step, from which the pace is learned
STORE_ADVICE = "choose another file with --store"
Columns = dict[str, str]  # SQL type by name


class StoreError(ValueError):
    """A file is no store, or this run cannot go on with the store."""


class Progress(msgspec.Struct):
    """How far a source has been read, and the counts of its rows."""

    source: str
    batches: int = 0  # that are judged
    within: int = 0  # rows of the next batch that are judged
    first: int = 0  # event time, 0 before the first row
    last: int = 0
    seconds: float = 0.0
    meters: int = 0
    meter_days: float = 0.0  # of each meter from its first reading to its last
    shared: int = 0  # meters that stand in more than one area
    done: bool = False
    strangers: list[str] = []  # a line for each file with ids that no other file has
    # Rows by kind, outcome and reason.
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
        """Adds rows keyed by kind, outcome and reason."""
        for (kind, outcome, reason), count in rows.items():
            reasons = self.counts.setdefault(kind, {}).setdefault(outcome, {})
            reasons[reason] = reasons.get(reason, 0) + count


class Store:
    """Alerts by id, the progress in every source and the engine's state, in one SQLite file."""

    # Version of the tables, as `PRAGMA user_version`; raised when a name or a meaning changes.
    VERSION = 2
    # By table and name; columns that an older store lacks are added.
    COLUMNS: ClassVar[dict[str, Columns]] = {
        "alerts": {
            "id": "TEXT PRIMARY KEY", "rule": "TEXT", "version": "INT", "kind": "TEXT", "area": "TEXT",
            "subject": "TEXT", "state": "TEXT", "change": "TEXT", "revision": "INT", "severity": "INT",
            "since": "INT", "raised": "INT", "at": "INT", "score": "REAL", "phase": "TEXT", "evidence": "TEXT",
            "suppressed_by": "TEXT", "en": "TEXT", "zh": "TEXT", "code": "TEXT DEFAULT ''",
        },
        "progress": {"source": "TEXT PRIMARY KEY", "progress": "BLOB", "checksum": "INT"},
        "areas": {"area": "TEXT PRIMARY KEY", "master": "BLOB", "checksum": "INT"},
        "engine": {"one": "INT PRIMARY KEY CHECK (one = 1)", "state": "BLOB"},
        "rules": {"one": "INT PRIMARY KEY CHECK (one = 1)", "rulebook": "BLOB"},
    }  # fmt: skip

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
        """Checks the file, and completes its tables. Raises StoreError."""
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
        """Renames the columns of an older version, and adds missing tables and columns."""
        self.db.execute("BEGIN IMMEDIATE")
        (tables,) = self.db.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
        ).fetchone()
        if tables and version < self.VERSION:
            for statement in self.RENAMED:
                self.db.execute(statement)

        for table, columns in self.COLUMNS.items():
            definitions = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            self.db.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({definitions})"
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
        """Writes whole rows of a table, each in place of the row with its key."""
        columns = self.COLUMNS[table]
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        self.db.executemany(
            f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})",  # noqa: S608
            rows,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other runs away from the store. Raises StoreError if another run has it."""
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
        """Raises StoreError for any error that a damaged file causes."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise StoreError(
                f"{self.path} cannot be used: {error}; {STORE_ADVICE}"
            ) from error

    def progress(self, source: str) -> Progress:
        """How far the source has been read. Raises StoreError if the file is damaged."""
        with self._usable():
            rows = self.db.execute("SELECT source, progress, checksum FROM progress")
            known = {
                name: msgspec.json.decode(
                    _checked(name, progress, checksum), type=Progress
                )
                for name, progress, checksum in rows
            }
            (states,) = self.db.execute("SELECT count(*) FROM engine").fetchone()
            if bool(known) != bool(states):
                raise ValueError("the state or the progress is missing")
        return known.get(source, Progress(source))

    def state(self) -> bytes | None:
        """The engine's state, None before the first checkpoint. Raises StoreError if the file is damaged."""
        with self._usable():
            found = self.db.execute("SELECT state FROM engine").fetchone()
        return found[0] if found else None

    def rulebook(self) -> Rulebook:
        """The rulebook that the engine was run by. Raises StoreError if the file is damaged."""
        with self._usable():
            found = self.db.execute("SELECT rulebook FROM rules").fetchone()
            return decode_rulebook(found[0]) if found else EMPTY_RULEBOOK

    def enroll(self, areas: Iterable[Area]) -> list[Area]:
        """Stores areas in place of their earlier versions; returns all known areas. Raises StoreError."""
        rows = []
        for area in areas:
            master = msgspec.json.encode(area)
            rows.append((area.area, master, _checksum(area.area, master)))

        with self._usable():
            self.db.execute("BEGIN IMMEDIATE")
            self._put("areas", rows)
            self.db.execute("COMMIT")
            known = self.db.execute(
                "SELECT area, master, checksum FROM areas ORDER BY area"
            )
            return [msgspec.json.decode(_checked(*row), type=Area) for row in known]

    def save(
        self,
        progress: Progress,
        state: bytes,
        alerts: Iterable[Alert],
        rulebook: Rulebook = EMPTY_RULEBOOK,
    ) -> None:
        """Writes everything or, if the process dies, nothing. Raises StoreError if the file cannot be written."""
        alert_rows = [
            list(map(_cell, msgspec.structs.astuple(alert))) for alert in alerts
        ]
        encoded = msgspec.json.encode(progress)
        checksum = _checksum(progress.source, encoded)

        try:
            self.db.execute("BEGIN IMMEDIATE")
            self._put("alerts", alert_rows)
            self._put("progress", [(progress.source, encoded, checksum)])
            self._put("engine", [(1, state)])
            self._put("rules", [(1, msgspec.json.encode(rulebook))])
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be written: {error}") from error

    def alerts(self, *, shadow: bool = False) -> list[Alert]:
        """The last state of every alert that was not withdrawn, as they were raised. Raises StoreError.

        Alerts in shadow are left out unless asked for.
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


def _cell(value: Any) -> Any:
    """A field of an alert as SQLite takes it."""
    return json.dumps(value) if isinstance(value, dict) else value


def _checksum(key: str, value: bytes) -> int:
    """The checksum of a row."""
    return crc32(value, crc32(key.encode()))


def _checked(key: str, value: bytes, checksum: int | None) -> bytes:
    """The value of a row; the first stores had no checksums. Raises ValueError if it is not as written."""
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
    """Judges a source, of a known zone and interval, from its progress in the store to its end. Raises StoreError.

    Calls `on_progress` after every step, and `notify` with news of the store. The rest of the source is judged by
    `rulebook`.
    """
    progress = store.progress(name)
    if progress.done:
        return progress
    before = store.rulebook()
    engine = Engine(applied(before, rules), zone=source.zone, interval=source.interval)
    engine.enroll(store.enroll(source.areas))
    _restore(engine, store, notify)

    counted = Counter(engine.counts)
    changed: dict[str, Alert] = {}  # since the last checkpoint, by id
    if rulebook != before:
        changed = {alert.id: alert for alert in engine.adopt(applied(rulebook, rules))}

    began = saved = time.monotonic()
    pace = Pace()
    for batch, ends in portions(source.batches, progress, pace):
        last_receipts = engine.last_read.copy()
        alerts = [*engine.step(batch), *engine.shadowed]
        changed.update((alert.id, alert) for alert in alerts)
        _note_rows(progress, batch, ends=ends)
        progress.meter_days += _observed_days(
            engine, batch, last_receipts, progress.first
        )
        progress.meters = engine.meters

        now = time.monotonic()
        pace.rows = max(int(len(batch) / max(now - began, 1e-6) * STEP_SECONDS), 1)
        progress.seconds += now - began
        began = now
        progress.count(Counter(engine.counts) - counted)
        counted = Counter(engine.counts)
        on_progress(progress)

        if now - saved >= every:
            store.save(progress, engine.snapshot(), changed.values(), rulebook)
            saved = time.monotonic()
            changed = {}

    progress.done = True
    progress.shared = engine.meter_index.shared()
    progress.strangers = source.tally.named.strangers()
    store.save(progress, engine.snapshot(), changed.values(), rulebook)
    return progress


def _restore(engine: Engine, store: Store, notify: Callable[[str], None]) -> None:
    """Restores the engine from a store's state, if it has one. Raises StoreError."""
    state = store.state()
    if state is None:
        return
    try:
        afresh = engine.restore(state)
    except SnapshotError as error:
        raise StoreError(f"{store.path}: {error}; or {STORE_ADVICE}") from error
    if afresh:
        notify(
            f"{store.path} was written by another version, in which these are otherwise; they start afresh: "
            f"{', '.join(afresh)}"
        )


def _note_rows(progress: Progress, batch: Batch, *, ends: bool) -> None:
    """Notes that a portion of a batch is judged; `ends` if it is the last of its batch."""
    if ends:
        progress.batches += 1
        progress.within = 0
    else:
        progress.within += len(batch)
    arrived = arrivals(batch)
    first = int(arrived.min(initial=1 << 62))
    progress.first = min(progress.first or 1 << 62, first)
    progress.last = max(progress.last, int(arrived.max(initial=0)))


@dataclass
class Pace:
    """How many rows a step judges."""

    rows: int = FIRST_ROWS


def portions(
    batches: Iterable[Batch], progress: Progress, pace: Pace
) -> Iterator[tuple[Batch, bool]]:
    """The portions from the progress on, as large as the pace says; True with the last of its batch."""
    for batch in islice(batches, progress.batches, None):
        done = progress.within
        while True:
            end = len(batch)
            if pace.rows < end - done:
                # Rows that arrived together stay together.
                groups = arrival_groups(batch)
                last_group = groups[done + pace.rows - 1]
                end = int(np.searchsorted(groups, last_group, "right"))
            is_whole = end - done == len(batch)
            portion = batch if is_whole else batch.select(slice(done, end))
            yield portion, end == len(batch)
            done = end
            if done >= len(batch):
                break


def _observed_days(
    engine: Engine, batch: Batch, last_receipts: Times, first: int
) -> float:
    """Meter days that a batch adds: for each meter, from its receipt before the batch to its last in it.

    A new meter counts from its first row, and a meter of earlier sources from the first row of this source.
    """
    if not isinstance(batch, Readings):
        return 0.0
    after = engine.last_read
    before = np.zeros(len(after), np.int64)
    before[: len(last_receipts)] = np.where(
        last_receipts > 0, np.maximum(last_receipts, first), 0
    )

    slots = engine.meter_index.slots(batch)
    is_new = before[slots] == 0
    if is_new.any():
        first_rows = np.full(len(after), LATEST_TIME)
        np.minimum.at(first_rows, slots[is_new], arrivals(batch)[is_new])
        before = np.where(before == 0, first_rows, before)
    return float(np.maximum(after - before, 0).sum()) / DAY_SECONDS


def identity(paths: Sequence[str]) -> str:
    """The name of the paths' present content: a file that changes is another source."""
    names = ":".join(paths)
    lines = [names]
    for path in map(Path, paths):
        files = [path] if path.exists() else []
        if path.is_dir():
            files = sorted(path.rglob("*"))
        for file in files:
            stat = file.stat()
            lines.append(f"{file} {stat.st_size} {stat.st_mtime_ns}")
    digest = blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
    return f"{names} {digest}"


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
    """Watches files, folders or a simulated town; prints the result and the `top` alerts; writes the report.

    The settings' zone and interval hold if the source does not name its own. Raises ValueError, with advice, for a
    source or a store that cannot be used.
    """
    out = Console(highlight=False)
    err = Console(stderr=True, highlight=False)
    with Store(store) as kept, kept.claimed():
        source = _opened(paths, settings)
        name = identity(paths)
        _show_start(kept, kept.progress(name), source, rulebook, err)
        with _Bar(err, source, quiet=as_json) as bar:
            progress = follow(
                source,
                kept,
                name,
                every=every,
                on_progress=bar,
                notify=err.print,
                rulebook=rulebook,
                rules=rules_of(settings.voltage_limits),
            )
        if not progress.rows:
            raise nothing_read(source.name, source.tally)

        judged = kept.alerts(shadow=True)
        alerts = [alert for alert in judged if alert.suppressed_by != SHADOW_STATUS]
        if report:
            html = page(_report_input(progress, alerts, source, paths))
            report.write_text(html, encoding="utf-8")
        summary = summarise(progress, judged, source)
        if as_json:
            encoded = msgspec.json.encode(summary | {"list": judged})
            print(msgspec.json.format(encoded).decode())  # noqa: T201
            return

        _show(summary, out)
        for alert in gravest(alerts, top):
            out.print(line(alert, ZoneInfo(source.zone), chinese=False), soft_wrap=True)
        if report:
            out.print(f"The report, with the curves: [bold]{report}[/]", soft_wrap=True)


def _opened(paths: Sequence[str], settings: Settings) -> Source:
    """The source of the paths, with a zone and an interval."""
    source = open_sources(paths)
    return replace(
        source,
        zone=source.zone or settings.zone,
        interval=source.interval or settings.interval,
    )


def _show_start(
    store: Store, before: Progress, source: Source, rulebook: Rulebook, console: Console
) -> None:
    """Prints how much of a source the store has already. Raises StoreError if all was judged by other rules."""
    if before.batches and store.rulebook() != rulebook:
        if before.done:
            raise StoreError(
                f"{store.path} holds all of {source.name} as other rules judged it; {STORE_ADVICE}"
            )
        console.print(
            f"{store.path} holds {before.rows:,} rows as other rules judged them; these hold for what follows"
        )
    if before.done:
        console.print(f"{store.path} holds all of {source.name}: nothing new to read")
    elif before.batches:
        console.print(f"going on after {before.rows:,} rows that {store.path} holds")


class _Bar:
    """Shows the progress of a run: a moving bar on a terminal, else a line for every tenth."""

    def __init__(self, console: Console, source: Source, *, quiet: bool) -> None:
        self._source = source
        self._console = console
        self._quiet = quiet
        self._tenth = 0

        self._bar = ProgressDisplay(
            TextColumn("{task.fields[day]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=source.rows or None, day="", rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Shows the progress."""
        day = local_time(progress.last, self._source.zone)
        rate = f"{progress.rows / max(progress.seconds, 1e-9):,.0f} rows/s"
        self._bar.update(self._task, completed=progress.rows, day=day, rate=rate)
        tenth = 10 * progress.rows // self._source.rows if self._source.rows else 0
        if tenth > self._tenth and self._bar.disable and not self._quiet:
            self._console.print(
                f"{min(tenth, 10) * 10:3d} %  {day}  {progress.rows:,} rows  {rate}"
            )
        self._tenth = max(self._tenth, tenth)


def _report_input(
    progress: Progress, alerts: Sequence[Alert], source: Source, paths: Sequence[str]
) -> Watched:
    """The input of the report; reads the source a second time for the curves."""
    shown = gravest(alerts, len(alerts))
    pictures = pictured(shown, source.areas, source.zone, open_sources(paths).batches)

    counts = {}
    readings = 0
    for kind, outcomes in progress.counts.items():
        for outcome, reasons in outcomes.items():
            for reason, count in reasons.items():
                counts[kind, outcome, reason] = count
                if (kind, outcome) == ("readings", "in"):
                    readings += count
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
    """Notes on the meters for a reader of the result."""
    if not progress.shared:
        return progress.strangers
    shared = (
        f"ids of meters that stand in more than one area: {progress.shared:,}; "
        "each is judged there as another meter"
    )
    return [*progress.strangers, shared]


def summarise(
    progress: Progress, alerts: Sequence[Alert], source: Source
) -> dict[str, Any]:
    """The result of a run as plain data."""
    rules: dict[str, Counter[str]] = {}
    for alert in alerts:
        count = rules.setdefault(alert.rule, Counter())
        if not alert.suppressed_by:
            count.update(["shown", alert.state])
        elif alert.suppressed_by == SHADOW_STATUS:
            count[SHADOW_STATUS] += 1
        else:
            count["suppressed"] += 1

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
            kind: _outcome_counts(outcomes)
            for kind, outcomes in progress.counts.items()
        },
        "refused": dict(source.rejected),
        "mended": dict(source.tally.mended),
        "first": source.tally.first,
        "notes": [*source.tally.notes, *_notes_of(progress)],
        "alerts": {
            rule: _rule_counts(count, progress.meter_days)
            for rule, count in sorted(rules.items())
        },
    }


def _outcome_counts(outcomes: Mapping[str, dict[str, int]]) -> dict[str, Any]:
    """Rows by outcome, and by reason as well for REASONED_OUTCOMES."""
    counts: dict[str, Any] = {}
    for outcome in ROW_OUTCOMES:
        reasons = outcomes.get(outcome, {})
        has_reasons = outcome in REASONED_OUTCOMES
        counts[outcome] = reasons if has_reasons else sum(reasons.values())
    return counts


def _rule_counts(count: Counter[str], meter_days: float) -> dict[str, Any]:
    """The alerts of one rule; the rate is None if no meter was watched."""
    rate = round(1000 * count["shown"] / meter_days, 3) if meter_days else None
    return {
        "shown": count["shown"],
        "suppressed": count["suppressed"],
        "shadow": count[SHADOW_STATUS],
        "open": count["raised"],
        "shown_per_1000_meters_per_day": rate,
    }


def _show(summary: dict[str, Any], console: Console) -> None:
    """Prints a summary for people."""
    console.print(
        f"[bold]{summary['source']}[/]: {summary['meters']:,} meters, {summary['rows']:,} rows,"
        f" {summary['from']} to {summary['to']}, in {summary['seconds']:.1f} s ({summary['rows_per_second']:,} rows/s)",
        soft_wrap=True,
    )
    console.print(_rows_table(summary))
    for outcome in REASONED_OUTCOMES:
        reasons: Counter[str] = Counter()
        for outcomes in summary["counts"].values():
            reasons.update(outcomes[outcome])
        if reasons:
            each = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
            console.print(f"{outcome}: {each}", soft_wrap=True)

    _show_reading(summary, console)
    _show_alerts(summary, console)


def _rows_table(summary: dict[str, Any]) -> Table:
    """The rows of each kind by outcome."""
    table = Table(
        "rows", *ROW_OUTCOMES[1:-1], "implausible values", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, outcomes in summary["counts"].items():
        cells = [kind]
        for outcome in ROW_OUTCOMES[1:]:
            count = outcomes[outcome]
            total = sum(count.values()) if isinstance(count, dict) else count
            cells.append(f"{total:,}")
        table.add_row(*cells)
    return table


def _show_alerts(summary: dict[str, Any], console: Console) -> None:
    """Prints the alerts of each rule that has any, the most frequent first."""
    table = Table(
        "alerts",
        "shown",
        "still open",
        "suppressed",
        "per 1,000 meters and day",
        box=None,
        pad_edge=False,
    )
    for column in table.columns[1:]:
        column.justify = "right"

    shown = {
        rule: count
        for rule, count in summary["alerts"].items()
        if count["shown"] or count["suppressed"]
    }
    for rule, count in sorted(shown.items(), key=lambda item: -item[1]["shown"]):
        rate = count["shown_per_1000_meters_per_day"]
        cells = [f"{count[state]:,}" for state in ("shown", "open", "suppressed")]
        table.add_row(rule, *cells, "" if rate is None else f"{rate:.2f}")
    console.print(table if shown else "no alerts")


def _show_reading(summary: dict[str, Any], console: Console) -> None:
    """Prints the rows that the reader left out, the values that it mended and the notes that it made."""
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
