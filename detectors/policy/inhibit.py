"""While an area is without power, it explains the alerts on supply."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from detectors.policy.events import (
    EventSpan,
    KnownEvents,
    MeterEvent,
    by_time,
)
from detectors.policy.midnights import Midnights
from detectors.policy.recent import RecentAlerts
from detectors.rule import Explanation, explanations_of
from schemas.alert import Alert
from schemas.columns import Event
from schemas.units import DAY_SECONDS, NEVER_TIME

POWER_EVENTS = frozenset({Event.POWER_OFF, Event.POWER_ON})
OUTAGE_REASON = "area_outage"


def _is_on_supply(alert: Alert) -> bool:
    """Whether an outage explains an alert."""
    return Explanation.OUTAGE in explanations_of(alert.rule)


class Inhibit:
    """Suppresses alerts on supply that were raised in an outage of the area; a day if no end is known."""

    def __init__(
        self, events: KnownEvents, recent: RecentAlerts, midnights: Midnights
    ) -> None:
        self._events = events
        self._recent = recent
        self._midnights = midnights

    def reason(self, alert: Alert) -> str:
        """Whether the area was without power when an alert was raised."""
        if not _is_on_supply(alert):
            return ""

        off = end = 0
        events = self._events.of(alert.area)
        for event, at, until in [*events, (int(Event.POWER_ON), NEVER_TIME, 0)]:
            if event == Event.POWER_OFF:
                off = off or at
                end = until
            elif event == Event.POWER_ON and off:
                over = end or min(at, off + DAY_SECONDS)
                without_power = off <= alert.raised and alert.since <= over
                if without_power and not self._midnights.outlasts(alert, over):
                    return OUTAGE_REASON
                off = 0
        return ""

    def affected(self, area: str, fresh: Iterable[MeterEvent]) -> Iterator[str]:
        """The ids of the alerts of an area that new events may suppress or release."""
        off_since = [
            self._off_since(area, span)
            for meter, span in fresh
            if not meter and span[0] in POWER_EVENTS
        ]
        if not off_since:
            return

        since = min(off_since)
        for key, alert in self._recent.of(area).items():
            if alert.raised >= since and _is_on_supply(alert):
                yield key

    def _off_since(self, area: str, span: EventSpan) -> int:
        """The time since which an area had been without power at an event, or the event's own time."""
        spans = self._events.of(area)
        since = span[1]
        earlier = spans[: bisect_left(spans, by_time(span), key=by_time)]
        for event, at, _ in reversed(earlier):
            if event == Event.POWER_ON:
                break
            since = at if event == Event.POWER_OFF else since
        return since
