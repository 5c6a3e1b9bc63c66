"""The plot of a sweep in SVG: what each setting costs in alerts against what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from streams.report.charts import round_values

PLOT_WIDTH, PLOT_HEIGHT = 720.0, 320.0
LEFT_MARGIN, RIGHT_MARGIN, TOP_MARGIN, BOTTOM_MARGIN = 56.0, 24.0, 26.0, 40.0


class PlotPoint(NamedTuple):
    """A setting on the plot."""

    cost: float
    gain: float
    name: str
    on_line: bool
    in_force: bool
    is_best: bool


def tuning_plot(
    points: Sequence[PlotPoint], cost: str, gain: str, allowed: float
) -> str:
    """The plot with the Pareto line and the budget; `cost` and `gain` name the axes."""
    most_cost = 1.08 * max([allowed, *(point.cost for point in points)]) or 1.0
    most_gain = 1.08 * max(point.gain for point in points) or 1.0
    width = PLOT_WIDTH - LEFT_MARGIN - RIGHT_MARGIN
    height = PLOT_HEIGHT - TOP_MARGIN - BOTTOM_MARGIN
    ground = PLOT_HEIGHT - BOTTOM_MARGIN

    def x(value: float) -> float:
        return LEFT_MARGIN + value / most_cost * width

    def y(value: float) -> float:
        return ground - value / most_gain * height

    drawn = [
        f'<line class="grid" x1="{LEFT_MARGIN}" y1="{y(value):.1f}" x2="{PLOT_WIDTH - RIGHT_MARGIN}" '
        f'y2="{y(value):.1f}"/><text x="{LEFT_MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{name}</text>'
        for value, name in round_values(0, most_gain)
    ]
    drawn += [
        f'<line class="grid" x1="{x(value):.1f}" y1="{TOP_MARGIN}" x2="{x(value):.1f}" y2="{ground}"/>'
        f'<text x="{x(value):.1f}" y="{ground + 16}" text-anchor="middle">{name}</text>'
        for value, name in round_values(0, most_cost)
    ]
    drawn.append(
        f'<text x="{PLOT_WIDTH - RIGHT_MARGIN}" y="{PLOT_HEIGHT - 6}" text-anchor="end">{escape(cost)}</text>'
        f'<text x="{LEFT_MARGIN}" y="{TOP_MARGIN - 10}">{escape(gain)}</text>'
        f'<line class="level" x1="{x(allowed):.1f}" y1="{TOP_MARGIN}" x2="{x(allowed):.1f}" y2="{ground}"/>'
    )

    line = sorted((point.cost, point.gain) for point in points if point.on_line)
    steps = " L".join(f"{x(cost):.1f} {y(gain):.1f}" for cost, gain in line)
    drawn.append(f'<path class="curve c0" d="M{steps}"/>')
    drawn += [_dot(point, x(point.cost), y(point.gain)) for point in points]
    return (
        f'<svg class="chart" viewBox="0 0 {PLOT_WIDTH:.0f} {PLOT_HEIGHT:.0f}" role="img">'
        f"{''.join(drawn)}</svg>"
    )


def _dot(point: PlotPoint, x: float, y: float) -> str:
    """A setting: filled on the Pareto line, with a ring if it is in force, named if it is that or the best."""
    kind = "bar" if point.on_line else "grid"
    dot = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    if point.in_force or point.is_best:
        ring = "failed" if point.is_best else "curve c0"
        dot += (
            f'<circle class="{ring}" cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none"/>'
            f'<text class="name" x="{x:.1f}" y="{y - 12:.1f}" text-anchor="middle">{escape(point.name)}</text>'
        )
    return f"<g><title>{escape(point.name)}</title>{dot}</g>"
