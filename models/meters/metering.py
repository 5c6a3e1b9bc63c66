"""Memory of a meter's registers over closed days, by which rules judge whether it counts all energy."""

from __future__ import annotations

import numpy as np

from models.meters.basics import Columns, Feature
from models.meters.bounds import SPAN_OF_RATING
from models.meters.validation import JUMP_KWH, ROLLOVER_SHARE
from models.state.cells import Array, Cells
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS, HOUR_SECONDS

DAY_HOURS = DAY_SECONDS / HOUR_SECONDS


def _write_where(cells: Cells, slots: Codes, known: Mask, columns: Columns) -> None:
    """Writes the cells of the rows of a mask."""
    for name, values in columns.items():
        cells[name][slots[known]] = values[known]


class DayRegisters(Feature):
    """The move of the registers between the last readings of two days, validated with care.

    A register that fell, or rose by more than the meter's rating could have carried, waits for the
    next day's. A confirmed fall begins anew; a confirmed rise counts.
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
        """Adds the move of the registers.

        register_kwh: energy over span_hours, as the meter shows it
        span_hours: hours from the reading before to this one
        export_kwh: exported energy, primary
        tariff_gap: between total and tariff registers, as the meter shows it; NaN where fewer
            tariffs are shown than before
        stopped_kwh: primary energy used since the supply was stopped
        midnights: 1 where both readings were of midnight itself
        """
        memory = self._memory(slots, columns)
        read = columns["at"] - columns["register_age"]
        hours = (read - memory["read"]) / HOUR_SECONDS
        hours = np.where(np.isnan(memory["register"]), np.nan, hours)
        most = _most_kwh(columns, hours)
        good, moved = _moved(memory, columns, most)

        # The energy since the supply was stopped, and whether midnights are compared.
        used = memory["stopped_kwh"] + np.nan_to_num(moved)
        stopped_kwh = np.where(memory["read"] >= columns["stopped"], used, 0)
        midnight = columns["register_age"] == 0
        midnights = midnight & memory["midnight"] & (hours < 1.5 * DAY_HOURS)

        self._remember(slots, memory, columns, good, stopped_kwh)
        exported = columns["export_register"] - memory["export"]
        plausible = (exported >= 0) & ~(exported > most)
        stopped = ~np.isnan(columns["register"]) & ~np.isnan(columns["stopped"])
        ratio = columns["ratio"]
        return {
            "register_kwh": moved,
            "span_hours": hours,
            "export_kwh": np.where(plausible, exported * ratio, np.nan),
            "tariff_gap": _tariff_gap(memory, columns),
            "stopped_kwh": np.where(stopped, stopped_kwh * ratio, np.nan),
            "midnights": np.where(np.isnan(moved), np.nan, midnights),
        }

    def _memory(self, slots: Codes, columns: Columns) -> dict[str, Array]:
        """The cells of each row, without the registers where the meter's record is new."""
        memory = self.cells.read(slots)
        renewed = memory["version"] != columns["effective"]
        for name in ("register", "odd", "export"):
            memory[name] = np.where(renewed, np.nan, memory[name])
        memory["tariffs"] = np.where(renewed, 0, memory["tariffs"])
        return memory

    def _remember(
        self,
        slots: Codes,
        memory: Columns,
        columns: Columns,
        good: Mask,
        stopped_kwh: Column,
    ) -> None:
        """Remembers the registers of the rows that have one.

        An implausible one waits in the cell `odd`.
        """
        register = columns["register"]
        read = columns["at"] - columns["register_age"]
        midnight = columns["register_age"] == 0
        exported = columns["export_register"]

        _write_where(
            self.cells,
            slots,
            ~np.isnan(register),
            {
                "register": np.where(good, register, memory["register"]),
                "read": np.where(good, read, memory["read"]),
                "odd": np.where(good, np.nan, register),
                "version": columns["effective"],
                "export": np.where(np.isnan(exported), memory["export"], exported),
                "tariffs": np.fmax(memory["tariffs"], columns["tariffs"]),
                "stopped_kwh": stopped_kwh,
                "midnight": np.where(good, midnight, memory["midnight"]),
            },
        )


def _most_kwh(columns: Columns, hours: Column) -> Column:
    """The energy that the meter's rating could have carried in some hours."""
    rating_va = SPAN_OF_RATING * columns["un"] * columns["imax"] * columns["phases"]
    return np.asarray(rating_va / 1000 * hours + JUMP_KWH)


def _moved(memory: Columns, columns: Columns, most: Column) -> tuple[Mask, Column]:
    """The rows whose register is believed, and the energy since the one before.

    NaN where it is not or fell.
    """
    register = columns["register"]
    span = columns["register_span"]
    last = memory["register"]
    odd = memory["odd"]

    delta = register - last
    was_high = last > ROLLOVER_SHARE * span
    rolled_over = was_high & (register < (1 - ROLLOVER_SHARE) * span)
    delta = np.where((delta < 0) & rolled_over, delta + span, delta)

    # A fall or leap counts once the reading after it confirms it.
    fell = delta < 0
    leapt = delta > most
    leap_confirmed = leapt & (odd > last) & (register >= odd)
    fall_confirmed = fell & (odd < last) & (register >= odd)
    good = (~fell & ~leapt) | leap_confirmed | fall_confirmed
    good &= ~np.isnan(register)
    return good, np.where(good & ~fell, delta, np.nan)


def _tariff_gap(memory: Columns, columns: Columns) -> Column:
    """How far the total register is from the sum of the tariff registers.

    The total rolls over before them.
    """
    span = np.nan_to_num(columns["register_span"], nan=np.inf)
    apart = np.abs(columns["register"] - columns["tariff_sum"]) % span
    complete = columns["tariffs"] >= memory["tariffs"]
    return np.where(complete, np.minimum(apart, span - apart), np.nan)


class RatioChange(Feature):
    """The change of a meter's energy with its ratio on file, by the days before and after.

    New transformers of twice the ratio halve the energy that the meter shows. Where it shows the
    same, only the file was changed. A change back to the ratio before is taken for a correction.
    """

    DAYS = 7  # that are the days before, and from which on the days after count
    # days after the change, beyond which the use has changed too much; default of this project
    LAST_DAY = 35

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
        """Adds the factors by which the ratio on file and the shown energy changed.

        ratio_factor: ratio on file over the one before
        shown_factor: kWh a day shown over that before

        Both are NaN except from a week after a change on, if a known week preceded it and the
        contract did not change.
        """
        memory = self.cells.read(slots)
        kwh = columns["kwh"].astype(np.float32)
        ratio = columns["ratio"].astype(np.float32)
        contract = columns["contract_kva"].astype(np.float32)
        known = ~np.isnan(kwh) & ~np.isnan(ratio)
        days = memory["days"].astype(np.int64)

        # The ratio before a change, and the mean kWh a day with it.
        changed = ratio != memory["ratio"]
        same_contract = (contract == memory["contract"]) | np.isnan(contract)
        replaced = np.where(
            (days >= self.DAYS) & same_contract, memory["ratio"], np.nan
        )
        replaced = np.where(ratio == memory["former"], ratio, replaced)
        former = np.where(changed, replaced, memory["former"])
        before = np.where(changed, memory["mean"], memory["before"])

        days = np.where(changed, 0, np.minimum(days + 1, 255))
        step = (kwh - memory["mean"]) / np.clip(days, 1, self.DAYS)
        mean = np.where(changed, 0, memory["mean"] + step)
        after = {
            "ratio": ratio,
            "former": former,
            "contract": contract,
            "before": before,
            "mean": mean,
            "days": days,
        }
        _write_where(self.cells, slots, known, after)
        judged = (days >= self.DAYS) & (days <= self.LAST_DAY) & (before > 0) & known
        return {
            "ratio_factor": np.where(judged, ratio / former, np.nan),
            "shown_factor": np.where(judged, mean / before, np.nan),
        }


class Demands(Feature):
    """The bounds of the demand register, by the interval energies since its reset."""

    # share of a day's intervals without which a higher demand may have been missed
    LEAST_COVERAGE = 0.95
    # seconds, beyond which an interval may hide a higher demand
    QUARTER_HOUR_SECONDS = 900

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
        """Adds the bounds of the demand; both are NaN where nothing is known.

        demand_floor: highest power of the whole days since the reset
        demand_ceiling: the same with the day of the reset; infinite where a higher demand may have
            been missed
        """
        memory = self.cells.read(slots)
        demand = columns["demand"]
        resets = columns["demand_resets"]
        top_kw = columns["top_kw"]

        first = memory["then"] == 0
        reset = demand < memory["demand"]
        reset |= np.abs(resets - memory["resets"]) > 0
        next_day = columns["at"] - memory["then"] < 1.5 * DAY_SECONDS
        top = np.where(self._complete(columns) & next_day, top_kw, np.inf)

        floor = np.where(first | reset, 0, np.fmax(memory["floor"], top_kw))
        ceiling = np.where(reset, top, np.maximum(memory["ceiling"], top))
        ceiling = np.where(first, np.inf, ceiling)
        known = ~np.isnan(demand)
        after = {
            "demand": demand,
            "resets": np.where(np.isnan(resets), memory["resets"], resets),
            "then": columns["at"],
            "floor": floor,
            "ceiling": ceiling,
        }
        _write_where(self.cells, slots, known, after)
        unbounded = ~known | ((floor == 0) & np.isinf(ceiling))
        return {
            "demand_floor": np.where(unbounded, np.nan, floor),
            "demand_ceiling": np.where(unbounded, np.nan, ceiling),
        }

    def _complete(self, columns: Columns) -> Mask:
        """True where the day's highest demand is among its intervals."""
        return np.asarray(
            (columns["coverage"] >= self.LEAST_COVERAGE)
            & ~(columns["interval_s"] > self.QUARTER_HOUR_SECONDS)
            & ~np.isnan(columns["top_kw"])
        )
