"""What is remembered of a meter's closed days to tell whether it measures and counts what flows."""

from __future__ import annotations

import numpy as np

from models.calendar import day_of, month_of
from models.cells import Cells
from models.features import Columns, Feature
from models.validation import JUMP_KWH, ROLLOVER_SHARE, SPAN_OF_RATING
from schemas.columns import Codes
from schemas.units import DAY_SECONDS, HOUR_SECONDS


class DayRegisters(Feature):
    """What the registers moved from one day's last reading to the next, with the caution of validation.

    A register that fell, or rose by more than the meter's rating could have carried, waits for the next day's: a fall
    that is confirmed begins anew, a rise that is confirmed was one.
    """

    reads: tuple[str, ...] = ("register",)
    takes: tuple[str, ...] = (
        "at",
        "register_age",
        "export_register",
        "tariff_sum",
        "tariffs",
        "effective",
        "register_span",
        "un",
        "imax",
        "phases",
        "stopped",
        "ratio",
    )
    gives: tuple[str, ...] = (
        "register_kwh",
        "span_hours",
        "export_kwh",
        "tariff_gap",
        "stopped_kwh",
        "midnights",
    )

    def __init__(self) -> None:
        self.cells = Cells(
            register=np.float64(np.nan),
            read=np.uint32(0),
            odd=np.float64(np.nan),
            version=np.float64(-1),
            export=np.float64(np.nan),
            tariffs=np.uint8(0),
            stopped_kwh=np.float32(0),
            midnight=np.bool_(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds register_kwh over span_hours, export_kwh, tariff_gap, stopped_kwh, and midnights.

        tariff_gap is NaN where fewer tariffs are shown than before; stopped_kwh is what was used since the supply was
        stopped. export_kwh and stopped_kwh are primary, the others as the meter shows them. midnights is 1 where both
        readings were of midnight itself.
        """
        c, x = self.cells, columns
        register, then, before = (
            x["register"],
            x["at"] - x["register_age"],
            c["read"][slots],
        )
        have, anew = ~np.isnan(register), c["version"][slots] != x["effective"]
        last, odd, export = (
            np.where(anew, np.nan, c[name][slots])
            for name in ("register", "odd", "export")
        )
        hours = np.where(np.isnan(last), np.nan, (then - before) / HOUR_SECONDS)
        delta, out = register - last, x["export_register"] - export
        rolled = (last > ROLLOVER_SHARE * x["register_span"]) & (
            register < (1 - ROLLOVER_SHARE) * x["register_span"]
        )
        delta = np.where((delta < 0) & rolled, delta + x["register_span"], delta)
        most = (
            SPAN_OF_RATING * x["un"] * x["imax"] * x["phases"] / 1000 * hours + JUMP_KWH
        )
        fell, leapt = delta < 0, delta > most
        rose = leapt & (odd > last) & (register >= odd)
        good = have & (
            (~fell & ~leapt) | rose | (fell & (odd < last) & (register >= odd))
        )
        moved = np.where(good & ~fell, delta, np.nan)
        tariffs = np.where(anew, 0, c["tariffs"][slots])
        span = np.nan_to_num(x["register_span"], nan=np.inf)
        apart = (
            np.abs(register - x["tariff_sum"]) % span
        )  # the total rolls over before the tariffs
        stopped_kwh = np.where(
            before >= x["stopped"], c["stopped_kwh"][slots] + np.nan_to_num(moved), 0
        )
        midnight = x["register_age"] == 0
        midnights = (
            midnight & c["midnight"][slots] & (hours < 1.5 * DAY_SECONDS / HOUR_SECONDS)
        )
        told = {
            "register": np.where(good, register, last),
            "read": np.where(good, then, before),
            "odd": np.where(good, np.nan, register),
            "version": x["effective"],
            "export": np.where(
                np.isnan(x["export_register"]), export, x["export_register"]
            ),
            "tariffs": np.fmax(tariffs, x["tariffs"]),
            "stopped_kwh": stopped_kwh,
            "midnight": np.where(good, midnight, c["midnight"][slots]),
        }
        for name, values in told.items():
            c[name][slots[have]] = values[have]
        return {
            "register_kwh": moved,
            "span_hours": hours,
            "export_kwh": np.where(
                (out >= 0) & ~(out > most), out * x["ratio"], np.nan
            ),
            "tariff_gap": np.where(
                x["tariffs"] >= tariffs, np.minimum(apart, span - apart), np.nan
            ),
            "stopped_kwh": np.where(
                have & ~np.isnan(x["stopped"]), stopped_kwh * x["ratio"], np.nan
            ),
            "midnights": np.where(np.isnan(moved), np.nan, midnights),
        }


class Accounts(Feature):
    """What power or the contract accounts for of what a register moved, and how far power and register were apart.

    Power that is read at moments tells a day's energy with an error: only what two standard errors leave counts.
    """

    DAYS = 3
    STANDARD_ERRORS = 2.0  # standard errors; default of this project
    COMPARED_COVERAGE, EXPLAINED_COVERAGE = (
        0.95,
        0.9,
    )  # shares of the day's intervals with power: to compare, and to account for
    LEAST_KWH = 1.0  # kWh by power, below which a day says nothing of the ratio; default of this project
    RETURNED_SHARE = (
        0.01  # of what was drawn, that may flow back within a day that is compared
    )

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
        """Adds explained_kwh, by power (by_power 1) or else by the contract, and ratio_over and ratio_under.

        Of the last three days that can tell, they are the second highest and second lowest ratio of register to power.
        """
        c, x, known = self.cells, columns, ~np.isnan(columns["register_kwh"])
        hours, covered = x["span_hours"], x["power_coverage"]
        flowed = x["mean_kw"] * hours
        by_power = (covered >= self.EXPLAINED_COVERAGE) & (
            hours < self.DAYS * DAY_SECONDS / HOUR_SECONDS
        )
        allowed = (
            np.maximum(x["contract_kva"] - x["suspended_kva"], 1) / x["ratio"] * hours
        )
        told = (
            known
            & (np.abs(hours - DAY_SECONDS / HOUR_SECONDS) <= 2)
            & (x["register_age"] <= HOUR_SECONDS)
            & (flowed >= self.LEAST_KWH)
        )
        told &= (covered >= self.COMPARED_COVERAGE) & (
            x["returned_kwh"] <= self.RETURNED_SHARE * flowed
        )
        ratio, error = (
            x["register_kwh"] / flowed,
            self.STANDARD_ERRORS * x["mean_kw_error"] / x["mean_kw"],
        )
        second = {}
        for name, sign in (
            ("over", 1),
            ("under", -1),
        ):  # of the under ratios the lowest, so highest when turned round
            before = c[name][:, slots]
            after = np.where(
                told, np.concatenate([before[1:], (sign * ratio - error)[None]]), before
            )
            c[name][:, slots] = after
            ranked = np.sort(np.where(np.isnan(after), -np.inf, after), axis=0)[-2]
            second[f"ratio_{name}"] = np.where(
                told & np.isfinite(ranked), sign * ranked, np.nan
            )
        return second | {
            "explained_kwh": np.where(
                known, np.where(by_power, flowed, allowed), np.nan
            ),
            "by_power": np.where(known, by_power, np.nan),
        }


class RatioChange(Feature):
    """Whether what a meter shows changed with the ratio on file, by the days before a change and the days after.

    New transformers of twice the ratio halve what the meter shows; where it shows the same, the file alone was changed.
    A change back to the ratio before is taken for a correction.
    """

    DAYS = 7  # that speak for before, and from which on the days after do
    LAST_DAY = 35  # days after the change, beyond which a customer's use has changed too much; default of this project

    reads: tuple[str, ...] = ("kwh", "ratio")
    takes: tuple[str, ...] = ("contract_kva",)
    gives: tuple[str, ...] = ("ratio_factor", "shown_factor")

    def __init__(self) -> None:
        none = np.float32(np.nan)
        self.cells = Cells(
            ratio=none,
            former=none,
            contract=none,
            before=none,
            mean=np.float32(0),
            days=np.uint8(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds ratio_factor, of the ratio on file to the one before, and shown_factor, of the kWh a day shown.

        Both NaN but from a week after a change on, which came after a known week and left the contract as it was.
        """
        c, x = self.cells, columns
        kwh, ratio, contract = (
            x[name].astype(np.float32) for name in ("kwh", "ratio", "contract_kva")
        )
        old, former, mean, days = (
            c[name][slots] for name in ("ratio", "former", "mean", "days")
        )
        told, days = ~np.isnan(kwh) & ~np.isnan(ratio), days.astype(np.int64)
        changed, alike = (
            ratio != old,
            (contract == c["contract"][slots]) | np.isnan(contract),
        )
        known = (days >= self.DAYS) & alike
        former = np.where(
            changed,
            np.where(ratio == former, ratio, np.where(known, old, np.nan)),
            former,
        )
        before = np.where(changed, mean, c["before"][slots])
        count = np.where(changed, 0, np.minimum(days + 1, 255))
        mean = np.where(changed, 0, mean + (kwh - mean) / np.clip(count, 1, self.DAYS))
        given = {
            "ratio": ratio,
            "former": former,
            "contract": contract,
            "before": before,
            "mean": mean,
            "days": count,
        }
        for name, values in given.items():
            c[name][slots[told]] = values[told]
        tells = told & (count >= self.DAYS) & (count <= self.LAST_DAY) & (before > 0)
        return {
            name: np.where(tells, now / then, np.nan)
            for name, now, then in (
                ("ratio_factor", ratio, former),
                ("shown_factor", mean, before),
            )
        }


class Demands(Feature):
    """Between which bounds the demand register must stand, by the interval energies since its reset."""

    LEAST_COVERAGE = 0.95  # share of a day's intervals without which a higher demand may have been missed
    QUARTER_HOUR_SECONDS = (
        900  # seconds, beyond which an interval may hide a higher demand
    )

    reads: tuple[str, ...] = ("demand",)
    takes: tuple[str, ...] = ("at", "demand_resets", "top_kw", "coverage", "interval_s")
    gives: tuple[str, ...] = ("demand_floor", "demand_ceiling")

    def __init__(self) -> None:
        self.cells = Cells(
            demand=np.float32(np.nan),
            resets=np.float32(np.nan),
            then=np.uint32(0),
            floor=np.float32(0),
            ceiling=np.float32(np.inf),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds demand_floor, the highest power of the whole days since the reset, and demand_ceiling.

        The ceiling has the day of the reset too, and is infinite where a higher demand may have been missed. Both NaN
        where nothing is known.
        """
        c, x = self.cells, columns
        have, first, resets = (
            ~np.isnan(x["demand"]),
            c["then"][slots] == 0,
            c["resets"][slots],
        )
        reset = (x["demand"] < c["demand"][slots]) | (
            np.abs(x["demand_resets"] - resets) > 0
        )
        full = (
            (x["coverage"] >= self.LEAST_COVERAGE)
            & ~(x["interval_s"] > self.QUARTER_HOUR_SECONDS)
            & ~np.isnan(x["top_kw"])
        )
        top = np.where(
            full & (x["at"] - c["then"][slots] < 1.5 * DAY_SECONDS), x["top_kw"], np.inf
        )
        floor = np.where(first | reset, 0, np.fmax(c["floor"][slots], x["top_kw"]))
        ceiling = np.where(
            first, np.inf, np.where(reset, top, np.maximum(c["ceiling"][slots], top))
        )
        told = {
            "demand": x["demand"],
            "resets": np.where(
                np.isnan(x["demand_resets"]), resets, x["demand_resets"]
            ),
            "then": x["at"],
            "floor": floor,
            "ceiling": ceiling,
        }
        for name, values in told.items():
            c[name][slots[have]] = values[have]
        blind = ~have | ((floor == 0) & np.isinf(ceiling))
        return {
            "demand_floor": np.where(blind, np.nan, floor),
            "demand_ceiling": np.where(blind, np.nan, ceiling),
        }


class MonthlyFactor(Feature):
    """A calendar month's power factor, told when its last day has closed."""

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
        """Adds month_factor on the last day of a month that was well covered; NaN on any other day."""
        c, x, day = self.cells, columns, day_of(columns["at"], self._zone)
        (month, number), (following, _) = month_of(day), month_of(day + 1)
        share = np.where(
            np.isnan(x["mean_kvar"]), 0, x["power_coverage"].astype(np.float64)
        )
        sums = {
            "days": share,
            "kw": share * np.nan_to_num(x["mean_kw"]),
            "kvar": share * np.nan_to_num(x["mean_kvar"]),
        }
        for name, more in sums.items():
            c[name][slots] = sums[name] = (
                np.where(c["month"][slots] == month, c[name][slots], 0) + more
            )
        c["month"][slots] = month
        whole = (following > month) & (sums["days"] >= self.LEAST_COVERAGE * number)
        return {
            "month_factor": np.where(
                whole, sums["kw"] / np.hypot(sums["kw"], sums["kvar"]), np.nan
            )
        }
