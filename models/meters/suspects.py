"""Correlation of each user's energy with its area's unusual loss, over the last thirty days."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.meters.basics import Columns, Feature
from models.state.cells import Array, Cells
from models.state.runs import grouped
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS

LEAST_COVERAGE = 0.9  # of a user's intervals, for its day to count
LEAST_DAYS = 14  # known days
LEAST_DAYS_BEFORE = 5  # known days before a step
LEAST_DAYS_AFTER = 3  # known days after a step
PROPORTIONAL_DAYS = 10  # known days since the step, to compare with registered energy
STEP_ERRORS = 5.0  # standard errors by which the loss must have risen for a step
COMPARED_USERS = 8  # users among whom a loss is shared out
MOST_CORRELATION = 0.9999  # so that Fisher's z is finite


class SuspectEvidence(NamedTuple):
    """Of each user: a correlation, its number of days, and the kWh a day that it would explain."""

    rho: Column
    days: Column
    kwh: Column

    def strength(self) -> Column:
        """How unlikely it is by chance, in standard deviations of Fisher's z; 0 where it is NaN."""
        fisher_z = np.arctanh(np.minimum(self.rho, MOST_CORRELATION))
        return np.nan_to_num(fisher_z * np.sqrt(np.maximum(self.days - 5, 0)))


class Suspects(Feature):
    """Thirty days of every user's energy; of a gateway meter, of its area's unusual loss."""

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
        """Adds correlation, days and kWh of each user.

        Zeros where the area surely lost nothing beyond the usual.

        The rows of an area are those of one day. NaN where the loss is not known, or for fewer than
        14 days.
        """
        known = np.flatnonzero(~np.isnan(columns["area_unusual_kwh"]))
        areas = columns["area"][known]
        gateway = columns["is_gateway"][known]
        days = self._remember(
            slots[known],
            columns["at"][known],
            np.where(
                gateway == 1,
                columns["area_unusual_kwh"][known],
                _covered_kwh(columns)[known],
            ),
        )

        evidence = {name: np.full(len(slots), np.nan) for name in self.gives}
        for _, rows in grouped(areas):
            users = rows[gateway[rows] == 0]
            loss = days[:, rows[gateway[rows] == 1][0]].astype(np.float64)
            known_days = ~np.isnan(loss)
            if not len(users) or np.count_nonzero(known_days) < LEAST_DAYS:
                continue

            places = known[users]
            found = SuspectEvidence(*np.zeros((3, len(users))))
            if columns["area_excess_kwh"][places[0]] > 0:
                energy = days[known_days][:, users]
                has_sun = columns["pv_kva"][places] > 0
                found = compared(loss[known_days], energy, has_sun)
            for name, values in zip(self.gives, found, strict=True):
                evidence[name][places] = values
        return evidence

    def _remember(self, slots: Codes, at: Array, kwh: Column) -> Array:
        """The last thirty days of some slots, this day last; days without a row are NaN."""
        before = self.cells["kwh"][:, slots]
        elapsed = np.rint((at - self.cells["then"][slots]) / DAY_SECONDS)
        elapsed = np.clip(elapsed, 1, self.DAYS).astype(np.int64)

        source = np.arange(self.DAYS)[:, None] + elapsed
        shifted = np.take_along_axis(before, np.minimum(source, self.DAYS - 1), axis=0)
        after = np.where(source < self.DAYS, shifted, np.float32(np.nan))
        after[-1] = kwh
        self.cells["kwh"][:, slots] = after
        self.cells["then"][slots] = at
        return after


def _covered_kwh(columns: Columns) -> Column:
    """The primary energy of each row; NaN where too few intervals were measured."""
    covered = columns["coverage"] >= LEAST_COVERAGE
    return np.where(covered, columns["kwh"] * columns["ratio"], np.nan)


def compared(loss: Column, energy: Array, has_sun: Mask) -> SuspectEvidence:
    """The stronger of two kinds of evidence against each user of an area.

    `energy` is (days, users).

    Proportional: a share of the user's energy is not registered. The loss goes with the registered
    energy, from the step on where there is one.
    Withheld: energy that used to be registered is missing. It fell behind the other users' energy
    as the loss rose. This is no evidence against a user with generation, whose purchase falls when
    the sun shines.
    """
    energy = energy.astype(np.float64)
    step = rise(loss)
    total = np.rint(_filled(energy) * 1000).astype(np.int64).sum(axis=1) / 1000
    share = _proportional(loss[step:], energy[step:], total[step:])
    if not step:
        return share
    fall = _withheld(loss, energy, total, step)
    fell = (fall.strength() > share.strength()) & ~has_sun
    return SuspectEvidence(
        rho=np.where(fell, fall.rho, share.rho),
        days=np.where(fell, fall.days, share.days),
        kwh=np.where(fell, fall.kwh, share.kwh),
    )


def rise(loss: Column) -> int:
    """The day on which a loss rose most clearly for good; 0 when it did not."""
    most_errors = STEP_ERRORS
    step = 0
    for day in range(LEAST_DAYS_BEFORE, len(loss) - LEAST_DAYS_AFTER + 1):
        before = loss[:day]
        after = loss[day:]
        squares = np.square(before - before.mean()).sum()
        squares += np.square(after - after.mean()).sum()
        error = np.sqrt(squares / (len(loss) - 2) * (1 / day + 1 / (len(loss) - day)))

        risen = after.mean() - before.mean()
        if risen > most_errors * error:
            most_errors = risen / error
            step = day
    return step


def _proportional(loss: Column, energy: Array, total: Column) -> SuspectEvidence:
    """Whether the loss goes with each user's energy beyond the total, and each user's kWh."""
    days = (~np.isnan(energy)).sum(axis=0)
    rho = np.fmin(
        _partial_correlation(loss, energy, total),
        _partial_correlation(ranks(loss), ranks(energy), ranks(total)),
    )
    rho = np.where(days >= PROPORTIONAL_DAYS, np.fmax(rho, 0), 0.0)
    evidence = SuspectEvidence(rho, days.astype(float), kwh=np.zeros(len(rho)))

    # The loss beyond the total is shared out among the strongest few.
    first = np.argsort(-evidence.strength(), kind="stable")[:COMPARED_USERS]
    first = first[rho[first] > 0]
    if len(first):
        from scipy.optimize import nnls  # noqa: PLC0415 - long to load, and few areas have suspects

        level = np.stack([np.ones(len(total)), total - total.mean()], axis=1)
        curves = np.concatenate([_filled(energy[:, first]), loss[:, None]], axis=1)
        curves -= level @ np.linalg.lstsq(level, curves, rcond=None)[0]
        factors = nnls(curves[:, :-1], curves[:, -1])[0]
        evidence.kwh[first] = factors * np.nanmean(energy[:, first], axis=0)
    return evidence


def _withheld(loss: Column, energy: Array, total: Column, step: int) -> SuspectEvidence:
    """Whether each user's energy fell behind the others' as the loss rose.

    The kWh are at most the rise.
    """
    before = energy[:step]
    days_before = (~np.isnan(before)).sum(axis=0)
    usual = np.nansum(before, axis=0) / np.maximum(days_before, 1)
    missing = usual * (total / total[:step].mean())[:, None] - energy
    rho = _correlation(loss, missing)

    after = missing[step:]
    days_after = (~np.isnan(after)).sum(axis=0)
    kwh = np.nansum(after, axis=0) / np.maximum(days_after, 1)
    enough = (days_before >= LEAST_DAYS_BEFORE) & (days_after >= LEAST_DAYS_AFTER)
    return SuspectEvidence(
        rho=np.where(enough, np.fmax(rho, 0), 0.0),
        days=(~np.isnan(missing)).sum(axis=0).astype(float),
        kwh=np.clip(kwh, 0, loss[step:].mean() - loss[:step].mean()),
    )


def _filled(energy: Array) -> Array:
    """Days of energy, with each user's mean on its unknown days."""
    mean = np.nansum(energy, axis=0) / np.maximum((~np.isnan(energy)).sum(axis=0), 1)
    return np.where(np.isnan(energy), mean, energy)


def ranks(values: Array) -> Array:
    """The rank of each day's value, the same of equal values; NaN stays."""
    below = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    return np.where(np.isnan(values), np.nan, below + equal / 2)


def _correlation(curve: Column, others: Array) -> Column:
    """The correlation of a curve with each of others, on their known days.

    0 where a curve does not move.

    >>> _correlation(np.array([1.0, 2.0, 3.0]), np.array([[2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])).tolist()
    [1.0, 0.0]
    """
    known = ~np.isnan(others)
    days = np.maximum(known.sum(axis=0), 1)
    first = np.where(known, curve[:, None], 0.0)
    first = np.where(known, first - first.sum(axis=0) / days, 0.0)
    second = np.where(known, others, 0.0)
    second = np.where(known, second - second.sum(axis=0) / days, 0.0)

    size = np.sqrt(np.square(first).sum(axis=0) * np.square(second).sum(axis=0))
    covariance = (first * second).sum(axis=0)
    return np.where(size > 0, covariance / np.where(size > 0, size, 1), 0.0)


def _partial_correlation(curve: Column, others: Array, third: Column) -> Column:
    """The correlation of a curve with each of others, without the part owed to a third."""
    third_by_curve = np.where(~np.isnan(others), third[:, None], np.nan)
    with_others = _correlation(third, others)
    with_curve = _correlation(curve, third_by_curve)
    left = (1 - np.square(with_others)) * (1 - np.square(with_curve))
    left = np.sqrt(np.maximum(left, 1e-12))
    direct = _correlation(curve, others)
    return np.clip((direct - with_others * with_curve) / left, -1, 1)
