"""Damaged state of any kind: it is whole, or an older whole one counts, or it is refused."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from zlib import crc32

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from detectors.snapshots import (
    SNAPSHOT_LAYOUT,
    Snapshot,
    SnapshotError,
    pack_snapshot,
)
from replay.history import Source, SourceError
from replay.sources import open_sources
from streams.kafka import checkpoints
from streams.kafka.checkpoints import (
    CheckpointContents,
    CheckpointError,
    CheckpointRecord,
    WrittenCheckpoint,
    encode,
    whole_checkpoint,
)
from streams.local.follow import follow
from streams.local.progress import Progress
from streams.local.store import Store, StoreError
from streams.settings import Settings, SettingsError, load
from tests import goldens
from tests.fuzz import bounded
from tests.fuzz.mutations import damaged, tampered
from tests.outcomes import balanced, count_outcomes
from tests.test_snapshots import before, engine, readings

SOUND_SNAPSHOT = before().snapshot()
SHORT_BYTES = st.binary(max_size=16)


@bounded(50)
@given(damaged(SOUND_SNAPSHOT, st.just(SOUND_SNAPSHOT)) | SHORT_BYTES)
def test_a_snapshot_is_whole_or_refused(value):
    restored = engine()
    fresh = restored.snapshot()
    try:
        restored.restore(value)
    except SnapshotError as error:
        assert "remove the checkpoint" in str(error)  # noqa: PT017 - some inputs are fine
        assert restored.snapshot() == fresh
    else:
        assert value == restored.snapshot() == SOUND_SNAPSHOT


GOLDEN_STATE, GOLDEN_HISTORY = goldens.last_golden()
GOLDEN_TREE = goldens.opened(GOLDEN_STATE)
GOLDEN_BODY = msgspec.msgpack.decode(GOLDEN_STATE)["body"]


def resumes_or_is_refused(value: bytes) -> None:
    """Fails unless an engine refuses a snapshot and stays as it is, or goes on from it."""
    restored = GOLDEN_HISTORY.engine()
    fresh = restored.snapshot()
    try:
        restored.restore(value)
    except SnapshotError as error:
        assert "remove the checkpoint" in str(error)  # noqa: PT017 - some inputs are fine
        assert restored.snapshot() == fresh
    else:
        with np.errstate(all="ignore"):
            GOLDEN_HISTORY.alerts_after(restored)
        restored.snapshot()


@bounded(60)
@given(tampered(GOLDEN_TREE["owners"]))
def test_tampered_snapshot_is_refused_or_resumed(owners):
    resumes_or_is_refused(
        pack_snapshot({"settings": GOLDEN_TREE["settings"], "owners": owners})
    )


@bounded(60)
@given(damaged(GOLDEN_BODY, st.just(GOLDEN_BODY)))
def test_damaged_snapshot_with_right_checksum_is_refused_or_resumed(body):
    resumes_or_is_refused(
        msgspec.msgpack.encode(Snapshot(SNAPSHOT_LAYOUT, crc32(body), body))
    )


def checkpoint(sequence: int) -> tuple[bytes, dict[str, int], list[CheckpointRecord]]:
    """A state, its offsets, and the records of both; each state is as long as its offsets say."""
    state = bytes([sequence]) * 300 * sequence
    offsets = {"reads": 300 * sequence}
    clock = SimpleNamespace(time=lambda: 0.0)
    with patch.multiple(checkpoints, CHUNK_BYTES=400, WRITER_ID="w", time=clock):
        chunks, manifest = encode(
            CheckpointContents(state, offsets, 4), WrittenCheckpoint(sequence - 1)
        )
    return state, offsets, [*chunks, manifest]


DAMAGE_KINDS = [
    "lost",
    "value",
    "key",
    "header",
    "headers",
    "twice",
    "elsewhere",
    "tombstone",
]


@st.composite
def logs(draw: st.DrawFn) -> list[Any]:
    """Three checkpoints with up to four records lost, changed, twice or elsewhere."""
    kept: list[Any] = []
    for sequence in (1, 2, 3):
        kept += checkpoint(sequence)[2]

    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(kept) - 1))
        match draw(st.sampled_from(DAMAGE_KINDS)):
            case "lost" if len(kept) > 1:
                del kept[at]
            case "twice":
                kept.insert(draw(st.integers(0, len(kept))), kept[at])
            case "elsewhere":
                kept.insert(draw(st.integers(0, len(kept) - 1)), kept.pop(at))
            case kind:
                kept[at] = draw(damaged_record(kept[at], kind))

    return [
        SimpleNamespace(**message._asdict(), offset=offset, partition=0, topic="t")
        for offset, message in enumerate(kept)
    ]


@st.composite
def damaged_record(
    draw: st.DrawFn, record: CheckpointRecord, kind: str
) -> CheckpointRecord:
    """A record of a checkpoint with another value, key or headers, or without."""
    key, value, headers = record

    match kind:
        case "value":
            return record._replace(value=draw(damaged(value or b"", SHORT_BYTES)))
        case "key":
            return record._replace(key=draw(damaged(key or b"", SHORT_BYTES)))
        case "header":
            others = [
                (name, draw(damaged(header, SHORT_BYTES))) for name, header in headers
            ]
            return record._replace(headers=others)
        case "headers":
            return record._replace(headers=[])
        case "tombstone":
            nothing: dict[str, Any] = {draw(st.sampled_from(["value", "key"])): None}
            return record._replace(**nothing)
    return record


@bounded(75)
@given(logs())
def test_only_a_whole_checkpoint_counts(records):
    with suppress(CheckpointError):
        found = whole_checkpoint(records, 4)
        assert found is None or (found.state, found.manifest.offsets) in [
            checkpoint(n)[:2] for n in (1, 2, 3)
        ]


SOURCE_BATCHES = [readings(n, n + 200) for n in range(0, 800, 200)]
SOURCE_AREAS = list(engine().registry.areas.values())


def follow_to_end(store: Store) -> None:
    batches = iter(SOURCE_BATCHES)
    source = Source("s", SOURCE_AREAS, batches, 0, "Asia/Shanghai", 900)
    follow(source, store, "s", every=1e9)


@cache
def stored() -> tuple[bytes, bytes | None]:
    """A store half-way through a source, and the state at its end."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "half.db"
        half = engine()
        alerts = [alert for batch in SOURCE_BATCHES[:2] for alert in half.step(batch)]
        with Store(path) as store:
            store.enroll(SOURCE_AREAS, {})
            store.save(Progress("s", batches=2), half.snapshot(), alerts)
        file = path.read_bytes()
        with Store(path) as store:
            follow_to_end(store)
            assert store.alerts()
            return file, store.state()


@bounded(37)
@given(
    flips=st.lists(
        st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=3
    ),
    cut=st.none() | st.floats(0, 1),
)
def test_a_damaged_store_is_refused_or_goes_on_as_if_whole(flips, cut):
    file, end = stored()
    value = bytearray(file if cut is None else file[: int(cut * len(file))])
    written = [place for place, byte in enumerate(value) if byte] or [0]
    for place, flip in flips if value else []:
        value[written[place % len(written)]] ^= flip

    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        path.write_bytes(value)
        try:
            with Store(path) as store:
                follow_to_end(store)
                assert store.state() == end
                store.alerts()
        except StoreError as error:
            assert "store.db" in str(error)  # noqa: PT017 - some inputs are fine


@bounded(25)
@given(
    damaged(
        (Path(__file__).parents[2] / "deploy" / "meterwatch.toml").read_bytes(),
        SHORT_BYTES,
    ),
    st.dictionaries(
        st.sampled_from(
            [f"METERWATCH_{name.upper()}" for name in Settings.__struct_fields__]
        ),
        st.text(max_size=9),
    ),
)
def test_settings_are_read_or_refused(file, environment):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "meterwatch.toml"
        path.write_bytes(file)
        with suppress(SettingsError):
            assert load(environment, path).servers


SOUND_CSV = b"meter,area,at,kwh,u,register\n" + b"".join(
    b"M%d,A1,2026-03-01T%02d:15:00+08:00,0.25,230.1,%d.5\n" % (n % 3, n // 3, n)
    for n in range(30)
)


@bounded(15)
@given(damaged(SOUND_CSV, st.just(SOUND_CSV) | SHORT_BYTES))
def test_a_file_is_read_or_refused(value):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "readings.csv"
        path.write_bytes(value)
        reading_engine = Engine()
        with suppress(SourceError):
            for batch in open_sources([str(path)]).batches:
                reading_engine.step(batch)
        balanced(count_outcomes(reading_engine))
