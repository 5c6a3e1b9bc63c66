"""A history judged to answer a question: nothing is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from rich.console import Console

from detectors.engine import Engine
from detectors.policy import braked
from detectors.rulebook import applied, rules_of
from detectors.variants import Variants
from replay.archive.reading import archive_at
from replay.day_scores import DayScores, RuleDay
from replay.history import Source, Tally, nothing_read
from replay.labels import Label, archived_labels, known_labels, read_labels
from replay.near_misses import NearMiss, note_near_rows
from replay.near_scores import NearScore, NearScores, never_raised
from replay.observed import Observed
from replay.score_files import ScoreParts, packed_parts, unpack_parts
from replay.shards import Shard, joined_source
from schemas.alert import Alert
from schemas.rules import Rulebook
from streams.histories import opened_for_jobs, opened_shard, passed_of, section_of
from streams.local.follow import judged_steps
from streams.local.progress import Progress, joined_progress
from streams.local.progress_display import ProgressDisplay
from streams.settings import Settings
from streams.shards import Jobs, OnPassed, asked
from streams.times import local_time


@dataclass
class LabelFile:
    """The labels of a file or archive, and what was refused of them."""

    name: str
    is_chosen: bool = True  # False if a history brought them
    labels: list[Label] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def read(cls, path: str | None, sources: Sequence[str]) -> Self:
        """The labels of a file or archive, else the inspections of the archives among the sources.

        Raises ValueError if no label of a path can be used.
        """
        if path:
            file = cls(path)
            archive = archive_at(path)
            file.labels = (
                archived_labels(archive, file.tally)
                if archive
                else read_labels(Path(path), file.tally)
            )
            file.check(len(file.labels))
            return file

        archives = [archive for each in sources if (archive := archive_at(each))]
        file = cls(" + ".join(archive.name for archive in archives), is_chosen=False)
        for archive in archives:
            file.labels += archived_labels(archive, file.tally)
        return file

    def keep_known(self, observed: Observed) -> None:
        """Keeps the labels of subjects that a history has. Raises ValueError if there is none."""
        self.labels = known_labels(self.labels, observed, self.tally)
        self.check(len(self.labels))

    def check(self, used: int) -> None:
        """Raises ValueError if no label of a chosen file is used."""
        if self.name and self.is_chosen and not used:
            reasons = self.tally.reasons(self.tally.rejected)
            why = "; ".join(reasons) or "it has no rows"
            raise ValueError(f"{self.name} has no label that can be used: {why}")

    def facts(self) -> dict[str, Any]:
        """How many labels are used and refused, as plain data."""
        return {
            "file": self.name if self.labels or self.is_chosen else "",
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
    # of each rule set, in their last states, with those in shadow
    alerts: list[list[Alert]]
    misses: list[NearMiss] = field(default_factory=list)
    highest: list[NearScore] = field(default_factory=list)
    # by the first rule set
    withdrawn: list[Alert] = field(default_factory=list)
    # parts of daily scores, if the question packs them
    packed: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class HistoryQuestion:
    """Asks for a history judged by rule sets in one pass, with nothing kept."""

    paths: tuple[str, ...]
    settings: Settings
    rulebooks: tuple[Rulebook, ...]
    near: str = ""  # the rule whose near misses by the first rulebook are noted
    highest: int = 0  # scores of each rule that are kept where it raised no alert
    scores: str = ""  # a folder for the parts of daily scores; "" for none
    packs_scores: bool = False  # True if the parts come with the answer instead
    source: Source | None = None  # opened already; None if each shard opens its own

    def __call__(self, shard: Shard, on_passed: OnPassed) -> JudgedHistory:
        """A shard as the rule sets judge it, without storm brake and budget."""
        source, whole = opened_shard(
            self.paths, self.settings, shard, source=self.source
        )
        observed = Observed(source.areas)
        variants = self._variants(source)
        by_set: list[dict[str, Alert]] = [{} for _ in self.rulebooks]
        progress = Progress(source.name)
        note = passed_of(source, on_passed)
        near_rows = note_near_rows(variants.lead, self.near) if self.near else None
        kept = _KeptScores(self, variants.lead, shard)

        noted = replace(source, batches=observed.note(source.batches))
        for published in judged_steps(
            noted, variants.step, variants.lead, progress, whole
        ):
            for known, alerts in zip(by_set, published, strict=True):
                known.update((alert.id, alert) for alert in alerts)
            kept.note()
            note(progress)

        read = replace(source, batches=iter(()))
        standing = [_standing(known.values()) for known in by_set]
        misses: list[NearMiss] = []
        if near_rows:
            own = (alert for alert in standing[0] if alert.rule == self.near)
            misses = near_rows.misses(own)
        highest = kept.finish(standing[0])
        return JudgedHistory(
            read,
            progress,
            observed,
            standing,
            misses,
            highest,
            _withdrawn(by_set[0].values()),
            kept.packed(),
        )

    def _variants(self, source: Source) -> Variants:
        """What judges the source by all rule sets, with its master data."""
        rules = rules_of(self.settings.voltage_limits)
        variants = Variants(
            [applied(rulebook, rules) for rulebook in self.rulebooks],
            zone=source.zone,
            interval=source.interval,
            has_brakes=False,
        )
        areas = {area.area: area for area in source.areas}
        variants.enroll(areas[name] for name in sorted(areas))
        return variants


def _withdrawn(alerts: Iterable[Alert]) -> list[Alert]:
    """The alerts that were withdrawn."""
    return [alert for alert in alerts if alert.state == "withdrawn"]


class _KeptScores:
    """The scores that a question wants kept while a shard is judged; costs nothing if it wants none."""

    def __init__(self, question: HistoryQuestion, engine: Engine, shard: Shard) -> None:
        self._count = question.highest
        self._near = NearScores() if question.highest else None
        self._own_folder = TemporaryDirectory() if question.packs_scores else None
        folder = self._own_folder.name if self._own_folder else question.scores
        self._parts = ScoreParts(Path(folder), shard.number) if folder else None
        wanted = self._near or self._parts
        self._scores = DayScores(engine) if wanted else None

    def note(self) -> None:
        """Takes the scores of settled days."""
        if self._scores:
            self._take(self._scores.settled())

    def finish(self, alerts: Iterable[Alert]) -> list[NearScore]:
        """Takes all other scores; the highest ones, if they are asked for."""
        if not self._scores:
            return []
        self._take(self._scores.rest())
        if not self._near:
            return []
        return self._near.highest(self._count, alerts, self._scores)

    def packed(self) -> dict[str, bytes]:
        """The parts of daily scores, if they come with the answer; forgets them."""
        if not self._own_folder:
            return {}
        with self._own_folder as folder:
            return packed_parts(Path(folder))

    def _take(self, of_days: Iterable[RuleDay]) -> None:
        """Keeps the scores of days."""
        if self._near:
            self._near.note(of_days)
        if self._parts:
            self._parts.write(of_days)


def _standing(alerts: Iterable[Alert]) -> list[Alert]:
    """The alerts that were not withdrawn."""
    return [alert for alert in alerts if alert.state != "withdrawn"]


def judged(
    paths: Sequence[str],
    rulebooks: Sequence[Rulebook],
    settings: Settings,
    jobs: Jobs,
    *,
    quiet: bool,
    near: str = "",
    highest: int = 0,
    scores: str = "",
) -> JudgedHistory:
    """A history judged by rule sets to its end, with nothing kept; the same for any number of jobs.

    Notes the near misses of the rule `near`, so many of the `highest` scores of each rule where it raised no alert, and
    in a folder all `scores`, by the first rulebook. Raises ValueError, with advice, for a source that cannot be used.
    """
    question = HistoryQuestion(
        tuple(paths),
        settings,
        tuple(rulebooks),
        near,
        highest,
        scores,
        # the workers of a cluster share no folder
        packs_scores=bool(scores and jobs.scheduler),
        source=opened_for_jobs(paths, settings, jobs),
    )
    err = Console(stderr=True, highlight=False)
    with ProgressDisplay(err, quiet=quiet) as bar:
        parts = asked(question, jobs, bar)
    for part in parts:
        unpack_parts(part.packed, Path(scores))
    whole = joined(parts, highest)
    if not whole.progress.rows:
        raise nothing_read(whole.source.name, whole.source.tally)
    return whole


def joined(parts: Sequence[JudgedHistory], highest: int = 0) -> JudgedHistory:
    """The whole history of all its shards, with storm brake and budget, which span areas."""
    source = joined_source([part.source for part in parts])
    observed = Observed.joined([part.observed for part in parts])
    progress = joined_progress([part.progress for part in parts])
    progress.meter_days = observed.meter_days().get("", 0.0)
    section = section_of(source.areas)
    rule_sets = zip(*(part.alerts for part in parts), strict=True)
    alerts = [braked(chain.from_iterable(each), section) for each in rule_sets]
    misses = sorted(chain.from_iterable(part.misses for part in parts))

    withdrawn = [alert for part in parts for alert in part.withdrawn]
    near = never_raised(
        chain.from_iterable(part.highest for part in parts),
        [*alerts[0], *withdrawn],
        highest,
        progress.last,
    )
    return JudgedHistory(source, progress, observed, alerts, misses, near, withdrawn)


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
    """Lines on inspections that were taken as labels, and on what was left out of the labels and the history."""
    lines = []
    if file.labels and not file.is_chosen:
        lines.append(f"labels: {len(file.labels):,} inspections of {file.name}")
    for name, tally in ((file.name, file.tally), (source.name, source.tally)):
        reasons = tally.reasons(tally.rejected)
        lines += [f"refused of {name}: {reason}" for reason in reasons]
        lines += tally.notes
    return lines
