"""Which user's energy goes with what its area loses beyond the usual: the last thirty days of each, day by day."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.cells import Array, Cells
from models.features import Columns, Feature
from models.runs import grouped
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS

LEAST_COVERAGE = 0.9  # of a user's intervals, for its day to count
LEAST_DAYS, LEAST_DAYS_BEFORE, LEAST_DAYS_AFTER = (
    14,
    5,
    3,
)  # days that can tell, and those of them before and after a step
PROPORTIONAL_DAYS = (
    10  # days since the step that can tell of a share of what is registered
)
STEP_ERRORS = 5.0  # standard errors by which the loss must have risen for a step
COMPARED_USERS = 8  # users among whom a loss is shared out
MOST_CORRELATION = 0.9999  # of a correlation, at most


class SuspectEvidence(NamedTuple):
    """Of each user: a correlation, over how many days, and the kWh a day that it would explain."""

    rho: Column
    days: Column
    kwh: Column

    def strength(self) -> Column:
        """How unlikely it is by chance, in standard deviations of Fisher's z; nothing is known where it is NaN."""
        return np.nan_to_num(
            np.arctanh(np.minimum(self.rho, MOST_CORRELATION))
            * np.sqrt(np.maximum(self.days - 5, 0))
        )


class Suspects(Feature):
    """Thirty days of every user's energy; of a gateway meter, of what its area lost beyond the usual."""

    reads: tuple[str, ...] = ("area_unusual_kwh",)
    takes: tuple[str, ...] = (
        "area",
        "at",
        "kwh",
        "coverage",
        "ratio",
        "is_gateway",
        "pv_kva",
        "area_excess_kwh",
    )
    gives: tuple[str, ...] = ("suspect_rho", "suspect_days", "suspect_kwh")

    DAYS = 30

    def __init__(self) -> None:
        self.cells = Cells(kwh=np.full(self.DAYS, np.nan, np.float32), then=np.int64(0))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds correlation, days and kWh of each user; nothing to suspect where the area lost nothing beyond doubt.

        The rows of an area are those of one day. NaN where the loss is not known, or for fewer than 14 days.
        """
        told = np.flatnonzero(~np.isnan(columns["area_unusual_kwh"]))
        area, gateway, excess = (
            columns[name][told] for name in ("area", "is_gateway", "area_excess_kwh")
        )
        energy = np.where(
            columns["coverage"] >= LEAST_COVERAGE,
            columns["kwh"] * columns["ratio"],
            np.nan,
        )[told]
        days = self._remember(
            slots[told],
            columns["at"][told],
            np.where(gateway == 1, columns["area_unusual_kwh"][told], energy),
        )
        out = {name: np.full(len(slots), np.nan) for name in self.gives}
        for _, rows in grouped(area):
            users = rows[gateway[rows] == 0]
            loss = days[:, rows[gateway[rows] == 1][0]].astype(np.float64)
            known = ~np.isnan(loss)
            if not len(users) or np.count_nonzero(known) < LEAST_DAYS:
                continue
            found = SuspectEvidence(*np.zeros((3, len(users))))
            if excess[users[0]] > 0:
                found = compared(
                    loss[known],
                    days[known][:, users],
                    columns["pv_kva"][told[users]] > 0,
                )
            for name, values in zip(self.gives, found, strict=True):
                out[name][told[users]] = values
        return out

    def _remember(self, slots: Codes, at: Array, kwh: Column) -> Array:
        """The last thirty days of some slots, this one last; days without a row are NaN."""
        before, then = self.cells["kwh"][:, slots], self.cells["then"][slots]
        past = np.clip(np.rint((at - then) / DAY_SECONDS), 1, self.DAYS).astype(
            np.int64
        )
        source = np.arange(self.DAYS)[:, None] + past
        shifted = np.take_along_axis(before, np.minimum(source, self.DAYS - 1), axis=0)
        after = np.where(source < self.DAYS, shifted, np.float32(np.nan))
        after[-1] = kwh
        self.cells["kwh"][:, slots], self.cells["then"][slots] = after, at
        return after


def compared(loss: Column, energy: Array, sun: Mask) -> SuspectEvidence:
    """The stronger of two kinds of evidence against each user of an area, from (days, users) of energy.

    A share of what is registered is missing too: the loss goes with the registered energy, from the step on where there
    is one. Or what used to be registered is missing: it fell behind the other users' as the loss rose; this is no
    evidence against a user with generation, whose purchase falls when the sun shines.
    """
    energy = energy.astype(np.float64)
    step = rise(loss)
    total = np.rint(_filled(energy) * 1000).astype(np.int64).sum(axis=1) / 1000
    share = _proportional(loss[step:], energy[step:], total[step:])
    if not step:
        return share
    fall = _withheld(loss, energy, total, step)
    stronger = (fall.strength() > share.strength()) & ~sun
    return SuspectEvidence(
        *(
            np.where(stronger, one, other)
            for one, other in zip(fall, share, strict=True)
        )
    )


def rise(loss: Column) -> int:
    """The day on which a loss rose most clearly for good; 0 when it did not."""
    best, found = STEP_ERRORS, 0
    for day in range(LEAST_DAYS_BEFORE, len(loss) - LEAST_DAYS_AFTER + 1):
        before, after = loss[:day], loss[day:]
        spread = (
            np.square(before - before.mean()).sum()
            + np.square(after - after.mean()).sum()
        )
        error = np.sqrt(spread / (len(loss) - 2) * (1 / day + 1 / (len(loss) - day)))
        if after.mean() - before.mean() > best * error:
            best, found = (after.mean() - before.mean()) / error, day
    return found


def _proportional(loss: Column, energy: Array, total: Column) -> SuspectEvidence:
    """Whether the loss goes with each user's energy, whatever both owe to the area's total; who explains how much."""
    days = (~np.isnan(energy)).sum(axis=0)
    rho = np.fmin(
        _partial_correlation(loss, energy, total),
        _partial_correlation(ranks(loss), ranks(energy), ranks(total)),
    )
    rho = np.where(days >= PROPORTIONAL_DAYS, np.fmax(rho, 0), 0.0)
    evidence = SuspectEvidence(rho, days.astype(float), np.zeros(len(rho)))
    first = np.argsort(-evidence.strength(), kind="stable")[:COMPARED_USERS]
    first = first[rho[first] > 0]
    if len(first):
        from scipy.optimize import nnls  # noqa: PLC0415 - long to load, and few areas have suspects

        level = np.stack([np.ones(len(total)), total - total.mean()], axis=1)
        curves = np.concatenate([_filled(energy[:, first]), loss[:, None]], axis=1)
        curves -= level @ np.linalg.lstsq(level, curves, rcond=None)[0]
        evidence.kwh[first] = nnls(curves[:, :-1], curves[:, -1])[0] * np.nanmean(
            energy[:, first], axis=0
        )
    return evidence


def _withheld(loss: Column, energy: Array, total: Column, step: int) -> SuspectEvidence:
    """Whether each user's energy fell behind the other users' as the loss rose, and by how much, at most the rise."""
    before = energy[:step]
    usual = np.nansum(before, axis=0) / np.maximum((~np.isnan(before)).sum(axis=0), 1)
    missing = usual * (total / total[:step].mean())[:, None] - energy
    days = (~np.isnan(missing)).sum(axis=0)
    rho = _correlation(loss, missing)
    enough = ((~np.isnan(before)).sum(axis=0) >= LEAST_DAYS_BEFORE) & (
        (~np.isnan(missing[step:])).sum(axis=0) >= LEAST_DAYS_AFTER
    )
    kwh = np.nansum(missing[step:], axis=0) / np.maximum(
        (~np.isnan(missing[step:])).sum(axis=0), 1
    )
    return SuspectEvidence(
        np.where(enough, np.fmax(rho, 0), 0.0),
        days.astype(float),
        np.clip(kwh, 0, loss[step:].mean() - loss[:step].mean()),
    )


def _filled(energy: Array) -> Array:
    """Days of energy with each user's mean for what is missing."""
    mean = np.nansum(energy, axis=0) / np.maximum((~np.isnan(energy)).sum(axis=0), 1)
    return np.where(np.isnan(energy), mean, energy)


def ranks(values: Array) -> Array:
    """The rank of each day's value, equal ones the same; NaN stays."""
    below = (values[None] < values[:, None]).sum(axis=1) + (
        values[None] == values[:, None]
    ).sum(axis=1) / 2
    return np.where(np.isnan(values), np.nan, below)


def _correlation(one: Column, many: Array) -> Column:
    """Of one curve with each of many, on the days that are known of it; 0 where a curve does not move.

    >>> _correlation(np.array([1.0, 2.0, 3.0]), np.array([[2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])).tolist()
    [1.0, 0.0]
    """
    known = ~np.isnan(many)
    days = np.maximum(known.sum(axis=0), 1)
    x = np.where(known, one[:, None], 0.0)
    x = np.where(known, x - x.sum(axis=0) / days, 0.0)
    y = np.where(known, many, 0.0)
    y = np.where(known, y - y.sum(axis=0) / days, 0.0)
    size = np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum(axis=0))
    return np.where(size > 0, (x * y).sum(axis=0) / np.where(size > 0, size, 1), 0.0)


def _partial_correlation(one: Column, many: Array, third: Column) -> Column:
    """The correlation of one curve with each of many that is not owed to a third."""
    known = ~np.isnan(many)
    level = np.where(known, third[:, None], np.nan)
    own, both = _correlation(third, many), _correlation(one, level)
    left = np.sqrt(np.maximum((1 - np.square(own)) * (1 - np.square(both)), 1e-12))
    return np.clip((_correlation(one, many) - own * both) / left, -1, 1)
