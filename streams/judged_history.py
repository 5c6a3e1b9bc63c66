"""A history judged to answer a question: nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from detectors.rulebook import rules_of
from replay.archive.reading import archive_at
from replay.history import Source, Tally
from replay.labels import Label, archived_labels, known_labels, read_labels
from replay.observed import Observed
from schemas.alert import Alert
from schemas.rules import Rulebook
from streams.local.follow import follow
from streams.local.progress import Progress
from streams.local.progress_display import ProgressDisplay
from streams.local.store import Store
from streams.settings import Settings
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
            file._check()
            return file

        archives = [archive for each in sources if (archive := archive_at(each))]
        file = cls(" + ".join(archive.name for archive in archives), is_chosen=False)
        for archive in archives:
            file.labels += archived_labels(archive, file.tally)
        return file

    def keep_known(self, observed: Observed) -> None:
        """Keeps the labels of subjects that a history has. Raises ValueError if there is none."""
        self.labels = known_labels(self.labels, observed, self.tally)
        self._check()

    def _check(self) -> None:
        """Raises ValueError if no label is left."""
        if self.name and self.is_chosen and not self.labels:
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


def judged(
    source: Source, rulebook: Rulebook, settings: Settings, *, quiet: bool
) -> tuple[Progress, list[Alert]]:
    """A history judged to its end, with nothing kept: the progress, and the alerts with those in shadow."""
    err = Console(stderr=True, highlight=False)
    with (
        Store(":memory:") as store,
        ProgressDisplay(err, source, quiet=quiet) as bar,
    ):
        progress = follow(
            source,
            store,
            source.name,
            every=float("inf"),
            on_progress=bar,
            rulebook=rulebook,
            rules=rules_of(settings.voltage_limits),
        )
        return progress, store.alerts(shadow=True)


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
