"""Kafka messages: records in JSON and frames in msgpack, decoded to batches and encoded from them."""

from schemas.wire.decoding import (
    Message,
    check_texts,
    decode,
    decode_alert,
    decode_areas,
    decode_inspections,
)
from schemas.wire.encoding import (
    Encoded,
    Shape,
    encode,
    encode_alert,
    encode_area,
    encode_scores,
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
    "Shape",
    "check_texts",
    "decode",
    "decode_alert",
    "decode_areas",
    "decode_inspections",
    "encode",
    "encode_alert",
    "encode_area",
    "encode_scores",
]
