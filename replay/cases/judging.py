"""A case judged by one rule, and where its alerts differ from the expected ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from detectors.engine import Engine
from detectors.rule import Rule
from replay.cases.case import Case, batches, master_data
from replay.cases.tables import (
    MISSING_CELL,
    CaseError,
    TableRow,
    format_table,
    format_time,
    parse_time,
    table_rows,
    unknown,
)
from schemas.alert import Alert
from schemas.columns import Column, Mask
from schemas.use_class import UseClassModel

CASE_KINDS = ("fires", "near miss", "cannot tell", "clears", "false positive")
ALERT_COLUMNS = (
    "change",
    "since",
    "at",
    "severity",
    "phase",
    "subject",
    "suppressed_by",
)


@dataclass(frozen=True)
class RecordingRule(Rule):
    """A rule that records its columns and scores, and is published even if it is in shadow."""

    recorded: list[tuple[dict[str, Any], Any]] = field(
        default_factory=list, compare=False
    )

    @classmethod
    def of(cls, rule: Rule) -> RecordingRule:
        """The rule with an empty record."""
        values = {item.name: getattr(rule, item.name) for item in fields(Rule)}
        return cls(**values | {"status": "published"})

    def score(
        self, columns: Mapping[str, Any], missing: Mapping[str, Mask | None]
    ) -> Column:
        """The scores of the rule, which it records with what it read."""
        score = super().score(columns, missing)
        names = (*self.reads, *self.beside, *({"segments"} & columns.keys()))
        record = {name: np.array(columns[name]) for name in names}
        self.recorded.append((record, score))
        return score

    def judged_anything(self) -> bool:
        """Whether any row could be judged."""
        return any(not np.isnan(score).all() for _, score in self.recorded)


def engine_of_one(rule: Rule, interval: int) -> Engine:
    """An engine that judges by one rule alone, without the many features of days that the rule does not read."""
    engine = Engine([rule], interval=interval)
    engine.judges.revisable["days"].drop_unread_features()
    return engine


def judged(
    case: Case, rule: Rule, model: UseClassModel | None = None
) -> tuple[list[Alert], RecordingRule]:
    """The alerts of one rule on a case, and the rule with what it read.

    A rule without a model of its own judges by `model`. Raises CaseError if the case cannot be understood.
    """
    if rule.modelled and rule.model is None:
        rule = replace(rule, model=model)
    recording = RecordingRule.of(rule)
    engine = engine_of_one(recording, case.interval)
    if case.known:
        engine.enroll([master_data(case)])

    alerts: list[Alert] = []
    for batch in batches(case):
        alerts += engine.step(batch)
    if case.now:
        alerts += engine.tick(parse_time(case.now))
    return alerts, recording


def alert_rows(
    alerts: Iterable[Alert], columns: Sequence[str] = ALERT_COLUMNS
) -> list[TableRow]:
    """Alerts as the rows of a table."""
    rows = [
        {
            "change": alert.change,
            "since": format_time(alert.since),
            "at": format_time(alert.at),
            "severity": str(alert.severity),
            "phase": alert.phase or MISSING_CELL,
            "subject": alert.subject or MISSING_CELL,
            "suppressed_by": alert.suppressed_by or MISSING_CELL,
        }
        for alert in alerts
    ]
    return [
        dict(zip(columns, map(row.__getitem__, columns), strict=True)) for row in rows
    ]


def expected_rows(case: Case) -> list[TableRow]:
    """The alerts that a case expects. Raises CaseError for an unknown column."""
    rows = list(table_rows(case.alerts))
    for name in rows[0] if rows else ():
        if name not in ALERT_COLUMNS:
            raise CaseError(f"alerts: {unknown('column', name, ALERT_COLUMNS)}")
    return rows


def faults(
    case: Case, alerts: Sequence[Alert], recording: RecordingRule
) -> Iterator[str]:
    """Where the alerts are not what the case expects, a text each. Raises CaseError."""
    if case.shows and case.shows not in CASE_KINDS:
        raise CaseError(f"shows: {unknown('kind of case', case.shows, CASE_KINDS)}")

    # the alerts, by the columns that the case has
    expected = expected_rows(case)
    columns = tuple(expected[0]) if expected else ALERT_COLUMNS
    got = alert_rows(alerts, columns)
    if got != expected:
        yield f"expected:\n{format_table(expected)}\ngot:\n{format_table(got)}"
    sentences = (alerts[0].en, alerts[0].zh) if alerts else ()
    if case.says and not any(case.says in sentence for sentence in sentences):
        said = " / ".join(sentences) or "no alert"
        yield f"expected the sentence: {case.says}\ngot: {said}"

    # what the case shows
    changes = {alert.change for alert in alerts}
    if case.shows == "fires" and "raised" not in changes:
        yield "it shows that the rule fires, and no alert is raised"
    if case.shows == "clears" and "cleared" not in changes:
        yield "it shows that an alert clears, and none is cleared"
    if case.shows == "near miss" and not recording.judged_anything():
        yield "it shows a near miss, and the rule is silent for lack of data"
    if case.shows == "near miss" and alerts:
        yield "it shows a near miss, and there are alerts"
    if case.shows == "cannot tell" and recording.judged_anything():
        yield "it shows that the rule cannot tell, and the rule has an answer"
