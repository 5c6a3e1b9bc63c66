"""JSON Schema files and the AsyncAPI document, made from the types.

``python -m schemas.documents`` writes them, and the tables of columns and topics in docs/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from schemas.pages import pages
from schemas.topics import ALL_TOPICS, BINARY_CONTENT_TYPE, Payload, Topic
from schemas.wire import JSON_CONTENT_TYPE

OPTIONAL_HEADERS = ("checksum", "traceparent")
Document = dict[str, Any]

SCHEMAS_FOLDER = Path(__file__).parent
ALL_PAYLOADS = {
    payload.name: payload for topic in ALL_TOPICS for payload in topic.payloads
}
DOCUMENT_TYPES = {
    payload.name: payload.record
    for payload in ALL_PAYLOADS.values()
    if payload.record and not payload.is_array
}
JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


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
        plain["contentMediaType"] = BINARY_CONTENT_TYPE
    if isinstance(text := plain.get("description"), str):
        plain["description"] = " ".join(text.split())
    return plain


def asyncapi() -> Document:
    """The topics with their keys, headers and messages."""
    operations: Document = {}
    messages: Document = {}
    for topic in ALL_TOPICS:
        for action in topic.actions:
            operations[f"{action}.{topic.name}"] = _operation(topic, action)
        for payload in topic.payloads:
            messages[payload.name] = _message(payload, topic.key)

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
        "channels": {topic.name: _channel(topic) for topic in ALL_TOPICS},
        "operations": operations,
        "components": {"messages": messages},
    }


def _operation(topic: Topic, action: str) -> Document:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [
            {"$ref": f"{channel}/messages/{payload.name}"} for payload in topic.payloads
        ],
    }


def _channel(topic: Topic) -> Document:
    kafka: Document = {"topic": topic.name, "bindingVersion": "0.5.0"}
    if topic.compacted:
        kafka["topicConfiguration"] = {"cleanup.policy": ["compact"]}
    return {
        "address": topic.name,
        "title": topic.title,
        "messages": {
            payload.name: {"$ref": f"#/components/messages/{payload.name}"}
            for payload in topic.payloads
        },
        "bindings": {"kafka": kafka},
    }


def _message(payload: Payload, key: str) -> Document:
    fields: Document = {
        header: {"type": "string", "description": text}
        for header, text in payload.headers.items()
    }
    if payload.record:
        fields["content-type"] = {"type": "string", "const": payload.content_type}

    header_schema: Document = {"type": "object", "properties": fields}
    required = [name for name in payload.headers if name not in OPTIONAL_HEADERS]
    if required:
        header_schema["required"] = required
    return {
        "name": payload.name,
        "summary": payload.summary,
        "contentType": payload.content_type,
        "headers": header_schema,
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": _content(payload),
        },
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": key},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _content(payload: Payload) -> Document:
    """A reference to the JSON Schema of a payload, if it has one."""
    if not payload.record:
        return {"contentMediaType": BINARY_CONTENT_TYPE}
    (name,) = (
        name for name, record in DOCUMENT_TYPES.items() if record is payload.record
    )
    reference = {"$ref": f"./json/{name}.schema.json"}
    if payload.is_array:
        return {"type": "array", "minItems": 1, "items": reference}
    return reference


if __name__ == "__main__":
    for path, text in (documents() | pages()).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
