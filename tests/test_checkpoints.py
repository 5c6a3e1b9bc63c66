"""Checkpoints: which are whole, which wins, and that a spoilt one is never used."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka import checkpoints
from streams.kafka.checkpoints import (
    CHUNK_BYTES,
    Checkpoint,
    CheckpointContents,
    CheckpointError,
    CheckpointRecord,
    WrittenCheckpoint,
    encode,
    newest,
    whole_checkpoint,
    write_checkpoint,
)
from streams.kafka.readers import reader
from streams.kafka.topics import ensure
from streams.settings import load

SAMPLE_STATE = bytes(range(256)) * 5000  # three chunks


def log(*messages):
    """Records as the broker would give them."""
    offsets = itertools.count()
    return [
        SimpleNamespace(
            key=message.key,
            value=message.value,
            headers=message.headers,
            offset=offset,
            partition=0,
            topic="checkpoints",
        )
        for message, offset in zip(messages, offsets, strict=False)
    ]


def checkpoint(sequence, offset, state=SAMPLE_STATE):
    last = WrittenCheckpoint(sequence - 1)
    chunks, manifest = encode(CheckpointContents(state, {"reads": offset}, 4), last)
    return [*chunks, manifest]


def best(*messages) -> Checkpoint:
    winner = whole_checkpoint(log(*messages), 4)
    assert winner
    return winner


def test_newest_whole_checkpoint_is_found():
    winner = best(*checkpoint(1, 10), *checkpoint(2, 20, b"new"))
    assert (winner.state, winner.manifest.offsets, winner.manifest.sequence) == (
        b"new",
        {"reads": 20},
        2,
    )
    assert winner.begins == 4


def test_chunks_fit_into_messages():
    chunks, manifest = encode(
        CheckpointContents(SAMPLE_STATE, {}, 4), WrittenCheckpoint()
    )
    assert [len(chunk.value) for chunk in chunks] == [
        CHUNK_BYTES,
        CHUNK_BYTES,
        len(SAMPLE_STATE) - 2 * CHUNK_BYTES,
    ]
    assert len({message.key for message in [*chunks, manifest]}) == 4


def test_two_slots_take_turns():
    keys = [
        {message.key for message in checkpoint(sequence, 0)} for sequence in (1, 2, 3)
    ]
    assert not keys[0] & keys[1]
    assert keys[0] == keys[2]


def test_older_checkpoint_counts_while_the_newer_is_half_written():
    old, new = checkpoint(1, 10), checkpoint(2, 20, b"new" * CHUNK_BYTES)
    for cut in range(len(new)):
        assert best(*old, *new[:cut]).manifest.offsets == {"reads": 10}


@given(st.integers(0, 3), st.integers(0, 100), st.integers(1, 255))
def test_a_spoilt_record_is_never_used(k, at, flip):
    old, new = checkpoint(1, 10), checkpoint(2, 20)
    value = bytearray(new[k].value)
    value[at % len(value)] ^= flip
    new[k] = new[k]._replace(value=bytes(value))
    assert best(*old, *new).manifest.offsets == {"reads": 10}


def test_remaining_slot_counts_after_compaction():
    first = checkpoint(1, 10)
    second = checkpoint(2, 20)
    third = checkpoint(3, 30)
    assert best(*first[:1], *second, *third[:2]).manifest.offsets == {"reads": 20}
    assert whole_checkpoint(log(*first[1:]), 4) is None


def test_checkpoints_of_two_writers_do_not_mix(monkeypatch):
    first = checkpoint(3, 30)
    monkeypatch.setattr(checkpoints, "WRITER_ID", "another")
    second = checkpoint(3, 25, b"other" * CHUNK_BYTES)
    mixed = [
        message
        for pair in itertools.zip_longest(first, second)
        for message in pair
        if message
    ]
    winner = best(*mixed)
    assert (winner.manifest.offsets, winner.state) == ({"reads": 30}, SAMPLE_STATE)


def test_checkpoint_with_the_highest_offsets_wins():
    assert best(*checkpoint(2, 20), *checkpoint(2, 10)).manifest.offsets == {
        "reads": 20
    }


def test_another_layout_is_refused_with_advice(monkeypatch):
    monkeypatch.setattr(checkpoints, "MANIFEST_LAYOUT", 0)
    old = checkpoint(1, 10)
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError, match="layout 0; this version reads layout 1.*start afresh"
    ):
        whole_checkpoint(log(*old), 4)


STRANGE_MANIFESTS: list[Any] = [
    {}, [], None, 3, {"layout": 1}, {"layout": 2}, {"layout": "1"}, {"layout": 1, "set": 3},
    {"layout": 1, "set": "x", "sequence": 2, "partitions": 4, "offsets": [], "checksums": [], "taken": 1},
]  # fmt: skip
UNREADABLE_MANIFESTS = [
    msgspec.msgpack.encode(value) for value in STRANGE_MANIFESTS
] + [b"", b"\xc1", b"\xff" * 30, b"\x91" * 100_000]


def manifest_of(value: bytes, sequence: int) -> CheckpointRecord:
    """A manifest of any content, with the right checksum."""
    sound = checkpoint(sequence, 20)[-1]
    headers = [
        (name, b"%d" % zlib.crc32(value) if name == "checksum" else header)
        for name, header in sound.headers
    ]
    return CheckpointRecord(sound.key, value, headers)


@pytest.mark.parametrize("value", UNREADABLE_MANIFESTS)
def test_older_slot_counts_if_a_manifest_is_unreadable(value, caplog):
    winner = best(*checkpoint(1, 10), *checkpoint(2, 20)[:-1], manifest_of(value, 2))
    assert (winner.state, winner.manifest.offsets) == (SAMPLE_STATE, {"reads": 10})
    assert "is passed over for an older one" in caplog.text


@pytest.mark.parametrize("value", UNREADABLE_MANIFESTS)
def test_unreadable_manifests_are_refused_with_advice(value):
    with pytest.raises(
        CheckpointError,
        match="partition 0 of `checkpoints` holds a checkpoint .*start afresh",
    ):
        whole_checkpoint(log(*checkpoint(2, 20)[:-1], manifest_of(value, 2)), 4)


def test_unknown_fields_are_ignored_and_missing_ones_take_defaults():
    chunks, sound = encode(
        CheckpointContents(SAMPLE_STATE, {"reads": 20}, 4), WrittenCheckpoint(1)
    )
    manifest = msgspec.msgpack.decode(sound.value)
    later = manifest_of(
        msgspec.msgpack.encode(manifest | {"tides": [1.0], "moons": {"reads": "id"}}), 2
    )
    assert best(*chunks, later).manifest.offsets == {"reads": 20}
    del manifest["taken"]
    assert (
        best(*chunks, manifest_of(msgspec.msgpack.encode(manifest), 2)).manifest.taken
        == 0.0
    )


def test_another_partition_count_is_refused():
    with pytest.raises(
        CheckpointError, match="taken with 4 partitions, the topics have 8"
    ):
        whole_checkpoint(log(*checkpoint(1, 10)), 8)


def test_on_a_broker(broker):
    settings = load(
        {
            "METERWATCH_BROKERS": broker.address,
            "METERWATCH_PREFIX": "checkpoints-test.",
            "METERWATCH_PARTITIONS": "2",
        }
    )
    topic = settings.topic("checkpoints")
    tp = TopicPartition(topic, 1)

    async def scenario():
        await ensure(settings)
        async with (
            AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer,
            reader(settings) as consumer,
        ):
            assert await newest(consumer, topic, [0, 1], {}, 2) == {0: None, 1: None}

            last = WrittenCheckpoint()
            for offset in (10, 20, 30):
                last = await write_checkpoint(
                    producer,
                    tp,
                    CheckpointContents(SAMPLE_STATE, {"reads": offset}, 2),
                    last,
                )

            winner = await newest(consumer, topic, [0, 1], {}, 2)
            assert winner[0] is None
            assert winner[1]
            assert (winner[1].state, winner[1].manifest.offsets) == (
                SAMPLE_STATE,
                {"reads": 30},
            )
            assert winner[1].begins == last.begins
            # its owner still has it
            assert await newest(consumer, topic, [1], {1: last}, 2) == {}

            chunks, _ = encode(
                CheckpointContents(b"half" * CHUNK_BYTES, {"reads": 40}, 2), last
            )
            for chunk in chunks:
                await producer.send_and_wait(
                    topic, chunk.value, chunk.key, 1, headers=chunk.headers
                )

            older = (await newest(consumer, topic, [1], {1: last}, 2))[1]
            assert older
            assert older.manifest.offsets == {"reads": 30}

    asyncio.run(scenario())
