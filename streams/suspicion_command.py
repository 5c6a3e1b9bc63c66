"""The commands that learn a model of suspicion from visits, and that rank customers by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from detectors.rulebook import applied, rules_of
from replay.history import Source
from replay.labels import Label
from replay.shards import Shard
from replay.suspicion.features import ALL_FACTS, GROUP_NAMES, FactGroup
from replay.suspicion.fitting import SuspicionLesson, learn
from replay.suspicion.measures import CalibrationBin, RankingQuality
from replay.suspicion.ranking import Suspect, SuspicionReason, ranked, unknown_facts
from replay.suspicion.visits import labels_of_visits, visits_of
from replay.suspicion.watch import (
    WatchedCustomers,
    WatchedShard,
    joined,
    watch_shard,
)
from schemas.rules import Rulebook
from schemas.suspicion import SuspicionModel
from streams.histories import opened_for_jobs, opened_shard
from streams.json_output import show_json
from streams.judged_history import LabelFile, refusal_lines, refusals
from streams.lines import visible
from streams.report.score_page import PageSection, html_table, score_page
from streams.settings import Settings
from streams.shards import Jobs, OnPassed, asked
from streams.terminal import plain_output
from streams.text_tables import percent, show_table
from streams.times import local_time

TEXT_COLUMNS = 3  # at the left of the ranking
PAGE_TITLE = ("Customers by suspicion:", "窃电嫌疑排序：")
PAGE_LANGUAGES = ("en", "zh")
SUSPECT_HEADS = (
    ("rank", "排名"),
    ("area", "台区"),
    ("customer", "用户"),
    ("chance", "概率"),
    ("reasons", "主要理由"),
)
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
    watched = _watched(paths, file.labels, rulebook, settings, jobs)
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
        _write_page(report, source, lede, suspects[:top], notes, tables, chinese)
    if as_json:
        show_json(
            _plain(lesson.model, suspects)
            | _plain_lesson(lesson)
            | {"labels": file.facts(), **refusals(source)}
        )
        return
    _print(lede, suspects[:top], notes, tables, chinese=chinese)


def show_suspects(
    paths: Sequence[str],
    path: Path,
    rulebook: Rulebook,
    settings: Settings,
    top: int,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None,
    jobs: Jobs,
) -> None:
    """Ranks the customers of a history by a model. Raises ValueError, with advice, for what cannot be used."""
    model = _read_model(path)
    watched = _watched(paths, (), rulebook, settings, jobs)
    source = watched.source
    suspects = ranked(model, watched.customers)
    lede = _ranking_sentence(model, watched, chinese=chinese)
    notes = [*source.tally.reasons(source.rejected), *source.tally.notes]
    if report:
        _write_page(report, source, lede, suspects[:top], notes, (), chinese)
    if as_json:
        show_json(_plain(model, suspects) | refusals(source))
        return
    _print(lede, suspects[:top], notes, (), chinese=chinese)


@dataclass(frozen=True)
class _WatchQuestion:
    """Asks what a history shows of its customers, on the days of visits and at its end."""

    paths: tuple[str, ...]
    settings: Settings
    rulebook: Rulebook
    labels: tuple[Label, ...]
    source: Source | None  # opened already; None if each shard opens its own

    def __call__(self, shard: Shard, on_passed: OnPassed) -> WatchedShard:
        """What a shard shows of its customers."""
        source, whole = opened_shard(
            self.paths, self.settings, shard, source=self.source
        )
        rules = applied(self.rulebook, rules_of(self.settings.voltage_limits))
        return watch_shard(source, self.labels, rules, whole)


def _watched(
    paths: Sequence[str],
    labels: Sequence[Label],
    rulebook: Rulebook,
    settings: Settings,
    jobs: Jobs,
) -> WatchedCustomers:
    """What a history shows of its customers; the same for any number of jobs."""
    ready = opened_for_jobs(paths, settings, jobs)
    question = _WatchQuestion(tuple(paths), settings, rulebook, tuple(labels), ready)
    return joined(asked(question, jobs, lambda _: None), labels)


def _read_model(path: Path) -> SuspicionModel:
    """The model of a file. Raises ValueError if it is none, or of another version of the program."""
    try:
        model = msgspec.json.decode(path.read_bytes(), type=SuspicionModel)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no model of suspicion: {error}") from error
    if unknown := unknown_facts(model):
        raise ValueError(
            f"{path} has the unknown feature {unknown[0]}: learn the model again"
        )
    return model


def _print(
    lede: str,
    suspects: Sequence[Suspect],
    notes: Iterable[str],
    tables: Iterable[list[list[str]]],
    *,
    chinese: bool,
) -> None:
    """Prints the measures, the ranking and the notes."""
    out = plain_output()
    out.print(visible(lede))
    for table in tables:
        show_table(table, out, words=1)
    show_table(_suspect_table(suspects, chinese=chinese), out, words=TEXT_COLUMNS)
    for note in notes:
        out.print(visible(note))


def _write_page(
    report: Path,
    source: Source,
    lede: str,
    suspects: Sequence[Suspect],
    notes: Iterable[str],
    tables: Iterable[list[list[str]]],
    chinese: bool,
) -> None:
    """Writes the page."""
    page = score_page(
        f"{PAGE_TITLE[chinese]} {source.name}",
        lede,
        _suspect_table(suspects, chinese=chinese),
        notes,
        words=TEXT_COLUMNS,
        language=PAGE_LANGUAGES[chinese],
        sections=[PageSection("", html_table(table, words=1)) for table in tables],
    )
    report.write_text(page, encoding="utf-8")


# ---- Tables ----


def _suspect_table(suspects: Iterable[Suspect], *, chinese: bool) -> list[list[str]]:
    """The ranking, below its heads."""
    rows = [[head[chinese] for head in SUSPECT_HEADS]]
    for suspect in suspects:
        reasons = (_reason_text(each, chinese=chinese) for each in suspect.reasons)
        rows.append(
            [
                str(suspect.rank),
                visible(suspect.area),
                visible(suspect.customer),
                f"{suspect.chance:.1%}",
                ("；" if chinese else "; ").join(reasons),
            ]
        )
    return rows


def _reason_text(reason: SuspicionReason, *, chinese: bool) -> str:
    """A fact beside what is usual."""
    fact = ALL_FACTS[reason.fact]
    if chinese:
        return f"{fact.zh}{reason.value:.3g}（通常{reason.usual:.3g}）"
    return f"{fact.en} {reason.value:.3g} (usual {reason.usual:.3g})"


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


def _ranking_sentence(
    model: SuspicionModel, watched: WatchedCustomers, *, chinese: bool
) -> str:
    """By what is ranked."""
    count, last = len(watched.customers), local_time(watched.last, watched.source.zone)
    if chinese:
        return f"{watched.source.name}：截至{last}共{count:,}户，按{model.name}排序"
    return f"{watched.source.name}: {count:,} customers until {last}, ranked by {model.name}"


# ---- JSON ----


def _plain(model: SuspicionModel, suspects: Sequence[Suspect]) -> dict[str, Any]:
    """The model's name and all customers in order, as plain data."""
    return {"model": model.name, "customers": suspects}


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
