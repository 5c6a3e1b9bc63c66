"""Arrays in few bytes, exactly: decimals as whole numbers, bytes of like significance side by side."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from cramjam import zstd

from models.cells import Array
from models.saved import dumps, loads

PLACES = (2, 3, 4)  # decimals that meters tell; what has more stays a float
NONE = -1  # for NaN


def packed(arrays: dict[str, Array]) -> bytes:
    """The arrays as bytes.

    >>> unpacked(packed({"kwh": np.array([0.25, np.nan], np.float32)}))["kwh"].tolist()
    [0.25, nan]
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        column, places = wholes(array) if array.dtype == np.float32 else (array, None)
        by_significance = np.ascontiguousarray(column).reshape(-1).view(np.uint8).reshape(-1, column.itemsize).T
        tree[name] = array.dtype.str, array.shape, places, np.ascontiguousarray(by_significance)
    return bytes(zstd.compress(dumps(tree), level=1))


@lru_cache(maxsize=1)
def unpacked(data: bytes) -> dict[str, Array]:
    """The arrays that `packed` was given, not to be written to; often asked for twice in a row."""
    arrays: dict[str, Array] = {}
    for name, (dtype, shape, places, by_significance) in loads(bytes(zstd.decompress(data))).items():
        column = np.ascontiguousarray(by_significance.T).reshape(-1)
        arrays[name] = column.view(dtype).reshape(shape) if places is None else decimals(column, shape, places)
    return arrays


def wholes(array: Array) -> tuple[Array, Array]:
    """Floats as whole numbers of their last decimal, by column; the bits of columns that have no such decimal."""
    told, places = array.view(np.int32).copy(), np.zeros(array.shape[-1], np.uint8)
    missing = np.isnan(array)
    for place in PLACES:
        whole = np.rint(array * np.float32(10**place))
        exact = ((whole / np.float32(10**place) == array) & (whole > NONE) & (whole < 2**24)) | missing
        fits = (places == 0) & exact.reshape(-1, array.shape[-1]).all(axis=0)
        told[..., fits] = np.where(missing, NONE, whole)[..., fits]
        places[fits] = place
    return told, places


def decimals(column: Array, shape: tuple[int, ...], places: Array) -> Array:
    """The floats of which `wholes` gave the numbers."""
    told = column.view(np.int32).reshape(shape)
    floats = told.view(np.float32).copy()
    for place in PLACES:
        fits = places == place
        whole = told[..., fits]
        floats[..., fits] = np.where(whole == NONE, np.nan, whole.astype(np.float32) / np.float32(10**place))
    return floats
