"""Snapshots as bytes: packed with their layout and a checksum, and read as the owners of today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import msgspec
from cramjam import DecompressionError, zstd

from detectors import older_layouts
from models.state.codec import dumps, loads
from models.state.owners import Owner, Saved, StateError, capture_owner, restore_owner

Capture = dict[str, Any]  # settings, and the saved state of every owner
SNAPSHOT_LAYOUT = 10  # of the whole snapshot; each owner has a version of its own
RESTART_ADVICE = "remove the checkpoint to judge the history again from its beginning"
RESTORE_ADVICE = f"run the version that wrote it, or {RESTART_ADVICE}"

# owners without which no snapshot can be restored
NEEDED_OWNERS = ("index/meters", "index/areas", "watermarks", "open_days", "order")


class SnapshotError(ValueError):
    """A snapshot that cannot be used; the text says what to do."""


class Snapshot(msgspec.Struct):
    """A snapshot as it comes from outside; layout 1 had no checksum."""

    layout: int
    checksum: int = -1  # CRC-32 of the body
    body: bytes = b""


def capture_owners(settings: dict[str, Any], owners: Mapping[str, Owner]) -> Capture:
    """The settings of an engine and the state of its owners; later steps do not change it."""
    state = {name: capture_owner(owner) for name, owner in owners.items()}
    return {"settings": settings, "owners": state}


def load_owners(owners: Mapping[str, Owner], saved: Mapping[str, Saved]) -> list[str]:
    """Load owners from `saved`; the names of the owners that start afresh. Raises StateError."""
    afresh = []
    for name, owner in owners.items():
        try:
            if not restore_owner(owner, saved.get(name)):
                afresh.append(name)
        except StateError as error:
            raise StateError(f"{name}: {error}") from error
    return afresh


def pack_snapshot(captured: Capture) -> bytes:
    """A capture, compressed, with its layout and a checksum; other threads go on meanwhile."""
    body = memoryview(zstd.compress(dumps(captured), level=1))
    return msgspec.msgpack.encode(
        {"layout": SNAPSHOT_LAYOUT, "checksum": crc32(body), "body": body}
    )


def saved_owners(data: bytes, settings: dict[str, Any]) -> dict[str, Saved]:
    """The saved owners of a snapshot that was made with `settings`. Raises SnapshotError."""
    saved, found = _unpacked(data)
    if found != settings:
        raise SnapshotError(
            f"the snapshot was made with {found}, this engine runs with {settings}: "
            f"use the same settings, or {RESTART_ADVICE}"
        )
    if missing := [name for name in NEEDED_OWNERS if name not in saved]:
        raise SnapshotError(
            f"the snapshot cannot be used: {missing[0]} is missing; {RESTORE_ADVICE}"
        )
    return saved


@contextmanager
def refused_if_unusable() -> Iterator[None]:
    """Raises SnapshotError for whatever loading a snapshot raises."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise SnapshotError(
            f"the snapshot cannot be used: {error}; {RESTORE_ADVICE}"
        ) from error


def _unpacked(data: bytes) -> tuple[dict[str, Saved], dict[str, Any]]:
    """The saved owners of a snapshot, and the settings it was made with. Raises SnapshotError."""
    try:
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(
            f"this is no snapshot ({error}); {RESTART_ADVICE}"
        ) from error

    layout = snapshot.layout
    if layout not in (*older_layouts.OLDER_LAYOUTS, SNAPSHOT_LAYOUT):
        raise SnapshotError(
            f"the snapshot has layout {layout}, this version reads layouts "
            f"{older_layouts.OLDER_LAYOUTS[0]} to {SNAPSHOT_LAYOUT}: {RESTORE_ADVICE}"
        )
    if crc32(snapshot.body) != snapshot.checksum:
        raise SnapshotError(
            f"the snapshot is damaged, its checksum does not match; {RESTART_ADVICE}"
        )

    try:
        tree = loads(memoryview(zstd.decompress(snapshot.body)).toreadonly())
        if layout == SNAPSHOT_LAYOUT:
            return msgspec.convert(tree["owners"], dict[str, Saved]), tree["settings"]
        return older_layouts.owners(layout, tree), tree["settings"]
    except (
        DecompressionError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise SnapshotError(
            f"the snapshot is damaged ({error!r}); {RESTART_ADVICE}"
        ) from error
