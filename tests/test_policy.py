"""Which alerts policy suppresses, and why; events and alerts in either order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.policy import Policy
from detectors.policy.budget import DAILY_BUDGET
from detectors.policy.events import MEMORY_SECONDS
from detectors.policy.repeat import DAILY_RAISES
from detectors.policy.storm import STORM_LEAST
from detectors.rule import ALL_RULES
from models.state.owners import Saved, restore_owner, saved
from schemas.alert import Alert
from schemas.columns import DeviceEvents, Event
from schemas.units import DAY_SECONDS, HOUR_SECONDS

NOON_TIME = 20_000 * DAY_SECONDS + 12 * HOUR_SECONDS


def new_policy(shadow: frozenset[str] = frozenset()) -> Policy:
    return Policy(lambda area: f"section {area[0]}", shadow)


def alert(
    rule="phase_break",
    subject="M1",
    raised=NOON_TIME,
    since=NOON_TIME,
    area="A1",
    **more,
) -> Alert:
    fields = dict(
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

    return Alert(**(fields | more))


def event(
    kind: Event, at: int, until: int = 0, meter: str = "", area: str = "A1"
) -> DeviceEvents:
    return DeviceEvents.build(
        [meter], [0], [area], [0], [at], event=[kind], until=[until]
    )


def suppressed_by(alerts) -> list[str]:
    return [alert.suppressed_by for alert in alerts]


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
        policy = new_policy()
        policy.note_events(known)
        policy.apply([alert(rule, state="cleared", at=NOON_TIME + 30 * DAY_SECONDS)])
        policy.forget({"A1": NOON_TIME + 60 * DAY_SECONDS})
        assert policy.note_events(
            event(Event.CLOCK_SET, NOON_TIME + 60 * DAY_SECONDS, meter="M2")
        ) == ([], [])
        policy.forget({"A1": NOON_TIME + 80 * DAY_SECONDS})
        assert policy.events.spans.keys() == {("A1", "M2")}

    def test_an_alert_that_comes_after_it(self, known, rule, reason):
        policy = new_policy()
        policy.note_events(known)
        assert suppressed_by(policy.apply([alert(rule)])) == [reason]

    def test_an_alert_that_came_before_it(self, known, rule, reason):
        policy = new_policy()
        assert suppressed_by(policy.apply([alert(rule)])) == [""]
        (revised,), _ = policy.note_events(known)
        assert (revised.suppressed_by, revised.change, revised.revision) == (
            reason,
            "revised",
            1,
        )

    def test_no_alert_of_another_rule_or_area(self, known, rule, reason):
        policy = new_policy()
        policy.note_events(known)
        assert suppressed_by(
            policy.apply([alert("stage_overdue"), alert(rule, area="A2")])
        ) == ["", ""]

    def test_each_alert_once(self, known, rule, reason):
        policy = new_policy()
        assert policy.note_events(known)[1] == []
        assert policy.note_events(known)[1] == [0]


EXPLAINING_EVENTS = {
    "planned_outage": Event.PLANNED_OUTAGE,
    "vacancy": Event.VACANCY,
    "meter_change": Event.METER_CHANGE,
    "area_outage": Event.POWER_OFF,
}


@pytest.mark.parametrize("name", ALL_RULES)
@pytest.mark.parametrize("reason", EXPLAINING_EVENTS)
def test_an_event_explains_the_rules_that_say_so(name, reason):
    policy = new_policy()
    policy.note_events(event(EXPLAINING_EVENTS[reason], NOON_TIME - HOUR_SECONDS))
    reasons = [
        known
        for explanation in ALL_RULES[name].explained_by
        for known in explanation.reasons
    ]
    expected = reason if reason in reasons else ""
    assert suppressed_by(policy.apply([alert(name, severity=2)])) == [expected]


@pytest.mark.parametrize("name", ALL_RULES)
def test_a_failure_of_the_area_explains_the_rules_that_say_so(name):
    failures = [rule for rule in ALL_RULES.values() if rule.explains]
    for failure in failures:
        _, known = new_policy().apply(
            [alert(failure.name, subject="", severity=2), alert(name, severity=2)]
        )
        explained = failure.explains in ALL_RULES[name].explained_by
        assert known.suppressed_by == ("area_failure" if explained else "")


def test_power_that_came_back_before_the_trouble_explains_nothing():
    policy = new_policy()
    policy.note_events(event(Event.POWER_OFF, NOON_TIME - 3 * HOUR_SECONDS))
    policy.note_events(event(Event.POWER_ON, NOON_TIME - 2 * HOUR_SECONDS))
    assert suppressed_by(policy.apply([alert("phase_break")])) == [""]


def test_late_power_on_ends_the_suppression():
    policy = new_policy()
    policy.note_events(event(Event.POWER_OFF, NOON_TIME - 3 * HOUR_SECONDS))
    assert suppressed_by(policy.apply([alert("phase_break")])) == ["area_outage"]
    (revised,), _ = policy.note_events(
        event(Event.POWER_ON, NOON_TIME - 2 * HOUR_SECONDS)
    )
    assert revised.suppressed_by == ""


def test_rule_that_raises_again_and_again_is_suppressed_for_a_day():
    policy = new_policy()
    raised = [NOON_TIME + n * HOUR_SECONDS for n in range(DAILY_RAISES + 1)]
    alerts = policy.apply(alert(raised=at, since=at) for at in raised)
    assert suppressed_by(alerts) == [""] * DAILY_RAISES + ["repeat"]
    later = raised[-1] + DAY_SECONDS + HOUR_SECONDS
    assert suppressed_by(policy.apply([alert(raised=later, since=later)])) == [""]


def test_suppression_at_the_raise_stays_until_the_alert_clears():
    policy = new_policy()
    alerts = policy.apply(
        alert(raised=NOON_TIME + n, since=NOON_TIME + n)
        for n in range(DAILY_RAISES + 1)
    )
    cleared = [
        msgspec.structs.replace(raised, state="cleared", change="cleared")
        for raised in alerts
    ]
    assert suppressed_by(policy.apply(cleared)) == suppressed_by(alerts)


def test_a_rule_that_fires_beyond_three_times_its_forecast_is_braked():
    policy = new_policy()
    for day in range(7):
        policy.apply(
            alert(
                area=f"A{n}",
                raised=NOON_TIME + day * DAY_SECONDS,
                since=NOON_TIME + day * DAY_SECONDS,
            )
            for n in range(20)
        )

    storm = policy.apply(
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
    policy = new_policy()
    alerts = policy.apply(alert(area=f"A{n}") for n in range(DAILY_BUDGET + 1))
    assert suppressed_by(alerts) == [""] * DAILY_BUDGET + ["budget"]
    assert suppressed_by(policy.apply([alert(area="B2")])) == [""]


def test_alert_of_a_rule_in_shadow_is_suppressed_as_shadow():
    assert suppressed_by(new_policy(frozenset({"phase_break"})).apply([alert()])) == [
        "shadow"
    ]


def test_policy_continues_from_its_state():
    policy, restored = new_policy(), new_policy()
    policy.note_events(MUTE_CASES[0][0])
    policy.apply([alert(), alert("stage_overdue")])
    assert restore_owner(
        restored,
        msgspec.msgpack.decode(msgspec.msgpack.encode(saved(policy)), type=Saved),
    )
    assert msgspec.msgpack.encode(saved(restored)) == msgspec.msgpack.encode(
        saved(policy)
    )
    assert suppressed_by(restored.apply([alert(subject="M2")])) == ["planned_outage"]


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
    policy = new_policy()
    for change in changes:
        if isinstance(change, Alert):
            policy.apply([change])
        else:
            policy.note_events(change)
        for known in policy.recent.get("A1", {}).values():
            why = policy.explained.reason(known)
            assert known.suppressed_by == (why or policy.decisions.reason(known))


class TestReconcile:
    def test_unknown_alert_is_withdrawn(self):
        policy = new_policy()
        alerts = [alert(), alert(revision=1, change="escalated")]
        [correction] = policy.reconcile(alerts, {"A1": NOON_TIME})
        assert (
            correction.id,
            correction.state,
            correction.change,
            correction.revision,
        ) == (
            alerts[0].id,
            "withdrawn",
            "withdrawn",
            2,
        )
        assert policy.reconcile([*alerts, correction], {"A1": NOON_TIME}) == []

        [raised] = policy.apply([alert()])
        # so that consumers that keep the highest revision take it
        assert raised.revision == 3

    def test_alert_that_differs_is_published_anew(self):
        policy = new_policy()
        [own_alert] = policy.apply([alert(severity=2)])
        [correction] = policy.reconcile([alert(revision=4)], {"A1": NOON_TIME})
        assert correction == msgspec.structs.replace(
            own_alert, change="revised", revision=5
        )
        assert policy.recent["A1"][own_alert.id] == correction

    def test_same_alert_is_left_alone(self):
        policy = new_policy()
        policy.apply([alert()])
        assert (
            policy.reconcile(
                [alert(revision=0), alert(revision=1, change="revised")],
                {"A1": NOON_TIME},
            )
            == []
        )
        [cleared] = policy.apply([alert(state="cleared", revision=1)])
        assert cleared.revision == 2  # higher than any published revision

    def test_state_before_the_last_published_is_left_alone(self):
        policy = new_policy()
        policy.apply([alert(), alert(state="cleared")])
        assert policy.reconcile([alert(revision=0)], {"A1": NOON_TIME}) == []

    def test_revision_exceeds_the_highest_of_two_earlier_workers(self):
        policy = new_policy()
        policy.apply([alert()])
        [correction] = policy.reconcile(
            [alert(revision=2, severity=1), alert(revision=1)], {"A1": NOON_TIME}
        )
        assert (correction.revision, correction.severity) == (3, 3)

    def test_alert_that_may_be_forgotten_is_left_alone(self):
        kept = {"A1": NOON_TIME + MEMORY_SECONDS}
        forgotten = {"A1": NOON_TIME + MEMORY_SECONDS + 1}

        alerts = [alert(state="cleared")]
        assert new_policy().reconcile(alerts, forgotten) == []
        assert len(new_policy().reconcile(alerts, kept)) == 1

        # a raised alert is never forgotten
        assert len(new_policy().reconcile([alert()], forgotten)) == 1

    def test_alert_published_since_and_forgotten_is_left_alone(self):
        policy, later = new_policy(), {"A1": NOON_TIME + MEMORY_SECONDS + DAY_SECONDS}
        [raised, _] = policy.apply([alert(), alert(state="cleared")])
        policy.forget(later)
        assert raised.id not in policy.recent["A1"]
        assert policy.reconcile([alert()], later, {raised.id}) == []

    def test_withdrawn_alert_is_left_alone(self):
        policy = new_policy()
        assert (
            policy.reconcile(
                [alert(), alert(state="withdrawn", revision=1)], {"A1": NOON_TIME}
            )
            == []
        )
        [raised] = policy.apply([alert()])
        assert raised.revision == 2


class TestABrake:
    """Suppression by number suppresses alerts that can wait."""

    def test_lets_the_grave_through(self):
        policy = new_policy()
        policy.apply(
            alert("contract_expiry", area=f"A{n}", severity=4)
            for n in range(DAILY_BUDGET + 1)
        )
        policy.apply(alert(area=f"A{n}") for n in range(DAILY_BUDGET + 1))

        assert suppressed_by(
            policy.apply(
                [
                    alert("all_voltage_loss", severity=1),
                    alert("phase_break", severity=2),
                ]
            )
        ) == ["", ""]
        assert suppressed_by(policy.apply([alert("step_drop", severity=3)])) == [
            "budget"
        ]

    def test_lets_the_grave_of_a_storm_through(self):
        policy = new_policy()
        for day in range(7):
            policy.apply(
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

        assert "storm" in suppressed_by(policy.apply(due))

        later = NOON_TIME + 30 * DAY_SECONDS
        escalated = [
            msgspec.structs.replace(due_alert, change="escalated", severity=1, at=later)
            for due_alert in due
        ]

        assert set(suppressed_by(policy.apply(escalated))) == {""}

    def test_suppresses_the_lowest_scores_of_a_batch(self):
        policy = new_policy()
        alerts = policy.apply(
            alert(area=f"A{n}", score=1.0 + n) for n in range(DAILY_BUDGET + 10)
        )
        assert suppressed_by(alerts) == ["budget"] * 10 + [""] * DAILY_BUDGET

    def test_counts_master_data_and_payments_separately(self):
        policy = new_policy()
        policy.apply(
            alert("contract_expiry", area=f"A{n}", severity=4)
            for n in range(DAILY_BUDGET + 1)
        )
        policy.apply(
            alert("payment_conflict", area=f"A{n}") for n in range(DAILY_BUDGET + 1)
        )
        assert suppressed_by(policy.apply([alert()])) == [""]
        assert suppressed_by(
            policy.apply([alert("calibration_due", severity=4), alert("low_balance")])
        ) == ["budget", "budget"]

    def test_decides_again_when_a_suppressed_alert_escalates(self):
        policy = new_policy()
        *_, braked = policy.apply(
            alert(area=f"A{n:03}") for n in range(DAILY_BUDGET + 1)
        )
        assert braked.suppressed_by == "budget"
        same = msgspec.structs.replace(braked, change="revised")
        assert suppressed_by(policy.apply([same])) == ["budget"]
        next_day = msgspec.structs.replace(
            braked, change="escalated", at=NOON_TIME + DAY_SECONDS
        )
        assert suppressed_by(policy.apply([next_day])) == [""]

    def test_decides_once_if_an_alert_is_raised_and_escalates_at_once(self):
        policy = new_policy()
        policy.apply(alert(area=f"A{n}") for n in range(DAILY_BUDGET + 1))
        first = alert("step_drop", score=1.1)
        graver = msgspec.structs.replace(
            first, change="escalated", severity=2, score=2.0, revision=1
        )
        assert suppressed_by(policy.apply([first, graver])) == ["", ""]
