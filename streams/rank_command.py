"""The command that ranks the subjects of a history by the daily scores of all rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from detectors.rule import ALL_RULES, Rule, judged_rules
from detectors.rulebook import applied, rules_of
from models.master.calendar import FIRST_DATE, midnights
from replay.rank_scores import RankScore, rank_score
from replay.ranking import DayRanking, rank_days
from replay.score_files import claim, join_parts, score_days, write_ranking
from schemas.rules import Rulebook
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
from streams.near_lines import place_of
from streams.report.score_page import score_page
from streams.settings import Settings
from streams.shards import ONE_JOB, Jobs
from streams.terminal import plain_output
from streams.text_tables import percent, show_table
from streams.times import local_time

TEXT_COLUMNS = 2  # at the left of the table; the others are numbers
TABLE_HEADS = (
    ("rank", "名次"),
    ("subject", "对象"),
    ("points", "分值"),
    ("score", "当日最高得分"),
    ("reasons", "主要原因"),
)
PAGE_TITLE = ("Ranking of", "排序：")
PAGE_LANGUAGES = ("en", "zh")


def rank_history(
    paths: Sequence[str],
    labels: str | None,
    rulebook: Rulebook,
    settings: Settings,
    *,
    top: int,
    as_json: bool,
    chinese: bool,
    scores: Path | None = None,
    report: Path | None = None,
    jobs: Jobs = ONE_JOB,
) -> None:
    """Judges a history by a rulebook; prints the first subjects of its last day, and writes scores and report.

    Raises ValueError, with advice, for a source, labels or a folder that cannot be used.
    """
    file = LabelFile.read(labels, paths)
    if scores:
        claim(scores)
    with TemporaryDirectory(dir=scores) as parts, TemporaryDirectory() as unkept:
        history = judged(paths, [rulebook], settings, jobs, quiet=as_json, scores=parts)
        file.keep_known(history.observed)
        folder = scores or Path(unkept)
        join_parts(Path(parts), folder)
        rules = judged_rules(applied(rulebook, rules_of(settings.voltage_limits)))
        ranked = _ranked(folder, history, rules, file, top, keeps=bool(scores))

    source, progress = history.source, history.progress
    span = span_sentence(progress, source.zone, chinese=chinese)
    table = ranked.table(chinese=chinese)
    notes = [*ranked.notes(chinese=chinese), *refusal_lines(source, file)]
    if report:
        html = score_page(
            f"{PAGE_TITLE[chinese]} {source.name}, {ranked.ranking.day}",
            span,
            table,
            notes,
            words=TEXT_COLUMNS,
            language=PAGE_LANGUAGES[chinese],
        )
        report.write_text(html, encoding="utf-8")

    if as_json:
        facts = span_facts(progress, source)
        plain = {**facts, **ranked.plain(), "labels": file.facts(), **refusals(source)}
        show_json(plain)
        return
    out = plain_output()
    out.print(visible(f"{source.name}, {ranked.ranking.day}: {span}"))
    show_table(table, out, words=TEXT_COLUMNS)
    for note in notes:
        out.print(visible(note))


@dataclass(frozen=True)
class _Ranked:
    """The ranking of the last day as people and machines see it."""

    ranking: DayRanking
    top: int
    zone: str
    cannot_tell: int  # meters that no rule could judge on any day
    score: RankScore | None  # None without labels

    def table(self, *, chinese: bool) -> list[list[str]]:
        """The heads and the cells of the first subjects."""
        heads = [head[chinese] for head in TABLE_HEADS]
        return [heads, *(self._cells(row, chinese=chinese) for row in self._rows())]

    def plain(self) -> dict[str, Any]:
        """The first subjects as plain data, with what labels say of them."""
        return {
            "day": self.ranking.day,
            "subjects": len(self.ranking),
            "cannot_tell": self.cannot_tell,
            "ranking": [self._plain_row(row) for row in self._rows()],
            "precision": self.score,
        }

    def notes(self, *, chinese: bool) -> list[str]:
        """Lines on the subjects that are not listed, and on labels."""
        count, unknown = len(self.ranking), self.cannot_tell
        notes = [f"{count:,} subjects ranked; cannot tell: {unknown:,} meters"]
        if chinese:
            notes = [f"共排序{count:,}个对象；无法判断：{unknown:,}块电能表"]
        if self.score is None:
            return notes

        score = self.score
        precision, recall = percent(score.precision), percent(score.recall)
        counts = (
            f"true {score.true:,}, false {score.false:,}, unknown {score.unknown:,}"
        )
        found = f"{score.found:,} of {score.labels:,} true labels"
        line = f"first {score.count:,}: {counts}; precision {precision}, recall {recall} ({found})"
        if chinese:
            counts = f"属实{score.true:,}，误报{score.false:,}，未知{score.unknown:,}"
            found = f"{score.labels:,}条标签中发现{score.found:,}条"
            line = f"前{score.count:,}名：{counts}；准确率{precision}，召回率{recall}（{found}）"
        return [*notes, line]

    def _rows(self) -> range:
        """The first subjects."""
        return range(min(self.top, len(self.ranking)))

    def _reasons(self, row: int) -> list[tuple[str, float, float, int]]:
        """The rule, points, score and time of each reason, the strongest first."""
        ranking = self.ranking
        columns = (ranking.reason_points, ranking.reason_scores, ranking.reason_times)
        values = zip(*(column[:, row].tolist() for column in columns), strict=True)
        rules = [rules[row] for rules in ranking.reasons]
        return [(rule, *each) for rule, each in zip(rules, values, strict=True) if rule]

    def _cells(self, row: int, *, chinese: bool) -> list[str]:
        """The cells of a subject."""
        ranking = self.ranking
        reasons = [
            f"{ALL_RULES[rule].title[1] if chinese else rule} {score:.2f} ({local_time(at, self.zone)})"
            for rule, _, score, at in self._reasons(row)
        ]
        highest = float(ranking.highest[row])
        return [
            f"{row + 1:,}",
            place_of(*ranking.places[row]),
            f"{ranking.points[row]:.2f}",
            "-" if math.isnan(highest) else f"{highest:.2f}",
            ("；" if chinese else ", ").join(reasons),
        ]

    def _plain_row(self, row: int) -> dict[str, Any]:
        """A subject as plain data."""
        ranking = self.ranking
        area, subject = ranking.places[row]
        highest = float(ranking.highest[row])
        return {
            "rank": row + 1,
            "area": area,
            "subject": subject,
            "points": round(float(ranking.points[row]), 4),
            "score": None if math.isnan(highest) else highest,
            "score_rule": ranking.highest_rule[row],
            "reasons": [
                {
                    "rule": rule,
                    "points": round(points, 4),
                    "score": score,
                    "at": local_time(at, self.zone),
                }
                for rule, points, score, at in self._reasons(row)
            ],
        }


def _ranked(
    folder: Path,
    history: JudgedHistory,
    rules: Sequence[Rule],
    file: LabelFile,
    top: int,
    *,
    keeps: bool,
) -> _Ranked:
    """The ranking of the last day; writes the rankings of all days if they are kept.

    Raises ValueError if nothing has a score.
    """
    (alerts,) = history.alerts
    last = None
    for last in rank_days(lambda: score_days(folder), rules, alerts):
        if keeps:
            write_ranking(folder, last[1].day, last[1].table())
    if last is None:
        raise ValueError(
            f"no rule could judge {history.source.name}: `meterwatch inspect` says what each rule lacks"
        )

    ranking, of_day = last
    meters = history.observed.meters()
    score = None
    if file.labels:
        end = _end_of(of_day.day, history.source.zone)
        score = rank_score(of_day, file.labels, history.observed, top, end)
    cannot_tell = sum(not ranking.knows(meter) for meter in meters)
    return _Ranked(of_day, top, history.source.zone, cannot_tell, score)


def _end_of(day: str, zone: str) -> int:
    """The midnight that ends a day."""
    number = int((np.datetime64(day) - np.datetime64(FIRST_DATE)).astype(int))
    return int(midnights(zone)[number + 1])
