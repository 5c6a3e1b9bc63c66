"""One step of the watch: a batch in, alerts out. No broker, no clock, no files."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from cramjam import DecompressionError, zstd

from detectors import older
from detectors.judge import Judge
from detectors.policy import Policy
from detectors.reorder import ClockObservation, ReorderBuffer
from detectors.revisable import FINAL_SUFFIX, JudgeInput, RevisableJudge
from detectors.rule import ALL_RULES, Rule
from models.backlog import Backlog
from models.balance import Losses, ReadDays, UsualLoss
from models.balances import Balances
from models.bills import Bills
from models.days import DayRows, joined_days
from models.features import (
    Columns,
    DayRuns,
    Elapsed,
    Failures,
    FailureShare,
    Feature,
    FirstMonth,
    Standstill,
)
from models.holes import Holes, Lapses
from models.index import Index
from models.ledger import Ledger
from models.loading import Exceeding, Heat
from models.master_data_audit import MasterDataAudit
from models.metering import Accounts, DayRegisters, Demands, MonthlyFactor, RatioChange
from models.open_days import PORTION_ROWS, DueWindow, OpenDays, facts_of
from models.peers import Peers, PeerScore
from models.phases import Coupling, Phases
from models.profiles import Darkness, Form, Months, Routine, Shape
from models.registry import Registry
from models.reports import Reports
from models.runs import whole_sums
from models.saved import dumps, loads
from models.state import (
    Attributes,
    Owner,
    Saved,
    StateError,
    capture_owner,
    restore_owner,
    within,
)
from models.suspects import Suspects
from models.timelines import Timeline, Timelines
from models.turns import unique_passes
from models.use_class import Fleet, UseClass
from models.wiring import NeutralMismatch, PhaseLoad
from models.work import StageOrder, Work
from schemas.alert import Alert
from schemas.columns import (
    EARLIEST_TIME,
    LATEST_TIME,
    AreaDays,
    Attempts,
    Backlogs,
    Batch,
    Clocks,
    Codes,
    Days,
    DeviceEvents,
    Incidents,
    Intervals,
    Invoices,
    Mask,
    MasterRecords,
    Names,
    Overdue,
    Payment,
    Payments,
    Readings,
    Stages,
    Times,
    Traces,
    Transfers,
)
from schemas.master import Area
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from schemas.use_class import UseClassModel

Capture = dict[str, Any]  # settings, and what is saved of every owner
SNAPSHOT_LAYOUT = (
    10  # of a snapshot; what is remembered has versions of its own, by owner
)
SHADOW_STATUS = "shadow"
FUTURE_TOLERANCE = 300  # seconds a stamp may be ahead of its receipt, design section 4
QUIET_DELAY = 2 * 3600  # how far a silent area's clock stays behind the wall's
GRACE_SECONDS = 3 * DAY_SECONDS
SILENCE_SECONDS = (
    DAY_SECONDS // 4
)  # of an area, after which days may fall due all at once
STEP_DAYS = 2_000  # of meters that a step may close, about
AMENDED_ROWS = 30  # that are judged again at the cost of a day
UNPACKED_MEMBERS = 2  # of a day that is unpacked, at the cost of a day that is closed
BALANCE_COLUMNS = (
    "unusual_kwh",
    "excess_kwh",
)  # of an area's day, that its meters' days are held against
METER_KINDS = frozenset(
    {Readings.kind, Clocks.kind, Days.kind, MasterRecords.kind}
)  # whose subjects are meters
MOVED_TEXT = (" The meter has left the area.", "该表已移出本台区。")
TIME_OF_ATTEMPT = itemgetter(0)  # of a payment attempt
RESTART_ADVICE = "remove the checkpoint to judge the history again from its beginning"
RESTORE_ADVICE = f"run the version that wrote it, or {RESTART_ADVICE}"
NEEDED_OWNERS = (
    "index/meters",
    "index/areas",
    "watermarks",
    "open_days",
    "order",
)  # owners without which nothing can be gone on with


class SnapshotError(ValueError):
    """A snapshot that cannot be used; the text says what to do."""


class Snapshot(msgspec.Struct):
    """A snapshot from outside; those of layout 1 had no checksum."""

    layout: int
    checksum: int = -1  # CRC-32 of the body
    body: bytes = b""


class Attempt(NamedTuple):
    """What makes a payment attempt the same as another."""

    at: int
    amount: float
    bill: str
    channel: str
    succeeded: int
    reference: str = ""


class WithdrawnAlerts(Attributes):
    """Alerts that are to be withdrawn; where none were saved there were none."""

    missed = False


class Engine:
    """Judges every kind of batch for any number of areas; areas do not influence one another's alerts."""

    def __init__(
        self,
        rules: Iterable[Rule] | None = None,
        zone: str = "Asia/Shanghai",
        interval: int = 900,
        grace: int = GRACE_SECONDS,
    ) -> None:
        self.zone, self.interval, self.grace = zone, interval, grace
        self.rules = chosen = _judged_rules(
            ALL_RULES.values() if rules is None else rules
        )
        self.meter_index = meters = Index()
        self.areas, self.customers = Index(), Index()
        self.channels, self.items, self.traces = Index(), Index(), Index()
        self.bill_index, self.references, self.reporting, self.queues = (
            Index(),
            Index(),
            Index(),
            Index(),
        )
        self.registry = known = Registry(self.meter_index, self.areas)
        self._last_areas: tuple[Names, list[tuple[str, str]], Codes] = (
            (),
            [],
            np.zeros(0, np.int32),
        )  # the last batch's areas
        self.open_days = OpenDays(self.registry, zone, interval, grace)
        self.watermarks = np.zeros(
            0, np.int64
        )  # by area slot: how far any of its topics has come
        self.forgotten_days = np.zeros(
            0, np.int64
        )  # by area slot: the day on which old things were last forgotten
        self.work = Work(self.items, self.queues, self.registry, zone, grace)
        self.stage_order, self.backlog = (
            StageOrder(self.traces, self.registry),
            Backlog(self.work, zone, grace),
        )
        self.peers, self.fleet = Peers(), Fleet(_model_of(chosen))
        self.bills = Bills(self.bill_index, self.registry, zone)
        self.ledger = Ledger(self.references)
        self.reports = Reports(self.reporting, self.registry, zone, grace)
        self.recent_attempts: dict[
            int, list[Attempt]
        ] = {}  # by customer: the attempts within the grace period
        self.newest: dict[
            int, tuple[int, str]
        ] = {}  # by area: the highest stamp of payments or stages, and whose
        self.policy = Policy(known.section, _in_shadow(chosen))
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.alert_counts: Counter[tuple[str, int, str, str]] = Counter()
        self.withdrawals: list[
            Alert
        ] = []  # of episodes that were not taken over, to be withdrawn with the next step
        self.rejected: list[
            tuple[Batch, str]
        ] = []  # rows that the last step did not take, with the reason
        self.shadowed: list[
            Alert
        ] = []  # that have been in shadow since the last step began

        def judge(
            kind: type[Batch], features: Sequence[Feature], index: Index
        ) -> Judge:
            return Judge(
                kind,
                chosen,
                features,
                index,
                known.enrich,
                known.installed if index is meters else None,
            )

        self.reorder = ReorderBuffer(
            RevisableJudge(
                lambda _: judge(
                    Readings, [Standstill(), PhaseLoad(), NeutralMismatch()], meters
                )
            ),
            RevisableJudge(lambda _: judge(Clocks, [Elapsed()], meters)),
            meters,
            self.registry,
            interval,
        )
        self.validation = self.reorder.live
        self.payments = judge(Payments, [Failures(), Balances()], self.customers)
        self.attempts = judge(Attempts, [FailureShare()], self.channels)
        self.days = RevisableJudge(
            lambda sealed: judge(
                Days,
                [
                    DayRuns(),
                    FirstMonth(),
                    Exceeding(),
                    Shape(zone, interval),
                    Months(zone),
                    Routine(),
                    Form(),
                    Darkness(),
                    Suspects(),
                    Phases(),
                    Coupling(interval),
                    PeerScore(self.peers, meters, sealed),
                    UseClass(self.fleet),
                    DayRegisters(),
                    Accounts(),
                    RatioChange(),
                    Demands(),
                    MonthlyFactor(zone),
                ],
                meters,
            )
        )
        self.intervals = RevisableJudge(
            lambda _: judge(Intervals, [Elapsed(), Heat(interval)], self.areas)
        )
        self.area_days = RevisableJudge(
            lambda _: judge(
                AreaDays, [Losses(), UsualLoss(), ReadDays(zone)], self.areas
            )
        )
        self.overdue = RevisableJudge(lambda _: judge(Overdue, [], self.items))
        self.backlogs = RevisableJudge(lambda _: judge(Backlogs, [], self.queues))
        self.disorder = RevisableJudge(lambda _: judge(Traces, [], self.traces))
        self.invoices = RevisableJudge(lambda _: judge(Invoices, [], self.bill_index))
        self.transfers = RevisableJudge(lambda _: judge(Transfers, [], self.references))
        self.incidents = RevisableJudge(lambda _: judge(Incidents, [], self.reporting))
        self.audit, self.master_records = (
            MasterDataAudit(self.registry),
            judge(MasterRecords, [], meters),
        )
        self.holes = Holes()
        lost: dict[type[Batch], tuple[Timelines, ...]] = {
            Stages: (self.work, self.stage_order),
            Payments: (self.bills, self.ledger),
            DeviceEvents: (self.reports,),
        }
        for kind, timelines in lost.items():
            for deadlines in timelines:
                deadlines.lost = partial(self.holes.spans_of, kind.kind)

    def adopt(self, rules: Iterable[Rule]) -> list[Alert]:
        """Judge by these rules from now on. An episode goes on, unless its rule is no longer told: it is withdrawn."""
        chosen = _judged_rules(rules)
        self.fleet.adopt(_model_of(chosen))
        self.rules = chosen
        gone = [
            episodes
            for judge in self.judges().values()
            for episodes in judge.adopt(chosen)
        ]
        self.reorder.adopt()
        alerts = [
            a
            for episodes in gone
            if episodes.rule.status != SHADOW_STATUS
            for a in episodes.open.values()
        ]
        told = self._publish(self.policy.apply(map(_withdrawn, alerts)))
        self.policy.shadow = _in_shadow(chosen)
        return told

    @property
    def meters(self) -> int:
        """How many meters are held."""
        return len(self.meter_index)

    @property
    def last_read(self) -> Times:
        """When each meter was last heard in order, by its slot; 0 where never."""
        return self.validation.order["last"]

    def enroll(self, areas: Iterable[Area]) -> None:
        """Take master data in, each area in place of what was known of it; what a meter had open where it left ends."""
        areas = list(areas)
        before = {area.area: self.registry.members.get(area.area, ()) for area in areas}
        self.registry.enroll(areas)
        for area, meters in before.items():
            if left := sorted(set(meters).difference(self.registry.members[area])):
                self._end_membership(area, np.array(left))

    def _end_membership(self, area: str, meters: Codes) -> None:
        """End the episodes of meters that an area has no more, and begin with them anew should they come back."""
        names = {self.meter_index.pairs[slot][1] for slot in meters.tolist()}
        slot = self.areas.slot(area, "")
        now = int(self.watermarks[slot]) if slot < len(self.watermarks) else 0
        self.withdrawals += [
            _ended_by_move(alert, now)
            for alert in self.policy.recent.get(area, {}).values()
            if alert.state == "raised"
            and alert.kind in METER_KINDS
            and alert.subject in names
        ]
        for judge in (
            self.reorder.readings,
            self.reorder.clocks,
            self.days,
            self.master_records,
        ):
            judge.forget(meters)

    @property
    def lost_spans(self) -> Lapses:
        """Of which spans of time rows were lost."""
        return self.holes.spans

    @lost_spans.setter
    def lost_spans(self, spans: Lapses) -> None:
        self.holes.spans = spans

    def note_lost_rows(self, kind: type[Batch]) -> None:
        """Rows of a kind are gone that came after those judged: what they may have told cannot be told to be missing.

        What has been raised stays until something is known again.
        """
        self.holes.open(kind.kind, self.watermarks)
        if kind is Payments:
            for feature in self.payments.features:
                if isinstance(feature, (Failures, Balances)):
                    feature.reset_after_loss()

    def step(self, batch: Batch) -> list[Alert]:
        """Judge a batch. Raises TypeError for a kind that no topic carries."""
        self.rejected, self.shadowed = [], []
        if not len(batch):
            return []
        areas = self._area_slots(batch)
        self.holes.close(batch.kind, areas, batch.at)
        self.counts[batch.kind, "in", ""] += len(batch)
        if isinstance(batch, Readings):
            alerts, gone = self._step_readings(batch, areas)
        elif isinstance(batch, (Payments, Stages)):
            return self._step_office(batch, areas)
        elif isinstance(batch, DeviceEvents):
            return self._step_events(batch, areas)
        else:
            raise TypeError(f"no topic carries {batch.kind}")
        self.counts[batch.kind, "judged", ""] += len(batch) - gone
        return self._publish(self.policy.apply(alerts + self._fall_due()))

    def rows_within_cost(self, batch: Batch) -> int:
        """How many of a batch's first rows may be judged at once: few where areas that were silent have days to close.

        Few also where days have to be unpacked, as right after a restore. So the cost of a step is bounded by what
        falls due, as that of time that passes by itself (`portion`).
        """
        if not isinstance(batch, Readings) or not len(batch):
            return len(batch)
        areas = self._area_slots(batch)
        cost = np.zeros(len(batch))  # in days of meters, at the row that brings it
        silence = np.where(
            self.watermarks[areas] > 0,
            np.maximum(batch.at - self.watermarks[areas], 0),
            0,
        )
        due = np.flatnonzero(
            (silence > SILENCE_SECONDS)
            | (
                batch.at // HOUR_SECONDS
                > self.reorder.late_hours(len(self.watermarks))[areas]
            )
        )
        _, places, rows = np.unique(areas[due], return_index=True, return_counts=True)
        first = np.sort(due[places[rows > 1]])  # a single row moves no clock
        silent = areas[first].tolist()
        meters = [
            len(self.meter_index.known.get(self.areas.pairs[area][0], ()))
            for area in silent
        ]
        cost[first] = (
            np.array(meters) * silence[first] / DAY_SECONDS
            + self.reorder.late_rows(silent) / AMENDED_ROWS
        )

        opened, members = self.open_days.unpacking_rows(areas, batch.at)
        cost[opened] += members / UNPACKED_MEMBERS
        costly = np.flatnonzero(cost)
        reached = max(
            int(np.searchsorted(np.cumsum(cost[costly]), STEP_DAYS, "right")), 1
        )
        return int(costly[reached]) if reached < len(costly) else len(batch)

    def tick(self, now: int) -> list[Alert]:
        """Let time pass where nothing arrives: quiet areas' windows close, deadlines fall due."""
        return [alert for alerts in self.ticks(now) for alert in alerts]

    def ticks(self, now: int) -> Iterator[list[Alert]]:
        """The same in parts, of which none has much to do; between them the engine may be asked for a snapshot."""
        while (then := self.portion(now)) < now:
            yield self.pass_time(then, now)
        yield self.pass_time(now, now)

    def portion(self, now: int) -> int:
        """How far time may pass on its way to `now` with no more than a portion of days and of items falling due."""
        then = self.open_days.portion(now - QUIET_DELAY) + QUIET_DELAY
        for _, deadlines in self.timelines():
            then = deadlines.portion(then)
        return then

    def pass_time(self, then: int, now: int) -> list[Alert]:
        """Let time pass as far as `then`, on its way to `now`."""
        alerts = self._judge_late(dict.fromkeys(self.reorder.late, then - QUIET_DELAY))
        alerts += self._close(
            self.open_days.tick(then - QUIET_DELAY, now - QUIET_DELAY)
        )
        self.watermarks = np.maximum(self.watermarks, then)
        return self._publish(self.policy.apply(alerts + self._fall_due()))

    def reconcile(
        self, predecessor_alerts: Iterable[Alert], published: Container[str] = ()
    ) -> list[Alert]:
        """What sets right the messages of an engine before this one; all rows that it judged have been judged here.

        `published` are the ids of alerts of which this engine has given out messages since.
        """
        clocks = {
            area: clock
            for (area, _), clock in zip(
                self.areas.pairs, self.watermarks.tolist(), strict=False
            )
        }
        return self._publish(
            self.policy.reconcile(predecessor_alerts, clocks, published)
        )

    def _publish(self, alerts: list[Alert]) -> list[Alert]:
        """Count what was found, give out what is not in shadow, and keep what is until the next step."""
        for alert in alerts:
            self.alert_counts[
                alert.rule, alert.severity, alert.change, alert.suppressed_by
            ] += 1
        self.shadowed += [
            alert for alert in alerts if alert.suppressed_by == SHADOW_STATUS
        ]
        return [alert for alert in alerts if alert.suppressed_by != SHADOW_STATUS]

    def _area_slots(self, batch: Batch) -> Codes:
        """The area slot of every row."""
        names, pairs, slots = self._last_areas
        if names is not batch.areas or pairs is not self.areas.pairs:
            slots = np.array(
                [self.areas.slot(area, "") for area in batch.areas], np.int32
            )
            self._last_areas = batch.areas, self.areas.pairs, slots
        if (more := len(self.areas) - len(self.watermarks)) > 0:
            self.watermarks = np.r_[self.watermarks, np.zeros(more, np.int64)]
        return slots[batch.area]

    def _step_readings(self, r: Readings, areas: Codes) -> tuple[list[Alert], int]:
        """Validate, judge and file readings."""
        slots = self.meter_index.slots(r)
        self.validation.order.reserve(len(self.meter_index))
        future = (r.received > 0) & (r.at > r.received + FUTURE_TOLERANCE)
        odd = (r.at < EARLIEST_TIME) | (r.at >= LATEST_TIME)
        advanced = self.open_days.advance_watermarks(
            areas, slots, r.at, ~(future | odd)
        )
        now, late, own = advanced.before, advanced.late, advanced.lone_meter
        kept = ~(future | odd | late)
        for reason, refused in (
            ("future", future),
            ("implausible_time", odd & ~future),
        ):
            if refused.any():
                self._reject(r, refused, reason)
        in_order, before, strayed = self.validation.sequence(slots, r.at, kept, now)
        behind = self.validation.slow_clocks(slots, r, late & (r.at < before))
        heard = _clock_observations(
            r, future | behind, strayed & ~own & in_order, in_order, now
        )
        master = self.registry.meters.columns_of(
            self.registry.meters.rows_in_force(slots, r.at - 1)
        )
        alerts: list[Alert] = []
        again = np.zeros(len(r), bool)
        with np.errstate(invalid="ignore", divide="ignore"):
            r = self.validation.bounds(r, master, self.interval)
            facts = facts_of(r, master, self.interval)
            facts = facts._replace(kwh=np.array(facts.kwh))
            unsettled = self.reorder.areas_with_late(
                areas, slots, r.at, before, in_order, kept
            )

            def windows() -> Iterator[DueWindow]:
                for rows, ends in self.open_days.rows_until_due(
                    advanced, areas, r.at, unsettled
                ):
                    alerts.extend(
                        self.reorder.judge(
                            r,
                            slots,
                            areas,
                            rows,
                            in_order,
                            before,
                            master,
                            facts,
                            heard,
                        )
                    )
                    filed = rows[kept[rows]]
                    again[filed] = self.open_days.store_rows(
                        areas, r.at, now, slots, facts, filed, in_order
                    )
                    if unsettled:
                        behind = filed[~(in_order | again)[filed]]
                        self.reorder.add_late(r, slots, areas, now, facts, behind)
                    alerts.extend(self._judge_late(ends))
                    yield from self.open_days.due(ends)

            alerts += self._close(windows())
        self.watermarks[areas] = np.maximum(
            self.watermarks[areas], self.open_days.watermarks["watermark"][areas]
        )
        for outcome, rows in (("late", late), ("duplicate", again)):
            if found := int(np.count_nonzero(rows)):
                self.counts[r.kind, outcome, ""] += found
        for reason, doubted in self.validation.implausible.items():
            self.counts[r.kind, "implausible", reason] += doubted
        self.validation.implausible.clear()
        return alerts, int(np.count_nonzero(again | ~kept))

    def _step_events(self, batch: DeviceEvents, areas: Codes) -> list[Alert]:
        """Note what devices report: it holds alerts back or lets them go, and may be trouble itself."""
        odd = (batch.at < EARLIEST_TIME) | (batch.at >= LATEST_TIME)
        if odd.any():
            self._reject(batch, odd, "implausible_time")
            batch, areas = batch.select(~odd), areas[~odd]
        told: list[Alert] = []
        slots = self.reporting.slots(batch)
        for rows in self.reports.unique_passes(batch, slots):
            part = batch.select(rows)
            revised, known = self.policy.note_events(part)
            touched, again, late = self.reports.record(
                part, slots[rows], areas[rows], self.watermarks
            )
            gone = len(set(known).intersection(again + late))
            self.counts[batch.kind, "late", ""] += len(set(late).difference(known))
            self.counts[batch.kind, "duplicate", ""] += gone
            self.counts[batch.kind, "judged", ""] += (
                len(rows) - gone - len(set(late).difference(known))
            )
            alerts = self._judge_timelines(
                self.incidents, self.reports, np.array(sorted(touched), np.int64)
            )
            told += self._publish(revised + self.policy.apply(alerts))
        return told

    def _reject(self, batch: Batch, rows: Mask, reason: str) -> None:
        """Set rows aside, counted by reason."""
        self.counts[batch.kind, "rejected", reason] += int(np.count_nonzero(rows))
        self.rejected.append((batch.select(rows), reason))

    def _judge_late(self, watermarks: dict[int, int]) -> list[Alert]:
        """Judge late readings again, in areas whose clocks have come to another hour."""
        meters = self.reorder.late_meters(watermarks)
        if not len(meters):
            return []
        areas = self.reorder.gap_starts["area"]
        alerts, corrected = self.reorder.judge_again(meters)
        self.open_days.correct(areas[corrected.meters], *corrected)
        self.reorder.release(
            meters,
            np.array([watermarks[area] for area in areas[meters].tolist()], np.int64),
        )
        return alerts

    def _close(self, windows: Iterable[DueWindow]) -> list[Alert]:
        """Judge windows that are due, in order; those that follow one another without an amendment, all at once."""
        alerts: list[Alert] = []
        pending: dict[str, list[DueWindow]] = {"interval": [], "day": [], "seal": []}
        held: dict[str, set[int]] = {
            "interval": set(),
            "day": set(),
            "seal": set(),
        }  # of each area one day at once
        rows = 0
        for window in windows:
            areas = set(window.areas.tolist()) if window.days else set[int]()
            more = sum(len(day.meters) for day in window.days)
            before = held["day"] | held.get(
                window.action, set()
            )  # a day is closed before it is sealed
            if (
                window.action == "amend"
                or not areas.isdisjoint(before)
                or rows + more > PORTION_ROWS
            ):
                alerts += self._close_pending(pending)
                rows = 0
                pending, held = (
                    {name: [] for name in pending},
                    {name: set() for name in held},
                )
            if window.action == "amend":
                alerts += self._amend(window)
            else:
                pending[window.action].append(window)
                held[window.action] |= areas
                rows += more
        return alerts + self._close_pending(pending)

    def _close_pending(self, pending: dict[str, list[DueWindow]]) -> list[Alert]:
        """Judge windows that are due, of each kind no two of an area with days; what is sealed comes first."""
        alerts: list[Alert] = []
        if seals := pending["seal"]:
            days = joined_days([day for window in seals for day in window.days])
            self.intervals.seal(*self._interval_rows(seals))
            if len((days := self._without_lost(days)).areas):
                self.area_days.seal(*self._area_day_rows(days))
                self.days.seal(
                    *self._day_rows(days, self.area_days.final.feature_columns)
                )
                for part in days.unique_passes():
                    self.reports.store_days(part)
        if whole := pending["interval"]:
            alerts += self.intervals.close(*self._interval_rows(whole))
        if pending["day"]:
            days = joined_days(
                [day for window in pending["day"] for day in window.days]
            )
            if days.spikes:
                self.counts["readings", "flagged", "spike"] += days.spikes
            if len((days := self._without_lost(days)).areas):
                told = self.area_days.close(*self._area_day_rows(days))
                told += self.days.close(
                    *self._day_rows(days, self.area_days.live.feature_columns)
                )
                told += self.master_records.judge(*self._record_rows(days))
                alerts += sorted(told, key=attrgetter("at"))
        return alerts

    def _amend(self, window: DueWindow) -> list[Alert]:
        """Judge the open windows of some areas again."""
        window = window._replace(
            days=[
                whole
                for days in window.days
                if len((whole := self._without_lost(days)).areas)
            ]
        )
        meters = np.unique(
            np.concatenate(
                [np.zeros(0, np.int64), *(days.meters for days in window.days)]
            )
        )
        balances: list[Columns] = []

        def area_days() -> Iterator[JudgeInput]:
            for days in window.days:
                yield self._area_day_rows(days)
                balances.append(self.area_days.live.feature_columns)

        areas = window.areas.astype(np.int64)
        alerts = self.intervals.amend(
            areas, [self._interval_rows([window])]
        ) + self.area_days.amend(areas, area_days())
        rows = [
            self._day_rows(days, balance)
            for days, balance in zip(window.days, balances, strict=True)
        ]
        return alerts + self.days.amend(meters.astype(np.int64), rows)

    def _without_lost(self, days: DayRows) -> DayRows:
        """The days of areas of which no readings were lost."""
        if Readings.kind not in self.holes.spans:
            return days
        pairs = zip(days.areas.tolist(), days.ends.tolist(), strict=True)
        lost = [
            self.holes.touch(Readings.kind, area, end - DAY_SECONDS, end)
            for area, end in pairs
        ]
        return days.select(~np.array(lost, bool))

    def _interval_rows(self, windows: list[DueWindow]) -> JudgeInput:
        """The windows' rows of Intervals."""
        parts = [w.intervals for w in windows]
        slots, at = (
            np.concatenate([getattr(rows, name) for rows in parts])
            for name in ("areas", "at")
        )
        columns = {
            n: np.concatenate([p.columns[n] for p in parts], axis=-1).astype(np.float32)
            for n in parts[0].columns
        }
        names, codes = self._area_names(slots)
        return Intervals(
            ("",), np.zeros(len(slots), np.int32), names, codes, at, **columns
        ), slots

    def _day_rows(self, days: DayRows, balance: Columns) -> JudgeInput:
        """Rows of Days, with the master data and what is known of their areas' balances."""
        slots, at = days.meters.astype(np.int64), np.repeat(days.ends, days.sizes)
        names, codes = self._area_names(days.areas)
        rows = Days.build(
            ("",),
            np.zeros(len(slots)),
            names,
            np.repeat(codes, days.sizes),
            at,
            **days.columns,
        )
        beside = {
            f"area_{name}": np.repeat(balance[name], days.sizes)
            for name in BALANCE_COLUMNS
        }
        beside["area_reads"] = np.repeat(
            whole_sums(days.columns["reads"] > 0, days.sizes), days.sizes
        )
        beside["connected_days"] = self.registry.connected_days(slots, at)
        return (
            rows,
            slots,
            self.registry.enrich(slots, rows) | beside,
            days.unique_pass_rows(),
        )

    def _area_day_rows(self, days: DayRows) -> JudgeInput:
        """Rows of AreaDays."""
        names, codes = self._area_names(days.areas)
        rows = AreaDays.build(
            ("",), np.zeros(len(codes)), names, codes, days.ends, **days.totals
        )
        return rows, days.areas, None, list(unique_passes(days.areas))

    def _record_rows(self, days: DayRows) -> tuple[MasterRecords, Codes]:
        """The files of some areas at the end of a day of each."""
        names, codes = self._area_names(days.areas)
        sizes, slots, columns = self.audit.records(
            [names[code] for code in codes.tolist()], days.ends
        )
        areas, ends = np.repeat(codes, sizes), np.repeat(days.ends, sizes)
        return MasterRecords.build(
            ("",), np.zeros(len(slots)), names, areas, ends, **columns
        ), slots

    def _area_names(self, slots: Codes) -> tuple[tuple[str, ...], Codes]:
        """The names of area slots, dictionary-encoded."""
        unique, codes = np.unique(slots, return_inverse=True)
        return tuple(self.areas.pairs[slot][0] for slot in unique.tolist()), codes

    def _step_office(self, batch: Payments | Stages, areas: Codes) -> list[Alert]:
        """Judge payments or stages, in runs that come in order of time."""
        odd = (batch.at < EARLIEST_TIME) | (batch.at >= LATEST_TIME)
        if odd.any():
            self._reject(batch, odd, "implausible_time")
            batch, areas = batch.select(~odd), areas[~odd]
        told: list[Alert] = []
        done = 0
        while done < len(batch):
            now = self._move_watermarks(batch, areas, done)
            part = slice(done, done := done + len(now))
            piece = batch if len(now) == len(batch) else batch.select(part)
            if isinstance(piece, Payments):
                alerts, gone = self._step_payments(piece, areas[part], now)
            else:
                alerts, gone = self._step_stages(piece, areas[part], now)
            self.counts[batch.kind, "judged", ""] += len(piece) - gone
            told += self._publish(self.policy.apply(alerts + self._fall_due()))
        return told

    def _step_payments(
        self, batch: Payments, areas: Codes, watermarks: Times
    ) -> tuple[list[Alert], int]:
        """Judge attempts by customer and by channel, and note bills and settlements; `now` is the clock by row."""
        fresh = np.ones(len(batch), bool)
        alerts: list[Alert] = []
        belated = 0
        for windows, deadlines in (
            (self.invoices, self.bills),
            (self.transfers, self.ledger),
        ):
            touched, again, late = deadlines.record(
                batch, areas, watermarks - self.grace
            )
            fresh[again] = fresh[late] = False
            belated += len(late)
            alerts += self._judge_timelines(
                windows, deadlines, np.array(sorted(touched), np.int64)
            )
        tried = (batch.payment == Payment.PAYMENT) | (batch.payment == Payment.TOPUP)
        of_no_bill = np.array([not name for name in batch.bills], bool)[batch.bill]
        reversals = (batch.payment == Payment.REVERSAL) & of_no_bill
        amounts = np.where(reversals, -np.abs(batch.amount), batch.amount)
        slots = self.customers.slots(batch)
        for row in np.flatnonzero(tried | reversals).tolist():
            attempts = self.recent_attempts.setdefault(int(slots[row]), [])
            attempt = _attempt_of(batch, row)
            same_time = slice(
                bisect_left(attempts, attempt[0], key=TIME_OF_ATTEMPT),
                place := bisect_right(attempts, attempt[0], key=TIME_OF_ATTEMPT),
            )
            if attempt in attempts[same_time]:
                fresh[row] = False
                continue
            newest = attempts[-1][0] if attempts else 0
            tried[row] &= (
                attempt[0] >= newest
            )  # an older one tells nothing of a run of failures
            if batch.payment[row] == Payment.TOPUP and (
                yuan := _taken_back(attempt, attempts[:place])
            ):
                amounts[row] = -yuan
            if attempt[0] > newest - self.grace:
                attempts.insert(place, attempt)
            del attempts[
                : bisect_right(attempts, newest - self.grace, key=TIME_OF_ATTEMPT)
            ]
        told = ((tried | reversals) & fresh) | (batch.payment == Payment.BALANCE)
        if told.any():
            alerts += self.payments.judge(
                replace(batch, amount=amounts).select(told), slots[told]
            )
        if (tried & fresh).any():
            part = batch.select(tried & fresh)
            seen = Attempts(
                part.channels,
                part.channel,
                part.areas,
                part.area,
                part.at,
                (part.succeeded == 0).astype(np.float32),
            )
            alerts += self.attempts.judge(seen, self.channels.slots(seen))
        gone = len(batch) - int(np.count_nonzero(fresh))
        self.counts[batch.kind, "late", ""] += belated
        self.counts[batch.kind, "duplicate", ""] += gone - belated
        return alerts, gone

    def _step_stages(
        self, batch: Stages, areas: Codes, watermarks: Times
    ) -> tuple[list[Alert], int]:
        """Note what work began and ended; `now` is the clock by row."""
        touched, again, late = self.work.record(batch, areas, watermarks - self.grace)
        self.counts[batch.kind, "late", ""] += len(late)
        self.counts[batch.kind, "duplicate", ""] += len(again)
        moved = self.stage_order.record(batch, areas, watermarks - self.grace).touched
        alerts = self._judge_timelines(
            self.overdue, self.work, np.array(sorted(touched), np.int64)
        )
        alerts += self._judge_timelines(
            self.disorder, self.stage_order, np.array(sorted(moved), np.int64)
        )
        behind = self.backlog.record(batch, areas, watermarks, self.watermarks)
        alerts += self._judge_timelines(
            self.backlogs, self.backlog, np.array(sorted(behind), np.int64)
        )
        return alerts, len(again) + len(late)

    def _move_watermarks(
        self, batch: Payments | Stages, areas: Codes, start: int
    ) -> Times:
        """Let areas' clocks come as far as the second-highest stamp of their customers or items; the clock before.

        So no single customer's or item's wrong stamps move them. A row behind its area's newest stands alone, since it
        may amend what was told; and it stops at a clock that enters another day, since old things are forgotten then.
        """
        now: list[int] = []
        for row in range(start, len(batch)):
            area, stamp = int(areas[row]), int(batch.at[row])
            clock, whose = int(self.watermarks[area]), batch.names[batch.subject[row]]
            first, holder = self.newest.get(area, (0, ""))
            if now and stamp < first:
                break
            now.append(clock)
            if whose != holder:
                self.watermarks[area] = max(clock, min(stamp, first))
            if stamp > first:
                self.newest[area] = stamp, whose
            if (
                stamp < first
                or self.watermarks[area] // DAY_SECONDS > clock // DAY_SECONDS
            ):
                break
        return np.array(now, np.int64)

    def timelines(self) -> tuple[tuple[RevisableJudge, Timelines], ...]:
        """The judges of items with deadlines, and the items."""
        return (
            (self.overdue, self.work),
            (self.backlogs, self.backlog),
            (self.disorder, self.stage_order),
            (self.invoices, self.bills),
            (self.transfers, self.ledger),
            (self.incidents, self.reports),
        )

    def _fall_due(self) -> list[Alert]:
        """Judge the items whose next mark has passed; where a day has passed, forget what nothing can concern."""
        alerts, self.withdrawals = (
            [_withdrawn(a) if a.state == "raised" else a for a in self.withdrawals],
            [],
        )
        days = self.watermarks // DAY_SECONDS
        self.forgotten_days = np.concatenate(
            [
                self.forgotten_days,
                np.zeros(len(days) - len(self.forgotten_days), np.int64),
            ]
        )
        passed: Codes = np.flatnonzero(days > self.forgotten_days)
        for windows, deadlines in self.timelines():
            alerts += self._judge_timelines(
                windows, deadlines, deadlines.due(self.watermarks)
            )
        if len(passed):
            passed = self.reorder.portion(passed)  # the others with the next batch
            self.incidents.seal(
                *self._rows_of(self.reports, self.reports.seal(passed, self.watermarks))
            )
            self.backlogs.seal(
                *self._rows_of(self.backlog, self.backlog.seal(passed, self.watermarks))
            )
            for windows, deadlines in self.timelines():
                if len(
                    ended := deadlines.finished(
                        self.watermarks, self.grace, windows.open_subjects()
                    )
                ):
                    windows.forget(ended)
                    deadlines.forget(ended)
            self.forgotten_days[passed] = days[passed]
            self.reorder.expire(passed, self.open_days.watermarks["watermark"])
            clocks = {
                self.areas.pairs[area][0]: int(self.watermarks[area])
                for area in passed.tolist()
            }
            self.policy.forget(clocks)
            self.work.expire(clocks)
        return alerts

    def _judge_timelines(
        self, windows: RevisableJudge, deadlines: Timelines, slots: Codes
    ) -> list[Alert]:
        """Judge the whole timeline of some items again."""
        if not len(slots):
            return []
        return windows.amend(
            slots,
            [self._rows_of(deadlines, deadlines.timeline(slots, self.watermarks))],
        )

    def _rows_of(self, deadlines: Timelines, timeline: Timeline) -> tuple[Batch, Codes]:
        """A timeline as a batch, and its slots."""
        where, at, columns = timeline
        names, codes = self._area_names(deadlines.cells["area"][where])
        return deadlines.kind.build(
            ("",), np.zeros(len(where)), names, codes, at, **columns
        ), where

    def snapshot(self) -> bytes:
        """Everything remembered but the master data, with its layout and a checksum."""
        return pack_snapshot(self.capture())

    def capture(self) -> Capture:
        """Everything remembered but the master data, for `packed`; later steps do not reach it."""
        state = {name: capture_owner(owner) for name, owner in self.owners().items()}
        return {"settings": self.settings(), "owners": state}

    def restore(self, data: bytes) -> list[str]:
        """Go on from a snapshot; the owners that start afresh. Raises SnapshotError and changes nothing."""
        found, settings = unpack_snapshot(data)
        if settings != self.settings():
            raise SnapshotError(
                f"the snapshot was made with {settings}, this engine runs with {self.settings()}: "
                f"use the same settings, or {RESTART_ADVICE}"
            )
        other = Engine(self.rules, self.zone, self.interval, self.grace)
        try:
            afresh = other._take_over(found, self.registry.areas.values())
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise SnapshotError(
                f"the snapshot cannot be used: {error}; {RESTORE_ADVICE}"
            ) from error
        vars(self).update(vars(other))
        return afresh

    def _take_over(
        self, found: Mapping[str, Saved], areas: Iterable[Area]
    ) -> list[str]:
        """Load what was saved of every owner; those that start afresh. Raises StateError, and is no engine then."""
        owners = self.owners()
        if missing := [name for name in NEEDED_OWNERS if name not in found]:
            raise StateError(f"{missing[0]} is missing")
        afresh = _load_owners(
            {name: owner for name, owner in owners.items() if isinstance(owner, Index)},
            found,
        )
        self.registry.enroll(areas)
        for judge in self.judges().values():
            judge.reserve()
        afresh += _load_owners(
            {
                name: owner
                for name, owner in owners.items()
                if not isinstance(owner, Index)
            },
            found,
        )
        self._resume(afresh)
        kept = {rule.name for rule in self.rules}.difference(
            name.partition("/")[2] for name in afresh
        )
        self.withdrawals += [
            alert for alert in self.policy.open_alerts() if alert.rule not in kept
        ]
        return list(dict.fromkeys(name.removesuffix(FINAL_SUFFIX) for name in afresh))

    def _resume(self, afresh: Sequence[str]) -> None:
        """Go on after all owners were loaded. Raises StateError where they do not agree with one another."""
        within("how many areas have a clock", len(self.watermarks), 0, len(self.areas))
        within(
            "how many areas were swept",
            len(self.forgotten_days),
            0,
            len(self.watermarks),
        )
        within("a clock", self.watermarks, 0, 2 * LATEST_TIME)
        within(
            "how many meters are in order",
            self.validation.order.used,
            0,
            len(self.meter_index),
        )
        for deadlines in (
            self.work,
            self.backlog,
            self.stage_order,
            self.bills,
            self.ledger,
            self.reports,
        ):
            within(
                "an area of a timeline",
                deadlines.cells["area"],
                -1,
                len(self.areas) - 1,
            )
        self.reorder.resume()
        for name, judge in self.judges().items():
            start = f"{name}/"
            judge.resume(
                {
                    owner.removeprefix(start)
                    for owner in afresh
                    if owner.startswith(start)
                }
            )

    def owners(self) -> dict[str, Owner]:
        """Every owner of state by its name; the indexes before those that refer to them."""
        owners: dict[str, Owner] = {
            f"index/{name}": index for name, index in self.indexes().items()
        }
        owners |= {
            "watermarks": Attributes(
                self,
                watermarks=np.zeros((), np.int64),
                forgotten_days=np.zeros((), np.int64),
                lost_spans=Lapses,
            ),
            "recent_attempts": Attributes(
                self, recent_attempts=dict[int, list[Attempt]]
            ),
            "office": Attributes(self, newest=dict[int, tuple[int, str]]),
            "counts": Attributes(self, counts=list[tuple[tuple[str, str, str], int]]),
            "alert_counts": Attributes(
                self, alert_counts=list[tuple[tuple[str, int, str, str], int]]
            ),
            "withdrawals": WithdrawnAlerts(self, withdrawals=list[Alert]),
        }
        owners |= {
            "open_days": self.open_days,
            "order": self.validation.order,
            "work": self.work,
            "backlog": self.backlog,
            "stage_order": self.stage_order,
            "bills": self.bills,
            "ledger": self.ledger,
            "reports": self.reports,
            "peers": self.peers,
            "policy": self.policy,
            **self.reorder.owners(),
        }
        for name, judge in self.judges().items():
            owners |= {f"{name}/{owner}": one for owner, one in judge.owners().items()}
        return owners

    def settings(self) -> dict[str, Any]:
        """What a snapshot must have been made with."""
        return {"zone": self.zone, "interval": self.interval, "grace": self.grace}

    def indexes(self) -> dict[str, Index]:
        """Every index by name."""
        return {
            "meters": self.meter_index,
            "areas": self.areas,
            "customers": self.customers,
            "channels": self.channels,
            "items": self.items,
            "traces": self.traces,
            "bills": self.bill_index,
            "queues": self.queues,
            "references": self.references,
            "reporting": self.reporting,
        }

    def judges(self) -> dict[str, Judge | RevisableJudge]:
        """Every judge by name."""
        return {
            "readings": self.reorder.readings,
            "clocks": self.reorder.clocks,
            "payments": self.payments,
            "attempts": self.attempts,
            "days": self.days,
            "intervals": self.intervals,
            "area_days": self.area_days,
            "overdue": self.overdue,
            "backlogs": self.backlogs,
            "disorder": self.disorder,
            "invoices": self.invoices,
            "transfers": self.transfers,
            "incidents": self.incidents,
            "master_records": self.master_records,
        }


def pack_snapshot(captured: Capture) -> bytes:
    """What was captured, compressed, with its layout and a checksum; other threads go on meanwhile."""
    body = memoryview(zstd.compress(dumps(captured), level=1))
    return msgspec.msgpack.encode(
        {"layout": SNAPSHOT_LAYOUT, "checksum": crc32(body), "body": body}
    )


def unpack_snapshot(data: bytes) -> tuple[dict[str, Saved], dict[str, Any]]:
    """What a snapshot holds of every owner, and the settings it was made with. Raises SnapshotError."""
    try:
        told = msgspec.msgpack.decode(data, type=Snapshot)
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(
            f"this is no snapshot ({error}); {RESTART_ADVICE}"
        ) from error
    if told.layout not in (*older.OLDER_LAYOUTS, SNAPSHOT_LAYOUT):
        raise SnapshotError(
            f"the snapshot has layout {told.layout}, this version reads layouts {older.OLDER_LAYOUTS[0]} to {SNAPSHOT_LAYOUT}: "
            f"{RESTORE_ADVICE}"
        )
    if crc32(told.body) != told.checksum:
        raise SnapshotError(
            f"the snapshot is damaged, its checksum does not match; {RESTART_ADVICE}"
        )
    try:
        tree = loads(memoryview(zstd.decompress(told.body)).toreadonly())
        if told.layout == SNAPSHOT_LAYOUT:
            return msgspec.convert(tree["owners"], dict[str, Saved]), tree["settings"]
        return older.owners(told.layout, tree), tree["settings"]
    except (
        DecompressionError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise SnapshotError(
            f"the snapshot is damaged ({error!r}); {RESTART_ADVICE}"
        ) from error


def _load_owners(owners: Mapping[str, Owner], found: Mapping[str, Saved]) -> list[str]:
    """Load what was saved of some owners; those that start afresh. Raises StateError."""
    afresh = []
    for name, owner in owners.items():
        try:
            if not restore_owner(owner, found.get(name)):
                afresh.append(name)
        except StateError as error:
            raise StateError(f"{name}: {error}") from error
    return afresh


def _withdrawn(alert: Alert) -> Alert:
    """An alert whose episode is no longer known."""
    return msgspec.structs.replace(
        alert, state="withdrawn", change="withdrawn", revision=alert.revision + 1
    )


def _ended_by_move(alert: Alert, now: int) -> Alert:
    """An alert of a meter that has left its area."""
    return msgspec.structs.replace(
        alert,
        state="cleared",
        change="cleared",
        revision=alert.revision + 1,
        at=max(alert.at, now),
        en=alert.en + MOVED_TEXT[0],
        zh=alert.zh + MOVED_TEXT[1],
    )


def _judged_rules(rules: Iterable[Rule]) -> list[Rule]:
    """Those that are neither drafts nor retired."""
    return [rule for rule in rules if rule.status in ("published", SHADOW_STATUS)]


def _model_of(rules: Iterable[Rule]) -> UseClassModel | None:
    """The fleet model that one of the rules is judged by, if any is."""
    return next((rule.model for rule in rules if rule.model), None)


def _in_shadow(rules: Iterable[Rule]) -> frozenset[str]:
    """The names of those that are counted and not told."""
    return frozenset(rule.name for rule in rules if rule.status == SHADOW_STATUS)


def _clock_observations(
    r: Readings, off: Mask, strayed: Mask, in_order: Mask, watermarks: Times
) -> ClockObservation:
    """What readings tell of their meters' clocks: by their receipt where they are off, else by their area's clock."""
    told = off | strayed | (in_order & np.isfinite(r.clock_offset))
    if not told.any():
        return ClockObservation(told, r.at, r.at, r.clock_offset)
    offset = np.where(
        off,
        r.at - r.received,
        np.where(strayed, r.at - watermarks, r.clock_offset.astype(np.float64)),
    )
    key = np.where(off, r.received, r.at)
    return ClockObservation(
        told, key, np.where(strayed & ~off, watermarks, key), offset
    )


def _attempt_of(batch: Payments, row: int) -> Attempt:
    """What makes a payment attempt the same as another: time, amount, bill, channel, outcome and its own number.

    What takes a payment back has a negative amount.
    """
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
    """Yuan that a failed attempt takes back: those that went through under its number before; 0 where none did.

    >>> taken_back(Attempt(9, 10.0, "", "app", 0, "T1"), [Attempt(5, 10.0, "", "app", 1, "T1")])
    10.0
    >>> taken_back(Attempt(9, 10.0, "", "app", 0, "T1"), [])
    0.0
    """
    if attempt.succeeded or not attempt.reference:
        return 0.0
    last = next(
        (known for known in reversed(before) if known.reference == attempt.reference),
        None,
    )
    return last.amount if last and last.succeeded else 0.0
