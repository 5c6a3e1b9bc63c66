"""What policy holds back, and why; events and alerts in either order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.policy import BUDGET, MEMORY, REPEATS, STORM_LEAST, Policy
from models.state import Saved, saved, taken_over
from schemas.alert import Alert
from schemas.columns import DeviceEvents, Event

DAY, HOUR = 86_400, 3600
NOON = 20_000 * DAY + 12 * HOUR


def policy(shadow: frozenset[str] = frozenset()) -> Policy:
    return Policy(lambda area: f"section {area[0]}", shadow)


def alert(rule="phase_break", subject="M1", raised=NOON, since=NOON, area="A1", **more) -> Alert:
    told = dict(
        id=f"{rule}-{area}-{subject}-{since}", rule=rule, version=1, kind="days", area=area, subject=subject,
        state="raised", change="raised", revision=0, severity=3, since=since, raised=raised, at=raised, score=1.0,
        phase="", evidence={}, held="", en="", zh="",
    )  # fmt: skip
    return Alert(**(told | more))


def event(kind: Event, at: int, until: int = 0, meter: str = "", area: str = "A1") -> DeviceEvents:
    return DeviceEvents.build([meter], [0], [area], [0], [at], event=[kind], until=[until])


def held(alerts) -> list[str]:
    return [alert.held for alert in alerts]


MUTES = [
    (event(Event.PLANNED_OUTAGE, NOON - HOUR, NOON + HOUR), "zero_usage", "planned_outage"),
    (event(Event.VACANCY, NOON - 9 * DAY, meter="M1"), "zero_usage", "vacancy"),
    (event(Event.METER_CHANGE, NOON - 5 * DAY, meter="M1"), "register_decrease", "meter_change"),
    (event(Event.POWER_OFF, NOON - HOUR), "phase_break", "area_outage"),
]


@pytest.mark.parametrize(("known", "rule", "reason"), MUTES, ids=[reason for *_, reason in MUTES])
class TestAnEventExplains:
    def test_an_alert_as_long_as_it_is_known(self, known, rule, reason):
        it = policy()
        it.notice(known)
        it.fold([alert(rule, state="cleared", at=NOON + 30 * DAY)])
        it.forget({"A1": NOON + 60 * DAY})
        assert it.notice(event(Event.CLOCK_SET, NOON + 60 * DAY, meter="M2")) == ([], [])
        it.forget({"A1": NOON + 80 * DAY})
        assert it.events.keys() == {("A1", "M2")}

    def test_an_alert_that_comes_after_it(self, known, rule, reason):
        it = policy()
        it.notice(known)
        assert held(it.fold([alert(rule)])) == [reason]

    def test_an_alert_that_came_before_it(self, known, rule, reason):
        it = policy()
        assert held(it.fold([alert(rule)])) == [""]
        (revised,), _ = it.notice(known)
        assert (revised.held, revised.change, revised.revision) == (reason, "revised", 1)

    def test_no_alert_of_another_rule_or_area(self, known, rule, reason):
        it = policy()
        it.notice(known)
        assert held(it.fold([alert("stage_overdue"), alert(rule, area="A2")])) == ["", ""]

    def test_once(self, known, rule, reason):
        it = policy()
        assert it.notice(known)[1] == []
        assert it.notice(known)[1] == [0]


def test_power_that_came_back_before_the_trouble_explains_nothing():
    it = policy()
    it.notice(event(Event.POWER_OFF, NOON - 3 * HOUR))
    it.notice(event(Event.POWER_ON, NOON - 2 * HOUR))
    assert held(it.fold([alert("phase_break")])) == [""]


def test_power_on_that_is_reported_late_lets_go():
    it = policy()
    it.notice(event(Event.POWER_OFF, NOON - 3 * HOUR))
    assert held(it.fold([alert("phase_break")])) == ["area_outage"]
    (revised,), _ = it.notice(event(Event.POWER_ON, NOON - 2 * HOUR))
    assert revised.held == ""


def test_a_rule_that_raises_again_and_again_is_held_for_a_day():
    it = policy()
    raised = [NOON + n * HOUR for n in range(REPEATS + 1)]
    told = it.fold(alert(raised=at, since=at) for at in raised)
    assert held(told) == [""] * REPEATS + ["repeat"]
    later = raised[-1] + DAY + HOUR
    assert held(it.fold([alert(raised=later, since=later)])) == [""]


def test_what_was_decided_when_it_was_raised_stays_until_it_clears():
    it = policy()
    told = it.fold(alert(raised=NOON + n, since=NOON + n) for n in range(REPEATS + 1))
    cleared = [msgspec.structs.replace(a, state="cleared", change="cleared") for a in told]
    assert held(it.fold(cleared)) == held(told)


def test_a_rule_that_fires_beyond_three_times_its_forecast_is_braked():
    it = policy()
    for day in range(7):
        it.fold(alert(area=f"A{n}", raised=NOON + day * DAY, since=NOON + day * DAY) for n in range(20))
    storm = it.fold(alert(area=f"A{n}", raised=NOON + 7 * DAY, since=NOON + 7 * DAY) for n in range(100))
    braked = max(STORM_LEAST, 3 * 20)
    assert held(storm) == [""] * braked + ["storm"] * (100 - braked)


def test_a_section_has_a_budget_a_day():
    it = policy()
    told = it.fold(alert(area=f"A{n}") for n in range(BUDGET + 1))
    assert held(told) == [""] * BUDGET + ["budget"]
    assert held(it.fold([alert(area="B2")])) == [""]


def test_a_rule_in_shadow_is_told_as_such():
    assert held(policy(frozenset({"phase_break"})).fold([alert()])) == ["shadow"]


def test_it_goes_on_from_its_state():
    it, again = policy(), policy()
    it.notice(MUTES[0][0])
    it.fold([alert(), alert("stage_overdue")])
    assert taken_over(again, msgspec.msgpack.decode(msgspec.msgpack.encode(saved(it)), type=Saved))
    assert msgspec.msgpack.encode(saved(again)) == msgspec.msgpack.encode(saved(it))
    assert held(again.fold([alert(subject="M2")])) == ["planned_outage"]


RULES = ("zero_usage", "low_usage", "voltage_loss", "register_decrease", "stage_overdue")
KINDS = (Event.POWER_OFF, Event.POWER_ON, Event.PLANNED_OUTAGE, Event.VACANCY, Event.METER_CHANGE, Event.COVER_OPEN)
WHO, HOURS = st.sampled_from(["", "M1", "M2"]), st.integers(0, 60)
ALERTS = st.builds(
    lambda rule, meter, raised, lasted: alert(
        rule, subject=meter or "A1", raised=NOON + HOUR * raised, since=NOON + HOUR * (raised - lasted)),
    st.sampled_from(RULES), WHO, HOURS, st.integers(0, 30),
)  # fmt: skip
EVENTS = st.builds(
    lambda kind, meter, at, lasts: event(kind, NOON + HOUR * at, NOON + HOUR * (at + lasts) if lasts else 0, meter),
    st.sampled_from(KINDS), WHO, HOURS, st.integers(0, 40),
)  # fmt: skip


@given(st.lists(st.one_of(ALERTS, EVENTS), max_size=14))
def test_whatever_comes_when_what_was_told_is_held_as_all_events_say(told):
    it = policy()
    for one in told:
        if isinstance(one, Alert):
            it.fold([one])
        else:
            it.notice(one)
        for known in it.recent.get("A1", {}).values():
            why = it.mute(known) or it.inhibit(known) or it.spoken_for(known)
            assert known.held == (why or it.decided.get(known.id, ""))


class TestAnEngineBeforeToldMore:
    def test_of_what_this_one_does_not_know_withdrawn(self):
        it = policy()
        told = [alert(), alert(revision=1, change="escalated")]
        [said] = it.reconcile(told, {"A1": NOON})
        assert (said.id, said.state, said.change, said.revision) == (told[0].id, "withdrawn", "withdrawn", 2)
        assert it.reconcile([*told, said], {"A1": NOON}) == []
        [again] = it.fold([alert()])
        assert again.revision == 3  # so that it counts for who keeps the highest

    def test_of_what_this_one_sees_otherwise_told_anew(self):
        it = policy()
        [mine] = it.fold([alert(severity=2)])
        [said] = it.reconcile([alert(revision=4)], {"A1": NOON})
        assert said == msgspec.structs.replace(mine, change="revised", revision=5)
        assert it.recent["A1"][mine.id] == said

    def test_the_same_as_this_one_left_alone(self):
        it = policy()
        it.fold([alert()])
        assert it.reconcile([alert(revision=0), alert(revision=1, change="revised")], {"A1": NOON}) == []
        [cleared] = it.fold([alert(state="cleared", revision=1)])
        assert cleared.revision == 2  # more than any that was told

    def test_less_than_this_one_has_told_since_left_alone(self):
        it = policy()
        it.fold([alert(), alert(state="cleared")])
        assert it.reconcile([alert(revision=0)], {"A1": NOON}) == []

    def test_two_before_whose_first_told_more_the_highest_is_outdone(self):
        it = policy()
        it.fold([alert()])
        [said] = it.reconcile([alert(revision=2, severity=1), alert(revision=1)], {"A1": NOON})
        assert (said.revision, said.severity) == (3, 3)

    def test_of_what_this_one_may_have_forgotten_left_alone(self):
        told = [alert(state="cleared")]
        assert policy().reconcile(told, {"A1": NOON + MEMORY + 1}) == []
        assert len(policy().reconcile(told, {"A1": NOON + MEMORY})) == 1
        assert len(policy().reconcile([alert()], {"A1": NOON + MEMORY + 1})) == 1  # raised is never forgotten

    def test_of_what_this_one_has_told_since_and_forgotten_left_alone(self):
        it, later = policy(), {"A1": NOON + MEMORY + DAY}
        [raised, _] = it.fold([alert(), alert(state="cleared")])
        it.forget(later)
        assert raised.id not in it.recent["A1"]
        assert it.reconcile([alert()], later, {raised.id}) == []

    def test_withdrawn_already_left_alone(self):
        it = policy()
        assert it.reconcile([alert(), alert(state="withdrawn", revision=1)], {"A1": NOON}) == []
        [again] = it.fold([alert()])
        assert again.revision == 2


class TestABrake:
    """What holds back by number holds back what can wait."""

    def test_lets_the_grave_through(self):
        it = policy()
        it.fold(alert("contract_expiry", area=f"A{n}", severity=4) for n in range(BUDGET + 1))
        it.fold(alert(area=f"A{n}") for n in range(BUDGET + 1))
        assert held(it.fold([alert("all_voltage_loss", severity=1), alert("phase_break", severity=2)])) == ["", ""]
        assert held(it.fold([alert("step_drop", severity=3)])) == ["budget"]

    def test_lets_the_grave_of_a_storm_through(self):
        it = policy()
        for day in range(7):
            it.fold([alert("arrears_tier", area=f"A{n}", raised=NOON + day * DAY, since=NOON + day * DAY, severity=4)
                     for n in range(20)])  # fmt: skip
        due = [alert("arrears_tier", area=f"A{n}", raised=NOON + 7 * DAY, since=NOON + 7 * DAY, severity=4)
               for n in range(500)]  # fmt: skip
        assert "storm" in held(it.fold(due))
        later = NOON + 30 * DAY
        escalated = [msgspec.structs.replace(a, change="escalated", severity=1, at=later) for a in due]
        assert set(held(it.fold(escalated))) == {""}

    def test_takes_the_lowest_score_of_what_comes_at_once(self):
        it = policy()
        told = it.fold(alert(area=f"A{n}", score=1.0 + n) for n in range(BUDGET + 10))
        assert held(told) == ["budget"] * 10 + [""] * BUDGET

    def test_keeps_files_and_payments_apart(self):
        it = policy()
        it.fold(alert("contract_expiry", area=f"A{n}", severity=4) for n in range(BUDGET + 1))
        it.fold(alert("payment_conflict", area=f"A{n}") for n in range(BUDGET + 1))
        assert held(it.fold([alert()])) == [""]
        assert held(it.fold([alert("calibration_due", severity=4), alert("low_balance")])) == ["budget", "budget"]

    def test_that_holds_what_escalates_decides_anew(self):
        it = policy()
        *_, braked = it.fold(alert(area=f"A{n:03}") for n in range(BUDGET + 1))
        assert braked.held == "budget"
        same = msgspec.structs.replace(braked, change="revised")
        assert held(it.fold([same])) == ["budget"]
        next_day = msgspec.structs.replace(braked, change="escalated", at=NOON + DAY)
        assert held(it.fold([next_day])) == [""]

    def test_decides_once_of_what_is_raised_and_escalates_at_once(self):
        it = policy()
        it.fold(alert(area=f"A{n}") for n in range(BUDGET + 1))
        first = alert("step_drop", score=1.1)
        graver = msgspec.structs.replace(first, change="escalated", severity=2, score=2.0, revision=1)
        assert held(it.fold([first, graver])) == ["", ""]
