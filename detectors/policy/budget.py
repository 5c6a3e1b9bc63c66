"""A section of the utility is shown so many alerts a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from detectors.rule import ALL_RULES
from schemas.alert import Alert

DAILY_BUDGET = 500  # alerts of one section and day; default of this project
# families with a budget apart: their alerts come by the hundred on one day
OWN_BUDGET_FAMILIES = ("master_data", "payments")
BUDGET_REASON = "budget"


class DailyBudget:
    """Suppresses the alerts of a section beyond its budget of the day."""

    def __init__(self, section: Callable[[str], str]) -> None:
        self._section = section  # of an area

        # by section, family with a budget apart, and day
        self.spent: Counter[tuple[str, str, int]] = Counter()

    def reason(self, alert: Alert, day: int) -> str:
        """Whether a day exceeds its budget; the alert is counted."""
        rule = ALL_RULES.get(alert.rule)
        family = rule.family if rule else ""
        if family not in OWN_BUDGET_FAMILIES:
            family = ""
        budget = (self._section(alert.area), family, day)
        self.spent[budget] += 1
        if self.spent[budget] > DAILY_BUDGET:
            return BUDGET_REASON
        return ""

    def forget(self, oldest_day: int) -> None:
        """Forget old counts."""
        for budget in list(self.spent):
            if budget[-1] < oldest_day:
                del self.spent[budget]
