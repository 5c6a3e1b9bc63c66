"""Curves one above the other, as an SVG picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

PANEL_WIDTH, PANEL_HEIGHT, LEFT_MARGIN, TOP_MARGIN, PANEL_GAP = 760, 110, 80, 24, 34
INK_COLOUR, LINE_COLOUR = "#444", "#1f6f8b"


class PlotCurve(NamedTuple):
    """What is drawn of a column."""

    column: str
    title: str
    scale: float


def picture(
    minutes: Sequence[float],
    columns: Mapping[str, Sequence[float]],
    curves: Sequence[PlotCurve],
) -> str:
    """A panel for each curve over the same minutes."""
    panels = "".join(
        _panel(n, minutes, columns[curve.column], curve)
        for n, curve in enumerate(curves)
    )
    height = TOP_MARGIN + len(curves) * (PANEL_HEIGHT + PANEL_GAP) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT_MARGIN + PANEL_WIDTH + 20} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK_COLOUR}"><rect width="100%" height="100%" fill="white"/>'
        f"{panels}</svg>\n"
    )


def _panel(
    number: int, minutes: Sequence[float], values: Sequence[float], curve: PlotCurve
) -> str:
    """One curve from zero up, with its title, its largest value and the time."""
    top = TOP_MARGIN + number * (PANEL_HEIGHT + PANEL_GAP)
    shown = [value * curve.scale for value in values]
    most, last = max(*shown, 1e-9), max(*minutes, 1e-9)
    points = " ".join(
        f"{LEFT_MARGIN + PANEL_WIDTH * minute / last:.1f},{top + PANEL_HEIGHT * (1 - value / most):.1f}"
        for minute, value in zip(minutes, shown, strict=True)
    )
    floor = top + PANEL_HEIGHT

    return (
        f'<text x="{LEFT_MARGIN}" y="{top - 8}">{curve.title}</text>'
        f'<text x="{LEFT_MARGIN - 8}" y="{top + 4}" text-anchor="end">{most:,.0f}</text>'
        f'<text x="{LEFT_MARGIN - 8}" y="{floor}" text-anchor="end">0</text>'
        f'<text x="{LEFT_MARGIN + PANEL_WIDTH}" y="{floor + 15}" text-anchor="end">{last:.0f} min</text>'
        f'<path d="M{LEFT_MARGIN} {top}V{floor}H{LEFT_MARGIN + PANEL_WIDTH}" fill="none" '
        f'stroke="{INK_COLOUR}" stroke-width="0.8"/>'
        f'<polyline points="{points}" fill="none" stroke="{LINE_COLOUR}" stroke-width="1.4"/>'
    )
