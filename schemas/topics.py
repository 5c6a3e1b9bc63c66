"""Every topic, declared once: its records and their key, who writes and reads it, and how the brokers keep it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from msgspec import Struct

from schemas.alert import Alert
from schemas.columns import Batch, DeviceEvents, Payments, Readings, Stages
from schemas.inspection import Inspection
from schemas.master import Area
from schemas.rules import Rulebook
from schemas.scores import MeterScores
from schemas.wire.records import (
    FRAME_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    RECORD_TYPES,
    Frame,
)
from schemas.wire.rejection import Reason

READS_TOPIC = "meter.reads"
EVENTS_TOPIC = "meter.events"
PAYMENTS_TOPIC = "payments"
WORKFLOW_TOPIC = "workflow"
REGISTRY_TOPIC = "registry"
RULES_TOPIC = "rules"
ALERTS_TOPIC = "alerts"
SCORES_TOPIC = "scores"
INSPECTIONS_TOPIC = "inspections"
REJECTS_TOPIC = "rejects"
CHECKPOINTS_TOPIC = "checkpoints"

BINARY_CONTENT_TYPE = "application/octet-stream"
LARGEST_RECORD = 16 << 20  # bytes; a larger value would be lost to `rejects`
LARGEST_REJECT = 1 << 20  # bytes of a value on `rejects`
NO_ENTRIES: Mapping[str, str] = MappingProxyType({})
COMPACT_CONFIG = {"cleanup.policy": "compact"}
LARGE_CONFIG = {"max.message.bytes": str(LARGEST_RECORD)}
# The broker's clock, for a producer's may be wrong.
RECEIPT_TIME_CONFIG = {"message.timestamp.type": "LogAppendTime"}
# Old checkpoints are deleted soon.
BRISK_CONFIG = {"segment.bytes": str(64 << 20), "min.cleanable.dirty.ratio": "0.2"}


class Payload(NamedTuple):
    """A form that the value of a record may have."""

    name: str
    summary: str
    record: type[Struct] | None = None  # None for bytes
    is_array: bool = False
    content_type: str = JSON_CONTENT_TYPE
    headers: Mapping[str, str] = (
        NO_ENTRIES  # beside the content type, with their meaning
    )


class Topic(NamedTuple):
    """A topic as it should be."""

    name: str
    title: str
    key: str
    payloads: tuple[Payload, ...]
    actions: tuple[Literal["receive", "send"], ...] = ("receive",)  # of a worker
    kind: type[Batch] | None = None  # of the rows that it brings to be judged
    single: bool = False  # one partition, else as many as the settings say
    config: Mapping[str, str] = NO_ENTRIES  # of the brokers

    @property
    def compacted(self) -> bool:
        """True if the brokers keep only the newest record of each key."""
        return self.config.get("cleanup.policy") == "compact"


def _source(
    name: str,
    title: str,
    kind: type[Batch],
    one: tuple[str, str],
    many: str,
    *others: Payload,
    key: str = "Transformer area",
) -> Topic:
    """A topic of rows to be judged, in JSON: one record, or an array of them."""
    record, summary = one
    payloads = (
        Payload(record, summary, RECORD_TYPES[kind]),
        Payload(f"{record}s", many, RECORD_TYPES[kind], is_array=True),
        *others,
    )
    config = LARGE_CONFIG | RECEIPT_TIME_CONFIG
    return Topic(name, title, key, payloads, kind=kind, config=config)


ALL_TOPICS = (
    _source(
        READS_TOPIC,
        "Readings",
        Readings,
        ("reading", "One reading"),
        "Readings of one area",
        Payload(
            "frame",
            "Readings of one area, packed",
            Frame,
            content_type=FRAME_CONTENT_TYPE,
        ),
    ),
    _source(
        EVENTS_TOPIC,
        "Device events",
        DeviceEvents,
        ("event", "One device event"),
        "Device events of one area",
    ),
    _source(
        PAYMENTS_TOPIC,
        "Bills, payments, top-ups, balances",
        Payments,
        ("payment", "One bill, payment, top-up or balance"),
        "Bills, payments, top-ups, balances of one area",
    ),
    _source(
        WORKFLOW_TOPIC,
        "Work items enter and leave stages",
        Stages,
        ("stage", "One stage event"),
        "Stage events of one section",
        key="Section",
    ),
    Topic(
        REGISTRY_TOPIC,
        "Master data, the newest of each area",
        "Transformer area",
        (
            Payload(
                "area",
                "An area with all that hangs on it; a record without value is ignored",
                Area,
            ),
        ),
        config=COMPACT_CONFIG | LARGE_CONFIG,
    ),
    Topic(
        RULES_TOPIC,
        "Published settings of rules, all in one value",
        "`rules`",
        (
            Payload(
                "rulebook",
                "The editions of all rules that are not as in code; the newest valid one is in force",
                Rulebook,
            ),
        ),
        single=True,
        config=COMPACT_CONFIG,
    ),
    Topic(
        ALERTS_TOPIC,
        "Alerts, the newest state of each",
        "Alert",
        (
            Payload(
                "alert",
                "The latest change of an episode",
                Alert,
                headers={
                    "ce_specversion": "CloudEvents version, 1.0",
                    "ce_id": "Alert id and revision",
                    "ce_source": "/meterwatch",
                    "ce_type": "meterwatch.alert. and the change",
                    "ce_time": "Event time of the change, RFC 3339",
                    "ce_subject": "Subject of the alert",
                    "traceparent": "W3C trace context of the record that changed it, or of a span of the worker",
                },
            ),
        ),
        actions=("send",),
        config=COMPACT_CONFIG,
    ),
    Topic(
        SCORES_TOPIC,
        "Daily scores of meters, if `scores` is set",
        "Transformer area",
        (
            Payload(
                "meter_scores",
                "The scores of a meter's day that can no longer change; a worker that restarts may repeat it",
                MeterScores,
            ),
        ),
        actions=("send",),
    ),
    Topic(
        INSPECTIONS_TOPIC,
        "What was found on site, the newest of each finding; for the archive",
        "Inspection",
        (
            Payload(
                "inspection",
                "A finding and its verdict; a record without value withdraws it",
                Inspection,
            ),
        ),
        config=COMPACT_CONFIG,
    ),
    Topic(
        REJECTS_TOPIC,
        "Rejected values",
        "As in the source topic",
        (
            Payload(
                "reject",
                "The bytes as they came, the first MiB at most",
                content_type=BINARY_CONTENT_TYPE,
                headers={
                    "reason": "One of: " + ", ".join(Reason),
                    "detail": "What is wrong, for people",
                    "topic": "Source topic",
                    "partition": "Source partition",
                    "offset": "Source offset",
                    "bytes": "Length of the value before it was cut",
                },
            ),
        ),
        actions=("send",),
        single=True,
        config=LARGE_CONFIG,
    ),
    Topic(
        CHECKPOINTS_TOPIC,
        "State of the workers, for them alone",
        "Slot and chunk",
        (
            Payload(
                "checkpoint",
                "A chunk of an engine's state, or the manifest of its chunks",
                content_type=BINARY_CONTENT_TYPE,
                headers={
                    "set": "Names the chunks that belong together",
                    "since": "Offset where the last whole checkpoint begins",
                    "checksum": "CRC-32 of the manifest",
                },
            ),
        ),
        actions=("send", "receive"),
        config=COMPACT_CONFIG | BRISK_CONFIG,
    ),
)

TOPIC_KINDS = {
    topic.name: topic.kind
    for topic in sorted(ALL_TOPICS, key=lambda topic: topic.kind is Readings)
    if topic.kind
}
"""The kind of the rows of each source, in the order in which rows received together are judged: readings last."""
KIND_TOPICS = {kind: name for name, kind in TOPIC_KINDS.items()}
SOURCE_TOPICS = tuple(TOPIC_KINDS)
