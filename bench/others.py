"""What the other topics carry beside the readings: bills and how they are paid, work items, what devices report.

Per 100,000 meters and day about 4,000 rows of payments, 2,000 of stages and 5,000 device events, spread over the day;
times as many where a topic is measured alone. The same each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.load import (
    FIRST_MIDNIGHT,
    SLOT_SECONDS,
    SLOTS_PER_DAY,
    Load,
    customer_of,
    section_of,
)
from replay.simulation.bills import CHANNEL_NAMES, CHANNEL_SHARES
from replay.simulation.work import STAGE_HOURS
from schemas.columns import (
    Batch,
    DeviceEvents,
    Event,
    Payment,
    Payments,
    StageProgress,
    Stages,
)
from schemas.topics import EVENTS_TOPIC, PAYMENTS_TOPIC, READS_TOPIC, WORKFLOW_TOPIC
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from schemas.wire import Encoded, encode

LIFE_METERS = 100_000  # meters for which the numbers by day hold
SETTLEMENT_SLOTS = (
    88  # quarter-hours after a payment, within the day that the channels have
)
Rows = NDArray[np.void]


class TopicLoad(ABC):
    """The rows of a topic, quarter-hour by quarter-hour: drawn for those to come, each handed out in its own."""

    topic: ClassVar[str]
    dtype: ClassVar[np.dtype[np.void]]
    begin_daily: ClassVar[float]  # of 100,000 meters, what begins in a day

    def __init__(self, load: Load, times: float = 1.0, seed: int = 2) -> None:
        self._load, self._next = load, load.next
        self._rng = np.random.default_rng([seed, load.count])
        self._begin_per_slot = (
            self.begin_daily * times * load.count / LIFE_METERS / SLOTS_PER_DAY
        )  # in a quarter-hour
        self._scheduled: defaultdict[int, list[Rows]] = defaultdict(list)

    def _schedule(self, rows: Rows, slots: NDArray[np.int64]) -> None:
        """Lets rows come in some quarter-hours to come."""
        for slot in np.unique(slots).tolist():
            self._scheduled[slot].append(rows[slots == slot])

    @abstractmethod
    def slot(self) -> Batch:
        """The rows of the next quarter-hour, in order of time."""

    @abstractmethod
    def _draw(self, count: int) -> None:
        """Files what begins in the next quarter-hour."""

    def _next_rows(self) -> tuple[Rows, NDArray[np.int64]]:
        """The rows of the next quarter-hour, and their times in order."""
        self._draw(int(self._rng.poisson(self._begin_per_slot)))
        rows = np.concatenate(
            [np.empty(0, self.dtype), *self._scheduled.pop(self._next, [])]
        )
        at = (
            FIRST_MIDNIGHT
            + self._next * SLOT_SECONDS
            + np.sort(self._rng.integers(1, SLOT_SECONDS, len(rows)))
        )
        self._next += 1
        return rows, at

    def _random_meters(self, count: int) -> NDArray[np.int64]:
        """Some meters of customers."""
        meters = self._rng.integers(0, self._load.count, count)
        return meters + (meters % self._load.size == 0)


class PaymentsLoad(TopicLoad):
    """Bills, mostly paid within some days and settled a day later; prepaid homes get their balance."""

    topic = PAYMENTS_TOPIC
    dtype = np.dtype(
        [
            ("meter", "i4"),
            ("payment", "u1"),
            ("amount", "f8"),
            ("number", "i8"),
            ("succeeded", "?"),
        ]
    )
    begin_daily = 1000.0
    PAID_SHARE, FAIL_SHARE = 0.998, 0.03  # of the bills; of the first attempts
    DUE_SECONDS = 15 * DAY_SECONDS
    BALANCE_SHARE, TOPUP_SHARE = 0.8, 0.1  # balances and top-ups, by bill

    def __init__(self, load: Load, times: float = 1.0, seed: int = 2) -> None:
        super().__init__(load, times, seed)
        self._numbers = 0

    def _draw(self, count: int) -> None:
        bills = self._customer_rows(count, Payment.BILL)
        self._schedule(bills, np.full(count, self._next))
        paid = bills[self._rng.random(count) < self.PAID_SHARE]
        when = (
            self._next
            + 1
            + np.minimum(
                self._rng.exponential(1.2 * SLOTS_PER_DAY, len(paid)), 4 * SLOTS_PER_DAY
            ).astype(np.int64)
        )
        fails = self._rng.random(len(paid)) < self.FAIL_SHARE
        self._schedule_attempts(paid[fails], when[fails], succeeded=False)

        self._schedule_attempts(paid, when + fails, succeeded=True)
        self._schedule(
            self._customer_rows(int(self.BALANCE_SHARE * count), Payment.BALANCE),
            np.full(int(self.BALANCE_SHARE * count), self._next),
        )
        topped_up = self._customer_rows(
            int(self._rng.poisson(self.TOPUP_SHARE * count)), Payment.TOPUP
        )
        self._schedule_attempts(
            topped_up,
            np.full(len(topped_up), self._next),
            succeeded=True,
            payment=Payment.TOPUP,
        )

    def _customer_rows(self, count: int, payment: Payment) -> Rows:
        """So many rows of customers."""
        rows = np.zeros(count, self.dtype)
        rows["meter"], rows["payment"], rows["succeeded"] = (
            self._random_meters(count),
            payment,
            True,
        )
        rows["amount"] = np.round(self._rng.uniform(30, 300, count), 2)
        rows["number"] = self._numbers + np.arange(count)
        self._numbers += count
        return rows

    def _schedule_attempts(
        self,
        rows: Rows,
        when: NDArray[np.int64],
        *,
        succeeded: bool,
        payment: Payment = Payment.PAYMENT,
    ) -> None:
        """Attempts to pay; what succeeds is settled a day later."""
        rows = rows.copy()
        rows["payment"], rows["succeeded"] = payment, succeeded
        self._schedule(rows, when)
        if succeeded:
            rows = rows.copy()
            rows["payment"] = Payment.SETTLEMENT
            self._schedule(rows, when + SETTLEMENT_SLOTS)

    def slot(self) -> Payments:
        rows, at = self._next_rows()
        meters, numbers, kinds = (
            rows[name].tolist() for name in ("meter", "number", "payment")
        )
        each = np.arange(len(rows))
        of_bill = (rows["payment"] != Payment.TOPUP) & (
            rows["payment"] != Payment.BALANCE
        )
        named = (rows["payment"] != Payment.BILL) & (rows["payment"] != Payment.BALANCE)
        channels = (
            np.searchsorted(np.cumsum(CHANNEL_SHARES), rows["number"] % 97 / 97) + 1
        )

        return Payments.build(
            [customer_of(meter) for meter in meters],
            each,
            self._load.area_names,
            self._load.area[rows["meter"]],
            at,
            payment=kinds,
            amount=rows["amount"],
            succeeded=rows["succeeded"],
            bills=("", *(f"B{number:09}" for number in numbers)),
            bill=np.where(of_bill, each + 1, 0),
            channels=CHANNEL_NAMES,
            channel=np.where(named, channels, 0),
            references=(
                "",
                *(
                    f"R{number}-{done}"
                    for number, done in zip(numbers, rows["succeeded"], strict=True)
                ),
            ),
            reference=np.where(named, each + 1, 0),
            due=np.where(rows["payment"] == Payment.BILL, at + self.DUE_SECONDS, 0),
        )


class StagesLoad(TopicLoad):
    """Items of work that go through the stages of their section, each well within its limit; a few stay in one."""

    topic = WORKFLOW_TOPIC
    dtype = np.dtype([("item", "i8"), ("stage", "u1"), ("progress", "u1")])
    begin_daily = 200.0
    STAY_SHARE = 0.002  # of the items, in some stage

    def __init__(self, load: Load, times: float = 1.0, seed: int = 2) -> None:
        super().__init__(load, times, seed)
        self._items = 0
        self._sections = tuple(
            dict.fromkeys(section_of(area) for area in range(len(load.area_names)))
        )

    def _draw(self, count: int) -> None:
        items = self._items + np.arange(count)
        self._items += count
        when = np.full(count, self._next)

        for stage, (_, hours) in enumerate(STAGE_HOURS):
            self._schedule_moves(items, stage, StageProgress.STARTED, when)
            stays = self._rng.random(len(items)) < self.STAY_SHARE / len(STAGE_HOURS)
            share = np.minimum(
                0.72, 0.35 * np.exp(0.4 * self._rng.standard_normal(len(items)))
            )
            items, when = (
                items[~stays],
                (
                    when
                    + np.ceil(share * hours * HOUR_SECONDS / SLOT_SECONDS).astype(
                        np.int64
                    )
                )[~stays],
            )
            self._schedule_moves(items, stage, StageProgress.FINISHED, when)

            when = when + 1

    def _schedule_moves(
        self,
        items: NDArray[np.int64],
        stage: int,
        progress: StageProgress,
        when: NDArray[np.int64],
    ) -> None:
        """Items enter or leave a stage."""
        rows = np.zeros(len(items), self.dtype)
        rows["item"], rows["stage"], rows["progress"] = items, stage, progress
        self._schedule(rows, when)

    def slot(self) -> Stages:
        rows, at = self._next_rows()
        hours = np.array([hours for _, hours in STAGE_HOURS])
        return Stages.build(
            [f"W{item:08}" for item in rows["item"].tolist()],
            np.arange(len(rows)),
            self._sections,
            rows["item"] % len(self._sections),
            at,
            stages=tuple(name for name, _ in STAGE_HOURS),
            stage=rows["stage"],
            progress=rows["progress"],
            limit=hours[rows["stage"]] * HOUR_SECONDS,
        )


class ReportKind(NamedTuple):
    """What a device reports, and what it reports when that is over."""

    share: float  # of all that is reported
    event: Event
    over: Event | None = None
    lasts: float = 0.0  # hours, in the event unless another event ends it
    area: bool = False  # of the whole area


REPORT_KINDS = (
    ReportKind(0.32, Event.POWER_OFF, Event.POWER_ON),
    ReportKind(0.03, Event.VOLTAGE_SAG),
    ReportKind(0.19, Event.CLOCK_SET),
    ReportKind(0.1, Event.RELAY_OPENED, Event.RELAY_CLOSED),
    ReportKind(0.08, Event.PARAM_CHANGE),
    ReportKind(0.07, Event.COVER_OPEN, Event.COVER_CLOSED),
    ReportKind(0.06, Event.WORK_ORDER, lasts=8.0),
    ReportKind(0.05, Event.BATTERY_LOW),
    ReportKind(0.04, Event.INSPECTED),
    ReportKind(0.03, Event.CLOCK_FAULT),
    ReportKind(0.01, Event.MAGNETIC_FIELD, Event.MAGNETIC_FIELD_END),
    ReportKind(0.01, Event.VACANCY, lasts=72.0),
    ReportKind(0.01, Event.PLANNED_OUTAGE, lasts=1.0, area=True),
)


class EventsLoad(TopicLoad):
    """What meters report of themselves, and the orders, visits and planned outages beside it."""

    topic = EVENTS_TOPIC
    dtype = np.dtype([("meter", "i4"), ("event", "u1"), ("lasts", "i8"), ("area", "?")])
    begin_daily = 3400.0
    LEAST_SLOTS, MOST_SLOTS = 1, 12  # quarter-hours until it is over

    def _draw(self, count: int) -> None:
        shares = np.array([report.share for report in REPORT_KINDS])
        kinds = self._rng.choice(len(REPORT_KINDS), count, p=shares / shares.sum())
        rows = np.zeros(count, self.dtype)
        rows["meter"] = self._random_meters(count)
        rows["event"] = np.array([report.event for report in REPORT_KINDS])[kinds]
        rows["lasts"] = np.array(
            [report.lasts * HOUR_SECONDS for report in REPORT_KINDS]
        )[kinds]

        rows["area"] = np.array([report.area for report in REPORT_KINDS])[kinds]
        self._schedule(rows, np.full(count, self._next))
        ended = np.array(
            [
                report.event if report.over is None else report.over
                for report in REPORT_KINDS
            ]
        )[kinds]
        over = rows[ended != rows["event"]].copy()
        over["event"] = ended[ended != rows["event"]]

        self._schedule(
            over,
            self._next
            + self._rng.integers(self.LEAST_SLOTS, self.MOST_SLOTS, len(over)),
        )

    def slot(self) -> DeviceEvents:
        rows, at = self._next_rows()
        each, meters = np.arange(len(rows)), rows["meter"]
        names = [
            "" if area else self._load.names[meter]
            for meter, area in zip(meters, rows["area"], strict=True)
        ]
        sags = rows["event"] == Event.VOLTAGE_SAG

        return DeviceEvents.build(
            names,
            each,
            self._load.area_names,
            self._load.area[meters],
            at,
            event=rows["event"],
            until=np.where(rows["lasts"] > 0, at + rows["lasts"], 0),
            residual=np.where(sags, 0.8, np.nan),
            seconds=np.where(sags, 0.5, np.nan),
        )


def topic_loads(load: Load) -> tuple[TopicLoad, ...]:
    """All that comes with a load's readings."""
    return PaymentsLoad(load), StagesLoad(load), EventsLoad(load)


def messages(load: Load, others: Sequence[TopicLoad]) -> Iterator[tuple[str, Encoded]]:
    """The messages of the next quarter-hour with their topics: frames, and the others spread evenly between them."""
    batches = [(READS_TOPIC, list(encode(load.slot(), "packed")))]
    batches += [(other.topic, list(encode(other.slot(), "array"))) for other in others]
    ranked = [
        ((n + 0.5) / len(some), topic, message)
        for topic, some in batches
        for n, message in enumerate(some)
    ]
    yield from ((topic, message) for _, topic, message in sorted(ranked))
