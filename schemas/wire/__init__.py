"""Kafka messages: records in JSON and frames in msgpack, decoded to batches and encoded from them."""

from schemas.wire.decoding import decode
from schemas.wire.encoding import (
    Encoded,
    Shape,
    encode,
    encode_alert,
    encode_area,
    encode_scores,
)
from schemas.wire.ids import check_texts
from schemas.wire.records import FRAME_CONTENT_TYPE, JSON_CONTENT_TYPE
from schemas.wire.rejection import Reason, RejectedError, Rejection
from schemas.wire.shapes import Message
from schemas.wire.single_values import decode_alert, decode_areas, decode_inspections

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
