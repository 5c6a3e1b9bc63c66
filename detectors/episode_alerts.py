"""The alerts of an episode: raised on the evidence of one row, and cleared."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from detectors.rule import Rule, sentence
from models.state.cells import Columns
from schemas.alert import Alert, Change, alert_id
from schemas.columns import PHASE_NAMES, Status
from schemas.events import IEC_CODES
from schemas.units import HOUR_SECONDS

NEW_CUSTOMER_TEXT = (
    "[ The customer was connected {installed_days:.0f} days ago.]",
    "[该用户{installed_days:.0f}天前新装。]",
)
WEEK_TEXT = (
    "[ It was so for {week_hours:.1f} hours of the last seven days.]",
    "[近七天累计{week_hours:.1f}小时。]",
)


class Trouble(NamedTuple):
    """The trouble that raises or escalates an episode: its beginning, severity, row, phase, score."""

    since: int
    severity: int
    row: int
    phase: int
    score: float
    week_s: int = 0  # seconds of trouble in the last seven days, of a chronic state


def raised_alert(
    rule: Rule,
    pair: tuple[str, str],
    trouble: Trouble,
    columns: Columns,
    known: dict[str, float],
    last: Alert | None,
) -> Alert:
    """The alert of a raised or escalated episode on one row's evidence, and on what is `known` of its subject.

    `pair` is the area and the subject, `last` the episode's last alert.
    """
    row, phase = trouble.row, trouble.phase
    area, subject = pair
    at = int(columns["at"][row])

    evidence, shown = evidence_of(rule, columns, row, phase)
    if last and rule.chronic:
        known = {"week_hours": round(trouble.week_s / HOUR_SECONDS, 2)} | known
    evidence, shown = evidence | known, shown | known
    if "status" in columns and columns["status"][row] == Status.EDITED:
        evidence["edited"] = 1.0

    en, zh = rule.text
    return Alert(
        id=alert_id(rule.name, area, subject, trouble.since),
        rule=rule.name,
        version=rule.version,
        kind=rule.kind.kind,
        area=area,
        subject=subject,
        state="raised",
        change=_change_of(trouble.severity, last),
        revision=last.revision + 1 if last else 0,
        severity=trouble.severity,
        since=trouble.since,
        raised=last.raised if last else at,
        at=at,
        score=rounded(trouble.score),
        phase=PHASE_NAMES[phase] if phase >= 0 else "",
        evidence=evidence,
        suppressed_by=last.suppressed_by if last else "",
        en=sentence(en + WEEK_TEXT[0] + NEW_CUSTOMER_TEXT[0], shown),
        zh=sentence(zh + WEEK_TEXT[1] + NEW_CUSTOMER_TEXT[1], shown),
        code=IEC_CODES.get(columns["event"][row], "") if "event" in columns else "",
    )


def cleared_alert(rule: Rule, last: Alert, at: int, *, disproved: bool) -> Alert:
    """The alert that ends an episode; `last` is the one before it."""
    en, zh = rule.ends if disproved else ("", "")
    return msgspec.structs.replace(
        last,
        state="cleared",
        change="cleared",
        revision=last.revision + 1,
        at=at,
        version=rule.version,
        en=last.en + en,
        zh=last.zh + zh,
    )


def _change_of(severity: int, last: Alert | None) -> Change:
    """The change of an alert against the last published one of its episode."""
    if last is None:
        return "raised"
    return "escalated" if severity < last.severity else "revised"


def rounded(value: Any) -> float:
    """A float of at most nine significant digits, six if it was of single precision."""
    return float(f"{value:.6g}" if isinstance(value, np.float32) else f"{value:.9g}")


def evidence_of(
    rule: Rule, columns: Columns, row: int, phase: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """The finite values of one row that a rule reads, and the values that its sentences may name.

    Sentences may also name settings and the worst phase. A setting that segments change is evidence too.
    """
    codes = columns.get("segments")
    settings = rule.in_force(None if codes is None else codes[[row]])
    shown: dict[str, Any] = {"phase": PHASE_NAMES[phase] if phase >= 0 else ""}
    for name, setting in settings.items():
        shown[name] = float(np.asarray(setting).flat[row % np.size(setting)])
    evidence: dict[str, float] = {name: shown[name] for name in rule.tables}

    for name in (*rule.reads, *rule.beside):
        column = columns[name]
        if column.ndim == 2:
            values = {
                f"{name}_{letter.lower()}": column[n, row]
                for n, letter in enumerate(PHASE_NAMES)
            }
            shown[name] = rounded(column[max(phase, 0), row])
        else:
            values = {name: column[row]}
        evidence |= {
            key: rounded(value) for key, value in values.items() if np.isfinite(value)
        }
    return evidence, shown | evidence
