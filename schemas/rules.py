"""Rules as published: the content of the topic `rules` and of deploy/rules.toml."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, get_args

import msgspec

from schemas.use_class import UseClassModel

EditionStatus = Literal["draft", "shadow", "published", "retired"]
Values = dict[str, float]


class RulebookError(ValueError):
    """A rulebook is not taken; a line for every rule or setting at fault, and the allowed values."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


class Edition(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule is judged: draft and retired not at all, shadow to be counted; absent settings are as in code."""

    status: EditionStatus
    # Raised with every change; alerts carry it.
    version: Annotated[int, msgspec.Meta(ge=1)]
    settings: Values = {}
    segments: dict[str, Values] = {}  # settings of rows of a segment
    # Of a rule that is judged by a model, and cannot tell without it.
    model: UseClassModel | None = None
    proposed_by: str = ""
    approved_by: str = ""
    approved_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Rulebook(msgspec.Struct, frozen=True):
    """The editions of rules by their names; a rule without one is judged as in code."""

    rules: dict[str, Edition] = {}


def digest_of(rulebook: Rulebook) -> str:
    """The first 12 hexadecimal digits of a rulebook's SHA-256, the same for the same content."""
    content = msgspec.json.encode(rulebook, order="deterministic")
    return sha256(content).hexdigest()[:12]


def rulebook_of(table: Any) -> Rulebook:
    """A rulebook from a table of rules. Raises RulebookError."""
    if not isinstance(table, Mapping):
        raise RulebookError([f"a rulebook is a table of rules, not {table!r:.40}"])
    faults = [
        fault for name, edition in table.items() for fault in _faults_of(name, edition)
    ]
    if faults:
        raise RulebookError(faults)
    return msgspec.convert({"rules": table}, Rulebook)


def decode_rulebook(value: bytes) -> Rulebook:
    """A rulebook from the topic, without fields that only a later version knows. Raises RulebookError."""
    editions = _editions_of(value)
    return rulebook_of(
        {name: _known_fields(edition) for name, edition in editions.items()}
    )


def unknown_fields(value: bytes) -> list[str]:
    """The fields that `decode_rulebook` leaves out, a line each. Raises RulebookError."""
    return [
        f"{name}: {fault}"
        for name, edition in _editions_of(value).items()
        if isinstance(edition, dict)
        for fault in _unknown_field_faults(edition)
    ]


def _editions_of(value: bytes) -> dict[str, Any]:
    """The editions of a rulebook from the topic, unchecked. Raises RulebookError."""
    try:
        table = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RulebookError([f"this is no JSON: {error}"]) from None
    if not isinstance(table, dict) or not isinstance(table.get("rules"), dict):
        raise RulebookError(["a rulebook is an object with a table of `rules`"])
    return table["rules"]


def _known_fields(edition: Any) -> Any:
    """An edition without fields that this version does not know."""
    if not isinstance(edition, dict):
        return edition
    fields = Edition.__struct_fields__
    return {name: value for name, value in edition.items() if name in fields}


def _unknown_field_faults(edition: Mapping[str, Any]) -> Iterator[str]:
    """The fields of an edition that this version does not know."""
    yield from (
        f"Object contains unknown field `{name}`"
        for name in edition
        if name not in Edition.__struct_fields__
    )


def _faults_of(name: str, edition: Any) -> Iterator[str]:
    """The faults in the form of an edition."""
    if not isinstance(edition, Mapping):
        yield f"{name}: an edition is a table, not {edition!r:.40}"
        return
    for field in ("status", "version"):
        if field not in edition:
            yield f"{name}: `{field}` is missing"
    statuses = get_args(EditionStatus)
    status = edition.get("status", "draft")
    if status not in statuses:
        yield f"{name}: `status` is {status!r:.40}, not one of {', '.join(statuses)}"
        return

    wrong = [f"{name}: {fault}" for fault in _number_faults(edition)]
    yield from wrong
    if not wrong and {"status", "version"} <= edition.keys():
        try:
            msgspec.convert(edition, Edition)
        except msgspec.ValidationError as error:
            yield f"{name}: {error}"
        yield from (f"{name}: {fault}" for fault in _unknown_field_faults(edition))


def _number_faults(edition: Mapping[str, Any]) -> Iterator[str]:
    """The settings of an edition that are no finite numbers."""
    segments = edition.get("segments", {})
    tables = {"": edition.get("settings", {})}
    if isinstance(segments, Mapping):
        tables |= {
            f" in the segment {segment}": values for segment, values in segments.items()
        }
    for where, values in tables.items():
        if not isinstance(values, Mapping):
            continue
        for setting, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield f"`{setting}`{where} is {value!r:.40}, which is no number"
            elif not _is_finite(value):
                yield f"`{setting}`{where} is {value!r:.40}, which is not finite"


def _is_finite(value: float) -> bool:
    """True if a rule can be set to a number; TOML knows integers of any length."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
