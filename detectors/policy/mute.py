"""A planned outage, a vacancy or a meter change explains the alerts of the rules that say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detectors.policy.events import (
    EventSpan,
    KnownEvents,
    MeterEvent,
    end_of,
    in_force,
    lasted_at,
)
from detectors.policy.midnights import Midnights
from detectors.policy.recent import RecentAlerts
from detectors.rule import Explanation, explanations_of
from models.timelines.incidents import called_off
from schemas.alert import Alert
from schemas.columns import Event

MUTING_EVENTS: dict[int, Explanation] = {
    Event.PLANNED_OUTAGE: Explanation.OUTAGE,
    Event.VACANCY: Explanation.VACANCY,
    Event.METER_CHANGE: Explanation.METER_CHANGE,
}


def _explains(span: EventSpan, alert: Alert) -> bool:
    """Whether an event explains an alert while it lasts."""
    explanation = MUTING_EVENTS.get(span[0])
    return explanation in explanations_of(alert.rule) and lasted_at(span, alert)


class Mute:
    """Suppresses alerts that an event explains."""

    def __init__(
        self, events: KnownEvents, recent: RecentAlerts, midnights: Midnights
    ) -> None:
        self._events = events
        self._recent = recent
        self._midnights = midnights

    def reason(self, alert: Alert) -> str:
        """The planned outage, vacancy or meter change that explains an alert, if any."""
        if not explanations_of(alert.rule):
            return ""
        of_area = in_force(self._events.of(alert.area))
        of_subject = in_force(self._events.of(alert.area, alert.subject))
        for span in of_area + of_subject:
            if not _explains(span, alert):
                continue
            if not self._midnights.outlasts(alert, end_of(span)):
                return Event(span[0]).name.lower()
        return ""

    def affected(self, area: str, fresh: Iterable[MeterEvent]) -> Iterator[str]:
        """The ids of the alerts of an area that new events may suppress or release."""
        muting: dict[str, list[EventSpan]] = {}
        for meter, span in fresh:
            event, start, until = span
            if event in MUTING_EVENTS:
                end = 0 if called_off(*span) else until
                muting.setdefault(meter, []).append((event, start, end))
        if not muting:
            return

        for key, alert in self._recent.of(area).items():
            spans = [*muting.get("", ())]
            if alert.subject:
                spans += muting.get(alert.subject, ())
            if any(_explains(span, alert) for span in spans):
                yield key
