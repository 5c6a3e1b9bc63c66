"""The command that learns a model of suspicion from visits, and measures it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from replay.suspicion.features import GROUP_NAMES, FactGroup
from replay.suspicion.fitting import SuspicionLesson, learn
from replay.suspicion.measures import CalibrationBin, RankingQuality
from replay.suspicion.ranking import ranked
from replay.suspicion.visits import labels_of_visits, visits_of
from schemas.rules import Rulebook
from streams.json_output import show_json
from streams.judged_history import LabelFile, refusal_lines, refusals
from streams.settings import Settings
from streams.shards import Jobs
from streams.suspicion_command import (
    plain_ranking,
    print_ranking,
    watched_customers,
    write_ranking_page,
)
from streams.text_tables import percent
from streams.times import local_time

QUALITY_HEADS = (
    ("ranking", "排序依据"),
    ("AUC", "AUC"),
    ("average precision", "平均精度"),
    ("lift in the top decile", "前10%提升度"),
    ("", ""),
)
CALIBRATION_HEADS = (
    ("tenth", "十分位"),
    ("visits", "检查数"),
    ("chance", "预测概率"),
    ("found", "查实比例"),
    ("", ""),
)
MODEL_NAMES = ("suspicion", "嫌疑模型")
BASELINE_NAMES = ("number of alerts", "告警数")
CHANCE_NAMES = ("by chance", "随机")
BETTER_SENTENCES = (
    "In shadow because it is offline and raises no alerts: let audit visits confirm its lift before visits follow it.",
    "影子运行：模型离线排序，不产生告警；先以随机抽检确认提升度，再按排序安排检查。",
)
NO_BETTER_SENTENCES = (
    "In shadow because it is no better than the number of alerts or the share of thefts: choose no visits by it.",
    "影子运行：在留出的检查上不优于告警数或平均查实率，不应据此安排检查。",
)


def learn_suspicion(
    paths: Sequence[str],
    labels: str | None,
    rulebook: Rulebook,
    settings: Settings,
    to: Path,
    top: int,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None,
    jobs: Jobs,
) -> None:
    """Learns a model from a history and labels, writes it, and prints how good it is and whom it suspects most.

    Raises ValueError, with advice, for a source or labels that cannot be used.
    """
    file = LabelFile.read(labels, paths)
    file.labels = labels_of_visits(file.labels, file.tally)
    watched = watched_customers(paths, file.labels, rulebook, settings, jobs)
    source = watched.source
    file.keep_known(watched.observed)
    visits = visits_of(watched, file.labels, file.tally)
    dates = [local_time(int(day), source.zone)[:10] for day in sorted(visits.days)]
    lesson = learn(visits, f"{source.name}, {dates[0]} to {dates[-1]}")
    to.write_bytes(
        msgspec.json.format(msgspec.json.encode(lesson.model), indent=0) + b"\n"
    )

    suspects = ranked(lesson.model, watched.customers)
    tables = _lesson_tables(lesson, chinese=chinese)
    notes = [*_lesson_notes(lesson, chinese=chinese), *refusal_lines(source, file)]
    lede = _lesson_sentence(lesson, to, chinese=chinese)
    if report:
        write_ranking_page(report, source, lede, suspects[:top], notes, tables, chinese)
    if as_json:
        show_json(
            plain_ranking(lesson.model, suspects)
            | _plain_lesson(lesson)
            | {"labels": file.facts(), **refusals(source)}
        )
        return
    print_ranking(lede, suspects[:top], notes, tables, chinese=chinese)


# ---- Tables ----


def _lesson_tables(lesson: SuspicionLesson, *, chinese: bool) -> list[list[list[str]]]:
    """The quality of the rankings, and the calibration."""
    by_chance = RankingQuality(0.5, lesson.share, 1.0)
    rankings = {MODEL_NAMES[chinese]: lesson.quality}
    for groups, quality in lesson.ablations.items():
        rankings[_without(groups, chinese=chinese)] = quality
    rankings |= {BASELINE_NAMES[chinese]: lesson.baseline}
    rankings |= {CHANCE_NAMES[chinese]: by_chance}

    qualities = [[head[chinese] for head in QUALITY_HEADS]]
    qualities += [_quality_cells(name, each) for name, each in rankings.items()]
    tenths = [[head[chinese] for head in CALIBRATION_HEADS]]
    tenths += [_tenth_cells(n, each) for n, each in enumerate(lesson.calibration, 1)]
    return [qualities, tenths]


def _without(groups: Iterable[FactGroup], *, chinese: bool) -> str:
    """What an ablation leaves out."""
    names = (GROUP_NAMES[group][chinese] for group in groups)
    return f"不含{'、'.join(names)}" if chinese else f"without {' and '.join(names)}"


def _quality_cells(name: str, quality: RankingQuality) -> list[str]:
    """A ranking's row."""
    figures = (quality.auc, quality.average_precision)
    return [name, *(f"{each:.3f}" for each in figures), f"{quality.lift:.2f}", ""]


def _tenth_cells(number: int, tenth: CalibrationBin) -> list[str]:
    """A row of the calibration."""
    return [
        str(number),
        f"{tenth.visits:,}",
        f"{tenth.chance:.1%}",
        percent(tenth.found),
        "",
    ]


# ---- Sentences ----


def _lesson_sentence(lesson: SuspicionLesson, to: Path, *, chinese: bool) -> str:
    """What was learned, and on what it is measured."""
    model = lesson.model
    later = lesson.measured_on == "later visits"
    if chinese:
        side = "较晚检查" if later else "其他用户(检查日期太少，未按时间划分)"
        return (
            f"{to}：{model.name}；{model.visits:,}次检查，查实窃电{model.thefts:,}次；"
            f"以{side}的{lesson.measured:,}次检查(查实{lesson.thefts:,}次)评估"
        )

    side = (
        "later visits to other customers"
        if later
        else "visits to other customers (not later ones, for their dates are too few)"
    )
    return (
        f"{to}: {model.name}; {model.visits:,} visits, {model.thefts:,} found theft; measured on "
        f"{lesson.measured:,} {side}, {lesson.thefts:,} of which found theft"
    )


def _lesson_notes(lesson: SuspicionLesson, *, chinese: bool) -> list[str]:
    """The Brier scores, and why the model is in shadow."""
    pair = f"{lesson.brier:.4f}", f"{lesson.brier_by_share:.4f}"
    score = (
        f"布赖尔评分{pair[0]}；恒定比例为{pair[1]}"
        if chinese
        else f"Brier score {pair[0]}; {pair[1]} if every chance were the share of thefts"
    )
    return [score, _shadow_sentences(lesson)[chinese]]


def _shadow_sentences(lesson: SuspicionLesson) -> tuple[str, str]:
    """Why the model is in shadow."""
    return BETTER_SENTENCES if lesson.is_better else NO_BETTER_SENTENCES


# ---- JSON ----


def _plain_lesson(lesson: SuspicionLesson) -> dict[str, Any]:
    """How good a model is, as plain data."""
    return {
        "visits": lesson.model.visits,
        "thefts": lesson.model.thefts,
        "measured_on": lesson.measured_on,
        "measured": lesson.measured,
        "measured_thefts": lesson.thefts,
        "share": lesson.share,
        "quality": lesson.quality,
        "baseline": lesson.baseline,
        "without": {
            "+".join(groups): quality for groups, quality in lesson.ablations.items()
        },
        "brier": lesson.brier,
        "brier_by_share": lesson.brier_by_share,
        "calibration": lesson.calibration,
        "is_better": lesson.is_better,
        "in_shadow_because": _shadow_sentences(lesson)[0],
    }
