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
from detectors.buffered_clocks import ClockObservation
from detectors.episodes import Episodes
from detectors.judge import Judge
from detectors.policy import Policy
from detectors.reorder import ReorderBuffer
from detectors.revisable import FINAL_SUFFIX, JudgeInput, RevisableJudge
from detectors.rule import ALL_RULES, Rule
from models.days.day_rows import DayRows, joined_days
from models.days.due_windows import PORTION_ROWS, DueWindow
from models.days.facts import facts_of
from models.days.open_days import OpenDays
from models.master.audit import MasterDataAudit
from models.master.registry import Registry
from models.meters.basics import (
    Columns,
    DayRuns,
    Elapsed,
    Failures,
    FailureShare,
    Feature,
    FirstMonth,
    Standstill,
)
from models.meters.line_loss import Losses, ReadDays, UsualLoss
from models.meters.loading import Exceeding, Heat
from models.meters.metering import DayRegisters, Demands, RatioChange
from models.meters.peers import Peers, PeerScore
from models.meters.phases import Coupling, Phases
from models.meters.power import Accounts, MonthlyFactor
from models.meters.prepaid import Balances
from models.meters.profiles import Darkness, Form, Months, Routine, Shape
from models.meters.suspects import Suspects
from models.meters.use_class import Fleet, UseClass
from models.meters.wiring import NeutralMismatch, PhaseLoad
from models.state.codec import dumps, loads
from models.state.index import Index
from models.state.lost_rows import Holes, Lapses
from models.state.owners import (
    Attributes,
    Owner,
    Saved,
    StateError,
    capture_owner,
    restore_owner,
    within,
)
from models.state.passes import unique_passes
from models.state.runs import whole_sums
from models.timelines.backlog import Backlog
from models.timelines.base import Timeline, Timelines
from models.timelines.bills import Bills
from models.timelines.device_reports import Reports
from models.timelines.settlements import Ledger
from models.timelines.stage_order import StageOrder
from models.timelines.work import Work
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
    Column,
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

Capture = dict[str, Any]  # settings, and the saved state of every owner
SNAPSHOT_LAYOUT = 10  # of the whole snapshot; each owner has a version of its own
SHADOW_STATUS = "shadow"
FUTURE_TOLERANCE = 300  # s an event time may be ahead of its receipt, design section 4
QUIET_DELAY = 2 * 3600  # s by which a silent area's watermark stays behind wall time
GRACE_SECONDS = 3 * DAY_SECONDS
SILENCE_SECONDS = DAY_SECONDS // 4  # of an area; then many days may fall due at once
STEP_DAYS = 2_000  # meter days that a step may close, about
AMENDED_ROWS = 30  # rows that cost as much to judge again as a day to close
UNPACKED_MEMBERS = 2  # members of a day that cost as much to unpack as a day to close

# columns of an area's day with which its meters' days are compared
BALANCE_COLUMNS = ("unusual_kwh", "excess_kwh")
# kinds whose subjects are meters
METER_KINDS = frozenset({Readings.kind, Clocks.kind, Days.kind, MasterRecords.kind})
MOVED_TEXT = (" The meter has left the area.", "该表已移出本台区。")
TIME_OF_ATTEMPT = itemgetter(0)  # of a payment attempt
RESTART_ADVICE = "remove the checkpoint to judge the history again from its beginning"
RESTORE_ADVICE = f"run the version that wrote it, or {RESTART_ADVICE}"
# owners without which no snapshot can be restored
NEEDED_OWNERS = ("index/meters", "index/areas", "watermarks", "open_days", "order")


class SnapshotError(ValueError):
    """A snapshot that cannot be used; the text says what to do."""


class Snapshot(msgspec.Struct):
    """A snapshot as it comes from outside; layout 1 had no checksum."""

    layout: int
    checksum: int = -1  # CRC-32 of the body
    body: bytes = b""


class Attempt(NamedTuple):
    """A payment attempt; two with the same fields are duplicates."""

    at: int
    amount: float
    bill: str
    channel: str
    succeeded: int
    reference: str = ""


class WithdrawnAlerts(Attributes):
    """The alerts to withdraw; none, where a snapshot has none."""

    missed = False


class Engine:
    """Judges every kind of batch for any number of areas. No area influences another's alerts."""

    def __init__(
        self,
        rules: Iterable[Rule] | None = None,
        zone: str = "Asia/Shanghai",
        interval: int = 900,
        grace: int = GRACE_SECONDS,
    ) -> None:
        self.zone = zone
        self.interval = interval
        self.grace = grace
        self.rules = chosen = _judged_rules(
            ALL_RULES.values() if rules is None else rules
        )

        # subjects
        self.meter_index = Index()
        self.areas = Index()
        self.customers = Index()
        self.channels = Index()
        self.items = Index()
        self.traces = Index()
        self.bill_index = Index()
        self.references = Index()
        self.reporting = Index()
        self.queues = Index()
        self.registry = Registry(self.meter_index, self.areas)

        # areas: names, pairs and slots of the last batch; then, by area slot, how far
        # any of its topics has come, and the day on which it last forgot old state
        self._last_areas: tuple[Names, list[tuple[str, str]], Codes]
        self._last_areas = ((), [], np.zeros(0, np.int32))
        self.open_days = OpenDays(self.registry, zone, interval, grace)
        self.watermarks = np.zeros(0, np.int64)
        self.forgotten_days = np.zeros(0, np.int64)

        # timelines
        self.work = Work(self.items, self.queues, self.registry, zone, grace)
        self.stage_order = StageOrder(self.traces, self.registry)
        self.backlog = Backlog(self.work, zone, grace)
        self.bills = Bills(self.bill_index, self.registry, zone)
        self.ledger = Ledger(self.references)
        self.reports = Reports(self.reporting, self.registry, zone, grace)

        # fleet
        self.peers = Peers()
        self.fleet = Fleet(_model_of(chosen))

        # office: by customer, the attempts within the grace period; by area, the
        # highest event time of payments or stages, and whose it is
        self.recent_attempts: dict[int, list[Attempt]] = {}
        self.newest: dict[int, tuple[int, str]] = {}

        # alerts to withdraw with the next step, since their episodes were not restored;
        # alerts that went to shadow since the last step began
        self.policy = Policy(self.registry.section, _in_shadow(chosen))
        self.withdrawals: list[Alert] = []
        self.shadowed: list[Alert] = []

        # counts, and the rows that the last step rejected, with the reason
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.alert_counts: Counter[tuple[str, int, str, str]] = Counter()
        self.rejected: list[tuple[Batch, str]] = []

        self._make_judges()

        # lost rows: a timeline asks for the spans in which rows of its topic were lost
        self.holes = Holes()
        timelines_by_kind: dict[type[Batch], tuple[Timelines, ...]] = {
            Stages: (self.work, self.stage_order),
            Payments: (self.bills, self.ledger),
            DeviceEvents: (self.reports,),
        }
        for kind, all_timelines in timelines_by_kind.items():
            for timelines in all_timelines:
                timelines.lost = partial(self.holes.spans_of, kind.kind)

    def _make_judges(self) -> None:
        """Make the judge of every kind, with its features."""
        zone, interval = self.zone, self.interval
        meters, registry = self.meter_index, self.registry

        def judge(
            kind: type[Batch], features: Sequence[Feature], index: Index
        ) -> Judge:
            return Judge(
                kind,
                self.rules,
                features,
                index,
                registry.enrich,
                registry.installed if index is meters else None,
            )

        self.reorder = ReorderBuffer(
            RevisableJudge(
                lambda _: judge(
                    Readings, [Standstill(), PhaseLoad(), NeutralMismatch()], meters
                )
            ),
            RevisableJudge(lambda _: judge(Clocks, [Elapsed()], meters)),
            meters,
            registry,
            interval,
        )
        self.validation = self.reorder.live
        self.payments = judge(Payments, [Failures(), Balances()], self.customers)
        self.attempts = judge(Attempts, [FailureShare()], self.channels)
        self.days = RevisableJudge(
            lambda is_final: judge(
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
                    PeerScore(self.peers, meters, is_final),
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
        self.audit = MasterDataAudit(registry)
        self.master_records = judge(MasterRecords, [], meters)

    def adopt(self, rules: Iterable[Rule]) -> list[Alert]:
        """Judge by `rules` from now on. Withdraws the episodes of rules that were removed or changed."""
        chosen = _judged_rules(rules)
        self.fleet.adopt(_model_of(chosen))
        self.rules = chosen

        dropped: list[Episodes] = []
        for judge in self.judges().values():
            dropped += judge.adopt(chosen)
        self.reorder.adopt()

        open_alerts: list[Alert] = []
        for episodes in dropped:
            if episodes.rule.status != SHADOW_STATUS:
                open_alerts += episodes.open.values()
        alerts = self._publish(self.policy.apply(map(_withdrawn, open_alerts)))
        self.policy.shadow = _in_shadow(chosen)
        return alerts

    @property
    def meters(self) -> int:
        """How many meters are known."""
        return len(self.meter_index)

    @property
    def last_read(self) -> Times:
        """The time of each meter's last reading in order, by its slot; 0 if it has none."""
        return self.validation.order["last"]

    def enroll(self, areas: Iterable[Area]) -> None:
        """Replace the master data of `areas`. Episodes of meters that left their area end."""
        areas = list(areas)
        before = {area.area: self.registry.members.get(area.area, ()) for area in areas}
        self.registry.enroll(areas)

        for area, meters in before.items():
            if left := sorted(set(meters).difference(self.registry.members[area])):
                self._end_membership(area, np.array(left))

    def _end_membership(self, area: str, meters: Codes) -> None:
        """End the episodes of meters that left an area. If a meter comes back, it begins anew."""
        names = {self.meter_index.pairs[slot][1] for slot in meters.tolist()}
        area_slot = self.areas.slot(area, "")
        has_watermark = area_slot < len(self.watermarks)
        watermark = int(self.watermarks[area_slot]) if has_watermark else 0

        self.withdrawals += [
            _ended_by_move(alert, watermark)
            for alert in self.policy.recent.get(area, {}).values()
            if alert.state == "raised"
            and alert.kind in METER_KINDS
            and alert.subject in names
        ]

        judges = (
            self.reorder.readings,
            self.reorder.clocks,
            self.days,
            self.master_records,
        )
        for judge in judges:
            judge.forget(meters)

    @property
    def lost_spans(self) -> Lapses:
        """The spans of time in which rows were lost, by kind."""
        return self.holes.spans

    @lost_spans.setter
    def lost_spans(self, spans: Lapses) -> None:
        self.holes.spans = spans

    def note_lost_rows(self, kind: type[Batch]) -> None:
        """Rows of a kind after those judged are lost: their absence proves nothing.

        An open episode stays until its subject is known again.
        """
        self.holes.open(kind.kind, self.watermarks)
        if kind is Payments:
            for feature in self.payments.features:
                if isinstance(feature, (Failures, Balances)):
                    feature.reset_after_loss()

    def step(self, batch: Batch) -> list[Alert]:
        """Judge a batch. Raises TypeError for a kind that no topic carries."""
        self.rejected = []
        self.shadowed = []
        if not len(batch):
            return []

        areas = self._area_slots(batch)
        self.holes.close(batch.kind, areas, batch.at)
        self.counts[batch.kind, "in", ""] += len(batch)

        if isinstance(batch, (Payments, Stages)):
            return self._step_office(batch, areas)
        if isinstance(batch, DeviceEvents):
            return self._step_events(batch, areas)
        if not isinstance(batch, Readings):
            raise TypeError(f"no topic carries {batch.kind}")

        alerts, unjudged = self._step_readings(batch, areas)
        self.counts[batch.kind, "judged", ""] += len(batch) - unjudged
        return self._publish(self.policy.apply(alerts + self._fall_due()))

    def rows_within_cost(self, batch: Batch) -> int:
        """How many of a batch's first rows may be judged at once.

        They are few where silent areas have days to close, or where days have to be unpacked, as right after a
        restore. So the cost of a step is bounded by what falls due, like that of time that passes without rows
        (`portion`).
        """
        if not isinstance(batch, Readings) or not len(batch):
            return len(batch)
        areas = self._area_slots(batch)
        cost = np.zeros(len(batch))  # in meter days, at the row that causes it

        # days that a row closes after a silence, and late rows to judge again
        silence = np.where(
            self.watermarks[areas] > 0,
            np.maximum(batch.at - self.watermarks[areas], 0),
            0,
        )
        late_hours = self.reorder.late_hours(len(self.watermarks))[areas]
        due = np.flatnonzero(
            (silence > SILENCE_SECONDS) | (batch.at // HOUR_SECONDS > late_hours)
        )
        _, places, counts = np.unique(areas[due], return_index=True, return_counts=True)
        first = np.sort(due[places[counts > 1]])  # a single row moves no watermark
        silent = areas[first].tolist()
        meters = [
            len(self.meter_index.known.get(self.areas.pairs[area][0], ()))
            for area in silent
        ]
        cost[first] = (
            np.array(meters) * silence[first] / DAY_SECONDS
            + self.reorder.late_rows(silent) / AMENDED_ROWS
        )

        # days that a row unpacks
        unpacking, members = self.open_days.unpacking_rows(areas, batch.at)
        cost[unpacking] += members / UNPACKED_MEMBERS

        costly = np.flatnonzero(cost)
        reached = max(
            int(np.searchsorted(np.cumsum(cost[costly]), STEP_DAYS, "right")), 1
        )
        return int(costly[reached]) if reached < len(costly) else len(batch)

    def tick(self, now: int) -> list[Alert]:
        """Let time pass where no row arrives: silent areas' windows close, deadlines fall due."""
        return [alert for alerts in self.ticks(now) for alert in alerts]

    def ticks(self, now: int) -> Iterator[list[Alert]]:
        """`tick` in small steps; between two of them the engine may be asked for a snapshot."""
        while (then := self.portion(now)) < now:
            yield self.pass_time(then, now)
        yield self.pass_time(now, now)

    def portion(self, now: int) -> int:
        """How far time may pass towards `now` with at most a portion of days and timelines falling due."""
        then = self.open_days.portion(now - QUIET_DELAY) + QUIET_DELAY
        for _, timelines in self.timelines():
            then = timelines.portion(then)
        return then

    def pass_time(self, then: int, now: int) -> list[Alert]:
        """Let time pass as far as `then`, on its way to `now`."""
        quiet_time = then - QUIET_DELAY
        alerts = self._judge_late(dict.fromkeys(self.reorder.late, quiet_time))
        alerts += self._close(self.open_days.tick(quiet_time, now - QUIET_DELAY))
        self.watermarks = np.maximum(self.watermarks, then)
        return self._publish(self.policy.apply(alerts + self._fall_due()))

    def reconcile(
        self, predecessor_alerts: Iterable[Alert], published: Container[str] = ()
    ) -> list[Alert]:
        """Alerts that correct those of an engine before this one, of which this engine has judged all rows.

        `published` are the ids of the alerts that this engine has published since.
        """
        pairs = zip(self.areas.pairs, self.watermarks.tolist(), strict=False)
        watermarks = {area: watermark for (area, _), watermark in pairs}
        return self._publish(
            self.policy.reconcile(predecessor_alerts, watermarks, published)
        )

    def _publish(self, alerts: list[Alert]) -> list[Alert]:
        """Count alerts; return the shown ones, and keep the shadowed ones until the next step."""
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
            self._last_areas = (batch.areas, self.areas.pairs, slots)

        if (more := len(self.areas) - len(self.watermarks)) > 0:
            self.watermarks = np.r_[self.watermarks, np.zeros(more, np.int64)]
        return slots[batch.area]

    def _step_readings(
        self, readings: Readings, areas: Codes
    ) -> tuple[list[Alert], int]:
        """Validate, judge and store readings; the alerts, and how many rows were not judged."""
        slots = self.meter_index.slots(readings)
        self.validation.order.reserve(len(self.meter_index))

        # which rows count
        future = (readings.received > 0) & (
            readings.at > readings.received + FUTURE_TOLERANCE
        )
        odd = (readings.at < EARLIEST_TIME) | (readings.at >= LATEST_TIME)
        update = self.open_days.advance_watermarks(
            areas, slots, readings.at, ~(future | odd)
        )
        accepted = ~(future | odd | update.late)
        for reason, rows in (("future", future), ("implausible_time", odd & ~future)):
            if rows.any():
                self._reject(readings, rows, reason)

        # the order of each meter's rows, and the error of its clock
        in_order, before, strayed = self.validation.order.sequence(
            slots, readings.at, accepted, update.before
        )
        observation = _clock_observations(
            readings,
            future
            | self.validation.order.slow_clocks(
                slots, readings, update.late & (readings.at < before)
            ),
            strayed & ~update.lone_meter & in_order,
            in_order,
            update.before,
        )

        master = self.registry.meters.columns_of(
            self.registry.meters.rows_in_force(slots, readings.at - 1)
        )
        alerts: list[Alert] = []
        duplicate = np.zeros(len(readings), bool)
        with np.errstate(invalid="ignore", divide="ignore"):
            readings = self.validation.bounds(readings, master, self.interval)
            facts = facts_of(readings, master, self.interval)
            unsettled = self.reorder.areas_with_late(
                areas, slots, readings.at, before, in_order, accepted
            )

            def windows() -> Iterator[DueWindow]:
                """The windows that rows make due; judges and stores these rows first."""
                for rows, ends in self.open_days.rows_until_due(
                    update, areas, readings.at, unsettled
                ):
                    found, validated = self.reorder.judge(
                        readings,
                        slots,
                        areas,
                        rows,
                        in_order,
                        before,
                        master,
                        facts,
                        observation,
                    )
                    alerts.extend(found)

                    stored = rows[accepted[rows]]
                    duplicate[stored] = self.open_days.store_rows(
                        areas,
                        readings.at,
                        update.before,
                        slots,
                        validated,
                        stored,
                        in_order,
                    )
                    if unsettled:
                        behind = stored[~(in_order | duplicate)[stored]]
                        self.reorder.add_late(
                            readings, slots, areas, update.before, validated, behind
                        )

                    alerts.extend(self._judge_late(ends))
                    yield from self.open_days.due(ends)

            alerts += self._close(windows())

        self.watermarks[areas] = np.maximum(
            self.watermarks[areas], self.open_days.watermarks["watermark"][areas]
        )
        self._count_readings(update.late, duplicate)
        return alerts, int(np.count_nonzero(duplicate | ~accepted))

    def _count_readings(self, late: Mask, duplicate: Mask) -> None:
        """Count the late and duplicate readings of a step, and its implausible values."""
        for outcome, rows in (("late", late), ("duplicate", duplicate)):
            if count := int(np.count_nonzero(rows)):
                self.counts[Readings.kind, outcome, ""] += count
        for reason, count in self.validation.implausible.items():
            self.counts[Readings.kind, "implausible", reason] += count
        self.validation.implausible.clear()

    def _step_events(self, batch: DeviceEvents, areas: Codes) -> list[Alert]:
        """Note device reports: they suppress or release alerts, and may be trouble themselves."""
        odd = (batch.at < EARLIEST_TIME) | (batch.at >= LATEST_TIME)
        if odd.any():
            self._reject(batch, odd, "implausible_time")
            batch, areas = batch.select(~odd), areas[~odd]

        published: list[Alert] = []
        slots = self.reporting.slots(batch)
        for rows in self.reports.unique_passes(batch, slots):
            events = batch.select(rows)
            revised, known = self.policy.note_events(events)
            touched, again, late = self.reports.record(
                events, slots[rows], areas[rows], self.watermarks
            )

            duplicate = len(set(known).intersection(again + late))
            fresh_late = len(set(late).difference(known))
            self.counts[batch.kind, "late", ""] += fresh_late
            self.counts[batch.kind, "duplicate", ""] += duplicate
            self.counts[batch.kind, "judged", ""] += len(rows) - duplicate - fresh_late

            alerts = self._judge_timelines(
                self.incidents, self.reports, _sorted_slots(touched)
            )
            published += self._publish(revised + self.policy.apply(alerts))
        return published

    def _reject(self, batch: Batch, rows: Mask, reason: str) -> None:
        """Reject rows, and count them by reason."""
        self.counts[batch.kind, "rejected", reason] += int(np.count_nonzero(rows))
        self.rejected.append((batch.select(rows), reason))

    def _judge_late(self, watermarks: dict[int, int]) -> list[Alert]:
        """Judge late readings again, in areas whose watermarks have reached another hour."""
        meters = self.reorder.late_meters(watermarks)
        if not len(meters):
            return []

        areas = self.reorder.gap_starts["area"]
        alerts, corrected = self.reorder.judge_again(meters)
        self.open_days.correct(areas[corrected.meters], *corrected)
        reached = [watermarks[area] for area in areas[meters].tolist()]
        self.reorder.release(meters, np.array(reached, np.int64))
        return alerts

    def _close(self, windows: Iterable[DueWindow]) -> list[Alert]:
        """Judge windows that are due, in order; all windows up to the next amendment at once."""
        alerts: list[Alert] = []
        pending: dict[str, list[DueWindow]] = {"interval": [], "day": [], "seal": []}
        # the areas of the pending windows: each has one day at once
        pending_areas: dict[str, set[int]] = {name: set() for name in pending}
        pending_rows = 0

        for window in windows:
            areas = set(window.areas.tolist()) if window.days else set[int]()
            rows = sum(len(day.meters) for day in window.days)

            # a day is closed before it is sealed
            blocking = pending_areas["day"] | pending_areas.get(window.action, set())
            if (
                window.action == "amend"
                or not areas.isdisjoint(blocking)
                or pending_rows + rows > PORTION_ROWS
            ):
                alerts += self._close_pending(pending)
                pending_rows = 0
                pending = {name: [] for name in pending}
                pending_areas = {name: set() for name in pending_areas}

            if window.action == "amend":
                alerts += self._amend(window)
            else:
                pending[window.action].append(window)
                pending_areas[window.action] |= areas
                pending_rows += rows
        return alerts + self._close_pending(pending)

    def _close_pending(self, pending: dict[str, list[DueWindow]]) -> list[Alert]:
        """Judge windows that are due; of each action an area has at most one day. Seals come first."""
        alerts: list[Alert] = []
        if sealing := pending["seal"]:
            days = joined_days([day for window in sealing for day in window.days])
            self.intervals.seal(*self._interval_rows(sealing))
            if len((days := self._without_lost(days)).areas):
                self._seal_days(days)

        if closing := pending["interval"]:
            alerts += self.intervals.close(*self._interval_rows(closing))

        if closing := pending["day"]:
            days = joined_days([day for window in closing for day in window.days])
            if days.spikes:
                self.counts["readings", "flagged", "spike"] += days.spikes
            if len((days := self._without_lost(days)).areas):
                alerts += self._close_days(days)
        return alerts

    def _seal_days(self, days: DayRows) -> None:
        """Judge days for good."""
        self.area_days.seal(*self._area_day_rows(days))
        balance = self.area_days.final.feature_columns
        self.days.seal(*self._day_rows(days, balance))
        for area_days in days.unique_passes():
            self.reports.store_days(area_days)

    def _close_days(self, days: DayRows) -> list[Alert]:
        """Judge days first, with the master data as of their ends."""
        alerts = self.area_days.close(*self._area_day_rows(days))
        balance = self.area_days.live.feature_columns
        alerts += self.days.close(*self._day_rows(days, balance))
        alerts += self.master_records.judge(*self._record_rows(days))
        return sorted(alerts, key=attrgetter("at"))

    def _amend(self, window: DueWindow) -> list[Alert]:
        """Judge the open windows of the window's areas again."""
        kept = [self._without_lost(days) for days in window.days]
        window = window._replace(days=[days for days in kept if len(days.areas)])
        meters = np.unique(
            np.concatenate(
                [np.zeros(0, np.int64), *(days.meters for days in window.days)]
            )
        )
        balances: list[Columns] = []

        def area_day_inputs() -> Iterator[JudgeInput]:
            for days in window.days:
                yield self._area_day_rows(days)
                balances.append(self.area_days.live.feature_columns)

        areas = window.areas.astype(np.int64)
        alerts = self.intervals.amend(areas, [self._interval_rows([window])])
        alerts += self.area_days.amend(areas, area_day_inputs())
        day_inputs = [
            self._day_rows(days, balance)
            for days, balance in zip(window.days, balances, strict=True)
        ]
        return alerts + self.days.amend(meters.astype(np.int64), day_inputs)

    def _without_lost(self, days: DayRows) -> DayRows:
        """The days of areas that lost no readings in them."""
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
        intervals = [window.intervals for window in windows]
        slots = np.concatenate([rows.areas for rows in intervals])
        at = np.concatenate([rows.at for rows in intervals])
        columns: Columns = {}
        for name in intervals[0].columns:
            column = np.concatenate([rows.columns[name] for rows in intervals], axis=-1)
            columns[name] = column.astype(np.float32)

        names, codes = self._area_names(slots)
        batch = Intervals(
            ("",), np.zeros(len(slots), np.int32), names, codes, at, **columns
        )
        return batch, slots

    def _day_rows(self, days: DayRows, balance: Columns) -> JudgeInput:
        """Rows of Days, with the master data and their areas' balances."""
        slots = days.meters.astype(np.int64)
        at = np.repeat(days.ends, days.sizes)
        names, codes = self._area_names(days.areas)
        batch = Days.build(
            ("",),
            np.zeros(len(slots)),
            names,
            np.repeat(codes, days.sizes),
            at,
            **days.columns,
        )

        more = {
            f"area_{name}": np.repeat(balance[name], days.sizes)
            for name in BALANCE_COLUMNS
        }
        area_reads = whole_sums(days.columns["reads"] > 0, days.sizes)
        more["area_reads"] = np.repeat(area_reads, days.sizes)
        more["connected_days"] = self.registry.connected_days(slots, at)
        columns = self.registry.enrich(slots, batch) | more
        return batch, slots, columns, days.unique_pass_rows()

    def _area_day_rows(self, days: DayRows) -> JudgeInput:
        """Rows of AreaDays."""
        names, codes = self._area_names(days.areas)
        batch = AreaDays.build(
            ("",), np.zeros(len(codes)), names, codes, days.ends, **days.totals
        )
        return batch, days.areas, None, list(unique_passes(days.areas))

    def _record_rows(self, days: DayRows) -> tuple[MasterRecords, Codes]:
        """The master data of the days' areas as of the end of each day."""
        names, codes = self._area_names(days.areas)
        sizes, slots, columns = self.audit.records(
            [names[code] for code in codes.tolist()], days.ends
        )
        batch = MasterRecords.build(
            ("",),
            np.zeros(len(slots)),
            names,
            np.repeat(codes, sizes),
            np.repeat(days.ends, sizes),
            **columns,
        )
        return batch, slots

    def _area_names(self, slots: Codes) -> tuple[tuple[str, ...], Codes]:
        """The names of area slots, dictionary-encoded."""
        unique, codes = np.unique(slots, return_inverse=True)
        return tuple(self.areas.pairs[slot][0] for slot in unique.tolist()), codes

    def _step_office(self, batch: Payments | Stages, areas: Codes) -> list[Alert]:
        """Judge payments or stages, in runs that are in order of time."""
        odd = (batch.at < EARLIEST_TIME) | (batch.at >= LATEST_TIME)
        if odd.any():
            self._reject(batch, odd, "implausible_time")
            batch, areas = batch.select(~odd), areas[~odd]

        published: list[Alert] = []
        done = 0
        while done < len(batch):
            watermarks = self._move_watermarks(batch, areas, done)
            is_whole = len(watermarks) == len(batch)
            run = slice(done, done + len(watermarks))
            done = run.stop

            rows = batch if is_whole else batch.select(run)
            if isinstance(rows, Payments):
                alerts, unjudged = self._step_payments(rows, areas[run], watermarks)
            else:
                alerts, unjudged = self._step_stages(rows, areas[run], watermarks)
            self.counts[batch.kind, "judged", ""] += len(rows) - unjudged
            published += self._publish(self.policy.apply(alerts + self._fall_due()))
        return published

    def _step_payments(
        self, batch: Payments, areas: Codes, watermarks: Times
    ) -> tuple[list[Alert], int]:
        """Judge payments by bill, reference, customer and channel; the alerts, and how many rows were not judged.

        `watermarks` are those of the rows' areas before each row.
        """
        fresh = np.ones(len(batch), bool)
        alerts: list[Alert] = []
        late_count = 0
        for judge, timelines in (
            (self.invoices, self.bills),
            (self.transfers, self.ledger),
        ):
            touched, again, late = timelines.record(
                batch, areas, watermarks - self.grace
            )
            fresh[again] = fresh[late] = False
            late_count += len(late)
            alerts += self._judge_timelines(judge, timelines, _sorted_slots(touched))
        alerts += self._judge_attempts(batch, fresh)

        unjudged = len(batch) - int(np.count_nonzero(fresh))
        self.counts[batch.kind, "late", ""] += late_count
        self.counts[batch.kind, "duplicate", ""] += unjudged - late_count
        return alerts, unjudged

    def _judge_attempts(self, batch: Payments, fresh: Mask) -> list[Alert]:
        """Judge payment attempts by customer and by channel; `fresh` becomes false for duplicates."""
        tried = (batch.payment == Payment.PAYMENT) | (batch.payment == Payment.TOPUP)
        of_no_bill = np.array([not name for name in batch.bills], bool)[batch.bill]
        reversals = (batch.payment == Payment.REVERSAL) & of_no_bill
        amounts = np.where(reversals, -np.abs(batch.amount), batch.amount)
        slots = self.customers.slots(batch)
        for row in np.flatnonzero(tried | reversals).tolist():
            self._note_attempt(batch, row, int(slots[row]), tried, amounts, fresh)

        alerts: list[Alert] = []
        by_customer = (tried | reversals) & fresh
        by_customer |= batch.payment == Payment.BALANCE
        if by_customer.any():
            payments = replace(batch, amount=amounts).select(by_customer)
            alerts += self.payments.judge(payments, slots[by_customer])

        if (tried & fresh).any():
            payments = batch.select(tried & fresh)
            attempts = Attempts(
                payments.channels,
                payments.channel,
                payments.areas,
                payments.area,
                payments.at,
                (payments.succeeded == 0).astype(np.float32),
            )
            alerts += self.attempts.judge(attempts, self.channels.slots(attempts))
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

        if attempt.at > newest - self.grace:
            attempts.insert(end, attempt)
        del attempts[: bisect_right(attempts, newest - self.grace, key=TIME_OF_ATTEMPT)]

    def _step_stages(
        self, batch: Stages, areas: Codes, watermarks: Times
    ) -> tuple[list[Alert], int]:
        """Record the stages of work items; the alerts, and how many rows were not judged.

        `watermarks` are those of the rows' areas before each row.
        """
        touched, again, late = self.work.record(batch, areas, watermarks - self.grace)
        self.counts[batch.kind, "late", ""] += len(late)
        self.counts[batch.kind, "duplicate", ""] += len(again)
        traces = self.stage_order.record(batch, areas, watermarks - self.grace).touched

        alerts = self._judge_timelines(self.overdue, self.work, _sorted_slots(touched))
        alerts += self._judge_timelines(
            self.disorder, self.stage_order, _sorted_slots(traces)
        )
        queues = self.backlog.record(batch, areas, watermarks, self.watermarks)
        alerts += self._judge_timelines(
            self.backlogs, self.backlog, _sorted_slots(queues)
        )
        return alerts, len(again) + len(late)

    def _move_watermarks(
        self, batch: Payments | Stages, areas: Codes, start: int
    ) -> Times:
        """Move areas' watermarks by a run of rows from `start` on; each row's watermark before it.

        A watermark is the second-highest event time of its area's customers or items, so no single wrong clock moves
        it. A row behind its area's newest stands alone, since it may amend published alerts. A run ends where a
        watermark enters another day, since old state is forgotten then.
        """
        before: list[int] = []
        for row in range(start, len(batch)):
            area = int(areas[row])
            at = int(batch.at[row])
            subject = batch.names[batch.subject[row]]
            watermark = int(self.watermarks[area])
            highest, holder = self.newest.get(area, (0, ""))
            if before and at < highest:
                break

            before.append(watermark)
            if subject != holder:
                self.watermarks[area] = max(watermark, min(at, highest))
            if at > highest:
                self.newest[area] = at, subject

            entered_day = self.watermarks[area] // DAY_SECONDS
            if at < highest or entered_day > watermark // DAY_SECONDS:
                break
        return np.array(before, np.int64)

    def timelines(self) -> tuple[tuple[RevisableJudge, Timelines], ...]:
        """Every judge of timelines, and its timelines."""
        return (
            (self.overdue, self.work),
            (self.backlogs, self.backlog),
            (self.disorder, self.stage_order),
            (self.invoices, self.bills),
            (self.transfers, self.ledger),
            (self.incidents, self.reports),
        )

    def _fall_due(self) -> list[Alert]:
        """Judge the timelines that fall due; in areas that enter another day, forget old state."""
        alerts = [
            _withdrawn(alert) if alert.state == "raised" else alert
            for alert in self.withdrawals
        ]
        self.withdrawals = []

        days = self.watermarks // DAY_SECONDS
        more = len(days) - len(self.forgotten_days)
        self.forgotten_days = np.concatenate(
            [self.forgotten_days, np.zeros(more, np.int64)]
        )
        areas: Codes = np.flatnonzero(days > self.forgotten_days)
        for judge, timelines in self.timelines():
            due = timelines.due(self.watermarks)
            alerts += self._judge_timelines(judge, timelines, due)

        if len(areas):
            areas = self.reorder.portion(areas)  # the others with the next batch
            self._forget_old(areas)
            self.forgotten_days[areas] = days[areas]
        return alerts

    def _forget_old(self, areas: Codes) -> None:
        """Seal the timelines of areas that enter another day, and forget state that no row can concern."""
        reports = self.reports.seal(areas, self.watermarks)
        self.incidents.seal(*self._rows_of(self.reports, reports))
        backlogs = self.backlog.seal(areas, self.watermarks)
        self.backlogs.seal(*self._rows_of(self.backlog, backlogs))

        for judge, timelines in self.timelines():
            finished = timelines.finished(
                self.watermarks, self.grace, judge.open_subjects()
            )
            if len(finished):
                judge.forget(finished)
                timelines.forget(finished)

        self.reorder.expire(areas, self.open_days.watermarks["watermark"])
        watermarks = {
            self.areas.pairs[area][0]: int(self.watermarks[area])
            for area in areas.tolist()
        }
        self.policy.forget(watermarks)
        self.work.expire(watermarks)

    def _judge_timelines(
        self, judge: RevisableJudge, timelines: Timelines, slots: Codes
    ) -> list[Alert]:
        """Judge the whole timelines of `slots` again."""
        if not len(slots):
            return []
        timeline = timelines.timeline(slots, self.watermarks)
        return judge.amend(slots, [self._rows_of(timelines, timeline)])

    def _rows_of(self, timelines: Timelines, timeline: Timeline) -> tuple[Batch, Codes]:
        """A timeline as a batch, and its slots."""
        slots, at, columns = timeline
        names, codes = self._area_names(timelines.cells["area"][slots])
        batch = timelines.kind.build(
            ("",), np.zeros(len(slots)), names, codes, at, **columns
        )
        return batch, slots

    def snapshot(self) -> bytes:
        """The whole state but the master data, with its layout and a checksum."""
        return pack_snapshot(self.capture())

    def capture(self) -> Capture:
        """The state without the master data, for `pack_snapshot`; later steps do not change it."""
        state = {name: capture_owner(owner) for name, owner in self.owners().items()}
        return {"settings": self.settings(), "owners": state}

    def restore(self, data: bytes) -> list[str]:
        """Go on from a snapshot; the owners that start afresh. Raises SnapshotError and changes nothing."""
        saved, settings = unpack_snapshot(data)
        if settings != self.settings():
            raise SnapshotError(
                f"the snapshot was made with {settings}, this engine runs with {self.settings()}: "
                f"use the same settings, or {RESTART_ADVICE}"
            )

        restored = Engine(self.rules, self.zone, self.interval, self.grace)
        try:
            afresh = restored._take_over(saved, self.registry.areas.values())
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
        vars(self).update(vars(restored))
        return afresh

    def _take_over(
        self, saved: Mapping[str, Saved], areas: Iterable[Area]
    ) -> list[str]:
        """Load every owner; the names of those starting afresh. A StateError leaves the engine unusable."""
        if missing := [name for name in NEEDED_OWNERS if name not in saved]:
            raise StateError(f"{missing[0]} is missing")

        # the indexes, then the areas, then all that refers to them
        owners = self.owners()
        indexes = {
            name: owner for name, owner in owners.items() if isinstance(owner, Index)
        }
        others = {name: owner for name, owner in owners.items() if name not in indexes}
        afresh = _load_owners(indexes, saved)
        self.registry.enroll(areas)
        for judge in self.judges().values():
            judge.reserve()
        afresh += _load_owners(others, saved)
        self._resume(afresh)

        # open alerts of rules that start afresh or are no longer judged, are withdrawn
        names_afresh = {name.partition("/")[2] for name in afresh}
        kept = {rule.name for rule in self.rules} - names_afresh
        self.withdrawals += [
            alert for alert in self.policy.open_alerts() if alert.rule not in kept
        ]
        return list(dict.fromkeys(name.removesuffix(FINAL_SUFFIX) for name in afresh))

    def _resume(self, afresh: Sequence[str]) -> None:
        """Go on after all owners were loaded. Raises StateError if they disagree with one another."""
        areas, meters = len(self.areas), len(self.meter_index)
        within("the number of areas with a watermark", len(self.watermarks), 0, areas)
        within(
            "the number of areas that forgot old state",
            len(self.forgotten_days),
            0,
            len(self.watermarks),
        )
        within("a watermark", self.watermarks, 0, 2 * LATEST_TIME)
        within("the number of meters in order", self.validation.order.used, 0, meters)
        for timelines in (
            self.work,
            self.backlog,
            self.stage_order,
            self.bills,
            self.ledger,
            self.reports,
        ):
            within("an area of a timeline", timelines.cells["area"], -1, areas - 1)

        self.reorder.resume()
        for name, judge in self.judges().items():
            start = f"{name}/"
            owners = [owner for owner in afresh if owner.startswith(start)]
            judge.resume({owner.removeprefix(start) for owner in owners})

    def owners(self) -> dict[str, Owner]:
        """Every owner of state by its name; the indexes before the owners that refer to them."""
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

        for judge_name, judge in self.judges().items():
            for name, owner in judge.owners().items():
                owners[f"{judge_name}/{name}"] = owner
        return owners

    def settings(self) -> dict[str, Any]:
        """The settings that a snapshot and its engine must share."""
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
            # office
            "payments": self.payments,
            "attempts": self.attempts,
            # windows
            "days": self.days,
            "intervals": self.intervals,
            "area_days": self.area_days,
            # timelines
            "overdue": self.overdue,
            "backlogs": self.backlogs,
            "disorder": self.disorder,
            "invoices": self.invoices,
            "transfers": self.transfers,
            "incidents": self.incidents,
            # master data
            "master_records": self.master_records,
        }


def pack_snapshot(captured: Capture) -> bytes:
    """A capture, compressed, with its layout and a checksum; other threads go on meanwhile."""
    body = memoryview(zstd.compress(dumps(captured), level=1))
    return msgspec.msgpack.encode(
        {"layout": SNAPSHOT_LAYOUT, "checksum": crc32(body), "body": body}
    )


def unpack_snapshot(data: bytes) -> tuple[dict[str, Saved], dict[str, Any]]:
    """The saved owners of a snapshot, and the settings it was made with. Raises SnapshotError."""
    try:
        snapshot = msgspec.msgpack.decode(data, type=Snapshot)
    except (ValueError, TypeError, RecursionError) as error:
        raise SnapshotError(
            f"this is no snapshot ({error}); {RESTART_ADVICE}"
        ) from error

    layout = snapshot.layout
    if layout not in (*older.OLDER_LAYOUTS, SNAPSHOT_LAYOUT):
        raise SnapshotError(
            f"the snapshot has layout {layout}, this version reads layouts "
            f"{older.OLDER_LAYOUTS[0]} to {SNAPSHOT_LAYOUT}: {RESTORE_ADVICE}"
        )
    if crc32(snapshot.body) != snapshot.checksum:
        raise SnapshotError(
            f"the snapshot is damaged, its checksum does not match; {RESTART_ADVICE}"
        )

    try:
        tree = loads(memoryview(zstd.decompress(snapshot.body)).toreadonly())
        if layout == SNAPSHOT_LAYOUT:
            return msgspec.convert(tree["owners"], dict[str, Saved]), tree["settings"]
        return older.owners(layout, tree), tree["settings"]
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


def _load_owners(owners: Mapping[str, Owner], saved: Mapping[str, Saved]) -> list[str]:
    """Load owners from `saved`; the names of the owners that start afresh. Raises StateError."""
    afresh = []
    for name, owner in owners.items():
        try:
            if not restore_owner(owner, saved.get(name)):
                afresh.append(name)
        except StateError as error:
            raise StateError(f"{name}: {error}") from error
    return afresh


def _withdrawn(alert: Alert) -> Alert:
    """An alert whose episode is no longer known."""
    return msgspec.structs.replace(
        alert, state="withdrawn", change="withdrawn", revision=alert.revision + 1
    )


def _ended_by_move(alert: Alert, watermark: int) -> Alert:
    """The last alert of a meter that has left its area."""
    return msgspec.structs.replace(
        alert,
        state="cleared",
        change="cleared",
        revision=alert.revision + 1,
        at=max(alert.at, watermark),
        en=alert.en + MOVED_TEXT[0],
        zh=alert.zh + MOVED_TEXT[1],
    )


def _sorted_slots(slots: Iterable[int]) -> Codes:
    """Slots in ascending order."""
    return np.array(sorted(slots), np.int64)


def _judged_rules(rules: Iterable[Rule]) -> list[Rule]:
    """The rules that are neither drafts nor retired."""
    return [rule for rule in rules if rule.status in ("published", SHADOW_STATUS)]


def _model_of(rules: Iterable[Rule]) -> UseClassModel | None:
    """The fleet model of the first rule that has a model, if any."""
    return next((rule.model for rule in rules if rule.model), None)


def _in_shadow(rules: Iterable[Rule]) -> frozenset[str]:
    """The names of the rules that are counted and not shown."""
    return frozenset(rule.name for rule in rules if rule.status == SHADOW_STATUS)


def _clock_observations(
    readings: Readings, off: Mask, strayed: Mask, in_order: Mask, watermarks: Times
) -> ClockObservation:
    """Errors of meters' clocks: against the receipt time if `off`, the watermark if `strayed`."""
    at = readings.at
    observed = off | strayed | (in_order & np.isfinite(readings.clock_offset))
    if not observed.any():
        return ClockObservation(observed, at, at, readings.clock_offset)

    reported = readings.clock_offset.astype(np.float64)
    offset = np.where(
        off, at - readings.received, np.where(strayed, at - watermarks, reported)
    )
    order_time = np.where(off, readings.received, at)
    observed_at = np.where(strayed & ~off, watermarks, order_time)
    return ClockObservation(observed, order_time, observed_at, offset)


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
