"""How far partitions are behind their topics; ends the process when one is stuck or its topic was created anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from detectors.figures import EngineFigures, figures_of
from detectors.section_figures import section_figures_of
from schemas.topics import RULES_TOPIC
from streams.kafka.answers import answered, without_leader
from streams.kafka.deleted_records import DeletedRecords
from streams.kafka.engine_thread import EngineThread
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.holdings import Holdings
from streams.kafka.intake import Intake
from streams.kafka.liveness import BEAT_SECONDS, Liveness
from streams.kafka.metrics import Metrics
from streams.kafka.partitions import Partition
from streams.kafka.readers import UnansweredError, reader
from streams.kafka.topic_identity import created_anew
from streams.settings import Settings

OFFSETS_ANSWER_SECONDS = 5.0  # that the brokers have to say where partitions end
NO_OFFSETS: Mapping[str, int] = MappingProxyType({})
log = logging.getLogger("meterwatch")


class LagMonitor:
    """Measures the lag of the partitions held, and brings the metrics up to date."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        holdings: Holdings,
        engines: EngineThread,
        intake: Intake,
        liveness: Liveness,
        deleted: DeletedRecords,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._holdings = holdings
        self._engines = engines
        self._intake = intake
        self._liveness = liveness
        self._deleted = deleted
        # Partitions with a topic that may have been created anew since it was judged.
        self._suspects: set[int] = set()
        self._beat = 0
        self._figures: dict[int, EngineFigures] = {}  # by partition

    def begun_again(self, tp: TP, due: int, begins: int) -> None:
        """Suspects that a topic was created anew: it has no record at the offset that was due."""
        log.warning(
            "`%s`, partition %d begins again at %d, and %d was due",
            tp.topic,
            tp.partition,
            begins,
            due,
            extra={"topic": tp.topic, "partition": tp.partition, "offset": due},
        )
        self._suspects.add(tp.partition)

    async def monitor_lag(self) -> NoReturn:
        """Measures lag, and ends the process when there is no progress."""
        # Asked about while this worker has no partition.
        rules_tps = [TopicPartition(self._settings.topic(RULES_TOPIC), 0)]
        uncommitted = reader(self._settings, isolation="read_uncommitted")
        async with reader(self._settings) as stable, uncommitted as whole:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                self._holdings.check_assignment()
                partitions = list(self._holdings.partitions.values())
                tps = [
                    TopicPartition(topic, partition.number)
                    for partition in partitions
                    for topic in self._holdings.topics
                ]

                began = time.monotonic()
                try:
                    ends = await answered(
                        stable.end_offsets(tps or rules_tps), OFFSETS_ANSWER_SECONDS
                    )
                    high_watermarks = await answered(
                        whole.end_offsets(tps or rules_tps), OFFSETS_ANSWER_SECONDS
                    )
                    first = await answered(
                        stable.beginning_offsets(tps or rules_tps),
                        OFFSETS_ANSWER_SECONDS,
                    )
                except KafkaError:
                    waited = min(time.monotonic() - began, OFFSETS_ANSWER_SECONDS)
                    leaderless = without_leader(stable, tps)
                    self._liveness.note_silence(BEAT_SECONDS + waited, leaderless)
                    self._holdings.note_silence(BEAT_SECONDS + waited)
                    continue
                self._liveness.note_answer()

                await self._check_suspects(first, high_watermarks)
                for partition in partitions:
                    self.check_progress(
                        partition,
                        self._holdings.offsets_of(partition, ends),
                        self._holdings.offsets_of(partition, high_watermarks),
                    )
                    await self._deleted.skip_stranded(
                        partition, self._holdings.offsets_of(partition, first)
                    )
                await self._count_held()

    async def _check_suspects(
        self, first: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> None:
        """Ends the process when a suspected topic was created anew since it was judged."""
        suspects = {
            number: partition
            for number, partition in self._holdings.partitions.items()
            if number in self._suspects
        }
        self._suspects.clear()

        with contextlib.suppress(KafkaError, UnansweredError):
            suspect_ends = {
                tp: end
                for tp, end in ends.items()
                if tp.partition in suspects and tp.topic in self._holdings.topics
            }
            changes = await created_anew(
                self._settings, self._holdings.topics, suspects, first, suspect_ends
            )
            for change in changes.values():
                fatal(change, ExitCode.TOPIC)

    def check_progress(
        self,
        partition: Partition,
        ends: Mapping[str, int],
        high_watermarks: Mapping[str, int] = NO_OFFSETS,
    ) -> None:
        """Notes where a partition's topics end, as committed and as written; ends the process if it is stuck."""
        if partition not in self._holdings:
            return

        still = partition.note_ends(ends, high_watermarks, busy=self._engines.busy)
        if still > self._settings.stall_seconds:
            waiting = sum(partition.lags.values())
            fatal(
                f"partition {partition.number} has {waiting} records waiting and has not moved for {still:.0f} s: "
                f"{partition.lags}",
                ExitCode.STALLED,
            )

        topic = self._settings.topic
        oldest = partition.oldest_waiting()
        self._metrics.partitions.measured(
            partition.number,
            {topic(name): lag for name, lag in partition.lags.items()},
            {topic(name): came for name, came in oldest.items()},
        )
        self.count(partition)

    async def _count_held(self) -> None:
        """Brings the metrics of all partitions together up to date."""
        held = self._holdings.partitions
        opened: Counter[tuple[str, int]] = Counter()
        ages: Counter[str] = Counter()
        for number in held.keys() & self._figures.keys():
            opened += self._figures[number].open_alerts
            ages += self._figures[number].open_ages
        self._metrics.opened(opened, ages)
        waiting = sum(partition.backlog.size for partition in held.values())
        self._metrics.waiting_bytes.set(waiting)
        if held:
            # One partition a beat: the cost goes with its areas.
            self._beat += 1
            number = sorted(held)[self._beat % len(held)]
            await self.count_sections(held[number])

    async def count_sections(self, partition: Partition) -> None:
        """Brings the figures of a partition's sections up to date, unless it is handed over meanwhile."""
        figures = await asyncio.to_thread(section_figures_of, partition.engine)
        if partition in self._holdings:
            self._metrics.sections.note(
                partition.number, figures, partition.counted_sums
            )

    def count(self, partition: Partition) -> None:
        """Brings the metrics up to the counts of the engine."""
        engine, number = partition.engine, partition.number
        # Copied once, for the engine's thread counts on.
        counted_rows = Counter(engine.counts)
        counted_alerts = Counter(engine.alert_counts)
        self._metrics.count(counted_rows - partition.counted_rows)
        self._metrics.count_alerts(counted_alerts - partition.counted_alerts)
        partition.counted_rows = counted_rows
        partition.counted_alerts = counted_alerts

        figures = figures_of(engine)
        self._metrics.count_rules(figures.rules.since(partition.counted_rules))
        partition.counted_rules = figures.rules
        self._figures[number] = figures

        gauges = self._metrics.partitions
        unknown = self._intake.unknown_meters(number, engine)
        gauges.contains(number, figures, unknown)
        for name, model in engine.judges.models().items():
            gauges.drifted(number, name, model.drifted)
        gauges.in_force(number, partition.rulebook)
        written = partition.written
        gauges.saved(number, written.taken, written.size, has_unsaved=partition.unsaved)
