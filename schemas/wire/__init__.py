"""Kafka messages: records in JSON and frames in msgpack, decoded to batches and encoded from them."""

from schemas.wire.decoding import (
    Message,
    check_texts,
    decode_alert,
    decode_areas,
    decode_events,
    decode_payments,
    decode_readings,
    decode_stages,
)
from schemas.wire.encoding import (
    Encoded,
    encode_alert,
    encode_area,
    encode_events,
    encode_payments,
    encode_readings,
    encode_stages,
)
from schemas.wire.records import FRAME_CONTENT_TYPE, JSON_CONTENT_TYPE
from schemas.wire.rejection import Reason, RejectedError, Rejection

__all__ = [
    "FRAME_CONTENT_TYPE",
    "JSON_CONTENT_TYPE",
    "Encoded",
    "Message",
    "Reason",
    "RejectedError",
    "Rejection",
    "check_texts",
    "decode_alert",
    "decode_areas",
    "decode_events",
    "decode_payments",
    "decode_readings",
    "decode_stages",
    "encode_alert",
    "encode_area",
    "encode_events",
    "encode_payments",
    "encode_readings",
    "encode_stages",
]
