"""Memory of a meter's power over closed days: the energy that it explains, and the month's power factor."""

from __future__ import annotations

import numpy as np

from models.master.calendar import day_of, month_of
from models.meters.basics import Columns, Feature
from models.meters.metering import DAY_HOURS
from models.state.cells import Cells
from schemas.columns import Codes, Mask
from schemas.units import HOUR_SECONDS


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

    reads: tuple[str, ...] = ("register_kwh",)
    takes: tuple[str, ...] = (
        "span_hours",
        "register_age",
        "mean_kw",
        "mean_kw_error",
        "power_coverage",
        "returned_kwh",
        "contract_kva",
        "suspended_kva",
        "ratio",
    )
    gives: tuple[str, ...] = ("explained_kwh", "by_power", "ratio_over", "ratio_under")

    def __init__(self) -> None:
        none = np.full(self.DAYS, np.nan, np.float32)
        self.cells = Cells(over=none, under=none)

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the explained energy and the ratio of register to power.

        explained_kwh: by power where by_power is 1, else by the contract
        ratio_over, ratio_under: second highest and second lowest ratio of the last three days that
            can be compared, each after two standard errors
        """
        known = ~np.isnan(columns["register_kwh"])
        hours = columns["span_hours"]
        coverage = columns["power_coverage"]
        flowed = columns["mean_kw"] * hours

        by_power = coverage >= self.EXPLAINED_COVERAGE
        by_power &= hours < self.DAYS * DAY_HOURS
        contract_kva = np.maximum(columns["contract_kva"] - columns["suspended_kva"], 1)
        allowed = contract_kva / columns["ratio"] * hours
        explained = np.where(by_power, flowed, allowed)

        compared = (
            known
            & (np.abs(hours - DAY_HOURS) <= 2)
            & (columns["register_age"] <= HOUR_SECONDS)
            & (flowed >= self.LEAST_KWH)
            & (coverage >= self.COMPARED_COVERAGE)
            & (columns["returned_kwh"] <= self.RETURNED_SHARE * flowed)
        )
        return self._ratios(slots, columns, compared) | {
            "explained_kwh": np.where(known, explained, np.nan),
            "by_power": np.where(known, by_power, np.nan),
        }

    def _ratios(self, slots: Codes, columns: Columns, compared: Mask) -> Columns:
        """The columns ratio_over and ratio_under; remembers the ratios of the compared rows."""
        flowed = columns["mean_kw"] * columns["span_hours"]
        ratio = columns["register_kwh"] / flowed
        error = self.STANDARD_ERRORS * columns["mean_kw_error"] / columns["mean_kw"]

        ratios = {}
        # The lowest ratio is the highest of the negated ones.
        for name, sign in (("over", 1), ("under", -1)):
            before = self.cells[name][:, slots]
            newest = (sign * ratio - error)[None]
            after = np.where(compared, np.concatenate([before[1:], newest]), before)
            self.cells[name][:, slots] = after

            second = np.sort(np.where(np.isnan(after), -np.inf, after), axis=0)[-2]
            given = compared & np.isfinite(second)
            ratios[f"ratio_{name}"] = np.where(given, sign * second, np.nan)
        return ratios


class MonthlyFactor(Feature):
    """A calendar month's power factor, given when its last day has closed."""

    LEAST_COVERAGE = 0.9  # of the month's intervals

    reads: tuple[str, ...] = ()  # a month ends on a day without readings too
    takes: tuple[str, ...] = ("at", "mean_kw", "mean_kvar", "power_coverage")
    gives: tuple[str, ...] = ("month_factor",)

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self.cells = Cells(
            month=np.int32(0), days=np.float32(0), kw=np.float32(0), kvar=np.float32(0)
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds month_factor on the last day of a month that was well covered.

        NaN on any other day.
        """
        day = day_of(columns["at"], self._zone)
        month, day_number = month_of(day)
        next_month, _ = month_of(day + 1)

        coverage = columns["power_coverage"].astype(np.float64)
        coverage = np.where(np.isnan(columns["mean_kvar"]), 0, coverage)
        sums = {
            "days": coverage,
            "kw": coverage * np.nan_to_num(columns["mean_kw"]),
            "kvar": coverage * np.nan_to_num(columns["mean_kvar"]),
        }
        running = self.cells["month"][slots] == month
        for name, value in sums.items():
            sums[name] = np.where(running, self.cells[name][slots], 0) + value
            self.cells[name][slots] = sums[name]
        self.cells["month"][slots] = month

        complete = sums["days"] >= self.LEAST_COVERAGE * day_number
        factor = sums["kw"] / np.hypot(sums["kw"], sums["kvar"])
        ended = (next_month > month) & complete
        return {"month_factor": np.where(ended, factor, np.nan)}
