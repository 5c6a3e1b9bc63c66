"""The report: one HTML page that opens offline, with the alerts of a run and their curves.

The report of a simulated town also lists the planted faults and which of them were found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files
from zoneinfo import ZoneInfo

from detectors.curves.contract import TimelineChart
from detectors.rule import ALL_RULES
from replay.archive.selection import ArchivedRows
from replay.scoring import Finding, Score
from replay.simulation.happenings import Planted
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.units import DAY_SECONDS
from streams.lines import gravest, visible
from streams.report.cards import badge, card
from streams.report.charts import chart_of, span_of
from streams.report.evidence import CurveChart, Evidence
from streams.report.subjects import JudgedBy
from streams.times import local_time

LISTED_ALERTS = 100  # alerts in the list
LISTED_FALSE = 40  # false alerts in the list
GRAVE_SEVERITY = 2  # up to this severity somebody drives out soon
Picture = tuple[Alert, CurveChart | TimelineChart]


@dataclass(frozen=True)
class Simulated:
    """The truth about a simulated town, and the score of the run."""

    score: Score
    decoys: Sequence[Planted]
    step_ms: tuple[float, float]  # median and 99th percentile


@dataclass(frozen=True)
class Watched:
    """The figures, alerts and pictures of one run."""

    title: str
    zone: str
    start: int
    end: int
    meters: int
    meter_days: float  # sum over all meters of the days they were watched
    readings: int
    seconds: float
    counts: Mapping[tuple[str, str, str], int]  # rows by kind, outcome and reason
    alerts: Sequence[Alert]  # the last state of each
    pictures: Sequence[Picture]
    simulated: Simulated | None = None

    @property
    def shown(self) -> list[Alert]:
        """The alerts that no policy suppresses."""
        return [alert for alert in self.alerts if not alert.suppressed_by]

    def rate(self, count: int) -> float:
        """`count` alerts per 1,000 meters and day; NaN if no meter was watched."""
        return 1000 * count / self.meter_days if self.meter_days else float("nan")

    @property
    def days(self) -> float:
        """Days that the run covers, an hour at least."""
        return max((self.end - self.start) / DAY_SECONDS, 1 / 24)


def pictured(
    alerts: Iterable[Alert],
    history: Iterable[Batch] | ArchivedRows,
    judged_by: JudgedBy,
) -> list[Picture]:
    """The first of the alerts of each rule with its picture, from another reading of the history."""
    first: dict[str, Alert] = {}
    for alert in alerts:
        first.setdefault(alert.rule, alert)

    evidence = Evidence(first.values(), judged_by)
    evidence.gather(history)

    return [
        (alert, found)
        for alert in first.values()
        if (found := evidence.picture(alert)) is not None
    ]


def page(run: Watched) -> str:
    """The whole HTML page."""
    town = run.simulated
    opening = _of_a_town(run, town) if town else [_header(run), _alerts_table(run)]
    sections = [*opening, _evidence(run), _by_rule(run), _rows(run)]
    caveat = (
        " The town is simulated: interval means, one transformer an area, lines that lose 2 to 3.5 %, one reading in "
        "two hundred lost. What is found here shows that the rules work as written, not how often a real town will "
        "trouble them."
    )

    style = files("streams.report").joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.title)}</title><style>{style}</style>"
        f"</head><body><main>{''.join(sections)}"
        f"<footer>Alerts suspect; a person decides.{caveat if town else ''}</footer></main></body></html>"
    )


def _of_a_town(run: Watched, town: Simulated) -> list[str]:
    return [_town_header(run, town), _planted(run, town), _false(run, town)]


def _header(run: Watched) -> str:
    shown = len(run.shown)
    standing = sum(alert.state == "raised" for alert in run.shown)
    grave = sum(alert.severity <= GRAVE_SEVERITY for alert in run.shown)
    pace = run.readings / max(run.seconds, 1e-9) / 1000

    lede = (
        f"{run.meters:,} meters and {run.readings:,} readings of {run.days:,.0f} days. {shown:,} alerts were shown, of "
        f"which {standing:,} still stand; {len(run.alerts) - shown:,} more were suppressed by policy."
    )
    figures = (
        (f"{grave:,}", "alerts for the same day or within 3 days"),
        (f"{shown:,}", "alerts shown in all"),
        (f"{run.rate(shown):.2f}", "shown per 1,000 meters and day"),
        (f"{pace:,.1f} k/s", "readings, one process"),
    )
    return _opening(run.title, lede, figures)


def _opening(title: str, lede: str, figures: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>"
        for value, name in figures
    )
    return (
        f'<p class="kicker">meterwatch</p><h1>{escape(title)}</h1><p class="lede">{escape(lede)}</p>'
        f'<ul class="figures">{items}</ul>'
    )


def _alerts_table(run: Watched) -> str:
    """The gravest alerts, a row each."""
    if not run.shown:
        return "<h2>Alerts</h2><p class=about>None.</p>"

    rows = []
    for alert in gravest(run.shown, LISTED_ALERTS):
        title = _whole(ALL_RULES[alert.rule].title[0])
        place = _whole(visible(f"{alert.area} {alert.subject}"))
        raised = _whole(local_time(alert.raised, run.zone))
        rows.append(
            (
                badge(alert),
                f"{title}<small>{place}</small>",
                f"{raised}<small>{escape(alert.state)}</small>",
                escape(visible(alert.en)),
            )
        )
    heads = ("how soon", "what and where", "raised", "what it said")
    more = _more(len(run.shown), LISTED_ALERTS)
    return f"<h2>Alerts</h2><p class=about>The gravest first.</p>{_table(heads, rows)}{more}"


def _more(count: int, listed: int) -> str:
    """How many of `count` alerts are not listed; nothing if all are."""
    return f"<p class=about>and {count - listed:,} more</p>" if count > listed else ""


def _town_header(run: Watched, town: Simulated) -> str:
    score = town.score
    planted = len(score.findings)
    missed = planted - score.found
    false = len(score.false)
    if false == 0:
        verdict = "no alert was"
    elif false == 1:
        verdict = "1 alert was"
    else:
        verdict = f"{false} alerts were"

    lede = (
        f"{run.meters:,} meters sent {run.readings:,} readings in {run.days:.0f} simulated days. Of {planted} "
        f"planted faults {score.found if missed else 'all'} were found{f', {missed} were missed' if missed else ''}; "
        f"{verdict} false."
    )
    noun = "alert" if false == 1 else "alerts"
    figures = (
        (f"{score.found} of {planted}", "planted faults found"),
        (f"{false}", f"false {noun} of {len(score.true) + false} shown"),
        (f"{run.readings / run.seconds / 1000:,.0f} k/s", "readings, one process"),
        (
            f"{town.step_ms[0]:.0f} · {town.step_ms[1]:.0f} ms",
            "to judge an hour of the town, median · p99",
        ),
    )
    return _opening(run.title, lede, figures)


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> str:
    """A table of cells that are HTML already; the columns in `numbers` hold numbers."""
    right = set(numbers)
    classes = [' class="number"' if k in right else "" for k in range(len(heads))]

    head = "".join(
        f"<th{kind}>{escape(name)}</th>"
        for name, kind in zip(heads, classes, strict=True)
    )
    body = ""
    for row in rows:
        cells = zip(row, classes, strict=True)
        body += f"<tr>{''.join(f'<td{kind}>{cell}</td>' for cell, kind in cells)}</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _planted(run: Watched, town: Simulated) -> str:
    """The planted faults in order of time, each with the alert that found it."""
    findings = sorted(
        town.score.findings,
        key=lambda finding: (finding.planted.start, finding.planted.kind),
    )
    rows = []
    for finding in findings:
        fault = finding.planted
        kind = escape(fault.kind.replace("_", " "))
        if finding.alert:
            found = (_whole(finding.alert.rule), waited(finding.days))
        else:
            found = ('<span class="missed">missed</span>', "")
        rows.append(
            (
                f"{kind}<small>{escape(fault.note)}</small>",
                f'{escape(fault.area)}<small class="nowrap">{escape(fault.subject)}</small>',
                _strip(run, finding),
                *found,
            )
        )

    heads = ("planted", "where", "the days", "found by", "after")
    return (
        "<h2>Planted against found</h2><p class=about>Each strip is the whole time; shaded while the fault lasted, "
        "the dot is the evidence that raised the first alert.</p>"
        + _table(heads, rows, (4,))
    )


def waited(days: float) -> str:
    """A number of days in words.

    >>> waited(1 / 96), waited(0.5), waited(3.25)
    ('15 min', '12 h', '3.2 days')
    """
    if days < 1 / 12:
        return f"{days * 1440:.0f} min"
    if days < 2:
        return f"{days * 24:.0f} h"
    return f"{days:.1f} days"


def _whole(text: str) -> str:
    return f'<span class="nowrap">{escape(text)}</span>'


def _strip(run: Watched, finding: Finding) -> str:
    def across(at: float) -> float:
        return 180 * min(max((at - run.start) / (run.end - run.start), 0), 1)

    fault = finding.planted
    begin, end = across(fault.start), across(fault.end)
    dot = ""
    if finding.alert:
        dot = f'<circle cx="{across(finding.alert.raised):.1f}" cy="7" r="3.2"/>'
    return (
        '<svg class="strip" viewBox="0 0 180 14"><line x1="0" y1="7" x2="180" y2="7"/>'
        f'<rect x="{begin:.1f}" y="3" width="{max(end - begin, 2):.1f}" height="8" rx="2"/>{dot}</svg>'
    )


def _false(run: Watched, town: Simulated) -> str:
    score = town.score
    truths = {decoy.subject: decoy.note for decoy in town.decoys}
    about = (
        f"{len(score.true)} of the {len(score.true) + len(score.false)} alerts show a planted fault or its "
        f"consequences. {len(score.suppressed)} more were suppressed by policy."
    )
    if not score.false:
        return f"<h2>False alerts</h2><p class=about>None. {about}</p>"

    rows = [
        (
            _whole(alert.rule),
            _whole(f"{alert.area} {alert.subject}"),
            _whole(_day_and_time(alert.raised, run.zone)),
            escape(alert.en),
            escape(truths.get(alert.subject, "nothing was planted there")),
        )
        for alert in score.false[:LISTED_FALSE]
    ]
    heads = ("rule", "where", "raised", "what it said", "in truth")
    more = _more(len(score.false), LISTED_FALSE)
    return f"<h2>False alerts</h2><p class=about>{about}</p>{_table(heads, rows)}{more}"


def _evidence(run: Watched) -> str:
    """A card with picture and sentences for each pictured alert."""
    cards = []
    for alert, picture in run.pictures:
        chart = chart_of(picture, span_of(alert), run.zone, run.end)
        raised = _day_and_time(alert.raised, run.zone)
        cards.append(card(alert, chart, [raised]))

    return (
        "<h2>The evidence</h2><p class=about>The first alert of each kind with what it was judged on. Shaded while the "
        f"alert stood, dashed where the line is.</p><div class=cards>{''.join(cards)}</div>"
    )


def _by_rule(run: Watched) -> str:
    """How many alerts of each rule were shown, were false and were suppressed."""
    shown = Counter(alert.rule for alert in run.shown)
    suppressed = Counter(alert.rule for alert in run.alerts if alert.suppressed_by)
    false: Counter[str] | None = None
    if run.simulated:
        false = Counter(alert.rule for alert in run.simulated.score.false)

    rows = [
        (
            f"{escape(ALL_RULES[rule].title[0])} <span class=soft>{escape(rule)}</span>",
            f"{shown[rule]:,}",
            *([] if false is None else [f"{false[rule]:,}"]),
            f"{suppressed[rule]:,}",
            f"{run.rate(shown[rule]):.3f}",
        )
        for rule, _ in (shown + suppressed).most_common()
    ]
    heads = (
        "rule",
        "shown",
        *([] if false is None else ["of these false"]),
        "suppressed",
        "shown per 1,000 meters and day",
    )
    return f"<h2>Alerts by rule</h2>{_table(heads, rows, range(1, len(heads)))}"


def _rows(run: Watched) -> str:
    """How many rows of each kind had which outcome."""
    outcomes = ("in", "judged", "rejected", "duplicate", "late", "implausible")
    counts: Counter[tuple[str, str]] = Counter()
    for (kind, outcome, _), count in run.counts.items():
        counts[kind, outcome] += count

    kinds = sorted({kind for kind, outcome, _ in run.counts if outcome == "in"})
    rows = [
        (escape(kind), *(f"{counts[kind, outcome]:,}" for outcome in outcomes))
        for kind in kinds
    ]
    return (
        "<h2>Every row is accounted for</h2><p class=about>Rows in are rows judged, rejected, met twice or too late. "
        "Single values that are implausible are left out of the judgement and counted beside.</p>"
        + _table(("kind", *outcomes[:-1], "implausible values"), rows, range(1, 7))
    )


def _day_and_time(at: float, zone: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%-d %b %H:%M")
