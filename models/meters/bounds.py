"""Bounds of values: a value that no meter can measure becomes NaN."""

from __future__ import annotations

from collections import Counter

import numpy as np

from models.meters.implausible import replace_implausible, with_columns
from models.state.missing_values import unknown
from schemas.columns import KIND_COLUMNS, Column, Readings, Status

# Words that a meter sends for "no value", with any number of decimals.
FULL_WORDS = 0xFFFFFFFF, 0x7FFFFFFF, -0x80000000
SENTINEL_NUMBERS = np.array(
    [0xEEEE, 0xFFFF, *(word / 10**places for word in FULL_WORDS for places in range(5))]
)
# Defaults of this project:
SPAN_OF_NOMINAL = 2.0  # times Un, beyond which a voltage is implausible
SPAN_OF_RATING = 2.0  # times the meter's rating, beyond which current and power are
VALIDATED_COLUMNS = {
    name: column.plausible
    for name, column in KIND_COLUMNS[Readings].items()
    if column.plausible is not None
}


def within_bounds(
    readings: Readings,
    master: dict[str, Column],
    interval: int,
    implausible: Counter[str],
) -> Readings:
    """The rows with NaN for values that no meter can measure; each row alone, in any order."""
    by_rating = _limits_of(master, interval)
    estimated = readings.status == Status.ESTIMATED
    any_estimated = bool(estimated.any())
    replaced: dict[str, Column] = {}
    for name, (most, signed) in VALIDATED_COLUMNS.items():
        column = getattr(readings, name)
        limit = by_rating[most] if isinstance(most, str) else most
        if unknown(column) or not (
            any_estimated or _may_be_implausible(column, limit, signed=signed)
        ):
            continue

        column = _without_sentinels(column, implausible)
        if any_estimated:
            everywhere = np.broadcast_to(estimated, column.shape)
            column = replace_implausible(implausible, column, everywhere, "estimated")
        if not signed:
            column = replace_implausible(implausible, column, column < 0, "negative")
        if limit is not None:
            beyond = np.abs(column) > limit
            column = replace_implausible(implausible, column, beyond, "beyond_bound")
        replaced[name] = column

    # A three-wire meter has no second element.
    three_wire = master["three_wire"] == 1
    if three_wire.any():
        for name in ("u", "i"):
            column = np.array(replaced.get(name, getattr(readings, name)))
            column[1, three_wire] = np.nan
            replaced[name] = column
    return with_columns(readings, **replaced)


def _without_sentinels(column: Column, implausible: Counter[str]) -> Column:
    """The column with NaN for numbers that mean no value, and for infinity."""
    huge = np.abs(column) >= 0xEEEE
    if not huge.any():
        return column
    numbers = SENTINEL_NUMBERS.astype(column.dtype)
    sentinels = huge & np.isin(column, numbers)
    column = replace_implausible(implausible, column, sentinels, "sentinel")
    infinite = np.isinf(column)
    return replace_implausible(implausible, column, infinite, "not_finite")


def rated_kw(master: dict[str, Column]) -> Column:
    """The kW beyond which a meter's power is implausible."""
    rated_va = master["un"] * master["imax"] * master["phases"]
    return SPAN_OF_RATING * rated_va / 1000


def _limits_of(master: dict[str, Column], interval: int) -> dict[str, Column]:
    """The limits by a meter's rating, beyond which a value is implausible."""
    contract_kw = SPAN_OF_RATING * master["contract_kva"] / master["ratio"]
    limit_kw = np.fmax(rated_kw(master), contract_kw)
    hours = np.fmax(master["interval_s"], interval) / 3600

    return {
        "voltage": SPAN_OF_NOMINAL * master["un"],
        "current": SPAN_OF_RATING * master["imax"],
        "power": limit_kw,
        "energy": limit_kw * hours,
    }


def _may_be_implausible(
    column: Column, bound: Column | float | None, *, signed: bool
) -> bool:
    """True if a value is too high or too low to pass without a closer look."""
    most = 0xEEEE if bound is None else min(0xEEEE, np.fmin.reduce(bound, axis=None))
    least = -most if signed else 0
    highest = np.fmax.reduce(column, axis=None)
    lowest = np.fmin.reduce(column, axis=None)
    return bool(highest >= most or lowest < least)
