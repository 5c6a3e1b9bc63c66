"""The upkeep of partitions beside judging: time, alerts of killed workers, daily scores, rulebooks, checkpoints."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import NoReturn

from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from detectors.rulebook import applied, rules_of
from detectors.score_feed import ScoreFeed
from schemas.alert import Alert
from schemas.wire import encode_scores
from streams.kafka.alerts import alert_of, alert_partition
from streams.kafka.checkpoint_writer import CheckpointWriter
from streams.kafka.engine_thread import EngineThread
from streams.kafka.holdings import Holdings
from streams.kafka.judging import Judging
from streams.kafka.liveness import BEAT_SECONDS
from streams.kafka.outbox import Outgoing
from streams.kafka.partitions import Partition
from streams.kafka.readers import UnansweredError, read_to_end, reader
from streams.kafka.rulebooks import PublishedRulebook
from streams.settings import Settings

PORTION_ROWS = 1000  # days of meters whose scores are published at once
log = logging.getLogger("meterwatch")


class Maintenance:
    """Ticks, reconciles, publishes daily scores, adopts rulebooks and takes checkpoints."""

    def __init__(
        self,
        settings: Settings,
        holdings: Holdings,
        engines: EngineThread,
        published: PublishedRulebook,
        judging: Judging,
        checkpoints: CheckpointWriter,
    ) -> None:
        self._settings = settings
        self._holdings = holdings
        self._engines = engines
        self._published = published
        self._judging = judging
        self._checkpoints = checkpoints
        self._rules = rules_of(settings.voltage_limits)

    async def maintain(self) -> NoReturn:
        """Ticks, reconciles, publishes scores and takes checkpoints when they are due."""
        behind = False
        while True:
            await asyncio.sleep(0 if behind else BEAT_SECONDS)
            behind = False
            for partition in list(self._holdings.partitions.values()):
                if self._settings.clock == "wall":
                    behind |= await self._tick(partition)
                if feed := partition.engine.scores:
                    behind |= await self._publish_scores(partition, feed)
                if not partition.reconciled and partition.settled:
                    await self._reconcile(partition)

                if (
                    partition.rulebook != self._published.rulebook
                    and partition.reconciled
                ):
                    await self._adopt(partition)
                elif (
                    partition.unsaved
                    and partition.since_saved() >= self._settings.checkpoint_seconds
                ):
                    await self._save(partition)

    async def _tick(self, partition: Partition) -> bool:
        """Lets a portion of the time pass; True while more is due."""
        async with self._holdings.engine_lock:
            now = partition.time_bound(int(time.time()))
            if now <= 0 or partition not in self._holdings:
                return False
            alerts = await self._engines.run("tick", partition.tick, now)
            await self._judging.publish(partition, alerts, None)
            return partition.ticked < now

    async def _publish_scores(self, partition: Partition, feed: ScoreFeed) -> bool:
        """Publishes a portion of the days whose scores can no longer change; True while more may be due.

        A checkpoint forgets only days that were published before it.
        """
        async with self._holdings.engine_lock:
            if partition not in self._holdings:
                return False
            messages = await self._engines.run("scores", _score_messages, feed)
            await self._judging.publish_scores(partition, messages)
            return len(messages) == PORTION_ROWS

    async def _reconcile(self, partition: Partition) -> None:
        """Corrects the alerts that another worker published and this engine does not confirm.

        The two may have judged topics in another order.
        """
        earlier: list[Alert] = []
        tp = alert_partition(self._settings, partition.number)
        end = partition.alerts_end
        if partition.agreed < end:
            try:
                async with reader(self._settings) as consumer:
                    async for _, records in read_to_end(
                        consumer, {tp: partition.agreed}, {tp: end}
                    ):
                        earlier += await self._engines.run(
                            "reconcile", _alerts_of, records
                        )
            except (KafkaError, UnansweredError) as error:
                log.warning(
                    "partition %d: the alerts published before cannot be read yet: %r",
                    partition.number,
                    error,
                    extra={"partition": partition.number},
                )
                return

        async with self._holdings.engine_lock:
            if partition not in self._holdings or partition.alerts_end != end:
                return
            partition.agreed = end
            partition.reconciled = True
            alerts = await self._engines.run(
                "reconcile", partition.engine.reconcile, earlier, partition.published
            )
            partition.published.clear()
            await self._judging.publish(partition, alerts, None)
            if alerts:
                log.info(
                    "partition %d: corrects %d alerts of %d published before",
                    partition.number,
                    len(alerts),
                    len(earlier),
                    extra={"partition": partition.number},
                )

    async def _adopt(self, partition: Partition) -> None:
        """Switches a partition to the published rulebook, and takes a checkpoint that contains it."""
        async with self._holdings.checkpoint_lock, self._holdings.engine_lock:
            if partition not in self._holdings:
                return
            partition.rulebook = self._published.rulebook
            alerts = await self._engines.run(
                "adopt",
                partition.engine.adopt,
                applied(partition.rulebook, self._rules),
            )

            await self._judging.publish(partition, alerts, None)
            await self._checkpoints.take(partition)
            log.info(
                "partition %d adopts another rulebook",
                partition.number,
                extra={"partition": partition.number},
            )

    async def _save(self, partition: Partition) -> None:
        """Takes a checkpoint; the partition goes on being judged while it is written."""
        checkpoint_lock = self._holdings.checkpoint_lock
        async with checkpoint_lock, self._checkpoints.span(partition):
            async with self._holdings.engine_lock:
                if partition not in self._holdings:
                    return
                captured = await self._checkpoints.capture(partition)
            await self._checkpoints.write(partition, captured)


def _score_messages(feed: ScoreFeed) -> list[Outgoing]:
    """A portion of the scores that are settled, as messages."""
    return [encode_scores(row) for row in feed.settled(PORTION_ROWS)]


def _alerts_of(records: Sequence[ConsumerRecord]) -> list[Alert]:
    return [alert for record in records if (alert := alert_of(record))]
