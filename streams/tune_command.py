"""The command that sweeps the settings of one rule over a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from detectors.rule import ALL_RULES
from detectors.variants import TIMELINE_KINDS
from replay.rule_scores import RuleScore
from replay.tuning import (
    Point,
    TunedSetting,
    best_within,
    pareto_line,
    tuned_setting,
)
from schemas.units import DAY_SECONDS
from streams.json_output import show_json
from streams.judged_history import (
    JudgedHistory,
    LabelFile,
    judged,
    refusal_lines,
    refusals,
    span_facts,
    span_sentence,
)
from streams.lines import visible
from streams.report.score_page import score_page
from streams.report.tuning_plot import PlotPoint, tuning_plot
from streams.rulebook_files import draft_text
from streams.settings import Settings
from streams.shards import Jobs
from streams.sweep import Sweep
from streams.terminal import plain_output
from streams.text_tables import estimate_text, percent, show_table

ALERT_HEADS = (
    ("alerts", "告警"),
    ("per 1,000 meters a day", "每千表每天"),
)
LABEL_HEADS = (
    ("true", "属实"),
    ("false", "误报"),
    ("unknown", "未知"),
    ("precision", "准确率"),
    ("recall", "召回率"),
    ("delay, days", "延迟(天)"),
)
NEAR_HEADS = (("near misses", "近似告警"),)
LAST_HEADS = (("hours", "工时"), ("", ""))
IN_FORCE_MARK = ("in force", "现行")
ON_LINE_MARK = ("Pareto line", "帕累托前沿")
BEST_MARK = ("best within the budget", "预算内最佳")
COST_NAME = ("alerts per 1,000 meters a day", "每千表每天告警")
COST_NAME_WITHOUT_METERS = ("alerts a day", "每天告警")
PAGE_LANGUAGES = ("en", "zh")


class Tuned(NamedTuple):
    """A history that the settings of a sweep have judged, with their figures."""

    sweep: Sweep
    history: JudgedHistory
    file: LabelFile
    settings: list[TunedSetting]
    by_recall: bool  # else by near misses
    allowed: float  # alerts by the budget
    best: TunedSetting | None


def tune_rule(
    paths: Sequence[str],
    labels: str | None,
    sweep: Sweep,
    settings: Settings,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None,
    draft: Path | None,
    jobs: Jobs,
) -> None:
    """Judges a history by every setting in one pass; prints what each costs and finds, and writes page and draft.

    Raises ValueError, with advice, for a source or labels that cannot be used.
    """
    if ALL_RULES[sweep.rule].kind in TIMELINE_KINDS and not as_json:
        Console(stderr=True, highlight=False).print(
            f"an open alert of {sweep.rule} keeps its item: {len(sweep.points)} settings take as long as so many runs"
        )
    tuned = _tuned(paths, labels, sweep, settings, jobs, quiet=as_json)
    history = tuned.history
    title = _title(tuned, chinese=chinese)
    span = span_sentence(history.progress, history.source.zone, chinese=chinese)
    table = _table(tuned, chinese=chinese)
    notes = [
        _best_sentence(tuned, chinese=chinese),
        *refusal_lines(history.source, tuned.file),
    ]

    if report:
        html = score_page(
            title,
            span,
            table,
            notes,
            words=0,
            language=PAGE_LANGUAGES[chinese],
            figures=[_plot(tuned, chinese=chinese)],
        )
        report.write_text(html, encoding="utf-8")
    entry = _draft(tuned)
    if draft and entry:
        draft.write_text(entry, encoding="utf-8")
    if as_json:
        show_json(_plain(tuned, entry))
        return

    out = plain_output()
    out.print(visible(f"{title}: {span}"))
    show_table(table, out, words=0)
    for note in notes:
        out.print(visible(note))
    if entry and not draft:
        out.print()
        out.print(entry.rstrip())


def _tuned(
    paths: Sequence[str],
    labels: str | None,
    sweep: Sweep,
    settings: Settings,
    jobs: Jobs,
    *,
    quiet: bool,
) -> Tuned:
    """Judges a history by the settings of a sweep. Raises ValueError."""
    file = LabelFile.read(labels, paths)
    history = judged(
        paths, sweep.rulebooks, settings, jobs, quiet=quiet, near=sweep.rule
    )
    file.keep_known(history.observed)
    found = [
        tuned_setting(
            point,
            alerts,
            file.labels,
            history.observed,
            history.misses,
            rule=sweep.rule,
            in_force=not number,
        )
        for number, (point, alerts) in enumerate(
            zip(sweep.points, history.alerts, strict=True)
        )
    ]

    by_recall = any(each.score.recall.value is not None for each in found)
    costs = [
        (float(each.score.alerts), each.gain(by_recall=by_recall)) for each in found
    ]
    on_line = pareto_line(costs)
    found = [
        replace(each, on_pareto_line=is_on)
        for each, is_on in zip(found, on_line, strict=True)
    ]
    progress = history.progress
    allowed = float(found[0].score.alerts)
    if sweep.budget:
        allowed = sweep.budget.allowed(progress.meter_days, progress.days)
    best = best_within(found, allowed, by_recall=by_recall)
    return Tuned(sweep, history, file, found, by_recall, allowed, best)


def _title(tuned: Tuned, *, chinese: bool) -> str:
    """What was swept, and over what."""
    rule, name = tuned.sweep.rule, tuned.history.source.name
    count = len(tuned.settings)
    if chinese:
        return f"规则{rule}的{count}组参数：{name}"
    return f"{count} settings of {rule} on {name}"


def _table(tuned: Tuned, *, chinese: bool) -> list[list[str]]:
    """The heads, and the cells of every setting, the fewest alerts first."""
    by_labels = LABEL_HEADS if tuned.by_recall else NEAR_HEADS
    heads = [head[chinese] for head in (*ALERT_HEADS, *by_labels, *LAST_HEADS)]
    names = list(tuned.sweep.points[0])
    by_cost = sorted(
        tuned.settings,
        key=lambda each: (each.score.alerts, each.gain(by_recall=tuned.by_recall)),
    )
    return [
        [*names, *heads],
        *(_cells(each, tuned, chinese=chinese) for each in by_cost),
    ]


def _cells(each: TunedSetting, tuned: Tuned, *, chinese: bool) -> list[str]:
    """The cells of a setting."""
    score = each.score
    found = [f"{each.covered:,} / {len(tuned.history.misses):,}"]
    if tuned.by_recall:
        found = _label_cells(score)

    marks = (
        (each.in_force, IN_FORCE_MARK),
        (each.on_pareto_line, ON_LINE_MARK),
        (each is tuned.best, BEST_MARK),
    )
    return [
        *(f"{value:g}" for value in each.settings.values()),
        f"{score.alerts:,}",
        estimate_text(score.rate),
        *found,
        f"{score.hours:,.1f}",
        ", ".join(words[chinese] for is_marked, words in marks if is_marked),
    ]


def _label_cells(score: RuleScore) -> list[str]:
    """The cells that need labels."""
    return [
        f"{score.true:,}",
        f"{score.false:,}",
        f"{score.unknown:,}",
        percent(score.precision),
        percent(score.recall),
        estimate_text(score.delay),
    ]


def _setting_text(point: Point) -> str:
    """The values of a setting."""
    return ", ".join(f"{name} {value:g}" for name, value in point.items())


def _best_sentence(tuned: Tuned, *, chinese: bool) -> str:
    """A sentence on the setting that keeps the budget."""
    allowed, best = f"{tuned.allowed:,.0f}", tuned.best
    if best is None:
        fewest = min(each.score.alerts for each in tuned.settings)
        if chinese:
            return f"没有参数使告警不超过{allowed}条；最少{fewest:,}条"
        return f"no setting has at most {allowed} alerts; the fewest are {fewest:,}"

    if best.in_force:
        now = f"告警不超过{allowed}条时，现行参数最佳，无需草案"
        return (
            now
            if chinese
            else f"what is in force is best with at most {allowed} alerts: there is nothing to draft"
        )
    found = _found_text(best, tuned, chinese=chinese)
    text, alerts = _setting_text(best.settings), best.score.alerts
    if chinese:
        return f"告警不超过{allowed}条时最佳：{text}，告警{alerts:,}条，{found}"
    return f"best with at most {allowed} alerts: {text}, with {alerts:,} alerts and {found}"


def _found_text(each: TunedSetting, tuned: Tuned, *, chinese: bool) -> str:
    """What a setting finds."""
    if tuned.by_recall:
        recall = percent(each.score.recall)
        return f"召回率{recall}" if chinese else f"a recall of {recall}"
    covered, misses = f"{each.covered:,}", f"{len(tuned.history.misses):,}"
    if chinese:
        return f"覆盖{misses}次近似告警中的{covered}次"
    return f"{covered} of {misses} near misses"


def _plot(tuned: Tuned, *, chinese: bool) -> str:
    """Alerts against what is found, as a plot."""
    progress = tuned.history.progress
    exposure = progress.meter_days / 1000
    cost_name = COST_NAME[chinese]
    if not exposure:
        exposure = max(progress.days, 1 / DAY_SECONDS)
        cost_name = COST_NAME_WITHOUT_METERS[chinese]

    gain_head = LABEL_HEADS[4] if tuned.by_recall else NEAR_HEADS[0]
    points = [
        PlotPoint(
            cost=each.score.alerts / exposure,
            gain=each.gain(by_recall=tuned.by_recall),
            name=_setting_text(each.settings),
            on_line=each.on_pareto_line,
            in_force=each.in_force,
            is_best=each is tuned.best,
        )
        for each in tuned.settings
    ]
    return tuning_plot(points, cost_name, gain_head[chinese], tuned.allowed / exposure)


def _draft(tuned: Tuned) -> str:
    """The rulebook with the best setting and the evidence for it; "" if nothing is better than what is in force."""
    best = tuned.best
    if best is None or best.in_force:
        return ""
    number = tuned.settings.index(best)
    span = span_sentence(
        tuned.history.progress, tuned.history.source.zone, chinese=False
    )
    evidence = [
        _title(tuned, chinese=False),
        span,
        _best_sentence(tuned, chinese=False),
    ]

    for each in (tuned.settings[0], best):
        rate = estimate_text(each.score.rate)
        state = "in force" if each.in_force else "proposed"
        found = _found_text(each, tuned, chinese=False)
        alerts = f"{each.score.alerts:,} alerts, {rate} per 1,000 meters a day"
        evidence.append(
            f"{state}: {_setting_text(each.settings)}: {alerts}, {found}, "
            f"precision {percent(each.score.precision)}"
        )
    return draft_text(
        tuned.sweep.rule, tuned.sweep.rulebooks[number], map(visible, evidence)
    )


def _plain(tuned: Tuned, entry: str) -> dict[str, Any]:
    """A sweep as plain data; the first setting is in force."""
    history = tuned.history
    return {
        **span_facts(history.progress, history.source),
        "rule": tuned.sweep.rule,
        "settings": tuned.settings,
        "near_misses": history.misses,
        "allowed_alerts": tuned.allowed,
        "best": tuned.best,
        "draft": entry,
        "labels": tuned.file.facts(),
        **refusals(history.source),
    }
