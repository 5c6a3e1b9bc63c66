"""Mappings of well-known layouts, which the project reads by them: examples to copy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from replay import tables
from replay.history import Source, Tally
from replay.mapping.column_mapping import ColumnMapping
from replay.mapping.file import mapping_of
from replay.mapping.files import has_columns, metered, sheet_of
from replay.mapping.guess import quoted
from replay.mapping.rows import RowMapper

FORMATS_FOLDER = Path(__file__).parents[1] / "formats"


class KnownMapping(NamedTuple):
    """A mapping of files wherever they are."""

    name: str  # of its file
    text: str
    mapping: ColumnMapping

    @property
    def title(self) -> str:
        """What its first line says it reads, and by which columns it is recognised."""
        title = self.text.lstrip("# ").partition(":")[0]
        names = ", ".join(str(path[0]) for path in self.mapping.paths.values())
        return f"{title} ({names}), mapped by {self.name}"

    def text_for(self, pattern: str) -> str:
        """The mapping of files that a pattern finds."""
        return f"files = {quoted(pattern)}\n{self.text}"

    def recognises(self, columns: Collection[str]) -> bool:
        """True if the columns are those of the mapping."""
        return has_columns(self.mapping, columns)

    def open_files(self, paths: Sequence[tables.File], tally: Tally) -> Source:
        """The readings of all files as one history."""
        name = " + ".join(path.name for path in paths)
        mapper = RowMapper(self.mapping)
        sheets = (sheet_of(path, self.mapping, tally) for path in paths)
        return metered(name, map(mapper.batch, sheets), self.mapping, tally)


@cache
def known_mappings() -> Sequence[KnownMapping]:
    """All of them, by name."""
    known = []
    for file in sorted(FORMATS_FOLDER.glob("*.toml")):
        text = file.read_text("utf-8")
        mapping = mapping_of(f'files = "*"\n{text}', file.name)
        known.append(KnownMapping(file.name, text, mapping))
    return known


def known_mapping(columns: Collection[str]) -> KnownMapping | None:
    """The mapping of a table with these columns; None if it is not known."""
    return next(
        (known for known in known_mappings() if known.recognises(columns)), None
    )
