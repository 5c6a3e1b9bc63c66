"""Memory of each subject, for rules to read: a feature folds rows into further columns."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from models.state.cells import Array, Cells
from models.state.owners import Owner, Schema
from models.state.passes import UniquePasses
from schemas.columns import Codes, Mask, Readings
from schemas.columns import Payment as PaymentKind
from schemas.units import DAY_SECONDS, HOUR_SECONDS

NEVER_SECONDS = 2**31  # seconds since an event that never happened
Columns = dict[str, Array]


def faded(elapsed: Array, half_life: float) -> Array:
    """The rest of a weight after some time; all of it where time has gone backward.

    >>> faded(np.array([-1e15, 0.0, 14.0, 1e15]), 14.0).tolist()
    [1.0, 1.0, 0.5, 0.0]
    """
    return np.exp2(-np.maximum(elapsed, 0) / half_life)


class Feature(Owner):
    """Columns computed from a batch and from the rows before it.

    An empty cell means that nothing is known.
    """

    expendable = True
    # rows of a subject after which a feature that started afresh knows as much as before
    relearns: ClassVar[int] = 31
    # True: it folds rows of distinct slots; else of any, each slot's in order of arrival
    distinct: ClassVar[bool] = True
    cells: Cells
    reads: tuple[str, ...]  # columns that a row must have to be folded
    takes: tuple[str, ...]  # further columns
    gives: tuple[str, ...]  # columns that it adds

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Further columns for rows, as things stood before each row; then remembers the rows."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """The cells of one subject, by column."""
        return self.cells.schema()

    def state(self) -> Columns:
        """Everything remembered."""
        return self.cells.state()

    def load(self, columns: Columns) -> None:
        """Replaces everything by the result of `state`."""
        self.cells.load(columns)


class Elapsed(Feature):
    """When each subject was last seen."""

    distinct = False
    relearns = 1
    reads: tuple[str, ...] = ()
    takes: tuple[str, ...] = ("at",)
    gives: tuple[str, ...] = ("gap",)

    def __init__(self) -> None:
        self.cells = Cells(then=np.int64(0))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds gap, the seconds since the subject's previous row."""
        at = columns["at"]
        then = UniquePasses(slots).earlier(at, self.cells["then"][slots])
        self.cells["then"][slots] = at
        return {"gap": np.where(then > 0, at - then, NEVER_SECONDS)}


class Standstill(Feature):
    """Energy that flowed by the power readings since the register last moved."""

    relearns, distinct = 96, False
    reads: tuple[str, ...] = ("register_delta", "total_p")
    takes: tuple[str, ...] = ("at",)
    gives: tuple[str, ...] = ("still_kwh",)

    def __init__(self) -> None:
        self.cells = Cells(still=np.float64(0), then=np.int64(0))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds still_kwh, NaN without register or power."""
        at = columns["at"]
        moved = columns["register_delta"]
        power = columns["total_p"].astype(np.float64)
        known = ~(np.isnan(moved) | np.isnan(power))

        # A reading counts for the time since the one before, an hour at most.
        passes = UniquePasses(slots)
        then = passes.earlier(at, self.cells["then"][slots], known)
        seconds = np.where(then > 0, np.minimum(at - then, HOUR_SECONDS), 0)
        flow = np.maximum(power, 0) * (seconds / HOUR_SECONDS)
        still = known & ~(moved > 0)

        def step(before: Array, flow: Array, still: Mask, known: Mask) -> Array:
            return np.where(still, before + flow, np.where(known, 0.0, before))

        flowed = passes.scan(self.cells["still"], step, flow, still, known) + flow
        self.cells["then"][slots[known]] = at[known]
        return {"still_kwh": np.where(known, np.where(still, flowed, 0.0), np.nan)}


class DayRuns(Feature):
    """Run lengths over a meter's closed days."""

    reads: tuple[str, ...] = ("reads",)
    takes: tuple[str, ...] = (
        "at",
        "kwh",
        "coverage",
        "live",
        "stopped",
        "area_excess_kwh",
        "area_reads",
        "ratio",
    )
    gives: tuple[str, ...] = (
        "zero_days",
        "missing_days",
        "unread_usual",
        "usual_kwh",
        "lossy",
        "lost_kwh",
    )

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

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the run lengths.

        zero_days: days without use; a day after the supply was stopped is none
        missing_days: days without a reading; -inf of a meter not read for long although its area is
            read
        unread_usual: half as many days again as are usual without a reading; NaN of a meter read on
            most days
        usual_kwh: primary, the fading mean over days with use (28 days' half-life)
        lossy: 1 where the area surely loses more than usual, else 0
        lost_kwh: how much more; NaN where it does not, or nobody knows
        """
        # As the meter shows it where its record has no ratio.
        kwh = columns["kwh"] * np.nan_to_num(columns["ratio"], nan=1.0)
        covered = columns["coverage"] >= self.COVERED_SHARE
        zero = (kwh == 0) & covered & ~(columns["live"] < 0.5)
        used = kwh > 0
        supplied = ~(columns["stopped"] <= columns["at"])
        zeros = np.where(used, 0, self.cells["zero"][slots])
        zeros = np.where(zero, self.cells["zero"][slots] + 1, zeros) * supplied

        usual = self.cells["usual"][slots]
        step = (1 - self.USUAL_FADE) * (kwh - usual)
        usual_after = np.where(np.isnan(usual), kwh, usual + step)
        missing, unread = self._missing(slots, columns)
        self.cells["zero"][slots] = zeros
        self.cells["usual"][slots] = np.where(used, usual_after, usual)
        lost = columns["area_excess_kwh"]
        return {
            "zero_days": np.where(zero | used, zeros, np.nan),
            "missing_days": missing,
            "unread_usual": np.where(unread > 0, unread, np.nan),
            "usual_kwh": usual,
            "lossy": (lost > 0).astype(float),
            "lost_kwh": np.where(lost > 0, lost, np.nan),
        }

    def _missing(self, slots: Codes, columns: Columns) -> tuple[Array, Codes]:
        """The column missing_days, and the days that a meter read seldom may go unread.

        Remembers both.
        """
        read = columns["reads"] > 0
        before = self.cells["missing"][slots]
        apart = self.cells["apart"][slots].astype(np.float64)
        longest = np.floor(self.GAP_FACTOR * (apart - 1))
        unread = np.where(apart >= self.SELDOM_DAYS, longest, 0).astype(np.int64)
        limit = self.MISSING_DAYS_LIMIT + unread

        # A meter passes its limit only on a day on which its area is read.
        missing = np.where(read, 0, before + 1)
        waits = (missing == limit + 1) & ~(columns["area_reads"] > 0)
        missing = np.where(waits, limit, missing)
        self.cells["missing"][slots] = missing

        # Days without a reading before it belong to the next reading.
        share = np.where(apart == 0, 1, 1 - 2 ** (-1 / self.GAP_MEMORY))
        begins = np.isnan(apart) | (before > limit)
        later = np.where(begins, 0, apart + share * (before + 1 - apart))
        self.cells["apart"][slots] = np.where(read, later, apart)
        return np.where(missing > limit, -np.inf, missing), unread


class FirstMonth(Feature):
    """The first days of a new customer's meter."""

    reads: tuple[str, ...] = ("connected_days",)
    takes: tuple[str, ...] = ("reads", "kwh", "coverage", "ratio", "contract_kva")
    gives: tuple[str, ...] = ("unread_days", "first_load")

    # days after which the first is surely closed, even one of 25 hours
    FIRST_DAY_END = 1.05
    JUDGED_FROM_DAY = 30  # days after which the load counts
    LAST_DAY = 60  # days, until which the load counts
    FEWEST_DAYS = 15  # known days that the load needs

    def __init__(self) -> None:
        self.cells = Cells(
            days=np.uint8(0), read=np.bool_(0), kwh=np.float64(0), last=np.float32(0)
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the first readings and the first load.

        unread_days: days without any reading since the connection; -inf once anything was read
        first_load: mean of kW over the contract's kVA; inf before 30 days and while fewer than 15
            are known

        Both are NaN for customers who are not new, or were connected before the area's history
        began. After 60 days they show no trouble for one day, so that episodes clear.
        """
        day = columns["connected_days"]
        last = self.cells["last"][slots]
        begins = (day > 0) & (day <= self.FIRST_DAY_END) & ((last == 0) | (day <= last))
        new = begins | ((last > 0) & (day > last) & (day <= self.LAST_DAY + 1))

        # The days and the energy since the connection, and whether anything was read.
        kwh = columns["kwh"].astype(np.float64)
        known = ~np.isnan(kwh)
        energy = np.where(known, kwh / columns["coverage"] * columns["ratio"], 0)
        sums = {
            name: np.where(begins, 0, self.cells[name][slots])
            for name in ("days", "read", "kwh")
        }
        sums["days"] = sums["days"] + known
        sums["read"] = (sums["read"] > 0) | (columns["reads"] > 0)
        sums["kwh"] = sums["kwh"] + energy
        for name, values in (sums | {"last": day}).items():
            self.cells[name][slots[new]] = values[new]

        load = sums["kwh"] / sums["days"] / 24 / columns["contract_kva"]
        early = day <= self.LAST_DAY
        judged = early & (day >= self.JUDGED_FROM_DAY) & ~np.isnan(load)
        judged &= sums["days"] >= self.FEWEST_DAYS
        unread_days = np.where(early & ~sums["read"], day, -np.inf)
        return {
            "unread_days": np.where(new, unread_days, np.nan),
            "first_load": np.where(new, np.where(judged, load, np.inf), np.nan),
        }


class Failures(Feature):
    """A customer's latest failed payment attempts since the last success."""

    relearns = 3
    reads: tuple[str, ...] = ("succeeded",)
    takes: tuple[str, ...] = ("payment", "at")
    gives: tuple[str, ...] = ("failures_24h",)

    KEPT_FAILURES = 3

    def __init__(self) -> None:
        self.cells = Cells(failed=np.zeros(self.KEPT_FAILURES, np.int64))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds failures_24h, at most 3; NaN for rows that are no attempt."""
        at = columns["at"]
        kinds = (PaymentKind.PAYMENT, PaymentKind.TOPUP)
        attempt = np.isin(columns["payment"], kinds)
        failed = attempt & (columns["succeeded"] == 0)

        before = self.cells["failed"][:, slots]
        kept = np.where(attempt, 0, before)
        after = np.where(failed, np.concatenate([before[1:], at[None]]), kept)
        self.cells["failed"][:, slots] = after
        recent = ((after > 0) & (after > at - DAY_SECONDS)).sum(axis=0)
        return {"failures_24h": np.where(attempt, recent, np.nan)}

    def reset_after_loss(self) -> None:
        """Forgets the failures: a lost row may have been a success."""
        self.cells["failed"][...] = 0


class FailureShare(Feature):
    """A channel's share of failed attempts: recently, and usually at this hour of the week."""

    relearns = 50
    reads: tuple[str, ...] = ("failed",)
    takes: tuple[str, ...] = ("at",)
    gives: tuple[str, ...] = ("failed_share", "attempts", "usual_share", "usual_spread")

    MEMORY_ATTEMPTS = 50  # attempts over which the recent share fades
    WEEKLY_FADE = np.float32(0.8)  # of an hour's baseline from week to week
    WEEK_HOURS = 168

    def __init__(self) -> None:
        hours = np.zeros(self.WEEK_HOURS, np.float32)
        self.cells = Cells(
            share=np.float64(0),
            weight=np.float64(0),
            attempts=hours,
            fails=hours,
            # the hour that has not ended yet
            hour=np.int64(0),
            tried=np.float32(0),
            failed=np.float32(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the share of failures.

        failed_share: recent share
        attempts: effective number of attempts in it
        usual_share, usual_spread: before this hour
        """
        cells = self.cells
        failed = columns["failed"]

        # A late row counts in the running hour.
        hour = np.maximum(columns["at"] // HOUR_SECONDS, cells["hour"][slots])
        self._end_hours(slots[cells["hour"][slots] != hour])
        cells["hour"][slots] = hour
        cells["tried"][slots] += 1
        cells["failed"][slots] += failed

        weight = cells["weight"][slots] * (1 - 1 / self.MEMORY_ATTEMPTS) + 1
        share = cells["share"][slots]
        share = share + (failed - share) / weight
        usual = self._usual_share(slots, hour % self.WEEK_HOURS)
        cells["share"][slots] = share
        cells["weight"][slots] = weight
        spread = np.sqrt(np.maximum(usual * (1 - usual), 1e-4) / weight)
        return {
            "failed_share": share,
            "attempts": weight,
            "usual_share": usual,
            "usual_spread": spread,
        }

    def _usual_share(self, slots: Codes, hour: Codes) -> Array:
        """The usual share at an hour of the week.

        That of all hours where the hour has few attempts.
        """
        attempts = self.cells["attempts"][:, slots]
        fails = self.cells["fails"][:, slots]
        rows = np.arange(len(slots))
        here = attempts[hour, rows]
        total = attempts.sum(axis=0)

        overall = fails.sum(axis=0) / np.maximum(total, 1)
        overall = np.where(total > 0, overall, np.nan)
        usual = fails[hour, rows] / np.maximum(here, 1)
        return np.where(here >= self.MEMORY_ATTEMPTS, usual, overall)

    def _end_hours(self, slots: Codes) -> None:
        """Learns the last hour of some channels.

        It counts at most twice the usual failures, and 2 %.
        """
        cells = self.cells
        hour = cells["hour"][slots] % self.WEEK_HOURS
        tried = cells["tried"][slots]
        attempts = cells["attempts"][:, slots].sum(axis=0)
        usual = cells["fails"][:, slots].sum(axis=0) / np.maximum(attempts, 1)

        most = np.where(attempts > 0, tried * (2 * usual + 0.02), np.inf)
        failed = np.minimum(cells["failed"][slots], most)
        keep = np.where(tried > 0, self.WEEKLY_FADE, 1)
        cells["attempts"][hour, slots] = keep * cells["attempts"][hour, slots] + tried
        cells["fails"][hour, slots] = keep * cells["fails"][hour, slots] + failed
        cells["tried"][slots] = 0
        cells["failed"][slots] = 0


def phase_columns(readings: Readings) -> Columns:
    """Totals and extremes over the phases.

    Currents without their sign, which some meters take from the power.
    """
    u_a, u_b, u_c = readings.u
    i_a, i_b, i_c = np.abs(readings.i)
    p_a, p_b, p_c = readings.p
    total = p_a + p_b + p_c

    missing = np.isnan(readings.p)
    if missing.any():
        total = np.where(missing, np.float32(0), readings.p).sum(axis=0)
        total = np.where(missing.all(axis=0), np.nan, total)
    return {
        "most_u": np.fmax(np.fmax(u_a, u_b), u_c),
        "most_i": np.fmax(np.fmax(i_a, i_b), i_c),
        "mean_i": (i_a + i_b + i_c) / 3,
        "most_p": np.fmax(np.fmax(p_a, p_b), p_c),
        "total_p": total,
    }
