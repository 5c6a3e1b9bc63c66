"""The store: alerts, progress and the engine's state in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, ClassVar, Self
from zlib import crc32

import msgspec

from detectors.rule import SHADOW_STATUS
from detectors.rulebook import EMPTY_RULEBOOK
from schemas.alert import RENAMED_KINDS, Alert
from schemas.master import Area
from schemas.rules import Rulebook, decode_rulebook
from streams.local.progress import Progress

STORE_ADVICE = "choose another file with --store"
Columns = dict[str, str]  # SQL type by name


class StoreError(ValueError):
    """A file is no store, or this run cannot go on with the store."""


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
        """Renames columns and kinds of an older version, and adds missing tables and columns."""
        self.db.execute("BEGIN IMMEDIATE")
        (tables,) = self.db.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
        ).fetchone()
        if tables and version < self.VERSION:
            for statement in self.RENAMED:
                self.db.execute(statement)
            kinds = [(new, old) for old, new in RENAMED_KINDS.items()]
            self.db.executemany("UPDATE alerts SET kind = ? WHERE kind = ?", kinds)

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
