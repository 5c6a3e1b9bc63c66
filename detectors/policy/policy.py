"""The suppressors in a row, and the alerts that change by one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import chain

import msgspec

from detectors.policy.area_failure import (
    AreaFailure,
    failure_explains,
    is_explainable,
    is_failure,
)
from detectors.policy.corroboration import EVIDENCE_EVENTS, Corroboration
from detectors.policy.decisions import BRAKE_REASONS, Decisions
from detectors.policy.events import MEMORY_SECONDS, KnownEvents, MeterEvent
from detectors.policy.inhibit import POWER_EVENTS, Inhibit
from detectors.policy.lots import lots
from detectors.policy.midnights import Midnights
from detectors.policy.mute import MUTING_EVENTS, Mute
from detectors.policy.notices import NOTICE_REASON, Notices, is_notice
from detectors.policy.open_alerts import OpenAlerts
from detectors.policy.recent import RecentAlerts
from detectors.policy.reconcile import corrections
from detectors.policy.repeat import REPEAT_REASON
from detectors.policy.same_trouble import SameTrouble, is_on_use
from detectors.policy.shadow import SHADOW_REASON, Shadow
from detectors.policy.suppressor import FirstReason
from models.state.owners import Owner, Schema, State
from schemas.alert import Alert, Change
from schemas.columns import DeviceEvents, Event

# events by which alerts change
FOLLOWED_EVENTS = EVIDENCE_EVENTS | POWER_EVENTS | MUTING_EVENTS.keys()
UNEXPLAINED_REASONS = BRAKE_REASONS | {"", REPEAT_REASON, NOTICE_REASON}


def _is_explained(alert: Alert) -> bool:
    """Whether an open alert was published as explained."""
    return alert.state == "raised" and alert.suppressed_by not in UNEXPLAINED_REASONS


class Policy(Owner):
    """Publishes alerts, each with the reason for which it is suppressed."""

    def __init__(
        self,
        section: Callable[[str], str],
        shadow: frozenset[str],
        *,
        has_brakes: bool = True,
    ) -> None:
        self.events = KnownEvents()
        self._recent = RecentAlerts()
        self._midnights = Midnights()

        # the row of suppressors
        self._shadow = Shadow(shadow)
        mute = Mute(self.events, self._recent, self._midnights)
        inhibit = Inhibit(self.events, self._recent, self._midnights)
        self._area_failure = AreaFailure(self._recent, self._midnights)
        by_event = FirstReason(mute, inhibit, self._area_failure)
        self._same_trouble = SameTrouble(self._recent, by_event)
        self.explained = FirstReason(self._shadow, by_event, self._same_trouble)
        self.decisions = Decisions(section, has_brakes=has_brakes)

        self.notices = Notices(self._recent, self.explained, self.decisions)
        corroboration = Corroboration(self.events, self._recent)
        self._strengthened = corroboration.strengthened
        self._followers = (mute, inhibit, corroboration)  # of events
        self._open = OpenAlerts()
        for index in (self._area_failure, self._same_trouble, self.notices, self._open):
            self._recent.index(index)

    @property
    def shadow(self) -> frozenset[str]:
        """The rules in shadow."""
        return self._shadow.rules

    @shadow.setter
    def shadow(self, rules: frozenset[str]) -> None:
        self._shadow.rules = rules

    @property
    def recent(self) -> Mapping[str, Mapping[str, Alert]]:
        """The last published alert of every episode, by area and id."""
        return self._recent.by_area

    @property
    def open(self) -> OpenAlerts:
        """The numbers of open alerts that nothing suppresses."""
        return self._open

    def apply(self, alerts: Iterable[Alert]) -> list[Alert]:
        """The alerts, each with the reason for which it is suppressed, and other alerts that change by them.

        Of alerts that come at once the gravest is decided first.
        """
        alerts = list(alerts)
        failures = [alert for alert in alerts if is_failure(alert)]
        self.decisions.decide(
            alert
            for alert in alerts
            if not self.explained.reason(alert)
            and not any(failure_explains(failure, alert) for failure in failures)
        )

        published: list[Alert] = []
        for lot in lots(alerts):
            start = len(published)
            lot.sort(key=lambda alert: not is_failure(alert))
            for alert in lot:
                published += self._published(alert)
            published += self._follow_ups(lot[0].area, published, start)

        for area in self._midnights.check():
            published += self._outlasting(area)
        return published

    def note_events(self, batch: DeviceEvents) -> tuple[list[Alert], list[int]]:
        """Remember events; the alerts that they suppress or release, and the rows that were known."""
        fresh, known_rows = self.events.note(batch)
        revised: list[Alert] = []
        for area, events in sorted(fresh.items()):
            followed = [event for event in events if event[1][0] in FOLLOWED_EVENTS]
            if followed:
                alerts = self._reconsider(area, self._affected(area, followed))
                revised += alerts + self._follow_ups(area, alerts, 0)
        return revised, known_rows

    def reconcile(
        self,
        predecessor_alerts: Iterable[Alert],
        watermarks: Mapping[str, int],
        published: Container[str] = (),
    ) -> list[Alert]:
        """Corrections of the alerts of an engine before, which judged the same rows in another order of topics."""
        recent = self._recent.by_area
        return [*corrections(recent, predecessor_alerts, watermarks, published)]

    def open_alerts(self) -> list[Alert]:
        """The last published alert of every open episode."""
        return [
            alert
            for alerts in self.recent.values()
            for alert in alerts.values()
            if alert.state == "raised"
        ]

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Forget events and alerts of areas that are too old to concern anything."""
        self._midnights.note(watermarks)
        suppressed: list[Alert] = []
        for area, watermark in watermarks.items():
            self._forget_alerts(area, watermark - MEMORY_SECONDS)
            alerts = self._recent.of(area).values()
            suppressed += [alert for alert in alerts if alert.suppressed_by]
        self.notices.settle()
        self.events.forget(watermarks, suppressed)
        self.decisions.forget(watermarks)

    def _forget_alerts(self, area: str, oldest: int) -> None:
        """Forget alerts of an area that ended before `oldest` and belong to no open notice."""
        ended = [
            alert
            for alert in self._recent.of(area).values()
            if alert.state != "raised" and alert.at < oldest
        ]
        for alert in ended:
            if not self.notices.keeps(alert):
                self._recent.forget(alert)
                self.decisions.forget_alert(alert.id)

    def _affected(self, area: str, fresh: Iterable[MeterEvent]) -> set[str]:
        """The ids of recent alerts of an area that new events may change."""
        affected = [follower.affected(area, fresh) for follower in self._followers]
        return set(chain.from_iterable(affected))

    def _suppression(self, alert: Alert) -> str:
        """Why an alert is suppressed, its notice apart."""
        if is_notice(alert):
            return ""
        return self.explained.reason(alert) or self.decisions.reason(alert)

    def _published(self, alert: Alert) -> list[Alert]:
        """An alert as it is published, remembered unless its rule is in shadow.

        If its explanation is gone, a revision of the last published one comes before it.
        """
        suppressed_by = self._suppression(alert)
        if suppressed_by == SHADOW_REASON:
            return [msgspec.structs.replace(alert, suppressed_by=suppressed_by)]

        published: list[Alert] = []
        revision = alert.revision
        known = self._recent.of(alert.area).get(alert.id)
        if known is not None:
            if _is_explained(known) and not self.explained.reason(alert):
                known = self._recent.revised(known, suppressed_by)
                published.append(known)
            # an event may have revised the published alert
            revision = max(revision, known.revision + 1)

        alert = self._strengthened(
            msgspec.structs.replace(
                alert, suppressed_by=suppressed_by, revision=revision
            )
        )
        if is_failure(alert):
            alert = self._area_failure.with_explained(alert)
        if not suppressed_by:
            alert = self._same_trouble.with_others(alert)
        self._recent.remember(alert)
        return [*published, alert]

    def _outlasting(self, area: str) -> list[Alert]:
        """The alerts of an area that outlast their explanation."""
        suppressed = [
            key
            for key, alert in self._recent.of(area).items()
            if alert.suppressed_by and alert.state == "raised"
        ]
        alerts = self._reconsider(area, suppressed)
        return alerts + self._follow_ups(area, alerts, 0)

    def _reconsider(self, area: str, keys: Iterable[str]) -> list[Alert]:
        """The alerts with another reason now; an alert in a notice stays in it unless it is explained."""
        revised = []
        for key in sorted(keys):
            known = self._recent.of(area)[key]
            suppressed_by = self._suppression(known)
            if known.suppressed_by == NOTICE_REASON:
                suppressed_by = self.explained.reason(known) or NOTICE_REASON

            new = self._strengthened(known)
            new = self._same_trouble.with_others(new, shown=not suppressed_by)
            if suppressed_by != known.suppressed_by or new != known:
                is_graver = new.severity < known.severity
                change: Change = "escalated" if is_graver else "revised"
                revised.append(self._recent.revised(new, suppressed_by, change))
        return revised

    def _follow_ups(self, area: str, messages: list[Alert], start: int) -> list[Alert]:
        """More alerts that follow from `messages[start:]`: alerts that a failure explains, and notices.

        A message of this list is corrected in its place, since it has not gone out.
        """
        places = {alert.id: n for n, alert in enumerate(messages) if n >= start}
        concerned = [
            alert
            for alert in messages[start:]
            if alert.suppressed_by != SHADOW_REASON and alert.area == area
        ]

        more: list[Alert] = []
        for alert in chain(
            self._failure_changes(area, concerned),
            self._trouble_changes(area, concerned),
            self.notices.changes(),
        ):
            n = places.get(alert.id)
            if n is None:
                more.append(alert)
                continue
            message = messages[n]
            messages[n] = msgspec.structs.replace(
                alert, change=message.change, revision=message.revision
            )
            self._recent.remember(messages[n])
        return more

    def _failure_changes(self, area: str, concerned: list[Alert]) -> Iterator[Alert]:
        """Alerts that a failure explains or releases, also added to `concerned`; failures that explain others."""
        if any(is_failure(alert) for alert in concerned):
            explainable = [
                key
                for key, alert in self._recent.of(area).items()
                if is_explainable(alert)
            ]
            revised = self._reconsider(area, explainable)
            concerned += revised
            yield from revised
        if any(is_explainable(alert) for alert in concerned):
            for failure in self._area_failure.failures(area):
                new = self._area_failure.with_explained(failure)
                if new != failure:
                    yield self._recent.revised(new, new.suppressed_by)

    def _trouble_changes(
        self, area: str, concerned: Iterable[Alert]
    ) -> Iterator[Alert]:
        """Alerts on a customer's use for which another now stands, or no longer."""
        subjects = {alert.subject for alert in concerned if is_on_use(alert)}
        for subject in sorted(subjects):
            yield from self._reconsider(area, self._same_trouble.ids(area, subject))

    def schema(self) -> Schema:
        """Events, recent alerts, and counts of raises."""
        return {
            "events": list[tuple[tuple[str, str], list[tuple[Event, int, int]]]],
            "raises": list[tuple[tuple[str, str, str], list[int]]],
            "daily": list[tuple[tuple[str, int], int]],
            "recent": list[Alert],
            "budgets": list[tuple[tuple[str, str, int], int]],
            "decided": dict[str, str],
            "swept": dict[str, int],
        }

    def state(self) -> State:
        """The whole state."""
        recent = chain.from_iterable(alerts.values() for alerts in self.recent.values())
        decisions = self.decisions
        return {
            "events": list(self.events.spans.items()),
            "raises": list(decisions.repeat.raises.items()),
            "daily": list(decisions.storm.raises.items()),
            "recent": list(recent),
            "budgets": list(decisions.budget.spent.items()),
            "decided": decisions.reasons,
            "swept": self._midnights.checked,
        }

    def load(self, state: State) -> None:
        """Replace the state by that of `state`."""
        raises = state.get("raises", ())
        decisions = self.decisions
        decisions.repeat.raises = {key: times for key, times in raises if times}
        decisions.storm.raises = Counter(dict(state.get("daily", ())))
        decisions.budget.spent = Counter(dict(state.get("budgets", ())))
        decisions.reasons = state.get("decided", {})
        self.events.spans = dict(state.get("events", ()))
        self._midnights.checked = state.get("swept", {})

        # the rest follows from the alerts
        self._recent.clear()
        for alert in state.get("recent", ()):
            self._recent.remember(alert)
        self.notices.regroup()
        if "swept" in state:  # else an older version had no notices
            self.notices.settle()
