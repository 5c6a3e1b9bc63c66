"""The local runner: one process, no broker; alerts and progress in one SQLite file.

A transaction writes the alerts since the last one, the engine's state and the progress in the source. A process that
is killed at any moment goes on where it stopped, and ends with the same alerts. Time is the source's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console

from detectors.publication import SHADOW_STATUS
from detectors.rule import Rule
from detectors.rulebook import EMPTY_RULEBOOK, applied, rules_of
from replay.archive.manifest import read_manifest
from replay.archive.reading import archive_at
from replay.archive.selection import ArchivedRows
from replay.archive.storage import is_url, storage_of
from replay.history import Source, nothing_read
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.rules import Rulebook
from streams.json_output import show_json
from streams.lines import gravest, line
from streams.local.follow import CHECKPOINT_SECONDS, follow
from streams.local.progress import Progress
from streams.local.progress_display import ProgressDisplay
from streams.local.store import STORE_ADVICE, Store, StoreError
from streams.local.summary import show_summary, summarise
from streams.report.page import Picture, Watched, page, pictured
from streams.report.subjects import JudgedBy
from streams.settings import Settings


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
) -> None:
    """Watches files, folders or a simulated town; prints the result and the `top` alerts; writes the report.

    The settings' zone and interval hold if the source does not name its own. Raises ValueError, with advice, for a
    source or a store that cannot be used.
    """
    out = Console(highlight=False)
    err = Console(stderr=True, highlight=False)
    rules = rules_of(settings.voltage_limits)
    with Store(store) as kept, kept.claimed():
        source = opened(paths, settings)
        name = identity(paths)
        _show_start(kept, kept.progress(name), source, rulebook, err)
        with ProgressDisplay(err, source, quiet=as_json) as bar:
            progress = follow(
                source,
                kept,
                name,
                every=every,
                on_progress=bar,
                notify=err.print,
                rulebook=rulebook,
                rules=rules,
            )
        if not progress.rows:
            raise nothing_read(source.name, source.tally)

        judged = kept.alerts(shadow=True)
        alerts = [alert for alert in judged if alert.suppressed_by != SHADOW_STATUS]
        if report:
            pictures = _pictures(alerts, source, paths, applied(rulebook, rules))
            html = page(_report_input(progress, alerts, source, pictures))
            report.write_text(html, encoding="utf-8")
        summary = summarise(progress, judged, source)
        if as_json:
            show_json(summary | {"list": judged})
            return

        show_summary(summary, out)
        for alert in gravest(alerts, top):
            out.print(line(alert, ZoneInfo(source.zone), chinese=False), soft_wrap=True)
        if report:
            out.print(f"The report, with the curves: [bold]{report}[/]", soft_wrap=True)


def opened(paths: Sequence[str], settings: Settings) -> Source:
    """The source of the paths, with a zone and an interval."""
    source = open_sources(paths)
    return replace(
        source,
        zone=source.zone or settings.zone,
        interval=source.interval or settings.interval,
    )


def _show_start(
    store: Store, before: Progress, source: Source, rulebook: Rulebook, console: Console
) -> None:
    """Prints how much of a source the store has already. Raises StoreError if all was judged by other rules."""
    if before.batches and store.rulebook() != rulebook:
        if before.done:
            raise StoreError(
                f"{store.path} holds all of {source.name} as other rules judged it; {STORE_ADVICE}"
            )
        console.print(
            f"{store.path} holds {before.rows:,} rows as other rules judged them; these hold for what follows"
        )
    if before.done:
        console.print(f"{store.path} holds all of {source.name}: nothing new to read")
    elif before.batches:
        console.print(f"going on after {before.rows:,} rows that {store.path} holds")


def _pictures(
    alerts: Sequence[Alert],
    source: Source,
    paths: Sequence[str],
    rules: Sequence[Rule],
) -> list[Picture]:
    """Alerts with their curves, from a second reading of the source, or of some rows if it is an archive."""
    archive = archive_at(paths[0]) if len(paths) == 1 else None
    history = ArchivedRows(archive) if archive else open_sources(paths).batches
    judged_by = JudgedBy(source.areas, rules, source.zone, source.interval)
    shown = gravest(alerts, len(alerts))
    return pictured(shown, history, judged_by)


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
