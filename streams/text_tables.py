"""Tables and estimates as text of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from replay.intervals import Estimate


def estimate_text(estimate: Estimate) -> str:
    """A number with its interval.

    >>> estimate_text(Estimate(1.25, 0.5, 2.0)), estimate_text(Estimate(3.0)), estimate_text(Estimate())
    ('1.25 (0.50 to 2.00)', '3.00', '-')
    """
    if estimate.value is None:
        return "-"
    interval = (
        "" if estimate.low is None else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    )
    return f"{estimate.value:.2f}{interval}"


def percent(estimate: Estimate) -> str:
    """A share with its interval.

    >>> percent(Estimate(0.5, 0.25, 0.75)), percent(Estimate())
    ('50 % (25 to 75)', '-')
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.0f} % ({low:.0f} to {high:.0f})"


def show_table(rows: Sequence[Sequence[str]], out: Console, *, words: int) -> None:
    """Prints rows: the first columns are words, at the left of their column; numbers are at its right."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        left = map(set_cell_size, row[:words], widths)
        numbers = [
            " " * (width - cell_len(cell)) + cell
            for cell, width in zip(row[words:-1], widths[words:-1], strict=True)
        ]
        out.print("  ".join([*left, *numbers, row[-1]]).rstrip())
