"""Planted faults against published alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replay.simulation.happenings import Planted
from schemas.alert import Alert
from schemas.units import DAY_SECONDS


@dataclass(frozen=True)
class Finding:
    """A planted fault and the first alert that found it; None if no alert did."""

    planted: Planted
    alert: Alert | None

    @property
    def days(self) -> float:
        """Days from the fault's beginning to the alert's evidence; NaN if it was not found."""
        if self.alert is None:
            return float("nan")
        return (self.alert.raised - self.planted.start) / DAY_SECONDS


@dataclass(frozen=True)
class Score:
    """Every planted fault once; every alert in one of three lists."""

    findings: list[Finding]
    true: list[Alert]  # caused by a planted fault or by its consequences
    false: list[Alert]
    suppressed: list[Alert]  # by policy: shown to nobody

    @property
    def found(self) -> int:
        """The number of planted faults that were found."""
        return sum(finding.alert is not None for finding in self.findings)


def score(planted: Sequence[Planted], alerts: Iterable[Alert]) -> Score:
    """Compare planted faults with every alert's last state. Withdrawn alerts count for nothing."""
    standing = [alert for alert in alerts if alert.state != "withdrawn"]
    standing.sort(key=lambda alert: (alert.raised, alert.id))
    shown = [alert for alert in standing if not alert.suppressed_by]

    findings = []
    for fault in planted:
        found = (alert for alert in shown if fault.found_by(alert))
        findings.append(Finding(fault, next(found, None)))

    true: list[Alert] = []
    false: list[Alert] = []
    for alert in shown:
        explained = any(fault.explains(alert) for fault in planted)
        (true if explained else false).append(alert)
    suppressed = [alert for alert in standing if alert.suppressed_by]
    return Score(findings, true, false, suppressed)
