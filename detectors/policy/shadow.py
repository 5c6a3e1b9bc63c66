"""Rules in shadow are judged and counted, and shown to nobody."""

from __future__ import annotations

from schemas.alert import Alert

SHADOW_REASON = "shadow"


class Shadow:
    """Suppresses the alerts of the rules in shadow."""

    def __init__(self, rules: frozenset[str]) -> None:
        self.rules = rules

    def reason(self, alert: Alert) -> str:
        """Whether the rule of an alert is in shadow."""
        return SHADOW_REASON if alert.rule in self.rules else ""
