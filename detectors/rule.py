"""A rule is a function of columns.

Positional parameters name the columns it reads, keyword-only parameters are its settings: each a number, or a column
of numbers where segments differ. It returns a score per row, or per phase and row: 1 or more is trouble, below `clear`
is well again, between the two nothing changes, NaN cannot tell. A row in which any column it reads is NaN is NaN, but
for those columns that have a default, which it hears where they are known. DISPROVED ends an episode at once.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from models.use_class import UseClass
from schemas.columns import (
    METER_SEGMENTS,
    PHASE_NAMES,
    SEGMENT_NAMES,
    Batch,
    Codes,
    Column,
    Mask,
)
from schemas.rules import EditionStatus
from schemas.units import DAY_SECONDS
from schemas.use_class import UseClassModel

Segments = Mapping[str, Mapping[str, float]]  # settings by segment
CHRONIC_CALM = (
    2 * DAY_SECONDS
)  # calm that ends a chronic state: one that returns every evening is one; default of this project
NOT_KNOWN = np.array(np.nan)  # the default of a column that a rule hears
DISPROVED_SCORE = (
    -np.inf
)  # the score of a row by which the trouble is over, or never was
OPTIONAL_TEXT = re.compile(r"\[([^\]]*)\]")
WORDS_BY_CODE = {
    "class": METER_SEGMENTS,
    "类别": ("居民", "商业", "工业", "农业"),
    "phase": PHASE_NAMES,
}
"""By format, of what has a number."""


class Level(NamedTuple):
    """From which score, held how many seconds, an episode has which severity."""

    score: float
    severity: int
    hold: int


@dataclass(frozen=True)
class Rule:
    """A detector with its settings; `judge` is the function it was made from."""

    name: str
    kind: type[Batch]
    levels: tuple[Level, ...]  # the first is the raise line, at score 1
    release: int  # seconds of well before an episode clears
    clear: float
    judge: Callable[..., Any]
    reads: tuple[str, ...]
    settings: Mapping[str, Any]
    title: tuple[str, str]  # English, Chinese
    text: tuple[str, str]  # templates over evidence and settings; see `sentence`
    status: EditionStatus = (
        "published"  # shadow: judged and counted, not told; draft, retired: not judged
    )
    version: int = 1
    segments: Segments = field(default_factory=dict)  # what is set otherwise there
    model: UseClassModel | None = None  # by which it is judged
    optional_reads: tuple[
        str, ...
    ] = ()  # columns that may be NaN in a row that is judged
    meaning: int = 1  # raised where its scores mean something else, so that no open episode goes on
    chronic: bool = False  # it comes and goes by the hour: told again after a day and every week, with its hours
    ends: tuple[str, str] = (
        "",
        "",
    )  # what is said beside the sentence where it is DISPROVED

    def __post_init__(self) -> None:
        for segment, settings in self.segments.items():
            if segment not in self.kind.segments:
                raise ValueError(
                    f"{self.name}: a row of {self.kind.kind} is of no segment {segment}"
                )
            if unknown := settings.keys() - self.settings.keys():
                raise ValueError(
                    f"{self.name} has no setting {', '.join(sorted(unknown))}"
                )

    @property
    def family(self) -> str:
        """The module it stands in."""
        return str(self.judge.__module__).rpartition(".")[2]

    @property
    def modelled(self) -> bool:
        """Whether it is judged by a fleet model."""
        return not {*UseClass.gives}.isdisjoint(self.reads)

    @cached_property
    def tables(self) -> dict[str, Column]:
        """Each setting that segments set otherwise, by the code of a row's segments."""
        codes, tables = np.arange(1 << len(SEGMENT_NAMES)), dict[str, Column]()
        for bit, segment in enumerate(SEGMENT_NAMES):
            for name, value in self.segments.get(segment, {}).items():
                table = tables.setdefault(
                    name, np.full(len(codes), self.settings[name], np.float64)
                )
                table[codes >> bit & 1 == 1] = value
        return tables

    def in_force(self, codes: Codes | None) -> Mapping[str, Any]:
        """The settings for rows by the codes of their segments: numbers, and columns where segments differ."""
        if codes is None or not self.tables:
            return self.settings
        return {
            **self.settings,
            **{name: table[codes] for name, table in self.tables.items()},
        }

    @cached_property
    def beside(self) -> tuple[str, ...]:
        """Columns that it hears or tells where they are known, and judges without."""
        told = {
            name
            for text in self.text
            for part in OPTIONAL_TEXT.findall(text)
            for name in fields_of(part)
        }
        return tuple(
            sorted(({*self.optional_reads} | told) - {*self.reads, *self.settings})
        )

    def score(
        self, columns: Mapping[str, Any], missing: Mapping[str, Mask | None]
    ) -> Column:
        """Scores of the shape (rows,) or (3, rows); `gone` masks the NaN of each column, None where it has none."""
        told = [columns[name] for name in (*self.reads, *self.optional_reads)]
        score = np.asarray(
            self.judge(*told, **self.in_force(columns.get("segments"))), np.float64
        )
        masks = [mask for name in self.reads if (mask := missing[name]) is not None]
        if not masks:
            return score
        blind = masks[0]
        for mask in masks[1:]:
            blind = blind | mask
        return np.where(
            blind.any(axis=0) if blind.ndim > score.ndim else blind, np.nan, score
        )

    def tuned(self, **settings: Any) -> Rule:
        """The same rule with other settings. Raises TypeError for a setting it does not have."""
        if unknown := settings.keys() - self.settings.keys():
            raise TypeError(f"{self.name} has no setting {', '.join(sorted(unknown))}")
        return replace(self, settings={**self.settings, **settings})


ALL_RULES: dict[str, Rule] = {}


def rule(
    kind: type[Batch],
    *,
    title: tuple[str, str],
    text: tuple[str, str],
    severity: int,
    hold: int = 0,
    release: int = 0,
    clear: float = 0.9,
    worse: tuple[Level, ...] = (),
    status: EditionStatus = "published",
    segments: Segments = MappingProxyType({}),
    meaning: int = 1,
    chronic: bool = False,
    ends: tuple[str, str] = ("", ""),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the decorated function to RULES under its own name. Raises ValueError when the name is taken.

    `segments` holds the settings of the rows that belong to one: `segments={"residential": {"days": 30}}`. What is
    `chronic` is well again after RETURNS at the earliest.
    """

    def register(judge: Callable[..., Any]) -> Callable[..., Any]:
        if (name := judge.__name__) in ALL_RULES:
            raise ValueError(f"two rules are called {name}")
        parameters = inspect.signature(judge).parameters.values()
        columns = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        ALL_RULES[name] = Rule(
            name,
            kind,
            (Level(1.0, severity, hold), *worse),
            max(release, CHRONIC_CALM * chronic),
            clear,
            judge,
            tuple(p.name for p in columns if p.default is p.empty),
            {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
            title,
            text,
            status,
            segments=dict(segments),
            meaning=meaning,
            chronic=chronic,
            ends=ends,
            optional_reads=tuple(p.name for p in columns if p.default is not p.empty),
        )
        return judge

    return register


def fields_of(text: str) -> set[str]:
    """What a template names."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


class SentencePart(NamedTuple):
    """A part of a template: literal text, and what it names with its format."""

    needs: frozenset[str]  # what must be known for it to stand
    pieces: tuple[tuple[str, str | None, str], ...]

    def filled(self, shown: Mapping[str, Any]) -> str:
        """The part filled in, numbers as `str.format` does, and those that stand for a word as that word."""
        return "".join(
            literal if name is None else literal + _formatted(shown[name], spec)
            for literal, name, spec in self.pieces
        )


def _formatted(value: Any, spec: str) -> str:
    """A value as its format says."""
    return (
        WORDS_BY_CODE[spec][int(value)]
        if spec in WORDS_BY_CODE
        else format(value, spec)
    )


@lru_cache(maxsize=1024)
def _sections_of(text: str) -> tuple[SentencePart, ...]:
    """A template in parts, of which every other one stands in brackets."""
    parts = []
    for n, part in enumerate(OPTIONAL_TEXT.split(text)):
        pieces = tuple(
            (literal, name, spec or "")
            for literal, name, spec, _ in string.Formatter().parse(part)
        )
        parts.append(SentencePart(frozenset(fields_of(part) if n % 2 else ()), pieces))
    return tuple(parts)


def sentence(text: str, shown: Mapping[str, Any]) -> str:
    """A template filled in; a part in brackets stands only where all that it names is known.

    >>> sentence("{kva:.0f} kVA[ at {power_factor:.2f}], {filed_class:class}.", {"kva": 3, "filed_class": 1.0})
    '3 kVA, commercial.'
    """
    told = (
        part.filled(shown) for part in _sections_of(text) if part.needs <= shown.keys()
    )
    return "".join(told)


def between(trouble: Any, well: Any) -> Column:
    """The score of a rule with a raise line and a clear line: 1 in trouble, 0 when well, 0.95 between.

    >>> between(np.array([True, False, False]), np.array([False, True, False])).tolist()
    [1.0, 0.0, 0.95]
    """
    score = np.where(well, 0.0, 0.95)
    return np.where(trouble, 1.0, score) if np.count_nonzero(trouble) else score


def gated(score: Column, gate: Any) -> Column:
    """The score where the gate is open; elsewhere it may say well, but never trouble, so that no gate clears an alert.

    >>> gated(np.array([1.5, 1.5, 0.2]), np.array([True, False, False])).tolist()
    [1.5, 0.95, 0.2]
    """
    return np.where(gate, score, np.minimum(score, 0.95))
