"""Memory of a meter's power over closed days: the energy that it explains, and the month's power factor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import day_of, month_of
from models.state.cells import Cells, pushed
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_HOURS, HOUR_SECONDS


class AccountsColumns(NamedTuple):
    """Given by Accounts."""

    explained_kwh: (
        Column  # secondary; by power where by_power is 1, else by the contract
    )
    by_power: Column
    # second-highest ratio of register to power on the last three days that can be compared,
    # after two standard errors
    ratio_over: Column
    ratio_under: Column  # the same of the second-lowest ratio


class Accounts(Feature):
    """The energy that power or the contract explains, and the ratio of register to power.

    Power that is read at moments gives a day's energy with an error: only the excess over two
    standard errors counts.
    """

    DAYS = 3
    STANDARD_ERRORS = 2.0  # standard errors; default of this project
    COMPARED_COVERAGE = 0.95  # of the day's intervals with power, to compare
    EXPLAINED_COVERAGE = 0.9  # of the day's intervals with power, to explain energy
    # kWh by power, below which a day says nothing of the ratio; default of this project
    LEAST_KWH = 1.0
    RETURNED_SHARE = 0.01  # of the energy drawn, that may flow back on a compared day

    def __init__(self) -> None:
        none = np.full(self.DAYS, np.nan, np.float32)
        self.cells = Cells(over=none, under=none)

    def fold(
        self,
        slots: Codes,
        register_kwh: Column,
        *,
        span_hours: Column,
        register_age: Column,
        mean_kw: Column,
        mean_kw_error: Column,
        power_coverage: Column,
        returned_kwh: Column,
        contract_kva: Column,
        suspended_kva: Column,
        ratio: Column,
    ) -> AccountsColumns:
        """The explained energy and the ratio of register to power, this day among the three."""
        known = ~np.isnan(register_kwh)
        flowed = mean_kw * span_hours
        by_power = power_coverage >= self.EXPLAINED_COVERAGE
        by_power &= span_hours < self.DAYS * DAY_HOURS
        in_force_kva = np.maximum(contract_kva - suspended_kva, 1)
        allowed = in_force_kva / ratio * span_hours
        explained = np.where(by_power, flowed, allowed)

        compared = (
            known
            & (np.abs(span_hours - DAY_HOURS) <= 2)
            & (register_age <= HOUR_SECONDS)
            & (flowed >= self.LEAST_KWH)
            & (power_coverage >= self.COMPARED_COVERAGE)
            & (returned_kwh <= self.RETURNED_SHARE * flowed)
        )
        by_register = register_kwh / flowed
        error = self.STANDARD_ERRORS * mean_kw_error / mean_kw
        over = self._second_highest("over", slots, by_register - error, compared)
        # The lowest ratio is the highest of the negated ones.
        under = self._second_highest("under", slots, -by_register - error, compared)
        return AccountsColumns(
            explained_kwh=only(known, explained),
            by_power=only(known, by_power),
            ratio_over=over,
            ratio_under=-under,
        )

    def _second_highest(
        self, name: str, slots: Codes, ratio: Column, compared: Mask
    ) -> Column:
        """The second-highest of the last three ratios of a cell; remembers those of compared rows."""
        before = self.cells[name][:, slots]
        after = np.where(compared, pushed(before, ratio), before)
        self.cells[name][:, slots] = after

        known = np.where(np.isnan(after), -np.inf, after)
        second = np.sort(known, axis=0)[-2]
        return only(compared & np.isfinite(second), second)


class MonthlyFactorColumns(NamedTuple):
    """Given by MonthlyFactor."""

    month_factor: Column  # on the last day of a month that was well covered, else NaN


class MonthlyFactor(Feature):
    """A calendar month's power factor, given when its last day has closed."""

    LEAST_COVERAGE = 0.9  # of the month's intervals

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self.cells = Cells(
            month=np.int32(0), days=np.float32(0), kw=np.float32(0), kvar=np.float32(0)
        )

    def fold(
        self,
        slots: Codes,
        *,  # a month ends on a day without readings too
        at: Times,
        mean_kw: Column,
        mean_kvar: Column,
        power_coverage: Column,
    ) -> MonthlyFactorColumns:
        """The month's power factor; the day counts in its month."""
        day = day_of(at, self._zone)
        month, day_number = month_of(day)
        next_month, _ = month_of(day + 1)

        coverage = power_coverage.astype(np.float64)
        coverage = np.where(np.isnan(mean_kvar), 0, coverage)
        sums = {
            "days": coverage,
            "kw": coverage * np.nan_to_num(mean_kw),
            "kvar": coverage * np.nan_to_num(mean_kvar),
        }
        running = self.cells["month"][slots] == month
        for name, value in sums.items():
            so_far = np.where(running, self.cells[name][slots], 0)
            sums[name] = so_far + value
            self.cells[name][slots] = sums[name]
        self.cells["month"][slots] = month

        complete = sums["days"] >= self.LEAST_COVERAGE * day_number
        factor = sums["kw"] / np.hypot(sums["kw"], sums["kvar"])
        ended = (next_month > month) & complete
        return MonthlyFactorColumns(month_factor=only(ended, factor))
