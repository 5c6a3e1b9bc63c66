"""Bytes of a tree of dicts, lists, numbers, text and arrays."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np

ARRAY_EXTENSION = 1
SAVED_DTYPES = re.compile(r"[<|](?:b1|[iuf][1248])")  # of arrays that are read


def _pack(value: Any) -> msgspec.msgpack.Ext:
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a snapshot cannot hold {type(value).__name__}")
    head = msgspec.msgpack.encode((value.dtype.str, value.shape))
    size = len(head).to_bytes(2, "little")
    body = np.ascontiguousarray(value).data
    return msgspec.msgpack.Ext(ARRAY_EXTENSION, b"".join((size, head, body)))


def _unpack(code: int, data: memoryview) -> Any:
    if code != ARRAY_EXTENSION:
        raise ValueError(f"extension {code} is not an array")
    end = 2 + int.from_bytes(data[:2], "little")
    head = data[2:end]
    dtype, shape = msgspec.msgpack.decode(head, type=tuple[str, list[int]])
    if not SAVED_DTYPES.fullmatch(dtype) or min(shape, default=0) < 0:
        raise ValueError(f"an array has type {dtype} and shape {shape}")
    array = np.frombuffer(data[end:], dtype).reshape(shape)
    return array if shape else array.item()


_encoder = msgspec.msgpack.Encoder(enc_hook=_pack)
_decoder = msgspec.msgpack.Decoder(ext_hook=_unpack)


def captured(value: Any) -> Any:
    """A value for `dumps` that later changes do not reach: an array's copy, else its bytes."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return msgspec.Raw(dumps(value))


def dumps(tree: Any) -> bytes:
    """The tree as bytes; arrays keep type and shape. Raises TypeError for other values.

    >>> loads(dumps({"a": np.arange(2)}))["a"].tolist()
    [0, 1]
    """
    return _encoder.encode(tree)


def loads(data: bytes | memoryview) -> Any:
    """The tree of bytes; arrays are read-only. Raises ValueError unless `dumps` wrote them."""
    try:
        return _decoder.decode(data)
    except (
        msgspec.MsgspecError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(f"not a saved tree: {error}") from error
