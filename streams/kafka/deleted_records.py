"""Records that the brokers deleted before they were judged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import REGISTRY_TOPIC, TOPIC_KINDS
from streams.kafka.answers import answered
from streams.kafka.backlog import GapError
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.holdings import Holdings
from streams.kafka.liveness import BEAT_SECONDS
from streams.kafka.metrics import Metrics
from streams.kafka.partitions import Partition
from streams.kafka.readers import UnansweredError, reader
from streams.settings import Settings

log = logging.getLogger("meterwatch")


class DeletedRecords:
    """Goes on behind deleted records, and lets the engines know of them."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        holdings: Holdings,
        engines: EngineThread,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._holdings = holdings
        self._engines = engines

    async def note(
        self, partition: Partition, topic: str, due: int, first: int
    ) -> None:
        """Notes that records were deleted before they were judged, so that rules which need them cannot tell."""
        if due >= first or topic == REGISTRY_TOPIC:
            return

        name = self._settings.topic(topic)
        log.warning(
            "`%s`, partition %d: records %d to %d were deleted before they were judged; retention is too short, "
            "and alerts that need them are not raised",
            name,
            partition.number,
            due,
            first - 1,
            extra={"topic": name, "partition": partition.number, "offset": due},
        )

        deleted = self._metrics.deleted_offsets.labels(name, str(partition.number))
        deleted.inc(first - due)
        await self._engines.run(
            "restore", partition.engine.note_lost_rows, TOPIC_KINDS[topic]
        )

    async def close_gap(
        self, gap: GapError, partition: Partition, topic: str, begins: int
    ) -> None:
        """Enqueues from `begins` on, if the brokers have deleted all before; else ends the process."""
        due = partition.enqueued[topic]
        tp = TopicPartition(self._settings.topic(topic), partition.number)
        await self._explain(gap, tp, begins)
        # Others may have moved the partition meanwhile.
        async with self._holdings.engine_lock:
            if partition.enqueued[topic] == due:
                await self.note(partition, topic, due, begins)
                partition.skip(topic, begins)

    async def skip_stranded(
        self, partition: Partition, first: Mapping[str, int]
    ) -> None:
        """Goes on behind deleted records of topics of which nothing has come since."""
        for topic, offset in first.items():
            if not partition.stranded(topic, offset):
                continue
            async with self._holdings.engine_lock:
                if partition not in self._holdings:
                    continue
                if partition.stranded(topic, offset):
                    await self.note(partition, topic, partition.judged[topic], offset)
                    partition.start(topic, offset)

    async def _explain(self, gap: GapError, tp: TopicPartition, begins: int) -> None:
        """Returns if the brokers have deleted all before `begins`; else records were lost here: ends the process."""
        first = -1
        while first < 0:
            try:
                async with reader(self._settings) as consumer:
                    first = (await answered(consumer.beginning_offsets([tp])))[tp]
            except (KafkaError, UnansweredError) as error:
                log.warning("%s, and the brokers do not say why yet: %s", gap, error)
                await asyncio.sleep(BEAT_SECONDS)

        if first < begins:
            fatal(f"{gap}, and {first} exists", ExitCode.TOPIC)
        log.warning("%s: the brokers have no record between", gap)
