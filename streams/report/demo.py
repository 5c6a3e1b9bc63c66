"""The demo: a simulated town at high speed, with faults planted in it; what is found, live, and what was missed."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from detectors.engine import Engine
from detectors.rulebook import EMPTY_RULEBOOK, applied
from replay.labels import planted_labels, write_labels
from replay.scoring import Score, score
from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.rules import Rulebook
from streams.report.cards import SEVERITY_TEXTS
from streams.report.page import (
    Simulated,
    Watched,
    page,
    pictured,
    waited,
)
from streams.report.subjects import JudgedBy

SCREEN_ALERTS = 14  # alerts on the screen
REDRAW_SECONDS = 0.12  # between two pictures of the screen
PRINTED_PER_RULE = 3  # alerts of a rule that are printed without a terminal
SEVERITY_STYLES = {1: "bold red", 2: "yellow", 3: "cyan", 4: "dim"}


def demo(
    meters: int = 3000,
    days: int = 12,
    seed: int = 1,
    report: Path = Path("meterwatch-demo.html"),
    rulebook: Rulebook = EMPTY_RULEBOOK,
    labels: Path | None = None,
) -> None:
    """Watches a simulated town, shows the alerts, writes the report. Raises ValueError for an impossible town.

    Writes what is planted as labels, if a file is named.
    """
    console = Console(highlight=False)
    town = Town(meters, days, seed)
    if labels:
        write_labels(labels, planted_labels([*town.planted, *town.decoys]))
    watch = Watch(town, rulebook)
    console.print(
        f"[bold]meterwatch[/] watches a simulated town: {len(town.grid):,} meters, {days} days of quarter-hours, "
        f"{len(town.planted)} planted faults",
        soft_wrap=True,
    )

    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            drawn = 0.0
            for _ in watch.steps():
                now = time.monotonic()
                if now - drawn > REDRAW_SECONDS:
                    live.update(watch.screen(console.width), refresh=True)
                    drawn = now
    else:
        printed: Counter[str] = Counter()
        for alerts in watch.steps():
            for alert in alerts:
                printed[alert.rule] += 1
                if printed[alert.rule] <= PRINTED_PER_RULE:
                    console.print(watch.line(alert), soft_wrap=True)
    result = score(town.planted, watch.alerts.values())
    _show(watch, result, console)
    report.write_text(page(watch.report(result)), encoding="utf-8")
    console.print(f"The report, with the curves: [bold]{report}[/]", soft_wrap=True)


class Watch:
    """The engine at work on a town, and the alerts so far."""

    def __init__(self, town: Town, rulebook: Rulebook = EMPTY_RULEBOOK) -> None:
        self.town = town
        self._zone = ZoneInfo(town.zone)
        self._rules = applied(rulebook)
        self._engine = Engine(self._rules, zone=town.zone, interval=town.interval)
        self._engine.enroll(town.areas)
        self.alerts: dict[str, Alert] = {}  # by id
        self._latest: deque[Alert] = deque(maxlen=SCREEN_ALERTS)
        self._raised: Counter[int] = Counter()  # alerts by severity
        self.waits: list[float] = []  # seconds from a batch of readings to its alerts
        self.readings = 0
        self._at = town.start
        self._started = time.monotonic()

    def steps(self) -> Iterator[list[Alert]]:
        """The alerts of each batch that are shown for the first time."""
        for batch in self.town.batches():
            began = time.monotonic()
            alerts = self._engine.step(batch)
            if isinstance(batch, Readings):
                self.waits.append(time.monotonic() - began)
                self.readings += len(batch)
                self._at = int(batch.at[-1])

            last = {alert.id: alert for alert in alerts}
            new = [
                alert
                for alert in last.values()
                if alert.id not in self.alerts and not alert.suppressed_by
            ]
            self.alerts |= last
            self._raised.update(alert.severity for alert in new)
            self._latest.extend(new)
            yield new
        self.seconds = time.monotonic() - self._started

    def _local_time(self, at: int) -> str:
        """A time in the town's zone."""
        return datetime.fromtimestamp(at, self._zone).strftime("%m-%d %H:%M")

    def line(self, alert: Alert) -> Text:
        """An alert as a line."""
        return Text.assemble(
            (f"{self._local_time(alert.raised)}  ", "dim"),
            (f"{alert.severity}  {alert.rule:24} ", SEVERITY_STYLES[alert.severity]),
            f"{f'{alert.area} {alert.subject}':14} ",
            alert.en,
        )

    def screen(self, width: int) -> RenderableType:
        """The screen of the terminal while the watch runs."""
        rate = self.readings / (time.monotonic() - self._started)
        middle, high = np.percentile(self.waits or [0], (50, 99)) * 1000
        pace = Text.assemble(
            (self._local_time(self._at), "bold"),
            f"   {self.readings:,} readings   ",
            (f"{rate:,.0f}/s", "bold green"),
            f"   evidence to alert {middle:.0f} ms, p99 {high:.0f} ms",
        )
        raised = Text.assemble(
            *(
                (f"● {self._raised[severity]} {SEVERITY_TEXTS[severity]}   ", style)
                for severity, style in SEVERITY_STYLES.items()
            )
        )
        bar = ProgressBar(
            total=self.town.end - self.town.start,
            completed=self._at - self.town.start,
            width=width,
        )

        table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False)
        for name in ("when", "", "rule", "where"):
            table.add_column(name, no_wrap=True)
        table.add_column("what", ratio=1, no_wrap=True, overflow="ellipsis")
        for alert in reversed(self._latest):
            style = SEVERITY_STYLES[alert.severity]
            table.add_row(
                self._local_time(alert.raised),
                f"[{style}]●[/]",
                f"[{style}]{alert.rule}[/]",
                f"{alert.area} {alert.subject}",
                alert.en,
            )
        return Group(pace, raised, bar, table)

    def report(self, result: Score) -> Watched:
        """The input of the report; reads the town a second time for the curves."""
        shown = [
            *(finding.alert for finding in result.findings if finding.alert),
            *result.false,
            *result.true,
        ]
        judged_by = JudgedBy(
            self.town.areas, self._rules, self.town.zone, self.town.interval
        )
        pictures = pictured(shown, self.town.batches(), judged_by)
        middle, high = np.percentile(self.waits, (50, 99)) * 1000

        return Watched(
            title="What the watch saw in a simulated town",
            zone=self.town.zone,
            start=self.town.start,
            end=self.town.end,
            meters=len(self.town.grid),
            meter_days=len(self.town.grid) * self.town.days,
            readings=self.readings,
            seconds=self.seconds,
            counts=self._engine.counts,
            alerts=[*result.true, *result.false, *result.suppressed],
            pictures=pictures,
            simulated=Simulated(result, self.town.decoys, (middle, high)),
        )


def _show(watch: Watch, result: Score, console: Console) -> None:
    """Prints the planted faults against the alerts, and the false alerts."""
    console.print(_faults_table(result))
    missed = len(result.findings) - result.found
    false = len(result.false)
    console.print(
        f"{result.found} of {len(result.findings)} planted faults found, {missed} missed; "
        f"{false} of {len(result.true) + false} alerts false, {len(result.suppressed)} suppressed by policy.",
        soft_wrap=True,
    )

    truths = {decoy.subject: decoy.note for decoy in watch.town.decoys}
    for alert in result.false[:10]:
        truth = truths.get(alert.subject, "nothing was planted there")
        console.print(
            Text.assemble(
                ("false: ", "bold red"),
                watch.line(alert),
                (f" In truth: {truth}.", "dim"),
            ),
            soft_wrap=True,
        )

    middle, high = np.percentile(watch.waits, (50, 99)) * 1000
    console.print(
        f"{watch.readings:,} readings in {watch.seconds:.1f} s: {watch.readings / watch.seconds:,.0f} a second; "
        f"evidence to alert {middle:.0f} ms, p99 {high:.0f} ms (an hour of the town at a time).",
        soft_wrap=True,
    )


def _faults_table(result: Score) -> Table:
    """How often each kind of fault was planted and found, by which rules and after how long."""
    days_by_kind: dict[str, list[float]] = {}
    rules_by_kind: dict[str, set[str]] = {}
    for finding in result.findings:
        kind = finding.planted.kind
        days_by_kind.setdefault(kind, []).append(finding.days)
        rules = rules_by_kind.setdefault(kind, set())
        if finding.alert:
            rules.add(finding.alert.rule)

    heads = ("planted", "times", "found", "found by", "after")
    table = Table(*heads, box=SIMPLE_HEAD, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    for kind, days in days_by_kind.items():
        found = [delay for delay in days if not np.isnan(delay)]
        count = str(len(found))
        table.add_row(
            kind.replace("_", " "),
            str(len(days)),
            count if len(found) == len(days) else f"[bold red]{count}[/]",
            ", ".join(sorted(rules_by_kind[kind])),
            waited(float(np.median(found))) if found else "[bold red]missed[/]",
        )
    return table
