"""The documents match the types, and say what the decoders do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.documents import (
    DOCUMENT_TYPES,
    SCHEMAS_FOLDER,
    asyncapi,
    documents,
    schema,
)
from schemas.pages import pages
from schemas.wire import Reason


def test_files_and_pages_match_the_declarations():
    stale = [
        str(path)
        for path, text in (documents() | pages()).items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    assert not stale, "`python -m schemas.documents` writes them anew"


def test_no_file_is_left_over():
    assert set(SCHEMAS_FOLDER.rglob("*.json")) == set(documents())


def schema_objects(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        document = list(document.values())
    if isinstance(document, list):
        for value in document:
            yield from schema_objects(value)


def target(reference: str, document: Any) -> Any:
    file, _, pointer = reference.partition("#")
    value = json.loads((SCHEMAS_FOLDER / file).read_text("utf-8")) if file else document
    for step in pointer.split("/")[1:]:
        value = value[step]
    return value


@pytest.mark.parametrize(
    "document",
    [asyncapi(), *(schema(name) for name in DOCUMENT_TYPES)],
    ids=["asyncapi", *DOCUMENT_TYPES],
)
def test_every_reference_resolves(document):
    for value in schema_objects(document):
        if "$ref" in value:
            assert target(value["$ref"], document)


UNITLESS_FIELDS = {
    "score",
    "scores",
    "evidence",
    "ct",
    "pt",
    "meter_ratio",
    "demand_resets",
    "flags",
    "register_digits",
    "rows",
    "severity",
    "revision",
    "version",
    "settings",
    "segments",
    "power_factor",
    "demand_rebate",
    "read_day",
    "mean",
    "scale",
    "weights",
    "bias",
    "reach",
    "meters",
    "inclusion",
}


@pytest.mark.parametrize("name", DOCUMENT_TYPES)
def test_every_quantity_has_its_unit(name):
    for value in schema_objects(schema(name)):
        for field, properties in value.get("properties", {}).items():
            numeric = {nested.get("type") for nested in schema_objects(properties)} & {
                "number",
                "integer",
            }
            assert (
                not numeric
                or field in UNITLESS_FIELDS
                or "x-unit" in properties
                or field.endswith(("_kva", "_v", "_a", "_s"))
            ), field


def test_defaults_fit_their_own_limits():
    for name in DOCUMENT_TYPES:
        for value in schema_objects(schema(name)):
            if "default" in value and "minLength" in value:
                assert len(value["default"]) >= value["minLength"]


def test_asyncapi_document_is_well_formed():
    document = asyncapi()
    assert set(document) == {
        "asyncapi",
        "info",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    assert {"title", "version"} <= set(document["info"])

    for address, channel in document["channels"].items():
        assert channel["address"] == address
        assert channel["messages"]

    messages_used = set()
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"#/channels/{channel}/messages/")
            messages_used.add(
                target(message["$ref"], document)["$ref"].rpartition("/")[2]
            )

    assert messages_used == set(document["components"]["messages"])

    for message in document["components"]["messages"].values():
        assert {"name", "contentType", "headers", "payload", "bindings"} <= set(message)


def test_reject_reasons_are_documented():
    headers = asyncapi()["components"]["messages"]["reject"]["headers"]["properties"]
    assert all(reason in headers["reason"]["description"] for reason in Reason)
