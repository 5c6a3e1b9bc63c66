"""Memory of a meter's registers over closed days, by which rules judge whether it counts all energy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.meters.bounds import SPAN_OF_RATING
from models.meters.validation import JUMP_KWH, ROLLOVER_SHARE
from models.state.cells import Cells, Columns
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_HOURS, DAY_SECONDS, HOUR_SECONDS


class DayRegistersColumns(NamedTuple):
    """Given by DayRegisters."""

    register_kwh: Column  # secondary; energy over span_hours
    span_hours: Column  # from the reading before to this one
    export_kwh: Column  # primary; exported energy
    # between total and tariff registers; NaN where fewer tariffs are shown than before
    tariff_gap: Column  # secondary kWh
    stopped_kwh: Column  # primary; used since the supply was stopped
    midnights: Column  # 1 where both readings were of midnight itself


class DayRegisters(Feature):
    """The move of the registers between the last readings of two days, validated with care.

    A register that fell, or rose by more than the meter's rating could have carried, waits for the
    next day's. A confirmed fall begins anew; a confirmed rise counts.
    """

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

    def fold(
        self,
        slots: Codes,
        register: Column,
        *,
        at: Times,
        register_age: Column,
        export_register: Column,
        tariff_sum: Column,
        tariffs: Column,
        effective: Column,
        register_span: Column,
        un: Column,
        imax: Column,
        phases: Column,
        stopped: Column,
        ratio: Column,
    ) -> DayRegistersColumns:
        """The move of the registers to the day's last reading."""
        memory = self._memory(slots, effective)
        read = at - register_age
        hours = (read - memory["read"]) / HOUR_SECONDS
        hours = np.where(np.isnan(memory["register"]), np.nan, hours)
        most_kwh = SPAN_OF_RATING * un * imax * phases / 1000 * hours + JUMP_KWH
        good, moved = _moved(memory, register, register_span, most_kwh)

        # The energy since the supply was stopped, and whether midnights are compared.
        used = memory["stopped_kwh"] + np.nan_to_num(moved)
        stopped_kwh = np.where(memory["read"] >= stopped, used, 0)
        midnight = register_age == 0
        midnights = midnight & memory["midnight"] & (hours < 1.5 * DAY_HOURS)

        # An implausible register waits in the cell `odd`.
        after = {
            "register": np.where(good, register, memory["register"]),
            "read": np.where(good, read, memory["read"]),
            "odd": np.where(good, np.nan, register),
            "version": effective,
            "export": _known_or(export_register, memory["export"]),
            "tariffs": np.fmax(memory["tariffs"], tariffs),
            "stopped_kwh": stopped_kwh,
            "midnight": np.where(good, midnight, memory["midnight"]),
        }
        known = ~np.isnan(register)
        self.cells.write_where(slots, known, after)

        export_kwh = _plausible(export_register - memory["export"], most_kwh)
        gap = _tariff_gap(register, tariff_sum, register_span)
        was_stopped = known & ~np.isnan(stopped)
        return DayRegistersColumns(
            register_kwh=moved,
            span_hours=hours,
            export_kwh=export_kwh * ratio,
            tariff_gap=only(tariffs >= memory["tariffs"], gap),
            stopped_kwh=only(was_stopped, stopped_kwh * ratio),
            midnights=np.where(np.isnan(moved), np.nan, midnights),
        )

    def _memory(self, slots: Codes, effective: Column) -> Columns:
        """The cells of each row, without the registers where the meter's record is new."""
        memory = self.cells.read(slots)
        renewed = memory["version"] != effective
        for name in ("register", "odd", "export"):
            memory[name] = np.where(renewed, np.nan, memory[name])
        memory["tariffs"] = np.where(renewed, 0, memory["tariffs"])
        return memory


def _moved(
    memory: Columns, register: Column, span: Column, most_kwh: Column
) -> tuple[Mask, Column]:
    """The rows whose register is believed, and the energy since the one before.

    NaN where it is not or fell.
    """
    last = memory["register"]
    odd = memory["odd"]
    delta = register - last
    was_high = last > ROLLOVER_SHARE * span
    rolled_over = was_high & (register < (1 - ROLLOVER_SHARE) * span)
    delta = np.where((delta < 0) & rolled_over, delta + span, delta)

    # A fall or leap counts once the reading after it confirms it.
    fell = delta < 0
    leapt = delta > most_kwh
    leap_confirmed = leapt & (odd > last) & (register >= odd)
    fall_confirmed = fell & (odd < last) & (register >= odd)
    good = (~fell & ~leapt) | leap_confirmed | fall_confirmed
    good &= ~np.isnan(register)
    return good, only(good & ~fell, delta)


def _known_or(values: Column, others: Column) -> Column:
    """Values, and others where these are not known."""
    return np.where(np.isnan(values), others, values)


def _plausible(kwh: Column, most_kwh: Column) -> Column:
    """Energies that are not negative and not beyond the most, else NaN."""
    return only((kwh >= 0) & ~(kwh > most_kwh), kwh)


def _tariff_gap(register: Column, tariff_sum: Column, span: Column) -> Column:
    """How far the total register is from the sum of the tariff registers.

    The total rolls over before them.
    """
    span = np.nan_to_num(span, nan=np.inf)
    apart = np.abs(register - tariff_sum) % span
    return np.minimum(apart, span - apart)


class RatioChangeColumns(NamedTuple):
    """Given by RatioChange, from a week after a change of the ratio on file on, else NaN.

    NaN, too, unless a known week preceded the change and the contract did not change.
    """

    ratio_factor: Column  # ratio on file over the one before
    shown_factor: Column  # kWh a day shown over that before


class RatioChange(Feature):
    """The change of a meter's energy with its ratio on file, by the days before and after.

    New transformers of twice the ratio halve the energy that the meter shows. Where it shows the
    same, only the file was changed. A change back to the ratio before is taken for a correction.
    """

    DAYS = 7  # that are the days before, and from which on the days after count
    # days after the change, beyond which the use has changed too much; default of this project
    LAST_DAY = 35

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

    def fold(
        self, slots: Codes, kwh: Column, ratio: Column, *, contract_kva: Column
    ) -> RatioChangeColumns:
        """The factors by which the ratio on file and the shown energy changed."""
        memory = self.cells.read(slots)
        kwh = kwh.astype(np.float32)
        ratio = ratio.astype(np.float32)
        contract = contract_kva.astype(np.float32)
        known = ~np.isnan(kwh) & ~np.isnan(ratio)
        days = memory["days"].astype(np.int64)

        # The ratio before a change, and the mean kWh a day with it.
        changed = ratio != memory["ratio"]
        comparable = (contract == memory["contract"]) | np.isnan(contract)
        comparable &= days >= self.DAYS
        replaced = only(comparable, memory["ratio"])
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
        self.cells.write_where(slots, known, after)
        judged = known & (before > 0)
        judged &= (days >= self.DAYS) & (days <= self.LAST_DAY)
        return RatioChangeColumns(
            ratio_factor=only(judged, ratio / former),
            shown_factor=only(judged, mean / before),
        )


class DemandsColumns(NamedTuple):
    """Given by Demands; both are NaN where nothing is known."""

    demand_floor: (
        Column  # secondary; kW, highest power of the whole days since the reset
    )
    # the same with the day of the reset; infinite where a higher demand may have been missed
    demand_ceiling: Column  # secondary


class Demands(Feature):
    """The bounds of the demand register, by the interval energies since its reset."""

    # share of a day's intervals without which a higher demand may have been missed
    LEAST_COVERAGE = 0.95
    # seconds, beyond which an interval may hide a higher demand
    QUARTER_HOUR_SECONDS = 900

    def __init__(self) -> None:
        self.cells = Cells(
            demand=np.float32(np.nan),
            resets=np.float32(np.nan),
            then=np.uint32(0),
            floor=np.float32(0),
            ceiling=np.float32(np.inf),
        )

    def fold(
        self,
        slots: Codes,
        demand: Column,
        *,
        at: Times,
        demand_resets: Column,
        top_kw: Column,
        coverage: Column,
        interval_s: Column,
    ) -> DemandsColumns:
        """The bounds of the demand, this day among those since the reset."""
        memory = self.cells.read(slots)
        first = memory["then"] == 0
        reset = demand < memory["demand"]
        reset |= np.abs(demand_resets - memory["resets"]) > 0

        # On a complete day its highest demand is among its intervals.
        complete = coverage >= self.LEAST_COVERAGE
        complete &= ~(interval_s > self.QUARTER_HOUR_SECONDS)
        complete &= ~np.isnan(top_kw)
        next_day = at - memory["then"] < 1.5 * DAY_SECONDS
        top = np.where(complete & next_day, top_kw, np.inf)
        higher = np.fmax(memory["floor"], top_kw)
        floor = np.where(first | reset, 0, higher)
        ceiling = np.where(reset, top, np.maximum(memory["ceiling"], top))
        ceiling = np.where(first, np.inf, ceiling)

        known = ~np.isnan(demand)
        after = {
            "demand": demand,
            "resets": _known_or(demand_resets, memory["resets"]),
            "then": at,
            "floor": floor,
            "ceiling": ceiling,
        }
        self.cells.write_where(slots, known, after)
        no_bounds = (floor == 0) & np.isinf(ceiling)
        unbounded = ~known | no_bounds
        return DemandsColumns(
            demand_floor=np.where(unbounded, np.nan, floor),
            demand_ceiling=np.where(unbounded, np.nan, ceiling),
        )
