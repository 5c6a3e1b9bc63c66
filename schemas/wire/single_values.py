"""Messages whose value is one thing: an area, an inspection or an alert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import json

from schemas.alert import Alert, renamed_fields
from schemas.columns import LATEST_TIME
from schemas.inspection import OUTCOME_CODES, Inspection
from schemas.master import Area
from schemas.wire.ids import agreed, area_of_key, check_id, check_texts
from schemas.wire.rejection import (
    Reason,
    RejectedError,
    Rejection,
    rejected_error,
    rejection_of,
)
from schemas.wire.shapes import Message, shape_of

AREA_DECODER = json.Decoder(Area)
INSPECTION_DECODER = json.Decoder(Inspection)
ALERT_DECODER = json.Decoder(Alert)


def decode_areas(messages: Sequence[Message]) -> tuple[list[Area], list[Rejection]]:
    """Areas in the order of their messages, and the rejections. A tombstone (no value) is neither."""
    areas: list[Area] = []
    rejections: list[Rejection] = []
    for index, (key, value, content_type, _) in enumerate(messages):
        if value is None:
            continue

        try:
            shape = shape_of(value, content_type)
            if isinstance(shape, RejectedError):
                raise shape
            area = AREA_DECODER.decode(value)
            check_texts(area)
            agreed(area.area, area_of_key(key))
        except (ValueError, RecursionError) as error:
            rejections.append(rejection_of(value, error, index))
        else:
            areas.append(area)
    return areas, rejections


def decode_inspections(
    messages: Sequence[Message],
) -> tuple[dict[str, Inspection | None], list[Rejection]]:
    """The newest inspection of each id, None if a tombstone (no value) withdraws it; and the rejections."""
    newest: dict[str, Inspection | None] = {}
    rejections: list[Rejection] = []

    for index, (key, value, content_type, _) in enumerate(messages):
        try:
            name = area_of_key(key)
            found = None if value is None else _inspection(value, content_type)
            if not name and found is None:
                raise RejectedError(Reason.NO_KEY, "withdraws nothing: it has no key")
            if found and name not in {"", found.inspection}:
                raise RejectedError(
                    Reason.BAD_ID, f"key {name}, value {found.inspection}"
                )
        except (ValueError, RecursionError) as error:
            rejections.append(rejection_of(value, error, index))
        else:
            newest[found.inspection if found else name] = found
    return newest, rejections


def _inspection(value: bytes, content_type: str) -> Inspection:
    """The inspection of a value. Raises ValueError or RecursionError."""
    shape = shape_of(value, content_type)
    if isinstance(shape, RejectedError):
        raise shape
    found = INSPECTION_DECODER.decode(value)
    for name in (found.inspection, found.subject, *found.rules, *found.echoes):
        check_id(name)
    for text in filter(None, (found.area, found.source)):
        check_id(text)
    if found.outcome not in OUTCOME_CODES:
        raise RejectedError(Reason.UNKNOWN_VALUE, f"outcome {found.outcome}")
    if 0 < found.until < found.since:
        raise RejectedError(Reason.BAD_TIME, "until is before since")
    return found


def decode_alert(value: bytes) -> Alert:
    """The alert of a value. Raises RejectedError."""
    is_older = b'"held":' in value
    try:
        alert = _older_alert(value) if is_older else ALERT_DECODER.decode(value)
    except (ValueError, RecursionError) as error:
        raise rejected_error(error) from error
    if not all(0 <= at < LATEST_TIME for at in (alert.since, alert.raised, alert.at)):
        raise RejectedError(
            Reason.BAD_TIME,
            "since, raised or at is not within 1970 to 2100 in Unix seconds",
        )
    return alert


def _older_alert(value: bytes) -> Alert:
    """An alert published under older names of fields. Raises ValueError."""
    fields = msgspec.json.decode(value, type=dict[str, Any])
    if "held" in fields:
        fields = renamed_fields(fields)
    return msgspec.convert(fields, Alert)
