"""The command that scores the rules on a history: alerts, precision, recall and delay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console

from detectors.rule import ALL_RULES
from detectors.rulebook import rules_of
from replay.history import Source, Tally, nothing_read
from replay.intervals import Estimate
from replay.labels import Label, known_labels, read_labels
from replay.observed import Observed
from replay.rule_scores import RuleScore, Scores, rule_scores
from schemas.alert import Alert
from schemas.inspection import OUTCOME_CODES
from schemas.rules import Rulebook
from streams.json_output import show_json
from streams.lines import visible
from streams.local.follow import follow
from streams.local.progress import Progress
from streams.local.progress_display import ProgressDisplay
from streams.local.runner import opened
from streams.local.store import Store
from streams.report.score_page import score_page
from streams.settings import Settings
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


@dataclass
class _LabelFile:
    """The labels of a file, and what was refused of them."""

    name: str
    labels: list[Label] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def check(self) -> None:
        """Raises ValueError if no label is left."""
        if self.name and not self.labels:
            reasons = self.tally.reasons(self.tally.rejected)
            why = "; ".join(reasons) or "it has no rows"
            raise ValueError(f"{self.name} has no label that can be used: {why}")


def score_history(
    paths: Sequence[str],
    labels: Path | None,
    rulebook: Rulebook,
    settings: Settings,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None = None,
) -> None:
    """Judges a history by a rulebook; prints the scores of its rules, and writes the report.

    Raises ValueError, with advice, for a source or labels that cannot be used.
    """
    file = _LabelFile(str(labels or ""))
    if labels:
        file.labels = read_labels(labels, file.tally)
    file.check()

    source = opened(paths, settings)
    observed = Observed(source.areas)
    noted = replace(source, batches=observed.note(source.batches))
    progress, alerts = _judged(noted, rulebook, settings, quiet=as_json)
    if not progress.rows:
        raise nothing_read(source.name, source.tally)
    file.labels = known_labels(file.labels, observed, file.tally)
    file.check()

    scores = rule_scores(alerts, file.labels, observed)
    span = _span(progress, source.zone, chinese=chinese)
    table = _table(scores, chinese=chinese)
    notes = _notes(scores, source, file, chinese=chinese)
    if report:
        html = score_page(
            f"{PAGE_TITLE[chinese]} {source.name}",
            span,
            table,
            notes,
            words=TEXT_COLUMNS,
            language=PAGE_LANGUAGES[chinese],
        )
        report.write_text(html, encoding="utf-8")

    if as_json:
        show_json(_plain(progress, scores, source, file))
        return
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.print(visible(f"{source.name}: {span}"))
    _show_table(table, out)
    for note in notes:
        out.print(visible(note))


def _judged(
    source: Source, rulebook: Rulebook, settings: Settings, *, quiet: bool
) -> tuple[Progress, list[Alert]]:
    """A history judged to its end, with nothing kept: the progress, and the alerts with those in shadow."""
    err = Console(stderr=True, highlight=False)
    with (
        Store(":memory:") as store,
        ProgressDisplay(err, source, quiet=quiet) as bar,
    ):
        progress = follow(
            source,
            store,
            source.name,
            every=float("inf"),
            on_progress=bar,
            rulebook=rulebook,
            rules=rules_of(settings.voltage_limits),
        )
        return progress, store.alerts(shadow=True)


def _plain(
    progress: Progress, scores: Scores, source: Source, file: _LabelFile
) -> dict[str, Any]:
    """The scores as plain data; the first is of all rules."""
    return {
        "source": source.name,
        "meters": progress.meters,
        "meter_days": round(progress.meter_days, 2),
        "rows": progress.rows,
        "from": local_time(progress.first, source.zone),
        "to": local_time(progress.last, source.zone),
        "scores": scores.rules,
        "missed": [_missed(label, source.zone) for label in scores.missed],
        "labels": {
            "file": file.name,
            "used": len(file.labels),
            "refused": dict(file.tally.rejected),
            "first": file.tally.first,
            "notes": file.tally.notes,
        },
        "refused": dict(source.rejected),
        "first": source.tally.first,
        "notes": source.tally.notes,
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


def _span(progress: Progress, zone: str, *, chinese: bool) -> str:
    """A sentence on what was judged."""
    first, last = (local_time(at, zone) for at in (progress.first, progress.last))
    if chinese:
        return f"{progress.meters:,}块电能表，{first}至{last}；括号内为90%置信区间"
    return (
        f"{progress.meters:,} meters, {first} to {last}; in brackets, intervals of 90 %"
    )


def _table(scores: Scores, *, chinese: bool) -> list[list[str]]:
    """The heads and the cells of every score."""
    heads = [head[chinese] for head in TABLE_HEADS]
    return [heads, *(_cells(score, chinese=chinese) for score in scores.rules)]


def _notes(
    scores: Scores, source: Source, file: _LabelFile, *, chinese: bool
) -> list[str]:
    """Lines on missed labels, and on what was left out of the labels and the history."""
    listed = scores.missed[:MISSED_LINES]
    notes = [_missed_line(label, source.zone, chinese=chinese) for label in listed]
    if more := len(scores.missed) - len(listed):
        notes.append(f"另有{more:,}条漏报" if chinese else f"and {more:,} more missed")

    for name, tally in ((file.name, file.tally), (source.name, source.tally)):
        reasons = tally.reasons(tally.rejected)
        notes += [f"refused of {name}: {reason}" for reason in reasons]
        notes += tally.notes
    return notes


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
        _estimate(score.rate),
        f"{score.true:,}",
        f"{score.false:,}",
        f"{score.unknown:,}",
        _percent(score.precision),
        _percent(score.recall),
        _estimate(score.delay),
        f"{score.hours:,.1f}",
        ", ".join(reasons),
    ]


def _estimate(estimate: Estimate) -> str:
    """A number with its interval.

    >>> _estimate(Estimate(1.25, 0.5, 2.0)), _estimate(Estimate(3.0)), _estimate(Estimate())
    ('1.25 (0.50 to 2.00)', '3.00', '-')
    """
    if estimate.value is None:
        return "-"
    interval = (
        "" if estimate.low is None else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    )
    return f"{estimate.value:.2f}{interval}"


def _percent(estimate: Estimate) -> str:
    """A share with its interval.

    >>> _percent(Estimate(0.5, 0.25, 0.75)), _percent(Estimate())
    ('50 % (25 to 75)', '-')
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.0f} % ({low:.0f} to {high:.0f})"


def _show_table(rows: Sequence[Sequence[str]], out: Console) -> None:
    """Prints rows, words at the left of their column and numbers at its right."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        words = map(set_cell_size, row[:TEXT_COLUMNS], widths)
        numbers = [
            " " * (width - cell_len(cell)) + cell
            for cell, width in zip(
                row[TEXT_COLUMNS:-1], widths[TEXT_COLUMNS:-1], strict=True
            )
        ]
        out.print("  ".join([*words, *numbers, row[-1]]).rstrip())


def _missed_line(label: Label, zone: str, *, chinese: bool) -> str:
    """A true label that no alert found, in a line."""
    place = label.subject
    if label.area not in ("", label.subject):
        place = f"{label.area} {label.subject}"
    outcome = OUTCOME_CODES[label.outcome].zh if chinese else label.outcome
    head = "漏报" if chinese else "missed"
    return f"{head}: {local_time(label.since, zone)} {place}, {outcome}"
