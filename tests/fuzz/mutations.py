"""Damage to sound values: bytes flipped, cut or joined with others, and another value in one place of a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.wire import FRAME_CONTENT_TYPE, JSON_CONTENT_TYPE
from schemas.wire.records import (
    RECORD_TYPES,
    Frame,
)

EVENT_TIME = 1_700_000_000
FIELD_NAMES = sorted(
    {
        name
        for record in (*RECORD_TYPES.values(), Frame)
        for name in record.__struct_encode_fields__
    }
)
ANY_TEXT = st.text(max_size=9) | st.sampled_from(
    [*FIELD_NAMES, "M1", "A1", "bill", "started", "2023-11-14T22:13:20Z"]
)
ANY_NUMBER = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.sampled_from([0, -1, EVENT_TIME, 2**31, 2**32, 10**9, 1e300, 5e-324])
)
ANY_SCALAR = st.none() | st.booleans() | ANY_NUMBER | ANY_TEXT
ANY_TREE = st.recursive(
    ANY_SCALAR | st.binary(max_size=24),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=8,
)
CONTENT_TYPES = st.sampled_from(
    ["", "", JSON_CONTENT_TYPE, FRAME_CONTENT_TYPE, "text/plain"]
)


BYTE_MISHAPS = ["flip", "cut", "join", "insert", "leave out", "twice", "pair"]


@st.composite
def damaged(draw: st.DrawFn, value: bytes, others: st.SearchStrategy[bytes]) -> bytes:
    """The value after one to three mishaps to its bytes."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        head, tail = value[:at], value[at:]
        mishap = draw(st.sampled_from(BYTE_MISHAPS))

        # Within the value, or with another value.
        if mishap == "flip" and tail:
            flipped = tail[0] ^ draw(st.integers(1, 255))
            value = head + bytes([flipped]) + tail[1:]
        elif mishap == "cut":
            value = head
        elif mishap == "insert":
            value = head + draw(st.binary(max_size=8)) + tail
        elif mishap == "join":
            other = draw(others)
            value = head + other[draw(st.integers(0, len(other))) :]
        elif mishap == "pair":
            value += draw(st.sampled_from([b",", b",\n", b" "])) + draw(others)

        # A stretch left out, or twice.
        else:
            end = draw(st.integers(at, len(value)))
            stretch, rest = value[at:end], value[end:]
            value = head + (b"" if mishap == "leave out" else 2 * stretch) + rest
    return value


@st.composite
def other_array(draw: st.DrawFn, array: NDArray[Any]) -> NDArray[Any]:
    """An array with another type, shape, length, or another bit in one place."""
    match draw(st.integers(0, 5)):
        case 0:
            types = ["f8", "i8", "u1", "i1", "f4", "?"]
            return array.astype(draw(st.sampled_from(types)))
        case 1:
            return array[..., : draw(st.integers(0, array.shape[-1]))]
        case 2:
            return np.concatenate([array, array], axis=-1)
        case 3:
            return array[None]

    bits = bytearray(array.tobytes())
    if bits:
        bits[draw(st.integers(0, len(bits) - 1))] ^= 1 << draw(st.integers(0, 7))
    return np.frombuffer(bytes(bits), array.dtype).reshape(array.shape)


@st.composite
def tampered(draw: st.DrawFn, tree: Any) -> Any:
    """A tree of dicts, lists and arrays with one value missing or replaced."""
    if isinstance(tree, np.ndarray):
        return draw(other_array(tree))
    keys: Sequence[Any] = ()
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = range(len(tree))
    if not keys:
        return draw(ANY_TREE | st.just(np.zeros((2, 3), np.float32)))

    key = draw(st.sampled_from(keys))
    copy = tree.copy()
    match draw(st.integers(0, 11)):
        case 0:
            del copy[key]
        case 1:
            copy[key] = draw(ANY_TREE)
        case _:
            copy[key] = draw(tampered(tree[key]))
    return copy


@st.composite
def swapped(draw: st.DrawFn, tree: Any) -> Any:
    """A tree of dicts and lists with one value missing, replaced or added."""
    if isinstance(tree, dict) and tree and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(tree)))
        match draw(st.integers(0, 5)):
            case 0:
                return {name: value for name, value in tree.items() if name != key}
            case 1:
                return tree | {draw(ANY_TEXT): draw(ANY_TREE)}
            case _:
                return tree | {key: draw(swapped(tree[key]))}

    if isinstance(tree, list) and tree and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], draw(swapped(tree[at])), *tree[at + 1 :]]
    if isinstance(tree, bytes) and draw(st.booleans()):
        return draw(damaged(tree, st.binary(max_size=16)))
    return draw(ANY_TREE)


@st.composite
def corrupted(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A sound value damaged as bytes or as a tree, or one that never was sound."""
    match draw(st.integers(0, 6)):
        case 0:
            return draw(st.binary(max_size=80))
        case 1:
            return packed(draw(ANY_TREE), as_json=draw(st.booleans()))
        case 2 | 3:
            return draw(damaged(draw(whole), whole))
        case _:
            value = draw(whole)
            as_json = value[:1] in b"[{"
            decode = msgspec.json.decode if as_json else msgspec.msgpack.decode
            return packed(draw(swapped(decode(value))), as_json=as_json)


def packed(tree: Any, *, as_json: bool) -> bytes:
    """The tree in JSON or msgpack; empty where it cannot be encoded."""
    try:
        return msgspec.json.encode(tree) if as_json else msgspec.msgpack.encode(tree)
    except (UnicodeEncodeError, OverflowError):
        return b""
