"""Arrays in few bytes, exactly: decimals as whole numbers, bytes of like significance side by side.

The days of many areas are packed at once, and each can be read alone: it names its columns, their types and shapes.
Those that were packed one by one are still read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from cramjam import DecompressionError, zstd
from numpy.typing import NDArray

from models.cells import Array
from models.saved import SAVED_DTYPES, dumps, loads
from models.state import StateError
from schemas.columns import Codes

DECIMAL_PLACES = (2, 3, 4)  # decimals that meters tell; what has more stays a float
NAN_INTEGER = -1  # for NaN
DAY_MARK = 2  # first byte of a day that was packed with others; one packed alone begins as a map
LoneColumn = tuple[
    str, tuple[int, ...], Array | None, Array
]  # type, shape, decimals by column, and bytes
Plan = list[tuple[str, str, list[int]]]  # name, type and shape per cell
OLDER_NAMES = {"loads_told": "loads_count", "unbalances_told": "unbalances_count"}
Columns = Mapping[str, Array]  # each of the shape (*lead, members) or (*lead, areas)


class Unpacked(NamedTuple):
    """The days of some areas: the columns of all their members and of the areas, and how many members each has."""

    members: dict[str, Array]
    areas: dict[str, Array]
    sizes: Codes


def packed(arrays: Columns) -> bytes:
    """The arrays as bytes.

    >>> unpacked(packed({"kwh": np.array([0.25, np.nan], np.float32)}))["kwh"].tolist()
    [0.25, nan]
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        column, places = (
            _to_integers(array) if array.dtype == np.float32 else (array, None)
        )
        by_significance = (
            np.ascontiguousarray(column)
            .reshape(-1)
            .view(np.uint8)
            .reshape(-1, column.itemsize)
            .T
        )
        tree[name] = (
            array.dtype.str,
            array.shape,
            places,
            np.ascontiguousarray(by_significance),
        )
    return bytes(zstd.compress(dumps(tree), level=1))


def unpacked(data: bytes) -> dict[str, Array]:
    """The arrays that `packed` was given, not to be written to."""
    return _arrays_of(bytes(zstd.decompress(data)))


def packed_days(members: Columns, areas: Columns, sizes: Codes) -> list[bytes]:
    """The day of each of some areas, from the columns of all their members and of the areas."""
    plan = [
        [(name, a.dtype.str, a.shape[:-1]) for name, a in columns.items()]
        for columns in (members, areas)
    ]
    head = msgspec.msgpack.encode(plan)
    head = bytes([DAY_MARK]) + len(head).to_bytes(2, "little") + head
    rows, sums = _planes(members), np.ascontiguousarray(_planes(areas).T)
    days = []
    for size, end, told in zip(
        sizes.tolist(), np.cumsum(sizes).tolist(), sums, strict=True
    ):
        body = head + told.tobytes() + rows[:, end - size : end].tobytes()
        days.append(bytes(zstd.compress(body, level=1)))
    return days


def unpacked_days(days: Sequence[bytes], members: Columns, areas: Columns) -> Unpacked:
    """These columns of some days; where a day lacks one, it has the value given here, which is that of one cell."""
    opened = [_plan_and_body(bytes(zstd.decompress(day))) for day in days]
    parts: list[Unpacked] = []
    for plan, alike in groupby(opened, key=itemgetter(0)):
        bodies = [body for _, body in alike]
        parts += (
            [_unpacked_together(plan, bodies, members, areas)]
            if plan
            else [_unpacked_alone(body, members, areas) for body in bodies]
        )
    counts = [int(part.sizes.sum()) for part in parts]
    return Unpacked(
        _joined([part.members for part in parts], members, counts),
        _joined(
            [part.areas for part in parts], areas, [len(part.sizes) for part in parts]
        ),
        np.concatenate([part.sizes for part in parts]),
    )


def check_day(day: bytes, members: Columns, areas: Columns) -> None:
    """Raises StateError unless a packed day can be read, and its columns of these names hold such cells."""
    try:
        plan, body = _plan_and_body(bytes(zstd.decompress(day)))
        found = _planned_columns(plan, body) if plan else _lone_columns(body, members)
        for name, kind, lead in found:
            cell = members.get(name, areas.get(name))
            if not SAVED_DTYPES.fullmatch(kind):
                raise ValueError(f"{name} is of the type {kind}")
            if cell is not None and (
                tuple(lead) != cell.shape or not np.can_cast(kind, cell.dtype, "safe")
            ):
                raise ValueError(f"{name} holds other cells")
    except (DecompressionError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"a packed day cannot be read ({error})") from error


def _name_of(name: str) -> str:
    """The name that a column has today."""
    return OLDER_NAMES.get(name, name)


def _planned_columns(plan: bytes, body: bytes) -> Plan:
    """The columns of a day that was packed with others. Raises ValueError where it does not follow its plan."""
    told = msgspec.msgpack.decode(plan, type=tuple[Plan, Plan])
    width, least = (sum(map(_bytes_of, columns)) for columns in told)
    if not width or len(body) < least or (len(body) - least) % width:
        raise ValueError("it is not of the length that it says")
    return [
        (_name_of(name), kind, lead) for columns in told for name, kind, lead in columns
    ]


def _lone_columns(tree: bytes, members: Columns) -> Plan:
    """The columns of a day that was packed alone. Raises ValueError where one is damaged."""
    found = {
        _name_of(name): column
        for name, column in msgspec.convert(loads(tree), dict[str, LoneColumn]).items()
    }
    for name, (kind, shape, places, column) in found.items():
        decimal = places is None or (kind == "<f4" and places.shape == shape[-1:])
        if (
            not decimal
            or column.dtype != np.uint8
            or column.shape != (np.dtype(kind).itemsize, prod(shape))
        ):
            raise ValueError(f"{name} is damaged")
    if (
        len({shape[-1:] for name, (_, shape, _, _) in found.items() if name in members})
        > 1
    ):
        raise ValueError("its members' columns are not of one length")
    return [
        (name, kind, list(shape[: -1 if name in members else None]))
        for name, (kind, shape, _, _) in found.items()
    ]


def _plan_and_body(day: bytes) -> tuple[bytes, bytes]:
    """The plan of a day and what follows it; no plan where it was packed alone."""
    if day[0] != DAY_MARK:
        return b"", day
    end = 3 + int.from_bytes(day[1:3], "little")
    return day[3:end], day[end:]


def _unpacked_together(
    plan: bytes, bodies: Sequence[bytes], members: Columns, areas: Columns
) -> Unpacked:
    """The named columns of days that follow the same plan."""
    plans = msgspec.msgpack.decode(plan)
    width, least = (sum(map(_bytes_of, columns)) for columns in plans)
    told = [np.frombuffer(body, np.uint8) for body in bodies]
    sizes = np.array([(len(body) - least) // width for body in told], np.int64)
    if len(set(sizes.tolist())) == 1:
        rows = (
            np.stack(told)[:, least:]
            .reshape(len(told), width, sizes[0])
            .transpose(1, 0, 2)
            .reshape(width, -1)
        )
    else:
        rows = np.concatenate(
            [body[least:].reshape(width, -1) for body in told], axis=1
        )
    sums = np.stack([body[:least] for body in told], axis=1)
    return Unpacked(
        _columns_of(rows, plans[0], members), _columns_of(sums, plans[1], areas), sizes
    )


def _unpacked_alone(tree: bytes, members: Columns, areas: Columns) -> Unpacked:
    """The named columns of a day that was packed alone."""
    told = _arrays_of(tree)
    own = {name: array for name, array in told.items() if name in members}
    sums = {name: array[..., None] for name, array in told.items() if name in areas}
    return Unpacked(
        own,
        sums,
        np.array([max((array.shape[-1] for array in own.values()), default=0)]),
    )


def _arrays_of(tree: bytes) -> dict[str, Array]:
    """The arrays of a tree that `packed` made."""
    arrays: dict[str, Array] = {}
    for name, (dtype, shape, places, by_significance) in loads(tree).items():
        column = np.ascontiguousarray(by_significance.T).reshape(-1)
        arrays[_name_of(name)] = (
            column.view(dtype).reshape(shape)
            if places is None
            else _from_integers(column, shape, places)
        )
    return arrays


def _joined(
    groups: Sequence[Columns], empty: Columns, counts: Sequence[int]
) -> dict[str, Array]:
    """The named columns of some parts one after another, empty where a part has none of that name."""
    whole: dict[str, Array] = {}
    for name, value in empty.items():
        told = [
            part[name] if name in part else np.repeat(value[..., None], count, axis=-1)
            for part, count in zip(groups, counts, strict=True)
        ]
        whole[name] = told[0] if len(told) == 1 else np.concatenate(told, axis=-1)
    return whole


def _planes(columns: Columns) -> NDArray[np.uint8]:
    """The bytes of each cell of some columns, those of like significance one after another, by cell."""
    told: list[NDArray[np.uint8]] = []
    for array in columns.values():
        flat, places = array.reshape(-1, array.shape[-1]), None
        if array.dtype == np.float32:
            flat, places = _to_integers(flat)
        as_bytes = (
            np.ascontiguousarray(flat)
            .view(np.uint8)
            .reshape(*flat.shape, flat.itemsize)
        )
        told.append(as_bytes.transpose(2, 0, 1).reshape(-1, flat.shape[1]))
        if places is not None:
            told.append(places[None])
    return np.concatenate(told)


def _bytes_of(column: tuple[str, str, Sequence[int]]) -> int:
    """How many bytes `_planes` makes of a cell of a column."""
    kind, lead = np.dtype(column[1]), column[2]
    return prod(lead) * kind.itemsize + (kind == np.float32)


def _columns_of(
    cell_bytes: NDArray[np.uint8],
    plan: Sequence[tuple[str, str, Sequence[int]]],
    names: Collection[str],
) -> dict[str, Array]:
    """The named columns of those of which `_planes` gave the bytes."""
    columns: dict[str, Array] = {}
    start, count = 0, cell_bytes.shape[1]
    for column in plan:
        name, kind, lead = _name_of(column[0]), np.dtype(column[1]), column[2]
        end = start + prod(lead) * kind.itemsize
        if name in names:
            as_bytes = (
                cell_bytes[start:end]
                .reshape(kind.itemsize, -1, count)
                .transpose(1, 2, 0)
            )
            array = (
                np.ascontiguousarray(as_bytes).reshape(-1).view(kind).reshape(-1, count)
            )
            if kind == np.float32:
                array = _from_integers(array, array.shape, cell_bytes[end])
            columns[name] = array.reshape(*lead, count)
        start += _bytes_of(column)
    return columns


def _to_integers(array: Array) -> tuple[Array, Array]:
    """Floats as whole numbers of their last decimal, by column; the bits of columns that have no such decimal."""
    told, places = array.view(np.int32).copy(), np.zeros(array.shape[-1], np.uint8)
    missing = np.isnan(array)
    for place in DECIMAL_PLACES:
        whole = np.rint(array * np.float32(10**place))
        exact = (
            (whole / np.float32(10**place) == array)
            & (whole > NAN_INTEGER)
            & (whole < 2**24)
        ) | missing
        fits = (places == 0) & exact.reshape(-1, array.shape[-1]).all(axis=0)
        told[..., fits] = np.where(missing, NAN_INTEGER, whole)[..., fits]
        places[fits] = place
    return told, places


def _from_integers(column: Array, shape: tuple[int, ...], places: Array) -> Array:
    """The floats of which `_to_integers` gave the numbers."""
    told = column.view(np.int32).reshape(shape)
    floats = told.view(np.float32).copy()
    for place in DECIMAL_PLACES:
        fits = places == place
        whole = told[..., fits]
        floats[..., fits] = np.where(
            whole == NAN_INTEGER,
            np.nan,
            whole.astype(np.float32) / np.float32(10**place),
        )
    return floats
