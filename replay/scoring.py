"""What was planted against what was told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replay.happenings import Planted
from schemas.alert import Alert
from schemas.units import DAY_SECONDS


@dataclass(frozen=True)
class Finding:
    """A planted fault and the alert that told of it first, None where none did."""

    planted: Planted
    alert: Alert | None

    @property
    def days(self) -> float:
        """Days from the fault's beginning to the evidence that raised the alert; NaN when it was not found."""
        return (
            (self.alert.raised - self.planted.start) / DAY_SECONDS
            if self.alert
            else float("nan")
        )


@dataclass(frozen=True)
class Score:
    """Every planted fault once; every alert in one of three lists."""

    findings: list[Finding]
    true: list[Alert]  # tells of a planted fault or of its consequences
    false: list[Alert]
    suppressed: list[Alert]  # by policy: told to nobody

    @property
    def found(self) -> int:
        """How many of the planted faults were found."""
        return sum(finding.alert is not None for finding in self.findings)


def score(planted: Sequence[Planted], alerts: Iterable[Alert]) -> Score:
    """Compare planted faults with the last state of every alert. Withdrawn alerts count for nothing."""
    standing = sorted(
        (a for a in alerts if a.state != "withdrawn"), key=lambda a: (a.raised, a.id)
    )
    told = [a for a in standing if not a.suppressed_by]
    findings = [
        Finding(fault, next((a for a in told if fault.found_by(a)), None))
        for fault in planted
    ]
    right = [a for a in told if any(fault.explains(a) for fault in planted)]
    false = [a for a in told if not any(fault.explains(a) for fault in planted)]
    return Score(findings, right, false, [a for a in standing if a.suppressed_by])
