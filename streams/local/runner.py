"""The local runner: no broker; alerts and progress in one SQLite file.

A transaction writes the alerts since the last one, the engine's state and the progress in the source. A process that
is killed at any moment goes on where it stopped, and ends with the same alerts. Time is the source's own. Several
processes judge a shard each; storm brake and budget, which span areas, are decided in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console

from detectors.policy import braked
from detectors.rule import SHADOW_STATUS, Rule
from detectors.rulebook import EMPTY_RULEBOOK, applied, rules_of
from replay.archive.manifest import read_manifest
from replay.archive.storage import is_url, storage_of
from replay.history import Source, nothing_read
from replay.mapping.file import read_mapping
from replay.mapping.files import MAPPING_ENDING, mapped_files
from replay.shards import Shard, joined_source
from schemas.alert import Alert
from schemas.rules import Rulebook
from streams.histories import (
    opened_for_jobs,
    opened_shard,
    passed_of,
    read_again,
    section_of,
)
from streams.json_output import show_json
from streams.lines import gravest, line
from streams.local.follow import CHECKPOINT_SECONDS, follow
from streams.local.progress import Progress, joined_progress
from streams.local.progress_display import ProgressDisplay
from streams.local.store import STORE_ADVICE, Store, StoreError, claimed
from streams.local.summary import show_summary, summarise
from streams.report.page import Picture, Watched, page, pictured
from streams.report.subjects import JudgedBy
from streams.settings import Settings
from streams.shards import ONE_JOB, Jobs, OnPassed, asked, with_count

_STANDARD_ERROR = Console(stderr=True, highlight=False)


def identity(paths: Sequence[str]) -> str:
    """The name of the paths' present content: a file that changes is another source."""
    names = ":".join(paths)
    lines = [names]
    for given in paths:
        if is_url(given):
            archived = read_manifest(storage_of(given))
            lines += [file.name for file in archived.files]
            continue

        path = Path(given)
        files = [path] if path.exists() else []
        if path.is_dir():
            files = sorted(path.rglob("*"))
        elif files and path.suffix.lower() == MAPPING_ENDING:
            files += mapped_files(path, read_mapping(path))
        for file in files:
            stat = file.stat()
            lines.append(f"{file} {stat.st_size} {stat.st_mtime_ns}")
    digest = blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
    return f"{names} {digest}"


def run(
    paths: Sequence[str],
    store: Path,
    settings: Settings,
    *,
    as_json: bool = False,
    every: float = CHECKPOINT_SECONDS,
    rulebook: Rulebook = EMPTY_RULEBOOK,
    top: int = 0,
    report: Path | None = None,
    jobs: Jobs = ONE_JOB,
) -> None:
    """Watches files, folders or a simulated town; prints the result and the `top` alerts; writes the report.

    The settings' zone and interval hold if the source does not name its own. The `jobs` judge a shard each, and the one
    store has it all. Raises ValueError, with advice, for a source or a store that cannot be used.
    """
    with claimed(store):
        watch = _Watch(tuple(paths), store, settings, rulebook, every, identity(paths))
        watched = _watched(watch, jobs, quiet=as_json)
        source, progress = watched.source, watched.progress
        if not progress.rows:
            raise nothing_read(source.name, source.tally)

        judged = _braked_alerts(store)
        alerts = [alert for alert in judged if alert.suppressed_by != SHADOW_STATUS]
        if report:
            rules = applied(rulebook, rules_of(settings.voltage_limits))
            pictures = _pictures(alerts, source, paths, rules)
            html = page(_report_input(progress, alerts, source, pictures))
            report.write_text(html, encoding="utf-8")
        summary = summarise(progress, judged, source)
        if as_json:
            show_json(summary | {"list": judged})
            return

        out = Console(highlight=False)
        show_summary(summary, out)
        for alert in gravest(alerts, top):
            out.print(line(alert, ZoneInfo(source.zone), chinese=False), soft_wrap=True)
        if report:
            out.print(f"The report, with the curves: [bold]{report}[/]", soft_wrap=True)


class _Watched(NamedTuple):
    """A source, or a shard of one, that was read to its end."""

    source: Source
    progress: Progress
    packed: bytes = b""  # the store of a worker that cannot write to the one store


@dataclass(frozen=True)
class _Watch:
    """Asks for a source judged to its end, with alerts and progress in a store."""

    paths: tuple[str, ...]
    store: Path
    settings: Settings
    rulebook: Rulebook
    every: float
    name: str  # of the source in the store
    known: Mapping[str, int] = field(default_factory=dict)  # areas' shards
    opened: Source | None = None  # opened already; None if each shard opens its own
    packed: bytes = b""  # the store for workers of a cluster, who share no file

    def __call__(self, shard: Shard, on_passed: OnPassed) -> _Watched:
        """Judges a shard, without storm brake and budget. Raises StoreError."""
        if not self.packed:
            return self._judged(self.store, shard, on_passed)
        with TemporaryDirectory() as folder:
            store = Path(folder) / self.store.name
            store.write_bytes(self.packed)
            watched = self._judged(store, shard, on_passed)
            return watched._replace(packed=store.read_bytes())

    def _judged(self, store: Path, shard: Shard, on_passed: OnPassed) -> _Watched:
        """Judges a shard with progress and alerts in a store. Raises StoreError."""
        source, whole = opened_shard(
            self.paths, self.settings, shard, self.known, self.opened
        )
        with Store(store, shard) as kept:
            progress = follow(
                source,
                kept,
                self.name,
                every=self.every,
                on_progress=passed_of(source, on_passed),
                notify=_STANDARD_ERROR.print if shard.number == 0 else lambda _: None,
                rulebook=self.rulebook,
                rules=rules_of(self.settings.voltage_limits),
                has_brakes=False,
                whole=whole,
            )
        return _Watched(replace(source, batches=iter(())), progress)


def _watched(watch: _Watch, jobs: Jobs, *, quiet: bool) -> _Watched:
    """The whole source, of all its shards. Raises StoreError, or JobError if a job dies."""
    jobs = with_count(jobs)
    with Store(watch.store) as kept:
        known = kept.divided(jobs.count)
        numbers = range(jobs.count)
        _show_start([kept.of(Shard(number, jobs.count)) for number in numbers], watch)
        packed = kept.packed() if jobs.scheduler else b""
    # the store is closed: a connection must not pass into another process
    ready = opened_for_jobs(watch.paths, watch.settings, jobs)
    question = replace(watch, known=known, opened=ready, packed=packed)
    with ProgressDisplay(_STANDARD_ERROR, quiet=quiet) as bar:
        parts = asked(question, jobs, bar)
    for number, part in enumerate(parts):
        if part.packed:
            _take_in(watch.store, Shard(number, jobs.count), part.packed)

    source = joined_source([part.source for part in parts])
    return _Watched(source, joined_progress([part.progress for part in parts]))


def _take_in(store: Path, shard: Shard, packed: bytes) -> None:
    """Takes what a worker has stored of its shard into the one store. Raises StoreError."""
    with TemporaryDirectory() as folder, Store(store, shard) as kept:
        path = Path(folder) / store.name
        path.write_bytes(packed)
        kept.take_in(path)


def _show_start(shards: Sequence[Store], watch: _Watch) -> None:
    """Prints how much of a source a store has already. Raises StoreError if all was judged by other rules."""
    parts = [shard.progress(watch.name) for shard in shards]
    before = joined_progress(parts)
    if not before.batches:
        return

    name = " ".join(watch.paths)
    by_others = any(
        part.batches and shard.rulebook() != watch.rulebook
        for shard, part in zip(shards, parts, strict=True)
    )
    if by_others:
        if before.done:
            raise StoreError(
                f"{watch.store} holds all of {name} as other rules judged it; {STORE_ADVICE}"
            )
        _STANDARD_ERROR.print(
            f"{watch.store} holds {before.rows:,} rows as other rules judged them; these hold for what follows"
        )
    if before.done:
        _STANDARD_ERROR.print(f"{watch.store} holds all of {name}: nothing new to read")
    else:
        _STANDARD_ERROR.print(
            f"going on after {before.rows:,} rows that {watch.store} holds"
        )


def _braked_alerts(path: Path) -> list[Alert]:
    """All alerts of a store, as storm brake and budget have them; their marks are written."""
    with Store(path) as kept:
        section = section_of(kept.areas(of_all_shards=True))
        alerts = braked(kept.alerts(shadow=True), section)
        kept.mark(alerts)
        return alerts


def _pictures(
    alerts: Sequence[Alert],
    source: Source,
    paths: Sequence[str],
    rules: Sequence[Rule],
) -> list[Picture]:
    """Alerts with their curves, from a second reading of the source, or of some rows if it is an archive."""
    judged_by = JudgedBy(source.areas, rules, source.zone, source.interval)
    shown = gravest(alerts, len(alerts))
    return pictured(shown, read_again(paths), judged_by)


def _report_input(
    progress: Progress,
    alerts: Sequence[Alert],
    source: Source,
    pictures: Sequence[Picture],
) -> Watched:
    """The input of the report."""
    counts = {}
    readings = 0
    for kind, outcomes in progress.counts.items():
        for outcome, reasons in outcomes.items():
            for reason, count in reasons.items():
                counts[kind, outcome, reason] = count
                if (kind, outcome) == ("readings", "in"):
                    readings += count

    return Watched(
        title=f"What the watch saw in {source.name}",
        zone=source.zone,
        start=progress.first,
        end=progress.last,
        meters=progress.meters,
        meter_days=progress.meter_days,
        readings=readings,
        seconds=progress.seconds,
        counts=counts,
        alerts=alerts,
        pictures=pictures,
    )
