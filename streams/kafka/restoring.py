"""Partitions as they are taken over: engines from checkpoints, offsets behind them, and master data."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from detectors.engine import Engine
from detectors.rulebook import applied, problems, rules_of
from detectors.snapshots import SnapshotError
from schemas.topics import CHECKPOINTS_TOPIC, REGISTRY_TOPIC
from streams.kafka import checkpoints
from streams.kafka.alerts import alert_partition
from streams.kafka.checkpoints import (
    CheckpointError,
    PartitionProgress,
    TopicChangedError,
    WrittenCheckpoint,
)
from streams.kafka.deleted_records import DeletedRecords
from streams.kafka.engine_thread import EngineThread
from streams.kafka.holdings import Holdings
from streams.kafka.judging import Judging
from streams.kafka.metrics import Metrics
from streams.kafka.partitions import Partition
from streams.kafka.readers import read_to_end
from streams.kafka.rulebooks import PublishedRulebook
from streams.kafka.topic_identity import created_anew
from streams.settings import Settings

log = logging.getLogger("meterwatch")


class Restoring:
    """Restores partitions, so that judging goes on where their last owner left off."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        holdings: Holdings,
        engines: EngineThread,
        published: PublishedRulebook,
        judging: Judging,
        deleted: DeletedRecords,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._holdings = holdings
        self._engines = engines
        self._published = published
        self._judging = judging
        self._deleted = deleted
        self._rules = rules_of(settings.voltage_limits)

    async def restore(
        self,
        consumer: AIOKafkaConsumer,
        asked: AIOKafkaConsumer,
        numbers: Sequence[int],
        handed_over: Mapping[int, Partition],
    ) -> dict[int, Partition]:
        """The partitions as of their checkpoints, or as they were handed over if nobody took them since.

        `asked` fetches nothing, so it answers at once where topics begin and end.
        """
        tps = [
            TopicPartition(topic, number)
            for topic in self._holdings.topics
            for number in numbers
        ]
        alert_tps = [alert_partition(self._settings, number) for number in numbers]
        found, first = await asyncio.gather(
            checkpoints.newest(
                consumer,
                self._settings.topic(CHECKPOINTS_TOPIC),
                numbers,
                {number: kept.written for number, kept in handed_over.items()},
                self._settings.partitions,
            ),
            asked.beginning_offsets([*tps, *alert_tps]),
        )
        ends = await asked.end_offsets(tps)
        alert_ends = await asked.end_offsets(alert_tps)

        until = int(time.time()) if self._settings.clock == "wall" else 0
        partitions: dict[int, Partition] = {}
        for number in numbers:
            if number in found:
                partition = await self._engines.run(
                    "restore", self._restored_partition, number, found[number]
                )
            else:
                partition = handed_over[number]
            partitions[number] = partition
            partition.resume(
                self._holdings.offsets_of(partition, ends),
                alert_ends[alert_partition(self._settings, number)],
                until,
            )

        await self._read_on(partitions, first, ends)
        await self._read_registry(consumer, partitions, first, ends)
        return partitions

    async def _read_registry(
        self,
        consumer: AIOKafkaConsumer,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Enrolls the master data of partitions from the beginning of the registry."""
        topic = self._settings.topic(REGISTRY_TOPIC)
        starts = {
            tp: first[tp]
            for tp in (TopicPartition(topic, number) for number in partitions)
        }
        async for tp, records in read_to_end(consumer, starts):
            await self._judging.enroll(partitions[tp.partition], records)
        for tp in starts:
            partitions[tp.partition].start(REGISTRY_TOPIC, ends[tp])

    async def _read_on(
        self,
        partitions: Mapping[int, Partition],
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> None:
        """Sets each source topic to the offset after the checkpoint. Raises CheckpointError."""
        changes = await created_anew(
            self._settings, self._holdings.topics, partitions, first, ends
        )
        for tp in ends:
            topic = self._holdings.topics[tp.topic]
            if topic == REGISTRY_TOPIC:
                continue
            partition = partitions[tp.partition]
            contained = partition.judged.get(topic)
            # The metric shows 0 from now on.
            self._metrics.deleted_offsets.labels(tp.topic, str(tp.partition))

            if contained is None:
                partition.start(topic, first[tp])
            elif change := changes.get(tp):
                if self._settings.topic_changed == "stop":
                    raise TopicChangedError(change)
                log.warning("%s; it is judged from its beginning", change)
                partition.start_anew(topic, first[tp])
            else:
                partition.start(topic, max(contained, first[tp]))
                await self._deleted.note(partition, topic, contained, first[tp])

    def _restored_partition(
        self, number: int, checkpoint: checkpoints.Checkpoint | None
    ) -> Partition:
        """A partition with the engine of a checkpoint; with a new engine if there is none."""
        rulebook = (
            checkpoint.manifest.rulebook if checkpoint else self._published.rulebook
        )
        engine = Engine(
            applied(rulebook, self._rules),
            zone=self._settings.zone,
            interval=self._settings.interval,
            keeps_scores=self._settings.scores,
        )
        if checkpoint is None:
            return Partition(number, engine, {}, WrittenCheckpoint(), rulebook)

        for fault in problems(rulebook):
            log.error(
                "partition %d: this version has other rules, and judges as in code: %s",
                number,
                fault,
                extra={"partition": number},
            )

        try:
            afresh = engine.restore(checkpoint.state)
        except SnapshotError as error:
            raise CheckpointError(
                f"partition {number}: {error}. {checkpoints.START_AFRESH}"
            ) from error

        for owner in afresh:
            self._metrics.reset.labels(owner).inc()
        if afresh:
            log.warning(
                "partition %d: the checkpoint was written by another version; these start afresh, and rules that wait "
                "for them cannot tell yet: %s",
                number,
                ", ".join(afresh),
                extra={"partition": number},
            )

        manifest = checkpoint.manifest
        written = WrittenCheckpoint(
            manifest.sequence,
            manifest.set,
            checkpoint.begins,
            manifest.taken,
            len(checkpoint.state),
            manifest.agreed,
        )
        progress = PartitionProgress(
            manifest.begun, manifest.paces, manifest.marks, manifest.epoch
        )
        return Partition(number, engine, manifest.offsets, written, rulebook, progress)
