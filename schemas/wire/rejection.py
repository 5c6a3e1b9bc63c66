"""Why a value is rejected: a fixed word for counting, and a sentence for the sender."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from schemas.columns import EARLIEST_TIME, LATEST_TIME


class Reason(StrEnum):
    """The words by which rejections are counted."""

    EMPTY = "empty"  # no value, or no row in it
    # More bytes than LARGEST_VALUE_BYTES, or too many elements of which some are no records.
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_FRAME = "not_frame"  # no msgpack, though it began or was announced as such
    NOT_AVRO = "not_avro"  # by the schema that a record of a mapped topic names
    NOT_PROTOBUF = "not_protobuf"
    NOT_UTF8 = "not_utf8"  # in the value or the key
    TRUNCATED = "truncated"
    TOO_DEEP = "too_deep"
    UNKNOWN_SCHEMA = "unknown_schema"  # to the schema registry, or of no use
    UNKNOWN_VERSION = "unknown_version"  # of a frame's layout
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    WRONG_LENGTH = "wrong_length"  # of the phases, or of a frame's column
    UNKNOWN_VALUE = "unknown_value"  # none of the defined words or codes
    UNKNOWN_CODE = "unknown_code"  # of a device event, by the table of its system
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"  # a number that measures nothing
    # Unreadable, without offset, not from 2000 on and before 2100, or ahead of the broker.
    BAD_TIME = "bad_time"
    BAD_ID = "bad_id"  # empty, longer than 128 characters, or not printable
    # Neither in the key nor in the value, or not in the registry.
    NO_AREA = "no_area"
    AREA_MISMATCH = "area_mismatch"  # key and value name different areas
    WRONG_PARTITION = "wrong_partition"  # the area belongs to another one
    NO_KEY = "no_key"  # and the wrong partition
    # A batch or a record of the log: its checksum, its lengths or its compressed content.
    CORRUPT = "corrupt"
    UNKNOWN_CODEC = "unknown_codec"  # how a batch is compressed
    UNKNOWN_MAGIC = "unknown_magic"  # of a batch's layout


class Rejection(msgspec.Struct, frozen=True):
    """A value that was rejected, or an element of an array, or the rows of a frame with one fault as a frame."""

    value: bytes
    reason: Reason
    detail: str  # at most 200 characters
    index: int  # of its message
    rows: int = 1


class RejectedError(ValueError):
    """The bytes are not what they should be."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail[:200])
        self.reason = reason


def rejected_error(error: Exception) -> RejectedError:
    """The rejection that a decoder's error means.

    >>> rejected_error(msgspec.ValidationError("Object missing required field `at`")).reason
    <Reason.MISSING_FIELD: 'missing_field'>
    """
    if isinstance(error, RejectedError):
        return error
    if isinstance(error, UnicodeDecodeError):
        return RejectedError(Reason.NOT_UTF8, str(error))
    if isinstance(error, RecursionError):
        return RejectedError(Reason.TOO_DEEP, "nested too deeply")
    detail = str(error)
    reasons = (
        reason for opening, reason in ERROR_OPENINGS if detail.startswith(opening)
    )
    return RejectedError(next(reasons), detail)


def rejection_of(value: bytes | None, error: Exception, index: int) -> Rejection:
    """The rejection of a value by the error of its decoder."""
    cause = rejected_error(error)
    return Rejection(value or b"", cause.reason, str(cause), index)


ERROR_OPENINGS = (
    ("Input data was truncated", Reason.TRUNCATED),
    ("JSON is malformed", Reason.NOT_JSON),
    ("MessagePack data is malformed", Reason.NOT_FRAME),
    ("Object missing required field", Reason.MISSING_FIELD),
    ("Object contains unknown field", Reason.UNKNOWN_FIELD),
    ("Invalid enum value", Reason.UNKNOWN_VALUE),
    ("Invalid RFC3339", Reason.BAD_TIME),
    ("Expected `datetime` with a timezone", Reason.BAD_TIME),
    (f"Expected `int` >= {EARLIEST_TIME}", Reason.BAD_TIME),
    (f"Expected `int` <= {LATEST_TIME - 1}", Reason.BAD_TIME),
    ("Expected `str` of length", Reason.BAD_ID),
    ("Expected `array` of length", Reason.WRONG_LENGTH),
    ("Number out of range", Reason.OUT_OF_RANGE),
    ("Expected `int` >", Reason.OUT_OF_RANGE),
    ("Expected `int` <", Reason.OUT_OF_RANGE),
    ("Expected `float` >", Reason.OUT_OF_RANGE),
    ("Expected `float` <", Reason.OUT_OF_RANGE),
    ("", Reason.WRONG_TYPE),
)
"""How msgspec's messages begin, and the reasons they mean."""
