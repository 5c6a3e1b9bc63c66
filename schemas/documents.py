"""JSON Schema files and the AsyncAPI document, made from the types: ``python -m schemas.documents`` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.alert import Alert
from schemas.master import Area
from schemas.rules import Rulebook
from schemas.wire import FRAME_CONTENT_TYPE, JSON_CONTENT_TYPE, Reason
from schemas.wire.records import (
    EventRecord,
    Frame,
    PaymentRecord,
    ReadingRecord,
    StageRecord,
)

Document = dict[str, Any]

SCHEMAS_FOLDER = Path(__file__).parent
DOCUMENT_TYPES: dict[str, type[msgspec.Struct]] = {
    "reading": ReadingRecord,
    "frame": Frame,
    "event": EventRecord,
    "payment": PaymentRecord,
    "stage": StageRecord,
    "area": Area,
    "rulebook": Rulebook,
    "alert": Alert,
}
JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
BINARY_CONTENT = {"contentMediaType": "application/octet-stream"}


class TopicDocument(NamedTuple):
    """The description of a topic."""

    title: str
    key: str
    messages: tuple[str, ...]
    actions: tuple[str, ...]  # of a worker
    compacted: bool = False


TOPIC_DOCUMENTS = {
    "meter.reads": TopicDocument(
        "Readings", "Transformer area", ("reading", "readings", "frame"), ("receive",)
    ),
    "meter.events": TopicDocument(
        "Device events", "Transformer area", ("event", "events"), ("receive",)
    ),
    "payments": TopicDocument(
        "Bills, payments, top-ups, balances",
        "Transformer area",
        ("payment", "payments"),
        ("receive",),
    ),
    "workflow": TopicDocument(
        "Work items enter and leave stages",
        "Section",
        ("stage", "stages"),
        ("receive",),
    ),
    "registry": TopicDocument(
        "Master data, the newest of each area",
        "Transformer area",
        ("area",),
        ("receive",),
        True,
    ),
    "rules": TopicDocument(
        "Published settings of rules, all in one value",
        "`rules`",
        ("rulebook",),
        ("receive",),
        True,
    ),
    "alerts": TopicDocument(
        "Alerts, the newest state of each", "Alert", ("alert",), ("send",), True
    ),
    "rejects": TopicDocument(
        "Rejected values", "As in the source topic", ("reject",), ("send",)
    ),
    "checkpoints": TopicDocument(
        "State of the workers, for them alone",
        "Slot and chunk",
        ("checkpoint",),
        ("send", "receive"),
        True,
    ),
}
MESSAGE_SUMMARIES = {
    "reading": "One reading", "readings": "Readings of one area", "frame": "Readings of one area, packed",
    "event": "One device event", "events": "Device events of one area",
    "payment": "One bill, payment, top-up or balance", "payments": "Bills, payments, top-ups, balances of one area",
    "stage": "One stage event", "stages": "Stage events of one section",
    "area": "An area with all that hangs on it; a record without value is ignored",
    "rulebook": "The editions of all rules that are not as in code; the newest valid one is in force",
    "alert": "The latest change of an episode",
    "reject": "The bytes as they came, the first MiB at most",
    "checkpoint": "A chunk of an engine's state, or the manifest of its chunks",
}  # fmt: skip
MESSAGE_HEADERS: dict[str, dict[str, str]] = {
    "alert": {
        "ce_specversion": "CloudEvents version, 1.0",
        "ce_id": "Alert id and revision",
        "ce_source": "/meterwatch",
        "ce_type": "meterwatch.alert. and the change",
        "ce_time": "Event time of the change, RFC 3339",
        "ce_subject": "Subject of the alert",
    },
    "reject": {
        "reason": "One of: " + ", ".join(Reason),
        "detail": "What is wrong, for people",
        "topic": "Source topic",
        "partition": "Source partition",
        "offset": "Source offset",
        "bytes": "Length of the value before it was cut",
    },
    "checkpoint": {
        "set": "Names the chunks that belong together",
        "since": "Offset where the last whole checkpoint begins",
        "checksum": "CRC-32 of the manifest",
    },
}


def documents() -> dict[Path, str]:
    """The text of every generated file, by its path."""
    texts: dict[str, Document] = {
        f"json/{name}.schema.json": schema(name) for name in DOCUMENT_TYPES
    }
    texts["asyncapi.json"] = asyncapi()
    return {
        SCHEMAS_FOLDER / name: json.dumps(text, ensure_ascii=False, indent=2) + "\n"
        for name, text in texts.items()
    }


def schema(name: str) -> Document:
    """The JSON Schema of a type, complete by itself."""
    (reference,), components = msgspec.json.schema_components(
        [DOCUMENT_TYPES[name]], ref_template="#/$defs/{name}"
    )
    whole = components.pop(reference["$ref"].rpartition("/")[2])
    head = {"$schema": JSON_SCHEMA_DIALECT, "$id": f"urn:meterwatch:{name}"}
    document: Document = head | _plain(whole)
    if components:
        document["$defs"] = {
            component: _plain(node) for component, node in components.items()
        }
    return document


def _plain(node: Any) -> Any:
    """A node without msgspec's additions: defaults that mean absent, base64 for binaries, indentation."""
    if isinstance(node, list):
        return [_plain(child) for child in node]
    if not isinstance(node, dict):
        return node

    plain = {name: _plain(child) for name, child in node.items()}
    is_absent = plain.get("default", 1) in (None, "")
    if is_absent or ("anyOf" in plain and plain.get("default") == 0):
        del plain["default"]
    if plain.pop("contentEncoding", None):
        plain["contentMediaType"] = "application/octet-stream"
    if isinstance(text := plain.get("description"), str):
        plain["description"] = " ".join(text.split())
    return plain


def asyncapi() -> Document:
    """The topics with their keys, headers and messages."""
    operations: Document = {}
    messages: Document = {}
    for address, topic in TOPIC_DOCUMENTS.items():
        for action in topic.actions:
            operations[f"{action}.{address}"] = _operation(address, topic, action)
        for name in topic.messages:
            messages[name] = _message(name, topic.key)

    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "meterwatch",
            "version": "1.0.0",
            "description": "The data between meters, offices, workers and the readers of their alerts.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": JSON_CONTENT_TYPE,
        "channels": {
            address: _channel(address, topic)
            for address, topic in TOPIC_DOCUMENTS.items()
        },
        "operations": operations,
        "components": {"messages": messages},
    }


def _operation(address: str, topic: TopicDocument, action: str) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{address}"},
        "messages": [
            {"$ref": f"#/channels/{address}/messages/{name}"} for name in topic.messages
        ],
    }


def _channel(address: str, topic: TopicDocument) -> Document:
    kafka: Document = {"topic": address, "bindingVersion": "0.5.0"}
    if topic.compacted:
        kafka["topicConfiguration"] = {"cleanup.policy": ["compact"]}
    return {
        "address": address,
        "title": topic.title,
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages
        },
        "bindings": {"kafka": kafka},
    }


def _message(name: str, key: str) -> Document:
    headers = MESSAGE_HEADERS.get(name, {})
    fields: Document = {
        header: {"type": "string", "description": text}
        for header, text in headers.items()
    }
    binary = name in ("reject", "checkpoint")
    content_type = JSON_CONTENT_TYPE
    if binary:
        content_type = "application/octet-stream"
    elif name == "frame":
        content_type = FRAME_CONTENT_TYPE
    if not binary:
        fields["content-type"] = {"type": "string", "const": content_type}

    header_schema: Document = {"type": "object", "properties": fields}
    required = [header for header in headers if header != "checksum"]
    if required:
        header_schema["required"] = required
    return {
        "name": name,
        "summary": MESSAGE_SUMMARIES[name],
        "contentType": content_type,
        "headers": header_schema,
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": _payload(name),
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": key},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _payload(name: str) -> Document:
    if name in DOCUMENT_TYPES:
        return {"$ref": f"./json/{name}.schema.json"}
    if name.removesuffix("s") in DOCUMENT_TYPES:
        return {
            "type": "array",
            "minItems": 1,
            "items": {"$ref": f"./json/{name.removesuffix('s')}.schema.json"},
        }
    return BINARY_CONTENT


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
