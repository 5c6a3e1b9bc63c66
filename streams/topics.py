"""The topics: their names, partitions and settings, and how they come to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from msgspec import Struct

from streams.answers import ANSWER_SECONDS, answered
from streams.logs import UnansweredError
from streams.settings import Settings

READS_TOPIC, EVENTS_TOPIC, PAYMENTS_TOPIC, WORKFLOW_TOPIC = (
    "meter.reads",
    "meter.events",
    "payments",
    "workflow",
)
REGISTRY_TOPIC, RULES_TOPIC, ALERTS_TOPIC, REJECTS_TOPIC, CHECKPOINTS_TOPIC = (
    "registry",
    "rules",
    "alerts",
    "rejects",
    "checkpoints",
)
# in the order in which a part takes what came at once
SOURCE_TOPICS = (
    EVENTS_TOPIC,
    PAYMENTS_TOPIC,
    WORKFLOW_TOPIC,
    READS_TOPIC,
)

LARGEST_RECORD = 16 << 20  # bytes; a larger value would be lost to `rejects`
# the broker's clock: a producer's may be wrong
RECEIPT_TIME_CONFIG = {"message.timestamp.type": "LogAppendTime"}
COMPACT_CONFIG = {"cleanup.policy": "compact"}
LARGEST_REJECT = 1 << 20  # bytes of a value that `rejects` is given
LARGE_CONFIG = {"max.message.bytes": str(LARGEST_RECORD)}
# old checkpoints go soon
BRISK_CONFIG = {
    "segment.bytes": str(64 << 20),
    "min.cleanable.dirty.ratio": "0.2",
}


class Topic(NamedTuple):
    """A topic as it should be."""

    name: str
    single: bool = False  # one partition, else as many as the settings say
    config: Mapping[str, str] = MappingProxyType({})


ALL_TOPICS = (
    *(
        Topic(name, config=LARGE_CONFIG | RECEIPT_TIME_CONFIG)
        for name in (READS_TOPIC, EVENTS_TOPIC, PAYMENTS_TOPIC, WORKFLOW_TOPIC)
    ),
    Topic(REGISTRY_TOPIC, config=COMPACT_CONFIG | LARGE_CONFIG),
    Topic(RULES_TOPIC, single=True, config=COMPACT_CONFIG),
    Topic(ALERTS_TOPIC, config=COMPACT_CONFIG),
    Topic(REJECTS_TOPIC, single=True, config=LARGE_CONFIG),
    Topic(CHECKPOINTS_TOPIC, config=COMPACT_CONFIG | BRISK_CONFIG),
)


class TopicError(Exception):
    """Topics that are not as the settings say, or that the brokers do not create; says what to do."""


class TopicState(Struct, frozen=True):
    """A topic as it is."""

    topic: str
    partitions: int
    state: Literal["there", "created"]


async def ensure(settings: Settings) -> list[TopicState]:
    """Creates the topics that are missing and checks the others. Raises TopicError and UnansweredError."""
    admin = AIOKafkaAdminClient(**settings.client())
    try:
        await answered(admin.start())
        return await answered(
            _ensure(admin, settings), len(ALL_TOPICS) * ANSWER_SECONDS
        )
    except KafkaError as error:
        raise UnansweredError(settings, error) from None
    finally:
        await answered(admin.close())


async def _ensure(admin: AIOKafkaAdminClient, settings: Settings) -> list[TopicState]:
    wanted = {
        settings.topic(t.name): (1 if t.single else settings.partitions, t.config)
        for t in ALL_TOPICS
    }
    there = {
        t["topic"]: len(t["partitions"])
        for t in await admin.describe_topics(list(wanted))
        if not t["error_code"]
    }
    wrong = [
        f"`{name}` has {there[name]} partitions, not {count}"
        for name, (count, _) in wanted.items()
        if there.get(name, count) != count
    ]
    if wrong:
        raise TopicError(
            "; ".join(wrong)
            + ". State, checkpoints and keys belong to a partition: set `partitions` to what is "
            "there, or use another `prefix` and send the history again."
        )
    if astray := await _with_producer_times(
        admin, [settings.topic(n) for n in SOURCE_TOPICS if settings.topic(n) in there]
    ):
        raise TopicError(
            f"`{'`, `'.join(astray)}` keep the producers' time stamps: "
            "set their message.timestamp.type to LogAppendTime, for example with kafka-configs.sh"
        )
    missing = [
        NewTopic(name, count, settings.replication, topic_configs=dict(config))
        for name, (count, config) in wanted.items()
        if name not in there
    ]
    if missing:
        answer = await admin.create_topics(missing)
        for name, code, reason in answer.topic_errors:
            # another worker may have been faster
            if code not in (
                0,
                TopicAlreadyExistsError.errno,
            ):
                raise TopicError(
                    f"`{name}` cannot be created: {reason or for_code(code).__name__}"
                )
    return [
        TopicState(name, count, "there" if name in there else "created")
        for name, (count, _) in wanted.items()
    ]


async def _with_producer_times(
    admin: AIOKafkaAdminClient, topics: Sequence[str]
) -> list[str]:
    """Those of the topics, which exist, that do not take the broker's clock."""
    asked = [
        ConfigResource(
            ConfigResourceType.TOPIC, topic, dict.fromkeys(RECEIPT_TIME_CONFIG, "")
        )
        for topic in topics
    ]
    answers = await admin.describe_configs(asked) if asked else []
    return [
        topic
        for answer in answers
        for _code, _reason, _kind, topic, found in answer.resources
        if any(value != RECEIPT_TIME_CONFIG[name] for name, value, *_ in found)
    ]
