"""Charts in SVG: a curve with its limit lines, or a timeline, and when the alert stood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from html import escape
from itertools import count
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from rich.cells import cell_len

from detectors.curves.contract import TimelineChart, TimelineSpan
from schemas.alert import Alert
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from streams.report.evidence import CurveChart

CHART_WIDTH, CHART_HEIGHT = 560.0, 212.0
LEFT_MARGIN, RIGHT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN = 46.0, 6.0, 26.0, 22.0
TIME_STEPS = tuple(hours * HOUR_SECONDS for hours in (1, 3, 6, 12, 24, 48, 96))


class ShadedSpan(NamedTuple):
    """The time that a chart shades, Unix seconds, and the times that it marks, by their names."""

    since: int
    until: float  # infinite if it lasts
    marks: Mapping[str, int]


def span_of(alert: Alert, mark: str = "raised") -> ShadedSpan:
    """The time in which an alert stood, and when it was raised."""
    until = alert.at if alert.state == "cleared" else math.inf
    return ShadedSpan(alert.since, until, {mark: alert.raised})


def chart_of(
    picture: CurveChart | TimelineChart, shaded: ShadedSpan, zone: str, end: int
) -> str:
    """The chart of a picture, of a history that ends at `end`."""
    if isinstance(picture, CurveChart):
        return _curve(picture, shaded, zone)
    return _timeline(picture, shaded, zone, end)


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
        for at in self._ticks(midnight, step):
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

    def _ticks(self, midnight: datetime, step: int) -> Iterator[float]:
        """Times from a local midnight on; steps of whole days lead to midnights, also where clocks change."""
        whole_days = step % DAY_SECONDS == 0
        for number in count():
            at = midnight.timestamp() + number * step
            if whole_days:
                days = timedelta(number * step // DAY_SECONDS)
                at = (midnight + days).timestamp()
            if at >= self.end:
                return
            yield at

    def values(self) -> str:
        """Grid lines and names along the values, at round numbers."""
        lines = []
        for value, name in round_values(self.low, self.high):
            place = self.y(value)
            lines.append(
                f'<line class="grid" x1="{LEFT_MARGIN}" y1="{place:.1f}" x2="{CHART_WIDTH - RIGHT_MARGIN}" '
                f'y2="{place:.1f}"/>'
                f'<text x="{LEFT_MARGIN - 6}" y="{place + 4:.1f}" text-anchor="end">{name}</text>'
            )
        return "".join(lines)

    def shaded(self, span: ShadedSpan, names_begin: float = LEFT_MARGIN) -> str:
        """The time that is shaded, and its marks, named right of a place; the names of two stand on either side."""
        begin, end = self.x(span.since), self.x(span.until)
        drawn = (
            f'<rect class="episode" x="{begin:.1f}" y="{TOP_MARGIN}" width="{max(end - begin, 2):.1f}" '
            f'height="{CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN}"/>'
        )

        marks = sorted(span.marks.items(), key=lambda mark: mark[1])
        anchors = ("middle",) if len(marks) == 1 else ("end", "start")
        for (name, at), anchor in zip(marks, anchors, strict=True):
            place = self.x(at)
            half_width = 3.2 * cell_len(name)
            if len(marks) == 1:
                highest = CHART_WIDTH - half_width
                name_place = min(max(place, names_begin + half_width), highest)
            else:
                name_place = place - 3 if anchor == "end" else place + 3
            drawn += (
                f'<line class="raised" x1="{place:.1f}" y1="{TOP_MARGIN - 6}" x2="{place:.1f}" '
                f'y2="{CHART_HEIGHT - BOTTOM_MARGIN}"/>'
                f'<text class="raised-name" x="{name_place:.1f}" y="{TOP_MARGIN - 9}" '
                f'text-anchor="{anchor}">{escape(name)}</text>'
            )
        return drawn


def round_values(low: float, high: float) -> list[tuple[float, str]]:
    """About five round values between two, with their names.

    >>> round_values(0, 0.9)
    [(0.0, '0.00'), (0.25, '0.25'), (0.5, '0.50'), (0.75, '0.75')]
    """
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(
        power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough
    )
    decimals = next(n for n in range(16) if np.isclose(round(step, n), step, 1e-9))

    first = np.ceil(low / step) * step
    values = np.arange(first, high + step * 1e-6, step).tolist()
    return [(value, f"{value + 0.0:,.{decimals}f}") for value in values]  # -0 is 0


def _chart(inside: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {CHART_WIDTH:.0f} {CHART_HEIGHT:.0f}" role="img">{inside}</svg>'


def _curve(curve: CurveChart, shaded: ShadedSpan, zone: str) -> str:
    """The chart of a curve, with its limit lines and the shaded time."""
    axes = _axes_of(curve, zone)
    if axes is None:
        return ""

    drawn = _bars(axes, curve) if curve.daily else _lines(axes, curve)
    unit = f'<text x="{LEFT_MARGIN}" y="{TOP_MARGIN - 9}">{escape(curve.unit)}</text>'
    legend, legend_end = _legend(curve)
    return _chart(
        axes.values()
        + axes.times()
        + axes.shaded(shaded, legend_end)
        + drawn
        + _levels(axes, curve)
        + unit
        + legend
    )


def _axes_of(curve: CurveChart, zone: str) -> _Axes | None:
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


def _levels(axes: _Axes, curve: CurveChart) -> str:
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


def _lines(axes: _Axes, curve: CurveChart) -> str:
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


def _bars(axes: _Axes, curve: CurveChart) -> str:
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


def _legend(curve: CurveChart) -> tuple[str, float]:
    """The names of the series right of the unit, and where they end."""
    place = LEFT_MARGIN + 8 + 6.4 * cell_len(curve.unit)
    if len(curve.series) < 2:
        return "", place
    place += 14
    names = []
    for k, name in enumerate(curve.series):
        names.append(
            f'<text class="{_color(name, k)}" x="{place:.0f}" y="{TOP_MARGIN - 9}">{escape(name)}</text>'
        )
        place += 7 * cell_len(name) + 12
    return "".join(names), place


def _timeline(chart: TimelineChart, shaded: ShadedSpan, zone: str, end: int) -> str:
    """The last five spans in a row each, and the marks in a row below them."""
    times = [shaded.since, *shaded.marks.values()]
    times += [mark.at for mark in chart.marks]
    for span in chart.spans:
        times += [span.start, *(at for at in (span.end, span.limit) if at)]
    shown_end = min(max(times) + 6 * HOUR_SECONDS, end)
    axes = _Axes(min(times) - 3 * HOUR_SECONDS, shown_end, 0, 1, zone)

    spans = chart.spans[-5:]
    rows = len(spans) + bool(chart.marks) or 1
    row_height = (CHART_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN) / rows
    drawn = [
        _span(axes, span, TOP_MARGIN + (k + 0.5) * row_height)
        for k, span in enumerate(spans)
    ]
    if chart.marks:
        drawn.append(_marks(axes, chart, TOP_MARGIN + (len(spans) + 0.5) * row_height))
    return _chart(axes.times() + axes.shaded(shaded) + "".join(drawn))


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
