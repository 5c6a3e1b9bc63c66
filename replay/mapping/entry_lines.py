"""The line of each entry of a TOML file: the parser keeps none."""

from __future__ import annotations

import re

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
