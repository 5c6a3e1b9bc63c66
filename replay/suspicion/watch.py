"""A history watched once: the facts of visited customers, frozen at the day of each visit, and of all at its end."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from models.master.calendar import day_of, midnights
from replay.explanation import note_rows
from replay.history import Source, arranged, arrivals, nothing_read
from replay.labels import Label
from replay.observed import Observed
from replay.shards import WholeHistory, joined_source
from replay.suspicion.bills import BillNotes
from replay.suspicion.customers import Customers, Held, Place
from replay.suspicion.days import KEPT_DAYS, DayNotes
from replay.suspicion.features import facts_row
from schemas.alert import Alert
from schemas.columns import (
    LATEST_TIME,
    Batch,
    Column,
    DeviceEvents,
    Event,
    Payments,
)
from schemas.units import DAY_SECONDS

ALERT_FACTS = {
    "consumption": "consumption_alerts",
    "metering": "metering_alerts",
    "wiring": "metering_alerts",
    "devices": "device_alerts",
    "billing": "payment_alerts",
    "payments": "payment_alerts",
}
"""By the family of a rule, the fact that counts its alerts; the others are other_alerts."""
EVENT_FACTS = {
    Event.METER_CHANGE: "meter_changes",
    Event.PARAM_CHANGE: "parameter_changes",
    Event.READ_FAILURE: "read_failures",
}
COUNTED_ALERTS = (*dict.fromkeys(ALERT_FACTS.values()), "other_alerts")
PLAIN_COUNTS = ("meter_changes", "parameter_changes")  # shown as they are
SEGMENT_FACTS = ("commercial", "industrial", "agricultural")
KEPT_SECONDS = KEPT_DAYS * DAY_SECONDS  # of alerts and device events
KEPT_EVENTS = 64  # device events of a subject


class Known(NamedTuple):
    """The facts of a customer at a time."""

    place: Place  # area and customer
    facts: Column  # by FACT_NAMES, NaN where unknown
    alerts: float  # of all rules, that stand


@dataclass
class WatchedCustomers:
    """What a history shows of its customers."""

    source: Source  # read to its end
    observed: Observed
    first: int = 0  # of the rows' times
    last: int = 0
    # the customer of each label on the day of its visit, None if nothing was known of it
    visited: list[tuple[Label, Known | None]] = field(default_factory=list)
    customers: list[Known] = field(default_factory=list)  # at the history's end


def visit_day(label: Label, zone: str) -> int:
    """The midnight that begins the day of a visit, on which the trouble ended or nothing was found."""
    days = day_of(np.array([label.until]), zone)
    return int(midnights(zone)[days[0]])


@dataclass
class WatchedShard:
    """What a history, or a shard of one, shows of its customers."""

    source: Source  # read to its end
    observed: Observed
    first: int = 0  # of the rows' times
    last: int = 0  # of those of all shards
    # for each visit, in order, the customers whom it may mean
    visited: list[list[Known]] = field(default_factory=list)
    customers: list[Known] = field(default_factory=list)  # at the history's end


def watch(
    source: Source, labels: Sequence[Label], rules: Sequence[Rule]
) -> WatchedCustomers:
    """Watches a history to its end. Raises SourceError if nothing could be read."""
    return joined([watch_shard(source, labels, rules)], labels)


def joined(parts: Sequence[WatchedShard], labels: Sequence[Label]) -> WatchedCustomers:
    """The whole history of all its shards. Raises SourceError if nothing could be read."""
    source = joined_source([part.source for part in parts])
    last = max(part.last for part in parts)
    if not last:
        raise nothing_read(source.name, source.tally)

    found = zip(*(part.visited for part in parts), strict=True)
    known = (list(chain.from_iterable(each)) for each in found)
    visited = [
        (label, each[0] if len(each) == 1 else None)
        for label, each in zip(_visits(labels), known, strict=True)
    ]
    customers = chain.from_iterable(part.customers for part in parts)
    return WatchedCustomers(
        source,
        Observed.joined([part.observed for part in parts]),
        min(part.first for part in parts if part.first),
        last,
        visited,
        sorted(customers, key=lambda each: each.place),
    )


def _visits(labels: Iterable[Label]) -> list[Label]:
    """The labels of visits, in the order of their days."""
    return sorted(
        (label for label in labels if label.until < LATEST_TIME),
        key=lambda label: (label.until, label.where, label.subject),
    )


def watch_shard(
    source: Source,
    labels: Iterable[Label],
    rules: Sequence[Rule],
    whole: WholeHistory | None = None,
) -> WatchedShard:
    """Watches a shard to its end. A visit's facts are frozen when the first row of its day arrives."""
    memory = _Memory(source, rules)
    watched = WatchedShard(replace(source, batches=iter(())), memory.observed)
    coming = _visits(labels)
    days = [visit_day(label, source.zone) for label in coming]
    frozen = 0
    for batch in source.batches:
        for rows in _cut(batch, days[frozen:]):
            began = int(arrivals(rows)[0])
            while frozen < len(days) and days[frozen] <= began:
                watched.visited.append(memory.visited(coming[frozen], days[frozen]))
                frozen += 1
            memory.add(rows)
            watched.first = min(watched.first or began, began)
            ended = int(arrivals(rows)[-1])
            watched.last = max(watched.last, ended)

    # rows of other shards may have come later
    watched.last = whole.last if whole else watched.last
    watched.visited += [
        memory.visited(label, day) if day <= watched.last else []
        for label, day in zip(coming[frozen:], days[frozen:], strict=True)
    ]
    watched.customers = memory.customers(watched.last + 1)
    return watched


def _cut(batch: Batch, days: Sequence[int]) -> Iterator[Batch]:
    """A batch in order of arrival, cut where a day of a visit begins."""
    if not len(batch):
        return
    if (np.diff(arrivals(batch)) < 0).any():
        batch = arranged(batch)
    cuts = np.searchsorted(arrivals(batch), np.unique(days))
    bounds = np.unique([0, *cuts.tolist(), len(batch)]).tolist()
    for start, end in pairwise(bounds):
        yield batch.select(slice(start, end))


class _Memory:
    """What is remembered of customers while rows pass."""

    def __init__(self, source: Source, rules: Sequence[Rule]) -> None:
        self._zone = source.zone
        self._engine = Engine(
            rules, zone=source.zone, interval=source.interval, has_brakes=False
        )
        self._engine.enroll(source.areas)
        self._known = Customers(source.areas)
        self.observed = Observed(source.areas)

        pipelines = self._engine.judges.pipelines
        pipeline = next(each for each in pipelines if each.name == "days")
        self._meters = pipeline.index
        self._days = DayNotes(pipeline.index, source.zone)
        note_rows(self._engine, pipeline, self._days)
        self._bills = BillNotes()
        # by area and meter, customer or owner of a bill: fact and time of what counts
        self._alerts: dict[Place, dict[str, tuple[str, int]]] = defaultdict(dict)
        self._events: dict[Place, deque[tuple[str, int]]] = defaultdict(
            lambda: deque(maxlen=KEPT_EVENTS)
        )

    def add(self, batch: Batch) -> None:
        """Judges and remembers rows."""
        for rows in self.observed.note([batch]):
            for alert in self._engine.step(rows):
                self._add_alert(alert)
        if isinstance(batch, Payments):
            self._bills.add(batch)
        elif isinstance(batch, DeviceEvents):
            self._add_events(batch)

    def _add_alert(self, alert: Alert) -> None:
        """Counts an alert from when it is shown until it is withdrawn."""
        owner, _, _ = alert.subject.partition("/")
        alerts = self._alerts[alert.area, owner]
        if alert.state == "withdrawn":
            alerts.pop(alert.id, None)
        elif not alert.suppressed_by:
            family = ALL_RULES[alert.rule].family
            alerts[alert.id] = ALERT_FACTS.get(family, "other_alerts"), alert.raised

    def _add_events(self, batch: DeviceEvents) -> None:
        """Counts the device events that facts are made of."""
        counted = np.isin(batch.event, list(EVENT_FACTS))
        for row in np.flatnonzero(counted).tolist():
            area = batch.areas[batch.area[row]]
            meter = batch.names[batch.subject[row]]
            fact = EVENT_FACTS[Event(batch.event[row])]
            self._events[area, meter].append((fact, int(batch.at[row])))

    def visited(self, label: Label, day: int) -> list[Known]:
        """The customers whom a label may mean, at the beginning of a day."""
        owner, _, _ = label.subject.partition("/")
        areas = [label.area] if label.area else sorted(self.observed.areas(owner))
        customers = [(area, self._known.owner(area, owner, day)) for area in areas]
        return [each for place in customers if (each := self._facts_at(place, day))]

    def customers(self, at: int) -> list[Known]:
        """All customers with a curve or bills, at a time."""
        places = dict.fromkeys(self._bills.customers)
        for area, meter in self._meters.pairs:
            if meter and (area, meter) not in self._known.gateways:
                places[area, self._known.owner(area, meter, at)] = None
        known = (self._facts_at(place, at) for place in sorted(places))
        return [each for each in known if each]

    def _facts_at(self, place: Place, at: int) -> Known | None:
        """The facts of a customer at a time; None without a curve and bills."""
        area, customer = place
        held = self._known.held(area, customer, at)
        spans = {each.record.meter: each.since for each in held} or {customer: 0}
        slots = self._meters.known.get(area, {})
        known_spans = [
            (slots[meter], self._day_of(since))
            for meter, since in spans.items()
            if meter in slots
        ]

        days = self._days.facts_of(known_spans, self._day_of(at + 1))
        bills = self._bills.facts_of(area, customer, at)
        if not days and not bills:
            return None
        counts = self._counts(area, dict.fromkeys((customer, *spans)), at)
        filed = self._filed(place, held, at)
        none = {"no_curve": float(not days), "no_bills": float(not bills)}
        alerts = sum(counts[name] for name in COUNTED_ALERTS)
        counted = {name: np.log1p(count) for name, count in counts.items()}
        counted |= {name: counts[name] for name in PLAIN_COUNTS}
        row = facts_row({**counted, **filed, **none, **days, **bills})
        return Known(place, row, float(alerts))

    def _counts(self, area: str, subjects: Iterable[str], at: int) -> Counter[str]:
        """The facts that count alerts and device events of some subjects in the time before."""
        names = (*COUNTED_ALERTS, *EVENT_FACTS.values())
        counts = Counter(dict.fromkeys(names, 0))
        for subject in subjects:
            counts.update(self._counted(area, subject, at))
        return counts

    def _filed(self, place: Place, held: Sequence[Held], at: int) -> dict[str, float]:
        """The facts of a customer's records."""
        segment = held[-1].record.segment if held else ""
        filed = {name: float(segment == name) for name in SEGMENT_FACTS}
        tariffs = self._known.tariffs(*place, at)
        filed["tariff_changes"] = max(len(tariffs) - 1.0, 0.0)
        return filed

    def _counted(self, area: str, subject: str, at: int) -> Iterator[str]:
        """The facts of alerts and device events of a subject in the time before."""
        alerts = self._alerts.get((area, subject), {}).values()
        for fact, when in (*alerts, *self._events.get((area, subject), ())):
            if at - KEPT_SECONDS <= when < at:
                yield fact

    def _day_of(self, at: int) -> int:
        """The number of a local day."""
        first_midnight = int(midnights(self._zone)[0])
        at = max(at, first_midnight + 1)
        days = day_of(np.array([at]), self._zone)
        return int(days[0])
