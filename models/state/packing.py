"""Arrays in few bytes, exactly: decimals as whole numbers, bytes of like significance side by side.

The days of many areas are packed at once, and each can be read alone: it names its columns, their
types and shapes. Days that were packed one by one are still read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain, groupby
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from cramjam import DecompressionError, zstd
from numpy.typing import NDArray

from models.state.cells import Array
from models.state.codec import SAVED_DTYPES, dumps, loads
from models.state.owners import StateError
from schemas.columns import Codes

DECIMAL_PLACES = (2, 3, 4)  # decimals of meters; a value with more stays a float
NAN_INTEGER = -1  # for NaN
# First byte of a day that was packed with others; a day packed alone begins as a map.
DAY_MARK = 2
# Type, shape, decimals by column, and bytes.
LoneColumn = tuple[str, tuple[int, ...], Array | None, Array]
Plan = list[tuple[str, str, list[int]]]  # name, type and shape per cell
OLDER_NAMES = {"loads_told": "loads_count", "unbalances_told": "unbalances_count"}
Columns = Mapping[str, Array]  # each of the shape (*lead, members) or (*lead, areas)


class Unpacked(NamedTuple):
    """The days of areas: columns of all members and of the areas, and each area's member count."""

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
        column = array
        places = None
        if array.dtype == np.float32:
            column, places = _to_integers(array)
        flat = np.ascontiguousarray(column).reshape(-1)
        as_bytes = flat.view(np.uint8).reshape(-1, column.itemsize)
        by_significance = np.ascontiguousarray(as_bytes.T)
        tree[name] = (array.dtype.str, array.shape, places, by_significance)
    return bytes(zstd.compress(dumps(tree), level=1))


def unpacked(data: bytes) -> dict[str, Array]:
    """The arrays that `packed` was given, not to be written to."""
    return _arrays_of(bytes(zstd.decompress(data)))


def packed_days(members: Columns, areas: Columns, sizes: Codes) -> list[bytes]:
    """The day of each area, from the columns of all their members and of the areas."""
    plan = msgspec.msgpack.encode([_plan_of(members), _plan_of(areas)])
    length = len(plan).to_bytes(2, "little")
    head = bytes([DAY_MARK]) + length + plan
    rows = _planes(members)
    sums = np.ascontiguousarray(_planes(areas).T)

    days = []
    end = 0
    for size, area in zip(sizes.tolist(), sums, strict=True):
        start = end
        end = end + size
        own_rows = rows[:, start:end]
        body = head + area.tobytes() + own_rows.tobytes()
        days.append(bytes(zstd.compress(body, level=1)))
    return days


def _plan_of(columns: Columns) -> list[tuple[str, str, tuple[int, ...]]]:
    """The name, type and shape per cell of columns."""
    return [
        (name, array.dtype.str, array.shape[:-1]) for name, array in columns.items()
    ]


def unpacked_days(days: Sequence[bytes], members: Columns, areas: Columns) -> Unpacked:
    """The named columns of days; a column that a day lacks has the given value, of one cell."""
    opened = [_plan_and_body(bytes(zstd.decompress(day))) for day in days]
    groups: list[Unpacked] = []
    for plan, alike in groupby(opened, key=itemgetter(0)):
        bodies = [body for _, body in alike]
        if plan:
            groups.append(_unpacked_together(plan, bodies, members, areas))
        else:
            groups += [_unpacked_alone(body, members, areas) for body in bodies]

    member_counts = [int(group.sizes.sum()) for group in groups]
    area_counts = [len(group.sizes) for group in groups]
    return Unpacked(
        _joined([group.members for group in groups], members, member_counts),
        _joined([group.areas for group in groups], areas, area_counts),
        np.concatenate([group.sizes for group in groups]),
    )


def check_day(day: bytes, members: Columns, areas: Columns) -> None:
    """Raises StateError if a packed day cannot be read, or its columns have other cells."""
    try:
        plan, body = _plan_and_body(bytes(zstd.decompress(day)))
        found = _planned_columns(plan, body) if plan else _lone_columns(body, members)
        for name, kind, lead in found:
            cell = members.get(name, areas.get(name))
            if not SAVED_DTYPES.fullmatch(kind):
                raise ValueError(f"{name} has the type {kind}")
            if cell is None:
                continue
            fits = np.can_cast(kind, cell.dtype, "safe")
            if not fits or tuple(lead) != cell.shape:
                raise ValueError(f"{name} has other cells")
    except (DecompressionError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"a packed day cannot be read ({error})") from error


def _name_of(name: str) -> str:
    """The name that a column has today."""
    return OLDER_NAMES.get(name, name)


def _planned_columns(plan: bytes, body: bytes) -> Plan:
    """The columns of a day packed with others. Raises ValueError if it disagrees with its plan."""
    plans = msgspec.msgpack.decode(plan, type=tuple[Plan, Plan])
    width, least = (sum(map(_bytes_of, columns)) for columns in plans)
    rows = len(body) - least
    if not width or rows < 0 or rows % width:
        raise ValueError("its length disagrees with its plan")
    return [(_name_of(name), kind, lead) for name, kind, lead in chain(*plans)]


def _lone_columns(tree: bytes, members: Columns) -> Plan:
    """The columns of a day that was packed alone. Raises ValueError if one is damaged."""
    found = msgspec.convert(loads(tree), dict[str, LoneColumn])
    plan: Plan = []
    lengths = set()
    for older_name, (kind, shape, places, column) in found.items():
        name = _name_of(older_name)
        decimal = places is None
        if places is not None and kind == "<f4":
            decimal = places.shape == shape[-1:]
        byte_shape = (np.dtype(kind).itemsize, prod(shape))
        whole = column.dtype == np.uint8 and column.shape == byte_shape
        if not (decimal and whole):
            raise ValueError(f"{name} is damaged")

        # A member's column has an axis for the members, an area's has none.
        if name in members:
            lengths.add(shape[-1:])
            plan.append((name, kind, list(shape[:-1])))
        else:
            plan.append((name, kind, list(shape)))
    if len(lengths) > 1:
        raise ValueError("its members' columns differ in length")
    return plan


def _plan_and_body(day: bytes) -> tuple[bytes, bytes]:
    """The plan of a day and the bytes after it; no plan if it was packed alone."""
    if day[0] != DAY_MARK:
        return b"", day
    end = 3 + int.from_bytes(day[1:3], "little")
    return day[3:end], day[end:]


def _unpacked_together(
    plan: bytes, bodies: Sequence[bytes], members: Columns, areas: Columns
) -> Unpacked:
    """The named columns of days that follow the same plan."""
    member_plan, area_plan = msgspec.msgpack.decode(plan)
    width = sum(map(_bytes_of, member_plan))
    least = sum(map(_bytes_of, area_plan))
    days = [np.frombuffer(body, np.uint8) for body in bodies]
    lengths = np.array([len(day) for day in days], np.int64)
    sizes = (lengths - least) // width

    # Days of one size unpack at once.
    if len(set(sizes.tolist())) == 1:
        stacked = np.stack(days)[:, least:]
        by_day = stacked.reshape(len(days), width, sizes[0])
        rows = by_day.transpose(1, 0, 2).reshape(width, -1)
    else:
        of_days = [day[least:].reshape(width, -1) for day in days]
        rows = np.concatenate(of_days, axis=1)
    sums = np.stack([day[:least] for day in days], axis=1)
    return Unpacked(
        _columns_of(rows, member_plan, members),
        _columns_of(sums, area_plan, areas),
        sizes,
    )


def _unpacked_alone(tree: bytes, members: Columns, areas: Columns) -> Unpacked:
    """The named columns of a day that was packed alone."""
    arrays = _arrays_of(tree)
    rows = {name: array for name, array in arrays.items() if name in members}
    sums = {name: array[..., None] for name, array in arrays.items() if name in areas}
    lengths = [array.shape[-1] for array in rows.values()]
    size = max(lengths, default=0)
    return Unpacked(rows, sums, np.array([size]))


def _arrays_of(tree: bytes) -> dict[str, Array]:
    """The arrays of a tree that `packed` made."""
    arrays: dict[str, Array] = {}
    for name, (dtype, shape, places, by_significance) in loads(tree).items():
        column = np.ascontiguousarray(by_significance.T).reshape(-1)
        if places is None:
            arrays[_name_of(name)] = column.view(dtype).reshape(shape)
        else:
            arrays[_name_of(name)] = _from_integers(column, shape, places)
    return arrays


def _joined(
    groups: Sequence[Columns], empty: Columns, counts: Sequence[int]
) -> dict[str, Array]:
    """The named columns of groups one after another; empty cells if a group has no such column."""
    joined: dict[str, Array] = {}
    for name, value in empty.items():
        cell = value[..., None]
        arrays = [
            group[name] if name in group else np.repeat(cell, count, axis=-1)
            for group, count in zip(groups, counts, strict=True)
        ]
        alone = len(arrays) == 1
        joined[name] = arrays[0] if alone else np.concatenate(arrays, axis=-1)
    return joined


def _planes(columns: Columns) -> NDArray[np.uint8]:
    """The bytes of columns by cell, bytes of like significance one after another."""
    planes: list[NDArray[np.uint8]] = []
    for array in columns.values():
        flat = array.reshape(-1, array.shape[-1])
        places = None
        if array.dtype == np.float32:
            flat, places = _to_integers(flat)
        as_bytes = np.ascontiguousarray(flat).view(np.uint8)
        by_byte = as_bytes.reshape(*flat.shape, flat.itemsize).transpose(2, 0, 1)
        planes.append(by_byte.reshape(-1, flat.shape[1]))
        if places is not None:
            planes.append(places[None])
    return np.concatenate(planes)


def _bytes_of(column: tuple[str, str, Sequence[int]]) -> int:
    """The number of bytes that `_planes` makes of a cell of a column."""
    _, type_name, lead = column
    kind = np.dtype(type_name)
    return prod(lead) * kind.itemsize + (kind == np.float32)


def _columns_of(
    cell_bytes: NDArray[np.uint8],
    plan: Sequence[tuple[str, str, Sequence[int]]],
    names: Collection[str],
) -> dict[str, Array]:
    """The named columns of the bytes that `_planes` made."""
    columns: dict[str, Array] = {}
    start = 0
    count = cell_bytes.shape[1]
    for column in plan:
        older_name, type_name, lead = column
        name = _name_of(older_name)
        kind = np.dtype(type_name)
        end = start + prod(lead) * kind.itemsize

        if name in names:
            by_byte = cell_bytes[start:end].reshape(kind.itemsize, -1, count)
            as_bytes = np.ascontiguousarray(by_byte.transpose(1, 2, 0))
            flat = as_bytes.reshape(-1).view(kind)
            array = flat.reshape(-1, count)
            if kind == np.float32:
                array = _from_integers(array, array.shape, cell_bytes[end])
            columns[name] = array.reshape(*lead, count)
        start += _bytes_of(column)
    return columns


def _to_integers(array: Array) -> tuple[Array, Array]:
    """Floats as whole numbers of their last decimal, by column; else a column's own bits."""
    integers = array.view(np.int32).copy()
    places = np.zeros(array.shape[-1], np.uint8)
    missing = np.isnan(array)
    for place in DECIMAL_PLACES:
        scale = np.float32(10**place)
        whole = np.rint(array * scale)
        in_range = (whole > NAN_INTEGER) & (whole < 2**24)
        exact = in_range & (whole / scale == array) | missing
        by_column = exact.reshape(-1, array.shape[-1])
        all_exact = by_column.all(axis=0)

        fits = all_exact & (places == 0)
        numbers = np.where(missing, NAN_INTEGER, whole)
        integers[..., fits] = numbers[..., fits]
        places[fits] = place
    return integers, places


def _from_integers(column: Array, shape: tuple[int, ...], places: Array) -> Array:
    """The floats of which `_to_integers` made the numbers."""
    integers = column.view(np.int32).reshape(shape)
    floats = integers.view(np.float32).copy()
    for place in DECIMAL_PLACES:
        fits = places == place
        whole = integers[..., fits]
        decimals = whole.astype(np.float32) / np.float32(10**place)
        floats[..., fits] = np.where(whole == NAN_INTEGER, np.nan, decimals)
    return floats
