"""The topics on the brokers: their creation, and their partitions and settings as found there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from msgspec import Struct

from schemas.topics import (
    ALERTS_TOPIC,
    ALL_TOPICS,
    COMPACT_CONFIG,
    RECEIPT_TIME_CONFIG,
    Topic,
)
from streams.kafka.answers import ANSWER_SECONDS, answered
from streams.kafka.readers import unanswered
from streams.kafka.rights import TOPICS_RIGHTS, CommandRights, described, missing_rights
from streams.settings import Settings

CHECKED_CONFIGS = COMPACT_CONFIG.keys() | RECEIPT_TIME_CONFIG.keys()
FORBIDDEN_CODES = (
    TopicAuthorizationFailedError.errno,
    ClusterAuthorizationFailedError.errno,
)


class TopicError(ValueError):
    """Topics differ from the settings, or the brokers do not create them; says what to do."""


class TopicState(Struct, frozen=True):
    """A topic as it is."""

    topic: str
    partitions: int
    state: Literal["there", "created"]


async def ensure(
    settings: Settings, needs: CommandRights = TOPICS_RIGHTS
) -> list[TopicState]:
    """Creates missing topics and checks the others, of those needed. Raises TopicError and UnansweredError."""
    admin = AIOKafkaAdminClient(**settings.client())
    try:
        await answered(admin.start())
        return await answered(
            _ensure(admin, settings, needs), len(needs.topics) * ANSWER_SECONDS
        )
    except KafkaError as error:
        raise await unanswered(settings, error) from None
    finally:
        await answered(admin.close())


async def _ensure(
    admin: AIOKafkaAdminClient, settings: Settings, needs: CommandRights
) -> list[TopicState]:
    """Compares the topics with the settings and creates missing ones. Raises TopicError."""
    needed = [topic for topic in ALL_TOPICS if topic.name in needs.topics]
    counts = {
        settings.topic(topic.name): 1 if topic.single else settings.partitions
        for topic in needed
    }
    topics = await described(admin, counts)
    if missing := await missing_rights(admin, settings, needs, topics):
        raise TopicError(
            f"this user may not {missing}. docs/security.md lists the rights that each command needs"
        )
    there = {
        topic["topic"]: len(topic["partitions"])
        for topic in topics
        if not topic["error_code"]
    }
    wrong = [
        f"`{name}` has {there[name]} partitions, not {count}"
        for name, count in counts.items()
        if there.get(name, count) != count
    ]
    if wrong:
        raise TopicError(
            "; ".join(wrong)
            + ". State, checkpoints and keys belong to a partition: set `partitions` to what is "
            "there, or use another `prefix` and send the history again."
        )

    await _check_configs(
        admin,
        settings,
        [topic for topic in needed if settings.topic(topic.name) in there],
    )
    missing_topics = []
    for topic in needed:
        name = settings.topic(topic.name)
        if name not in there:
            config = dict(topic.config)
            new = NewTopic(
                name, counts[name], settings.replication, topic_configs=config
            )
            missing_topics.append(new)
    if missing_topics:
        await _create(admin, missing_topics)
    return [
        TopicState(name, count, "there" if name in there else "created")
        for name, count in counts.items()
    ]


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    """Creates topics, unless another worker was faster. Raises TopicError."""
    answer = await admin.create_topics(topics)
    for name, code, reason in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            may_not = code in FORBIDDEN_CODES
            advice = "; run `meterwatch topics` as a user who may" if may_not else ""
            raise TopicError(
                f"`{name}` cannot be created: {reason or for_code(code).__name__}{advice}"
            )


async def _check_configs(
    admin: AIOKafkaAdminClient, settings: Settings, topics: Sequence[Topic]
) -> None:
    """Raises TopicError if topics do not take the broker's clock, or are not compacted where they must be."""
    asked = [
        ConfigResource(
            ConfigResourceType.TOPIC,
            settings.topic(topic.name),
            {name: "" for name in CHECKED_CONFIGS if name in topic.config},
        )
        for topic in topics
        if CHECKED_CONFIGS & topic.config.keys()
    ]
    answers = await admin.describe_configs(asked) if asked else []
    by_producer: list[str] = []
    emptied: list[str] = []
    for answer in answers:
        for _code, _reason, _kind, topic, found in answer.resources:
            for name, value, *_ in found:
                if name in RECEIPT_TIME_CONFIG and value != RECEIPT_TIME_CONFIG[name]:
                    by_producer.append(f"`{topic}`")
                elif name in COMPACT_CONFIG and value != COMPACT_CONFIG[name]:
                    may_expire = topic == settings.topic(ALERTS_TOPIC)
                    if not (may_expire and COMPACT_CONFIG[name] in value.split(",")):
                        emptied.append(f"`{topic}`")

    if by_producer:
        raise TopicError(
            f"{', '.join(by_producer)} keep the producers' times: "
            "set their message.timestamp.type to LogAppendTime, for example with kafka-configs.sh"
        )
    if emptied:
        raise TopicError(
            f"{', '.join(emptied)} are not compacted alone, so retention deletes what is in force: "
            "set their cleanup.policy to compact, for example with kafka-configs.sh"
        )
