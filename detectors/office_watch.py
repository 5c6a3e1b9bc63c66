"""Judges what the office records: payments, and the stages of work items."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from detectors.area_times import AreaTimes
from detectors.outcomes import RowOutcomes
from detectors.pipelines import Judges
from detectors.step_end import StepEnd
from detectors.timeline_judges import TimelineJudges
from models.meters.attempts import Failures
from models.meters.prepaid import Balances
from models.state.owners import Attributes, Owner
from schemas.alert import Alert
from schemas.columns import (
    Attempts,
    Codes,
    Column,
    Mask,
    Payment,
    Payments,
    Stages,
    Times,
)
from schemas.units import DAY_SECONDS


class Attempt(NamedTuple):
    """A payment attempt; two with the same fields are duplicates."""

    at: int
    amount: float
    bill: str
    channel: str
    succeeded: int
    reference: str = ""


TIME_OF_ATTEMPT = itemgetter(0)


class OfficeWatch:
    """Judges payments by bill, reference, customer and channel, and stages by item, trace and queue."""

    def __init__(
        self,
        judges: Judges,
        timeline_judges: TimelineJudges,
        step_end: StepEnd,
        areas: AreaTimes,
        outcomes: RowOutcomes,
        grace: int,
    ) -> None:
        self._payments = judges.plain["payments"]
        self._attempts = judges.plain["attempts"]
        self._judges = timeline_judges
        self._timelines = timeline_judges.timelines
        self._step_end = step_end
        self._areas = areas
        self._outcomes = outcomes
        self._grace = grace

        # by customer, the attempts within the grace period; by area, the highest event
        # time of payments or stages, and whose it is
        self.recent_attempts: dict[int, list[Attempt]] = {}
        self.newest: dict[int, tuple[int, str]] = {}

    def owners(self) -> dict[str, Owner]:
        """The attempts, and the highest event times."""
        attempts = dict[int, list[Attempt]]
        return {
            "recent_attempts": Attributes(self, recent_attempts=attempts),
            "office": Attributes(self, newest=dict[int, tuple[int, str]]),
        }

    def note_lost_payments(self) -> None:
        """Forget the runs and balances that a lost payment may have changed."""
        for feature in self._payments.features:
            if isinstance(feature, (Failures, Balances)):
                feature.reset_after_loss()

    def step(self, batch: Payments | Stages, areas: Codes) -> list[Alert]:
        """Judge and publish payments or stages in runs; timelines fall due after each."""
        batch, areas = self._outcomes.at_plausible_times(batch, areas)
        published: list[Alert] = []
        done = 0
        while done < len(batch):
            alerts, done = self._judge_run(batch, areas, done)
            published += self._step_end.publish(alerts)
        return published

    def _judge_run(
        self, batch: Payments | Stages, areas: Codes, start: int
    ) -> tuple[list[Alert], int]:
        """Judge the rows from `start` on that are in order of time; the alerts, and the row after them."""
        watermarks = self._move_watermarks(batch, areas, start)
        run = slice(start, start + len(watermarks))
        rows = batch if len(watermarks) == len(batch) else batch.select(run)
        if isinstance(rows, Payments):
            alerts, unjudged = self._judge_payments(rows, areas[run], watermarks)
        else:
            alerts, unjudged = self._judge_stages(rows, areas[run], watermarks)
        self._outcomes.count(rows, "judged", len(rows) - unjudged)
        return alerts, run.stop

    def _move_watermarks(
        self, batch: Payments | Stages, areas: Codes, start: int
    ) -> Times:
        """Move areas' watermarks by a run of rows from `start` on; each row's watermark before it.

        A watermark is the second-highest event time of its area's customers or items, so no single wrong clock moves
        it. A row behind its area's newest stands alone, since it may amend published alerts. A run ends where a
        watermark enters another day, since old state is forgotten then.
        """
        before: list[int] = []
        watermarks = self._areas.watermarks
        for row in range(start, len(batch)):
            area = int(areas[row])
            at = int(batch.at[row])
            subject = batch.names[batch.subject[row]]
            watermark = int(watermarks[area])
            highest, holder = self.newest.get(area, (0, ""))
            if before and at < highest:
                break

            before.append(watermark)
            if subject != holder:
                watermarks[area] = max(watermark, min(at, highest))
            if at > highest:
                self.newest[area] = at, subject

            entered_day = watermarks[area] // DAY_SECONDS
            if at < highest or entered_day > watermark // DAY_SECONDS:
                break
        return np.array(before, np.int64)

    def _judge_payments(
        self, batch: Payments, areas: Codes, watermarks: Times
    ) -> tuple[list[Alert], int]:
        """Judge payments by bill, reference, customer and channel; the alerts, and how many rows were not judged.

        `watermarks` are those of the rows' areas before each row.
        """
        fresh = np.ones(len(batch), bool)
        alerts: list[Alert] = []
        late_count = 0
        for name, timelines in (
            ("invoices", self._timelines.bills),
            ("transfers", self._timelines.ledger),
        ):
            touched, again, late = timelines.record(
                batch, areas, watermarks - self._grace
            )
            fresh[again] = fresh[late] = False
            late_count += len(late)
            alerts += self._judges.judge(name, touched)
        alerts += self._judge_attempts(batch, fresh)

        self._outcomes.sections.note_payments(batch, fresh)
        unjudged = len(batch) - int(np.count_nonzero(fresh))
        self._outcomes.count(batch, "late", late_count)
        self._outcomes.count(batch, "duplicate", unjudged - late_count)
        return alerts, unjudged

    def _judge_attempts(self, batch: Payments, fresh: Mask) -> list[Alert]:
        """Judge payment attempts by customer and by channel; `fresh` becomes false for duplicates."""
        tried = (batch.payment == Payment.PAYMENT) | (batch.payment == Payment.TOPUP)
        of_no_bill = np.array([not name for name in batch.bills], bool)[batch.bill]
        reversals = (batch.payment == Payment.REVERSAL) & of_no_bill
        amounts = np.where(reversals, -np.abs(batch.amount), batch.amount)
        slots = self._payments.index.slots(batch)
        for row in np.flatnonzero(tried | reversals).tolist():
            self._note_attempt(batch, row, int(slots[row]), tried, amounts, fresh)

        alerts: list[Alert] = []
        by_customer = (tried | reversals) & fresh
        by_customer |= batch.payment == Payment.BALANCE
        if by_customer.any():
            payments = replace(batch, amount=amounts).select(by_customer)
            alerts += self._payments.judge(payments, slots[by_customer])

        if (tried & fresh).any():
            attempts = _by_channel(batch.select(tried & fresh))
            channels = self._attempts.index.slots(attempts)
            alerts += self._attempts.judge(attempts, channels)
        return alerts

    def _note_attempt(
        self,
        batch: Payments,
        row: int,
        customer: int,
        tried: Mask,
        amounts: Column,
        fresh: Mask,
    ) -> None:
        """Remember a payment attempt; corrects its row of `tried`, `amounts` and `fresh`."""
        attempt = _attempt_of(batch, row)
        attempts = self.recent_attempts.setdefault(customer, [])
        start = bisect_left(attempts, attempt.at, key=TIME_OF_ATTEMPT)
        end = bisect_right(attempts, attempt.at, key=TIME_OF_ATTEMPT)
        if attempt in attempts[start:end]:
            fresh[row] = False
            return

        # an older attempt says nothing of a run of failures
        newest = attempts[-1].at if attempts else 0
        tried[row] &= attempt.at >= newest
        if batch.payment[row] == Payment.TOPUP and (
            yuan := _taken_back(attempt, attempts[:end])
        ):
            amounts[row] = -yuan

        oldest = newest - self._grace
        if attempt.at > oldest:
            attempts.insert(end, attempt)
        del attempts[: bisect_right(attempts, oldest, key=TIME_OF_ATTEMPT)]

    def _judge_stages(
        self, batch: Stages, areas: Codes, watermarks: Times
    ) -> tuple[list[Alert], int]:
        """Record the stages of work items; the alerts, and how many rows were not judged.

        `watermarks` are those of the rows' areas before each row.
        """
        work, backlog, stage_order, *_ = self._timelines
        sealed = watermarks - self._grace
        touched, again, late = work.record(batch, areas, sealed)
        self._outcomes.count(batch, "late", len(late))
        self._outcomes.count(batch, "duplicate", len(again))
        fresh = np.ones(len(batch), bool)
        fresh[again] = fresh[late] = False
        self._outcomes.sections.note_stages(batch, fresh)

        traces = stage_order.record(batch, areas, sealed).touched
        alerts = self._judges.judge("overdue", touched)
        alerts += self._judges.judge("disorder", traces)
        queues = backlog.record(batch, areas, watermarks, self._areas.watermarks)
        alerts += self._judges.judge("backlogs", queues)
        return alerts, len(again) + len(late)


def _by_channel(payments: Payments) -> Attempts:
    """Payments as attempts of their channels."""
    return Attempts(
        payments.channels,
        payments.channel,
        payments.areas,
        payments.area,
        payments.at,
        (payments.succeeded == 0).astype(np.float32),
    )


def _attempt_of(batch: Payments, row: int) -> Attempt:
    """The payment attempt of a row; a reversal has a negative amount."""
    amount = float(batch.amount[row])
    if batch.payment[row] == Payment.REVERSAL:
        amount = -abs(amount)
    return Attempt(
        int(batch.at[row]),
        amount if np.isfinite(amount) else -1.0,
        batch.bills[batch.bill[row]],
        batch.channels[batch.channel[row]],
        int(batch.succeeded[row]),
        batch.references[batch.reference[row]],
    )


def _taken_back(attempt: Attempt, before: Sequence[Attempt]) -> float:
    """Yuan that a failed attempt takes back: the amount that went through before under its reference, or 0.

    >>> _taken_back(Attempt(9, 10.0, "", "app", 0, "T1"), [Attempt(5, 10.0, "", "app", 1, "T1")])
    10.0
    >>> _taken_back(Attempt(9, 10.0, "", "app", 0, "T1"), [])
    0.0
    """
    if attempt.succeeded or not attempt.reference:
        return 0.0
    same_reference = (
        known for known in reversed(before) if known.reference == attempt.reference
    )
    last = next(same_reference, None)
    return last.amount if last and last.succeeded else 0.0
