"""The tables [columns], [words] and [phases] of a mapping, checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any, cast, get_args

from replay.mapping.column_mapping import MappedColumn, PhaseRows
from replay.mapping.entry_lines import CheckedEntries
from replay.mapping.expressions import Expression
from replay.mapping.targets import ColumnTarget, phase_stems, targets, words_of
from replay.mapping.units import units_for
from replay.tables import meant
from schemas.columns import Batch
from schemas.events import System

COLUMN_ENTRIES = ("from", "unit", "value", "system")
TIME_ENTRIES = ("from", "value", "day", "time", "plus")  # of `at`
DURATION_TEXT = re.compile(r"(-?\d+) ?([a-z]+)")
PHASE_LETTERS = ("A", "B", "C")


class ColumnEntries:
    """The columns of a mapping; faults go to its entries."""

    def __init__(self, entries: CheckedEntries, kind: type[Batch]) -> None:
        self._entries = entries
        self._fault = entries.fault
        self._kind = kind

    def columns(self) -> dict[str, MappedColumn]:
        """The columns that are mapped without a fault."""
        known = targets(self._kind)
        if "phases" in self._entries.entries:
            known |= phase_stems(self._kind)
        given = self._entries.table("columns")
        noun = f"column of {self._kind.kind}"
        self._entries.check_words(given, known, "columns", noun)
        words = self._words(known, given)

        columns = {}
        for name, entry in given.items():
            target = known.get(name)
            column = self._column(name, entry, target) if target else None
            if column:
                columns[name] = column._replace(words=words.get(name, {}))
        return columns

    def clock(self) -> tuple[Expression | None, int]:
        """The column of the hour, if `at` is made of two, and the seconds that are added to it."""
        given = self._entries.table("columns").get("at")
        if not isinstance(given, dict):
            return None, 0
        hour = given.get("time", "")
        clock = self._path("at", hour) if isinstance(hour, str) and hour else None
        return clock, self._seconds(given.get("plus", "0 s"))

    def phases(self, columns: Collection[str]) -> PhaseRows | None:
        """How rows of one phase are known; None if rows have all phases."""
        given = self._entries.table("phases")
        if "phases" not in self._entries.entries:
            return None
        known = ("column", *PHASE_LETTERS)
        self._entries.check_words(given, known, "phases", "entry")
        column = given.get("column")
        if not isinstance(column, str):
            self._fault(
                "[phases] has no `column` that names the phase of a row", "phases"
            )
            return None
        if not set(phase_stems(self._kind)) & set(columns):
            stems = ", ".join(phase_stems(self._kind)) or "none"
            self._fault(
                f"[phases] needs a column of a phase in [columns]: {stems}", "phases"
            )

        places: dict[str, int] = {}
        for place, letter in enumerate(PHASE_LETTERS):
            words = given.get(letter, [letter])
            if not isinstance(words, list) or not all(
                isinstance(word, str) for word in words
            ):
                self._fault(
                    f'`{letter}` is no list of words, such as ["L1"]', "phases", letter
                )
                continue
            places |= dict.fromkeys(words, place)
        expression = self._entries.expression("phases", "column", column)
        return PhaseRows(expression, places) if expression else None

    def _column(
        self, name: str, entry: Any, target: ColumnTarget
    ) -> MappedColumn | None:
        """A column by its entry, None with a fault."""
        if isinstance(entry, list):
            return self._first_of(name, entry)
        given = {"from": entry} if isinstance(entry, str) else entry
        if not isinstance(given, dict) or not all(
            isinstance(text, str) for text in given.values()
        ):
            sentence = (
                f'`{name}` is no name, expression or {{ from = "...", unit = "..." }}'
            )
            self._fault(sentence, "columns", name)
            return None
        known = TIME_ENTRIES if name == "at" else COLUMN_ENTRIES
        if fault := _fault_of(given, known):
            self._fault(f"`{name}` {fault}", "columns", name)
            return None
        if "value" in given:
            return MappedColumn(None, given["value"])

        text = given.get("day") or given.get("from", "")
        expression = self._entries.expression("columns", name, text)
        if expression is None:
            return None
        if not (target.numeric or expression.is_path):
            self._fault(
                f"`{name}` is no number: nothing can be computed", "columns", name
            )
        return MappedColumn(
            expression,
            factor=self._factor(name, given.get("unit", ""), target),
            system=self._system(name, given.get("system", "")),
        )

    def _first_of(self, name: str, texts: list[Any]) -> MappedColumn | None:
        """A column with several names, of which the first counts that a table has; None with a fault."""
        if not texts or not all(isinstance(text, str) for text in texts):
            self._fault(f'`{name}` is no list of names, such as ["x"]', "columns", name)
            return None
        if self._entries.text("format") == "json" or self._entries.text("topic"):
            self._fault(f"`{name}`: only a table has a header", "columns", name)
        paths = [self._path(name, text) for text in texts]
        first, *others = paths
        return MappedColumn(first, others=list(filter(None, others))) if first else None

    def _path(self, name: str, text: str) -> Expression | None:
        """The name of a column, None with a fault."""
        expression = self._entries.expression("columns", name, text)
        if expression and not expression.is_path:
            self._fault(f"`{name}`: {text!r} is no name", "columns", name)
            return None
        return expression

    def _seconds(self, text: Any) -> int:
        """The seconds of a duration."""
        found = DURATION_TEXT.fullmatch(text) if isinstance(text, str) else None
        unit = units_for("s").get(found[2]) if found else None
        if not found or not unit:
            sentence = f"`plus` is {text!r}, which is no duration such as 15 min"
            self._fault(sentence, "columns", "at")
            return 0
        return int(int(found[1]) * unit)

    def _factor(self, name: str, unit: str, target: ColumnTarget) -> Fraction:
        known = units_for(target.unit)
        if unit and unit not in known:
            can = f"known are {', '.join(known)}" if known else "the column has no unit"
            sentence = f"`{name}` cannot be in {unit!r}{meant(unit, known)}; {can}"
            self._fault(sentence, "columns", name)
        return known.get(unit, Fraction(1))

    def _system(self, name: str, system: str) -> System | None:
        if not system:
            return None
        known = get_args(System)
        if name != "event" or system not in known:
            sentence = f"`system` says whose codes `event` has: {', '.join(known)}{meant(system, known)}"
            self._fault(sentence, "columns", name)
        return cast(System, system)

    def _words(
        self, known: Mapping[str, ColumnTarget], mapped: Collection[str]
    ) -> dict[str, dict[str, str]]:
        """By column the project's word for each of theirs."""
        found = {}
        for name in self._entries.table("words"):
            table = f"words.{name}"
            if name not in mapped:
                self._fault(
                    f"[{table}]: {name} is not mapped{meant(name, mapped)}", table
                )
                continue
            words = self._entries.table("words", name)
            for theirs, ours in words.items():
                self._check_word(table, theirs, ours, known.get(name))
            found[name] = {str(theirs): str(ours) for theirs, ours in words.items()}
        return found

    def _check_word(
        self, table: str, theirs: str, ours: Any, target: ColumnTarget | None
    ) -> None:
        words = words_of(target) if target else ()
        if not isinstance(ours, str):
            self._fault(f"the word for {theirs!r} is no text", table, theirs)
        elif words and ours not in words:
            can = meant(ours, words) or f"; known are {', '.join(words)}"
            self._fault(f"there is no word `{ours}`{can}", table, theirs)


def _fault_of(given: Mapping[str, str], known: Collection[str]) -> str:
    """The fault of a column's entry, "" if it has none."""
    unknown = [word for word in given if word not in known]
    if unknown:
        return f"has `{unknown[0]}`{meant(unknown[0], known)}"
    if "day" in known and ("day" in given) != ("time" in given):
        return "has either `from`, or `day` and `time`"
    if ("from" in given) + ("value" in given) + ("day" in given) != 1:
        return "has either `from` or `value`"
    return ""
