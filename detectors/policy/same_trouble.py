"""Several rules see one trouble with a customer's use: one alert stands for it and names the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from detectors.policy.recent import RecentAlerts
from detectors.policy.suppressor import Suppressor
from detectors.rule import ALL_RULES, Explanation, explanations_of
from schemas.alert import Alert
from schemas.columns import LATEST_TIME
from schemas.units import DAY_SECONDS

TROUBLE_REASON = "same_trouble"
# seconds after which trouble is another trouble: default of this project
CALM_SECONDS = 14 * DAY_SECONDS
ALSO_PREFIX = "also_"  # evidence: the score of each other rule that sees the same
ALSO_TEXT = (" The same is reported by", "同一情况另见")  # continues a sentence


def is_on_use(alert: Alert) -> bool:
    """Whether other rules may see the same trouble with a customer's use."""
    return Explanation.SAME_TROUBLE in explanations_of(alert.rule)


class SameTrouble:
    """Suppresses alerts on a customer's use for which another stands."""

    def __init__(self, recent: RecentAlerts, explained: Suppressor) -> None:
        self._recent = recent
        self._explained = explained  # such alerts share no trouble
        # ids of the alerts on a customer's use, by area and subject
        self._ids: dict[tuple[str, str], set[str]] = {}

    def add(self, alert: Alert) -> None:
        """Remember an alert on a customer's use."""
        if is_on_use(alert):
            self._ids.setdefault((alert.area, alert.subject), set()).add(alert.id)

    def drop(self, alert: Alert) -> None:
        """Forget an alert on a customer's use."""
        ids = self._ids.get((alert.area, alert.subject))
        if ids is not None:
            ids.discard(alert.id)
            if not ids:
                del self._ids[alert.area, alert.subject]

    def clear(self) -> None:
        """Forget all alerts."""
        self._ids = {}

    def ids(self, area: str, subject: str) -> Iterable[str]:
        """The ids of the alerts on a customer's use."""
        return self._ids.get((area, subject), ())

    def reason(self, alert: Alert) -> str:
        """Whether another alert on the same customer's use stands for this one."""
        if not is_on_use(alert):
            return ""
        chain = _chain(alert, self._unexplained(alert))
        if alert.state == "withdrawn" or _representative(chain).id == alert.id:
            return ""
        return TROUBLE_REASON

    def with_others(self, alert: Alert, *, shown: bool = True) -> Alert:
        """An alert on use that names the other rules which see the same, if it is shown."""
        if not is_on_use(alert):
            return alert
        others: list[Alert] = []
        if shown and alert.state != "withdrawn":
            chain = _chain(alert, self._unexplained(alert))
            others = [other for other in chain if other.id != alert.id]
        return _naming(alert, others)

    def _unexplained(self, alert: Alert) -> list[Alert]:
        """The other alerts on a customer's use that nothing explains."""
        known = self._recent.of(alert.area)
        ids = sorted(self.ids(alert.area, alert.subject))
        others = (known[key] for key in ids if key != alert.id)
        return [
            other
            for other in others
            if other.state != "withdrawn" and not self._explained.reason(other)
        ]


def _chain(alert: Alert, others: Sequence[Alert]) -> list[Alert]:
    """The alerts on a customer's use that follow one another within two weeks, `alert` among them."""
    chain: list[Alert] = []
    until = 0
    for other in sorted([alert, *others], key=lambda other: (other.since, other.id)):
        if chain and other.since > until + CALM_SECONDS:
            if alert in chain:
                break
            chain = []
        end = other.at if other.state == "cleared" else LATEST_TIME
        until = max(until if chain else 0, end)
        chain.append(other)
    return chain


def _representative(chain: Sequence[Alert]) -> Alert:
    """The alert that stands for its trouble: a lasting one first, then the gravest, then the oldest."""
    return min(
        chain,
        key=lambda alert: (
            alert.state != "raised",
            alert.severity,
            alert.raised,
            alert.id,
        ),
    )


def _naming(alert: Alert, others: Sequence[Alert]) -> Alert:
    """An alert that names the other rules which see the same, in place of the rules it named."""
    evidence = {
        name: value
        for name, value in alert.evidence.items()
        if not name.startswith(ALSO_PREFIX)
    }
    en = alert.en.partition(ALSO_TEXT[0])[0]
    zh = alert.zh.partition(ALSO_TEXT[1])[0]

    by_time = sorted(others, key=lambda other: (other.raised, other.id))
    scores = {other.rule: other.score for other in by_time}
    if scores:
        for rule, score in scores.items():
            evidence[ALSO_PREFIX + rule] = score
        english = [repr(ALL_RULES[rule].title[0]) for rule in scores]
        chinese = [ALL_RULES[rule].title[1] for rule in scores]
        en += f"{ALSO_TEXT[0]} {', '.join(english)}."
        zh += f"{ALSO_TEXT[1]}{'、'.join(chinese)}。"
    return msgspec.structs.replace(alert, evidence=evidence, en=en, zh=zh)
