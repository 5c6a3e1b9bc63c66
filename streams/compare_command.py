"""The command that compares two rule sets, A and B, on a history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.text import Text

from detectors.rule import ALL_RULES
from detectors.rulebook import EMPTY_RULEBOOK, applied, changes, rules_of
from replay.comparison import (
    FIGURE_MEANINGS,
    LABEL_FIGURES,
    Differences,
    MatchedAlerts,
    RuleDifference,
    differences,
)
from replay.conditions import Condition, condition_of
from replay.history import Source
from replay.intervals import Estimate
from schemas.rules import Rulebook
from streams.histories import read_again
from streams.json_output import show_json
from streams.judged_history import (
    LabelFile,
    judged,
    refusal_lines,
    refusals,
    span_facts,
    span_sentence,
)
from streams.lines import line, visible
from streams.local.progress import Progress
from streams.report.comparison_page import example_sections, examples_of
from streams.report.score_page import PageSection, score_page
from streams.report.subjects import JudgedBy
from streams.rulebook_files import load_as_it_stands
from streams.settings import Settings
from streams.shards import ONE_JOB, Jobs
from streams.terminal import plain_output
from streams.text_tables import percent, show_table

EXAMPLE_COUNT = 10  # of each kind of difference
TEXT_COLUMNS = 2  # at the left of the table; the others are numbers
TABLE_HEADS = (
    ("rule", "规则"),
    ("segment", "类别"),
    ("A", "A"),
    ("B", "B"),
    ("same", "相同"),
    ("changed", "变化"),
    ("only A", "仅A"),
    ("only B", "仅B"),
    ("hours added", "增加工时"),
    ("precision A -> B", "准确率 A -> B"),
    ("recall A -> B", "召回率 A -> B"),
)
PAGE_TITLE = ("Two rule sets on", "规则对比：")
PAGE_LANGUAGES = ("en", "zh")
OF_ALL = ("all", "全部")
CODE_NAMES = ("the settings of the code", "代码默认设置")
EXAMPLE_HEADS = (
    ("only in A", "仅A有"),
    ("only in B", "仅B有"),
    ("in both, with another time or severity", "两者都有，但时间或级别不同"),
)


class RuleSet(NamedTuple):
    """A rulebook and the name of its file, "" for the settings of the code."""

    name: str
    rulebook: Rulebook


def rule_sets(paths: Sequence[Path], *, chinese: bool) -> tuple[RuleSet, RuleSet]:
    """A and B of one or two files; one is compared with the settings of the code. Raises ValueError."""
    if len(paths) not in (1, 2):
        raise ValueError(
            "give --rules once, to compare with the settings of the code, or twice, for A and B"
        )
    sets = [RuleSet(str(path), load_as_it_stands(path)) for path in paths]
    code = RuleSet(CODE_NAMES[chinese], EMPTY_RULEBOOK)
    *_, first, second = code, *sets
    return first, second


def conditions_of(texts: Sequence[str], labels: str | None) -> list[Condition]:
    """The conditions of the option --fail-if. Raises ValueError."""
    conditions = [condition_of(text, FIGURE_MEANINGS) for text in texts]
    for condition in conditions:
        if condition.name in LABEL_FIGURES and labels is None:
            raise ValueError(
                f"'{condition}' needs labels: give them by --labels, or choose among "
                f"{', '.join(name for name in FIGURE_MEANINGS if name not in LABEL_FIGURES)}"
            )
    return conditions


def compare_rule_sets(
    paths: Sequence[str],
    labels: str | None,
    sets: tuple[RuleSet, RuleSet],
    settings: Settings,
    conditions: Sequence[Condition],
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None = None,
    jobs: Jobs = ONE_JOB,
) -> list[str]:
    """Judges a history by A and B in one pass and prints how they differ; returns the conditions that hold.

    Raises ValueError, with advice, for a source or labels that cannot be used.
    """
    compared = _compared(paths, labels, sets, settings, jobs, quiet=as_json)
    source, found = compared.source, compared.found
    failed = _failed(conditions, found)
    before, after = sets
    limits = rules_of(settings.voltage_limits)
    edits = changes(after.rulebook, before.rulebook, limits)
    if as_json:
        names = {"a": before.name, "b": after.name, "changes": edits}
        span = span_facts(compared.progress, source)
        show_json(span | names | _plain(compared, failed))

    shown = _Shown(
        title=f"{PAGE_TITLE[chinese]} {source.name}",
        lede=span_sentence(compared.progress, source.zone, chinese=chinese),
        heads=[f"A: {before.name}", f"B: {after.name}", *_edit_lines(edits)],
        table=_table(found.rules, chinese=chinese),
        same=_same_sentence(found.rules, chinese=chinese),
        examples=list(
            _example_lines(found.alerts, ZoneInfo(source.zone), chinese=chinese)
        ),
        notes=list(map(visible, refusal_lines(source, compared.file))),
    )
    if report:
        sections = _sections(compared, sets, settings, paths, chinese=chinese)
        page = shown.page(PAGE_LANGUAGES[chinese], sections)
        report.write_text(page, encoding="utf-8")
    if not as_json:
        shown.show(plain_output())
    return failed


class _Compared(NamedTuple):
    """A history that two rule sets have judged, and how they differ."""

    source: Source
    progress: Progress
    file: LabelFile
    found: Differences


def _compared(
    paths: Sequence[str],
    labels: str | None,
    sets: tuple[RuleSet, RuleSet],
    settings: Settings,
    jobs: Jobs,
    *,
    quiet: bool,
) -> _Compared:
    """Judges a history by A and B in one pass. Raises ValueError."""
    file = LabelFile.read(labels, paths)
    rulebooks = [each.rulebook for each in sets]
    history = judged(paths, rulebooks, settings, jobs, quiet=quiet)
    file.keep_known(history.observed)
    by_a, by_b = history.alerts
    found = differences(by_a, by_b, file.labels, history.observed)
    return _Compared(history.source, history.progress, file, found)


def _sections(
    compared: _Compared,
    sets: tuple[RuleSet, RuleSet],
    settings: Settings,
    paths: Sequence[str],
    *,
    chinese: bool,
) -> Iterator[PageSection]:
    """The gravest alerts of each kind of difference as cards, from a second reading of the history."""
    source, matched = compared.source, compared.found.alerts
    code = rules_of(settings.voltage_limits)
    by_a, by_b = (
        JudgedBy(
            source.areas,
            applied(each.rulebook, code),
            source.zone,
            source.interval,
        )
        for each in sets
    )

    counts = len(matched.only_a), len(matched.only_b), len(matched.changed)
    headings = [
        f"{head[chinese]} ({count:,})"
        for head, count in zip(EXAMPLE_HEADS, counts, strict=True)
    ]
    return example_sections(
        headings,
        examples_of(matched, EXAMPLE_COUNT),
        read_again(paths),
        (by_a, by_b),
        compared.progress.last,
        chinese=chinese,
    )


class _Shown(NamedTuple):
    """A comparison as people see it."""

    title: str
    lede: str
    heads: list[str]
    table: list[list[str]]
    same: str
    examples: list[Text]
    notes: list[str]

    def page(self, language: str, sections: Iterable[PageSection]) -> str:
        """The page, which opens offline."""
        return score_page(
            self.title,
            "; ".join([self.lede, *self.heads]),
            self.table,
            [self.same, *self.notes],
            words=TEXT_COLUMNS,
            language=language,
            sections=sections,
        )

    def show(self, out: Console) -> None:
        """Prints it."""
        for text in (f"{self.title}: {self.lede}", *self.heads):
            out.print(visible(text))
        show_table(self.table, out, words=TEXT_COLUMNS)
        for note in (self.same, *self.examples, *self.notes):
            out.print(note)


def _failed(conditions: Iterable[Condition], found: Differences) -> list[str]:
    """The conditions that hold, each with its value."""
    figures = found.figures()
    return [
        f"{condition}: {condition.name} is {figures[condition.name]:g}"
        for condition in conditions
        if condition.holds(figures[condition.name])
    ]


def _plain(compared: _Compared, failed: Sequence[str]) -> dict[str, Any]:
    """A comparison as plain data; the first of its rules is of all."""
    found, matched = compared.found, compared.found.alerts
    return {
        "figures": found.figures(),
        "failed": failed,
        "rules": found.rules,
        "only_a": matched.only_a,
        "only_b": matched.only_b,
        "changed": matched.changed,
        "labels": compared.file.facts(),
        **refusals(compared.source),
    }


def _edit_lines(edits: dict[str, list[str]]) -> list[str]:
    """A line for every rule that B sets otherwise than A."""
    return [f"{rule}: {', '.join(texts)}" for rule, texts in edits.items()]


def _table(rows: Sequence[RuleDifference], *, chinese: bool) -> list[list[str]]:
    """The heads, and the cells of all rules together and of every rule that differs."""
    heads = [head[chinese] for head in TABLE_HEADS]
    shown = [row for row in rows if row.differences or not row.rule]
    return [heads, *(_cells(row, chinese=chinese) for row in shown)]


def _same_sentence(rows: Sequence[RuleDifference], *, chinese: bool) -> str:
    """A sentence on the rules that the table leaves out."""
    same = sum(not row.differences for row in rows if row.rule and not row.segment)
    if chinese:
        return f"另有{same:,}条规则告警相同"
    return f"the same alerts of {same:,} other rules"


def _cells(row: RuleDifference, *, chinese: bool) -> list[str]:
    """The cells of a rule or segment."""
    rule = OF_ALL[chinese]
    if row.rule:
        rule = ALL_RULES[row.rule].title[1] if chinese else row.rule

    counts = (
        row.by_a.alerts,
        row.by_b.alerts,
        row.same,
        row.changed,
        row.only_a,
        row.only_b,
    )
    return [
        "" if row.segment else rule,
        row.segment,
        *(f"{count:,}" for count in counts),
        f"{row.hours:+,.1f}",
        _step(row.by_a.precision, row.by_b.precision),
        _step(row.by_a.recall, row.by_b.recall),
    ]


def _step(by_a: Estimate, by_b: Estimate) -> str:
    """A share by A and by B."""
    if by_a.value is None and by_b.value is None:
        return "-"
    return f"{percent(by_a)} -> {percent(by_b)}"


def _example_lines(
    matched: MatchedAlerts, zone: ZoneInfo, *, chinese: bool
) -> Iterator[Text]:
    """The gravest alerts of each kind of difference, below its head."""
    heads = [head[chinese] for head in EXAMPLE_HEADS]
    for head, alerts in zip(heads, (matched.only_a, matched.only_b), strict=False):
        if alerts:
            yield Text(f"{head} ({len(alerts):,}):")
        for alert in alerts[:EXAMPLE_COUNT]:
            yield line(alert, zone, chinese=chinese)

    if matched.changed:
        yield Text(f"{heads[-1]} ({len(matched.changed):,}):")
    for pair in matched.changed[:EXAMPLE_COUNT]:
        yield Text("A ") + line(pair.by_a, zone, chinese=chinese)
        yield Text("B ") + line(pair.by_b, zone, chinese=chinese)
