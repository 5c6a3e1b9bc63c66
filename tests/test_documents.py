"""The documents are those of the types, and say what the decoders do."""

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
from schemas.wire import Reason


def test_the_files_are_as_the_types_make_them():
    stale = [
        str(path)
        for path, text in documents().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    assert not stale, "`python -m schemas.documents` writes them anew"


def test_no_file_is_left_over():
    assert set(SCHEMAS_FOLDER.rglob("*.json")) == set(documents())


def schema_objects(whole: Any) -> Iterator[dict[str, Any]]:
    if isinstance(whole, dict):
        yield whole
        whole = list(whole.values())
    if isinstance(whole, list):
        for part in whole:
            yield from schema_objects(part)


def target(reference: str, whole: Any) -> Any:
    file, _, place = reference.partition("#")
    found = json.loads((SCHEMAS_FOLDER / file).read_text("utf-8")) if file else whole
    for step in place.split("/")[1:]:
        found = found[step]
    return found


@pytest.mark.parametrize(
    "whole",
    [asyncapi(), *(schema(name) for name in DOCUMENT_TYPES)],
    ids=["asyncapi", *DOCUMENT_TYPES],
)
def test_every_reference_leads_somewhere(whole):
    for part in schema_objects(whole):
        if "$ref" in part:
            assert target(part["$ref"], whole)


UNITLESS_FIELDS = {
    "score",
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
}


@pytest.mark.parametrize("name", DOCUMENT_TYPES)
def test_every_quantity_has_its_unit(name):
    for part in schema_objects(schema(name)):
        for field, told in part.get("properties", {}).items():
            numeric = {one.get("type") for one in schema_objects(told)} & {
                "number",
                "integer",
            }
            assert (
                not numeric
                or field in UNITLESS_FIELDS
                or "x-unit" in told
                or field.endswith(("_kva", "_v", "_a", "_s"))
            ), field


def test_defaults_fit_their_own_limits():
    for name in DOCUMENT_TYPES:
        for part in schema_objects(schema(name)):
            if "default" in part and "minLength" in part:
                assert len(part["default"]) >= part["minLength"]


def test_the_asyncapi_document_has_its_form():
    whole = asyncapi()
    assert set(whole) == {
        "asyncapi",
        "info",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    assert {"title", "version"} <= set(whole["info"])
    for address, channel in whole["channels"].items():
        assert channel["address"] == address
        assert channel["messages"]
    told = set()
    for operation in whole["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"#/channels/{channel}/messages/")
            told.add(target(message["$ref"], whole)["$ref"].rpartition("/")[2])
    assert told == set(whole["components"]["messages"])
    for message in whole["components"]["messages"].values():
        assert {"name", "contentType", "headers", "payload", "bindings"} <= set(message)


def test_reject_reasons_are_documented():
    headers = asyncapi()["components"]["messages"]["reject"]["headers"]["properties"]
    assert all(reason in headers["reason"]["description"] for reason in Reason)
