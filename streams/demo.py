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
from replay.scoring import Score, score
from replay.town import Town
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.rules import Rulebook
from streams.report import SEVERITY_TEXTS, Simulated, Watched, page, pictured, waited

SCREEN_ALERTS = 14  # alarms on the screen
REDRAW_SECONDS = 0.12  # seconds
PRINTED_PER_RULE = 3  # alarms of a rule that are printed where there is no terminal
SEVERITY_STYLES = {1: "bold red", 2: "yellow", 3: "cyan", 4: "dim"}


def demo(
    meters: int = 3000,
    days: int = 12,
    seed: int = 1,
    report: Path = Path("meterwatch-demo.html"),
    rulebook: Rulebook = EMPTY_RULEBOOK,
) -> None:
    """Watch a simulated town, show what is found, write the report. Raises ValueError for a town that cannot be."""
    console = Console(highlight=False)
    town = Town(meters, days, seed)
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
                if (now := time.monotonic()) - drawn > REDRAW_SECONDS:
                    live.update(watch.screen(console.width), refresh=True)
                    drawn = now
    else:
        said: Counter[str] = Counter()
        for alarms in watch.steps():
            for alert in alarms:
                said[alert.rule] += 1
                if said[alert.rule] <= PRINTED_PER_RULE:
                    console.print(watch.line(alert), soft_wrap=True)
    result = score(town.planted, watch.alerts.values())
    _show(watch, result, console)
    report.write_text(page(watch.report(result)), encoding="utf-8")
    console.print(f"The report, with the curves: [bold]{report}[/]", soft_wrap=True)


class Watch:
    """The engine at work on a town, and what it has told so far."""

    def __init__(self, town: Town, rulebook: Rulebook = EMPTY_RULEBOOK) -> None:
        self.town, self._zone = town, ZoneInfo(town.zone)
        self._engine = Engine(applied(rulebook), zone=town.zone, interval=town.interval)
        self._engine.enroll(town.areas)
        self.alerts: dict[str, Alert] = {}
        self._latest: deque[Alert] = deque(maxlen=SCREEN_ALERTS)
        self._raised: Counter[int] = Counter()  # alarms by severity
        self.waits: list[float] = []  # seconds from a batch of readings to its alarms
        self.readings, self._at, self._started = 0, town.start, time.monotonic()

    def steps(self) -> Iterator[list[Alert]]:
        """After every batch, the alarms that are told for the first time."""
        for batch in self.town.batches():
            then = time.monotonic()
            alerts = self._engine.step(batch)
            if isinstance(batch, Readings):
                self.waits.append(time.monotonic() - then)
                self.readings += len(batch)
                self._at = int(batch.at[-1])
            last = {a.id: a for a in alerts}
            alarms = [
                a
                for a in last.values()
                if a.id not in self.alerts and not a.suppressed_by
            ]
            self.alerts |= last
            self._raised.update(a.severity for a in alarms)
            self._latest.extend(alarms)
            yield alarms
        self.seconds = time.monotonic() - self._started

    def _local_time(self, at: int) -> str:
        """A local time."""
        return datetime.fromtimestamp(at, self._zone).strftime("%m-%d %H:%M")

    def line(self, alert: Alert) -> Text:
        """An alarm in a line."""
        return Text.assemble(
            (f"{self._local_time(alert.raised)}  ", "dim"),
            (f"{alert.severity}  {alert.rule:24} ", SEVERITY_STYLES[alert.severity]),
            f"{f'{alert.area} {alert.subject}':14} ",
            alert.en,
        )

    def screen(self, width: int) -> RenderableType:
        """What the terminal shows while it runs."""
        rate = self.readings / (time.monotonic() - self._started)
        middle, high = np.percentile(self.waits or [0], (50, 99)) * 1000
        pace = Text.assemble(
            (self._local_time(self._at), "bold"),
            f"   {self.readings:,} readings   ",
            (f"{rate:,.0f}/s", "bold green"),
            f"   evidence to alarm {middle:.0f} ms, p99 {high:.0f} ms",
        )
        told = Text.assemble(
            *(
                (f"● {self._raised[n]} {SEVERITY_TEXTS[n]}   ", style)
                for n, style in SEVERITY_STYLES.items()
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
        for a in reversed(self._latest):
            style = SEVERITY_STYLES[a.severity]
            cells = (
                f"[{style}]●[/]",
                f"[{style}]{a.rule}[/]",
                f"{a.area} {a.subject}",
                a.en,
            )
            table.add_row(self._local_time(a.raised), *cells)
        return Group(pace, told, bar, table)

    def report(self, result: Score) -> Watched:
        """All that the report needs; reads the town a second time for the curves."""
        shown = [
            *(f.alert for f in result.findings if f.alert),
            *result.false,
            *result.true,
        ]
        pictures = pictured(shown, self.town.areas, self.town.zone, self.town.batches())
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
    """Print what was planted against what was found, and what was false."""
    kinds: dict[str, list[float]] = {}
    for finding in result.findings:
        kinds.setdefault(finding.planted.kind, []).append(finding.days)
    table = Table(
        "planted", "times", "found", "told by", "after", box=SIMPLE_HEAD, pad_edge=False
    )
    table.columns[1].justify = table.columns[2].justify = "right"
    for kind, days in kinds.items():
        rules = {
            f.alert.rule for f in result.findings if f.alert and f.planted.kind == kind
        }
        told = [d for d in days if not np.isnan(d)]
        found = (
            str(len(told)) if len(told) == len(days) else f"[bold red]{len(told)}[/]"
        )
        table.add_row(
            kind.replace("_", " "),
            str(len(days)),
            found,
            ", ".join(sorted(rules)),
            waited(float(np.median(told))) if told else "[bold red]missed[/]",
        )
    console.print(table)
    missed = len(result.findings) - result.found
    false, alarms = len(result.false), len(result.true) + len(result.false)
    console.print(
        f"{result.found} of {len(result.findings)} planted faults found, {missed} missed; "
        f"{false} of {alarms} alarms false, {len(result.suppressed)} held back by policy.",
        soft_wrap=True,
    )
    truth = {decoy.subject: decoy.note for decoy in watch.town.decoys}
    for alert in result.false[:10]:
        console.print(
            Text.assemble(
                ("false: ", "bold red"),
                watch.line(alert),
                (
                    f" In truth: {truth.get(alert.subject, 'nothing was planted there')}.",
                    "dim",
                ),
            ),
            soft_wrap=True,
        )
    middle, high = np.percentile(watch.waits, (50, 99)) * 1000
    console.print(
        f"{watch.readings:,} readings in {watch.seconds:.1f} s: {watch.readings / watch.seconds:,.0f} a second; "
        f"evidence to alarm {middle:.0f} ms, p99 {high:.0f} ms (an hour of the town at a time).",
        soft_wrap=True,
    )
