"""What of the records of a partition is judged, and what is rejected before."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import NamedTuple

import numpy as np
from aiokafka.partitioner import murmur2

from detectors.engine import Engine
from models.index import FREE_PAIR
from models.registry import Registry
from schemas.columns import Batch, DeviceEvents, Mask, Payments, Stages
from schemas.master import Area
from schemas.wire import Message, Reason, Rejection, decode_areas
from streams.fetched import Damage, Record
from streams.metrics import Metrics
from streams.settings import Settings

KNOWN_AREAS = 1 << 20  # whose partitions are kept at hand
LOG_INTERVAL_SECONDS = 60.0  # seconds between two lines of the log on one thing
UNKNOWN_METERS = "unknown meters"
Decode = Callable[[Sequence[Message]], tuple[Batch | None, list[Rejection]]]
Rejected = Mapping[str, tuple[Reason, str]]  # by area, why and in words
log = logging.getLogger("meterwatch")


class Decoded(NamedTuple):
    """Records as rows, which of these may be judged (None: all), and what is refused."""

    batch: Batch | None
    accepted: Mask | None
    rejections: list[Rejection]


class _AreaMembers(NamedTuple):
    """Whom a record of the registry has."""

    area: Area
    meters: frozenset[str]
    customers: frozenset[str]


class Intake:
    """Holds rows against the partition they came in and against the registry."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        # by partition and reason, when the log had a line last
        self._warned_at: dict[tuple[int, str], float] = {}
        self._members: dict[str, _AreaMembers] = {}  # by area

    def decode(
        self, number: int, registry: Registry, decode: Decode, records: Sequence[Record]
    ) -> Decoded:
        """Records of a partition as rows; rows of areas that do not belong there are refused with their messages."""
        messages = messages_of(records)
        batch, refusals = decode(messages)
        if batch is None:
            return Decoded(None, None, refusals)

        misplaced = self._misplaced(number, batch.areas)
        unknown = self._unknown(number, registry, batch, misplaced)
        self._count(number, registry, batch, misplaced)
        rejected = (
            unknown | misplaced if self._settings.misplaced == "reject" else unknown
        )
        if not rejected:
            return Decoded(batch, None, refusals)
        codes = [code for code, area in enumerate(batch.areas) if area in rejected]
        return Decoded(
            batch,
            ~np.isin(batch.area, codes),
            refusals + _rejections(messages, rejected, decode),
        )

    def enroll(
        self, number: int, engine: Engine, records: Sequence[Record]
    ) -> list[Rejection]:
        """Takes the areas of a partition into its engine; what is refused."""
        messages = messages_of(records)
        areas, refusals = decode_areas(messages)
        rejected = self._misplaced(number, [area.area for area in areas])
        if rejected and self._settings.misplaced == "reject":
            areas = [area for area in areas if area.area not in rejected]
            refusals += [
                Rejection(message[1] or b"", *rejected[area.area], index)
                for index, message in enumerate(messages)
                for area in decode_areas([message])[0]
                if area.area in rejected
            ]
        engine.enroll(areas)
        return refusals

    def unknown_meters(self, number: int, engine: Engine) -> int:
        """How many meters are held that no record of the registry has."""
        index = engine.meter_index
        newest = engine.registry.meters.newest[: len(index)]
        unknown = len(index) - len(index.free) - int(np.count_nonzero(newest))
        if unknown > 0 and (number, UNKNOWN_METERS) not in self._warned_at:
            known = {
                slot
                for slots in list(engine.registry.members.values())
                for slot in slots
            }
            strangers = (
                pair
                for k, pair in enumerate(index.pairs)
                if k not in known and pair != FREE_PAIR
            )
            area, meter = next(strangers, FREE_PAIR)
            detail = f"{unknown} meters are in no record of the registry, such as {meter} of {area}"
            self._warn(number, UNKNOWN_METERS, detail, silence=inf)
        return max(unknown, 0)

    def _misplaced(
        self, number: int, areas: Iterable[str]
    ) -> dict[str, tuple[Reason, str]]:
        """The areas that belong to another partition."""
        partitions = self._settings.partitions
        found = {
            area: home
            for area in areas
            if (home := partition_of(area, partitions)) != number
        }
        told = {
            area: (
                Reason.WRONG_PARTITION,
                f"{area} belongs to partition {home} by Kafka's murmur2, not to {number}",
            )
            for area, home in found.items()
        }
        for reason, detail in told.values():
            self._warn(number, reason, detail)
        return told

    def _unknown(
        self, number: int, registry: Registry, batch: Batch, misplaced: Rejected
    ) -> dict[str, tuple[Reason, str]]:
        """The other areas that are rejected for the registry has none of them; a section of work needs no record."""
        if isinstance(batch, Stages) or self._settings.unknown_area == "judge":
            return {}
        strangers = [
            area
            for area in batch.areas
            if area not in registry.areas and area not in misplaced
        ]
        if strangers:
            detail = f"the registry has no record of {len(strangers)} areas, such as {strangers[0]}"
            self._warn(number, Reason.NO_AREA, detail)
        return {
            area: (Reason.NO_AREA, f"the registry has no record of area {area}")
            for area in strangers
        }

    def _count(
        self, number: int, registry: Registry, batch: Batch, misplaced: Rejected
    ) -> None:
        """Counts rows of areas that belong elsewhere, and events and payments of nobody whom the registry has."""
        if misplaced:
            codes = [code for code, area in enumerate(batch.areas) if area in misplaced]
            self._metrics.misplaced.labels(batch.kind).inc(
                int(np.count_nonzero(np.isin(batch.area, codes)))
            )
        if not isinstance(batch, (DeviceEvents, Payments)):
            return
        pairs, rows = np.unique(
            batch.area.astype(np.int64) << 32 | batch.subject, return_counts=True
        )
        for pair, count in zip(pairs.tolist(), rows.tolist(), strict=True):
            area, subject = batch.areas[pair >> 32], batch.names[pair & 0xFFFFFFFF]
            if subject and subject not in self._members_of(
                registry, area, customers=isinstance(batch, Payments)
            ):
                self._metrics.unknown_rows.labels(batch.kind).inc(count)
                what = f"{batch.kind} of {subject} of {area}, whom no record of the registry has"
                self._warn(number, f"unknown {batch.kind}", what, silence=inf)

    def _members_of(
        self, registry: Registry, name: str, *, customers: bool
    ) -> frozenset[str]:
        """The meters or customers that the registry has of an area."""
        if (area := registry.areas.get(name)) is None:
            return frozenset()
        roll = self._members.get(name)
        if roll is None or roll.area is not area:
            meters, owners = (
                frozenset(getattr(m, field) for m in area.meters)
                for field in ("meter", "customer")
            )
            roll = self._members[name] = _AreaMembers(
                area, meters | {area.gateway}, owners
            )
        return roll.customers if customers else roll.meters

    def _warn(
        self,
        number: int,
        reason: str,
        detail: str,
        *,
        silence: float = LOG_INTERVAL_SECONDS,
    ) -> None:
        now = time.monotonic()
        if now - self._warned_at.get((number, reason), -inf) >= silence:
            self._warned_at[number, reason] = now
            log.warning("partition %d, %s: %s", number, reason, detail)


@lru_cache(maxsize=KNOWN_AREAS)
def partition_of(area: str, partitions: int) -> int:
    """The partition of a key as Kafka's Java clients have it.

    >>> [partition_of(area, 8) for area in ("A1", "A2", "台区")]
    [3, 4, 1]
    """
    return (murmur2(area.encode()) & 0x7FFFFFFF) % partitions


def _rejections(
    messages: Sequence[Message], rejected: Rejected, decode: Decode
) -> list[Rejection]:
    """The messages that have rows of rejected areas, each with how many."""
    refusals: list[Rejection] = []
    for index, message in enumerate(messages):
        key, value = message[:2]
        if key and key.decode(errors="replace") not in rejected:
            continue
        batch, _ = decode([message])
        if batch is None:
            continue
        for code, area in enumerate(batch.areas):
            if area in rejected and (rows := int(np.count_nonzero(batch.area == code))):
                reason, detail = rejected[area]
                reason = (
                    Reason.NO_KEY
                    if reason is Reason.WRONG_PARTITION and not key
                    else reason
                )
                refusals.append(Rejection(value or b"", reason, detail, index, rows))
    return refusals


def rejections_of(damage: Sequence[Damage]) -> list[Rejection]:
    """What `rejects` is given of what could not be read; a row for each offset, for nobody knows how many it had."""
    return [
        Rejection(
            broken.value,
            broken.reason,
            broken.detail,
            index,
            broken.last - broken.offset + 1,
        )
        for index, broken in enumerate(damage)
    ]


def split_damage(records: list[Record]) -> tuple[list[Record], list[Damage]]:
    """The records that could be read, and the damage between them."""
    if Damage not in set(map(type, records)):
        return records, []
    damage = [record for record in records if isinstance(record, Damage)]
    return [record for record in records if not isinstance(record, Damage)], damage


def messages_of(records: Sequence[Record]) -> list[Message]:
    """The records for a decoder; most have the headers of the one before."""
    messages: list[Message] = []
    headers: Sequence[tuple[str, bytes | None]] = ()
    content_type = ""
    for record in records:
        if (told := record.headers) != headers:
            headers, content_type = told, _content_type(told)
        messages.append(
            (record.key, record.value, content_type, (record.timestamp or 0) // 1000)
        )
    return messages


def _content_type(headers: Sequence[tuple[str, bytes | None]]) -> str:
    for name, value in headers:
        if name == "content-type":
            return (value or b"").decode("ascii", "replace")
    return ""
