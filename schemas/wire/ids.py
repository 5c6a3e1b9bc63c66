"""Ids in messages: of areas, in keys and in values."""

from __future__ import annotations

from schemas.master import Area, texts
from schemas.wire.records import LONGEST_ID
from schemas.wire.rejection import Reason, RejectedError


def area_of_key(key: bytes | None) -> str:
    """The area that a message key names, "" without a key. Raises RejectedError."""
    if not key:
        return ""
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(Reason.NOT_UTF8, f"key: {error}") from error
    check_id(text)
    return text


def check_texts(area: Area) -> None:
    """Raises RejectedError if a text of a record is longer than an id or not printable."""
    for name in (area.area, *(meter.meter for meter in area.meters)):
        check_id(name)
    for text in filter(None, texts(area)):
        check_id(text)


def check_id(text: str) -> None:
    """Raises RejectedError if a text cannot be an id."""
    if not (0 < len(text) <= LONGEST_ID and text.isprintable()):
        raise RejectedError(
            Reason.BAD_ID, f"an id is not 1 to {LONGEST_ID} printable characters"
        )


def agreed(in_value: str, key: str) -> str:
    """The area that value and key agree on. Raises RejectedError."""
    if not (in_value or key):
        raise RejectedError(Reason.NO_AREA, "no area in key or value")
    if in_value and key and in_value != key:
        raise RejectedError(Reason.AREA_MISMATCH, f"key {key}, value {in_value}")
    return in_value or key
