"""The way of alerts from the judges to their topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from detectors.episodes import Episodes
from detectors.policy import Policy
from detectors.rule import SHADOW_STATUS, Rule
from models.state.owners import Attributes, Owner
from schemas.alert import Alert
from schemas.columns import DeviceEvents

MOVED_TEXT = (" The meter has left the area.", "该表已移出本台区。")


def in_shadow(rules: Iterable[Rule]) -> frozenset[str]:
    """The names of the rules that are counted and not shown."""
    return frozenset(rule.name for rule in rules if rule.status == SHADOW_STATUS)


class WithdrawnAlerts(Attributes):
    """The alerts to withdraw; none, where a snapshot has none."""

    missed = False


class Publication:
    """Policy, counts of alerts, and the alerts that end without being judged."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.alert_counts: Counter[tuple[str, int, str, str]] = Counter()
        self.shadowed: list[Alert] = []  # since the last step began
        self.withdrawals: list[Alert] = []  # of episodes that end with the next step

    def begin_step(self) -> None:
        """Forget what the step before has shadowed."""
        self.shadowed = []

    def end_step(self, judged: Iterable[Alert], due: Iterable[Alert]) -> list[Alert]:
        """Publish judged alerts, those of episodes that end, and those of timelines that fell due."""
        return self.publish(
            self.policy.apply([*judged, *self._due_withdrawals(), *due])
        )

    def publish(self, alerts: list[Alert]) -> list[Alert]:
        """Count alerts; return the shown ones, and keep the shadowed ones until the next step."""
        shown: list[Alert] = []
        for alert in alerts:
            reason = alert.suppressed_by
            self.alert_counts[alert.rule, alert.severity, alert.change, reason] += 1
            if reason == SHADOW_STATUS:
                self.shadowed.append(alert)
            else:
                shown.append(alert)
        return shown

    def apply(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Publish judged alerts as policy has them."""
        return self.publish(self.policy.apply(alerts))

    def note_events(self, events: DeviceEvents) -> tuple[list[Alert], list[int]]:
        """Publish the alerts that events revise; the rows that were known."""
        revised, known_rows = self.policy.note_events(events)
        return self.publish(revised), known_rows

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Forget what is too old to concern anything, by the watermark of each area."""
        self.policy.forget(watermarks)

    def adopt(self, rules: Iterable[Rule], dropped: Iterable[Episodes]) -> list[Alert]:
        """Withdraw the open alerts of dropped episodes, and publish by `rules` from now on."""
        alerts: list[Alert] = []
        for episodes in dropped:
            if episodes.rule.status != SHADOW_STATUS:
                alerts += episodes.open.values()
        withdrawn = self.apply(map(_withdrawn, alerts))
        self.policy.shadow = in_shadow(rules)
        return withdrawn

    def _due_withdrawals(self) -> list[Alert]:
        """The last alerts of the episodes that end with this step."""
        ended = [
            _withdrawn(alert) if alert.state == "raised" else alert
            for alert in self.withdrawals
        ]
        self.withdrawals = []
        return ended

    def withdraw_unless_judged(self, rules: Container[str]) -> None:
        """Let all open alerts of other rules end with the next step."""
        self.withdrawals += [
            alert for alert in self.policy.open_alerts() if alert.rule not in rules
        ]

    def end_membership(
        self, area: str, meters: set[str], kinds: set[str], watermark: int
    ) -> None:
        """Let the alerts of some kinds, of meters that left their area, end with the next step."""
        self.withdrawals += [
            _ended_by_move(alert, watermark)
            for alert in self.policy.recent.get(area, {}).values()
            if alert.state == "raised"
            and alert.kind in kinds
            and alert.subject in meters
        ]

    def owners(self) -> dict[str, Owner]:
        """The counts, and the alerts to withdraw."""
        counted = list[tuple[tuple[str, int, str, str], int]]
        return {
            "alert_counts": Attributes(self, alert_counts=counted),
            "withdrawals": WithdrawnAlerts(self, withdrawals=list[Alert]),
        }


def publication_by(
    rules: Iterable[Rule], section: Callable[[str], str], has_brakes: bool
) -> Publication:
    """The publication of a rule set; `section` is that of an area."""
    return Publication(Policy(section, in_shadow(rules), has_brakes=has_brakes))


# by the rules, an area's section and whether there are brakes
PublicationOf = Callable[[Iterable[Rule], Callable[[str], str], bool], Publication]


def _withdrawn(alert: Alert) -> Alert:
    """An alert whose episode is no longer known."""
    return msgspec.structs.replace(
        alert, state="withdrawn", change="withdrawn", revision=alert.revision + 1
    )


def _ended_by_move(alert: Alert, watermark: int) -> Alert:
    """The last alert of a meter that has left its area."""
    return msgspec.structs.replace(
        alert,
        state="cleared",
        change="cleared",
        revision=alert.revision + 1,
        at=max(alert.at, watermark),
        en=alert.en + MOVED_TEXT[0],
        zh=alert.zh + MOVED_TEXT[1],
    )
