"""Rulebooks on their topic: reading, following and publishing them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

import msgspec
from aiokafka import TopicPartition

from detectors.rulebook import (
    EMPTY_RULEBOOK,
    changes,
    unapproved,
    unknown_entries,
    unraised,
)
from schemas.rules import Rulebook, RulebookError, decode_rulebook, unknown_fields
from schemas.topics import RULES_TOPIC
from streams.kafka.answers import answered
from streams.kafka.metrics import Metrics
from streams.kafka.outbox import producer
from streams.kafka.readers import read_to_end, reader
from streams.kafka.rights import RULES_RIGHTS, CommandRights
from streams.kafka.topics import ensure
from streams.lines import visible
from streams.settings import Settings

RECORD_KEY = b"rules"
log = logging.getLogger("meterwatch")


def published(key: bytes | None, value: bytes | None, before: Rulebook) -> Rulebook:
    """The rulebook of a record that follows another; a record without value changes nothing. Raises RulebookError.

    Rules and settings that this version does not know are logged, and the rest is in force.
    """
    if value is None:
        return before
    if key != RECORD_KEY:
        raise RulebookError([f"the key is {key!r:.40}, not {RECORD_KEY!r}"])

    decoded = decode_rulebook(value)
    if faults := unraised(decoded, before) or unapproved(decoded, before):
        raise RulebookError(faults)
    for fault in unknown_fields(value) + unknown_entries(decoded):
        log.warning(
            "this version does not know all of the published rulebook, the rest is in force: %s",
            fault,
        )
    return decoded


async def newest(
    settings: Settings,
    notify: Callable[[str], None] = lambda _: None,
    needs: CommandRights = RULES_RIGHTS,
) -> Rulebook:
    """The published rulebook; `notify` is called for each invalid one. Raises UnansweredError, TopicError."""
    await ensure(settings, needs)
    tp = TopicPartition(settings.topic(RULES_TOPIC), 0)
    found = EMPTY_RULEBOOK
    async with reader(settings) as consumer:
        starts = await consumer.beginning_offsets([tp])
        async for _, records in read_to_end(consumer, starts):
            for record in records:
                try:
                    found = published(record.key, record.value, found)
                except RulebookError as error:
                    notify(
                        f"offset {record.offset} of `{tp.topic}` is passed over: {visible(str(error))}"
                    )
    return found


async def send(settings: Settings, rulebook: Rulebook) -> None:
    """Publishes a rulebook. Raises KafkaError, also if no broker takes it in time."""
    client = producer(settings)
    await client.start()
    try:
        await answered(
            client.send_and_wait(
                settings.topic(RULES_TOPIC),
                msgspec.json.encode(rulebook),
                RECORD_KEY,
                0,
            )
        )
    finally:
        await client.stop()


class PublishedRulebook:
    """The last rulebook that was published and is valid."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.rulebook = EMPTY_RULEBOOK
        self.known = asyncio.Event()  # set once the topic has been read to its end

    async def follow_rules(self) -> NoReturn:
        """Follows the rulebooks that are published."""
        tp = TopicPartition(self._settings.topic(RULES_TOPIC), 0)
        async with reader(self._settings) as consumer:
            ends = await consumer.end_offsets([tp])
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            while True:
                if not self.known.is_set() and await consumer.position(tp) >= ends[tp]:
                    self.known.set()
                fetched = await consumer.getmany(tp, timeout_ms=500)
                for record in fetched.get(tp, []):
                    self._receive(record.key, record.value, record.offset)

    def _receive(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Keeps a valid rulebook; logs and counts any other."""
        try:
            rulebook = published(key, value, self.rulebook)
        except RulebookError as error:
            self._metrics.count_rejected(RULES_TOPIC, "rulebook", 1)
            log.warning(
                "offset %d of `%s` is rejected, the rulebook before stays in force: %s",
                offset,
                self._settings.topic(RULES_TOPIC),
                error,
                extra={"topic": self._settings.topic(RULES_TOPIC), "offset": offset},
            )
            return

        for name, lines in changes(rulebook, self.rulebook).items():
            log.info(
                "%s has version %d: %s",
                name,
                rulebook.rules[name].version,
                ", ".join(lines),
                extra={"rule": name},
            )
        self.rulebook = rulebook
