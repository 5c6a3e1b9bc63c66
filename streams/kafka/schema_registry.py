"""A schema registry of Confluent's protocol: schemas by the number in a record, each asked for once."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from schemas.wire import Reason, RejectedError

ANSWER_SECONDS = 10.0  # that the registry has for an answer
LARGEST_ANSWER = 4 << 20  # bytes
FORGET_SECONDS = 60.0  # after which a number that was unknown is asked for again
MOST_REFERENCES = 100  # schemas that a schema needs, and those need
SERIALIZED_FORM = "?format=serialized"  # of Protobuf: a descriptor, no source


class SchemaRegistryError(OSError):
    """The registry does not answer as it should; says at which address."""


class RegisteredSchema(NamedTuple):
    """A schema as it is registered, and the schemas that it needs; each comes after the schemas that it needs."""

    text: str
    kind: str  # AVRO, PROTOBUF or JSON
    references: Mapping[str, str]  # text by name


class SchemaRegistry:
    """The schemas of a registry."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._unknown: dict[int, float] = {}  # when each number was not known

    def schema(self, number: int) -> RegisteredSchema:
        """The schema of a number. Raises RejectedError if there is none, SchemaRegistryError without an answer."""
        asked = self._unknown.get(number)
        if asked is None or time.monotonic() - asked > FORGET_SECONDS:
            answer = self._answer(f"/schemas/ids/{number}{SERIALIZED_FORM}")
            if answer is not None:
                references: dict[str, str] = {}
                self._add_references(answer, references)
                kind = str(answer.get("schemaType") or "AVRO")
                return RegisteredSchema(str(answer.get("schema")), kind, references)
            if len(self._unknown) > MOST_REFERENCES:
                self._unknown.clear()
            self._unknown[number] = time.monotonic()
        raise RejectedError(
            Reason.UNKNOWN_SCHEMA, f"the schema registry has no schema {number}"
        )

    def _add_references(self, answer: Mapping[str, Any], found: dict[str, str]) -> None:
        """Adds the schemas that one needs, after the schemas that these need."""
        for reference in answer.get("references") or ():
            name = str(reference.get("name"))
            if name in found:
                continue
            if len(found) >= MOST_REFERENCES:
                raise RejectedError(
                    Reason.UNKNOWN_SCHEMA, f"needs more than {MOST_REFERENCES} schemas"
                )

            subject = quote(str(reference.get("subject")), safe="")
            version = quote(str(reference.get("version")), safe="")
            place = f"/subjects/{subject}/versions/{version}{SERIALIZED_FORM}"
            needed = self._answer(place)
            if needed is None:
                raise RejectedError(
                    Reason.UNKNOWN_SCHEMA, f"the schema registry has no {place}"
                )
            found[name] = ""  # a schema that needs itself ends here
            self._add_references(needed, found)
            del found[name]
            found[name] = str(needed.get("schema"))

    def _answer(self, place: str) -> dict[str, Any] | None:
        """The answer to a question, None if the registry does not have it. Raises SchemaRegistryError."""
        try:
            with urllib.request.urlopen(  # noqa: S310 - the mapping checks that it is HTTP
                self._address + place, timeout=ANSWER_SECONDS
            ) as answer:
                found = json.loads(answer.read(LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise SchemaRegistryError(f"{self._address}{place}: {error}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise SchemaRegistryError(f"{self._address}{place}: {error}") from None

        if not isinstance(found, dict):
            raise SchemaRegistryError(
                f"{self._address}{place}: the answer is no object"
            )
        return found
