"""Failed payment attempts: of a customer, and of the channels they went through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Array, Cells, pushed
from models.state.missing_values import only
from schemas.columns import Codes, Column, Payment, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS

ATTEMPT_KINDS = (Payment.PAYMENT, Payment.TOPUP)


class FailuresColumns(NamedTuple):
    """Given by Failures."""

    failures_24h: Column  # at most 3; NaN for rows that are no attempt


class Failures(Feature):
    """A customer's latest failed payment attempts since the last success."""

    relearns = 3

    KEPT_FAILURES = 3

    def __init__(self) -> None:
        self.cells = Cells(failed=np.zeros(self.KEPT_FAILURES, np.int64))

    def fold(
        self, slots: Codes, succeeded: Column, *, payment: Codes, at: Times
    ) -> FailuresColumns:
        """The failures of the last day, this row's among them."""
        attempt = np.isin(payment, ATTEMPT_KINDS)
        failed = attempt & (succeeded == 0)
        before = self.cells["failed"][:, slots]
        kept = np.where(attempt, 0, before)
        after = np.where(failed, pushed(before, at), kept)
        self.cells["failed"][:, slots] = after
        recent = (after > 0) & (after > at - DAY_SECONDS)
        failures = recent.sum(axis=0)
        return FailuresColumns(failures_24h=only(attempt, failures))

    def reset_after_loss(self) -> None:
        """Forgets the failures: a lost row may have been a success."""
        self.cells["failed"][...] = 0


class FailureShareColumns(NamedTuple):
    """Given by FailureShare."""

    failed_share: Column  # of recent attempts
    attempts: Column  # effective number of them
    usual_share: Column  # before this hour
    usual_spread: Column  # standard deviation of the recent share, if it is the usual


class FailureShare(Feature):
    """A channel's share of failed attempts: recently, and usually at this hour of the week."""

    relearns = 50

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

    def fold(self, slots: Codes, failed: Column, *, at: Times) -> FailureShareColumns:
        """The share of failures with this attempt, beside the usual one."""
        cells = self.cells

        # A late row counts in the running hour.
        hour_before = cells["hour"][slots]
        hour = np.maximum(at // HOUR_SECONDS, hour_before)
        self._end_hours(slots[hour_before != hour])
        cells["hour"][slots] = hour
        cells["tried"][slots] += 1
        cells["failed"][slots] += failed

        keep = 1 - 1 / self.MEMORY_ATTEMPTS
        weight = cells["weight"][slots] * keep + 1
        share = cells["share"][slots]
        share = share + (failed - share) / weight
        cells["share"][slots] = share
        cells["weight"][slots] = weight

        usual = self._usual_share(slots, hour % self.WEEK_HOURS)
        variance = np.maximum(usual * (1 - usual), 1e-4)
        return FailureShareColumns(
            failed_share=share,
            attempts=weight,
            usual_share=usual,
            usual_spread=np.sqrt(variance / weight),
        )

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
        overall = only(total > 0, overall)
        usual = fails[hour, rows] / np.maximum(here, 1)
        enough = here >= self.MEMORY_ATTEMPTS
        return np.where(enough, usual, overall)

    def _end_hours(self, slots: Codes) -> None:
        """Learns the last hour of some channels.

        It counts at most twice the usual failures, and 2 %.
        """
        cells = self.cells
        attempts = cells["attempts"]
        fails = cells["fails"]
        hour = cells["hour"][slots] % self.WEEK_HOURS
        tried = cells["tried"][slots]
        total = attempts[:, slots].sum(axis=0)
        failed_before = fails[:, slots].sum(axis=0)
        usual = failed_before / np.maximum(total, 1)

        twice_usual = 2 * usual + 0.02
        most = np.where(total > 0, tried * twice_usual, np.inf)
        failed = np.minimum(cells["failed"][slots], most)
        keep = np.where(tried > 0, self.WEEKLY_FADE, 1)
        attempts[hour, slots] = keep * attempts[hour, slots] + tried
        fails[hour, slots] = keep * fails[hour, slots] + failed
        cells["tried"][slots] = 0
        cells["failed"][slots] = 0
