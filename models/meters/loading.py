"""The traces of loads: days on which a contract was exceeded, and heat in a transformer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Array, Cells, pushed
from models.state.missing_values import only
from models.state.passes import UniquePasses
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS


class ExceedingColumns(NamedTuple):
    """Given by Exceeding."""

    # fifth-highest share of the last 30 days, -inf until five are known; NaN on a day that
    # is unknown, or of a new file
    share_fifth: Column


class Exceeding(Feature):
    """A customer's load as a share of the contract, on the last 30 days, in whole per cent."""

    DAYS = 30
    SHARE_RANK = 5
    LEAST_KVA = 1.0  # of a contract that is suspended as a whole

    def __init__(self) -> None:
        # per cent: 0 of an unknown day, 255 from 2.55 on
        self.cells = Cells(shares=np.zeros(self.DAYS, np.uint8))

    def fold(
        self,
        slots: Codes,
        *,  # a day without readings is one of the thirty too
        kva_p99: Column,
        contract_kva: Column,
        suspended_kva: Column,
        at: Times,
        effective: Column,
    ) -> ExceedingColumns:
        """The share of the contract, this day among the thirty."""
        in_force_kva = np.maximum(contract_kva - suspended_kva, self.LEAST_KVA)
        new_file = effective > at - DAY_SECONDS
        share = np.where(new_file, np.nan, kva_p99 / in_force_kva)
        known = ~np.isnan(share)
        whole = np.floor(100 * np.nan_to_num(share))
        percent = np.minimum(whole, 255)
        percent = np.where(known, percent, 0).astype(np.uint8)

        # An unknown day changes nothing of thirty unknown days.
        before = self.cells["shares"][:, slots]
        rows = np.flatnonzero(known | before.any(axis=0))
        shares = pushed(before[:, rows], percent[rows])
        self.cells["shares"][:, slots[rows]] = shares

        known_shares = shares[:, known[rows]]
        ranked = np.partition(known_shares, -self.SHARE_RANK, axis=0)
        highest = ranked[-self.SHARE_RANK]
        fifth = np.full(len(slots), np.nan)
        share = highest / 100
        fifth[known] = np.where(highest > 0, share, -np.inf)
        return ExceedingColumns(share_fifth=fifth)


class HeatColumns(NamedTuple):
    """Given by Heat; NaN where the load is not known."""

    top_oil_rise: Column  # K
    hot_spot_rise: Column  # K
    heated_hours: Column  # hours for which the load has been known
    air: Column  # deg C, the latest within six hours; infinite where there is none


class Heat(Feature):
    """The rise of a transformer over its ambient, by IEC 60076-7.

    The constants are of distribution transformers, ONAN.

    It begins cold and cools without load where nothing is known, so it is never warmer than the
    transformer.
    """

    relearns = 96
    distinct = False

    OIL_RISE = 55.0  # K at rated load
    OIL_EXPONENT = 0.8  # x
    LOSS_RATIO = 5.0  # load losses over no-load losses, R
    WINDING_RISE = 23.0  # K of the hot spot over the top oil at rated load
    WINDING_EXPONENT = 1.6  # y
    OIL_TIME = 180 * 60  # s: k11 x tau_o with k11 = 1
    WINDING_TIME = 2.0 * 4 * 60  # s: k22 x tau_w; k21 = 1
    # seconds without a load that the next load stands for; default of this project
    BRIDGED_SECONDS = 3600
    LEAST_COVERAGE = 0.9  # of the area's meters that must have been read
    # seconds for which a temperature of the air stands; default of this project
    FRESH_SECONDS = 6 * 3600

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._bridged = max(self.BRIDGED_SECONDS, interval)
        self.cells = Cells(
            oil=np.float64(0),
            winding=np.float64(0),
            then=np.int64(0),
            since=np.int64(0),
            # deg C, and when it was measured
            air=np.float64(0),
            felt=np.int64(0),
        )

    def fold(
        self,
        slots: Codes,
        kva: Column,
        rating_kva: Column,
        *,
        at: Times,
        coverage: Column,
        temperature: Column,
    ) -> HeatColumns:
        """The rises of the transformer after each row, and the air around it."""
        passes = UniquePasses(slots)
        load = (kva / rating_kva).astype(np.float64)
        known = ~np.isnan(load) & (coverage >= self.LEAST_COVERAGE)
        air = self._air(slots, passes, at, temperature)

        # First it cools without a load, then it heats.
        gap, idle, heated = self._times(slots, passes, at, known)
        cold_oil, cold_winding = self.course(np.zeros(len(slots)), idle)
        load = np.where(known, load, 0.0)
        warm_oil, warm_winding = self.course(load, gap - idle)
        oil = self._risen("oil", passes, (*cold_oil, *warm_oil, known))
        winding = (*cold_winding, *warm_winding, known)
        hot_spot = oil + self._risen("winding", passes, winding)
        return HeatColumns(
            top_oil_rise=only(known, oil),
            hot_spot_rise=only(known, hot_spot),
            heated_hours=only(known, heated / HOUR_SECONDS),
            air=only(known, air),
        )

    def _times(
        self, slots: Codes, passes: UniquePasses, at: Times, known: Mask
    ) -> tuple[Times, Times, Times]:
        """The seconds since the known load before each row, those without a load, and of its run."""
        then = self.cells["then"][slots]
        then = passes.earlier(at, then, known)
        gap = np.where(then > 0, at - then, self._interval)
        idle = np.where(gap <= self._bridged, 0, gap - self._interval)

        starts = at - self._interval
        begins = (then <= 0) | (idle > 0)
        since = self.cells["since"][slots]
        since = passes.earlier(starts, since, known & begins)
        since = np.where(begins, starts, since)
        self.cells.write_where(slots, known, {"then": at, "since": since})
        return gap, idle, at - since

    def _air(
        self, slots: Codes, passes: UniquePasses, at: Times, temperature: Column
    ) -> Column:
        """The column air; remembers the temperatures."""
        felt = ~np.isnan(temperature)
        latest = self.cells["felt"][slots]
        latest = passes.earlier(at, latest, felt)
        latest = np.where(felt, at, latest)
        air = self.cells["air"][slots]
        air = passes.earlier(temperature, air, felt)
        air = np.where(felt, temperature, air)

        self.cells.write_where(slots, felt, {"air": temperature, "felt": at})
        fresh = at - latest <= self.FRESH_SECONDS
        return np.where(fresh, air, np.inf)

    def _risen(
        self, name: str, passes: UniquePasses, course: tuple[Array, ...]
    ) -> Column:
        """The rise of oil or winding after each row."""
        before = passes.scan(self.cells[name], _settled, *course)
        return _settled(before, *course)

    def course(
        self, load: Column, seconds: Array
    ) -> tuple[tuple[Column, Column], tuple[Column, Column]]:
        """The final rises of oil and winding, each with the share of the way left after some time.

        By the standard's difference equations, solved for a constant load.
        """
        seconds = np.maximum(seconds, 0)
        losses = 1 + load**2 * self.LOSS_RATIO
        losses = losses / (1 + self.LOSS_RATIO)
        final_oil = self.OIL_RISE * losses**self.OIL_EXPONENT
        final_winding = self.WINDING_RISE * load**self.WINDING_EXPONENT
        return (
            (final_oil, np.exp(-seconds / self.OIL_TIME)),
            (final_winding, np.exp(-seconds / self.WINDING_TIME)),
        )


def _settled(
    rise: Column,
    final_idle: Column,
    idle_left: Column,
    final_loaded: Column,
    loaded_left: Column,
    known: Mask,
) -> Column:
    """A rise after a time without load and a time under load.

    Each has its final rise and the share of the way left.
    """
    after = final_idle + (rise - final_idle) * idle_left
    return np.where(known, final_loaded + (after - final_loaded) * loaded_left, rise)
