"""The partitions that a worker holds, and whether the group has assigned it others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import TopicPartition

from schemas.topics import REGISTRY_TOPIC, SOURCE_TOPICS
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.partitions import Partition
from streams.settings import Settings


class Holdings:
    """The partitions of this worker by number, and the locks over them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # By a topic's name on the brokers, its name without the prefix.
        self.topics = {
            settings.topic(name): name for name in (REGISTRY_TOPIC, *SOURCE_TOPICS)
        }
        self.partitions: dict[int, Partition] = {}

        # Partition numbers; None while the group changes hands.
        self._assigned: set[int] | None = None
        self._changed_at = time.monotonic()

        # Held by whoever changes an engine or `partitions`.
        self.engine_lock = asyncio.Lock()
        # Held while a checkpoint is written; taken before the engine lock.
        self.checkpoint_lock = asyncio.Lock()

    def __contains__(self, partition: Partition) -> bool:
        """True while a partition is held; it may have been handed over and taken over anew."""
        return self.partitions.get(partition.number) is partition

    def expect(self, assigned: set[int] | None) -> None:
        """Notes which partitions the group assigns from now on; None while it changes hands."""
        self._assigned = assigned
        self._changed_at = time.monotonic()

    def note_silence(self, seconds: float) -> None:
        """Has the time in which no broker answers not count as waiting for the group."""
        self._changed_at += seconds

    @property
    def settled(self) -> bool:
        """True while this worker holds the partitions that the group assigns it."""
        return self._assigned == set(self.partitions)

    @property
    def waits_for(self) -> str:
        """What has to happen before this worker holds its partitions."""
        if self._assigned is None:
            return f"the group `{self._settings.group}` has given this worker no partitions yet"
        return f"partitions {sorted(self._assigned)} are not taken over yet"

    def check_assignment(self) -> None:
        """Ends the process when it does not get the partitions it is assigned."""
        waited = time.monotonic() - self._changed_at
        if self.settled or waited <= self._settings.stall_seconds:
            return
        fault = f"for {waited:.0f} s the group `{self._settings.group}` has given this worker no partitions"
        if self._assigned is not None:
            fault = (
                f"after {waited:.0f} s this worker holds partitions {sorted(self.partitions)}, "
                f"and the group has given it {sorted(self._assigned)}"
            )
        fatal(fault, ExitCode.GROUP)

    def offsets_of(
        self, partition: Partition, offsets: Mapping[TopicPartition, int]
    ) -> dict[str, int]:
        """The offsets of a partition, by topic."""
        return {
            self.topics[tp.topic]: offset
            for tp, offset in offsets.items()
            if tp.partition == partition.number
        }
