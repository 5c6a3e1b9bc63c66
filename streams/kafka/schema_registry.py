"""A schema registry of Confluent's protocol: schemas by the number in a record, each asked for once."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from schemas.wire import Reason, RejectedError

ANSWER_SECONDS = 10.0  # that the registry has for an answer
LARGEST_ANSWER = 4 << 20  # bytes
FORGET_SECONDS = 60.0  # after which a number that was unknown is asked for again
MOST_UNKNOWN = 10_000  # numbers that are remembered as unknown
MOST_REFERENCES = 100  # schemas that a schema needs, and those need
SERIALIZED_FORM = "?format=serialized"  # of Protobuf: a descriptor, no source


class SchemaRegistryError(OSError):
    """The registry does not answer as it should; says at which address."""


class _Reference(msgspec.Struct):
    """A schema that another needs, under a name."""

    name: str
    subject: str
    version: int


class _SchemaAnswer(msgspec.Struct, rename="camel"):
    """A schema as the registry answers."""

    schema: str
    schema_type: str = "AVRO"
    references: list[_Reference] | None = None


class RegisteredSchema(NamedTuple):
    """A schema as it is registered, and the schemas that it needs; each comes after the schemas that it needs."""

    text: str
    kind: str  # AVRO, PROTOBUF or JSON
    references: Mapping[str, str]  # text by name


class SchemaRegistry:
    """The schemas of a registry."""

    def __init__(self, address: str, authorization: str) -> None:
        self._authorization = authorization
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
                return RegisteredSchema(answer.schema, answer.schema_type, references)
            if len(self._unknown) > MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[number] = time.monotonic()
        raise RejectedError(
            Reason.UNKNOWN_SCHEMA, f"the schema registry has no schema {number}"
        )

    def _add_references(self, answer: _SchemaAnswer, found: dict[str, str]) -> None:
        """Adds the schemas that one needs, after the schemas that these need."""
        for reference in answer.references or ():
            if reference.name in found:
                continue
            if len(found) >= MOST_REFERENCES:
                raise RejectedError(
                    Reason.UNKNOWN_SCHEMA, f"needs more than {MOST_REFERENCES} schemas"
                )

            subject = quote(reference.subject, safe="")
            place = f"/subjects/{subject}/versions/{reference.version}{SERIALIZED_FORM}"
            needed = self._answer(place)
            if needed is None:
                raise RejectedError(
                    Reason.UNKNOWN_SCHEMA, f"the schema registry has no {place}"
                )
            found[reference.name] = ""  # a schema that needs itself ends here
            self._add_references(needed, found)
            del found[reference.name]
            found[reference.name] = needed.schema

    def _answer(self, place: str) -> _SchemaAnswer | None:
        """The answer to a question, None if the registry does not have it. Raises SchemaRegistryError."""
        headers = {"Authorization": self._authorization} if self._authorization else {}
        # the mapping checks that it is HTTP
        question = urllib.request.Request(self._address + place, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(question, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - as above
                content = answer.read(LARGEST_ANSWER)
            return msgspec.json.decode(content, type=_SchemaAnswer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise SchemaRegistryError(
                f"the schema registry at {self._address}{place}: {error}"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise SchemaRegistryError(
                f"the schema registry at {self._address}{place}: {error}"
            ) from None
