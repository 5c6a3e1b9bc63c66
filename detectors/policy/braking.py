"""Storm brake and budget over all areas of a history, whose engines had some of them each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from detectors.policy.decisions import BRAKE_REASONS, Decisions
from detectors.policy.notices import NOTICE_REASON, is_notice
from schemas.alert import Alert

DECIDED_REASONS = BRAKE_REASONS | {"", NOTICE_REASON}


def braked(alerts: Iterable[Alert], section: Callable[[str], str]) -> list[Alert]:
    """Alerts in their last states, as the brakes have them, in order of time.

    An alert is decided once, on the day on which it was raised; of alerts of one moment the gravest first. The same
    alerts in any order give the same.
    """
    decisions = Decisions(section)
    decided = []
    for alert in sorted(alerts, key=_order):
        reason = alert.suppressed_by
        if reason in DECIDED_REASONS and not is_notice(alert):
            brake = decisions.brake(alert, alert.raised)
            reason = reason if reason == NOTICE_REASON else brake
        decided.append(msgspec.structs.replace(alert, suppressed_by=reason))
    return sorted(decided, key=lambda alert: (alert.raised, alert.id))


def _order(alert: Alert) -> tuple[int, int, float, str]:
    """In order of time, the gravest first."""
    return alert.raised, alert.severity, -alert.score, alert.id
