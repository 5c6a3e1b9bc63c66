"""What of the records of a chunk comes before a decoder, and what is rejected before."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.wire import Message, Refusal
from streams.fetched import Damage, Record


def refusals_of(damage: Sequence[Damage]) -> list[Refusal]:
    """What `rejects` is given of what could not be read; a row for each offset, for nobody knows how many it had."""
    return [
        Refusal(broken.value, broken.reason, broken.detail, index, broken.last - broken.offset + 1)
        for index, broken in enumerate(damage)
    ]


def sound(records: Sequence[Record]) -> tuple[list[Record], list[Damage]]:
    """The records that could be read, and the damage between them."""
    damage = [record for record in records if type(record) is Damage]
    return [record for record in records if type(record) is not Damage] if damage else list(records), damage


def messages_of(records: Sequence[Record]) -> list[Message]:
    """The records for a decoder; most have the headers of the one before."""
    messages: list[Message] = []
    headers: Sequence[tuple[str, bytes | None]] = ()
    content_type = ""
    for record in records:
        if (told := record.headers) != headers:
            headers, content_type = told, _content_type(told)
        messages.append((record.key, record.value, content_type, (record.timestamp or 0) // 1000))
    return messages


def _content_type(headers: Sequence[tuple[str, bytes | None]]) -> str:
    for name, value in headers:
        if name == "content-type":
            return (value or b"").decode("ascii", "replace")
    return ""
