"""The tables of columns and topics in docs/, made from their declarations.

``python -m schemas.documents`` writes them between ``<!-- made: ... -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from schemas.columns import KIND_COLUMNS, Batch
from schemas.declarations import Declaration
from schemas.topics import ALL_TOPICS, KIND_TOPICS, Topic
from schemas.wire import FRAME_CONTENT_TYPE

DOCS_FOLDER = Path(__file__).parents[1] / "docs"
UNIT_SIGNS = {"Cel": "°C", "deg": "°", "CNY": "yuan"}  # where a reader expects another
MADE_TABLE = re.compile(r"(<!-- made: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """The text of every page with its made tables as they should be, by its path."""
    tables = {kind.kind: column_table(kind) for kind in KIND_TOPICS}
    tables["topics"] = topic_table()
    return {
        path: MADE_TABLE.sub(lambda found: found[1] + tables[found[2]], text)
        for path in sorted(DOCS_FOLDER.glob("*.md"))
        if MADE_TABLE.search(text := path.read_text("utf-8"))
    }


def column_table(kind: type[Batch]) -> str:
    """The columns that rows of a kind have in files."""
    lines = ["| Column | Unit | |", "|---|---|---|"]
    for name, column in KIND_COLUMNS[kind].items():
        if name not in kind.encodings():
            cells = ", ".join(f"`{cell}`" for cell in column.cells)
            lines.append(f"| {cells} | {_unit(column)} | {_meaning(column)} |")
    return "\n".join(lines) + "\n"


def _unit(column: Declaration) -> str:
    """The unit of a column as people write it."""
    if column.form.dtype is np.int64:
        return "time"
    return UNIT_SIGNS.get(column.unit.name, column.unit.name)


def _meaning(column: Declaration) -> str:
    """The text of a column, with its words."""
    words = ", ".join(f"`{word}`" for word in column.words)
    return ": ".join(filter(None, (column.description, words)))


def topic_table() -> str:
    """The topics with their keys and values."""
    lines = ["| Topic | | Key | Value |", "|---|---|---|---|"]
    for topic in ALL_TOPICS:
        value = "; ".join(_value(topic))
        lines.append(f"| `{topic.name}` | {topic.title} | {topic.key} | {value} |")
    return "\n".join(lines) + "\n"


def _value(topic: Topic) -> Iterator[str]:
    """The forms of a topic's values, their headers, and how the brokers keep them."""
    for payload in topic.payloads:
        is_frame = payload.content_type == FRAME_CONTENT_TYPE
        yield payload.summary + (f" (`{payload.content_type}`)" if is_frame else "")
        if payload.headers:
            yield "headers " + ", ".join(f"`{header}`" for header in payload.headers)
    if topic.single:
        yield "one partition"
    if topic.compacted:
        yield "compacted"
