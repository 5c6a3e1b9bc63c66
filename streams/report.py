"""The report: one HTML page that opens offline, with what was told and the curves behind it.

Of a simulated town also what was planted in it, and what of that was found.
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
from replay.happenings import Planted
from replay.scoring import Finding, Score
from schemas.alert import Alert
from schemas.columns import Batch
from schemas.master import Area
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from streams.evidence import Curve, Evidence, TimelineChart, TimelineSpan
from streams.lines import gravest
from streams.logs import visible
from streams.times import local_time

CHART_WIDTH, CHART_HEIGHT = 560.0, 212.0
LEFT_MARGIN, RIGHT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN = 46.0, 6.0, 26.0, 22.0
# alarms in the list, and the severity from which somebody drives out soon
LISTED_ALERTS, GRAVE_SEVERITY = (
    100,
    2,
)
SEVERITY_TEXTS = {1: "same day", 2: "within 3 days", 3: "batch", 4: "information"}


@dataclass(frozen=True)
class Simulated:
    """What is known of a town that was made."""

    score: Score
    decoys: Sequence[Planted]
    step_ms: tuple[float, float]  # median and 99th percentile


@dataclass(frozen=True)
class Watched:
    """What a run came to."""

    title: str
    zone: str
    start: int
    end: int
    meters: int
    meter_days: float  # that the meters were watched, all together
    readings: int
    seconds: float
    counts: Mapping[tuple[str, str, str], int]  # rows by kind, outcome and reason
    alerts: Sequence[Alert]  # the last state of each
    pictures: Sequence[tuple[Alert, Curve | TimelineChart]]
    simulated: Simulated | None = None

    @property
    def shown(self) -> list[Alert]:
        """Those that policy does not hold back."""
        return [alert for alert in self.alerts if not alert.suppressed_by]

    def rate(self, count: int) -> float:
        """So many alerts, per 1,000 meters and day; NaN where no meter was watched."""
        return 1000 * count / self.meter_days if self.meter_days else float("nan")

    @property
    def days(self) -> float:
        """How many it covers."""
        return max((self.end - self.start) / DAY_SECONDS, 1 / 24)


def pictured(
    alerts: Iterable[Alert], areas: Iterable[Area], zone: str, batches: Iterable[Batch]
) -> list[tuple[Alert, Curve | TimelineChart]]:
    """The first of some alerts of each rule with what it was judged on, from another reading of the history."""
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
    """The whole page."""
    town = run.simulated
    opening = _of_a_town(run, town) if town else [_header(run), _alerts_table(run)]
    parts = [*opening, _evidence(run), _by_rule(run), _rows(run)]
    made = (
        " The town is simulated: interval means, one transformer an area, lines that lose 2 to 3.5 %, one reading in "
        "two hundred lost. What is found here shows that the rules work as written, not how often a real town will "
        "trouble them."
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(run.title)}</title><style>{files('streams').joinpath('report.css').read_text('utf-8')}</style>"
        f"</head><body><main>{''.join(parts)}"
        f"<footer>Alarms suspect; a person decides.{made if town else ''}</footer></main></body></html>"
    )


def _of_a_town(run: Watched, town: Simulated) -> list[str]:
    return [_town_header(run, town), _planted(run, town), _false(run, town)]


def _header(run: Watched) -> str:
    told, standing = len(run.shown), sum(alert.state == "raised" for alert in run.shown)
    lede = (
        f"{run.meters:,} meters and {run.readings:,} readings of {run.days:,.0f} days. {told:,} alarms were told, of "
        f"which {standing:,} still stand; {len(run.alerts) - told:,} more were held back by policy."
    )
    figures = (
        (
            f"{sum(alert.severity <= GRAVE_SEVERITY for alert in run.shown):,}",
            "alarms for the same day or within 3 days",
        ),
        (f"{told:,}", "alarms told in all"),
        (f"{run.rate(told):.2f}", "told per 1,000 meters and day"),
        (
            f"{run.readings / max(run.seconds, 1e-9) / 1000:,.1f} k/s",
            "readings, one process",
        ),
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
    """The gravest alarms, a row each."""
    if not run.shown:
        return "<h2>What was told</h2><p class=about>Nothing.</p>"
    rows = [
        (
            f'<span class="badge s{a.severity}">{escape(SEVERITY_TEXTS[a.severity])}</span>',
            f"{_whole(ALL_RULES[a.rule].title[0])}<small>{_whole(visible(f'{a.area} {a.subject}'))}</small>",
            f"{_whole(local_time(a.raised, run.zone))}<small>{escape(a.state)}</small>",
            escape(visible(a.en)),
        )
        for a in gravest(run.shown, LISTED_ALERTS)
    ]
    more = (
        f"<p class=about>and {len(run.shown) - LISTED_ALERTS:,} more</p>"
        if len(run.shown) > LISTED_ALERTS
        else ""
    )
    heads = ("how soon", "what and where", "raised", "what it said")
    return f"<h2>What was told</h2><p class=about>The gravest first.</p>{_table(heads, rows)}{more}"


def _town_header(run: Watched, town: Simulated) -> str:
    score, days = town.score, run.days
    false = len(score.false)
    missed = len(score.findings) - score.found
    lede = (
        f"{run.meters:,} meters sent {run.readings:,} readings in {days:.0f} simulated days. Of {len(score.findings)} "
        f"planted faults {score.found if missed else 'all'} were found{f', {missed} were missed' if missed else ''}; "
        f"{'no alarm was' if not false else f'{false} alarm was' if false == 1 else f'{false} alarms were'} false."
    )
    figures = (
        (f"{score.found} of {len(score.findings)}", "planted faults found"),
        (
            f"{false}",
            f"false {'alarm' if false == 1 else 'alarms'} of {len(score.true) + false} told",
        ),
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
    """A table of cells that are HTML already; some columns hold numbers."""
    right = set(numbers)
    kinds = [' class="number"' if k in right else "" for k in range(len(heads))]
    head = "".join(
        f"<th{kind}>{escape(name)}</th>"
        for name, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _planted(run: Watched, town: Simulated) -> str:
    rows = []
    for finding in sorted(
        town.score.findings, key=lambda f: (f.planted.start, f.planted.kind)
    ):
        fault, alert = finding.planted, finding.alert
        found = (
            (_whole(alert.rule), waited(finding.days))
            if alert
            else ('<span class="missed">missed</span>', "")
        )
        what = (
            f"{escape(fault.kind.replace('_', ' '))}<small>{escape(fault.note)}</small>"
        )
        where = (
            f'{escape(fault.area)}<small class="nowrap">{escape(fault.subject)}</small>'
        )
        rows.append((what, where, _strip(run, finding), *found))
    heads = ("planted", "where", "the days", "told by", "after")
    return (
        "<h2>Planted against found</h2><p class=about>Each strip is the whole time; shaded while the fault lasted, "
        "the dot is the evidence that raised the first alarm.</p>"
        + _table(heads, rows, (4,))
    )


def waited(days: float) -> str:
    """A time in words.

    >>> waited(1 / 96), waited(0.5), waited(3.25)
    ('15 min', '12 h', '3.2 days')
    """
    return (
        f"{days * 1440:.0f} min"
        if days < 1 / 12
        else f"{days * 24:.0f} h"
        if days < 2
        else f"{days:.1f} days"
    )


def _whole(text: str) -> str:
    return f'<span class="nowrap">{escape(text)}</span>'


def _strip(run: Watched, finding: Finding) -> str:
    def x(at: float) -> float:
        return 180 * min(max((at - run.start) / (run.end - run.start), 0), 1)

    fault = finding.planted
    dot = (
        f'<circle cx="{x(finding.alert.raised):.1f}" cy="7" r="3.2"/>'
        if finding.alert
        else ""
    )
    begin, end = x(fault.start), x(fault.end)
    return (
        '<svg class="strip" viewBox="0 0 180 14"><line x1="0" y1="7" x2="180" y2="7"/>'
        f'<rect x="{begin:.1f}" y="3" width="{max(end - begin, 2):.1f}" height="8" rx="2"/>{dot}</svg>'
    )


def _false(run: Watched, town: Simulated) -> str:
    score, truth = town.score, {decoy.subject: decoy.note for decoy in town.decoys}
    told = len(score.true) + len(score.false)
    about = (
        f"{len(score.true)} of the {told} alarms tell of a planted fault or of its consequences. "
        f"{len(score.suppressed)} more were held back by policy."
    )
    if not score.false:
        return f"<h2>False alarms</h2><p class=about>None. {about}</p>"
    rows = [
        (
            _whole(a.rule),
            _whole(f"{a.area} {a.subject}"),
            _whole(_day_and_time(a.raised, run.zone)),
            escape(a.en),
            escape(truth.get(a.subject, "nothing was planted there")),
        )
        for a in score.false[:40]
    ]
    more = (
        f"<p class=about>and {len(score.false) - 40} more</p>"
        if len(score.false) > 40
        else ""
    )
    heads = ("rule", "where", "raised", "what it said", "in truth")
    return f"<h2>False alarms</h2><p class=about>{about}</p>{_table(heads, rows)}{more}"


def _evidence(run: Watched) -> str:
    cards = []
    for alert, picture in run.pictures:
        en, zh = ALL_RULES[alert.rule].title
        chart = (
            _curve(picture, alert, run.zone)
            if isinstance(picture, Curve)
            else _timeline(picture, alert, run)
        )
        room = "section" if alert.kind == "overdue" else "area"
        where = " · ".join(
            filter(
                None,
                (
                    f"{room} {alert.area}",
                    alert.subject,
                    _day_and_time(alert.raised, run.zone),
                ),
            )
        )
        cards.append(
            f'<figure class="card"><header><h3>{escape(en)}<span lang="zh">{escape(zh)}</span></h3>'
            f'<span class="badge s{alert.severity}">{escape(SEVERITY_TEXTS[alert.severity])}</span></header>'
            f'<p class="where">{escape(where)}</p>{chart}<p class="says">{escape(alert.en)}</p>'
            f'<p class="zh" lang="zh">{escape(alert.zh)}</p></figure>'
        )
    return (
        "<h2>The evidence</h2><p class=about>The first alarm of each kind with what it was judged on. Shaded while the "
        f"alarm stood, dashed where the line is.</p><div class=cards>{''.join(cards)}</div>"
    )


def _by_rule(run: Watched) -> str:
    told = Counter(a.rule for a in run.shown)
    held = Counter(a.rule for a in run.alerts if a.suppressed_by)
    false = (
        Counter(a.rule for a in run.simulated.score.false) if run.simulated else None
    )
    rows = [
        (
            f"{escape(ALL_RULES[rule].title[0])} <span class=soft>{escape(rule)}</span>",
            f"{told[rule]:,}",
            *([] if false is None else [f"{false[rule]:,}"]),
            f"{held[rule]:,}",
            f"{run.rate(told[rule]):.3f}",
        )
        for rule, _ in (told + held).most_common()
    ]
    heads = (
        "rule",
        "told",
        *([] if false is None else ["of these false"]),
        "held back",
        "told per 1,000 meters and day",
    )
    return f"<h2>Alarms by rule</h2>{_table(heads, rows, range(1, len(heads)))}"


def _rows(run: Watched) -> str:
    kinds = sorted({kind for kind, outcome, _ in run.counts if outcome == "in"})
    outcomes = ("in", "judged", "rejected", "duplicate", "late", "implausible")
    rows = [
        (
            escape(kind),
            *(
                f"{sum(n for (k, o, _), n in run.counts.items() if (k, o) == (kind, outcome)):,}"
                for outcome in outcomes
            ),
        )
        for kind in kinds
    ]
    return (
        "<h2>Every row is accounted for</h2><p class=about>Rows in are rows judged, rejected, met twice or too late. "
        "Single values that validation doubts are left out of the judgement and counted beside.</p>"
        + _table(("kind", *outcomes[:-1], "values doubted"), rows, range(1, 7))
    )


def _day_and_time(at: float, zone: str) -> str:
    return datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%-d %b %H:%M")


class _Axes:
    """From time and value to the picture."""

    def __init__(
        self, begin: float, end: float, low: float, high: float, zone: str
    ) -> None:
        self.begin, self.end, self.low, self.high, self._zone = (
            begin,
            max(end, begin + 1),
            low,
            high,
            zone,
        )

    def x(self, at: float) -> float:
        """Of a time, kept within the picture."""
        at = min(max(at, self.begin), self.end)
        return LEFT_MARGIN + (at - self.begin) / (self.end - self.begin) * (
            CHART_WIDTH - LEFT_MARGIN - RIGHT_MARGIN
        )

    def y(self, value: float) -> float:
        """Of a value."""
        return (
            CHART_HEIGHT
            - BOTTOM_MARGIN
            - (value - self.low)
            / (self.high - self.low)
            * (CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN)
        )

    def times(self) -> str:
        """Marks along the time, at round local hours."""
        span = self.end - self.begin
        step = next(
            (
                s
                for s in (
                    HOUR_SECONDS,
                    3 * HOUR_SECONDS,
                    6 * HOUR_SECONDS,
                    12 * HOUR_SECONDS,
                    DAY_SECONDS,
                    2 * DAY_SECONDS,
                    4 * DAY_SECONDS,
                )
                if span / s <= 7
            ),
            7 * DAY_SECONDS,
        )
        zone, out = ZoneInfo(self._zone), []
        midnight = datetime.fromtimestamp(self.begin, zone).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        for at in np.arange(midnight.timestamp(), self.end, step):
            if at < self.begin:
                continue
            when = datetime.fromtimestamp(at, zone)
            name = when.strftime("%-d %b") if when.hour == 0 else when.strftime("%H:%M")
            x = self.x(at)
            if x < CHART_WIDTH - RIGHT_MARGIN - 14:
                out.append(
                    f'<line class="grid" x1="{x:.1f}" y1="{TOP_MARGIN}" x2="{x:.1f}" y2="{CHART_HEIGHT - BOTTOM_MARGIN}"/>'
                    f'<text x="{x:.1f}" y="{CHART_HEIGHT - 6}" text-anchor="middle">{name}</text>'
                )
        return "".join(out)

    def values(self) -> str:
        """Marks along the values, at round numbers."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** np.floor(np.log10(rough))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)
        out = []
        for value in np.arange(
            np.ceil(self.low / step) * step, self.high + step * 1e-6, step
        ):
            y, name = (
                self.y(value),
                f"{value + 0.0:,.{max(0, int(np.ceil(-np.log10(step) - 1e-9)))}f}",
            )
            out.append(
                f'<line class="grid" x1="{LEFT_MARGIN}" y1="{y:.1f}" x2="{CHART_WIDTH - RIGHT_MARGIN}" y2="{y:.1f}"/>'
                f'<text x="{LEFT_MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
            )
        return "".join(out)

    def episode(self, alert: Alert) -> str:
        """The time in which the alarm stood, and when it was raised."""
        end = alert.at if alert.state == "cleared" else self.end
        begin, x = self.x(alert.since), self.x(alert.raised)
        return (
            f'<rect class="episode" x="{begin:.1f}" y="{TOP_MARGIN}" width="{max(self.x(end) - begin, 2):.1f}" '
            f'height="{CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN}"/><line class="raised" x1="{x:.1f}" y1="{TOP_MARGIN - 6}" x2="{x:.1f}" '
            f'y2="{CHART_HEIGHT - BOTTOM_MARGIN}"/><text class="raised-name" x="{min(x, CHART_WIDTH - 20):.1f}" y="{TOP_MARGIN - 9}" '
            f'text-anchor="middle">raised</text>'
        )


def _chart(inside: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {CHART_WIDTH:.0f} {CHART_HEIGHT:.0f}" role="img">{inside}</svg>'


def _curve(curve: Curve, alert: Alert, zone: str) -> str:
    told = np.concatenate([*curve.series.values(), list(curve.lines.values())]).astype(
        float
    )
    told = told[np.isfinite(told)]
    if not len(told) or not len(curve.at):
        return ""
    low, high = float(told.min()), float(told.max())
    if low >= 0 and (curve.daily or low < 0.4 * high):
        low = 0.0
    margin = 0.08 * (high - low) or 1.0
    half = DAY_SECONDS / 2 if curve.daily else 0
    axes = _Axes(
        curve.at[0] - half,
        curve.at[-1] + half,
        low - (margin if low else 0),
        high + margin,
        zone,
    )
    levels, above = [], 0.0
    for name, level in sorted(curve.lines.items(), key=lambda line: -line[1]):
        y = axes.y(level)
        place, above = (y - 4 if y - above > 24 else y + 11), y
        levels.append(
            f'<line class="level" x1="{LEFT_MARGIN}" y1="{y:.1f}" x2="{CHART_WIDTH - RIGHT_MARGIN}" y2="{y:.1f}"/>'
            f'<text class="level-name" x="{CHART_WIDTH - RIGHT_MARGIN - 3}" y="{place:.1f}" text-anchor="end">'
            f"{escape(name)}</text>"
        )
    drawn = _bars(axes, curve) if curve.daily else _lines(axes, curve)
    unit = f'<text x="{LEFT_MARGIN}" y="{TOP_MARGIN - 9}">{escape(curve.unit)}</text>'
    return _chart(
        axes.values()
        + axes.times()
        + axes.episode(alert)
        + drawn
        + "".join(levels)
        + unit
        + _legend(curve)
    )


def _lines(axes: _Axes, curve: Curve) -> str:
    usual = float(np.median(np.diff(curve.at))) if len(curve.at) > 1 else 0
    out = []
    for k, (name, values) in enumerate(curve.series.items()):
        path, pen = [], False
        before = curve.at[0]
        for at, value in zip(curve.at.tolist(), values.tolist(), strict=True):
            if np.isnan(value):
                pen = False
                continue
            pen = pen and at - before <= 3 * usual
            path.append(f"{'L' if pen else 'M'}{axes.x(at):.1f} {axes.y(value):.1f}")
            pen, before = True, at
        out.append(f'<path class="curve {_color(name, k)}" d="{"".join(path)}"/>')
    return "".join(out)


def _bars(axes: _Axes, curve: Curve) -> str:
    values, limit = (
        next(iter(curve.series.values())),
        min(curve.lines.values(), default=np.inf),
    )
    wide = 0.7 * (axes.x(axes.begin + DAY_SECONDS) - axes.x(axes.begin))
    ground = axes.y(max(axes.low, min(0.0, axes.high)))
    out = []
    for at, value in zip(
        curve.at.tolist(), np.nan_to_num(values).tolist(), strict=True
    ):
        y = axes.y(value)
        kind, height = (
            "bar beyond" if value > limit else "bar",
            max(abs(ground - y), 0.8),
        )
        out.append(
            f'<rect class="{kind}" x="{axes.x(at) - wide / 2:.1f}" y="{min(y, ground):.1f}" width="{wide:.1f}" '
            f'height="{height:.1f}" rx="1.5"/>'
        )
    return "".join(out)


def _color(name: str, k: int) -> str:
    return f"c{name}" if name in ("A", "B", "C") else f"c{k}"


def _legend(curve: Curve) -> str:
    if len(curve.series) < 2:
        return ""
    x, out = LEFT_MARGIN + 8 + 6.4 * len(curve.unit) + 14, []
    for k, name in enumerate(curve.series):
        out.append(
            f'<text class="{_color(name, k)}" x="{x:.0f}" y="{TOP_MARGIN - 9}">{escape(name)}</text>'
        )
        x += 7 * len(name) + 12
    return "".join(out)


def _timeline(line: TimelineChart, alert: Alert, run: Watched) -> str:
    times = [
        alert.since,
        alert.raised,
        *(s.start for s in line.spans),
        *(m.at for m in line.marks),
        *(t for s in line.spans for t in (s.end, s.limit) if t),
    ]
    end = min(max(times) + 6 * HOUR_SECONDS, run.end)
    axes = _Axes(min(times) - 3 * HOUR_SECONDS, end, 0, 1, run.zone)
    spans = line.spans[-5:]
    space = (CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN) / (
        len(spans) + bool(line.marks) or 1
    )
    out = [
        _span(axes, span, TOP_MARGIN + (k + 0.5) * space)
        for k, span in enumerate(spans)
    ]
    y = TOP_MARGIN + (len(spans) + 0.5) * space
    for mark in line.marks:
        x = axes.x(mark.at)
        if mark.succeeded:
            out.append(f'<circle class="well" cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>')
        else:
            out.append(
                f'<path class="failed" d="M{x - 3.2:.1f} {y - 15:.1f}l6.4 6.4m0 -6.4l-6.4 6.4"/>'
            )
    if line.marks:
        out.append(
            f'<text class="name" x="{LEFT_MARGIN}" y="{y + 18:.1f}">payments: × failed, ● went through</text>'
        )
    return _chart(axes.times() + axes.episode(alert) + "".join(out))


def _span(axes: _Axes, span: TimelineSpan, y: float) -> str:
    begin, end = axes.x(span.start), axes.x(span.end or axes.end)
    limit = axes.x(span.limit) if 0 < span.limit < axes.end else 0
    over = max(limit, begin) if limit and end > limit else end
    out = f'<rect class="span" x="{begin:.1f}" y="{y - 4:.1f}" width="{max(over - begin, 1.5):.1f}" height="9" rx="2"/>'
    if over < end:
        out += f'<rect class="span over" x="{over:.1f}" y="{y - 4:.1f}" width="{end - over:.1f}" height="9" rx="2"/>'
    if limit:
        out += f'<line class="level" x1="{limit:.1f}" y1="{y - 9:.1f}" x2="{limit:.1f}" y2="{y + 9:.1f}"/>'
    place = (
        f'x="{begin:.1f}"'
        if begin < CHART_WIDTH - 130
        else f'x="{end:.1f}" text-anchor="end"'
    )
    return (
        out + f'<text class="name" {place} y="{y - 9:.1f}">{escape(span.name)}</text>'
    )
