"""Records of others as plain values: JSON, and Avro or Protobuf by the schema whose number stands before them."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import msgspec

from replay.mapping.column_mapping import ColumnMapping
from schemas.wire import Reason, RejectedError
from schemas.wire.rejection import rejected_error
from streams.kafka.schema_registry import RegisteredSchema, SchemaRegistry

SCHEMA_PREFIX = struct.Struct(">bI")  # 0 and the number of the schema
LARGEST_VARINT = 10  # bytes
MOST_INDEXES = 100  # messages within one another
Decoder = Callable[[bytes], Any]


def record_decoder(mapping: ColumnMapping, authorization: str = "") -> Decoder:
    """The decoder of a mapping's records. It raises RejectedError, and SchemaRegistryError without an answer."""
    if mapping.format == "json":
        return _json_value
    # an extra that is missing ends the command before a record is read
    is_avro = mapping.format == "avro"
    import_module("fastavro" if is_avro else "google.protobuf.message_factory")
    registry = SchemaRegistry(mapping.schema_registry, authorization)
    made = _avro_decoder if is_avro else _protobuf_decoder
    return _BySchema(registry, mapping.format, made)


def _json_value(value: bytes) -> Any:
    """A JSON value, with or without the number of a schema before it."""
    if value[:1] == b"\0":
        value = value[SCHEMA_PREFIX.size :]
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise rejected_error(error) from None


class _BySchema:
    """Decodes records by their schema; a schema that cannot be used is remembered with its reason."""

    def __init__(
        self,
        registry: SchemaRegistry,
        format_name: str,
        made: Callable[[RegisteredSchema], Decoder],
    ) -> None:
        self._registry = registry
        self._format = format_name
        self._made = made
        self._decoders: dict[int, Decoder | RejectedError] = {}

    def __call__(self, value: bytes) -> Any:
        if len(value) < SCHEMA_PREFIX.size or value[0]:
            raise RejectedError(
                self._reason, "does not begin with 0 and the number of a schema"
            )
        number = SCHEMA_PREFIX.unpack_from(value)[1]
        decoder = self._decoders.get(number) or self._decoder(number)
        if isinstance(decoder, RejectedError):
            raise decoder
        try:
            return decoder(value[SCHEMA_PREFIX.size :])
        except RejectedError:
            raise
        except Exception as error:  # whatever a library makes of damaged bytes
            raise RejectedError(self._reason, f"schema {number}: {error!r}") from None

    @property
    def _reason(self) -> Reason:
        return Reason.NOT_AVRO if self._format == "avro" else Reason.NOT_PROTOBUF

    def _decoder(self, number: int) -> Decoder | RejectedError:
        schema = self._registry.schema(number)
        decoder: Decoder | RejectedError

        try:
            if schema.kind != self._format.upper():
                raise RejectedError(
                    Reason.UNKNOWN_SCHEMA,
                    f"schema {number} is {schema.kind}, not {self._format.upper()}",
                )
            decoder = self._made(schema)
        except RejectedError as error:
            decoder = error
        except Exception as error:  # whatever a library says of a schema
            detail = f"schema {number} cannot be used: {error!r}"
            decoder = RejectedError(Reason.UNKNOWN_SCHEMA, detail)
        self._decoders[number] = decoder
        return decoder


def _avro_decoder(schema: RegisteredSchema) -> Decoder:
    """The decoder of an Avro schema. Raises RejectedError for one whose values have no bounds."""
    import fastavro  # noqa: PLC0415 - an extra

    named: dict[str, Any] = {}
    for text in schema.references.values():
        fastavro.parse_schema(msgspec.json.decode(text), named_schemas=named)
    parsed = fastavro.parse_schema(
        msgspec.json.decode(schema.text), named_schemas=named
    )
    _check_bounded(parsed, named, ())

    def decoded(value: bytes) -> Any:
        rest = io.BytesIO(value)
        record = fastavro.schemaless_reader(rest, parsed, None)
        if rest.read(1):
            raise RejectedError(Reason.NOT_AVRO, "bytes are left behind the record")
        return record

    return decoded


def _check_bounded(
    schema: Any, named: Mapping[str, Any], within: tuple[str, ...]
) -> int:
    """The fewest bytes of a value. Raises RejectedError for a type within itself, and for lists of nothing.

    The library follows a type within itself as deep as the bytes say, and lists of nothing as long.
    """
    if isinstance(schema, list):
        for branch in schema:
            _check_bounded(branch, named, within)
        return 1
    kind = schema["type"] if isinstance(schema, dict) else schema
    if (
        isinstance(kind, str)
        and kind in named
        and kind not in {"record", "enum", "fixed"}
    ):
        schema, kind = named[kind], named[kind]["type"]
    if isinstance(kind, dict | list):
        return _check_bounded(kind, named, within)

    match kind:
        case "record" | "error":
            name = schema["name"]
            if name in within:
                raise RejectedError(Reason.UNKNOWN_SCHEMA, f"{name} may contain itself")
            parts = [
                _check_bounded(part["type"], named, (*within, name))
                for part in schema["fields"]
            ]
            return sum(parts)
        case "array" | "map":
            items = schema["items"] if kind == "array" else schema["values"]
            if not _check_bounded(items, named, within) and kind == "array":
                raise RejectedError(Reason.UNKNOWN_SCHEMA, "lists of nothing")
        case "null":
            return 0
        case "fixed":
            return int(schema["size"])
    return 1


def _protobuf_decoder(schema: RegisteredSchema) -> Decoder:
    """The decoder of a Protobuf schema. Raises RejectedError if the registry gives source instead of a descriptor."""
    from google.protobuf import (  # noqa: PLC0415 - an extra
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    pool = descriptor_pool.DescriptorPool()
    for name, content in _well_known():
        if name not in schema.references:
            pool.AddSerializedFile(content)
    for name, text in schema.references.items():
        file = descriptor_pb2.FileDescriptorProto.FromString(_descriptor_bytes(text))
        file.name = name
        pool.Add(file)
    file = descriptor_pb2.FileDescriptorProto.FromString(_descriptor_bytes(schema.text))
    file.name = file.name or "schema.proto"
    pool.Add(file)
    classes: dict[tuple[int, ...], Any] = {}

    def decoded(value: bytes) -> Any:
        indexes, begins = _message_indexes(value)
        if indexes not in classes:
            descriptor = pool.FindMessageTypeByName(_message_name(file, indexes))
            classes[indexes] = message_factory.GetMessageClass(descriptor)
        return _plain(classes[indexes].FromString(value[begins:]))

    return decoded


def _descriptor_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise RejectedError(
            Reason.UNKNOWN_SCHEMA,
            "the schema registry gives the source of a Protobuf schema, and no serialized descriptor",
        ) from None


def _well_known() -> Iterator[tuple[str, bytes]]:
    """The files of Protobuf's own types, by name."""
    from google.protobuf import (  # noqa: PLC0415 - an extra
        duration_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    for module in (duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        yield module.DESCRIPTOR.name, module.DESCRIPTOR.serialized_pb


def _message_indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Which message of its file a record is, and where it begins. Raises RejectedError.

    >>> _message_indexes(bytes([0, 8])), _message_indexes(bytes([4, 2, 0, 8]))
    (((0,), 1), ((1, 0), 3))
    """
    count, at = _varint(value, 0)
    if not count:
        return (0,), at
    if not 0 < count <= MOST_INDEXES:
        raise RejectedError(Reason.NOT_PROTOBUF, f"{count} messages within one another")
    indexes = []
    for _ in range(count):
        index, at = _varint(value, at)
        indexes.append(index)
    return tuple(indexes), at


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag number, and where it ends. Raises RejectedError."""
    number = 0
    for place, byte in enumerate(value[at : at + LARGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + place + 1
    raise RejectedError(Reason.NOT_PROTOBUF, "the index of the message has no end")


def _message_name(file: Any, indexes: tuple[int, ...]) -> str:
    """The full name of a message by its place. Raises RejectedError."""
    names = [file.package] if file.package else []
    messages = file.message_type
    for index in indexes:
        if not 0 <= index < len(messages):
            raise RejectedError(
                Reason.NOT_PROTOBUF, f"the file has no message {indexes}"
            )
        names.append(messages[index].name)
        messages = messages[index].nested_type
    return ".".join(names)


def _plain(message: Any) -> Any:
    """A message as plain values: a time as its seconds, an enumeration as its name.

    A field without presence has its default.
    """
    descriptor = message.DESCRIPTOR
    if descriptor.full_name == "google.protobuf.Timestamp":
        return message.seconds + message.nanos / 1e9
    if descriptor.file.name == "google/protobuf/wrappers.proto":
        return message.value

    values: dict[str, Any] = {}
    for field in descriptor.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            values[field.name] = {
                str(key): _plain_value(
                    entry, field.message_type.fields_by_name["value"]
                )
                for key, entry in value.items()
            }
        elif field.is_repeated:
            values[field.name] = [_plain_value(entry, field) for entry in value]
        else:
            values[field.name] = _plain_value(value, field)
    return values


def _plain_value(value: Any, field: Any) -> Any:
    """A single value of a field."""
    if field.message_type:
        return _plain(value)
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value
