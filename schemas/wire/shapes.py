"""Messages, and the shape of their values by how they begin."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.wire.records import FRAME_CONTENT_TYPE, JSON_CONTENT_TYPE
from schemas.wire.rejection import Reason, RejectedError

Message = tuple[bytes | None, bytes | None, str, int]
"""Key, value, content type ("" if unknown), and when the broker received it in Unix seconds (0 if unknown)."""
LARGEST_VALUE_BYTES = 4 << 20  # bytes of a value
PACKED_BYTES = [*range(0x80, 0x90), 0xDE, 0xDF]
SHAPES_BY_BYTE = {ord("{"): "single", ord("["): "array"} | dict.fromkeys(
    PACKED_BYTES, "packed"
)
"""The shape of a value by its first byte; a msgpack map begins with 0x80 to 0x8f, 0xde or 0xdf."""


def shape_of(value: bytes | None, content_type: str) -> str | RejectedError:
    """The shape by the first byte, after blanks if it is JSON; an error if it cannot be."""
    if not value:
        return RejectedError(Reason.EMPTY, "no value")
    if len(value) > LARGEST_VALUE_BYTES:
        return RejectedError(
            Reason.TOO_LARGE, f"{len(value)} bytes, more than {LARGEST_VALUE_BYTES}"
        )

    shape = SHAPES_BY_BYTE.get(value[0], "")
    if not shape:
        first = (value[:64].lstrip() or b" ")[0]
        shape = SHAPES_BY_BYTE.get(first, "")
    if content_type == FRAME_CONTENT_TYPE and shape != "packed":
        return RejectedError(
            Reason.NOT_FRAME, "announced as a frame, but begins no msgpack map"
        )
    if not shape or (content_type == JSON_CONTENT_TYPE and shape == "packed"):
        return RejectedError(Reason.NOT_JSON, "begins neither an object nor an array")
    return shape


def shapes_of(
    values: Sequence[bytes | None], content_types: Sequence[str]
) -> list[str | RejectedError]:
    """The shape of each value; found once if all begin alike and have one content type."""
    begin = {value and value[:1] for value in values}
    is_alike = len(begin) == 1 == len(set(content_types))
    if is_alike and max(len(value or b"") for value in values) <= LARGEST_VALUE_BYTES:
        first = values[0]
        if first and first[0] in SHAPES_BY_BYTE:
            return [shape_of(first, content_types[0])] * len(values)
    return list(map(shape_of, values, content_types))
