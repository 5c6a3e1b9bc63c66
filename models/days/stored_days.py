"""Reads and packs the cells of open days, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.days.area_sums import INTERVAL_SUMS
from models.days.pools import OpenDay, Pools
from models.state.cells import Array
from models.state.packing import packed_days, unpacked_days
from models.state.runs import spread
from schemas.columns import Codes

PACKED_AREAS = 64  # areas packed together, few enough for the processor's cache
UNPACKED_DAYS = 8192  # days whose sums are unpacked together


class StoredDays(NamedTuple):
    """The stored rows and sums of a day of each area; members of one area after another."""

    # (*lead, members); where nothing was read, of one member who stands for all.
    rows: dict[str, Array]
    sums: dict[str, Array]  # (*lead, areas), the same
    sizes: Codes  # members of each area
    blank: bool  # nothing was read in any of the days


class DaySums(NamedTuple):
    """The sums of some days of areas."""

    which: Codes  # areas, as numbers among the areas asked for
    days: Codes
    sums: dict[str, Array]
    slots: Codes  # of each day in `sums`


class _DaySource(NamedTuple):
    """The cells of some of the days asked for, in the pools or unpacked."""

    which: list[int]  # days, as numbers among the days asked for
    rows: dict[str, Array]
    sums: dict[str, Array]
    bases: Codes  # of each day's rows
    sizes: Codes  # rows that each day has
    sums_slots: Codes


def stored_days(
    pools: Pools,
    open_days: Sequence[OpenDay | None],
    sizes: Codes,
    sums: Iterable[str],
) -> StoredDays:
    """The rows of areas' days, of so many members each, and the named sums; else fresh."""
    empty = {name: pools.area_sums.empty[name] for name in sums}
    pooled = [n for n, day in enumerate(open_days) if day and not day.packed]
    packed = [n for n, day in enumerate(open_days) if day and day.packed]
    sources: list[_DaySource] = []
    if pooled:
        source = _pooled_source(pools, open_days, pooled)
        if len(pooled) == len(open_days) and (source.sizes >= sizes).all():
            return _read_from_pools(pools, source, sizes, empty)
        sources.append(source)

    if packed:
        source = _packed_source(pools, open_days, packed, empty)
        if len(packed) == len(open_days) and np.array_equal(source.sizes, sizes):
            return StoredDays(source.rows, source.sums, sizes, blank=False)
        sources.append(source)
    return _gathered_days(pools, sources, sizes, empty)


def _pooled_source(
    pools: Pools,
    open_days: Sequence[OpenDay | None],
    which: list[int],
) -> _DaySource:
    """The days that stand in the pools."""
    pooled = [day for day in open_days if day and not day.packed]
    return _DaySource(
        which=which,
        rows=pools.member_rows.arrays,
        sums=pools.area_sums.arrays,
        bases=np.array([day.base for day in pooled]),
        sizes=np.array([day.size for day in pooled]),
        sums_slots=np.array([day.sums_slot for day in pooled]),
    )


def _packed_source(
    pools: Pools,
    open_days: Sequence[OpenDay | None],
    which: list[int],
    sums: Mapping[str, Array],
) -> _DaySource:
    """The days that are packed, with these sums."""
    packed = [day.packed for day in open_days if day and day.packed]
    unpacked = unpacked_days(packed, pools.member_rows.empty, sums)
    return _DaySource(
        which=which,
        rows=unpacked.members,
        sums=unpacked.areas,
        bases=np.cumsum(unpacked.sizes) - unpacked.sizes,
        sizes=unpacked.sizes,
        sums_slots=np.arange(len(which)),
    )


def _read_from_pools(
    pools: Pools,
    source: _DaySource,
    sizes: Codes,
    sums: Iterable[str],
) -> StoredDays:
    """The days of a source that has all of them, of so many members each."""
    day_sums = {
        name: np.take(source.sums[name], source.sums_slots, axis=-1) for name in sums
    }
    rows = pools.member_rows.read(spread(source.bases, sizes))
    return StoredDays(rows, day_sums, sizes, blank=False)


def _gathered_days(
    pools: Pools,
    sources: Sequence[_DaySource],
    sizes: Codes,
    empty: Mapping[str, Array],
) -> StoredDays:
    """Fresh cells of days of so many members each, with the cells of the sources in them."""
    if not sources:
        rows = _fresh_cells(pools.member_rows.empty, 1)
        return StoredDays(rows, _fresh_cells(empty, 1), sizes, blank=True)

    rows = _fresh_cells(pools.member_rows.empty, int(sizes.sum()))
    day_sums = _fresh_cells(empty, len(sizes))
    begins = np.cumsum(sizes) - sizes
    for source in sources:
        copied = np.minimum(source.sizes, sizes[source.which])
        target_rows = spread(begins[source.which], copied)
        source_rows = spread(source.bases, copied)
        for name, array in rows.items():
            array[..., target_rows] = source.rows[name][..., source_rows]
        for name, array in day_sums.items():
            array[..., source.which] = source.sums[name][..., source.sums_slots]
    return StoredDays(rows, day_sums, sizes, blank=False)


def _fresh_cells(empty: Mapping[str, Array], count: int) -> dict[str, Array]:
    """So many fresh cells."""
    return {
        name: np.repeat(value[..., None], count, axis=-1)
        for name, value in empty.items()
    }


def packed_as_bytes(
    pools: Pools,
    open_days: Sequence[OpenDay],
    sizes: Codes,
) -> list[bytes]:
    """The bytes of open days, of so many members each."""
    packed: list[bytes] = []
    for start in range(0, len(open_days), PACKED_AREAS):
        group = slice(start, start + PACKED_AREAS)
        days = stored_days(pools, open_days[group], sizes[group], pools.area_sums.empty)
        packed += packed_days(days.rows, days.sums, days.sizes)
    return packed


def interval_sums(
    pools: Pools, days: Sequence[tuple[int, int, OpenDay]]
) -> Iterator[DaySums]:
    """The interval sums of open days, each given with its area's number and its day."""
    pooled = [
        (n, day, open_day.sums_slot) for n, day, open_day in days if not open_day.packed
    ]
    if pooled:
        which, numbers, slots = np.array(pooled).T
        yield DaySums(which, numbers, pools.area_sums.arrays, slots)

    packed = [(n, day, open_day.packed) for n, day, open_day in days if open_day.packed]
    empty = {name: pools.area_sums.empty[name] for name in INTERVAL_SUMS}
    for start in range(0, len(packed), UNPACKED_DAYS):
        some = packed[start : start + UNPACKED_DAYS]
        sums = unpacked_days([as_bytes for _, _, as_bytes in some], {}, empty).areas
        which = np.array([n for n, _, _ in some])
        numbers = np.array([day for _, day, _ in some])
        yield DaySums(which, numbers, sums, np.arange(len(some)))
