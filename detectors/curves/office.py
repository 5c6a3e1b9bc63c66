"""The timelines of the rules on the office: stages of work items, bills and payments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.curves.contract import (
    TimelineChart,
    TimelineMark,
    TimelineSpan,
    timeline,
)
from schemas.columns import Codes, Mask, Names, Payment, Payments, StageProgress, Stages

PAYMENT_ATTEMPTS = (Payment.PAYMENT, Payment.TOPUP)


@timeline(Stages)
def stages_of_item(stages: Stages, item: str) -> TimelineChart:
    """The stages of a work item."""
    rows = stages.select(_is_named(stages.names, stages.subject, item))
    spans: dict[str, TimelineSpan] = {}
    for k in range(len(rows)):
        stage = rows.stages[rows.stage[k]]
        at, limit = int(rows.at[k]), rows.limit[k]
        if rows.progress[k] == StageProgress.STARTED:
            due = 0 if np.isnan(limit) else int(at + limit)
            spans[stage] = TimelineSpan(stage, at, 0, due)
        elif rows.progress[k] == StageProgress.FINISHED and stage in spans:
            spans[stage] = spans[stage]._replace(end=at)
    return TimelineChart(spans=list(spans.values()))


@timeline(Stages)
def stages_beside(stages: Stages, item_and_stage: str) -> TimelineChart:
    """The stages of the work item that a stage is of."""
    item = item_and_stage.rpartition("/")[0]
    return stages_of_item.draw(stages, item)


@timeline(Payments)
def payments_of_channel(payments: Payments, channel: str) -> TimelineChart:
    """The payments that customers tried through a channel, by customer."""
    rows = payments.select(
        np.isin(payments.payment, PAYMENT_ATTEMPTS)
        & _is_named(payments.channels, payments.channel, channel)
    )
    return TimelineChart(marks=list(_marks(rows, rows.names, rows.subject)))


@timeline(Payments)
def payments_of_customer(payments: Payments, customer_and_bill: str) -> TimelineChart:
    """The payments that a customer tried, by channel, and the bill if the alert is of one."""
    customer, _, bill = customer_and_bill.partition("/")
    own = payments.select(_is_named(payments.names, payments.subject, customer))
    attempts = own.select(np.isin(own.payment, PAYMENT_ATTEMPTS))
    marks = list(_marks(attempts, attempts.channels, attempts.channel))
    paid = next((mark.at for mark in marks if mark.succeeded), 0)

    is_bill = own.payment == Payment.BILL
    bills = own.select(is_bill & _is_named(own.bills, own.bill, bill))
    spans = [
        TimelineSpan(f"bill of {amount:.2f} yuan", at, paid, due)
        for amount, at, due in zip(
            bills.amount.tolist(), bills.at.tolist(), bills.due.tolist(), strict=True
        )
    ]
    return TimelineChart(spans, marks)


@timeline(Payments)
def messages_of_transfer(
    payments: Payments, customer_and_reference: str
) -> TimelineChart:
    """The messages about a transfer; a settlement counts as succeeded."""
    customer, _, reference = customer_and_reference.partition("/")
    rows = payments.select(
        _is_named(payments.names, payments.subject, customer)
        & _is_named(payments.references, payments.reference, reference)
    )
    settled = rows.payment == Payment.SETTLEMENT
    succeeded = settled | (rows.succeeded == 1)

    names = tuple(kind.name.lower() for kind in Payment)
    return TimelineChart(marks=list(_marks(rows, names, rows.payment, succeeded)))


def _is_named(names: Names, codes: Codes, name: str) -> Mask:
    """Which codes stand for a name."""
    is_name = np.array([other == name for other in names], bool)
    return is_name[codes]


def _marks(
    rows: Payments, names: Names, codes: Codes, succeeded: Mask | None = None
) -> Iterator[TimelineMark]:
    """A mark for each row, by the name that its code stands for."""
    went_through = rows.succeeded == 1 if succeeded is None else succeeded
    for k in range(len(rows)):
        yield TimelineMark(int(rows.at[k]), names[codes[k]], bool(went_through[k]))
