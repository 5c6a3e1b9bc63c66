"""The command that ranks customers by a model of suspicion, and what it shares with the one that learns it."""

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
from replay.suspicion.features import ALL_FACTS
from replay.suspicion.ranking import Suspect, SuspicionReason, ranked, unknown_facts
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
from streams.judged_history import refusals
from streams.lines import visible
from streams.report.score_page import PageSection, html_table, score_page
from streams.settings import Settings
from streams.shards import Jobs, OnPassed, asked
from streams.terminal import plain_output
from streams.text_tables import show_table
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
    watched = watched_customers(paths, (), rulebook, settings, jobs)
    source = watched.source
    suspects = ranked(model, watched.customers)
    lede = _ranking_sentence(model, watched, chinese=chinese)
    notes = [*source.tally.reasons(source.rejected), *source.tally.notes]
    if report:
        write_ranking_page(report, source, lede, suspects[:top], notes, (), chinese)
    if as_json:
        show_json(plain_ranking(model, suspects) | refusals(source))
        return
    print_ranking(lede, suspects[:top], notes, (), chinese=chinese)


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


def watched_customers(
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


def print_ranking(
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


def write_ranking_page(
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


def _ranking_sentence(
    model: SuspicionModel, watched: WatchedCustomers, *, chinese: bool
) -> str:
    """By what is ranked."""
    count, last = len(watched.customers), local_time(watched.last, watched.source.zone)
    if chinese:
        return f"{watched.source.name}：截至{last}共{count:,}户，按{model.name}排序"
    return f"{watched.source.name}: {count:,} customers until {last}, ranked by {model.name}"


def plain_ranking(model: SuspicionModel, suspects: Sequence[Suspect]) -> dict[str, Any]:
    """The model's name and all customers in order, as plain data."""
    return {"model": model.name, "customers": suspects}
