"""What policy holds back, and why; events and alerts in either order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.policy import (
    DAILY_BUDGET,
    DAILY_RAISES,
    MEMORY_SECONDS,
    STORM_LEAST,
    Policy,
)
from models.state import Saved, restore_owner, saved
from schemas.alert import Alert
from schemas.columns import DeviceEvents, Event
from schemas.units import DAY_SECONDS, HOUR_SECONDS

NOON_TIME = 20_000 * DAY_SECONDS + 12 * HOUR_SECONDS


def policy(shadow: frozenset[str] = frozenset()) -> Policy:
    return Policy(lambda area: f"section {area[0]}", shadow)


def alert(
    rule="phase_break",
    subject="M1",
    raised=NOON_TIME,
    since=NOON_TIME,
    area="A1",
    **more,
) -> Alert:
    told = dict(
        id=f"{rule}-{area}-{subject}-{since}",
        rule=rule,
        version=1,
        kind="days",
        area=area,
        subject=subject,
        state="raised",
        change="raised",
        revision=0,
        severity=3,
        since=since,
        raised=raised,
        at=raised,
        score=1.0,
        phase="",
        evidence={},
        suppressed_by="",
        en="",
        zh="",
    )
    return Alert(**(told | more))


def event(
    kind: Event, at: int, until: int = 0, meter: str = "", area: str = "A1"
) -> DeviceEvents:
    return DeviceEvents.build(
        [meter], [0], [area], [0], [at], event=[kind], until=[until]
    )


def suppressed_by(alerts) -> list[str]:
    return [alert.held for alert in alerts]


MUTE_CASES = [
    (
        event(Event.PLANNED_OUTAGE, NOON_TIME - HOUR_SECONDS, NOON_TIME + HOUR_SECONDS),
        "zero_usage",
        "planned_outage",
    ),
    (
        event(Event.VACANCY, NOON_TIME - 9 * DAY_SECONDS, meter="M1"),
        "zero_usage",
        "vacancy",
    ),
    (
        event(Event.METER_CHANGE, NOON_TIME - 5 * DAY_SECONDS, meter="M1"),
        "register_decrease",
        "meter_change",
    ),
    (event(Event.POWER_OFF, NOON_TIME - HOUR_SECONDS), "phase_break", "area_outage"),
]


@pytest.mark.parametrize(
    ("known", "rule", "reason"), MUTE_CASES, ids=[reason for *_, reason in MUTE_CASES]
)
class TestAnEventExplains:
    def test_an_alert_as_long_as_it_is_known(self, known, rule, reason):
        it = policy()
        it.note_events(known)
        it.apply([alert(rule, state="cleared", at=NOON_TIME + 30 * DAY_SECONDS)])
        it.forget({"A1": NOON_TIME + 60 * DAY_SECONDS})
        assert it.note_events(
            event(Event.CLOCK_SET, NOON_TIME + 60 * DAY_SECONDS, meter="M2")
        ) == ([], [])
        it.forget({"A1": NOON_TIME + 80 * DAY_SECONDS})
        assert it.events.keys() == {("A1", "M2")}

    def test_an_alert_that_comes_after_it(self, known, rule, reason):
        it = policy()
        it.note_events(known)
        assert suppressed_by(it.apply([alert(rule)])) == [reason]

    def test_an_alert_that_came_before_it(self, known, rule, reason):
        it = policy()
        assert suppressed_by(it.apply([alert(rule)])) == [""]
        (revised,), _ = it.note_events(known)
        assert (revised.suppressed_by, revised.change, revised.revision) == (
            reason,
            "revised",
            1,
        )

    def test_no_alert_of_another_rule_or_area(self, known, rule, reason):
        it = policy()
        it.note_events(known)
        assert suppressed_by(
            it.apply([alert("stage_overdue"), alert(rule, area="A2")])
        ) == ["", ""]

    def test_once(self, known, rule, reason):
        it = policy()
        assert it.note_events(known)[1] == []
        assert it.note_events(known)[1] == [0]


def test_power_that_came_back_before_the_trouble_explains_nothing():
    it = policy()
    it.note_events(event(Event.POWER_OFF, NOON_TIME - 3 * HOUR_SECONDS))
    it.note_events(event(Event.POWER_ON, NOON_TIME - 2 * HOUR_SECONDS))
    assert suppressed_by(it.apply([alert("phase_break")])) == [""]


def test_power_on_that_is_reported_late_lets_go():
    it = policy()
    it.note_events(event(Event.POWER_OFF, NOON_TIME - 3 * HOUR_SECONDS))
    assert suppressed_by(it.apply([alert("phase_break")])) == ["area_outage"]
    (revised,), _ = it.note_events(event(Event.POWER_ON, NOON_TIME - 2 * HOUR_SECONDS))
    assert revised.suppressed_by == ""


def test_rule_that_raises_again_and_again_is_suppressed_for_a_day():
    it = policy()
    raised = [NOON_TIME + n * HOUR_SECONDS for n in range(DAILY_RAISES + 1)]
    told = it.apply(alert(raised=at, since=at) for at in raised)
    assert suppressed_by(told) == [""] * DAILY_RAISES + ["repeat"]
    later = raised[-1] + DAY_SECONDS + HOUR_SECONDS
    assert suppressed_by(it.apply([alert(raised=later, since=later)])) == [""]


def test_what_was_decided_when_it_was_raised_stays_until_it_clears():
    it = policy()
    told = it.apply(
        alert(raised=NOON_TIME + n, since=NOON_TIME + n)
        for n in range(DAILY_RAISES + 1)
    )
    cleared = [
        msgspec.structs.replace(a, state="cleared", change="cleared") for a in told
    ]
    assert suppressed_by(it.apply(cleared)) == suppressed_by(told)


def test_a_rule_that_fires_beyond_three_times_its_forecast_is_braked():
    it = policy()
    for day in range(7):
        it.apply(
            alert(
                area=f"A{n}",
                raised=NOON_TIME + day * DAY_SECONDS,
                since=NOON_TIME + day * DAY_SECONDS,
            )
            for n in range(20)
        )
    storm = it.apply(
        alert(
            area=f"A{n}",
            raised=NOON_TIME + 7 * DAY_SECONDS,
            since=NOON_TIME + 7 * DAY_SECONDS,
        )
        for n in range(100)
    )
    braked = max(STORM_LEAST, 3 * 20)
    assert suppressed_by(storm) == [""] * braked + ["storm"] * (100 - braked)


def test_a_section_has_a_budget_a_day():
    it = policy()
    told = it.apply(alert(area=f"A{n}") for n in range(DAILY_BUDGET + 1))
    assert suppressed_by(told) == [""] * DAILY_BUDGET + ["budget"]
    assert suppressed_by(it.apply([alert(area="B2")])) == [""]


def test_alert_of_a_rule_in_shadow_is_suppressed_as_shadow():
    assert suppressed_by(policy(frozenset({"phase_break"})).apply([alert()])) == [
        "shadow"
    ]


def test_it_goes_on_from_its_state():
    it, again = policy(), policy()
    it.note_events(MUTE_CASES[0][0])
    it.apply([alert(), alert("stage_overdue")])
    assert restore_owner(
        again, msgspec.msgpack.decode(msgspec.msgpack.encode(saved(it)), type=Saved)
    )
    assert msgspec.msgpack.encode(saved(again)) == msgspec.msgpack.encode(saved(it))
    assert suppressed_by(again.apply([alert(subject="M2")])) == ["planned_outage"]


RULE_NAMES = (
    "zero_usage",
    "low_usage",
    "voltage_loss",
    "register_decrease",
    "stage_overdue",
)
EVENT_KINDS = (
    Event.POWER_OFF,
    Event.POWER_ON,
    Event.PLANNED_OUTAGE,
    Event.VACANCY,
    Event.METER_CHANGE,
    Event.COVER_OPEN,
)
ANY_METER, ANY_HOUR = st.sampled_from(["", "M1", "M2"]), st.integers(0, 60)
ANY_ALERT = st.builds(
    lambda rule, meter, raised, lasted: alert(
        rule,
        subject=meter or "A1",
        raised=NOON_TIME + HOUR_SECONDS * raised,
        since=NOON_TIME + HOUR_SECONDS * (raised - lasted),
    ),
    st.sampled_from(RULE_NAMES),
    ANY_METER,
    ANY_HOUR,
    st.integers(0, 30),
)
ANY_EVENT = st.builds(
    lambda kind, meter, at, lasts: event(
        kind,
        NOON_TIME + HOUR_SECONDS * at,
        NOON_TIME + HOUR_SECONDS * (at + lasts) if lasts else 0,
        meter,
    ),
    st.sampled_from(EVENT_KINDS),
    ANY_METER,
    ANY_HOUR,
    st.integers(0, 40),
)


@given(st.lists(st.one_of(ANY_ALERT, ANY_EVENT), max_size=14))
def test_suppression_follows_all_events_in_any_order(changes):
    it = policy()
    for one in changes:
        if isinstance(one, Alert):
            it.apply([one])
        else:
            it.note_events(one)
        for known in it.recent.get("A1", {}).values():
            why = it.mute(known) or it.inhibit(known) or it.same_trouble(known)
            assert known.suppressed_by == (why or it.decided.get(known.id, ""))


class TestReconcile:
    def test_unknown_alert_is_withdrawn(self):
        it = policy()
        told = [alert(), alert(revision=1, change="escalated")]
        [said] = it.reconcile(told, {"A1": NOON_TIME})
        assert (said.id, said.state, said.change, said.revision) == (
            told[0].id,
            "withdrawn",
            "withdrawn",
            2,
        )
        assert it.reconcile([*told, said], {"A1": NOON_TIME}) == []
        [again] = it.apply([alert()])
        assert again.revision == 3  # so that it counts for who keeps the highest

    def test_alert_that_differs_is_published_anew(self):
        it = policy()
        [mine] = it.apply([alert(severity=2)])
        [said] = it.reconcile([alert(revision=4)], {"A1": NOON_TIME})
        assert said == msgspec.structs.replace(mine, change="revised", revision=5)
        assert it.recent["A1"][mine.id] == said

    def test_same_alert_is_left_alone(self):
        it = policy()
        it.apply([alert()])
        assert (
            it.reconcile(
                [alert(revision=0), alert(revision=1, change="revised")],
                {"A1": NOON_TIME},
            )
            == []
        )
        [cleared] = it.apply([alert(state="cleared", revision=1)])
        assert cleared.revision == 2  # more than any that was told

    def test_state_before_the_last_published_is_left_alone(self):
        it = policy()
        it.apply([alert(), alert(state="cleared")])
        assert it.reconcile([alert(revision=0)], {"A1": NOON_TIME}) == []

    def test_revision_exceeds_the_highest_of_two_earlier_workers(self):
        it = policy()
        it.apply([alert()])
        [said] = it.reconcile(
            [alert(revision=2, severity=1), alert(revision=1)], {"A1": NOON_TIME}
        )
        assert (said.revision, said.severity) == (3, 3)

    def test_alert_that_may_be_forgotten_is_left_alone(self):
        told = [alert(state="cleared")]
        assert policy().reconcile(told, {"A1": NOON_TIME + MEMORY_SECONDS + 1}) == []
        assert len(policy().reconcile(told, {"A1": NOON_TIME + MEMORY_SECONDS})) == 1
        assert (
            len(policy().reconcile([alert()], {"A1": NOON_TIME + MEMORY_SECONDS + 1}))
            == 1
        )  # raised is never forgotten

    def test_alert_published_since_and_forgotten_is_left_alone(self):
        it, later = policy(), {"A1": NOON_TIME + MEMORY_SECONDS + DAY_SECONDS}
        [raised, _] = it.apply([alert(), alert(state="cleared")])
        it.forget(later)
        assert raised.id not in it.recent["A1"]
        assert it.reconcile([alert()], later, {raised.id}) == []

    def test_withdrawn_alert_is_left_alone(self):
        it = policy()
        assert (
            it.reconcile(
                [alert(), alert(state="withdrawn", revision=1)], {"A1": NOON_TIME}
            )
            == []
        )
        [again] = it.apply([alert()])
        assert again.revision == 2


class TestABrake:
    """What holds back by number holds back what can wait."""

    def test_lets_the_grave_through(self):
        it = policy()
        it.apply(
            alert("contract_expiry", area=f"A{n}", severity=4)
            for n in range(DAILY_BUDGET + 1)
        )
        it.apply(alert(area=f"A{n}") for n in range(DAILY_BUDGET + 1))
        assert suppressed_by(
            it.apply(
                [
                    alert("all_voltage_loss", severity=1),
                    alert("phase_break", severity=2),
                ]
            )
        ) == ["", ""]
        assert suppressed_by(it.apply([alert("step_drop", severity=3)])) == ["budget"]

    def test_lets_the_grave_of_a_storm_through(self):
        it = policy()
        for day in range(7):
            it.apply(
                [
                    alert(
                        "arrears_tier",
                        area=f"A{n}",
                        raised=NOON_TIME + day * DAY_SECONDS,
                        since=NOON_TIME + day * DAY_SECONDS,
                        severity=4,
                    )
                    for n in range(20)
                ]
            )
        due = [
            alert(
                "arrears_tier",
                area=f"A{n}",
                raised=NOON_TIME + 7 * DAY_SECONDS,
                since=NOON_TIME + 7 * DAY_SECONDS,
                severity=4,
            )
            for n in range(500)
        ]
        assert "storm" in suppressed_by(it.apply(due))
        later = NOON_TIME + 30 * DAY_SECONDS
        escalated = [
            msgspec.structs.replace(a, change="escalated", severity=1, at=later)
            for a in due
        ]
        assert set(suppressed_by(it.apply(escalated))) == {""}

    def test_takes_the_lowest_score_of_what_comes_at_once(self):
        it = policy()
        told = it.apply(
            alert(area=f"A{n}", score=1.0 + n) for n in range(DAILY_BUDGET + 10)
        )
        assert suppressed_by(told) == ["budget"] * 10 + [""] * DAILY_BUDGET

    def test_keeps_master_data_and_payments_apart(self):
        it = policy()
        it.apply(
            alert("contract_expiry", area=f"A{n}", severity=4)
            for n in range(DAILY_BUDGET + 1)
        )
        it.apply(
            alert("payment_conflict", area=f"A{n}") for n in range(DAILY_BUDGET + 1)
        )
        assert suppressed_by(it.apply([alert()])) == [""]
        assert suppressed_by(
            it.apply([alert("calibration_due", severity=4), alert("low_balance")])
        ) == ["budget", "budget"]

    def test_decides_anew_when_a_suppressed_alert_escalates(self):
        it = policy()
        *_, braked = it.apply(alert(area=f"A{n:03}") for n in range(DAILY_BUDGET + 1))
        assert braked.suppressed_by == "budget"
        same = msgspec.structs.replace(braked, change="revised")
        assert suppressed_by(it.apply([same])) == ["budget"]
        next_day = msgspec.structs.replace(
            braked, change="escalated", at=NOON_TIME + DAY_SECONDS
        )
        assert suppressed_by(it.apply([next_day])) == [""]

    def test_decides_once_of_what_is_raised_and_escalates_at_once(self):
        it = policy()
        it.apply(alert(area=f"A{n}") for n in range(DAILY_BUDGET + 1))
        first = alert("step_drop", score=1.1)
        graver = msgspec.structs.replace(
            first, change="escalated", severity=2, score=2.0, revision=1
        )
        assert suppressed_by(it.apply([first, graver])) == ["", ""]
