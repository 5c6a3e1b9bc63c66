"""Correlation of each user's energy with its area's unusual loss, over the last thirty days."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Array, Cells
from models.state.missing_values import only
from models.state.runs import grouped
from schemas.columns import Codes, Column, Mask, Times
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
        degrees = np.maximum(self.days - 5, 0)
        return np.nan_to_num(fisher_z * np.sqrt(degrees))


class SuspectsColumns(NamedTuple):
    """Given by Suspects, of users; NaN where the loss is not known, or for fewer than 14 days.

    Zeros where the area surely lost nothing beyond the usual.
    """

    suspect_rho: Column  # correlation of the user's energy with the loss
    suspect_days: Column  # known days that it rests on
    suspect_kwh: Column  # primary; kWh a day that it would explain


class Suspects(Feature):
    """Thirty days of every user's energy; of a gateway meter, of its area's unusual loss."""

    DAYS = 30

    def __init__(self) -> None:
        self.cells = Cells(kwh=np.full(self.DAYS, np.nan, np.float32), then=np.int64(0))

    def fold(
        self,
        slots: Codes,
        area_unusual_kwh: Column,
        *,
        area: Codes,
        at: Times,
        kwh: Column,
        coverage: Column,
        ratio: Column,
        is_gateway: Column,
        pv_kva: Column,
        area_excess_kwh: Column,
    ) -> SuspectsColumns:
        """The evidence against each user; the rows of an area are those of one day."""
        known = np.flatnonzero(~np.isnan(area_unusual_kwh))
        gateway = is_gateway[known]
        covered = coverage >= LEAST_COVERAGE
        own_kwh = only(covered, kwh * ratio)
        kwh = np.where(gateway == 1, area_unusual_kwh[known], own_kwh[known])
        days = self._remember(slots[known], at[known], kwh)

        evidence = SuspectsColumns(*np.full((3, len(slots)), np.nan))
        for _, rows in grouped(area[known]):
            users = rows[gateway[rows] == 0]
            first_gateway = rows[gateway[rows] == 1][0]
            loss = days[:, first_gateway].astype(np.float64)
            known_days = ~np.isnan(loss)
            if not len(users) or np.count_nonzero(known_days) < LEAST_DAYS:
                continue

            places = known[users]
            found = SuspectEvidence(*np.zeros((3, len(users))))
            if area_excess_kwh[places[0]] > 0:
                energy = days[known_days][:, users]
                has_sun = pv_kva[places] > 0
                found = compared(loss[known_days], energy, has_sun)
            for column, values in zip(evidence, found, strict=True):
                column[places] = values
        return evidence

    def _remember(self, slots: Codes, at: Array, kwh: Column) -> Array:
        """The last thirty days of some slots, this day last; days without a row are NaN."""
        before = self.cells["kwh"][:, slots]
        seconds = at - self.cells["then"][slots]
        elapsed = np.rint(seconds / DAY_SECONDS)
        elapsed = np.clip(elapsed, 1, self.DAYS).astype(np.int64)

        day = np.arange(self.DAYS)[:, None]
        source = day + elapsed
        last = np.minimum(source, self.DAYS - 1)
        shifted = np.take_along_axis(before, last, axis=0)
        after = np.where(source < self.DAYS, shifted, np.float32(np.nan))
        after[-1] = kwh
        self.cells["kwh"][:, slots] = after
        self.cells["then"][slots] = at
        return after


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
    watt_hours = np.rint(_filled(energy) * 1000).astype(np.int64)
    total = watt_hours.sum(axis=1) / 1000
    share = _proportional(loss[step:], energy[step:], total[step:])
    if not step:
        return share

    fall = _withheld(loss, energy, total, step)
    fell = fall.strength() > share.strength()
    fell &= ~has_sun
    return SuspectEvidence(
        rho=np.where(fell, fall.rho, share.rho),
        days=np.where(fell, fall.days, share.days),
        kwh=np.where(fell, fall.kwh, share.kwh),
    )


def rise(loss: Column) -> int:
    """The day on which a loss rose most clearly for good; 0 when it did not."""
    most_errors = STEP_ERRORS
    step = 0
    days = len(loss)
    for day in range(LEAST_DAYS_BEFORE, days - LEAST_DAYS_AFTER + 1):
        before = loss[:day]
        after = loss[day:]
        mean_before = before.mean()
        mean_after = after.mean()
        squares = np.square(before - mean_before).sum()
        squares += np.square(after - mean_after).sum()
        variance = squares / (days - 2)
        both_means = 1 / day + 1 / (days - day)
        error = np.sqrt(variance * both_means)

        risen = mean_after - mean_before
        if risen > most_errors * error:
            most_errors = risen / error
            step = day
    return step


def _proportional(loss: Column, energy: Array, total: Column) -> SuspectEvidence:
    """Whether the loss goes with each user's energy beyond the total, and each user's kWh."""
    days = _known_days(energy)
    by_kwh = _partial_correlation(loss, energy, total)
    by_rank = _partial_correlation(ranks(loss), ranks(energy), ranks(total))
    rho = np.fmax(np.fmin(by_kwh, by_rank), 0)
    rho = np.where(days >= PROPORTIONAL_DAYS, rho, 0.0)
    evidence = SuspectEvidence(rho, days.astype(float), kwh=np.zeros(len(rho)))

    # The loss beyond the total is shared out among the strongest few.
    by_strength = np.argsort(-evidence.strength(), kind="stable")
    first = by_strength[:COMPARED_USERS]
    first = first[rho[first] > 0]
    if len(first):
        from scipy.optimize import nnls  # noqa: PLC0415 - long to load, and few areas have suspects

        suspected = energy[:, first]
        steady = np.ones(len(total))
        level = np.stack([steady, total - total.mean()], axis=1)
        curves = np.concatenate([_filled(suspected), loss[:, None]], axis=1)
        fitted, *_ = np.linalg.lstsq(level, curves, rcond=None)
        curves -= level @ fitted
        suspected_curves = curves[:, :-1]
        factors, _ = nnls(suspected_curves, curves[:, -1])
        evidence.kwh[first] = factors * np.nanmean(suspected, axis=0)
    return evidence


def _withheld(loss: Column, energy: Array, total: Column, step: int) -> SuspectEvidence:
    """Whether each user's energy fell behind the others' as the loss rose.

    The kWh are at most the rise.
    """
    before = energy[:step]
    relative = total / total[:step].mean()
    missing = _mean(before) * relative[:, None] - energy
    rho = np.fmax(_correlation(loss, missing), 0)

    after = missing[step:]
    enough = _known_days(before) >= LEAST_DAYS_BEFORE
    enough &= _known_days(after) >= LEAST_DAYS_AFTER
    before = loss[:step].mean()
    risen = loss[step:].mean() - before
    return SuspectEvidence(
        rho=np.where(enough, rho, 0.0),
        days=_known_days(missing).astype(float),
        kwh=np.clip(_mean(after), 0, risen),
    )


def _known_days(energy: Array) -> Codes:
    """The number of known days of each user."""
    return np.asarray((~np.isnan(energy)).sum(axis=0))


def _mean(energy: Array) -> Column:
    """The mean of each user's known days; 0 without any."""
    total = np.nansum(energy, axis=0)
    return np.asarray(total / np.maximum(_known_days(energy), 1))


def _filled(energy: Array) -> Array:
    """Days of energy, with each user's mean on its unknown days."""
    return np.where(np.isnan(energy), _mean(energy), energy)


def ranks(values: Array) -> Array:
    """The rank of each day's value, the same of equal values; NaN stays."""
    others = values[None]
    of_day = values[:, None]
    below = (others < of_day).sum(axis=1)
    equal = (others == of_day).sum(axis=1)
    return only(~np.isnan(values), below + equal / 2)


def _correlation(curve: Column, others: Array) -> Column:
    """The correlation of a curve with each of others, on their known days.

    0 where a curve does not move.

    >>> _correlation(np.array([1.0, 2.0, 3.0]), np.array([[2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])).tolist()
    [1.0, 0.0]
    """
    known = ~np.isnan(others)
    days = np.maximum(known.sum(axis=0), 1)
    first = _centred(curve[:, None], known, days)
    second = _centred(others, known, days)

    first_squares = np.square(first).sum(axis=0)
    second_squares = np.square(second).sum(axis=0)
    size = np.sqrt(first_squares * second_squares)
    moves = size > 0
    covariance = (first * second).sum(axis=0)
    return np.where(moves, covariance / np.where(moves, size, 1), 0.0)


def _centred(curves: Array, known: Mask, days: Codes) -> Array:
    """Curves less their mean over so many known days; 0 on the other days."""
    curves = np.where(known, curves, 0.0)
    mean = curves.sum(axis=0) / days
    return np.where(known, curves - mean, 0.0)


def _partial_correlation(curve: Column, others: Array, third: Column) -> Column:
    """The correlation of a curve with each of others, without the part owed to a third."""
    third_by_curve = only(~np.isnan(others), third[:, None])
    with_others = _correlation(third, others)
    with_curve = _correlation(curve, third_by_curve)
    left_of_others = 1 - np.square(with_others)
    left_of_curve = 1 - np.square(with_curve)
    left = np.maximum(left_of_others * left_of_curve, 1e-12)
    direct = _correlation(curve, others) - with_others * with_curve
    return np.clip(direct / np.sqrt(left), -1, 1)
