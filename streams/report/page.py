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

import numpy as np

from detectors.rule import ALL_RULES
from replay.scoring import Finding, Score
from replay.simulation.happenings import Planted
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.master import Area
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from streams.lines import gravest, visible
from streams.report.evidence import Curve, Evidence, TimelineChart, TimelineSpan
from streams.times import local_time

CHART_WIDTH, CHART_HEIGHT = 560.0, 212.0
LEFT_MARGIN, RIGHT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN = 46.0, 6.0, 26.0, 22.0
LISTED_ALERTS = 100  # alerts in the list
LISTED_FALSE = 40  # false alerts in the list
GRAVE_SEVERITY = 2  # up to this severity somebody drives out soon
TIME_STEPS = tuple(hours * HOUR_SECONDS for hours in (1, 3, 6, 12, 24, 48, 96))
SEVERITY_TEXTS = {1: "same day", 2: "within 3 days", 3: "batch", 4: "information"}


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
    pictures: Sequence[tuple[Alert, Curve | TimelineChart]]
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
    alerts: Iterable[Alert], areas: Iterable[Area], zone: str, batches: Iterable[Batch]
) -> list[tuple[Alert, Curve | TimelineChart]]:
    """The first of the alerts of each rule with its picture, from another reading of the history."""
    first: dict[str, Alert] = {}
    for alert in alerts:
        first.setdefault(alert.rule, alert)

    evidence = Evidence(first.values(), areas, zone)
    for batch in batches:
        evidence.collect(batch)

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
                _badge(alert),
                f"{title}<small>{place}</small>",
                f"{raised}<small>{escape(alert.state)}</small>",
                escape(visible(alert.en)),
            )
        )
    heads = ("how soon", "what and where", "raised", "what it said")
    more = _more(len(run.shown), LISTED_ALERTS)
    return f"<h2>Alerts</h2><p class=about>The gravest first.</p>{_table(heads, rows)}{more}"


def _badge(alert: Alert) -> str:
    return f'<span class="badge s{alert.severity}">{escape(SEVERITY_TEXTS[alert.severity])}</span>'


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
        en, zh = ALL_RULES[alert.rule].title
        section = "section" if alert.kind == "overdue" else "area"
        places = [f"{section} {alert.area}", alert.subject]
        where = " · ".join(
            filter(None, [*places, _day_and_time(alert.raised, run.zone)])
        )
        cards.append(
            f'<figure class="card"><header><h3>{escape(en)}<span lang="zh">{escape(zh)}</span></h3>'
            f"{_badge(alert)}</header>"
            f'<p class="where">{escape(where)}</p>{_chart_of(picture, alert, run)}'
            f'<p class="says">{escape(alert.en)}</p>'
            f'<p class="zh" lang="zh">{escape(alert.zh)}</p></figure>'
        )

    return (
        "<h2>The evidence</h2><p class=about>The first alert of each kind with what it was judged on. Shaded while the "
        f"alert stood, dashed where the line is.</p><div class=cards>{''.join(cards)}</div>"
    )


def _chart_of(picture: Curve | TimelineChart, alert: Alert, run: Watched) -> str:
    if isinstance(picture, Curve):
        return _curve(picture, alert, run.zone)
    return _timeline(picture, alert, run)


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


class _Axes:
    """The map from times and values to places in the picture."""

    def __init__(
        self, begin: float, end: float, low: float, high: float, zone: str
    ) -> None:
        self.begin = begin
        self.end = max(end, begin + 1)
        self.low = low
        self.high = high
        self._zone = zone

    def x(self, at: float) -> float:
        """The place of a time, moved to the nearest edge if it is outside the picture."""
        width = CHART_WIDTH - LEFT_MARGIN - RIGHT_MARGIN
        at = min(max(at, self.begin), self.end)
        return LEFT_MARGIN + (at - self.begin) / (self.end - self.begin) * width

    def y(self, value: float) -> float:
        """The place of a value."""
        height = CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN
        share = (value - self.low) / (self.high - self.low)
        return CHART_HEIGHT - BOTTOM_MARGIN - share * height

    def times(self) -> str:
        """Grid lines and names along the time, at round local hours."""
        span = self.end - self.begin
        step = next((step for step in TIME_STEPS if span / step <= 7), 7 * DAY_SECONDS)
        zone = ZoneInfo(self._zone)
        midnight = datetime.fromtimestamp(self.begin, zone).replace(
            hour=0, minute=0, second=0, microsecond=0
        )

        lines = []
        for at in np.arange(midnight.timestamp(), self.end, step):
            place = self.x(at)
            if at < self.begin or place >= CHART_WIDTH - RIGHT_MARGIN - 14:
                continue
            local = datetime.fromtimestamp(at, zone)
            name = local.strftime("%-d %b" if local.hour == 0 else "%H:%M")
            lines.append(
                f'<line class="grid" x1="{place:.1f}" y1="{TOP_MARGIN}" x2="{place:.1f}" '
                f'y2="{CHART_HEIGHT - BOTTOM_MARGIN}"/>'
                f'<text x="{place:.1f}" y="{CHART_HEIGHT - 6}" text-anchor="middle">{name}</text>'
            )
        return "".join(lines)

    def values(self) -> str:
        """Grid lines and names along the values, at round numbers."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** np.floor(np.log10(rough))
        step = next(
            power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough
        )
        decimals = max(0, int(np.ceil(-np.log10(step) - 1e-9)))

        lines = []
        first = np.ceil(self.low / step) * step
        for value in np.arange(first, self.high + step * 1e-6, step):
            place = self.y(value)
            name = f"{value + 0.0:,.{decimals}f}"  # + 0.0 makes -0 a 0
            lines.append(
                f'<line class="grid" x1="{LEFT_MARGIN}" y1="{place:.1f}" x2="{CHART_WIDTH - RIGHT_MARGIN}" '
                f'y2="{place:.1f}"/>'
                f'<text x="{LEFT_MARGIN - 6}" y="{place + 4:.1f}" text-anchor="end">{name}</text>'
            )
        return "".join(lines)

    def episode(self, alert: Alert) -> str:
        """The time in which the alert stood, and when it was raised."""
        end = alert.at if alert.state == "cleared" else self.end
        begin, raised = self.x(alert.since), self.x(alert.raised)
        return (
            f'<rect class="episode" x="{begin:.1f}" y="{TOP_MARGIN}" width="{max(self.x(end) - begin, 2):.1f}" '
            f'height="{CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN}"/>'
            f'<line class="raised" x1="{raised:.1f}" y1="{TOP_MARGIN - 6}" x2="{raised:.1f}" '
            f'y2="{CHART_HEIGHT - BOTTOM_MARGIN}"/>'
            f'<text class="raised-name" x="{min(raised, CHART_WIDTH - 20):.1f}" y="{TOP_MARGIN - 9}" '
            f'text-anchor="middle">raised</text>'
        )


def _chart(inside: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {CHART_WIDTH:.0f} {CHART_HEIGHT:.0f}" role="img">{inside}</svg>'


def _curve(curve: Curve, alert: Alert, zone: str) -> str:
    """The chart of a curve, with its limit lines and the alert's episode."""
    axes = _axes_of(curve, zone)
    if axes is None:
        return ""

    drawn = _bars(axes, curve) if curve.daily else _lines(axes, curve)
    unit = f'<text x="{LEFT_MARGIN}" y="{TOP_MARGIN - 9}">{escape(curve.unit)}</text>'
    return _chart(
        axes.values()
        + axes.times()
        + axes.episode(alert)
        + drawn
        + _levels(axes, curve)
        + unit
        + _legend(curve)
    )


def _axes_of(curve: Curve, zone: str) -> _Axes | None:
    """Axes on which a curve and its limit lines fit; None if there is nothing to draw."""
    lines = list(curve.lines.values())
    values = np.concatenate([*curve.series.values(), lines]).astype(float)
    values = values[np.isfinite(values)]
    if not len(values) or not len(curve.at):
        return None

    # The axis begins at 0 for bars, and for curves that come near it.
    low, high = float(values.min()), float(values.max())
    if low >= 0 and (curve.daily or low < 0.4 * high):
        low = 0.0
    margin = 0.08 * (high - low) or 1.0
    half_day = DAY_SECONDS / 2 if curve.daily else 0
    return _Axes(
        begin=curve.at[0] - half_day,
        end=curve.at[-1] + half_day,
        low=low - (margin if low else 0),
        high=high + margin,
        zone=zone,
    )


def _levels(axes: _Axes, curve: Curve) -> str:
    """The limit lines with their names, from the highest down."""
    levels = []
    above = 0.0
    for name, level in sorted(curve.lines.items(), key=lambda line: -line[1]):
        y_level = axes.y(level)
        # Below its line if the line above is too near.
        y_name = y_level - 4 if y_level - above > 24 else y_level + 11
        above = y_level
        levels.append(
            f'<line class="level" x1="{LEFT_MARGIN}" y1="{y_level:.1f}" x2="{CHART_WIDTH - RIGHT_MARGIN}" '
            f'y2="{y_level:.1f}"/>'
            f'<text class="level-name" x="{CHART_WIDTH - RIGHT_MARGIN - 3}" y="{y_name:.1f}" text-anchor="end">'
            f"{escape(name)}</text>"
        )
    return "".join(levels)


def _lines(axes: _Axes, curve: Curve) -> str:
    """Each series as a path, broken where values miss or times are far apart."""
    usual = float(np.median(np.diff(curve.at))) if len(curve.at) > 1 else 0
    paths = []
    for k, (name, values) in enumerate(curve.series.items()):
        path = []
        drawing = False
        before = curve.at[0]
        for at, value in zip(curve.at.tolist(), values.tolist(), strict=True):
            if np.isnan(value):
                drawing = False
                continue
            joined = drawing and at - before <= 3 * usual
            path.append(f"{'L' if joined else 'M'}{axes.x(at):.1f} {axes.y(value):.1f}")
            drawing = True
            before = at

        paths.append(f'<path class="curve {_color(name, k)}" d="{"".join(path)}"/>')
    return "".join(paths)


def _bars(axes: _Axes, curve: Curve) -> str:
    """The first series as a bar a day; bars above the lowest limit line are marked."""
    values = np.nan_to_num(next(iter(curve.series.values())))
    limit = min(curve.lines.values(), default=np.inf)
    width = 0.7 * (axes.x(axes.begin + DAY_SECONDS) - axes.x(axes.begin))
    ground = axes.y(max(axes.low, min(0.0, axes.high)))

    bars = []
    for at, value in zip(curve.at.tolist(), values.tolist(), strict=True):
        tip = axes.y(value)
        kind = "bar beyond" if value > limit else "bar"
        bars.append(
            f'<rect class="{kind}" x="{axes.x(at) - width / 2:.1f}" y="{min(tip, ground):.1f}" width="{width:.1f}" '
            f'height="{max(abs(ground - tip), 0.8):.1f}" rx="1.5"/>'
        )
    return "".join(bars)


def _color(name: str, k: int) -> str:
    return f"c{name}" if name in ("A", "B", "C") else f"c{k}"


def _legend(curve: Curve) -> str:
    if len(curve.series) < 2:
        return ""
    place = LEFT_MARGIN + 8 + 6.4 * len(curve.unit) + 14
    names = []
    for k, name in enumerate(curve.series):
        names.append(
            f'<text class="{_color(name, k)}" x="{place:.0f}" y="{TOP_MARGIN - 9}">{escape(name)}</text>'
        )
        place += 7 * len(name) + 12
    return "".join(names)


def _timeline(chart: TimelineChart, alert: Alert, run: Watched) -> str:
    """The last five spans in a row each, and the marks in a row below them."""
    times = [alert.since, alert.raised, *(mark.at for mark in chart.marks)]
    for span in chart.spans:
        times += [span.start, *(at for at in (span.end, span.limit) if at)]
    end = min(max(times) + 6 * HOUR_SECONDS, run.end)
    axes = _Axes(min(times) - 3 * HOUR_SECONDS, end, 0, 1, run.zone)

    spans = chart.spans[-5:]
    count = len(spans) + bool(chart.marks) or 1
    row_height = (CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN) / count
    drawn = [
        _span(axes, span, TOP_MARGIN + (k + 0.5) * row_height)
        for k, span in enumerate(spans)
    ]
    if chart.marks:
        drawn.append(_marks(axes, chart, TOP_MARGIN + (len(spans) + 0.5) * row_height))
    return _chart(axes.times() + axes.episode(alert) + "".join(drawn))


def _marks(axes: _Axes, chart: TimelineChart, height: float) -> str:
    """Payments: a dot if it went through, a cross above if it failed."""
    drawn = ""
    for mark in chart.marks:
        place = axes.x(mark.at)
        if mark.succeeded:
            drawn += (
                f'<circle class="well" cx="{place:.1f}" cy="{height:.1f}" r="3.4"/>'
            )
        else:
            drawn += f'<path class="failed" d="M{place - 3.2:.1f} {height - 15:.1f}l6.4 6.4m0 -6.4l-6.4 6.4"/>'
    return drawn + (
        f'<text class="name" x="{LEFT_MARGIN}" y="{height + 18:.1f}">payments: × failed, ● went through</text>'
    )


def _span(axes: _Axes, span: TimelineSpan, height: float) -> str:
    """A bar from start to end, marked from its limit on, with its name above."""
    begin, end = axes.x(span.start), axes.x(span.end or axes.end)
    limit = axes.x(span.limit) if 0 < span.limit < axes.end else 0
    over = max(limit, begin) if limit and end > limit else end

    drawn = (
        f'<rect class="span" x="{begin:.1f}" y="{height - 4:.1f}" '
        f'width="{max(over - begin, 1.5):.1f}" height="9" rx="2"/>'
    )
    if over < end:
        drawn += (
            f'<rect class="span over" x="{over:.1f}" y="{height - 4:.1f}" '
            f'width="{end - over:.1f}" height="9" rx="2"/>'
        )
    if limit:
        drawn += (
            f'<line class="level" x1="{limit:.1f}" y1="{height - 9:.1f}" '
            f'x2="{limit:.1f}" y2="{height + 9:.1f}"/>'
        )

    # The name ends with the bar if it begins too far right.
    place = f'x="{begin:.1f}"'
    if begin >= CHART_WIDTH - 130:
        place = f'x="{end:.1f}" text-anchor="end"'
    return f'{drawn}<text class="name" {place} y="{height - 9:.1f}">{escape(span.name)}</text>'
