"""A rule is a function of columns.

Positional parameters name the columns it reads, keyword-only parameters are its settings: each a number, or a column
of numbers where segments differ. It returns a score per row, or per phase and row: 1 or more is trouble, below `clear`
is well again, between the two nothing changes, NaN means "cannot tell". If a column without a default is NaN in a row,
the row's score is NaN; a column with a default is used where it is known. DISPROVED_SCORE ends an episode at once.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from detectors.curves.contract import Curve, OfficeTimeline
from models.meters.use_class import UseClass
from models.signature import signature_of
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

SHADOW_STATUS = "shadow"  # of a rule that is counted and not shown
Segments = Mapping[str, Mapping[str, float]]  # settings by segment
# seconds of calm that end a chronic state, so that trouble of every evening is one state;
# default of this project
CHRONIC_CALM = 2 * DAY_SECONDS
NOT_KNOWN = np.array(np.nan)  # the default of a column that a rule can do without
DISPROVED_SCORE = -np.inf  # of a row that proves trouble over, or that it never was
OPTIONAL_TEXT = re.compile(r"\[([^\]]*)\]")
WORDS_BY_CODE = {
    "class": METER_SEGMENTS,
    "类别": ("居民", "商业", "工业", "农业"),
    "phase": PHASE_NAMES,
}
"""By format: the word of each code."""


class Explanation(Enum):
    """Something that may account for a rule's alerts; the reasons for which they are then suppressed."""

    OUTAGE = ("planned_outage", "area_outage")
    VACANCY = ("vacancy",)
    METER_CHANGE = ("meter_change",)
    UNREAD_AREA = ("area_failure",)
    SAME_TROUBLE = ("same_trouble",)  # with a customer's use

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons, as `suppressed_by` has them."""
        return self.value


RULES_PREFIX = "detectors.rules."  # of the modules of rules
# evidence of another kind, near in time: openings without an order, magnetic fields
SecondEvidence = Literal["openings", "fields"]


class Level(NamedTuple):
    """The score from which an episode has a severity, once it has stayed there for `hold` seconds."""

    score: float
    severity: int
    hold: int


class CountryLimits(NamedTuple):
    """Settings that differ by the law of a country, and those of its segments."""

    settings: Mapping[str, float]
    segments: Segments = MappingProxyType({})


@dataclass(frozen=True)
class Rule:
    """A detector with its settings, made from the function `judge`."""

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
    explained_by: tuple[Explanation, ...]  # by which its alerts are suppressed
    # shadow: judged and counted, not shown; draft, retired: not judged
    status: EditionStatus = "published"
    version: int = 1
    segments: Segments = field(default_factory=dict)  # settings that differ there
    model: UseClassModel | None = None  # by which it is judged
    optional_reads: tuple[str, ...] = ()  # columns that may be NaN in a judged row
    meaning: int = 1  # increased when scores change their meaning: ends open episodes
    # it comes and goes by the hour: revised after a day and every week, with its hours
    chronic: bool = False
    ends: tuple[str, str] = ("", "")  # added to the sentence by DISPROVED_SCORE
    # of a whole area: its alert is this explanation of its meters' alerts
    explains: Explanation | None = None
    strengthened_by: tuple[SecondEvidence, ...] = ()  # with which an alert is grave
    countries: Mapping[str, CountryLimits] = field(default_factory=dict)
    outcome: str = ""  # by which alone a visit finds it true; else those of its family
    # what shows its alerts; None if nothing that a report keeps does
    curve: Curve | OfficeTimeline | None = None

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
        drawn_settings = self.curve.settings if isinstance(self.curve, Curve) else ()
        if unknown := {*drawn_settings} - self.settings.keys():
            raise ValueError(
                f"{self.name}: its curve draws {', '.join(sorted(unknown))}, no setting of it"
            )

    @property
    def family(self) -> str:
        """The module or folder of `detectors/rules/` that has the rule."""
        return self.judge.__module__.removeprefix(RULES_PREFIX).partition(".")[0]

    @property
    def modelled(self) -> bool:
        """Whether it is judged by a fleet model."""
        return not {*UseClass.gives}.isdisjoint(self.reads)

    @cached_property
    def tables(self) -> dict[str, Column]:
        """Each setting that segments change, by the code of a row's segments."""
        codes = np.arange(1 << len(SEGMENT_NAMES))
        tables: dict[str, Column] = {}
        for bit, segment in enumerate(SEGMENT_NAMES):
            for name, value in self.segments.get(segment, {}).items():
                table = tables.setdefault(
                    name, np.full(len(codes), self.settings[name], np.float64)
                )
                table[codes >> bit & 1 == 1] = value
        return tables

    def in_force(self, codes: Codes | None) -> Mapping[str, Any]:
        """The settings by the codes of rows' segments: numbers, and columns where segments differ."""
        if codes is None or not self.tables:
            return self.settings
        columns = {name: table[codes] for name, table in self.tables.items()}
        return {**self.settings, **columns}

    @cached_property
    def beside(self) -> tuple[str, ...]:
        """Columns that the rule or its sentences use if known; the rule judges without them."""
        names = {*self.optional_reads}
        for text in self.text:
            for section in OPTIONAL_TEXT.findall(text):
                names |= fields_of(section)
        return tuple(sorted(names - {*self.reads, *self.settings}))

    def score(
        self, columns: Mapping[str, Any], missing: Mapping[str, Mask | None]
    ) -> Column:
        """Scores of shape (rows,) or (3, rows); `missing` masks each column's NaN, None without NaN."""
        arguments = [columns[name] for name in (*self.reads, *self.optional_reads)]
        settings = self.in_force(columns.get("segments"))
        score = np.asarray(self.judge(*arguments, **settings), np.float64)

        masks = [mask for name in self.reads if (mask := missing[name]) is not None]
        if not masks:
            return score
        unknown = masks[0]
        for mask in masks[1:]:
            unknown = unknown | mask
        blank = unknown.any(axis=0) if unknown.ndim > score.ndim else unknown
        return np.where(blank, np.nan, score)

    def scores_like(self, other: Rule) -> bool:
        """Whether the scores of any row are those of another rule."""
        return _what_scores(self) == _what_scores(other)

    def tuned(self, **settings: Any) -> Rule:
        """The same rule with other settings. Raises TypeError for a setting it does not have."""
        if unknown := settings.keys() - self.settings.keys():
            raise TypeError(f"{self.name} has no setting {', '.join(sorted(unknown))}")
        return replace(self, settings={**self.settings, **settings})

    def in_country(self, country: str) -> Rule:
        """The same rule with the limits of a country, if it has others there."""
        if country not in self.countries:
            return self
        settings, segments = self.countries[country]
        return replace(self.tuned(**settings), segments={**self.segments, **segments})


def _what_scores(rule: Rule) -> tuple[Any, ...]:
    """All on which the scores of a rule hang."""
    arguments = (rule.reads, rule.optional_reads)
    return type(rule), rule.judge, arguments, rule.settings, rule.segments


ALL_RULES: dict[str, Rule] = {}


def judged_rules(rules: Iterable[Rule]) -> list[Rule]:
    """The rules that are neither drafts nor retired."""
    return [rule for rule in rules if rule.status in ("published", SHADOW_STATUS)]


def fleet_model_of(rules: Iterable[Rule]) -> UseClassModel | None:
    """The fleet model of the first rule that has a model, if any."""
    return next((rule.model for rule in rules if rule.model), None)


def rule(
    kind: type[Batch],
    *,
    title: tuple[str, str],
    text: tuple[str, str],
    curve: Curve | OfficeTimeline | None,
    explained_by: tuple[Explanation, ...],
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
    explains: Explanation | None = None,
    strengthened_by: tuple[SecondEvidence, ...] = (),
    countries: Mapping[str, CountryLimits] = MappingProxyType({}),
    outcome: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the decorated function to ALL_RULES under its own name. Raises ValueError if the name is taken.

    `curve` shows its alerts, None if nothing that a report keeps does. `explained_by` says what may account for them,
    () if nothing does. `segments` holds the settings of the rows that belong to a segment: `segments={"residential":
    {"days": 30}}`. A `chronic` rule clears after CHRONIC_CALM at the earliest.
    """

    def register(judge: Callable[..., Any]) -> Callable[..., Any]:
        if (name := judge.__name__) in ALL_RULES:
            raise ValueError(f"two rules are called {name}")

        reads, optional_reads, settings = signature_of(judge)
        ALL_RULES[name] = Rule(
            name,
            kind,
            (Level(1.0, severity, hold), *worse),
            max(release, CHRONIC_CALM * chronic),
            clear,
            judge,
            reads,
            settings,
            title,
            text,
            explained_by,
            status,
            segments=dict(segments),
            meaning=meaning,
            chronic=chronic,
            ends=ends,
            explains=explains,
            strengthened_by=strengthened_by,
            countries=countries,
            outcome=outcome,
            curve=curve,
            optional_reads=optional_reads,
        )
        return judge

    return register


def explanations_of(name: str) -> tuple[Explanation, ...]:
    """The explanations of a rule's alerts; none if the rule is not known."""
    known = ALL_RULES.get(name)
    return known.explained_by if known else ()


def fields_of(text: str) -> set[str]:
    """The names in a template."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


class SentencePart(NamedTuple):
    """A section of a template: literal texts, each with the name after it and its format."""

    needs: frozenset[str]  # names that must be known, else the section is left out
    pieces: tuple[tuple[str, str | None, str], ...]

    def filled(self, shown: Mapping[str, Any]) -> str:
        """The section filled in; numbers as by `str.format`, codes as the words they stand for."""
        return "".join(
            literal if name is None else literal + _formatted(shown[name], spec)
            for literal, name, spec in self.pieces
        )


def _formatted(value: Any, spec: str) -> str:
    """A value in its format."""
    if spec in WORDS_BY_CODE:
        return WORDS_BY_CODE[spec][int(value)]
    return format(value, spec)


@lru_cache(maxsize=1024)
def _sections_of(text: str) -> tuple[SentencePart, ...]:
    """The sections of a template; every second section is in brackets."""
    sections = []
    for n, section in enumerate(OPTIONAL_TEXT.split(text)):
        pieces = tuple(
            (literal, name, spec or "")
            for literal, name, spec, _ in string.Formatter().parse(section)
        )
        needs = frozenset(fields_of(section) if n % 2 else ())
        sections.append(SentencePart(needs, pieces))
    return tuple(sections)


def sentence(text: str, shown: Mapping[str, Any]) -> str:
    """A template filled in; a section in brackets is left out unless all its names are known.

    >>> sentence("{kva:.0f} kVA[ at {power_factor:.2f}], {filed_class:class}.", {"kva": 3, "filed_class": 1.0})
    '3 kVA, commercial.'
    """
    return "".join(
        section.filled(shown)
        for section in _sections_of(text)
        if section.needs <= shown.keys()
    )


def between(trouble: Any, well: Any) -> Column:
    """The score of a rule with a raise line and a clear line: 1 in trouble, 0 when well, 0.95 between.

    >>> between(np.array([True, False, False]), np.array([False, True, False])).tolist()
    [1.0, 0.0, 0.95]
    """
    score = np.where(well, 0.0, 0.95)
    return np.where(trouble, 1.0, score) if np.count_nonzero(trouble) else score


def gated(score: Column, gate: Any) -> Column:
    """The score where the gate is open; elsewhere at most 0.95, so that a gate neither raises nor clears an alert.

    >>> gated(np.array([1.5, 1.5, 0.2]), np.array([True, False, False])).tolist()
    [1.5, 0.95, 0.2]
    """
    return np.where(gate, score, np.minimum(score, 0.95))
