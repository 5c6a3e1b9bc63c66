"""The results for people: each row against its bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.results import ROW_GOALS, Goal, Result

TABLE_WIDTH = 150  # columns of text, so that no number is cut
STATE_STYLES = {"stretch": "bold green", "bar": "green", "neither": "bold red"}


def show(
    results: Sequence[Result], console: Console, full: Mapping[str, float]
) -> None:
    """Prints a row for every result, beside it the figures at full speed where there are some."""
    console.width = max(console.width, TABLE_WIDTH)
    heads = (
        "",
        "median",
        "low",
        "high",
        "unit",
        "x peer",
        "full speed",
        "bar",
        "stretch",
        "reached",
        "",
    )
    table = Table(*heads, box=SIMPLE_HEAD, pad_edge=False)

    for head, column in zip(heads, table.columns, strict=True):
        column.no_wrap = head != ""
        column.justify = "left" if head in {"", "unit", "reached"} else "right"

    for result in results:
        goal, ratio = ROW_GOALS[result.name], result.ratio
        judged = ratio if goal and goal.relative else result.median
        state = goal.state(judged) if goal and judged is not None else ""
        table.add_row(
            result.name,
            *(_number(n) for n in (result.median, result.low, result.high)),
            result.unit,
            "" if ratio is None else f"{ratio:.1f}",
            _number(full[result.name]) if result.name in full else "",
            *_lines(goal),
            f"[{STATE_STYLES[state]}]{state}[/]" if state else "",
            f"[dim]{result.note}[/]",
        )

    console.print(table)


def _lines(goal: Goal | None) -> tuple[str, str]:
    """The bar and the stretch as text."""
    if goal is None:
        return "", ""
    unit = " x" if goal.relative else ""
    return f"{goal.bar:g}{unit}", f"{goal.stretch:g}{unit}"


def _number(value: float) -> str:
    """Whole above 100, else three digits that count.

    >>> _number(1234567.8), _number(12.345), _number(0.01234)
    ('1,234,568', '12.3', '0.0123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
