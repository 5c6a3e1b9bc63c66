"""The events of areas and meters by event time, in whichever order they come."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from models.timelines.incidents import all_called_off
from schemas.alert import Alert
from schemas.columns import DeviceEvents, Event
from schemas.units import DAY_SECONDS, NEVER_TIME

MEMORY_SECONDS = 40 * DAY_SECONDS
# seconds that an event lasts if it has no end
DEFAULT_DURATIONS: dict[int, int] = {Event.METER_CHANGE: 7 * DAY_SECONDS}

EventSpan = tuple[int, int, int]  # event, from, until; 0 if the end is not known
MeterEvent = tuple[str, EventSpan]  # its meter, "" for the whole area


def by_time(span: EventSpan) -> tuple[int, EventSpan]:
    """The order of an event among those of its meter."""
    return span[1], span


def lasted_at(span: EventSpan, alert: Alert) -> bool:
    """Whether an event lasted while an alert was raised."""
    event, start, until = span
    end = until or start + DEFAULT_DURATIONS.get(event, MEMORY_SECONDS)
    return start <= alert.raised and alert.since <= end


def end_of(span: EventSpan) -> int:
    """The end of an event; NEVER_TIME if it is not known."""
    event, start, until = span
    if until:
        return until
    if event in DEFAULT_DURATIONS:
        return start + DEFAULT_DURATIONS[event]
    return NEVER_TIME


def in_force(spans: Sequence[EventSpan]) -> list[EventSpan]:
    """Events that were not called off, in whichever order the two came."""
    off = all_called_off(spans)
    return [span for span in spans if span[:2] not in off]


def _concerns(span: EventSpan, oldest: int, alerts: Iterable[Alert]) -> bool:
    """Whether an event is not old, or lasted while one of some alerts was raised."""
    _, start, until = span
    if max(start, until) > oldest:
        return True
    return any(lasted_at(span, alert) for alert in alerts)


class KnownEvents:
    """The events that may concern alerts, in order of time."""

    def __init__(self) -> None:
        # by area and meter, "" for the whole area
        self.spans: dict[tuple[str, str], list[EventSpan]] = {}

    def of(self, area: str, meter: str = "") -> Sequence[EventSpan]:
        """The events of a meter, or of its whole area."""
        return self.spans.get((area, meter), [])

    def note(
        self, batch: DeviceEvents
    ) -> tuple[dict[str, list[MeterEvent]], list[int]]:
        """Remember events; the new events by area, and the rows that were known."""
        fresh: dict[str, list[MeterEvent]] = {}
        known_rows = []
        for row in range(len(batch)):
            area = batch.areas[batch.area[row]]
            meter = batch.names[batch.subject[row]]
            span = (
                int(batch.event[row]),
                int(batch.at[row]),
                int(batch.until[row]),
            )

            if self._insert(area, meter, span):
                fresh.setdefault(area, []).append((meter, span))
            else:
                known_rows.append(row)
        return fresh, known_rows

    def _insert(self, area: str, meter: str, span: EventSpan) -> bool:
        """Remember an event at its place in time; False if it was known."""
        spans = self.spans.setdefault((area, meter), [])
        place = bisect_left(spans, by_time(span), key=by_time)
        if spans[place : place + 1] == [span]:
            return False
        spans.insert(place, span)
        return True

    def forget(
        self, watermarks: Mapping[str, int], suppressed: Iterable[Alert]
    ) -> None:
        """Forget old events, unless they last while a suppressed alert was raised."""
        alerts_by_place: dict[tuple[str, str], list[Alert]] = {}
        for alert in suppressed:
            places = {(alert.area, ""), (alert.area, alert.subject)}
            for place in places & self.spans.keys():
                alerts_by_place.setdefault(place, []).append(alert)

        for place, spans in list(self.spans.items()):
            if place[0] not in watermarks:
                continue
            oldest = watermarks[place[0]] - MEMORY_SECONDS
            alerts = alerts_by_place.get(place, [])
            kept = [span for span in spans if _concerns(span, oldest, alerts)]
            if kept:
                self.spans[place] = kept
            else:
                del self.spans[place]
