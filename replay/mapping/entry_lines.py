"""The entries of a TOML file, each with its line: the parser keeps none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from replay.mapping.expressions import Expression, ExpressionError, parsed
from replay.tables import meant

HEADER_LINE = re.compile(r"\s*\[+([^\]]+)\]+\s*(?:#.*)?")
ENTRY_LINE = re.compile(r"""\s*("[^"]*"|'[^']*'|[\w.-]+)\s*=""")


def entry_lines(text: str) -> dict[tuple[str, str], int]:
    """The line of each entry, by its table and its name."""
    table = ""
    found: dict[tuple[str, str], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := HEADER_LINE.fullmatch(line):
            table = header[1].strip().replace('"', "")
            found.setdefault((table, ""), number)
        elif entry := ENTRY_LINE.match(line):
            found.setdefault((table, entry[1].strip("\"'")), number)
    return found


class CheckedEntries:
    """The entries of a mapping; faults are gathered with their lines."""

    def __init__(self, name: str, text: str, entries: Mapping[str, Any]) -> None:
        self.faults: list[tuple[int, str]] = []
        self.entries = entries
        self._name = name
        self._lines = entry_lines(text)

    def fault(self, sentence: str, table: str = "", entry: str = "") -> None:
        """Notes a fault of an entry."""
        tables = ((table, entry), (f"{table}.{entry}", ""), (table, ""))
        line = next(filter(None, map(self._lines.get, tables)), 0)
        place = f"{self._name} line {line}" if line else self._name
        self.faults.append((line, f"{place}: {sentence}"))

    def check_words(
        self, given: Mapping[str, Any], known: Collection[str], table: str, noun: str
    ) -> None:
        """Notes each entry that is not known."""
        for word in given:
            if word not in known:
                nearest = meant(word, known)
                self.fault(f"there is no {noun} `{word}`{nearest}", table, word)

    def text(self, entry: str) -> str:
        """The text of an entry, "" if it is missing."""
        value = self.entries.get(entry, "")
        if not isinstance(value, str):
            self.fault(f"`{entry}` is no text", "", entry)
            return ""
        return value

    def texts(self, entry: str) -> Sequence[str]:
        """The texts of an entry, none if it is missing."""
        value = self.entries.get(entry, [])
        if not isinstance(value, list) or not all(
            isinstance(text, str) for text in value
        ):
            self.fault(f'`{entry}` is no list of texts, such as ["x"]', "", entry)
            return []
        return value

    def table(self, *names: str) -> Mapping[str, Any]:
        """The entries of a table, none if it is missing."""
        found: Any = self.entries
        for name in names:
            found = found.get(name, {})
            if not isinstance(found, dict):
                self.fault(f"`{'.'.join(names)}` is no table", "", names[0])
                return {}
        return found

    def expression(self, table: str, entry: str, text: str) -> Expression | None:
        """The expression of a text, None with a fault."""
        try:
            return parsed(text)
        except ExpressionError as error:
            self.fault(f"`{entry}`: {text!r} {error}", table, entry)
            return None
