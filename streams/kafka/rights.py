"""The rights to topics and to the group that a command needs, and whether the brokers grant them to its user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from schemas.topics import (
    ALERTS_TOPIC,
    ALL_TOPICS,
    CHECKPOINTS_TOPIC,
    INSPECTIONS_TOPIC,
    REGISTRY_TOPIC,
    REJECTS_TOPIC,
    RULES_TOPIC,
    SCORES_TOPIC,
    SOURCE_TOPICS,
)
from streams.settings import Settings

ALL_RIGHTS = -1  # every bit: what a broker grants that does not say


class Right(IntEnum):
    """An operation on a topic, by its bit in a broker's answer."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8


class CommandRights(NamedTuple):
    """What a command needs."""

    topics: Mapping[str, Collection[Right]]  # by topic without its prefix
    group: bool = False


def _needs(right: Right, *names: str) -> Mapping[str, Collection[Right]]:
    return MappingProxyType(dict.fromkeys(names, (right,)))


TOPICS_RIGHTS = CommandRights(
    _needs(Right.DESCRIBE, *(topic.name for topic in ALL_TOPICS))
)
SEND_RIGHTS = CommandRights(_needs(Right.WRITE, REGISTRY_TOPIC, *SOURCE_TOPICS))
ALERTS_RIGHTS = CommandRights(_needs(Right.READ, ALERTS_TOPIC))
RULES_RIGHTS = CommandRights(_needs(Right.READ, RULES_TOPIC))
PUBLISH_RIGHTS = CommandRights({RULES_TOPIC: (Right.READ, Right.WRITE)})
VERDICT_RIGHTS = CommandRights(_needs(Right.READ, INSPECTIONS_TOPIC))
ARCHIVE_RIGHTS = CommandRights(
    _needs(Right.READ, REGISTRY_TOPIC, INSPECTIONS_TOPIC, *SOURCE_TOPICS)
)
_KEPT_TOPICS = (
    CHECKPOINTS_TOPIC,
    REGISTRY_TOPIC,
    RULES_TOPIC,
    INSPECTIONS_TOPIC,
    ALERTS_TOPIC,
)
BACKUP_RIGHTS = CommandRights(_needs(Right.READ, *_KEPT_TOPICS))
RESTORE_RIGHTS = CommandRights(
    {
        **_needs(Right.WRITE, *_KEPT_TOPICS),
        **_needs(Right.DESCRIBE, *SOURCE_TOPICS),
    }
)
REGISTRY_RIGHTS = CommandRights(_needs(Right.READ, REGISTRY_TOPIC))
LABELS_RIGHTS = CommandRights(
    {**_needs(Right.READ, REGISTRY_TOPIC), **_needs(Right.WRITE, INSPECTIONS_TOPIC)}
)
BRIDGE_RIGHTS = CommandRights(
    {
        **_needs(Right.READ, REGISTRY_TOPIC),
        **_needs(Right.WRITE, REJECTS_TOPIC, *SOURCE_TOPICS),
    }
)
WORKER_RIGHTS = CommandRights(
    {
        **_needs(Right.READ, REGISTRY_TOPIC, RULES_TOPIC, *SOURCE_TOPICS),
        ALERTS_TOPIC: (Right.READ, Right.WRITE),
        CHECKPOINTS_TOPIC: (Right.READ, Right.WRITE),
        REJECTS_TOPIC: (Right.WRITE,),
    },
    group=True,
)


def worker_rights(settings: Settings) -> CommandRights:
    """What a worker needs, the topic `scores` too if it writes there."""
    if not settings.scores:
        return WORKER_RIGHTS
    topics = {**WORKER_RIGHTS.topics, **_needs(Right.WRITE, SCORES_TOPIC)}
    return WORKER_RIGHTS._replace(topics=topics)


class _RightsResponse(Response):  # type: ignore[misc] # aiokafka has no types
    """The eighth version of the answer to a metadata request, which aiokafka does not have."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("rights", Int32),
            ),
        ),
        ("cluster_rights", Int32),
    )


class _RightsRequestStruct(RequestStruct):  # type: ignore[misc] # as above
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _RightsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_rights", Boolean),
        ("include_rights", Boolean),
    )


class RightsRequest(Request[MetadataRequest_v5 | _RightsRequestStruct]):  # type: ignore[misc] # as above
    """Asks for topics and this user's rights to them; a broker before Kafka 2.3 does not say the rights."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[Any]) -> Any:
        """The request of a version."""
        if request_struct_class is _RightsRequestStruct:
            return request_struct_class(self._topics, False, False, True)
        return request_struct_class(self._topics, False)


async def described(
    admin: AIOKafkaAdminClient, topics: Iterable[str]
) -> list[dict[str, Any]]:
    """Topics as the brokers describe them, with `rights` as bits."""
    answer = await admin._send_request(RightsRequest(topics))  # noqa: SLF001 - no other way in
    found: list[dict[str, Any]] = answer.to_object()["topics"]
    return found


async def missing_rights(
    admin: AIOKafkaAdminClient,
    settings: Settings,
    needs: CommandRights,
    topics: Iterable[Mapping[str, Any]],
) -> str:
    """Which rights this user lacks to topics that exist and to the group, "" if none."""
    names = {settings.topic(name): rights for name, rights in needs.topics.items()}
    missing: defaultdict[Right, list[str]] = defaultdict(list)
    for topic in topics:
        hidden = topic["error_code"] == TopicAuthorizationFailedError.errno
        if topic["error_code"] and not hidden:
            continue
        granted = 0 if hidden else topic.get("rights", ALL_RIGHTS)
        for right in names[topic["topic"]]:
            if not granted >> right & 1:
                missing[right].append(f"`{topic['topic']}`")

    faults = [
        f"{right.name.lower()} {', '.join(sorted(missing[right]))}"
        for right in sorted(missing)
    ]
    if needs.group and not await _may_join(admin, settings.group):
        faults.append(f"read the group `{settings.group}`")
    return "; ".join(faults)


async def _may_join(admin: AIOKafkaAdminClient, group: str) -> bool:
    """True unless the brokers refuse to name the coordinator of a group."""
    try:
        await admin.find_coordinator(group)
    except GroupAuthorizationFailedError:
        return False
    except CoordinatorNotAvailableError:  # they have never had a group
        return True
    return True
