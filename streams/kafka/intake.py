"""The intake: decodes the records of a partition, and rejects rows that do not belong there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import NamedTuple

import numpy as np
from aiokafka.partitioner import murmur2

from detectors.engine import Engine
from models.master.registry import Registry
from models.state.index import FREE_PAIR
from schemas.columns import Batch, DeviceEvents, Mask, Payments, Stages
from schemas.master import Area
from schemas.wire import Message, Reason, Rejection, decode, decode_areas
from streams.kafka.metrics import Metrics
from streams.kafka.records import Damage, Record
from streams.settings import Settings

KNOWN_AREAS = 1 << 20  # areas whose partitions are cached
LOG_INTERVAL_SECONDS = 60.0  # seconds between two lines of the log for one reason
UNKNOWN_METERS = "unknown meters"
Rejected = Mapping[str, tuple[Reason, str]]  # by area, the reason and a sentence
log = logging.getLogger("meterwatch")


class Decoded(NamedTuple):
    """Records as rows, a mask of the rows that may be judged (None: all), and the rejections."""

    batch: Batch | None
    accepted: Mask | None
    rejections: list[Rejection]


class _AreaMembers(NamedTuple):
    """The meters and customers of an area's record in the registry."""

    area: Area
    meters: frozenset[str]
    customers: frozenset[str]


class Intake:
    """Checks rows against the partition they came in and against the registry."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        # When the log last had a line, by partition and reason.
        self._warned_at: dict[tuple[int, str], float] = {}
        self._members: dict[str, _AreaMembers] = {}  # by area

    def decode(
        self,
        number: int,
        registry: Registry,
        kind: type[Batch],
        records: Sequence[Record],
    ) -> Decoded:
        """The records of a partition as rows; rows of areas that do not belong there are rejected."""
        messages = messages_of(records)
        batch, rejections = decode(kind, messages)
        if batch is None:
            return Decoded(None, None, rejections)

        misplaced = self._misplaced(number, batch.areas)
        rejected = self._unknown(number, registry, batch, misplaced)
        self._count(number, registry, batch, misplaced)
        if self._settings.misplaced == "reject":
            rejected |= misplaced
        if not rejected:
            return Decoded(batch, None, rejections)

        codes = [code for code, area in enumerate(batch.areas) if area in rejected]
        accepted = ~np.isin(batch.area, codes)
        rejections += _rejections(messages, rejected, kind)
        return Decoded(batch, accepted, rejections)

    def enroll(
        self, number: int, engine: Engine, records: Sequence[Record]
    ) -> list[Rejection]:
        """Enrolls the areas of a partition in its engine; returns the rejections."""
        messages = messages_of(records)
        areas, rejections = decode_areas(messages)
        rejected = self._misplaced(number, [area.area for area in areas])
        if rejected and self._settings.misplaced == "reject":
            areas = [area for area in areas if area.area not in rejected]
            for index, message in enumerate(messages):
                for area in decode_areas([message])[0]:
                    if area.area in rejected:
                        reason, detail = rejected[area.area]
                        value = message[1] or b""
                        rejections.append(Rejection(value, reason, detail, index))
        engine.enroll(areas)
        return rejections

    def unknown_meters(self, number: int, engine: Engine) -> int:
        """The number of meters in the engine that no record of the registry has; the first is logged."""
        index = engine.indexes.meters
        newest = engine.registry.meters.newest[: len(index)]
        unknown = len(index) - len(index.free) - int(np.count_nonzero(newest))
        if unknown > 0 and (number, UNKNOWN_METERS) not in self._warned_at:
            known: set[int] = set()
            for slots in list(engine.registry.members.values()):
                known.update(slots)
            unknown_pairs = (
                pair
                for k, pair in enumerate(index.pairs)
                if k not in known and pair != FREE_PAIR
            )
            area, meter = next(unknown_pairs, FREE_PAIR)
            detail = f"{unknown} meters are in no record of the registry, such as {meter} of {area}"
            self._warn(number, UNKNOWN_METERS, detail, silence=inf)

        return max(unknown, 0)

    def _misplaced(
        self, number: int, areas: Iterable[str]
    ) -> dict[str, tuple[Reason, str]]:
        """The areas that belong to another partition, with the reason; logs them."""
        rejected: dict[str, tuple[Reason, str]] = {}
        for area in areas:
            home = partition_of(area, self._settings.partitions)
            if home != number:
                detail = f"{area} belongs to partition {home} by Kafka's murmur2, not to {number}"
                rejected[area] = (Reason.WRONG_PARTITION, detail)
        for reason, detail in rejected.values():
            self._warn(number, reason, detail)
        return rejected

    def _unknown(
        self, number: int, registry: Registry, batch: Batch, misplaced: Rejected
    ) -> dict[str, tuple[Reason, str]]:
        """The other areas that the registry does not have, with the reason; a section of work needs no record."""
        if isinstance(batch, Stages) or self._settings.unknown_area == "judge":
            return {}
        unknown = [
            area
            for area in batch.areas
            if area not in registry.areas and area not in misplaced
        ]
        if unknown:
            detail = f"the registry has no record of {len(unknown)} areas, such as {unknown[0]}"
            self._warn(number, Reason.NO_AREA, detail)
        return {
            area: (Reason.NO_AREA, f"the registry has no record of area {area}")
            for area in unknown
        }

    def _count(
        self, number: int, registry: Registry, batch: Batch, misplaced: Rejected
    ) -> None:
        """Counts rows of misplaced areas, and events and payments whose subject no record of the registry has."""
        if misplaced:
            codes = [code for code, area in enumerate(batch.areas) if area in misplaced]
            count = int(np.count_nonzero(np.isin(batch.area, codes)))
            self._metrics.misplaced.labels(batch.kind).inc(count)
        if not isinstance(batch, (DeviceEvents, Payments)):
            return

        customers = isinstance(batch, Payments)
        pairs, rows = np.unique(
            batch.area.astype(np.int64) << 32 | batch.subject, return_counts=True
        )
        for pair, count in zip(pairs.tolist(), rows.tolist(), strict=True):
            area = batch.areas[pair >> 32]
            subject = batch.names[pair & 0xFFFFFFFF]
            if not subject:
                continue
            if subject not in self._members_of(registry, area, customers=customers):
                self._metrics.unknown_rows.labels(batch.kind).inc(count)
                detail = f"{batch.kind} of {subject} of {area}, whom no record of the registry has"
                self._warn(number, f"unknown {batch.kind}", detail, silence=inf)

    def _members_of(
        self, registry: Registry, name: str, *, customers: bool
    ) -> frozenset[str]:
        """The meters or customers that the registry has of an area."""
        area = registry.areas.get(name)
        if area is None:
            return frozenset()
        members = self._members.get(name)
        if members is None or members.area is not area:
            meters = frozenset(meter.meter for meter in area.meters)
            owners = frozenset(meter.customer for meter in area.meters)
            members = _AreaMembers(area, meters | {area.gateway}, owners)
            self._members[name] = members
        return members.customers if customers else members.meters

    def _warn(
        self,
        number: int,
        reason: str,
        detail: str,
        *,
        silence: float = LOG_INTERVAL_SECONDS,
    ) -> None:
        """Logs a warning, unless one of its reason was logged within `silence` seconds."""
        now = time.monotonic()
        if now - self._warned_at.get((number, reason), -inf) >= silence:
            self._warned_at[number, reason] = now
            log.warning(
                "partition %d, %s: %s",
                number,
                reason,
                detail,
                extra={"partition": number, "reason": reason},
            )


@lru_cache(maxsize=KNOWN_AREAS)
def partition_of(area: str, partitions: int) -> int:
    """The partition of a key, as Kafka's Java clients compute it.

    >>> [partition_of(area, 8) for area in ("A1", "A2", "台区")]
    [3, 4, 1]
    """
    return (murmur2(area.encode()) & 0x7FFFFFFF) % partitions


def _rejections(
    messages: Sequence[Message], rejected: Rejected, kind: type[Batch]
) -> list[Rejection]:
    """The messages with rows of rejected areas, each with the number of rows."""
    rejections: list[Rejection] = []
    for index, message in enumerate(messages):
        key, value = message[:2]
        if key and key.decode(errors="replace") not in rejected:
            continue
        batch, _ = decode(kind, [message])
        if batch is None:
            continue

        for code, area in enumerate(batch.areas):
            rows = int(np.count_nonzero(batch.area == code)) if area in rejected else 0
            if rows:
                reason, detail = rejected[area]
                if reason is Reason.WRONG_PARTITION and not key:
                    reason = Reason.NO_KEY
                rejections.append(Rejection(value or b"", reason, detail, index, rows))
    return rejections


def rejections_of(damage: Sequence[Damage]) -> list[Rejection]:
    """The rejections of damage: a row for each offset, for the number of lost rows is unknown."""
    return [
        Rejection(
            lost.value, lost.reason, lost.detail, index, lost.last - lost.offset + 1
        )
        for index, lost in enumerate(damage)
    ]


def split_damage(records: list[Record]) -> tuple[list[Record], list[Damage]]:
    """The readable records, and the damage between them."""
    if Damage not in set(map(type, records)):
        return records, []
    damage = [record for record in records if isinstance(record, Damage)]
    return [record for record in records if not isinstance(record, Damage)], damage


def messages_of(records: Sequence[Record]) -> list[Message]:
    """The records for a decoder; most have the headers of the record before."""
    messages: list[Message] = []
    headers: Sequence[tuple[str, bytes | None]] = ()
    content_type = ""
    for record in records:
        if record.headers != headers:
            headers = record.headers
            content_type = _content_type(headers)
        messages.append(
            (record.key, record.value, content_type, (record.timestamp or 0) // 1000)
        )
    return messages


def _content_type(headers: Sequence[tuple[str, bytes | None]]) -> str:
    for name, value in headers:
        if name == "content-type":
            return (value or b"").decode("ascii", "replace")
    return ""
