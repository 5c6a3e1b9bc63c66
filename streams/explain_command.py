"""The command that explains what a rule made of one subject at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from detectors.engine import Engine
from detectors.rule import Rule
from detectors.rulebook import applied, rules_of
from replay.explanation import ExplainedHistory, FoundSubject
from replay.history import Source, nothing_read
from replay.shards import Shard, joined_source
from schemas.rules import Rulebook
from streams.explained_answer import ExplainedAnswer
from streams.histories import opened_for_jobs, opened_shard, read_again, section_of
from streams.json_output import show_json
from streams.judged_history import judged
from streams.report.explanation_page import explanation_page
from streams.report.subjects import JudgedBy
from streams.settings import Settings
from streams.shards import ONE_JOB, Jobs, OnPassed, asked
from streams.terminal import plain_output
from streams.times import local_time

ALERT_ID = re.compile("[0-9a-f]{16}")


class Question(NamedTuple):
    """The rule, the subject and the time that are asked about, or an alert alone."""

    rule: str
    subject: str
    area: str  # "" if the subject is in one area only
    at: str  # a local time, or a date, which means its end
    alert: str = ""  # its id

    def checked(self) -> Question:
        """The question, if it names an alert, or a rule, a subject and a time. Raises ValueError."""
        named = (self.rule, self.subject, self.area, self.at)
        if self.alert and any(named):
            raise ValueError(
                "an alert's id says all: leave out --rule, --meter, --area and --at"
            )
        if self.alert:
            return self
        if not (self.rule and self.at):
            raise ValueError(
                "give the id of an alert before the history, or --rule and --at with --meter, --subject or --area"
            )
        if not (self.subject or self.area):
            raise ValueError("name the subject by --meter, --subject or --area")
        return self


def asked_alert(texts: Sequence[str]) -> tuple[str, list[str]]:
    """The id of an alert, "" for none, and the paths of a history, from a command's arguments."""
    first, *rest = texts
    is_id = ALERT_ID.fullmatch(first) and not Path(first).exists()
    return (first, rest) if is_id else ("", [first, *rest])


def explain_history(
    paths: Sequence[str],
    question: Question,
    rulebook: Rulebook,
    settings: Settings,
    *,
    as_json: bool,
    chinese: bool,
    report: Path | None = None,
    jobs: Jobs = ONE_JOB,
) -> None:
    """Judges a history and explains a rule's answer about a subject at a time.

    Raises ValueError, with advice, for a source or a question that cannot be used.
    """
    question = question.checked()
    if not paths:
        raise ValueError("name the history: files, folders, an archive or a town")
    rules = applied(rulebook, rules_of(settings.voltage_limits))
    if question.alert:
        question = _of_alert(question.alert, paths, rulebook, settings, jobs, as_json)

    rule = _chosen(rules, question.rule)
    shown, end = _answered(question, rule, paths, rulebook, settings, jobs)
    if report:
        source = shown.source
        judged_by = JudgedBy(source.areas, rules, source.zone, source.interval)
        page = explanation_page(
            shown, read_again(paths), judged_by, end, chinese=chinese
        )
        report.write_text(page, encoding="utf-8")
    if as_json:
        show_json(shown.plain())
        return
    shown.show(plain_output(), chinese=chinese)


class _Explained(NamedTuple):
    """A source, or a shard of one, that was read to its end, and what it shows."""

    source: Source
    found: FoundSubject


@dataclass(frozen=True)
class _ExplainQuestion:
    """Asks what a history shows of the subject of a question."""

    paths: tuple[str, ...]
    settings: Settings
    rulebook: Rulebook
    question: Question
    source: Source | None  # opened already; None if each shard opens its own

    def __call__(self, shard: Shard, on_passed: OnPassed) -> _Explained:
        """What a shard shows of the subject. Raises ValueError, with advice, for a time that is none."""
        source, _ = opened_shard(self.paths, self.settings, shard, source=self.source)
        rules = applied(self.rulebook, rules_of(self.settings.voltage_limits))
        rule = _chosen(rules, self.question.rule)
        last = _asked_times(self.question.at, source.zone)[1]
        engine = Engine(
            rules, zone=source.zone, interval=source.interval, has_brakes=False
        )
        areas = {area.area: area for area in source.areas}
        engine.enroll(areas[name] for name in sorted(areas))
        history = ExplainedHistory(
            engine, rule, self.question.subject, self.question.area
        )
        history.judge(source.batches)
        return _Explained(replace(source, batches=iter(())), history.found(last))


def _answered(
    question: Question,
    rule: Rule,
    paths: Sequence[str],
    rulebook: Rulebook,
    settings: Settings,
    jobs: Jobs,
) -> tuple[ExplainedAnswer, int]:
    """The answer of a rule, and the last time of the history. Raises ValueError, with advice, if there is none."""
    ready = opened_for_jobs(paths, settings, jobs)
    asking = _ExplainQuestion(tuple(paths), settings, rulebook, question, ready)
    parts = asked(asking, jobs, lambda _: None)
    source = joined_source([part.source for part in parts])
    found = FoundSubject.joined(
        [part.found for part in parts], section_of(source.areas)
    )
    if not found.times:
        raise nothing_read(source.name, source.tally)

    first, last = _asked_times(question.at, source.zone)
    area = found.area(rule)
    subject = question.subject or area
    begin, end = min(found.times), max(found.times)
    if last < begin or first > end:
        span = " to ".join(local_time(at, source.zone) for at in (begin, end))
        raise ValueError(f"--at {question.at} is outside the history, {span}")
    explained = found.rows[area]
    if explained is None:
        raise ValueError(
            f"{rule.name} has judged no {rule.kind.kind} of {subject} until {question.at}: "
            f"they are made of {rule.kind.made_of}"
        )
    return ExplainedAnswer(rule, area, subject, explained, source), end


def _of_alert(
    key: str,
    paths: Sequence[str],
    rulebook: Rulebook,
    settings: Settings,
    jobs: Jobs,
    quiet: bool,
) -> Question:
    """The question after the evidence that raised an alert. Raises ValueError if the history has no such alert."""
    history = judged(paths, [rulebook], settings, jobs, quiet=quiet)
    (alerts,) = history.alerts
    alert = next((each for each in alerts if each.id == key), None)
    if alert is None:
        raise ValueError(
            f"{history.source.name} has no alert {key} that stands: give the rulebook that raised it by --rules"
        )
    at = datetime.fromtimestamp(alert.raised, ZoneInfo(history.source.zone))
    return Question(alert.rule, alert.subject, alert.area, at.isoformat())


def _chosen(rules: Sequence[Rule], name: str) -> Rule:
    """The rule of a name. Raises ValueError if there is none, or if it is not judged."""
    by_name = {rule.name: rule for rule in rules}
    if name not in by_name:
        near = get_close_matches(name, by_name, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no rule {name}{hint}")

    rule = by_name[name]
    if rule.status in ("draft", "retired"):
        raise ValueError(
            f"{name} is not judged, its status is {rule.status}: set it to shadow in a file for --rules"
        )
    return rule


def _asked_times(text: str, zone: str) -> tuple[int, int]:
    """The first and last second that a local time, or a date, stands for. Raises ValueError.

    >>> _asked_times("2026-03-02", "UTC"), _asked_times("2026-03-02 00:15", "UTC")
    ((1772409600, 1772496000), (1772410500, 1772410500))
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"--at {text} is no time: write 2026-03-02 or 2026-03-02T07:30"
        ) from None

    first = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
    is_date = len(text) <= len("2026-03-02")
    last = first + timedelta(days=1) if is_date else first
    return int(first.timestamp()), int(last.timestamp())
