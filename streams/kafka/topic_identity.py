"""Checks that a partition's topics are still the topics of its checkpoint, and were not created anew."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import TopicPartition

from schemas.topics import REGISTRY_TOPIC
from streams.kafka.checkpoints import START_AFRESH, Mark, mark_of
from streams.kafka.partitions import Partition
from streams.kafka.readers import read_to_end, reader
from streams.settings import Settings

FETCH_BYTES = 16 << 10  # bytes of a partition, and a batch at least


async def created_anew(
    settings: Settings,
    topics: Mapping[str, str],
    partitions: Mapping[int, Partition],
    first: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, str]:
    """The source topics that were created anew since they were judged, with advice on each.

    `topics` has the names of topics without the prefix; the topics begin at `first` and end at `ends`.
    """
    marks: dict[TopicPartition, Mark] = {}
    judged: dict[TopicPartition, int] = {}
    for tp in ends:
        topic = topics[tp.topic]
        partition = partitions[tp.partition]
        if topic != REGISTRY_TOPIC and topic in partition.judged:
            judged[tp] = partition.judged[topic]
            if topic in partition.marks:
                marks[tp] = partition.marks[topic]

    # Compare the last judged record with the record at its offset now.
    places = {
        tp: mark.offset
        for tp, mark in marks.items()
        if first[tp] <= mark.offset < ends[tp]
    }
    found = await _marks_at(settings, places)
    changes = {
        tp: change_of(offset, marks.get(tp), found.get(tp), ends[tp])
        for tp, offset in judged.items()
    }
    return {
        tp: _advice(tp, judged[tp], change) for tp, change in changes.items() if change
    }


async def _marks_at(
    settings: Settings, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Mark]:
    """The marks of the records at the given offsets, also of aborted transactions."""
    found: dict[TopicPartition, Mark] = {}
    if not offsets:
        return found
    ends = {tp: offset + 1 for tp, offset in offsets.items()}
    async with reader(
        settings, isolation="read_uncommitted", fetch=FETCH_BYTES
    ) as consumer:
        async for tp, records in read_to_end(consumer, offsets, ends):
            for record in records:
                found[tp] = mark_of(
                    record.offset, record.timestamp, record.key, record.value
                )
    return found


def change_of(contained: int, mark: Mark | None, found: Mark | None, end: int) -> str:
    """Evidence that a topic is not the one that was judged up to `contained`, "" if there is none.

    >>> change_of(100, Mark(99, 5, 7), Mark(99, 5, 7), 100), change_of(100, None, None, 200)
    ('', '')
    >>> change_of(100, Mark(99, 5, 7), Mark(99, 6, 7), 200)
    'record 99 is not the one that was judged'
    """
    if contained > end:
        return f"it ends at {end}"
    if mark and found and mark != found:
        return f"record {mark.offset} is not the one that was judged"
    return ""


def _advice(tp: TopicPartition, contained: int, change: str) -> str:
    """Advice on a topic that was created anew."""
    return (
        f"the checkpoint contains `{tp.topic}`, partition {tp.partition} up to {contained}, and {change}: the topic is "
        'not the one it was taken from. With `topic_changed = "judge"` the worker keeps what it knows and judges the '
        f"topic from its beginning. {START_AFRESH}"
    )
