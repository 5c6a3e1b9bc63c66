"""The page of scores: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple


class PageTable(NamedTuple):
    """A further table of a page."""

    title: str  # "" for none
    rows: Sequence[Sequence[str]]
    words: int  # first columns that are words


def score_page(
    title: str,
    lede: str,
    rows: Sequence[Sequence[str]],
    notes: Iterable[str],
    *,
    words: int,
    language: str,
    figures: Iterable[str] = (),
    tables: Iterable[PageTable] = (),
) -> str:
    """The whole page: a table, its notes, further tables, and charts in SVG.

    The first row of a table has the heads, its first columns are words.
    """
    further = "".join(map(_titled, tables))
    paragraphs = "".join(f"<p>{escape(note)}</p>" for note in notes)
    charts = "".join(f"<figure>{figure}</figure>" for figure in figures)

    style = files("streams.report").joinpath("page.css").read_text("utf-8")
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{style}</style></head><body><main class="wide">'
        f'<h1>{escape(title)}</h1><p class="lede">{escape(lede)}</p>'
        f"{_table(rows, words)}{paragraphs}{further}{charts}</main></body></html>"
    )


def _titled(table: PageTable) -> str:
    """A further table below its title."""
    title = f"<h2>{escape(table.title)}</h2>" if table.title else ""
    return title + _table(table.rows, table.words)


def _table(rows: Sequence[Sequence[str]], words: int) -> str:
    """A table, whose first row has the heads."""
    head, *body = rows
    heads = "".join(_cell("th", k, text, head, words) for k, text in enumerate(head))
    lines = []
    for row in body:
        cells = (_cell("td", k, text, row, words) for k, text in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    table = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{table}</table></div>'


def _cell(tag: str, number: int, text: str, row: Sequence[str], words: int) -> str:
    """A cell; all but the first columns and the last are numbers."""
    is_number = words <= number < len(row) - 1
    kind = ' class="number"' if is_number else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"
