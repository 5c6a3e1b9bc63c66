"""The store: alerts, progress and the state of each shard's engine in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import copy
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self
from zlib import crc32

import msgspec

from detectors.rule import SHADOW_STATUS
from detectors.rulebook import EMPTY_RULEBOOK
from replay.shards import WHOLE_HISTORY, Shard
from schemas.alert import RENAMED_KINDS, Alert
from schemas.master import Area
from schemas.rules import Rulebook, decode_rulebook
from streams.local.progress import Progress

STORE_ADVICE = "choose another file with --store"
LONGEST_WAIT = 600.0  # s for another shard's transaction
CLAIM_SECONDS = 1.0  # for which the end of another run is waited for
Columns = dict[str, str]  # SQL type by name


class StoreError(ValueError):
    """A file is no store, or this run cannot go on with the store."""


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keeps other runs away from a store. Raises StoreError if another run has it."""
    try:
        lock = Path(f"{path}-lock").open("wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise StoreError(f"{path} cannot be used as a store: {error}") from error
    with lock:
        _lock(lock, path)
        yield


def _lock(lock: BinaryIO, path: Path) -> None:
    """Locks a file; the jobs of a run that was killed have it for a moment. Raises StoreError."""
    deadline = time.monotonic() + CLAIM_SECONDS
    while True:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"another run is writing to {path}: wait for its end, or {STORE_ADVICE}"
                ) from error
            time.sleep(CLAIM_SECONDS / 20)
        else:
            return


class Store:
    """Alerts by id, the progress in every source and the engine's state, in one SQLite file.

    Processes that judge a shard each write to the same file: to the alerts of their areas, and to rows of their own.
    """

    # Version of the tables, as `PRAGMA user_version`; raised when a name or a meaning changes.
    VERSION = 3
    # By table and name; columns that an older store lacks are added.
    COLUMNS: ClassVar[dict[str, Columns]] = {
        "alerts": {
            "id": "TEXT PRIMARY KEY", "rule": "TEXT", "version": "INT", "kind": "TEXT", "area": "TEXT",
            "subject": "TEXT", "state": "TEXT", "change": "TEXT", "revision": "INT", "severity": "INT",
            "since": "INT", "raised": "INT", "at": "INT", "score": "REAL", "phase": "TEXT", "evidence": "TEXT",
            "suppressed_by": "TEXT", "en": "TEXT", "zh": "TEXT", "code": "TEXT DEFAULT ''",
        },
        "progress": {
            "source": "TEXT PRIMARY KEY", "progress": "BLOB", "checksum": "INT", "shard": "INT DEFAULT 0",
        },
        # areas without master data are known to be in a shard
        "areas": {"area": "TEXT PRIMARY KEY", "master": "BLOB", "checksum": "INT", "shard": "INT DEFAULT 0"},
        "engines": {"shard": "INT PRIMARY KEY", "shards": "INT", "state": "BLOB", "rulebook": "BLOB"},
    }  # fmt: skip

    RENAMED: ClassVar[tuple[str, ...]] = (  # since version 1
        "ALTER TABLE alerts RENAME COLUMN held TO suppressed_by",
        "ALTER TABLE places RENAME TO progress",
        "ALTER TABLE progress RENAME COLUMN place TO progress",
    )
    MOVED: ClassVar[tuple[str, ...]] = (  # since version 2
        "CREATE TABLE IF NOT EXISTS engine (one, state)",
        "CREATE TABLE IF NOT EXISTS rules (one, rulebook)",
        "INSERT INTO engines SELECT 0, 1, state, (SELECT rulebook FROM rules) FROM engine",
        "DROP TABLE engine",
        "DROP TABLE rules",
    )

    def __init__(self, path: Path | str, shard: Shard = WHOLE_HISTORY) -> None:
        self.path = path
        self.shard = shard
        self._places: Mapping[str, int] = {}
        self._placed = 0  # of the places, that are written
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=LONGEST_WAIT)
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
        if tables and version < 2:
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

        if tables and version < 3:
            for statement in self.MOVED:
                self.db.execute(statement)
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

    def of(self, shard: Shard) -> Self:
        """The same store as a shard sees it."""
        seen = copy(self)
        seen.shard = shard
        return seen

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Raises StoreError for any error that a damaged file causes."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise StoreError(
                f"{self.path} cannot be used: {error}; {STORE_ADVICE}"
            ) from error

    def divided(self, shards: int) -> dict[str, int]:
        """The shard that has each area, of so many. Raises StoreError if the store has another number of shards."""
        with self._usable():
            counts = self.db.execute("SELECT DISTINCT shards FROM engines").fetchall()
            if not counts:  # nothing was judged
                self.db.execute("DELETE FROM areas")
            for (count,) in counts:
                if count != shards:
                    raise StoreError(
                        f"{self.path} was written with --jobs {count}: go on with --jobs {count}, or {STORE_ADVICE}"
                    )
            return dict(self.db.execute("SELECT area, shard FROM areas"))

    def progress(self, source: str) -> Progress:
        """How far the shard has read the source. Raises StoreError if the file is damaged."""
        key = source
        if self.shard.count > 1:
            key = f"{source} shard {self.shard}"

        with self._usable():
            rows = self.db.execute(
                "SELECT source, progress, checksum FROM progress WHERE shard = ?",
                (self.shard.number,),
            )
            known = {
                name: msgspec.json.decode(
                    _checked(name, progress, checksum), type=Progress
                )
                for name, progress, checksum in rows
            }
            if bool(known) != (self._engine("state") is not None):
                raise ValueError("the state or the progress is missing")
        return known.get(key, Progress(key))

    def state(self) -> bytes | None:
        """The engine's state, None before the first checkpoint. Raises StoreError if the file is damaged."""
        with self._usable():
            return self._engine("state")

    def rulebook(self) -> Rulebook:
        """The rulebook that the engine was run by. Raises StoreError if the file is damaged."""
        with self._usable():
            found = self._engine("rulebook")
            return EMPTY_RULEBOOK if found is None else decode_rulebook(found)

    def _engine(self, column: Literal["state", "rulebook"]) -> bytes | None:
        """A column of the shard's engine; None before the first checkpoint."""
        found = self.db.execute(
            f"SELECT {column} FROM engines WHERE shard = ?",  # noqa: S608
            (self.shard.number,),
        ).fetchone()
        return found[0] if found else None

    def enroll(self, areas: Iterable[Area], places: Mapping[str, int]) -> list[Area]:
        """Stores areas in place of their earlier versions; returns all known areas of the shard. Raises StoreError.

        `places` are the shards of all areas, which may come to be more; they are written now and with each checkpoint.
        """
        rows = []
        for area in areas:
            master = msgspec.json.encode(area)
            checksum = _checksum(area.area, master)
            rows.append((area.area, master, checksum, self.shard.number))

        with self._usable():
            self.db.execute("BEGIN IMMEDIATE")
            self._put("areas", rows)
            self._places = places
            self._write_places()
            self.db.execute("COMMIT")
        return self.areas()

    def areas(self, *, of_all_shards: bool = False) -> list[Area]:
        """The areas with master data, of the shard or of all. Raises StoreError."""
        with self._usable():
            known = self.db.execute(
                "SELECT area, master, checksum FROM areas WHERE master NOT NULL AND (? OR shard = ?) ORDER BY area",
                (of_all_shards, self.shard.number),
            )
            return [msgspec.json.decode(_checked(*row), type=Area) for row in known]

    def _write_places(self) -> None:
        """Writes the places of areas that are new."""
        if len(self._places) > self._placed:
            self.db.executemany(
                "INSERT OR IGNORE INTO areas (area, shard) VALUES (?, ?)",
                self._places.items(),
            )
            self._placed = len(self._places)

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
        number, count = self.shard.number, self.shard.count

        try:
            self.db.execute("BEGIN IMMEDIATE")
            self._put("alerts", alert_rows)
            self._put("progress", [(progress.source, encoded, checksum, number)])
            rules = msgspec.json.encode(rulebook)
            self._put("engines", [(number, count, state, rules)])
            self._write_places()
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be written: {error}") from error

    def packed(self) -> bytes:
        """The whole store but its alerts, for a worker that cannot write to the file. Raises StoreError."""
        with self._usable(), closing(sqlite3.connect(":memory:")) as copied:
            self.db.backup(copied)
            copied.execute("DELETE FROM alerts")
            copied.commit()
            copied.execute("VACUUM")
            return copied.serialize()

    def take_in(self, path: Path) -> None:
        """Takes in all that the shard has written to another store. Raises StoreError."""
        own = "WHERE shard = ?"
        tables = {"alerts": "", "progress": own, "areas": own, "engines": own}

        with self._usable():
            self.db.execute("ATTACH ? AS other", (str(path),))
            self.db.execute("BEGIN IMMEDIATE")
            for table, rows in tables.items():
                names = ", ".join(self.COLUMNS[table])
                self.db.execute(
                    f"INSERT OR REPLACE INTO {table} ({names}) SELECT {names} FROM other.{table} {rows}",  # noqa: S608
                    (self.shard.number,) * bool(rows),
                )
            self.db.execute("COMMIT")
            self.db.execute("DETACH other")

    def mark(self, alerts: Iterable[Alert]) -> None:
        """Writes the reasons for which alerts are suppressed. Raises StoreError."""
        with self._usable():
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(
                "UPDATE alerts SET suppressed_by = ? WHERE id = ?",
                ((alert.suppressed_by, alert.id) for alert in alerts),
            )
            self.db.execute("COMMIT")

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
