"""Stages between rules and readers: each may suppress an alert, and gives the reason.

A suppressed alert is still published, marked with its reason, so that it is counted and can be looked up. Mute and
inhibit follow the events of an area by event time, in whichever order they come, and the failure of an area explains
its meters' alerts; an alert that outlasts its explanation is shown. Repeat, storm and budget are decided when an alert
is raised. Storm and budget brake alerts that can wait: an alert of severity 1 or 2 passes them, and an alert that
escalates is decided anew. Very many alerts of one rule, area and day are published as one notice, which names them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping

import msgspec

from detectors.causes import (
    EVIDENCE_EVENTS,
    GRAVE_SEVERITY,
    NoticeGroup,
    NoticeKey,
    corroborated,
    corroboration,
    failure_explains,
    family,
    in_force,
    is_failure,
    is_notice,
    is_on_use,
    notice_key_of,
    notice_of,
    representative,
    same_trouble,
    second_evidence,
    with_explained,
    with_other_rules,
)
from detectors.rule import ALL_RULES, Explanation, explanations_of
from models.state.owners import Owner, Schema, State
from models.timelines.incidents import called_off
from schemas.alert import Alert, Change
from schemas.columns import LATEST_TIME, DeviceEvents, Event
from schemas.units import DAY_SECONDS

MEMORY_SECONDS = 40 * DAY_SECONDS
DAILY_RAISES = 3  # of one rule and subject, then suppressed; default of this project
STORM_TIMES = 3.0  # of the forecast, from which the brake acts: catalogue section 5
STORM_LEAST = 50  # raises of a rule and day, up to which the brake does not act
STORM_DAYS = 3  # with raises in the last week, without which there is no forecast
DAILY_BUDGET = 500  # alerts of one section and day; default of this project
# families with a budget apart: their alerts come by the hundred on one day
OWN_BUDGET_FAMILIES = ("master_data", "payments")
BRAKE_REASONS = frozenset({"storm", "budget"})
# kinds that are judged as rows arrive, not all at once
ARRIVING_KINDS = frozenset({"readings", "clocks", "payments", "attempts"})
AREA_FAILURE = "area_failure"
NOTICE_REASON = "notice"
SAME_TROUBLE = "same_trouble"
UNEXPLAINED_REASONS = BRAKE_REASONS | {"", "repeat", NOTICE_REASON}
NEVER_TIME = 2**62

MUTING_EVENTS: dict[int, Explanation] = {
    Event.PLANNED_OUTAGE: Explanation.OUTAGE,
    Event.VACANCY: Explanation.VACANCY,
    Event.METER_CHANGE: Explanation.METER_CHANGE,
}
# events by which alerts are suppressed
EXPLAINING_EVENTS = frozenset({*MUTING_EVENTS, Event.POWER_OFF, Event.POWER_ON})
# seconds that an event lasts if it has no end
DEFAULT_DURATIONS: dict[int, int] = {Event.METER_CHANGE: 7 * DAY_SECONDS}

EventSpan = tuple[int, int, int]  # event, from, until; 0 if the end is not known
EventSpans = dict[tuple[str, str], list[EventSpan]]  # by area and meter, "" for all


def _by_time(span: EventSpan) -> tuple[int, EventSpan]:
    """The order of an event among those of its meter."""
    return span[1], span


def _gravest_first(alert: Alert) -> tuple[int, float]:
    """The order in which alerts that come at once are decided."""
    return alert.severity, -alert.score


def _explains(span: EventSpan, alert: Alert) -> bool:
    """Whether an event lasted while an alert was raised."""
    event, start, until = span
    end = until or start + DEFAULT_DURATIONS.get(event, MEMORY_SECONDS)
    return start <= alert.raised and alert.since <= end


def _end_of(span: EventSpan) -> int:
    """The end of an event; NEVER_TIME if it is not known."""
    event, start, until = span
    if until:
        return until
    return (
        start + DEFAULT_DURATIONS[event] if event in DEFAULT_DURATIONS else NEVER_TIME
    )


def _lots(alerts: Iterable[Alert]) -> Iterator[list[Alert]]:
    """The alerts of each area in order, alerts that fell due at one moment together."""
    by_area: dict[str, list[list[Alert]]] = {}
    for alert in alerts:
        lots = by_area.setdefault(alert.area, [])
        last = lots[-1][-1] if lots else alert
        if (
            not lots
            or alert.at != last.at
            or not ARRIVING_KINDS.isdisjoint({alert.kind, last.kind})
        ):
            lots.append([])
        lots[-1].append(alert)
    for lots in by_area.values():
        yield from lots


def _is_explainable(alert: Alert) -> bool:
    """Whether a failure of an area may explain an alert."""
    return Explanation.UNREAD_AREA in explanations_of(alert.rule)


class Policy(Owner):
    """Remembers events, recent alerts and daily counts."""

    def __init__(self, section: Callable[[str], str], shadow: frozenset[str]) -> None:
        self.section = section
        self.shadow = shadow

        # events, and alerts by area and id
        self.events: EventSpans = {}
        self.recent: dict[str, dict[str, Alert]] = {}

        # raises by rule, area and subject; by rule and day; and by section, family with a
        # budget apart, and day; decisions by id, while they may still change
        self.raises: dict[tuple[str, str, str], list[int]] = {}
        self.daily: Counter[tuple[str, int]] = Counter()
        self.spent: Counter[tuple[str, str, int]] = Counter()
        self.decided: dict[str, str] = {}

        # alerts that may share a notice, and the ids of the changed alerts
        self._gatherings: dict[NoticeKey, NoticeGroup] = {}
        self._changed: dict[NoticeKey, set[str]] = {}

        # ids of the failures of an area; ids of the alerts on a customer's use, by area
        # and subject
        self._failure_ids: dict[str, set[str]] = {}
        self._on_use: dict[tuple[str, str], set[str]] = {}

        # by area: the last midnight at which lasting alerts were checked, and the
        # midnight that has passed since
        self._checked_midnights: dict[str, int] = {}
        self._passed_midnights: dict[str, int] = {}

    def apply(self, alerts: Iterable[Alert]) -> list[Alert]:
        """The alerts, each with the reason for which it is suppressed, and other alerts that change by them.

        Of alerts that come at once the gravest is decided first.
        """
        alerts = list(alerts)
        failures = [alert for alert in alerts if is_failure(alert)]
        self._decide(
            alert
            for alert in alerts
            if not self._reason(alert)
            and not any(failure_explains(failure, alert) for failure in failures)
        )

        published: list[Alert] = []
        for lot in _lots(alerts):
            start = len(published)
            lot.sort(key=lambda alert: not is_failure(alert))
            for alert in lot:
                published += self._published(alert)
            published += self._follow_ups(lot[0].area, published, start)

        self._checked_midnights |= self._passed_midnights
        for area in self._passed_midnights:
            published += self._outlasting(area)
        self._passed_midnights = {}
        return published

    def _reason(self, alert: Alert) -> str:
        """Why an alert is suppressed by its rule, by events or by another alert."""
        if alert.rule in self.shadow:
            return "shadow"
        return self._event_reason(alert) or self.same_trouble(alert)

    def _event_reason(self, alert: Alert) -> str:
        """Why an alert is suppressed by the events around it."""
        return self.mute(alert) or self.inhibit(alert) or self._area_failure(alert)

    def _suppression(self, alert: Alert) -> str:
        """Why an alert is suppressed, its notice apart."""
        if is_notice(alert):
            return ""
        return self._reason(alert) or self.decided.get(alert.id, "")

    def _published(self, alert: Alert) -> list[Alert]:
        """An alert as it is published, remembered unless its rule is in shadow.

        If its explanation is gone, a revision of the last published one comes before it.
        """
        suppressed_by = self._suppression(alert)
        if suppressed_by == "shadow":
            return [msgspec.structs.replace(alert, suppressed_by=suppressed_by)]

        published: list[Alert] = []
        revision = alert.revision
        known = self.recent.get(alert.area, {}).get(alert.id)
        if known is not None:
            was_explained = known.suppressed_by not in UNEXPLAINED_REASONS
            if known.state == "raised" and was_explained and not self._reason(alert):
                known = self._revised(known, suppressed_by)
                published.append(known)
            # an event may have revised the published alert
            revision = max(revision, known.revision + 1)

        alert = self._corroborated(
            msgspec.structs.replace(
                alert, suppressed_by=suppressed_by, revision=revision
            )
        )
        if is_failure(alert):
            alert = with_explained(alert, self._explained_meters(alert))
        if is_on_use(alert) and not suppressed_by:
            alert = with_other_rules(alert, self._represented_alerts(alert))
        self._remember(alert)
        return [*published, alert]

    def _remember(self, alert: Alert) -> None:
        """Keep an alert as published last, and among those with which it may share a notice."""
        known = self.recent.setdefault(alert.area, {})
        if alert.id in known:
            self._ungroup(known[alert.id])
        known[alert.id] = alert

        if is_on_use(alert):
            self._on_use.setdefault((alert.area, alert.subject), set()).add(alert.id)
        if is_failure(alert):
            self._failure_ids.setdefault(alert.area, set()).add(alert.id)
        if notice_key := notice_key_of(alert):
            self._changed.setdefault(notice_key, set()).add(alert.id)

    def _ungroup(self, alert: Alert) -> None:
        """Remove an alert from those with which it may share a notice, or the same trouble."""
        ids = self._on_use.get((alert.area, alert.subject))
        if ids is not None:
            ids.discard(alert.id)
            if not ids:
                del self._on_use[alert.area, alert.subject]
        self._failure_ids.get(alert.area, set()).discard(alert.id)

        notice_key = notice_key_of(alert)
        if notice_key and notice_key in self._gatherings:
            self._changed.setdefault(notice_key, set())
            self._gatherings[notice_key].drop(alert.id)
            if not self._gatherings[notice_key].members:
                del self._gatherings[notice_key]

    def _revised(
        self, alert: Alert, suppressed_by: str, change: Change = "revised"
    ) -> Alert:
        """A published alert with another reason; it is remembered."""
        revised = msgspec.structs.replace(
            alert,
            suppressed_by=suppressed_by,
            change=change,
            revision=alert.revision + 1,
        )
        self._remember(revised)
        return revised

    def note_events(self, batch: DeviceEvents) -> tuple[list[Alert], list[int]]:
        """Remember events; the alerts that they suppress or release, and the rows that were known."""
        known_rows = []
        # by area: events that may explain alerts, each with its meter
        fresh: dict[str, list[tuple[str, EventSpan]]] = {}
        for row in range(len(batch)):
            area = batch.areas[batch.area[row]]
            meter = batch.names[batch.subject[row]]
            span = int(batch.event[row]), int(batch.at[row]), int(batch.until[row])
            spans = self.events.setdefault((area, meter), [])
            place = bisect_left(spans, _by_time(span), key=_by_time)
            if place < len(spans) and spans[place] == span:
                known_rows.append(row)
                continue
            spans.insert(place, span)
            if span[0] in EXPLAINING_EVENTS or span[0] in EVIDENCE_EVENTS:
                fresh.setdefault(area, []).append((meter, span))

        revised: list[Alert] = []
        for area, events in sorted(fresh.items()):
            alerts = self._reconsider(area, self._affected(area, events))
            revised += alerts + self._follow_ups(area, alerts, 0)
        return revised, known_rows

    def _affected(self, area: str, fresh: Iterable[tuple[str, EventSpan]]) -> list[str]:
        """The ids of recent alerts of an area that new events may suppress or release."""
        muting: dict[str, list[EventSpan]] = {}
        reporting: set[str] = set()  # meters with events that are evidence
        off_since = LATEST_TIME
        for meter, span in fresh:
            event, start, until = span
            if event in EVIDENCE_EVENTS:
                reporting.add(meter)
            if event in MUTING_EVENTS:
                end = 0 if called_off(*span) else until
                muting.setdefault(meter, []).append((event, start, end))
            elif not meter and event not in EVIDENCE_EVENTS:
                off_since = min(off_since, self._off_since(area, span))

        affected = []
        for key, alert in self.recent.get(area, {}).items():
            spans = [*muting.get("", ())]
            if alert.subject:
                spans += muting.get(alert.subject, ())
            explanations = explanations_of(alert.rule)
            muted = any(
                MUTING_EVENTS[span[0]] in explanations and _explains(span, alert)
                for span in spans
            )
            strengthened = second_evidence(alert) and not reporting.isdisjoint(
                {"", alert.subject}
            )
            inhibited = alert.raised >= off_since and Explanation.OUTAGE in explanations
            if muted or strengthened or inhibited:
                affected.append(key)
        return affected

    def _off_since(self, area: str, span: EventSpan) -> int:
        """The time since which an area had been without power at an event, or the event's own time."""
        spans = self.events[area, ""]
        since = span[1]
        earlier = spans[: bisect_left(spans, _by_time(span), key=_by_time)]
        for event, at, _ in reversed(earlier):
            if event == Event.POWER_ON:
                break
            since = at if event == Event.POWER_OFF else since
        return since

    def mute(self, alert: Alert) -> str:
        """The planned outage, vacancy or meter change that explains an alert, if any."""
        of_area = self.events.get((alert.area, ""), [])
        of_subject = self.events.get((alert.area, alert.subject), [])
        explanations = explanations_of(alert.rule)
        for span in in_force(of_area) + in_force(of_subject):
            event = span[0]
            muted = (
                event in MUTING_EVENTS
                and MUTING_EVENTS[event] in explanations
                and _explains(span, alert)
            )
            if muted and not self._outlasts(alert, _end_of(span)):
                return Event(event).name.lower()
        return ""

    def inhibit(self, alert: Alert) -> str:
        """Whether the area was without power when the alert was raised; a day if no end is known."""
        if Explanation.OUTAGE not in explanations_of(alert.rule):
            return ""

        off = end = 0
        events = self.events.get((alert.area, ""), [])
        for event, at, until in [*events, (int(Event.POWER_ON), NEVER_TIME, 0)]:
            if event == Event.POWER_OFF:
                off = off or at
                end = until
            elif event == Event.POWER_ON and off:
                over = end or min(at, off + DAY_SECONDS)
                without_power = off <= alert.raised and alert.since <= over
                if without_power and not self._outlasts(alert, over):
                    return "area_outage"
                off = 0
        return ""

    def _area_failure(self, alert: Alert) -> str:
        """Whether a failure of the whole area explains an alert."""
        if not _is_explainable(alert):
            return ""
        for failure in self._failures(alert.area):
            over = NEVER_TIME if failure.state == "raised" else failure.at
            if failure_explains(failure, alert) and not self._outlasts(alert, over):
                return AREA_FAILURE
        return ""

    def same_trouble(self, alert: Alert) -> str:
        """Whether another alert on the same customer's use stands for this one."""
        if not is_on_use(alert):
            return ""
        chain = same_trouble(alert, self._unexplained_on_use(alert))
        if alert.state == "withdrawn" or representative(chain).id == alert.id:
            return ""
        return SAME_TROUBLE

    def _unexplained_on_use(self, alert: Alert) -> list[Alert]:
        """The other alerts on a customer's use that no event explains."""
        known = self.recent.get(alert.area, {})
        others = (
            known[key]
            for key in sorted(self._on_use.get((alert.area, alert.subject), ()))
            if key != alert.id
        )
        return [
            other
            for other in others
            if other.state != "withdrawn" and not self._event_reason(other)
        ]

    def _represented_alerts(self, alert: Alert) -> list[Alert]:
        """The alerts of the same trouble for which an alert stands."""
        if alert.state == "withdrawn":
            return []
        chain = same_trouble(alert, self._unexplained_on_use(alert))
        return [other for other in chain if other.id != alert.id]

    def _failures(self, area: str) -> list[Alert]:
        """The remembered failures of an area."""
        return [
            self.recent[area][key] for key in sorted(self._failure_ids.get(area, ()))
        ]

    def _outlasts(self, alert: Alert, over: int) -> bool:
        """Whether an alert lasts at a midnight half a day and its release after its explanation."""
        if over == NEVER_TIME:
            return False
        seen = alert.at
        if alert.state == "raised":
            seen = max(seen, self._checked_midnights.get(alert.area, 0))
        release = ALL_RULES[alert.rule].release if alert.rule in ALL_RULES else 0
        midnights = -(-(over + release + DAY_SECONDS // 2) // DAY_SECONDS)
        return seen >= midnights * DAY_SECONDS

    def _outlasting(self, area: str) -> list[Alert]:
        """The alerts of an area that outlast their explanation."""
        suppressed = [
            key
            for key, alert in self.recent.get(area, {}).items()
            if alert.suppressed_by and alert.state == "raised"
        ]
        alerts = self._reconsider(area, suppressed)
        return alerts + self._follow_ups(area, alerts, 0)

    def _reconsider(self, area: str, keys: Iterable[str]) -> list[Alert]:
        """The alerts with another reason now; an alert in a notice stays in it unless it is explained."""
        revised = []
        for key in sorted(keys):
            known = self.recent[area][key]
            suppressed_by = self._suppression(known)
            if known.suppressed_by == NOTICE_REASON and not self._reason(known):
                suppressed_by = NOTICE_REASON

            new = self._corroborated(known)
            if is_on_use(new):
                represented = () if suppressed_by else self._represented_alerts(new)
                new = with_other_rules(new, represented)
            if suppressed_by != known.suppressed_by or new != known:
                is_graver = new.severity < known.severity
                change: Change = "escalated" if is_graver else "revised"
                revised.append(self._revised(new, suppressed_by, change))
        return revised

    def _corroborated(self, alert: Alert) -> Alert:
        """An alert with the second evidence that the reports of its meter give."""
        if not second_evidence(alert) or alert.state == "withdrawn":
            return alert
        reports = self.events.get((alert.area, alert.subject), [])
        area_reports = self.events.get((alert.area, ""), [])
        return corroborated(alert, corroboration(alert, reports, area_reports))

    def _follow_ups(self, area: str, messages: list[Alert], start: int) -> list[Alert]:
        """More alerts that follow from `messages[start:]`: alerts that a failure explains, and notices.

        A message of this list is corrected in its place, since it has not gone out.
        """
        fresh = {alert.id: n for n, alert in enumerate(messages) if n >= start}
        more: list[Alert] = []

        def publish(alert: Alert) -> None:
            n = fresh.get(alert.id)
            if n is None:
                more.append(alert)
                return
            messages[n] = msgspec.structs.replace(
                alert, change=messages[n].change, revision=messages[n].revision
            )
            self._remember(messages[n])

        concerned = [
            alert
            for alert in messages[start:]
            if alert.suppressed_by != "shadow" and alert.area == area
        ]

        # alerts that a failure explains, and failures that explain alerts
        if any(is_failure(alert) for alert in concerned):
            explainable = [
                key
                for key, alert in self.recent.get(area, {}).items()
                if _is_explainable(alert)
            ]
            for alert in self._reconsider(area, explainable):
                publish(alert)
                concerned.append(alert)
        if any(_is_explainable(alert) for alert in concerned):
            for failure in self._failures(area):
                new = with_explained(failure, self._explained_meters(failure))
                if new != failure:
                    publish(self._revised(new, new.suppressed_by))

        # alerts of the same trouble
        for subject in sorted(
            {alert.subject for alert in concerned if is_on_use(alert)}
        ):
            for alert in self._reconsider(area, self._on_use.get((area, subject), ())):
                publish(alert)

        # notices; each may change others
        while self._changed:
            notice_key, keys = next(iter(self._changed.items()))
            for alert in self._notice_changes(notice_key, keys.copy()):
                publish(alert)
            del self._changed[notice_key]
        return more

    def _explained_meters(self, failure: Alert) -> set[str]:
        """The meters whose alerts a failure explains."""
        suppressed = (
            alert
            for alert in self.recent.get(failure.area, {}).values()
            if alert.suppressed_by == AREA_FAILURE
        )
        return {
            alert.subject for alert in suppressed if failure_explains(failure, alert)
        }

    def _regroup(self, notice_key: NoticeKey, keys: Iterable[str]) -> NoticeGroup:
        """The alerts that may share a notice, after some of them have changed."""
        known = self.recent[notice_key.area]
        group = self._gatherings.setdefault(notice_key, NoticeGroup())
        for key in keys:
            alert = known.get(key)
            if (
                alert is None
                or notice_key_of(alert) != notice_key
                or self._reason(alert)
            ):
                group.drop(key)
            else:
                group.add(alert)
        return group

    def _notice_changes(
        self, notice_key: NoticeKey, keys: Collection[str]
    ) -> Iterator[Alert]:
        """The alerts that go into their notice or leave it, and the notice."""
        notice = self.recent[notice_key.area].get(notice_key.id)
        group = self._regroup(notice_key, keys)
        is_many = len(group.subjects) >= notice_key.least_subjects
        was_many = notice is not None and notice.state != "withdrawn"

        for key in sorted(keys if is_many == was_many else group.members):
            if (alert := group.members.get(key)) is None:
                continue
            suppressed_by = NOTICE_REASON if is_many else self._suppression(alert)
            if suppressed_by != alert.suppressed_by:
                yield (revised := self._revised(alert, suppressed_by))
                group.add(revised)

        if is_many:
            new = notice_of(notice_key, group, notice)
            same = notice and msgspec.structs.replace(
                notice, change=new.change, revision=new.revision
            )
            if new != same:
                self._remember(new)
                yield new
        elif notice and was_many:
            new = msgspec.structs.replace(
                notice,
                state="withdrawn",
                change="withdrawn",
                revision=notice.revision + 1,
            )
            self._remember(new)
            yield new
        if not group.members:
            del self._gatherings[notice_key]

    def _decide(self, alerts: Iterable[Alert]) -> None:
        """Apply repeat limit, storm brake and budget to new alerts, and to braked ones that escalate."""
        fresh: dict[str, Alert] = {}
        for alert in alerts:
            if alert.id not in fresh and self._settled(alert):
                continue
            if alert.id not in self.decided:
                self.decided[alert.id] = self._repeat(alert)
            fresh[alert.id] = min(fresh.get(alert.id, alert), alert, key=_gravest_first)

        for alert in sorted(fresh.values(), key=_gravest_first):
            if self.decided[alert.id] != "repeat":
                self.decided[alert.id] = self._brake(alert)

    def _settled(self, alert: Alert) -> bool:
        """Whether the decision on an episode stays."""
        return alert.id in self.decided and not (
            self.decided[alert.id] in BRAKE_REASONS and alert.change == "escalated"
        )

    def _repeat(self, alert: Alert) -> str:
        """Whether the same was raised too often within the day before."""
        key = (alert.rule, alert.area, alert.subject)
        times = [
            at for at in self.raises.get(key, []) if at > alert.raised - DAY_SECONDS
        ]
        self.raises[key] = [*times, alert.raised]
        return "repeat" if len(times) >= DAILY_RAISES else ""

    def _brake(self, alert: Alert) -> str:
        """Whether a day exceeds its forecast or its budget; grave alerts and failures pass."""
        decided_at = alert.at if alert.change == "escalated" else alert.raised
        day = decided_at // DAY_SECONDS
        rule_family = family(alert.rule)
        budget_family = rule_family if rule_family in OWN_BUDGET_FAMILIES else ""
        budget = (self.section(alert.area), budget_family, day)
        self.daily[alert.rule, day] += 1
        self.spent[budget] += 1

        if alert.severity <= GRAVE_SEVERITY or is_failure(alert):
            return ""
        if self.daily[alert.rule, day] > self._forecast(alert.rule, day):
            return "storm"
        return "budget" if self.spent[budget] > DAILY_BUDGET else ""

    def _forecast(self, rule: str, day: int) -> float:
        """How many raises of a rule a day may bring; unlimited until enough days are known."""
        past = [self.daily[rule, day - n] for n in range(1, 8)]
        known = [count for count in past if count]
        if len(known) < STORM_DAYS:
            return float("inf")
        return max(STORM_LEAST, STORM_TIMES * sum(past) / len(past))

    def reconcile(
        self,
        predecessor_alerts: Iterable[Alert],
        watermarks: Mapping[str, int],
        published: Container[str] = (),
    ) -> list[Alert]:
        """Corrections of the alerts of an engine before, which judged the same rows in another order of topics.

        An alert that differs here is published as it is here. An alert that is unknown here is withdrawn, unless it may
        have been forgotten. The last state of an alert in `published` is this engine's own, and stays.
        """
        last: dict[str, Alert] = {}
        revisions: Counter[str] = Counter()
        for alert in predecessor_alerts:
            last[alert.id] = alert
            revisions[alert.id] = max(revisions[alert.id], alert.revision)

        corrections = []
        for key, old in last.items():
            known = self.recent.setdefault(old.area, {})
            oldest = watermarks.get(old.area, 0) - MEMORY_SECONDS
            may_be_forgotten = old.state != "raised" and old.at < oldest
            if key not in known and (may_be_forgotten or key in published):
                continue

            new = known.get(key) or msgspec.structs.replace(old, state="withdrawn")
            if new.revision > revisions[key]:
                continue
            known[key] = msgspec.structs.replace(
                new, revision=revisions[key], change=old.change
            )
            if known[key] != old:
                is_revision = new.state in ("raised", old.state)
                change: Change = "revised" if is_revision else new.state
                known[key] = msgspec.structs.replace(
                    new, revision=revisions[key] + 1, change=change
                )
                corrections.append(known[key])
        return corrections

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
        suppressed: dict[
            tuple[str, str], list[Alert]
        ] = {}  # by area and meter of events
        for area, watermark in watermarks.items():
            self._passed_midnights[area] = watermark // DAY_SECONDS * DAY_SECONDS
            self._forget_alerts(area, watermark - MEMORY_SECONDS)
            self._changed = {}
            for alert in self.recent.get(area, {}).values():
                if alert.suppressed_by:
                    pairs = {(area, ""), (area, alert.subject)} & self.events.keys()
                    for pair in pairs:
                        suppressed.setdefault(pair, []).append(alert)

        for pair, spans in list(self.events.items()):
            if pair[0] in watermarks:
                oldest = watermarks[pair[0]] - MEMORY_SECONDS
                alerts = suppressed.get(pair, ())
                kept = [
                    span
                    for span in spans
                    if max(span[1], span[2]) > oldest
                    or any(_explains(span, alert) for alert in alerts)
                ]
                if kept:
                    self.events[pair] = kept
                else:
                    del self.events[pair]
        self._forget_raises(watermarks)

    def _forget_alerts(self, area: str, oldest: int) -> None:
        """Forget alerts of an area that ended before `oldest` and belong to no open notice."""
        known = self.recent.get(area, {})
        ended = [
            key
            for key, alert in known.items()
            if alert.state != "raised" and alert.at < oldest
        ]
        for key in ended:
            notice_key = notice_key_of(known[key])
            notice = known.get(notice_key.id) if notice_key else None
            if notice and notice.state == "raised":
                continue
            self._ungroup(known.pop(key))
            self.decided.pop(key, None)

    def _forget_raises(self, watermarks: Mapping[str, int]) -> None:
        """Forget old counts of raises."""
        for key, times in list(self.raises.items()):
            area = key[1]
            if area in watermarks and times[-1] < watermarks[area] - MEMORY_SECONDS:
                del self.raises[key]

        oldest_day = (min(watermarks.values()) - MEMORY_SECONDS) // DAY_SECONDS
        for daily_key in [key for key in self.daily if key[-1] < oldest_day]:
            del self.daily[daily_key]
        for budget in [key for key in self.spent if key[-1] < oldest_day]:
            del self.spent[budget]

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
        recent: list[Alert] = []
        for alerts in self.recent.values():
            recent += alerts.values()
        return {
            "events": list(self.events.items()),
            "raises": list(self.raises.items()),
            "daily": list(self.daily.items()),
            "recent": recent,
            "budgets": list(self.spent.items()),
            "decided": self.decided,
            "swept": self._checked_midnights,
        }

    def load(self, state: State) -> None:
        """Replace the state by that of `state`."""
        self.events = dict(state.get("events", ()))
        self.raises = {key: times for key, times in state.get("raises", ()) if times}
        self.daily = Counter(dict(state.get("daily", ())))
        self.spent = Counter(dict(state.get("budgets", ())))
        self.decided = state.get("decided", {})
        self._checked_midnights = state.get("swept", {})

        # the rest follows from the alerts
        self.recent = {}
        self._gatherings = {}
        self._on_use = {}
        self._failure_ids = {}
        self._changed = {}
        for alert in state.get("recent", ()):
            self._remember(alert)
        for notice_key, keys in self._changed.items():
            self._regroup(notice_key, keys)
        if "swept" in state:  # else an older version had no notices
            self._changed = {}
