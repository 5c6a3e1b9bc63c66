"""Runs of a meter's closed days, and the first days of a new customer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Array, Cells
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_HOURS


class DayRunsColumns(NamedTuple):
    """Given by DayRuns."""

    zero_days: Column  # days without use; a day after the supply was stopped is none
    # days without a reading; -inf of a meter not read for long although its area is read
    missing_days: Column
    # half as many days again as are usual without a reading; NaN of a meter read on most days
    unread_usual: Column
    usual_kwh: Column  # primary; fading mean over days with use, of 28 days' half-life
    lossy: Column  # 1 where the area surely loses more than usual, else 0
    lost_kwh: Column  # primary; how much more; NaN where it does not, or nobody knows


class DayRuns(Feature):
    """Run lengths over a meter's closed days."""

    COVERED_SHARE = 0.9  # of the intervals of a day without use, measured
    USUAL_FADE = 2.0 ** (-1 / 28)  # of the usual use from day to day
    GAP_MEMORY = 8.0  # readings over which the usual days between them fade
    SELDOM_DAYS = 1.5  # days between readings from which on a meter is read seldom
    GAP_FACTOR = 1.5  # times as long as usual
    # days without a reading after which a meter counts as removed; default of this project
    MISSING_DAYS_LIMIT = 60

    def __init__(self) -> None:
        self.cells = Cells(
            zero=np.int32(0),
            missing=np.int32(0),
            usual=np.float64(np.nan),
            # days from one reading to the next, 0 after the first
            apart=np.float32(np.nan),
        )

    def fold(
        self,
        slots: Codes,
        reads: Column,
        *,
        at: Times,
        kwh: Column,
        coverage: Column,
        live: Column,
        stopped: Column,
        area_excess_kwh: Column,
        area_reads: Column,
        ratio: Column,
    ) -> DayRunsColumns:
        """The runs that the day ends or goes on, and the usual use before it."""
        # As the meter shows it where its record has no ratio.
        kwh = kwh * np.nan_to_num(ratio, nan=1.0)
        usual_kwh = self._usual_kwh(slots, kwh)
        missing_days, unread = self._missing(slots, reads, area_reads)

        used = kwh > 0
        covered = coverage >= self.COVERED_SHARE
        zero = (kwh == 0) & covered & ~(live < 0.5)
        supplied = ~(stopped <= at)
        zeros_before = self.cells["zero"][slots]
        zeros = np.where(used, 0, zeros_before)
        zeros = np.where(zero, zeros_before + 1, zeros) * supplied
        self.cells["zero"][slots] = zeros

        lossy = area_excess_kwh > 0
        return DayRunsColumns(
            zero_days=only(zero | used, zeros),
            missing_days=missing_days,
            unread_usual=only(unread > 0, unread),
            usual_kwh=usual_kwh,
            lossy=lossy.astype(float),
            lost_kwh=only(lossy, area_excess_kwh),
        )

    def _usual_kwh(self, slots: Codes, kwh: Column) -> Column:
        """The usual use before a day; learns the day."""
        usual = self.cells["usual"][slots]
        step = (1 - self.USUAL_FADE) * (kwh - usual)
        after = np.where(np.isnan(usual), kwh, usual + step)
        self.cells["usual"][slots] = np.where(kwh > 0, after, usual)
        return usual

    def _missing(
        self, slots: Codes, reads: Column, area_reads: Column
    ) -> tuple[Array, Codes]:
        """The column missing_days, and the days that a meter read seldom may go unread.

        Remembers both.
        """
        read = reads > 0
        before = self.cells["missing"][slots]
        apart = self.cells["apart"][slots].astype(np.float64)
        longest = np.floor(self.GAP_FACTOR * (apart - 1))
        is_seldom = apart >= self.SELDOM_DAYS
        unread = np.where(is_seldom, longest, 0).astype(np.int64)
        limit = self.MISSING_DAYS_LIMIT + unread

        # A meter passes its limit only on a day on which its area is read.
        missing = np.where(read, 0, before + 1)
        waits = (missing == limit + 1) & ~(area_reads > 0)
        missing = np.where(waits, limit, missing)
        self.cells["missing"][slots] = missing

        # Days without a reading before it belong to the next reading.
        kept = 2 ** (-1 / self.GAP_MEMORY)
        share = np.where(apart == 0, 1, 1 - kept)
        begins = np.isnan(apart) | (before > limit)
        moved = apart + share * (before + 1 - apart)
        later = np.where(begins, 0, moved)
        self.cells["apart"][slots] = np.where(read, later, apart)
        return np.where(missing > limit, -np.inf, missing), unread


class FirstMonthColumns(NamedTuple):
    """Given by FirstMonth; NaN of customers who are not new.

    Also of those who were connected before the area's history began. After 60 days they show no
    trouble for one day, so that episodes clear.
    """

    unread_days: (
        Column  # without any reading since the connection; -inf once there was one
    )
    # mean of kW over the contract's kVA; inf before 30 days and while fewer than 15 are known
    first_load: Column


class FirstMonth(Feature):
    """The first days of a new customer's meter."""

    # days after which the first is surely closed, even one of 25 hours
    FIRST_DAY_END = 1.05
    JUDGED_FROM_DAY = 30  # days after which the load counts
    LAST_DAY = 60  # days, until which the load counts
    FEWEST_DAYS = 15  # known days that the load needs

    def __init__(self) -> None:
        self.cells = Cells(
            days=np.uint8(0), read=np.bool_(0), kwh=np.float64(0), last=np.float32(0)
        )

    def fold(
        self,
        slots: Codes,
        connected_days: Column,
        *,
        reads: Column,
        kwh: Column,
        coverage: Column,
        ratio: Column,
        contract_kva: Column,
    ) -> FirstMonthColumns:
        """The readings and the load since the connection, with the day."""
        last = self.cells["last"][slots]
        begins = self._begins(connected_days, last)
        new = begins | self._goes_on(connected_days, last)

        # The days and the energy since the connection, and whether anything was read.
        sums = {
            name: np.where(begins, 0, self.cells[name][slots])
            for name in ("days", "read", "kwh")
        }
        known = ~np.isnan(kwh)
        used = kwh.astype(np.float64) / coverage * ratio
        days = sums["days"] + known
        read = (sums["read"] > 0) | (reads > 0)
        energy = sums["kwh"] + np.where(known, used, 0)
        after = {"days": days, "read": read, "kwh": energy, "last": connected_days}
        self.cells.write_where(slots, new, after)

        # After the last day neither is trouble.
        early = connected_days <= self.LAST_DAY
        unread_days = np.where(early & ~read, connected_days, -np.inf)
        load = energy / days / DAY_HOURS / contract_kva
        judged = early & self._judged(connected_days, days) & ~np.isnan(load)
        first_load = np.where(judged, load, np.inf)
        return FirstMonthColumns(
            unread_days=only(new, unread_days),
            first_load=only(new, first_load),
        )

    def _begins(self, day: Column, last: Column) -> Mask:
        """True on the first day; `last` is the latest day before, 0 without one."""
        is_first = (day > 0) & (day <= self.FIRST_DAY_END)
        return is_first & ((last == 0) | (day <= last))

    def _goes_on(self, day: Column, last: Column) -> Mask:
        """True on a day after a known one, until the day after the last that counts."""
        goes_on = (last > 0) & (day > last)
        return goes_on & (day <= self.LAST_DAY + 1)

    def _judged(self, day: Column, known_days: Column) -> Mask:
        """True where the load counts."""
        return (day >= self.JUDGED_FROM_DAY) & (known_days >= self.FEWEST_DAYS)
