"""A history judged to answer a question: nothing is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from detectors.engine import Engine
from detectors.policy import braked
from detectors.rulebook import applied, rules_of
from replay.history import Source, Tally, nothing_read
from replay.labels import Label, known_labels, read_labels
from replay.observed import Observed
from replay.shards import Shard, joined_source
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.rules import Rulebook
from streams.histories import opened_shard, passed_of, section_of
from streams.local.follow import follow
from streams.local.progress import Progress, joined_progress
from streams.local.progress_display import ProgressDisplay
from streams.local.store import Store
from streams.settings import Settings
from streams.shards import Jobs, OnPassed, asked
from streams.times import local_time


@dataclass
class LabelFile:
    """The labels of a file, and what was refused of them."""

    name: str
    labels: list[Label] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """The labels of a file, none without a file. Raises ValueError if no label can be used."""
        file = cls(str(path or ""))
        if path:
            file.labels = read_labels(path, file.tally)
        file._check()
        return file

    def keep_known(self, observed: Observed) -> None:
        """Keeps the labels of subjects that a history has. Raises ValueError if there is none."""
        self.labels = known_labels(self.labels, observed, self.tally)
        self._check()

    def _check(self) -> None:
        """Raises ValueError if no label is left."""
        if self.name and not self.labels:
            reasons = self.tally.reasons(self.tally.rejected)
            why = "; ".join(reasons) or "it has no rows"
            raise ValueError(f"{self.name} has no label that can be used: {why}")

    def facts(self) -> dict[str, Any]:
        """How many labels are used and refused, as plain data."""
        return {
            "file": self.name,
            "used": len(self.labels),
            "refused": dict(self.tally.rejected),
            "first": self.tally.first,
            "notes": self.tally.notes,
        }


@dataclass
class JudgedHistory:
    """A history, or a shard of one, as rule sets have judged it."""

    source: Source  # read to its end
    progress: Progress
    observed: Observed
    alerts: list[
        list[Alert]
    ]  # of each rule set, in their last states, with those in shadow


@dataclass(frozen=True)
class HistoryQuestion:
    """Asks for a history judged by rule sets in one pass, with nothing kept."""

    paths: tuple[str, ...]
    settings: Settings
    rulebooks: tuple[Rulebook, ...]

    def __call__(self, shard: Shard, on_passed: OnPassed) -> JudgedHistory:
        """A shard as the rule sets judge it, without storm brake and budget."""
        source, whole = opened_shard(self.paths, self.settings, shard)
        observed = Observed(source.areas)
        first, *others = self.rulebooks
        judges = [_Judge(source, rulebook, self.settings) for rulebook in others]
        batches = observed.note(source.batches)
        for judge in judges:
            batches = judge.judge(batches)

        with Store(":memory:") as store:
            progress = follow(
                replace(source, batches=batches),
                store,
                source.name,
                every=float("inf"),
                on_progress=passed_of(source, on_passed),
                rulebook=first,
                rules=rules_of(self.settings.voltage_limits),
                has_brakes=False,
                whole=whole,
            )
            alerts = [store.alerts(shadow=True), *(judge.alerts() for judge in judges)]
        read = replace(source, batches=iter(()))
        return JudgedHistory(read, progress, observed, alerts)


class _Judge:
    """An engine that judges the batches that pass by."""

    def __init__(self, source: Source, rulebook: Rulebook, settings: Settings) -> None:
        rules = applied(rulebook, rules_of(settings.voltage_limits))
        self._engine = Engine(
            rules, zone=source.zone, interval=source.interval, has_brakes=False
        )
        areas = {area.area: area for area in source.areas}
        self._engine.enroll(areas[name] for name in sorted(areas))
        self._alerts: dict[str, Alert] = {}

    def judge(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, each after it is judged."""
        for batch in batches:
            changed = [*self._engine.step(batch), *self._engine.shadowed]
            self._alerts.update((alert.id, alert) for alert in changed)
            yield batch

    def alerts(self) -> list[Alert]:
        """The last state of every alert that was not withdrawn, with those in shadow."""
        return [alert for alert in self._alerts.values() if alert.state != "withdrawn"]


def judged(
    paths: Sequence[str],
    rulebooks: Sequence[Rulebook],
    settings: Settings,
    jobs: Jobs,
    *,
    quiet: bool,
) -> JudgedHistory:
    """A history judged by rule sets to its end, with nothing kept; the same for any number of jobs.

    Raises ValueError, with advice, for a source that cannot be used.
    """
    question = HistoryQuestion(tuple(paths), settings, tuple(rulebooks))
    err = Console(stderr=True, highlight=False)
    with ProgressDisplay(err, quiet=quiet) as bar:
        whole = joined(asked(question, jobs, bar))
    if not whole.progress.rows:
        raise nothing_read(whole.source.name, whole.source.tally)
    return whole


def joined(parts: Sequence[JudgedHistory]) -> JudgedHistory:
    """The whole history of all its shards, with storm brake and budget, which span areas."""
    source = joined_source([part.source for part in parts])
    observed = Observed.joined([part.observed for part in parts])
    progress = joined_progress([part.progress for part in parts])
    progress.meter_days = observed.meter_days().get("", 0.0)
    section = section_of(source.areas)
    rule_sets = zip(*(part.alerts for part in parts), strict=True)
    alerts = [braked(chain.from_iterable(each), section) for each in rule_sets]
    return JudgedHistory(source, progress, observed, alerts)


def span_facts(progress: Progress, source: Source) -> dict[str, Any]:
    """What was judged, as plain data."""
    return {
        "source": source.name,
        "meters": progress.meters,
        "meter_days": round(progress.meter_days, 2),
        "rows": progress.rows,
        "from": local_time(progress.first, source.zone),
        "to": local_time(progress.last, source.zone),
    }


def span_sentence(progress: Progress, zone: str, *, chinese: bool) -> str:
    """A sentence on what was judged."""
    first, last = (local_time(at, zone) for at in (progress.first, progress.last))
    if chinese:
        return f"{progress.meters:,}块电能表，{first}至{last}；括号内为90%置信区间"
    return (
        f"{progress.meters:,} meters, {first} to {last}; in brackets, intervals of 90 %"
    )


def refusals(source: Source) -> dict[str, Any]:
    """What was left out of a history, as plain data."""
    return {
        "refused": dict(source.rejected),
        "first": source.tally.first,
        "notes": source.tally.notes,
    }


def refusal_lines(source: Source, file: LabelFile) -> list[str]:
    """Lines on what was left out of the labels and the history."""
    lines = []
    for name, tally in ((file.name, file.tally), (source.name, source.tally)):
        reasons = tally.reasons(tally.rejected)
        lines += [f"refused of {name}: {reason}" for reason in reasons]
        lines += tally.notes
    return lines
