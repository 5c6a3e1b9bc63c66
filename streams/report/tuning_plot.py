"""The plot of a sweep in SVG: what each setting costs in alerts against what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from streams.report.charts import round_values

PLOT_WIDTH, PLOT_HEIGHT = 720.0, 320.0
LEFT_MARGIN, RIGHT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN = 56.0, 24.0, 26.0, 40.0
GROUND_PLACE = PLOT_HEIGHT - BOTTOM_MARGIN


class PlotPoint(NamedTuple):
    """A setting on the plot."""

    cost: float
    gain: float
    name: str
    on_line: bool
    in_force: bool
    is_best: bool


class _PlotAxes(NamedTuple):
    """The map from costs and gains to places in the picture."""

    most_cost: float
    most_gain: float

    def across(self, cost: float) -> float:
        """The place of a cost."""
        width = PLOT_WIDTH - LEFT_MARGIN - RIGHT_MARGIN
        return LEFT_MARGIN + cost / self.most_cost * width

    def down(self, gain: float) -> float:
        """The place of a gain."""
        height = PLOT_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN
        return GROUND_PLACE - gain / self.most_gain * height

    def drawn(self) -> Iterator[str]:
        """Grid lines and names at round numbers."""
        for gain, name in round_values(0, self.most_gain):
            place = self.down(gain)
            yield (
                f'<line class="grid" x1="{LEFT_MARGIN}" y1="{place:.1f}" x2="{PLOT_WIDTH - RIGHT_MARGIN}" '
                f'y2="{place:.1f}"/><text x="{LEFT_MARGIN - 6}" y="{place + 4:.1f}" text-anchor="end">{name}</text>'
            )
        for cost, name in round_values(0, self.most_cost):
            place = self.across(cost)
            yield (
                f'<line class="grid" x1="{place:.1f}" y1="{TOP_MARGIN}" x2="{place:.1f}" y2="{GROUND_PLACE}"/>'
                f'<text x="{place:.1f}" y="{GROUND_PLACE + 16}" text-anchor="middle">{name}</text>'
            )


def tuning_plot(
    points: Sequence[PlotPoint], cost_name: str, gain_name: str, allowed: float
) -> str:
    """The plot, with the Pareto line and the cost that is allowed."""
    most_cost = max([allowed, *(point.cost for point in points)]) or 1.0
    most_gain = max(point.gain for point in points) or 1.0
    axes = _PlotAxes(1.08 * most_cost, 1.08 * most_gain)
    budget = axes.across(allowed)
    names = (
        f'<text x="{PLOT_WIDTH - RIGHT_MARGIN}" y="{PLOT_HEIGHT - 6}" text-anchor="end">{escape(cost_name)}</text>'
        f'<text x="{LEFT_MARGIN}" y="{TOP_MARGIN - 10}">{escape(gain_name)}</text>'
        f'<line class="level" x1="{budget:.1f}" y1="{TOP_MARGIN}" x2="{budget:.1f}" y2="{GROUND_PLACE}"/>'
    )

    on_line = sorted((point.cost, point.gain) for point in points if point.on_line)
    places = [
        f"{axes.across(cost):.1f} {axes.down(gain):.1f}" for cost, gain in on_line
    ]
    line = f'<path class="curve c0" d="M{" L".join(places)}"/>'
    dots = [
        _dot(point, axes.across(point.cost), axes.down(point.gain)) for point in points
    ]
    inside = "".join([*axes.drawn(), names, line, *dots])
    return (
        f'<svg class="chart" viewBox="0 0 {PLOT_WIDTH:.0f} {PLOT_HEIGHT:.0f}" role="img">'
        f"{inside}</svg>"
    )


def _dot(point: PlotPoint, across: float, down: float) -> str:
    """A setting: filled on the Pareto line, with a ring if it is in force, named if it is that or the best."""
    kind = "bar" if point.on_line else "grid"
    dot = f'<circle class="{kind}" cx="{across:.1f}" cy="{down:.1f}" r="4"/>'
    if point.in_force or point.is_best:
        ring = "failed" if point.is_best else "curve c0"
        dot += (
            f'<circle class="{ring}" cx="{across:.1f}" cy="{down:.1f}" r="8" fill="none"/>'
            f'<text class="name" x="{across:.1f}" y="{down - 12:.1f}" text-anchor="middle">{escape(point.name)}</text>'
        )
    return f"<g><title>{escape(point.name)}</title>{dot}</g>"
