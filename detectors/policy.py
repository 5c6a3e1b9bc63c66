"""What stands between rules and readers: stages in a row, each of which may hold an alert back and says why.

A held alert is still told, marked with its reason, so that it is counted and can be looked up. Mute and inhibit follow
the events of an area by event time, whichever came first, and the failure of an area explains its meters' alerts; what
lasts longer than its explanation is told. Repeat, storm and budget are decided when it is raised. Storm and
budget brake what can wait: an alert of severity 1 or 2 breaks through them, and one that escalates is decided anew. Of
very many alerts of one rule, area and day one notice is told, which names them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping

import msgspec

from detectors.causes import (
    EVIDENCE_EVENTS,
    EXPLAINED_BY_FAILURE,
    GRAVE_SEVERITY,
    ON_USE,
    STRENGTHENED_RULES,
    NoticeGroup,
    NoticeKey,
    corroborated,
    corroboration,
    failure_explains,
    family,
    in_force,
    is_notice,
    notice_key_of,
    notice_of,
    representative,
    same_trouble,
    with_explained,
    with_other_rules,
)
from detectors.rule import ALL_RULES
from models.incidents import called_off
from models.state import Owner, Schema, State
from schemas.alert import Alert, Change
from schemas.columns import LATEST_TIME, DeviceEvents, Event
from schemas.units import DAY_SECONDS

MEMORY_SECONDS = 40 * DAY_SECONDS
DAILY_RAISES = 3  # raises of one rule and subject within a day before the next is held; default of this project
STORM_TIMES, STORM_LEAST, STORM_DAYS = (
    3.0,
    50,
    3,
)  # catalogue section 5: brake above 3 times the forecast
DAILY_BUDGET = 500  # alerts of one section and day; default of this project
OWN_BUDGET_FAMILIES = (
    "master_data",
    "payments",
)  # families with a budget of their own: they come by the hundred on one day
BRAKE_REASONS = frozenset({"storm", "budget"})
ARRIVING_KINDS = frozenset(
    {"readings", "clocks", "payments", "attempts"}
)  # kinds judged as rows come, not all at once
AREA_FAILURE, NOTICE_REASON, SAME_TROUBLE = (
    "area_failure",
    "notice",
    "same_trouble",
)  # reasons
UNEXPLAINED_REASONS = BRAKE_REASONS | {"", "repeat", NOTICE_REASON}
NEVER_TIME = 2**62

SUPPLY_RULES = frozenset(
    {
        "voltage_loss",
        "phase_break",
        "all_voltage_loss",
        "current_loss",
        "current_break",
        "meter_voltage_unbalance",
        "voltage_deviation",
        "voltage_sag",
        "meter_stopped",
        "zero_usage",
        "near_zero_usage",
        "read_failure",
        "read_success_rate",
        "area_loss_high",
        "area_loss_correlation",
        "model_score",
    }
)
PROFILE_RULES = frozenset(
    {
        "step_drop",
        "usage_fluctuation",
        "near_zero_usage",
        "timed_zero_block",
        "clipped_profile",
        "flat_profile",
    }
)
MUTED_RULES: dict[int, frozenset[str]] = {
    Event.PLANNED_OUTAGE: SUPPLY_RULES,
    Event.VACANCY: PROFILE_RULES
    | {
        "zero_usage",
        "area_loss_correlation",
        "model_score",
        "current_break",
        "tou_inversion",
        "peer_shortfall",
        "low_usage",
    },
    Event.METER_CHANGE: PROFILE_RULES
    | {
        "register_decrease",
        "meter_stopped",
        "zero_usage",
        "area_loss_correlation",
        "read_failure",
        "register_sum_mismatch",
        "meter_runaway",
        "energy_ratio_error",
        "register_interval_sum",
        "unregistered_reverse",
        "use_after_stop",
        "demand_register_error",
    },
}
EXPLAINING_EVENTS = frozenset(
    {*MUTED_RULES, Event.POWER_OFF, Event.POWER_ON}
)  # events by which alerts are held back
DEFAULT_DURATIONS: dict[int, int] = {
    Event.METER_CHANGE: 7 * DAY_SECONDS
}  # of an event that names no end

EventSpan = tuple[int, int, int]  # event, from, until, 0 when that is not known
EventSpans = dict[tuple[str, str], list[EventSpan]]  # by area and meter, "" for all


def _by_time(span: EventSpan) -> tuple[int, EventSpan]:
    """In which order an event stands among those of its meter."""
    return span[1], span


def _gravest_first(alert: Alert) -> tuple[int, float]:
    """In which order alerts that come at once are decided."""
    return alert.severity, -alert.score


def _explains(span: EventSpan, alert: Alert) -> bool:
    """Whether an event lasted while an alert was raised."""
    event, start, until = span
    return start <= alert.raised and alert.since <= (
        until or start + DEFAULT_DURATIONS.get(event, MEMORY_SECONDS)
    )


def _end_of(span: EventSpan) -> int:
    """When what an event says is over."""
    event, start, until = span
    return until or (
        start + DEFAULT_DURATIONS[event] if event in DEFAULT_DURATIONS else NEVER_TIME
    )


def _lots(alerts: Iterable[Alert]) -> Iterator[list[Alert]]:
    """The alerts of each area in order, those together that fell due at one moment."""
    by_area: dict[str, list[list[Alert]]] = {}
    for alert in alerts:
        mine = by_area.setdefault(alert.area, [])
        last = mine[-1][-1] if mine else alert
        if (
            not mine
            or alert.at != last.at
            or not ARRIVING_KINDS.isdisjoint({alert.kind, last.kind})
        ):
            mine.append([])
        mine[-1].append(alert)
    for found in by_area.values():
        yield from found


class Policy(Owner):
    """Remembers events, recent alerts and daily counts."""

    def __init__(self, section: Callable[[str], str], shadow: frozenset[str]) -> None:
        self.section, self.shadow = section, shadow
        self.events: EventSpans = {}
        self.recent: dict[str, dict[str, Alert]] = {}  # by area and id
        self.raises: dict[
            tuple[str, str, str], list[int]
        ] = {}  # by rule, area and subject
        self.daily: Counter[tuple[str, int]] = Counter()  # raises by rule and day
        self.spent: Counter[tuple[str, str, int]] = (
            Counter()
        )  # raises by section, family with a budget apart, and day
        self.decided: dict[str, str] = {}  # by id, while it may still change
        self._gatherings: dict[
            NoticeKey, NoticeGroup
        ] = {}  # of alerts that may share a notice
        self._failure_ids: dict[str, set[str]] = {}  # ids of the failures of an area
        self._on_use: dict[
            tuple[str, str], set[str]
        ] = {}  # ids of the alerts on a customer's use, by area and subject
        self._changed: dict[NoticeKey, set[str]] = {}  # ids of those that have changed
        self._checked_midnights: dict[
            str, int
        ] = {}  # by area: the last midnight at which what lasts was looked for
        self._passed_midnights: dict[
            str, int
        ] = {}  # by area: the midnight that has passed since

    def apply(self, alerts: Iterable[Alert]) -> list[Alert]:
        """The alerts, each with the reason for which it is held, and what others become by them.

        Of what comes at once the gravest is decided first.
        """
        folded, told = list(alerts), list[Alert]()
        coming = [alert for alert in folded if alert.rule in EXPLAINED_BY_FAILURE]
        self._decide(
            alert
            for alert in folded
            if not self._reason(alert)
            and not any(failure_explains(failure, alert) for failure in coming)
        )
        for lot in _lots(folded):
            start = len(told)
            for alert in sorted(
                lot, key=lambda alert: alert.rule not in EXPLAINED_BY_FAILURE
            ):
                told += self._published(alert)
            told += self._follow_ups(lot[0].area, told, start)
        self._checked_midnights |= self._passed_midnights
        for area in self._passed_midnights:
            told += self._outlasting(area)
        self._passed_midnights = {}
        return told

    def _reason(self, alert: Alert) -> str:
        """Why an alert is held for what it is, or what has happened around it."""
        if alert.rule in self.shadow:
            return "shadow"
        return self._event_reason(alert) or self.same_trouble(alert)

    def _event_reason(self, alert: Alert) -> str:
        """Why an alert is held by what has happened around it."""
        return self.mute(alert) or self.inhibit(alert) or self._area_failure(alert)

    def _suppression(self, alert: Alert) -> str:
        """Why it is held, other alerts apart that come with it."""
        return (
            ""
            if is_notice(alert)
            else self._reason(alert) or self.decided.get(alert.id, "")
        )

    def _published(self, alert: Alert) -> list[Alert]:
        """An alert as it is told, remembered unless its rule is in shadow; before it that it has been let go."""
        held = self._suppression(alert)
        if held == "shadow":
            return [msgspec.structs.replace(alert, suppressed_by=held)]
        told, revision = [], alert.revision
        if (known := self.recent.get(alert.area, {}).get(alert.id)) is not None:
            if (
                known.state == "raised"
                and known.suppressed_by not in UNEXPLAINED_REASONS
                and not self._reason(alert)
            ):
                told.append(known := self._revised(known, held))
            revision = max(
                revision, known.revision + 1
            )  # an event may have revised what was told
        alert = self._corroborated(
            msgspec.structs.replace(alert, suppressed_by=held, revision=revision)
        )
        if alert.rule in EXPLAINED_BY_FAILURE:
            alert = with_explained(alert, self._explained_meters(alert))
        if alert.rule in ON_USE and not held:
            alert = with_other_rules(alert, self._represented_alerts(alert))
        self._remember(alert)
        return [*told, alert]

    def _remember(self, alert: Alert) -> None:
        """Keep an alert as it was told last, and among those with which it may share a notice."""
        known = self.recent.setdefault(alert.area, {})
        if alert.id in known:
            self._ungroup(known[alert.id])
        known[alert.id] = alert
        if alert.rule in ON_USE:
            self._on_use.setdefault((alert.area, alert.subject), set()).add(alert.id)
        if alert.rule in EXPLAINED_BY_FAILURE:
            self._failure_ids.setdefault(alert.area, set()).add(alert.id)
        if crowd := notice_key_of(alert):
            self._changed.setdefault(crowd, set()).add(alert.id)

    def _ungroup(self, alert: Alert) -> None:
        """Take an alert away from those with which it may share a notice, or the same trouble."""
        if (mine := self._on_use.get((alert.area, alert.subject))) is not None:
            mine.discard(alert.id)
            if not mine:
                del self._on_use[alert.area, alert.subject]
        self._failure_ids.get(alert.area, set()).discard(alert.id)
        if (crowd := notice_key_of(alert)) and crowd in self._gatherings:
            self._changed.setdefault(crowd, set())
            self._gatherings[crowd].drop(alert.id)
            if not self._gatherings[crowd].members:
                del self._gatherings[crowd]

    def _revised(
        self, alert: Alert, suppressed_by: str, change: Change = "revised"
    ) -> Alert:
        """An alert told otherwise than it was."""
        revised = msgspec.structs.replace(
            alert,
            suppressed_by=suppressed_by,
            change=change,
            revision=alert.revision + 1,
        )
        self._remember(revised)
        return revised

    def note_events(self, batch: DeviceEvents) -> tuple[list[Alert], list[int]]:
        """Remember events; alerts they now hold or let go, and the rows that were known already."""
        again = []
        fresh: dict[
            str, list[tuple[str, EventSpan]]
        ] = {}  # by area: what may explain alerts, with its meter
        for n in range(len(batch)):
            area, meter = batch.areas[batch.area[n]], batch.names[batch.subject[n]]
            span = int(batch.event[n]), int(batch.at[n]), int(batch.until[n])
            spans = self.events.setdefault((area, meter), [])
            place = bisect_left(spans, _by_time(span), key=_by_time)
            if place < len(spans) and spans[place] == span:
                again.append(n)
                continue
            spans.insert(place, span)
            if span[0] in EXPLAINING_EVENTS or span[0] in EVIDENCE_EVENTS:
                fresh.setdefault(area, []).append((meter, span))

        revised: list[Alert] = []
        for area, events in sorted(fresh.items()):
            told = self._reconsider(area, self._affected(area, events))
            revised += told + self._follow_ups(area, told, 0)
        return revised, again

    def _affected(self, area: str, fresh: Iterable[tuple[str, EventSpan]]) -> list[str]:
        """The ids of recent alerts of an area that new events may hold back or let go."""
        muting: dict[str, list[EventSpan]] = {}
        off = LATEST_TIME
        reported = {meter for meter, span in fresh if span[0] in EVIDENCE_EVENTS}
        for meter, span in fresh:
            if span[0] in MUTED_RULES:
                until = 0 if called_off(*span) else span[2]
                muting.setdefault(meter, []).append((span[0], span[1], until))
            elif not meter and span[0] not in EVIDENCE_EVENTS:
                off = min(off, self._off_since(area, span))

        found = []
        for key, alert in self.recent.get(area, {}).items():
            spans = [
                *muting.get("", ()),
                *(muting.get(alert.subject, ()) if alert.subject else ()),
            ]
            muted = any(
                alert.rule in MUTED_RULES[span[0]] and _explains(span, alert)
                for span in spans
            )
            muted |= alert.rule in STRENGTHENED_RULES and not reported.isdisjoint(
                {"", alert.subject}
            )
            if muted or (alert.raised >= off and alert.rule in SUPPLY_RULES):
                found.append(key)
        return found

    def _off_since(self, area: str, span: EventSpan) -> int:
        """Since when an area had been without power at an event, or the event's own time."""
        spans, since = self.events[area, ""], span[1]
        for event, at, _ in reversed(
            spans[: bisect_left(spans, _by_time(span), key=_by_time)]
        ):
            if event == Event.POWER_ON:
                break
            since = at if event == Event.POWER_OFF else since
        return since

    def mute(self, alert: Alert) -> str:
        """Whether a planned outage, a vacancy or a meter change explains it."""
        wide, own = (
            self.events.get((alert.area, ""), []),
            self.events.get((alert.area, alert.subject), []),
        )
        for span in in_force(wide) + in_force(own):
            event = span[0]
            muted = (
                event in MUTED_RULES
                and alert.rule in MUTED_RULES[event]
                and _explains(span, alert)
            )
            if muted and not self._outlasts(alert, _end_of(span)):
                return Event(event).name.lower()
        return ""

    def inhibit(self, alert: Alert) -> str:
        """Whether the whole area was without power while the alert was raised; for a day where no end was told."""
        if alert.rule not in SUPPLY_RULES:
            return ""
        off = end = 0
        for event, at, until in [
            *self.events.get((alert.area, ""), []),
            (int(Event.POWER_ON), NEVER_TIME, 0),
        ]:
            if event == Event.POWER_OFF:
                off = off or at
                end = until
            elif event == Event.POWER_ON and off:
                over = end or min(at, off + DAY_SECONDS)
                if (
                    off <= alert.raised
                    and alert.since <= over
                    and not self._outlasts(alert, over)
                ):
                    return "area_outage"
                off = 0
        return ""

    def _area_failure(self, alert: Alert) -> str:
        """Whether a failure of the whole area explains it."""
        if not any(alert.rule in rules for rules in EXPLAINED_BY_FAILURE.values()):
            return ""
        for failure in self._failures(alert.area):
            over = NEVER_TIME if failure.state == "raised" else failure.at
            if failure_explains(failure, alert) and not self._outlasts(alert, over):
                return AREA_FAILURE
        return ""

    def same_trouble(self, alert: Alert) -> str:
        """Whether another alert on the same customer's use speaks for it."""
        if alert.rule not in ON_USE:
            return ""
        chain = same_trouble(alert, self._beside(alert))
        return (
            ""
            if alert.state == "withdrawn" or representative(chain).id == alert.id
            else SAME_TROUBLE
        )

    def _beside(self, alert: Alert) -> list[Alert]:
        """The other alerts on a customer's use that nothing explains."""
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
        """The alerts of the same trouble for which an alert speaks."""
        if alert.state == "withdrawn":
            return []
        return [
            other
            for other in same_trouble(alert, self._beside(alert))
            if other.id != alert.id
        ]

    def _failures(self, area: str) -> list[Alert]:
        """The failures of an area that are remembered."""
        return [
            self.recent[area][key] for key in sorted(self._failure_ids.get(area, ()))
        ]

    def _outlasts(self, alert: Alert, over: int) -> bool:
        """Whether it still lasts at a midnight half a day after what explained it, and after the calm that ends it."""
        if over == NEVER_TIME:
            return False
        release = ALL_RULES[alert.rule].release if alert.rule in ALL_RULES else 0
        lasting = alert.state == "raised"
        seen = (
            max(alert.at, self._checked_midnights.get(alert.area, 0))
            if lasting
            else alert.at
        )
        return (
            seen >= -(-(over + release + DAY_SECONDS // 2) // DAY_SECONDS) * DAY_SECONDS
        )

    def _outlasting(self, area: str) -> list[Alert]:
        """The alerts of an area that last longer than what explained them."""
        held = [
            key
            for key, alert in self.recent.get(area, {}).items()
            if alert.suppressed_by and alert.state == "raised"
        ]
        told = self._reconsider(area, held)
        return told + self._follow_ups(area, told, 0)

    def _reconsider(self, area: str, keys: Iterable[str]) -> list[Alert]:
        """Those of some alerts that are held otherwise now; what is in a notice stays in it unless it is explained."""
        told = []
        for key in sorted(keys):
            known = self.recent[area][key]
            held = self._suppression(known)
            if known.suppressed_by == NOTICE_REASON and not self._reason(known):
                held = NOTICE_REASON
            new = self._corroborated(known)
            if new.rule in ON_USE:
                new = with_other_rules(
                    new, () if held else self._represented_alerts(new)
                )
            if held != known.suppressed_by or new != known:
                told.append(
                    self._revised(
                        new,
                        held,
                        "escalated" if new.severity < known.severity else "revised",
                    )
                )
        return told

    def _corroborated(self, alert: Alert) -> Alert:
        """An alert with the second evidence that the reports of its meter give."""
        if alert.rule not in STRENGTHENED_RULES or alert.state == "withdrawn":
            return alert
        spans = self.events.get((alert.area, alert.subject), [])
        return corroborated(
            alert, corroboration(alert, spans, self.events.get((alert.area, ""), []))
        )

    def _follow_ups(self, area: str, messages: list[Alert], start: int) -> list[Alert]:
        """What else is to be told after some messages: what a failure explains, and the notices of many alerts.

        A message that has not gone out is mended in its place.
        """
        fresh = {alert.id: n for n, alert in enumerate(messages) if n >= start}
        more: list[Alert] = []

        def give(alert: Alert) -> None:
            if (n := fresh.get(alert.id)) is not None:
                alert = msgspec.structs.replace(
                    alert, change=messages[n].change, revision=messages[n].revision
                )
                messages[n] = alert
                self._remember(alert)
            else:
                more.append(alert)

        concerned = [
            alert
            for alert in messages[start:]
            if alert.suppressed_by != "shadow" and alert.area == area
        ]
        if any(alert.rule in EXPLAINED_BY_FAILURE for alert in concerned):
            children = [
                key
                for key, alert in self.recent.get(area, {}).items()
                if any(alert.rule in rules for rules in EXPLAINED_BY_FAILURE.values())
            ]
            for alert in self._reconsider(area, children):
                give(alert)
                concerned.append(alert)
        if any(
            alert.rule in rules
            for alert in concerned
            for rules in EXPLAINED_BY_FAILURE.values()
        ):
            for failure in self._failures(area):
                new = with_explained(failure, self._explained_meters(failure))
                if new != failure:
                    give(self._revised(new, new.suppressed_by))
        for subject in sorted(
            {alert.subject for alert in concerned if alert.rule in ON_USE}
        ):
            for alert in self._reconsider(area, self._on_use.get((area, subject), ())):
                give(alert)
        while self._changed:
            crowd, keys = next(iter(self._changed.items()))
            for alert in self._notice_changes(crowd, keys.copy()):
                give(alert)
            del self._changed[crowd]
        return more

    def _explained_meters(self, failure: Alert) -> set[str]:
        """The meters whose alerts a failure explains."""
        held = (
            alert
            for alert in self.recent.get(failure.area, {}).values()
            if alert.suppressed_by == AREA_FAILURE
        )
        return {alert.subject for alert in held if failure_explains(failure, alert)}

    def _regroup(self, notice_key: NoticeKey, keys: Iterable[str]) -> NoticeGroup:
        """Those that may share a notice, after some of them have changed."""
        known, gathering = (
            self.recent[notice_key.area],
            self._gatherings.setdefault(notice_key, NoticeGroup()),
        )
        for key in keys:
            alert = known.get(key)
            if (
                alert is None
                or notice_key_of(alert) != notice_key
                or self._reason(alert)
            ):
                gathering.drop(key)
            else:
                gathering.add(alert)
        return gathering

    def _notice_changes(
        self, notice_key: NoticeKey, keys: Collection[str]
    ) -> Iterator[Alert]:
        """Those of some alerts that go into their notice or leave it, and the notice."""
        known = self.recent[notice_key.area]
        notice, gathering = known.get(notice_key.id), self._regroup(notice_key, keys)
        many = len(gathering.subjects) >= notice_key.least_subjects
        stood = notice is not None and notice.state != "withdrawn"
        for key in sorted(keys if many == stood else gathering.members):
            if (alert := gathering.members.get(key)) is None:
                continue
            held = NOTICE_REASON if many else self._suppression(alert)
            if held != alert.suppressed_by:
                yield (revised := self._revised(alert, held))
                gathering.add(revised)

        if many:
            new = notice_of(notice_key, gathering, notice)
            same = notice and msgspec.structs.replace(
                notice, change=new.change, revision=new.revision
            )
            if new != same:
                self._remember(new)
                yield new
        elif notice and stood:
            gone: Change = "withdrawn"
            new = msgspec.structs.replace(
                notice, state=gone, change=gone, revision=notice.revision + 1
            )
            self._remember(new)
            yield new
        if not gathering.members:
            del self._gatherings[notice_key]

    def _decide(self, alerts: Iterable[Alert]) -> None:
        """Repeat limit, storm brake and budget for what is new or has escalated while a brake held it."""
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
        """Whether it stays at what was decided of an episode."""
        return alert.id in self.decided and not (
            self.decided[alert.id] in BRAKE_REASONS and alert.change == "escalated"
        )

    def _repeat(self, alert: Alert) -> str:
        """Whether the same was raised too often within a day before."""
        key = (alert.rule, alert.area, alert.subject)
        times = [
            at for at in self.raises.get(key, []) if at > alert.raised - DAY_SECONDS
        ]
        self.raises[key] = [*times, alert.raised]
        return "repeat" if len(times) >= DAILY_RAISES else ""

    def _brake(self, alert: Alert) -> str:
        """Whether a day has brought more than its forecast or its budget; not of what is grave or explains others."""
        day = (alert.at if alert.change == "escalated" else alert.raised) // DAY_SECONDS
        module = family(alert.rule)
        budget = (
            self.section(alert.area),
            module if module in OWN_BUDGET_FAMILIES else "",
            day,
        )
        self.daily[alert.rule, day] += 1
        self.spent[budget] += 1

        if alert.severity <= GRAVE_SEVERITY or alert.rule in EXPLAINED_BY_FAILURE:
            return ""
        if self.daily[alert.rule, day] > self._forecast(alert.rule, day):
            return "storm"
        return "budget" if self.spent[budget] > DAILY_BUDGET else ""

    def _forecast(self, rule: str, day: int) -> float:
        """How many raises of a rule a day may bring; unlimited before enough days were seen."""
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
        """What sets right the messages of an engine before, which judged the same rows in another order of topics.

        This one's own word where that was another, a withdrawal where it knows no such alert and has forgotten none.
        Of what it has published since by itself the last word is its own, though it may have forgotten that too.
        """
        last: dict[str, Alert] = {}
        revisions: Counter[str] = Counter()
        for alert in predecessor_alerts:
            last[alert.id] = alert
            revisions[alert.id] = max(revisions[alert.id], alert.revision)
        said = []
        for key, old in last.items():
            known = self.recent.setdefault(old.area, {})
            forgotten = (
                old.state != "raised"
                and old.at < watermarks.get(old.area, 0) - MEMORY_SECONDS
            )
            if key not in known and (forgotten or key in published):
                continue
            mine = known.get(key) or msgspec.structs.replace(old, state="withdrawn")
            if mine.revision > revisions[key]:
                continue
            known[key] = as_told = msgspec.structs.replace(
                mine, revision=revisions[key], change=old.change
            )
            if as_told != old:
                change: Change = (
                    mine.state if mine.state not in ("raised", old.state) else "revised"
                )
                known[key] = msgspec.structs.replace(
                    mine, revision=revisions[key] + 1, change=change
                )
                said.append(known[key])
        return said

    def open_alerts(self) -> list[Alert]:
        """What was told last of every episode that has not ended."""
        return [
            alert
            for alerts in self.recent.values()
            for alert in alerts.values()
            if alert.state == "raised"
        ]

    def forget(self, watermarks: Mapping[str, int]) -> None:
        """Drop what is older than any event or alert of some areas could still concern."""
        held: dict[tuple[str, str], list[Alert]] = {}
        for area, clock in watermarks.items():
            known = self.recent.get(area, {})
            self._passed_midnights[area] = clock // DAY_SECONDS * DAY_SECONDS
            for key in [
                k
                for k, a in known.items()
                if a.state != "raised" and a.at < clock - MEMORY_SECONDS
            ]:
                crowd = notice_key_of(known[key])
                if (
                    crowd
                    and (notice := known.get(crowd.id))
                    and notice.state == "raised"
                ):
                    continue
                self._ungroup(known.pop(key))
                self.decided.pop(key, None)
            self._changed = {}
            for alert in known.values():
                for pair in (
                    {(area, ""), (area, alert.subject)} & self.events.keys()
                    if alert.suppressed_by
                    else ()
                ):
                    held.setdefault(pair, []).append(alert)
        for pair, spans in list(self.events.items()):
            if pair[0] in watermarks:
                kept = [
                    s
                    for s in spans
                    if max(s[1], s[2]) > watermarks[pair[0]] - MEMORY_SECONDS
                    or any(_explains(s, alert) for alert in held.get(pair, ()))
                ]
                if kept:
                    self.events[pair] = kept
                else:
                    del self.events[pair]
        for who in [
            k
            for k, times in self.raises.items()
            if k[1] in watermarks and times[-1] < watermarks[k[1]] - MEMORY_SECONDS
        ]:
            del self.raises[who]
        oldest = (min(watermarks.values()) - MEMORY_SECONDS) // DAY_SECONDS
        for raised in [key for key in self.daily if key[-1] < oldest]:
            del self.daily[raised]
        for told in [key for key in self.spent if key[-1] < oldest]:
            del self.spent[told]

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
        """Everything remembered."""
        return {
            "events": list(self.events.items()),
            "raises": list(self.raises.items()),
            "daily": list(self.daily.items()),
            "recent": [a for alerts in self.recent.values() for a in alerts.values()],
            "budgets": list(self.spent.items()),
            "decided": self.decided,
            "swept": self._checked_midnights,
        }

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave."""
        self.events = dict(state.get("events", ()))
        self.raises = {who: times for who, times in state.get("raises", ()) if times}
        self.daily = Counter(dict(state.get("daily", ())))
        self.spent = Counter(dict(state.get("budgets", ())))
        self.decided, self._checked_midnights = (
            state.get("decided", {}),
            state.get("swept", {}),
        )
        (
            self.recent,
            self._gatherings,
            self._on_use,
            self._failure_ids,
            self._changed,
        ) = {}, {}, {}, {}, {}
        for alert in state.get("recent", ()):
            self._remember(alert)
        for crowd, keys in self._changed.items():
            self._regroup(crowd, keys)
        if "swept" in state:  # else an older version had no notices
            self._changed = {}
