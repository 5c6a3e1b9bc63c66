"""One step of the watch: a batch in, alerts out. No broker, no clock, no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from detectors.area_times import AreaTimes
from detectors.device_watch import DeviceWatch
from detectors.engine_state import EngineState
from detectors.office_watch import OfficeWatch
from detectors.outcomes import RowOutcomes
from detectors.pipelines import (
    EngineSettings,
    Judges,
    all_pipelines,
    new_indexes,
    new_timelines,
)
from detectors.publication import PublicationOf, publication_by
from detectors.reading_watch import ReadingWatch
from detectors.reorder.buffer import ReorderBuffer
from detectors.rule import ALL_RULES, Rule, fleet_model_of, judged_rules
from detectors.score_feed import ScoreFeed
from detectors.section_counts import SectionCounts
from detectors.snapshots import (
    Capture,
    capture_owners,
    pack_snapshot,
    refused_if_unusable,
    saved_owners,
)
from detectors.step_cost import StepCost
from detectors.step_end import StepEnd
from detectors.timeline_judges import TimelineJudges
from detectors.windows import WindowJudges
from models.days.open_days import OpenDays
from models.master.registry import Registry
from models.meters.use_class import Fleet
from schemas.alert import Alert
from schemas.columns import Batch, Codes, DeviceEvents, Payments, Readings, Stages
from schemas.master import Area
from schemas.units import DAY_SECONDS

GRACE_SECONDS = 3 * DAY_SECONDS

Step = Callable[[Any, Codes], list[Alert]]  # rows and their areas


class Engine:
    """Judges every kind of batch for any number of areas. No area influences another's alerts.

    Without brakes, storm brake and budget are left to `braked`, which takes the alerts of several engines. An engine
    that keeps scores has them for every meter's day in `scores`, else None.
    """

    def __init__(
        self,
        rules: Iterable[Rule] | None = None,
        zone: str = "Asia/Shanghai",
        interval: int = 900,
        grace: int = GRACE_SECONDS,
        *,
        has_brakes: bool = True,
        keeps_scores: bool = False,
        publication_of: PublicationOf = publication_by,
    ) -> None:
        self.settings = EngineSettings(zone, interval, grace)
        self.rules = judged_rules(ALL_RULES.values() if rules is None else rules)

        # subjects, and what is remembered of them beside the judges
        self.indexes = new_indexes()
        self.registry = Registry(self.indexes.meters, self.indexes.areas)
        self.areas = AreaTimes(self.indexes.areas)
        self.open_days = OpenDays(self.registry, zone, interval, grace)
        self.timelines = new_timelines(
            self.indexes, self.registry, self.settings, self.areas.holes
        )
        self._fleet = Fleet(fleet_model_of(self.rules))

        # what judges, and what becomes of rows and alerts
        pipelines = all_pipelines(
            self.indexes, self.timelines, self.settings, self._fleet
        )
        self.judges = Judges(pipelines, self.rules, self.registry)
        self.scores: ScoreFeed | None = None
        if keeps_scores:
            self.scores = ScoreFeed(
                self.judges, self.indexes.meters, self.areas, self.settings
            )
        self.reorder = ReorderBuffer(
            self.judges.revisable["readings"],
            self.judges.revisable["clocks"],
            self.indexes.meters,
            self.registry,
            interval,
        )
        self.cost = StepCost(self.registry, self.open_days, self.reorder, self.areas)
        self._outcomes = RowOutcomes(SectionCounts(self.registry))
        self._publication = publication_of(
            self.rules, self.registry.section, has_brakes
        )
        self.policy = self._publication.policy
        self._make_watches()

    def _make_watches(self) -> None:
        """Make the parts that take the rows of the topics."""
        judges, areas, outcomes = self.judges, self.areas, self._outcomes
        grace = self.settings.grace
        self._timeline_judges = TimelineJudges(judges, self.timelines, areas)
        self._step_end = StepEnd(
            areas,
            self.open_days,
            self.reorder,
            self._timeline_judges,
            self._publication,
            grace,
        )

        reports = self.timelines.reports
        self._readings = ReadingWatch(
            self.registry,
            self.open_days,
            self.reorder,
            WindowJudges(judges, self.registry, areas, reports, outcomes),
            self._step_end,
            areas,
            outcomes,
            self.settings.interval,
        )
        self._office = OfficeWatch(
            judges, self._timeline_judges, self._step_end, areas, outcomes, grace
        )
        device_events = DeviceWatch(
            reports, self._timeline_judges, self._publication, areas, outcomes
        )
        self._steps: dict[type[Batch], Step] = {
            Readings: self._readings.step,
            DeviceEvents: device_events.step,
            Payments: self._office.step,
            Stages: self._office.step,
        }
        self.state = EngineState(
            self.indexes,
            self.registry,
            self.areas,
            self.open_days,
            self.timelines,
            self.judges,
            self.reorder,
            self._office,
            self._outcomes,
            self._publication,
            self.scores,
        )

    # ---- Rules and master data ----

    def adopt(self, rules: Iterable[Rule]) -> list[Alert]:
        """Judge by `rules` from now on. Withdraws the episodes of rules that were removed or changed."""
        self.rules = judged_rules(rules)
        self._fleet.adopt(fleet_model_of(self.rules))
        dropped = self.judges.adopt(self.rules)
        self.reorder.adopt()
        return self._publication.adopt(self.rules, dropped)

    def enroll(self, areas: Iterable[Area]) -> None:
        """Replace the master data of `areas`. Episodes of meters that left end; if one comes back, it begins anew."""
        meters = self.indexes.meters
        for area, slots in self.registry.enroll(areas).items():
            names = {meters.pairs[slot][1] for slot in slots.tolist()}
            kinds = self.judges.forget(meters, slots)
            watermark = self.areas.watermark_of(area)
            self._publication.end_membership(area, names, kinds, watermark)

    def note_lost_rows(self, kind: type[Batch]) -> None:
        """Rows of a kind after those judged are lost: their absence proves nothing.

        An open episode stays until its subject is known again.
        """
        self.areas.holes.open(kind.kind, self.areas.watermarks)
        if kind is Payments:
            self._office.note_lost_payments()

    # ---- Rows and time ----

    def step(self, batch: Batch) -> list[Alert]:
        """Judge a batch. Raises TypeError for a kind that no topic carries."""
        self._outcomes.rejected = []
        self._publication.begin_step()
        if not len(batch):
            return []

        areas = self.areas.slots(batch)
        self.areas.holes.close(batch.kind, areas, batch.at)
        self._outcomes.count(batch, "in", len(batch))
        if step := self._steps.get(type(batch)):
            return step(batch, areas)
        raise TypeError(f"no topic carries {batch.kind}")

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
        return self._timeline_judges.portion(self._readings.portion(now))

    def pass_time(self, then: int, now: int) -> list[Alert]:
        """Let time pass as far as `then`, on its way to `now`."""
        alerts = self._readings.pass_time(then, now)
        self.areas.advance(then)
        return self._step_end.publish(alerts)

    def reconcile(
        self, predecessor_alerts: Iterable[Alert], published: Container[str] = ()
    ) -> list[Alert]:
        """Alerts that correct those of an engine before this one, of which this engine has judged all rows.

        `published` are the ids of the alerts that this engine has published since.
        """
        watermarks = self.areas.all_watermarks()
        return self._publication.publish(
            self.policy.reconcile(predecessor_alerts, watermarks, published)
        )

    # ---- Results of the last step, and since the beginning ----

    @property
    def rejected(self) -> list[tuple[Batch, str]]:
        """The rows that the last step rejected, with the reason."""
        return self._outcomes.rejected

    @property
    def shadowed(self) -> list[Alert]:
        """The alerts that went to shadow since the last step began."""
        return self._publication.shadowed

    @property
    def counts(self) -> Counter[tuple[str, str, str]]:
        """Rows by kind, outcome and reason."""
        return self._outcomes.counts

    @property
    def sections(self) -> SectionCounts:
        """What has passed in the sections since the engine was made."""
        return self._outcomes.sections

    @property
    def alert_counts(self) -> Counter[tuple[str, int, str, str]]:
        """Alerts by rule, severity, change and the reason for which they are suppressed."""
        return self._publication.alert_counts

    # ---- State ----

    def snapshot(self) -> bytes:
        """The whole state but the master data, with its layout and a checksum."""
        return pack_snapshot(self.capture())

    def capture(self) -> Capture:
        """The state without the master data, for `pack_snapshot`; later steps do not change it."""
        return capture_owners(self.settings._asdict(), self.state.owners())

    def restore(self, data: bytes) -> list[str]:
        """Go on from a snapshot; the owners that start afresh. Raises SnapshotError and changes nothing."""
        saved = saved_owners(data, self.settings._asdict())
        has_brakes = self.policy.decisions.has_brakes
        restored = Engine(
            self.rules,
            *self.settings,
            has_brakes=has_brakes,
            keeps_scores=self.scores is not None,
        )
        with refused_if_unusable():
            afresh = restored.state.load(saved, self.registry.areas.values())
        vars(self).update(vars(restored))
        return afresh
