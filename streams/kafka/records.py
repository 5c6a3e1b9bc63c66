"""The records of a fetch, and the damage in the place of unreadable ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from schemas.wire import Reason, RejectedError

TRACE_HEADER = "traceparent"
TRACE_PATTERN = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Record(Protocol):
    """The fields of a record; its topic and partition are those of the slice."""

    @property
    def offset(self) -> int:
        """The offset in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Unix milliseconds, None if the producer gave none."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers."""


class Damage(NamedTuple):
    """A record or a batch that cannot be read, in the place of its records."""

    offset: int  # of the first record
    last: int  # offset of the last record
    timestamp: int | None
    value: bytes
    reason: Reason
    detail: str
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


class FetchedRange(NamedTuple):
    """All records of a partition from offset `begins` to before offset `ends`."""

    begins: int
    records: list[Record]
    ends: int


class DamagedError(RejectedError):
    """The bytes are not records."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.CORRUPT, detail)


def traces_of(records: Iterable[Record]) -> dict[str, bytes]:
    """The W3C trace context of the last record of each key that has one."""
    return {
        record.key.decode(errors="replace"): value
        for record in records
        for name, value in record.headers
        if name == TRACE_HEADER
        and record.key
        and value
        and TRACE_PATTERN.fullmatch(value)
    }
