"""What is remembered of each subject and read by rules. A feature folds rows into further columns."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from models.cells import Array, Cells
from models.state import Owner, Schema
from models.turns import UniquePasses
from schemas.columns import Codes, Mask, Readings
from schemas.columns import Payment as PaymentKind
from schemas.units import DAY_SECONDS, HOUR_SECONDS

NEVER_SECONDS = 2**31  # seconds since what never was
Columns = dict[str, Array]


def faded(elapsed: Array, half_life: float) -> Array:
    """What is left of a weight after some time; all of it where time has gone backward.

    >>> faded(np.array([-1e15, 0.0, 14.0, 1e15]), 14.0).tolist()
    [1.0, 1.0, 0.5, 0.0]
    """
    return np.exp2(-np.maximum(elapsed, 0) / half_life)


class Feature(Owner):
    """Columns computed from a batch and from what was before it; an empty cell means that nothing is known."""

    expendable = True
    relearns: ClassVar[int] = (
        31  # rows of a subject after which one that starts afresh tells as before
    )
    distinct: ClassVar[bool] = (
        True  # it folds rows of distinct slots; else any, each slot's in order of arrival
    )
    cells: Cells
    reads: tuple[
        str, ...
    ]  # columns without which a row neither gives nor leaves anything
    takes: tuple[str, ...]  # further columns that it looks at
    gives: tuple[str, ...]

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Further columns for rows, as things stood before each; then remember them."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """What one subject has, by column."""
        return self.cells.schema()

    def state(self) -> Columns:
        """Everything remembered."""
        return self.cells.state()

    def load(self, columns: Columns) -> None:
        """Replace everything by what `state` gave."""
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
        c, at, turns = self.cells, columns["at"], UniquePasses(slots)
        moved, power = columns["register_delta"], columns["total_p"].astype(np.float64)
        known = ~(np.isnan(moved) | np.isnan(power))
        then = turns.earlier(at, c["then"][slots], known)
        hours = (
            np.where(then > 0, np.minimum(at - then, HOUR_SECONDS), 0) / HOUR_SECONDS
        )
        flow, still = np.maximum(power, 0) * hours, known & ~(moved > 0)

        def step(before: Array, flow: Array, still: Mask, known: Mask) -> Array:
            return np.where(still, before + flow, np.where(known, 0.0, before))

        flowed = turns.scan(c["still"], step, flow, still, known) + flow
        c["then"][slots[known]] = at[known]
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

    GAP_MEMORY = 8.0  # readings over which it fades how many days they are apart
    SELDOM_DAYS = 1.5  # days apart from which on a meter is read on chosen days
    GAP_FACTOR = 1.5  # times as long as usual
    MISSING_DAYS_LIMIT = 60  # days without a reading after which a meter counts as gone; default of this project

    def __init__(self) -> None:
        self.cells = Cells(
            zero=np.int32(0),
            missing=np.int32(0),
            usual=np.float64(np.nan),
            apart=np.float32(
                np.nan
            ),  # days from one reading to the next, 0 after the first
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds zero_days, missing_days and usual_kwh, primary, the fading mean over days with use (28 days' half-life).

        Days after the supply was stopped are no zero days. lossy is 1 where the area surely loses more than usual, and
        lost_kwh how much; 0 and NaN where it does not, or nobody knows. missing_days is -inf of a meter that is gone:
        not read for long, though its area is. unread_usual, half as many days again as are usual without a reading,
        NaN of a meter that is read on most days.
        """
        c, lost = self.cells, columns["area_excess_kwh"]
        kwh = columns["kwh"] * np.nan_to_num(
            columns["ratio"], nan=1.0
        )  # as shown where no file says
        usual = c["usual"][slots]
        zero = (kwh == 0) & (columns["coverage"] >= 0.9) & ~(columns["live"] < 0.5)
        used = kwh > 0
        supplied = ~(columns["stopped"] <= columns["at"])
        zeros = (
            np.where(zero, c["zero"][slots] + 1, np.where(used, 0, c["zero"][slots]))
            * supplied
        )
        read, before, apart = (
            columns["reads"] > 0,
            c["missing"][slots],
            c["apart"][slots].astype(np.float64),
        )
        unread = np.where(
            apart >= self.SELDOM_DAYS, np.floor(self.GAP_FACTOR * (apart - 1)), 0
        ).astype(np.int64)
        gone = self.MISSING_DAYS_LIMIT + unread
        missing = np.where(read, 0, before + 1)
        missing = np.where(
            (missing == gone + 1) & ~(columns["area_reads"] > 0), gone, missing
        )
        c["zero"][slots], c["missing"][slots] = zeros, missing
        share = np.where(apart == 0, 1, 1 - 2 ** (-1 / self.GAP_MEMORY))
        later = np.where(
            np.isnan(apart) | (before > gone), 0, apart + share * (before + 1 - apart)
        )
        c["apart"][slots] = np.where(read, later, apart)
        keep = 2.0 ** (-1 / 28)
        c["usual"][slots] = np.where(
            used,
            np.where(np.isnan(usual), kwh, usual + (1 - keep) * (kwh - usual)),
            usual,
        )
        return {
            "zero_days": np.where(zero | used, zeros, np.nan),
            "missing_days": np.where(missing > gone, -np.inf, missing),
            "unread_usual": np.where(unread > 0, unread, np.nan),
            "usual_kwh": usual,
            "lossy": (lost > 0).astype(float),
            "lost_kwh": np.where(lost > 0, lost, np.nan),
        }


class FirstMonth(Feature):
    """What a meter's first days tell of a customer who is new."""

    reads: tuple[str, ...] = ("connected_days",)
    takes: tuple[str, ...] = ("reads", "kwh", "coverage", "ratio", "contract_kva")
    gives: tuple[str, ...] = ("unread_days", "first_load")

    FIRST_DAY_END = (
        1.05  # days after which the first is surely closed, even one of 25 hours
    )
    JUDGED_FROM_DAY, LAST_DAY, FEWEST_DAYS = (
        30,
        60,
        15,
    )  # days: from when on the load counts and until when, and that must be known

    def __init__(self) -> None:
        self.cells = Cells(
            days=np.uint8(0), read=np.bool_(0), kwh=np.float64(0), last=np.float32(0)
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds unread_days, -inf once anything was read, and first_load, the mean of kW to the contract's kVA.

        That is inf before 30 days and while fewer than 15 are known. NaN for customers who are not new, or were
        connected before the area's history began; after 60 days they are as if all were well, for a day.
        """
        c, day, kwh = (
            self.cells,
            columns["connected_days"],
            columns["kwh"].astype(np.float64),
        )
        last = c["last"][slots]
        begins = (day > 0) & (day <= self.FIRST_DAY_END) & ((last == 0) | (day <= last))
        new = begins | ((last > 0) & (day > last) & (day <= self.LAST_DAY + 1))
        days, read, used = (
            np.where(begins, 0, c[name][slots]) for name in ("days", "read", "kwh")
        )
        shown, told = ~np.isnan(kwh), columns["reads"] > 0
        read = (read > 0) | told
        days, used = (
            days + shown,
            used + np.where(shown, kwh / columns["coverage"] * columns["ratio"], 0),
        )
        for name, values in (
            ("days", days),
            ("read", read),
            ("kwh", used),
            ("last", day),
        ):
            c[name][slots[new]] = values[new]
        load = used / days / 24 / columns["contract_kva"]
        early, known = (
            day <= self.LAST_DAY,
            (day >= self.JUDGED_FROM_DAY)
            & (days >= self.FEWEST_DAYS)
            & ~np.isnan(load),
        )
        unread, load = (
            np.where(early & ~read, day, -np.inf),
            np.where(early & known, load, np.inf),
        )
        return {
            "unread_days": np.where(new, unread, np.nan),
            "first_load": np.where(new, load, np.nan),
        }


class Failures(Feature):
    """A customer's latest failed payment attempts since one went through."""

    relearns = 3
    reads: tuple[str, ...] = ("succeeded",)
    takes: tuple[str, ...] = ("payment", "at")
    gives: tuple[str, ...] = ("failures_24h",)

    KEPT_FAILURES = 3

    def __init__(self) -> None:
        self.cells = Cells(failed=np.zeros(self.KEPT_FAILURES, np.int64))

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds failures_24h, at most 3; NaN for rows that are no attempt."""
        at, attempt = (
            columns["at"],
            np.isin(columns["payment"], (PaymentKind.PAYMENT, PaymentKind.TOPUP)),
        )
        failed = attempt & (columns["succeeded"] == 0)
        before = self.cells["failed"][:, slots]
        after = np.where(
            failed, np.concatenate([before[1:], at[None]]), np.where(attempt, 0, before)
        )
        self.cells["failed"][:, slots] = after
        recent = ((after > 0) & (after > at - DAY_SECONDS)).sum(axis=0)
        return {"failures_24h": np.where(attempt, recent, np.nan)}

    def reset_after_loss(self) -> None:
        """Rows are gone: one of them may have gone through."""
        self.cells["failed"][...] = 0


class FailureShare(Feature):
    """How often attempts through a channel fail: lately, and usually at this hour of the week."""

    relearns = 50
    reads: tuple[str, ...] = ("failed",)
    takes: tuple[str, ...] = ("at",)
    gives: tuple[str, ...] = ("failed_share", "attempts", "usual_share", "usual_spread")

    MEMORY_ATTEMPTS = 50  # attempts over which the recent share fades
    WEEKLY_FADE = np.float32(0.8)  # of an hour's habit from week to week

    def __init__(self) -> None:
        hours = np.zeros(168, np.float32)
        self.cells = Cells(
            share=np.float64(0),
            weight=np.float64(0),
            attempts=hours,
            fails=hours,
            hour=np.int64(0),
            tried=np.float32(0),
            failed=np.float32(0),  # the hour that has not ended yet
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds failed_share, attempts (effective number), usual_share and usual_spread, both before this hour."""
        c, failed = self.cells, columns["failed"]
        hour = np.maximum(
            columns["at"] // HOUR_SECONDS, c["hour"][slots]
        )  # a row that comes late counts in the running hour
        self._end_hours(slots[c["hour"][slots] != hour])
        c["hour"][slots] = hour
        c["tried"][slots] += 1
        c["failed"][slots] += failed
        hour = hour % 168
        keep = 1 - 1 / self.MEMORY_ATTEMPTS
        weight = c["weight"][slots] * keep + 1
        share = c["share"][slots] + (failed - c["share"][slots]) / weight
        tried, fails = c["attempts"][:, slots], c["fails"][:, slots]
        rows = np.arange(len(slots))
        here, all_tried = tried[hour, rows], tried.sum(axis=0)
        overall = np.where(
            all_tried > 0, fails.sum(axis=0) / np.maximum(all_tried, 1), np.nan
        )
        usual = np.where(
            here >= self.MEMORY_ATTEMPTS,
            fails[hour, rows] / np.maximum(here, 1),
            overall,
        )
        c["share"][slots], c["weight"][slots] = share, weight
        spread = np.sqrt(np.maximum(usual * (1 - usual), 1e-4) / weight)
        return {
            "failed_share": share,
            "attempts": weight,
            "usual_share": usual,
            "usual_spread": spread,
        }

    def _end_hours(self, slots: Codes) -> None:
        """Take the last hour of some channels into their habit; it fails at most twice as often as usual, and 2 %."""
        c, hour = self.cells, self.cells["hour"][slots] % 168
        tried, attempts = c["tried"][slots], c["attempts"][:, slots].sum(axis=0)
        usual = c["fails"][:, slots].sum(axis=0) / np.maximum(attempts, 1)
        most = np.where(attempts > 0, tried * (2 * usual + 0.02), np.inf)
        keep = np.where(tried > 0, self.WEEKLY_FADE, 1)
        c["attempts"][hour, slots] = keep * c["attempts"][hour, slots] + tried
        c["fails"][hour, slots] = keep * c["fails"][hour, slots] + np.minimum(
            c["failed"][slots], most
        )
        c["tried"][slots] = c["failed"][slots] = 0


def phase_columns(r: Readings) -> Columns:
    """Totals and extremes over the phases; currents without their sign, which some meters take from the power."""
    a, b, c = np.abs(r.i)
    ua, ub, uc = r.u
    pa, pb, pc = r.p
    missing = np.isnan(r.p)
    total = pa + pb + pc
    if missing.any():
        total = np.where(
            missing.all(axis=0),
            np.nan,
            np.where(missing, np.float32(0), r.p).sum(axis=0),
        )
    return {
        "most_u": np.fmax(np.fmax(ua, ub), uc),
        "most_i": np.fmax(np.fmax(a, b), c),
        "mean_i": (a + b + c) / 3,
        "most_p": np.fmax(np.fmax(pa, pb), pc),
        "total_p": total,
    }
