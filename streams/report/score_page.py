"""The page of scores: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple


class PageSection(NamedTuple):
    """A part of the page below its table."""

    heading: str  # "" for none
    body: str  # HTML


def score_page(
    title: str,
    lede: str,
    rows: Sequence[Sequence[str]],
    notes: Iterable[str],
    *,
    words: int,
    language: str,
    figures: Iterable[str] = (),
    sections: Iterable[PageSection] = (),
) -> str:
    """The whole page: a table, notes, charts in SVG and sections.

    The first row of a table has its heads; its first columns and the last are words.
    """
    paragraphs = "".join(f"<p>{escape(note)}</p>" for note in notes)
    charts = "".join(f"<figure>{figure}</figure>" for figure in figures)
    parts = "".join(map(_section, sections))

    style = files("streams.report").joinpath("page.css").read_text("utf-8")
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{style}</style></head><body><main class="wide">'
        f'<h1>{escape(title)}</h1><p class="lede">{escape(lede)}</p>'
        f"{html_table(rows, words=words)}{paragraphs}{charts}{parts}</main></body></html>"
    )


def _section(section: PageSection) -> str:
    """A section below its heading."""
    heading = f"<h2>{escape(section.heading)}</h2>" if section.heading else ""
    return heading + section.body


def html_table(
    rows: Sequence[Sequence[str]], *, words: int, last_is_words: bool = True
) -> str:
    """A table whose first row has the heads; the first columns are words, and so may be the last."""
    head, *body = rows
    last = len(head) - last_is_words
    classes = [
        ' class="number"' if words <= number < last else ""
        for number in range(len(head))
    ]
    heads = _cells("th", head, classes)
    lines = "".join(f"<tr>{_cells('td', row, classes)}</tr>" for row in body)
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cells(tag: str, row: Sequence[str], classes: Sequence[str]) -> str:
    """The cells of a row."""
    cells = zip(row, classes, strict=False)
    return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for text, kind in cells)
