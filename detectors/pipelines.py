"""The table of pipelines: every kind that is judged, its subjects and its features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from detectors.episodes import Episodes
from detectors.judge import Judge
from detectors.revisable import RevisableJudge
from detectors.rule import Rule
from models.drift import WatchedModel
from models.feature import Feature
from models.master.registry import Registry
from models.meters.attempts import Failures, FailureShare
from models.meters.darkness import Darkness
from models.meters.day_runs import DayRuns, FirstMonth
from models.meters.departure import Departure
from models.meters.form import Form
from models.meters.line_loss import Losses, ReadDays, UsualLoss
from models.meters.load_forecast import LoadForecast
from models.meters.loading import Exceeding, Heat
from models.meters.metering import DayRegisters, Demands, RatioChange
from models.meters.months import Months
from models.meters.phases import Coupling, Phases
from models.meters.power import Accounts, MonthlyFactor
from models.meters.prepaid import Balances
from models.meters.readings import (
    Elapsed,
    PhaseCurrents,
    PhasePowers,
    PhaseVoltages,
    PowerFactor,
    Standstill,
)
from models.meters.routine import Routine
from models.meters.shape import Shape
from models.meters.suspects import Suspects
from models.meters.use_class import Fleet, UseClass
from models.meters.wiring import (
    CurrentLag,
    NeutralMismatch,
    PhaseLoad,
    StatusFlags,
    WholePower,
)
from models.state.index import Index
from models.state.lost_rows import Holes
from models.state.owners import Owner, within
from models.timelines.backlog import Backlog
from models.timelines.base import Timelines
from models.timelines.bills import Bills
from models.timelines.device_reports import Reports
from models.timelines.settlements import Ledger
from models.timelines.stage_order import StageOrder
from models.timelines.work import Work
from schemas.columns import (
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
    MasterRecords,
    Overdue,
    Payments,
    Readings,
    Stages,
    Traces,
    Transfers,
)

FeaturesOf = Callable[[bool], Sequence[Feature]]  # of the final judge if True


def _no_features(_: bool) -> list[Feature]:
    """None."""
    return []


class EngineSettings(NamedTuple):
    """The settings that a snapshot and its engine must share."""

    zone: str
    interval: int  # s between two readings
    grace: int  # s for which a closed day can change


class Indexes(NamedTuple):
    """The subjects of all pipelines."""

    meters: Index
    areas: Index
    customers: Index
    channels: Index
    items: Index
    traces: Index
    bills: Index
    queues: Index
    references: Index
    reporting: Index

    def owners(self) -> dict[str, Owner]:
        """Every index by the name of its owner."""
        return {f"index/{name}": index for name, index in self._asdict().items()}


class AllTimelines(NamedTuple):
    """The timelines that pipelines judge."""

    work: Work
    backlog: Backlog
    stage_order: StageOrder
    bills: Bills
    ledger: Ledger
    reports: Reports

    def check(self, areas: int) -> None:
        """Raises StateError if a loaded timeline belongs to none of so many areas."""
        for timelines in self:
            own = timelines.cells["area"]
            within("an area of a timeline", own, -1, areas - 1)


@dataclass(frozen=True)
class Pipeline:
    """How the rows of one kind are judged."""

    name: str  # of its judge, in the names of owners
    kind: type[Batch]
    index: Index  # of its subjects
    features: FeaturesOf = _no_features
    timeline: Timelines | None = None  # whose rows it judges
    revisable: bool = True

    def judge(
        self, rules: Iterable[Rule], registry: Registry, is_final: bool = False
    ) -> Judge:
        """A judge of this kind."""
        is_of_meters = self.index is registry.meter_index
        return Judge(
            self.kind,
            rules,
            self.features(is_final),
            self.index,
            registry.enrich,
            registry.installed if is_of_meters else None,
        )


class Judges:
    """The judge of every pipeline, in the order of the table."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        rules: Sequence[Rule],
        registry: Registry,
    ) -> None:
        self.pipelines = pipelines
        self.revisable: dict[str, RevisableJudge] = {}
        self.plain: dict[str, Judge] = {}
        for pipeline in pipelines:
            make = partial(pipeline.judge, rules, registry)
            if pipeline.revisable:
                self.revisable[pipeline.name] = RevisableJudge(make)
            else:
                self.plain[pipeline.name] = make(is_final=False)

        judges = self.revisable | self.plain
        self.by_name = {pipeline.name: judges[pipeline.name] for pipeline in pipelines}
        self.rules = frozenset(rule.name for rule in rules)

    def live(self) -> list[Judge]:
        """The judges of what is known now."""
        revisable = [judge.live for judge in self.revisable.values()]
        return [*revisable, *self.plain.values()]

    def measure_by(self, clock: Callable[[], float]) -> None:
        """Count what rules decide, and measure their time by a clock in seconds."""
        for judge in self.live():
            judge.clock = clock

    def models(self) -> dict[str, WatchedModel]:
        """The online models whose drift is watched, by name."""
        watched: list[WatchedModel] = [
            feature
            for judge in self.live()
            for feature in judge.features
            if feature.model
        ]
        watched += [
            pipeline.timeline.watched_model
            for pipeline in self.pipelines
            if pipeline.timeline and pipeline.timeline.watched_model
        ]
        return {model.model: model for model in watched}

    def adopt(self, rules: Sequence[Rule]) -> list[Episodes]:
        """Switch to `rules`. Returns the live episodes of rules that were removed or changed."""
        self.rules = frozenset(rule.name for rule in rules)
        dropped: list[Episodes] = []
        for judge in self.by_name.values():
            dropped += judge.adopt(rules)
        return dropped

    def forget(self, index: Index, slots: Codes) -> set[str]:
        """Forget subjects of an index; the kinds whose subjects they were."""
        pipelines = [pipeline for pipeline in self.pipelines if pipeline.index is index]
        for pipeline in pipelines:
            self.by_name[pipeline.name].forget(slots)
        return {pipeline.kind.kind for pipeline in pipelines}

    def owners(self) -> dict[str, Owner]:
        """The owners of every judge, each below the name of its pipeline."""
        return {
            f"{pipeline_name}/{name}": owner
            for pipeline_name, judge in self.by_name.items()
            for name, owner in judge.owners().items()
        }

    def reserve(self) -> None:
        """Make room for every subject."""
        for judge in self.by_name.values():
            judge.reserve()

    def resume(self, afresh: Iterable[str]) -> None:
        """Go on after all owners were loaded; those in `afresh` start afresh. Raises StateError."""
        names: dict[str, set[str]] = {name: set() for name in self.by_name}
        for owner in afresh:
            pipeline_name, _, name = owner.partition("/")
            if pipeline_name in names:
                names[pipeline_name].add(name)
        for pipeline_name, judge in self.by_name.items():
            judge.resume(names[pipeline_name])


def new_indexes() -> Indexes:
    """Indexes without subjects."""
    return Indexes(*(Index() for _ in Indexes._fields))


def new_timelines(
    indexes: Indexes, registry: Registry, settings: EngineSettings, holes: Holes
) -> AllTimelines:
    """Timelines without items; each asks `holes` when rows of its topic were lost."""
    zone, _, grace = settings
    work = Work(indexes.items, indexes.queues, registry, zone, grace)
    timelines = AllTimelines(
        work,
        Backlog(work, zone, grace),
        StageOrder(indexes.traces, registry),
        Bills(indexes.bills, registry, zone),
        Ledger(indexes.references),
        Reports(indexes.reporting, registry, zone, grace),
    )

    work.lost = timelines.stage_order.lost = partial(holes.spans_of, Stages.kind)
    spans_of_payments = partial(holes.spans_of, Payments.kind)
    timelines.bills.lost = timelines.ledger.lost = spans_of_payments
    timelines.reports.lost = partial(holes.spans_of, DeviceEvents.kind)
    return timelines


def all_pipelines(
    indexes: Indexes,
    timelines: AllTimelines,
    settings: EngineSettings,
    fleet: Fleet,
) -> tuple[Pipeline, ...]:
    """The table, in the order in which judges are saved and timelines fall due."""
    zone, interval, _ = settings
    meters, areas = indexes.meters, indexes.areas

    def of_readings(_: bool) -> list[Feature]:
        return [
            PhaseVoltages(),
            PhaseCurrents(),
            PhasePowers(),
            PowerFactor(),
            StatusFlags(),
            WholePower(),
            CurrentLag(),
            Standstill(),
            PhaseLoad(),
            NeutralMismatch(),
        ]

    def of_days(_: bool) -> list[Feature]:
        return _day_features(settings, fleet)

    def of_area_days(_: bool) -> list[Feature]:
        return [Losses(), UsualLoss(), ReadDays(zone), LoadForecast(zone)]

    return (
        # readings
        Pipeline("readings", Readings, meters, of_readings),
        Pipeline("clocks", Clocks, meters, lambda _: [Elapsed()]),
        # office
        Pipeline(
            "payments",
            Payments,
            indexes.customers,
            lambda _: [Failures(), Balances()],
            revisable=False,
        ),
        Pipeline(
            "attempts",
            Attempts,
            indexes.channels,
            lambda _: [FailureShare()],
            revisable=False,
        ),
        # windows
        Pipeline("days", Days, meters, of_days),
        Pipeline("intervals", Intervals, areas, lambda _: [Elapsed(), Heat(interval)]),
        Pipeline("area_days", AreaDays, areas, of_area_days),
        # timelines
        Pipeline("overdue", Overdue, indexes.items, timeline=timelines.work),
        Pipeline("backlogs", Backlogs, indexes.queues, timeline=timelines.backlog),
        Pipeline("disorder", Traces, indexes.traces, timeline=timelines.stage_order),
        Pipeline("invoices", Invoices, indexes.bills, timeline=timelines.bills),
        Pipeline("transfers", Transfers, indexes.references, timeline=timelines.ledger),
        Pipeline("incidents", Incidents, indexes.reporting, timeline=timelines.reports),
        # master data
        Pipeline("master_records", MasterRecords, meters, revisable=False),
    )


def _day_features(settings: EngineSettings, fleet: Fleet) -> list[Feature]:
    """The features of meters' days, in the order in which they read one another."""
    zone, interval, _ = settings
    return [
        DayRuns(),
        FirstMonth(),
        Exceeding(),
        Shape(zone, interval),
        Months(zone),
        Routine(),
        Form(),
        Darkness(),
        Departure(),
        Suspects(),
        Phases(),
        Coupling(interval),
        UseClass(fleet),
        DayRegisters(),
        Accounts(),
        RatioChange(),
        Demands(),
        MonthlyFactor(zone),
    ]
