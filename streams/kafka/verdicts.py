"""How often inspections found a rule right or wrong, for the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord

from detectors.rule import ALL_RULES
from schemas.inspection import Inspection
from schemas.topics import INSPECTIONS_TOPIC
from schemas.wire import decode_inspections
from streams.kafka.intake import messages_of
from streams.kafka.metrics import Metrics
from streams.kafka.readers import UnansweredError, reader
from streams.kafka.rights import VERDICT_RIGHTS
from streams.kafka.topics import TopicError, ensure
from streams.lines import visible
from streams.settings import Settings

WAIT_MS = 5_000  # that a broker holds a request back: nobody waits for a verdict
RIGHT_SECONDS = 3600.0  # until a worker without the right to read asks again
ANSWER_SECONDS = 60.0  # until a worker without an answer asks again
Verdicts = Counter[tuple[str, str]]  # by rule and verdict

log = logging.getLogger("meterwatch")


class VerdictCounts:
    """Counts the verdicts of the newest record of each inspection, on the rules that it names."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._found: dict[str, Verdicts] = {}  # by inspection
        self._counts: Verdicts = Counter()

    async def follow_inspections(self) -> NoReturn:
        """Follows the inspections that are published; goes on without them while the brokers do not give them."""
        while True:
            try:
                await self._follow()
            except (TopicError, TopicAuthorizationFailedError) as error:
                seconds, fault = RIGHT_SECONDS, error
            except (KafkaError, UnansweredError) as error:
                seconds, fault = ANSWER_SECONDS, error
            log.warning("verdicts of inspections are not counted: %s", fault)
            await asyncio.sleep(seconds)

    async def _follow(self) -> NoReturn:
        """Follows the inspections. Raises TopicError, KafkaError and UnansweredError."""
        await ensure(self._settings, VERDICT_RIGHTS)
        topic = self._settings.topic(INSPECTIONS_TOPIC)
        tps = [TopicPartition(topic, n) for n in range(self._settings.partitions)]
        async with reader(self._settings, wait_ms=WAIT_MS) as consumer:
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            while True:
                self.note(await _fetched(consumer))
                self._metrics.inspected(self._counts)

    def note(self, records: Sequence[ConsumerRecord]) -> None:
        """Notes inspections in order; logs how many cannot be read."""
        newest, rejections = decode_inspections(messages_of(records))
        for name, inspection in newest.items():
            verdicts = _verdicts_of(inspection)
            self._counts += verdicts
            self._counts -= self._found.pop(name, Counter())
            if verdicts:
                self._found[name] = verdicts

        if rejections:
            first = rejections[0]
            record = records[first.index]
            log.warning(
                "%d inspections are not counted, such as offset %d of `%s`, partition %d: %s",
                len(rejections),
                record.offset,
                record.topic,
                record.partition,
                visible(first.detail),
                extra={
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "reason": first.reason,
                },
            )


async def _fetched(consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
    """The next records, by partition; none if none came for WAIT_MS."""
    fetched = await consumer.getmany(timeout_ms=WAIT_MS)
    return [record for records in fetched.values() for record in records]


def _verdicts_of(inspection: Inspection | None) -> Verdicts:
    """The verdict of an inspection on each rule that it names; none if it was withdrawn."""
    if inspection is None:
        return Counter()
    rules = ALL_RULES.keys() & set(inspection.rules)
    return Counter((rule, inspection.verdict) for rule in rules)
