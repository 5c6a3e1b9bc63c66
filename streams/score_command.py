"""The command that scores the rules on a history: alerts, precision, recall and delay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectors.rule import ALL_RULES
from replay.history import Source
from replay.labels import Label
from replay.rule_scores import RuleScore, Scores, rule_scores
from schemas.inspection import OUTCOME_CODES
from schemas.rules import Rulebook
from streams.json_output import show_json
from streams.judged_history import (
    LabelFile,
    judged,
    refusal_lines,
    refusals,
    span_facts,
    span_sentence,
)
from streams.lines import visible
from streams.local.progress import Progress
from streams.near_lines import NEAR_COLUMNS, near_table, plain_near
from streams.report.score_page import PageSection, html_table, score_page
from streams.settings import Settings
from streams.shards import ONE_JOB, Jobs
from streams.terminal import plain_output
from streams.text_tables import estimate_text, percent, show_table
from streams.times import local_time

MISSED_LINES = 10  # missed labels that are printed
TEXT_COLUMNS = 2  # at the left of the table; the others are numbers
TABLE_HEADS = (
    ("rule", "规则"),
    ("segment", "类别"),
    ("alerts", "告警"),
    ("per 1,000 meters a day", "每千表每天"),
    ("true", "属实"),
    ("false", "误报"),
    ("unknown", "未知"),
    ("precision", "准确率"),
    ("recall", "召回率"),
    ("delay, days", "延迟(天)"),
    ("hours", "工时"),
    ("suppressed", "抑制"),
)
PAGE_TITLE = ("Scores of the rules on", "规则评分：")
PAGE_LANGUAGES = ("en", "zh")
OF_ALL = ("all", "全部")
NEAR_TITLE = ("The highest scores that never raised an alert", "从未告警的最高得分")


def score_history(
    paths: Sequence[str],
    labels: str | None,
    rulebook: Rulebook,
    settings: Settings,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None = None,
    jobs: Jobs = ONE_JOB,
    near: int = 0,
) -> None:
    """Judges a history by a rulebook; prints the scores of its rules, and writes the report.

    Also lists so many of the highest scores of each rule, if `near` is not 0, of subjects on which it raised no alert.
    Raises ValueError, with advice, for a source or labels that cannot be used.
    """
    file = LabelFile.read(labels, paths)
    history = judged(paths, [rulebook], settings, jobs, quiet=as_json, highest=near)
    source, progress = history.source, history.progress
    file.keep_known(history.observed)

    (alerts,) = history.alerts
    scores = rule_scores(alerts, file.labels, history.observed)
    span = span_sentence(progress, source.zone, chinese=chinese)
    table = _table(scores, chinese=chinese)
    notes = _notes(scores, source, file, chinese=chinese)
    silent = near_table(history.highest, source.zone, chinese=chinese) if near else []
    if report:
        sections = []
        if near:
            near_rows = html_table(silent, words=NEAR_COLUMNS)
            sections.append(PageSection(NEAR_TITLE[chinese], near_rows))
        html = score_page(
            f"{PAGE_TITLE[chinese]} {source.name}",
            span,
            table,
            notes,
            words=TEXT_COLUMNS,
            language=PAGE_LANGUAGES[chinese],
            sections=sections,
        )
        report.write_text(html, encoding="utf-8")

    if as_json:
        plain = _plain(progress, scores, source, file)
        if near:
            plain["near"] = plain_near(history.highest, source.zone)
        show_json(plain)
        return
    out = plain_output()
    out.print(visible(f"{source.name}: {span}"))
    show_table(table, out, words=TEXT_COLUMNS)
    for note in notes:
        out.print(visible(note))
    if silent:
        out.print("")
        out.print(NEAR_TITLE[chinese])
        show_table(silent, out, words=NEAR_COLUMNS)


def _plain(
    progress: Progress, scores: Scores, source: Source, file: LabelFile
) -> dict[str, Any]:
    """The scores as plain data; the first is of all rules."""
    return {
        **span_facts(progress, source),
        "scores": scores.rules,
        "missed": [_missed(label, source.zone) for label in scores.missed],
        "labels": file.facts(),
        **refusals(source),
    }


def _missed(label: Label, zone: str) -> dict[str, str]:
    """A true label that no alert found."""
    return {
        "subject": label.subject,
        "area": label.area,
        "since": local_time(label.since, zone),
        "outcome": label.outcome,
        "source": label.source,
        "where": label.where,
    }


def _table(scores: Scores, *, chinese: bool) -> list[list[str]]:
    """The heads and the cells of every score."""
    heads = [head[chinese] for head in TABLE_HEADS]
    return [heads, *(_cells(score, chinese=chinese) for score in scores.rules)]


def _notes(
    scores: Scores, source: Source, file: LabelFile, *, chinese: bool
) -> list[str]:
    """Lines on missed labels, and on what was left out of the labels and the history."""
    listed = scores.missed[:MISSED_LINES]
    notes = [_missed_line(label, source.zone, chinese=chinese) for label in listed]
    if more := len(scores.missed) - len(listed):
        notes.append(f"另有{more:,}条漏报" if chinese else f"and {more:,} more missed")

    return [*notes, *refusal_lines(source, file)]


def _cells(score: RuleScore, *, chinese: bool) -> list[str]:
    """The cells of a score."""
    rule = OF_ALL[chinese]
    if score.rule:
        rule = ALL_RULES[score.rule].title[1] if chinese else score.rule
    reasons = (f"{reason} {count:,}" for reason, count in score.suppressed.items())

    return [
        rule if not score.segment else "",
        score.segment,
        f"{score.alerts:,}",
        estimate_text(score.rate),
        f"{score.true:,}",
        f"{score.false:,}",
        f"{score.unknown:,}",
        percent(score.precision),
        percent(score.recall),
        estimate_text(score.delay),
        f"{score.hours:,.1f}",
        ", ".join(reasons),
    ]


def _missed_line(label: Label, zone: str, *, chinese: bool) -> str:
    """A true label that no alert found, in a line."""
    place = label.subject
    if label.area not in ("", label.subject):
        place = f"{label.area} {label.subject}"
    outcome = OUTCOME_CODES[label.outcome].zh if chinese else label.outcome
    head = "漏报" if chinese else "missed"
    return f"{head}: {local_time(label.since, zone)} {place}, {outcome}"
