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

from bench.load import MIDNIGHT, SLOT, SLOTS, Load, customer_of, section_of
from replay.office import CHANNELS, SHARES, STAGES
from replay.send import encoded
from schemas.columns import Batch, DeviceEvents, Event, Payment, Payments, Progress, Stages
from schemas.wire import Encoded, encode_readings
from streams.topics import EVENTS, PAYMENTS, READS, WORKFLOW

LIFE = 100_000  # meters for which the numbers by day hold
HOUR, DAY = 3600, 86_400
SETTLED = 88  # quarter-hours after a payment, within the day that the channels have
Rows = NDArray[np.void]


class Others(ABC):
    """The rows of a topic, quarter-hour by quarter-hour: drawn for those to come, each handed out in its own."""

    topic: ClassVar[str]
    dtype: ClassVar[np.dtype[np.void]]
    begin_daily: ClassVar[float]  # of 100,000 meters, what begins in a day

    def __init__(self, load: Load, times: float = 1.0, seed: int = 2) -> None:
        self.load, self.next = load, load.next
        self.rng = np.random.default_rng([seed, load.count])
        self.begin = self.begin_daily * times * load.count / LIFE / SLOTS  # in a quarter-hour
        self.later: defaultdict[int, list[Rows]] = defaultdict(list)

    def file(self, rows: Rows, slots: NDArray[np.int64]) -> None:
        """Lets rows come in some quarter-hours to come."""
        for slot in np.unique(slots).tolist():
            self.later[slot].append(rows[slots == slot])

    @abstractmethod
    def slot(self) -> Batch:
        """The rows of the next quarter-hour, in order of time."""

    @abstractmethod
    def draw(self, count: int) -> None:
        """Files what begins in the next quarter-hour."""

    def drawn(self) -> tuple[Rows, NDArray[np.int64]]:
        """The rows of the next quarter-hour, and their times in order."""
        self.draw(int(self.rng.poisson(self.begin)))
        rows = np.concatenate([np.empty(0, self.dtype), *self.later.pop(self.next, [])])
        at = MIDNIGHT + self.next * SLOT + np.sort(self.rng.integers(1, SLOT, len(rows)))
        self.next += 1
        return rows, at

    def meters(self, count: int) -> NDArray[np.int64]:
        """Some meters of customers."""
        meters = self.rng.integers(0, self.load.count, count)
        return meters + (meters % self.load.size == 0)


class PaymentsLoad(Others):
    """Bills, mostly paid within some days and settled a day later; homes that pay in advance are told what is left."""

    topic = PAYMENTS
    dtype = np.dtype([("meter", "i4"), ("payment", "u1"), ("amount", "f8"), ("number", "i8"), ("succeeded", "?")])
    begin_daily = 1000.0
    PAID, FAILS = 0.998, 0.03  # of the bills; of the first attempts
    DUE = 15 * DAY
    TOLD, TOPPED_UP = 0.8, 0.1  # balances and top-ups, by bill

    def __init__(self, load: Load, times: float = 1.0, seed: int = 2) -> None:
        super().__init__(load, times, seed)
        self.numbers = 0

    def draw(self, count: int) -> None:
        bills = self.rows(count, Payment.BILL)
        self.file(bills, np.full(count, self.next))
        paid = bills[self.rng.random(count) < self.PAID]
        when = self.next + 1 + np.minimum(self.rng.exponential(1.2 * SLOTS, len(paid)), 4 * SLOTS).astype(np.int64)
        fails = self.rng.random(len(paid)) < self.FAILS
        self.tried(paid[fails], when[fails], succeeded=False)
        self.tried(paid, when + fails, succeeded=True)
        self.file(self.rows(int(self.TOLD * count), Payment.BALANCE), np.full(int(self.TOLD * count), self.next))
        topped_up = self.rows(int(self.rng.poisson(self.TOPPED_UP * count)), Payment.TOPUP)
        self.tried(topped_up, np.full(len(topped_up), self.next), succeeded=True, payment=Payment.TOPUP)

    def rows(self, count: int, payment: Payment) -> Rows:
        """So many rows of customers."""
        rows = np.zeros(count, self.dtype)
        rows["meter"], rows["payment"], rows["succeeded"] = self.meters(count), payment, True
        rows["amount"] = np.round(self.rng.uniform(30, 300, count), 2)
        rows["number"] = self.numbers + np.arange(count)
        self.numbers += count
        return rows

    def tried(
        self, rows: Rows, when: NDArray[np.int64], *, succeeded: bool, payment: Payment = Payment.PAYMENT
    ) -> None:
        """Attempts to pay; what succeeds is settled a day later."""
        rows = rows.copy()
        rows["payment"], rows["succeeded"] = payment, succeeded
        self.file(rows, when)
        if succeeded:
            rows = rows.copy()
            rows["payment"] = Payment.SETTLEMENT
            self.file(rows, when + SETTLED)

    def slot(self) -> Payments:
        rows, at = self.drawn()
        meters, numbers, kinds = (rows[name].tolist() for name in ("meter", "number", "payment"))
        each = np.arange(len(rows))
        of_bill = (rows["payment"] != Payment.TOPUP) & (rows["payment"] != Payment.BALANCE)
        named = (rows["payment"] != Payment.BILL) & (rows["payment"] != Payment.BALANCE)
        channels = np.searchsorted(np.cumsum(SHARES), rows["number"] % 97 / 97) + 1
        return Payments.build(
            [customer_of(meter) for meter in meters], each, self.load.area_names, self.load.area[rows["meter"]], at,
            payment=kinds, amount=rows["amount"], succeeded=rows["succeeded"],
            bills=("", *(f"B{number:09}" for number in numbers)), bill=np.where(of_bill, each + 1, 0),
            channels=CHANNELS, channel=np.where(named, channels, 0),
            references=("", *(f"R{number}-{done}" for number, done in zip(numbers, rows["succeeded"], strict=True))),
            reference=np.where(named, each + 1, 0), due=np.where(rows["payment"] == Payment.BILL, at + self.DUE, 0),
        )  # fmt: skip


class StagesLoad(Others):
    """Items of work that go through the stages of their section, each well within its limit; a few stay in one."""

    topic = WORKFLOW
    dtype = np.dtype([("item", "i8"), ("stage", "u1"), ("progress", "u1")])
    begin_daily = 200.0
    STAYS = 0.002  # of the items, in some stage

    def __init__(self, load: Load, times: float = 1.0, seed: int = 2) -> None:
        super().__init__(load, times, seed)
        self.items = 0
        self.sections = tuple(dict.fromkeys(section_of(area) for area in range(len(load.area_names))))

    def draw(self, count: int) -> None:
        items = self.items + np.arange(count)
        self.items += count
        when = np.full(count, self.next)
        for stage, (_, hours) in enumerate(STAGES):
            self.moved(items, stage, Progress.STARTED, when)
            stays = self.rng.random(len(items)) < self.STAYS / len(STAGES)
            share = np.minimum(0.72, 0.35 * np.exp(0.4 * self.rng.standard_normal(len(items))))
            items, when = items[~stays], (when + np.ceil(share * hours * HOUR / SLOT).astype(np.int64))[~stays]
            self.moved(items, stage, Progress.FINISHED, when)
            when = when + 1

    def moved(self, items: NDArray[np.int64], stage: int, progress: Progress, when: NDArray[np.int64]) -> None:
        """Items enter or leave a stage."""
        rows = np.zeros(len(items), self.dtype)
        rows["item"], rows["stage"], rows["progress"] = items, stage, progress
        self.file(rows, when)

    def slot(self) -> Stages:
        rows, at = self.drawn()
        hours = np.array([hours for _, hours in STAGES])
        return Stages.build(
            [f"W{item:08}" for item in rows["item"].tolist()], np.arange(len(rows)), self.sections,
            rows["item"] % len(self.sections), at, stages=tuple(name for name, _ in STAGES), stage=rows["stage"],
            progress=rows["progress"], limit=hours[rows["stage"]] * HOUR,
        )  # fmt: skip


class Report(NamedTuple):
    """What a device reports, and what it reports when that is over."""

    share: float  # of all that is reported
    event: Event
    over: Event | None = None
    lasts: float = 0.0  # hours, told with the event unless another event ends it
    area: bool = False  # of the whole area


REPORTS = (
    Report(0.32, Event.POWER_OFF, Event.POWER_ON), Report(0.03, Event.VOLTAGE_SAG), Report(0.19, Event.CLOCK_SET),
    Report(0.1, Event.RELAY_OPENED, Event.RELAY_CLOSED), Report(0.08, Event.PARAM_CHANGE),
    Report(0.07, Event.COVER_OPEN, Event.COVER_CLOSED), Report(0.06, Event.WORK_ORDER, lasts=8.0),
    Report(0.05, Event.BATTERY_LOW), Report(0.04, Event.INSPECTED), Report(0.03, Event.CLOCK_FAULT),
    Report(0.01, Event.MAGNETIC_FIELD, Event.MAGNETIC_FIELD_END), Report(0.01, Event.VACANCY, lasts=72.0),
    Report(0.01, Event.PLANNED_OUTAGE, lasts=1.0, area=True),
)  # fmt: skip


class EventsLoad(Others):
    """What meters report of themselves, and the orders, visits and planned outages beside it."""

    topic = EVENTS
    dtype = np.dtype([("meter", "i4"), ("event", "u1"), ("lasts", "i8"), ("area", "?")])
    begin_daily = 3400.0
    LEAST, MOST = 1, 12  # quarter-hours until it is over

    def draw(self, count: int) -> None:
        shares = np.array([report.share for report in REPORTS])
        kinds = self.rng.choice(len(REPORTS), count, p=shares / shares.sum())
        rows = np.zeros(count, self.dtype)
        rows["meter"] = self.meters(count)
        rows["event"] = np.array([report.event for report in REPORTS])[kinds]
        rows["lasts"] = np.array([report.lasts * HOUR for report in REPORTS])[kinds]
        rows["area"] = np.array([report.area for report in REPORTS])[kinds]
        self.file(rows, np.full(count, self.next))
        ended = np.array([report.event if report.over is None else report.over for report in REPORTS])[kinds]
        over = rows[ended != rows["event"]].copy()
        over["event"] = ended[ended != rows["event"]]
        self.file(over, self.next + self.rng.integers(self.LEAST, self.MOST, len(over)))

    def slot(self) -> DeviceEvents:
        rows, at = self.drawn()
        each, meters = np.arange(len(rows)), rows["meter"]
        names = ["" if area else self.load.names[meter] for meter, area in zip(meters, rows["area"], strict=True)]
        sags = rows["event"] == Event.VOLTAGE_SAG
        return DeviceEvents.build(
            names, each, self.load.area_names, self.load.area[meters], at, event=rows["event"],
            until=np.where(rows["lasts"] > 0, at + rows["lasts"], 0),
            residual=np.where(sags, 0.8, np.nan), seconds=np.where(sags, 0.5, np.nan),
        )  # fmt: skip


def beside(load: Load) -> tuple[Others, ...]:
    """All that comes with a load's readings."""
    return PaymentsLoad(load), StagesLoad(load), EventsLoad(load)


def messages(load: Load, others: Sequence[Others]) -> Iterator[tuple[str, Encoded]]:
    """The messages of the next quarter-hour with their topics: frames, and the others spread evenly between them."""
    told = [(READS, list(encode_readings(load.slot(), "packed")))]
    told += [(other.topic, list(encoded(other.slot(), "array"))) for other in others]
    ranked = [((n + 0.5) / len(some), topic, message) for topic, some in told for n, message in enumerate(some)]
    yield from ((topic, message) for _, topic, message in sorted(ranked))
