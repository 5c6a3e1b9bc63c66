"""One cause, one alert: what the failure of an area explains, and the notice into which many alerts go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.causes import COUNT, EXPLAINED, MANY, MANY_FILES, NAMED
from detectors.engine import Engine
from detectors.policy import Policy
from detectors.rule import RULES
from models.state import Saved, saved, taken_over
from schemas.alert import Alert
from schemas.columns import Event, Readings
from schemas.master import Area, Meter
from tests.test_policy import DAY, HOUR, NOON, alert, event, held, policy

START = 1_772_380_800  # Monday 2026-03-02 in Shanghai
FILED = {"no_customer": 0.0, "doubled": 0.0, "bad_capacity": 1.0, "bad_ratio": 0.0, "bad_class": 0.0}


def last(alerts: Iterable[Alert]) -> dict[tuple[str, str], Alert]:
    """The last state of every alert by rule and subject."""
    return {(alert.rule, alert.subject): alert for alert in alerts}


def failure(**more) -> Alert:
    return alert("read_success_rate", subject="", **more)


def unread(n: int = 1, **more) -> Alert:
    return alert("read_failure", subject=f"M{n}", **more)


class TestAFailureOfTheArea:
    def test_explains_its_meters_and_counts_them(self):
        told = last(policy().fold([failure(en="Few readings.", zh="少。"), *(unread(n) for n in range(1, 4))]))
        whole = told["read_success_rate", ""]
        assert held(told.values()) == ["", "area_failure", "area_failure", "area_failure"]
        assert whole.evidence[EXPLAINED] == 3
        assert whole.en == "Few readings. It explains 3 alerts of its meters, among them M1, M2, M3."
        assert whole.zh == "少。由此引起的用户告警3条,包括M1, M2, M3。"

    def test_says_so_of_a_single_one(self):
        told = last(policy().fold([failure(en="Few readings."), unread()]))
        assert told["read_success_rate", ""].en == "Few readings. It explains the alert of its meter M1."

    def test_is_told_once_of_all_that_falls_due_with_it(self):
        told = policy().fold([*(unread(n) for n in range(9)), failure()])
        assert Counter(alert.rule for alert in told) == {"read_failure": 9, "read_success_rate": 1}

    def test_explains_what_was_told_before_it(self):
        it = policy()
        it.fold([unread(since=NOON, raised=NOON)])
        child, whole = it.fold([failure(since=NOON - DAY, raised=NOON + DAY)])[1], it.standing()
        assert (child.held, child.change) == ("area_failure", "revised")
        assert [a.evidence.get(EXPLAINED) for a in whole if a.rule == "read_success_rate"] == [1]

    def test_explains_nothing_older_nor_of_another_cause_or_area(self):
        it = policy()
        others = [unread(since=NOON - DAY), alert("step_drop"), alert("read_failure", area="A2")]
        assert held(it.fold([failure(), *others])) == [""] * 4

    def test_that_ends_lets_go_of_a_meter_that_stays(self):
        it = policy()
        it.fold([failure(), unread(1), unread(2)])
        over = NOON + 3 * DAY
        it.fold([failure(state="cleared", change="cleared", at=over)])
        [soon] = [a for a in it.fold([unread(1, state="cleared", at=over + HOUR)]) if a.subject == "M1"]
        assert soon.held == "area_failure"

        it.forget({"A1": over + 2 * DAY})
        stays, whole = it.fold([])
        assert (stays.subject, stays.held, stays.change) == ("M2", "", "revised")
        assert whole.evidence[EXPLAINED] == 1
        it.forget({"A1": over + 3 * DAY})
        assert it.fold([]) == []

    def test_that_is_withdrawn_lets_go_at_once(self):
        it = policy()
        it.fold([failure(), unread(1)])
        told = it.fold([failure(state="withdrawn", change="withdrawn")])
        assert last(told)["read_failure", "M1"].held == ""

    def test_that_is_held_itself_explains_nothing(self):
        it = policy()
        it.fold([failure(), unread(raised=NOON + 3 * DAY, since=NOON + 2 * DAY)])
        revised, _ = it.notice(event(Event.POWER_OFF, NOON - HOUR))
        assert {(a.rule, a.held) for a in revised} == {("read_success_rate", "area_outage"), ("read_failure", "")}

    def test_goes_on_from_its_state(self):
        it, again = policy(), policy()
        it.fold([failure(), unread(1)])
        it.forget({"A1": NOON + DAY})
        it.fold([])
        assert taken_over(again, msgspec.msgpack.decode(msgspec.msgpack.encode(saved(it)), type=Saved))
        end = failure(state="cleared", change="cleared", at=NOON + DAY)
        for one in (it, again):
            one.fold([end])
            one.forget({"A1": NOON + 9 * DAY})
        assert again.fold([]) == it.fold([])


class TestOneTroubleOfACustomer:
    def drop(self, **more) -> Alert:
        return alert("step_drop", **more)

    def wave(self, **more) -> Alert:
        return alert("usage_fluctuation", **more)

    def test_is_told_by_the_first_of_its_rules_which_names_the_others(self):
        it = policy()
        [first] = it.fold([self.wave(en="Less.", zh="少。")])
        told = last(it.fold([self.drop(since=NOON + DAY, raised=NOON + 2 * DAY, at=NOON + 2 * DAY, score=1.5)]))
        assert (first.held, first.en) == ("", "Less.")
        assert told["step_drop", "M1"].held == "same_trouble"
        assert told["usage_fluctuation", "M1"].en == "Less. The same is told by 'Sustained drop'."
        assert told["usage_fluctuation", "M1"].zh == "少。同一情况另见电量突降。"
        assert told["usage_fluctuation", "M1"].evidence["also_step_drop"] == 1.5

    def test_is_told_by_the_gravest(self):
        it = policy()
        it.fold([self.wave(), self.drop(raised=NOON + DAY, at=NOON + DAY)])
        told = last(it.fold([self.drop(severity=2, change="escalated", revision=1, at=NOON + 8 * DAY)]))
        assert (told["step_drop", "M1"].held, told["usage_fluctuation", "M1"].held) == ("", "same_trouble")
        assert "also_usage_fluctuation" in told["step_drop", "M1"].evidence

    def test_is_told_by_what_lasts(self):
        it = policy()
        it.fold([self.wave(), self.drop()])
        told = last(it.fold([self.drop(state="cleared", change="cleared", revision=1, at=NOON + 8 * DAY)]))
        speaks = {rule for (rule, _), one in told.items() if not one.held}
        assert [a.rule for a in it.standing() if not a.held] == ["usage_fluctuation"]
        assert speaks <= {"usage_fluctuation"}

    def test_is_another_after_two_weeks_of_calm(self):
        it = policy()
        it.fold([self.wave(), self.wave(state="cleared", change="cleared", revision=1, at=NOON + 3 * DAY)])
        near = self.drop(since=NOON + 16 * DAY, raised=NOON + 17 * DAY)
        far = self.drop(since=NOON + 18 * DAY, raised=NOON + 19 * DAY, id="far")
        assert last(it.fold([near]))["step_drop", "M1"].held == ""  # it lasts, the other does not
        assert [a.held for a in it.recent["A1"].values() if a.rule == "usage_fluctuation"] == ["same_trouble"]
        other = policy()
        other.fold([self.wave(), self.wave(state="cleared", change="cleared", revision=1, at=NOON + 3 * DAY)])
        assert held(other.fold([far])) == [""]
        assert [a.held for a in other.recent["A1"].values() if a.rule == "usage_fluctuation"] == [""]

    def test_is_the_customers_own(self):
        assert held(policy().fold([self.wave(), self.drop(subject="M2"), self.drop(area="A2")])) == [""] * 3

    def test_that_an_event_explains_speaks_for_nobody(self):
        it = policy()
        it.notice(event(Event.PLANNED_OUTAGE, NOON - HOUR, NOON + 90 * DAY, meter="M1"))
        told = last(it.fold([alert("zero_usage"), self.wave()]))
        assert {rule: one.held for (rule, _), one in told.items()} == {
            "zero_usage": "planned_outage", "usage_fluctuation": "",
        }  # fmt: skip

    def test_that_is_withdrawn_lets_the_other_speak(self):
        it = policy()
        it.fold([self.wave(), self.drop()])
        speaker = next(a for a in it.standing() if not a.held)
        gone = msgspec.structs.replace(speaker, state="withdrawn", change="withdrawn", revision=1)
        told = last(it.fold([gone]))
        assert [one.held for (rule, _), one in told.items() if rule != speaker.rule] == [""]
        assert not any(name.startswith("also_") for one in told.values() for name in one.evidence)

    def test_goes_on_from_its_state(self):
        it, again = policy(), policy()
        it.fold([self.wave(), self.drop()])
        assert taken_over(again, msgspec.msgpack.decode(msgspec.msgpack.encode(saved(it)), type=Saved))
        end = [self.wave(state="cleared", change="cleared", revision=1, at=NOON + DAY)]
        assert again.fold(end) == it.fold(end)


class TestAnEventThatIsOver:
    def test_lets_go_of_what_lasts(self):
        it = policy()
        it.notice(event(Event.PLANNED_OUTAGE, NOON - HOUR, NOON + HOUR))
        assert held(it.fold([unread()])) == ["planned_outage"]
        it.forget({"A1": NOON + DAY // 2})
        assert it.fold([]) == []
        it.forget({"A1": NOON + DAY + DAY // 2})
        assert held(it.fold([])) == [""]

    def test_keeps_what_ends_by_the_calm_of_its_rule(self):
        it = policy()
        it.notice(event(Event.METER_CHANGE, NOON - HOUR, meter="M1"))
        ended = alert("register_decrease", state="cleared", change="cleared", at=NOON + 31 * DAY)
        assert held(it.fold([alert("register_decrease"), ended])) == ["meter_change"] * 2

    def test_of_no_end_keeps_everything(self):
        it = policy()
        it.notice(event(Event.VACANCY, NOON - DAY, meter="M1"))
        it.fold([alert()])
        it.forget({"A1": NOON + 39 * DAY})
        assert it.fold([]) == []

    def test_is_told_to_be_over_before_the_end_of_what_lasted(self):
        it = policy()
        it.notice(event(Event.POWER_OFF, NOON - HOUR))
        it.notice(event(Event.POWER_ON, NOON))
        it.fold([alert("phase_break", kind="readings")])
        end = alert("phase_break", kind="readings", state="cleared", change="cleared", at=NOON + 3 * DAY)
        assert [(a.change, a.held, a.revision) for a in it.fold([end])] == [("revised", "", 1), ("cleared", "", 2)]


class TestVeryMany:
    def test_become_one_notice_that_names_them(self):
        told = policy().fold(unread(n, en="Not read.", zh="未读。") for n in range(93))
        *alerts, notice = told
        assert set(held(alerts)) == {"notice"}
        assert (notice.subject, notice.held, notice.state, notice.evidence[COUNT]) == ("", "", "raised", 93)
        assert notice.en.startswith("93 alerts of one day and kind in one: M0, M1, M10")
        assert notice.en.count(",") == NAMED - 1

    def test_one_less_are_told_each(self):
        assert held(policy().fold(unread(n) for n in range(MANY - 1))) == [""] * (MANY - 1)

    def test_of_two_areas_or_days_are_not_together(self):
        apart = [unread(n, area=f"A{n % 2}", raised=NOON + n % 4 // 2 * DAY) for n in range(4 * (MANY - 1))]
        assert set(held(policy().fold(apart))) == {""}

    def test_that_come_one_by_one_are_the_same_in_the_end(self):
        at_once, one_by_one = policy(), policy()
        alerts = [unread(n, score=n) for n in range(MANY + 2)]
        at_once.fold(alerts)
        for one in reversed(alerts):
            one_by_one.fold([one])
        ends = [{k: msgspec.structs.replace(a, revision=0, change="raised") for k, a in it.recent["A1"].items()}
                for it in (at_once, one_by_one)]  # fmt: skip
        assert ends[0] == ends[1]

    def test_that_are_grave_are_told_each(self):
        assert set(held(policy().fold(alert("voltage_loss", subject=f"M{n}", severity=2) for n in range(99)))) == {""}

    def test_of_which_one_becomes_grave_tell_it(self):
        it = policy()
        it.fold(unread(n) for n in range(MANY + 1))
        worse, notice = it.fold([unread(3, severity=2, change="escalated")])
        assert (worse.held, notice.evidence[COUNT]) == ("", MANY)

    def test_that_all_end_end_the_notice(self):
        it = policy()
        it.fold(unread(n) for n in range(MANY))
        ended = it.fold(unread(n, state="cleared", change="cleared", at=NOON + DAY) for n in range(MANY))
        assert (ended[-1].change, ended[-1].evidence[COUNT]) == ("cleared", MANY)
        assert len(ended) == MANY + 1

    def test_that_prove_to_be_few_are_told_and_the_notice_withdrawn(self):
        it = policy()
        it.fold(unread(n) for n in range(MANY))
        told = it.fold([unread(0, state="withdrawn", change="withdrawn")])
        assert Counter((a.state, a.held) for a in told) == {("raised", ""): MANY - 1, ("withdrawn", ""): 2}

    def test_of_a_storm_are_not_lost(self):
        it = policy()
        for day in range(7):
            when = NOON + day * DAY
            it.fold(unread(n, area=f"B{n}", raised=when, since=when) for n in range(20))
        when = NOON + 7 * DAY
        *_, notice = it.fold(unread(n, raised=when, since=when) for n in range(300))
        assert (notice.held, notice.evidence[COUNT]) == ("", 300)

    def test_cost_each_the_same_however_many_they_are(self, monkeypatch):
        asked: list[str] = []
        real = Policy._reason

        def counting(self: Policy, alert: Alert) -> str:
            asked.append(alert.id)
            return real(self, alert)

        monkeypatch.setattr(Policy, "_reason", counting)
        cost, messages = [], []
        for size in (200, 1600):
            it = policy()
            asked.clear()
            come = [unread(n, raised=NOON + n, since=NOON + n, at=NOON + n) for n in range(size)]
            messages.append(sum(len(it.fold([one])) for one in come) - size)
            cost.append(len(asked))
        assert cost[1] <= 9 * cost[0]
        assert messages[1] <= 3 * messages[0]

    def test_are_kept_as_long_as_their_notice_lasts(self):
        it = policy()
        it.fold(unread(n) for n in range(MANY))
        it.fold(unread(n, state="cleared", change="cleared", at=NOON) for n in range(MANY - 1))
        it.forget({"A1": NOON + 90 * DAY})
        assert it.fold([]) == []
        assert len(it.recent["A1"]) == MANY + 1


def test_a_fault_of_a_whole_column_of_files_is_one_notice():
    it = policy()
    files = [alert("file_inconsistency", subject=f"M{n}", severity=4, evidence=FILED) for n in range(MANY_FILES)]
    other = alert("file_inconsistency", subject="M9", severity=4, evidence=FILED | {"bad_capacity": 0, "bad_ratio": 1})
    assert held(it.fold([*files, other])) == ["notice"] * MANY_FILES + ["", ""]


class TestWhatIsCalledOff:
    @pytest.mark.parametrize("kind", [Event.PLANNED_OUTAGE, Event.VACANCY])
    @pytest.mark.parametrize("meter", ["", "M1"])
    def test_explains_nothing_any_more(self, kind, meter):
        before, after, reason = policy(), policy(), kind.name.lower()
        planned = event(kind, NOON - HOUR, NOON + 9 * DAY, meter=meter)
        off = event(kind, NOON - HOUR, NOON - HOUR, meter=meter)
        before.notice(off)
        before.notice(planned)
        after.notice(planned)
        assert held(before.fold([alert("zero_usage")])) == [""]
        assert held(after.fold([alert("zero_usage")])) == [reason]
        [revised], _ = after.notice(off)
        assert (revised.held, revised.change) == ("", "revised")

    def test_is_what_begins_then_and_no_other(self):
        it = policy()
        it.notice(event(Event.PLANNED_OUTAGE, NOON - HOUR, NOON + HOUR))
        it.notice(event(Event.PLANNED_OUTAGE, NOON - 2 * HOUR, NOON - 2 * HOUR))
        assert held(it.fold([alert()])) == ["planned_outage"]

    def test_no_longer_covers_an_opening(self):
        engine = Engine([RULES["seal_or_cover_event"]])
        order, opened = START + 2 * DAY, START + 2 * DAY + HOUR
        engine.step(event(Event.WORK_ORDER, order, order + DAY, meter="M1"))
        assert engine.step(event(Event.COVER_OPEN, opened, meter="M1")) == []
        told = engine.step(event(Event.WORK_ORDER, order, order, meter="M1")) + engine.tick(START + 9 * DAY)
        assert [(a.rule, a.change) for a in told] == [("seal_or_cover_event", "raised")]


LOSS = "area_loss_correlation"


def suspected(**more) -> Alert:
    return alert(LOSS, severity=2, score=1.2, en="It goes with the loss.", zh="相关。", **more)


class TestASecondEvidence:
    """An area's loss that goes with a meter's use is one statistic: an opening or a magnet is another evidence."""

    @pytest.mark.parametrize(
        ("report", "name"),
        [(Event.COVER_OPEN, "openings"), (Event.TERMINAL_OPEN, "openings"), (Event.MAGNETIC_FIELD, "fields")],
    )
    @pytest.mark.parametrize("days", [-29, 5])
    def test_makes_it_grave_whichever_comes_first(self, report, name, days):
        before, after = policy(), policy()
        opened = event(report, NOON + days * DAY, meter="M1")
        before.notice(opened)
        [told] = before.fold([suspected()])
        after.fold([suspected()])
        [revised], _ = after.notice(opened)
        assert (told.severity, told.change, told.evidence[name]) == (1, "raised", 1)
        assert (revised.severity, revised.change, revised.en, revised.zh) == (1, "escalated", told.en, told.zh)
        assert told.en.startswith("It goes with the loss. ")

    @pytest.mark.parametrize(
        "reports",
        [
            [event(Event.COVER_OPEN, NOON, meter="M2")],
            [event(Event.COVER_OPEN, NOON - 31 * DAY, meter="M1")],
            [event(Event.COVER_OPEN, NOON, meter="M1"), event(Event.WORK_ORDER, NOON + HOUR, meter="M1")],
            [event(Event.MAGNETIC_FIELD, NOON, NOON + 30, meter="M1")],
            [event(Event.MAGNETIC_FIELD, NOON, meter="M1"), event(Event.MAGNETIC_FIELD_END, NOON + 9, meter="M1")],
            [event(Event.COVER_CLOSED, NOON, meter="M1")],
        ],
        ids=["another meter", "long ago", "with an order", "a short field", "a field that ended", "closed"],
    )
    def test_is_not(self, reports):
        before, after = policy(), policy()
        [told] = after.fold([suspected()])
        for report in reports:
            before.notice(report)
            after.notice(report)
        assert [a.severity for a in before.fold([suspected()])] == [2]
        assert [a.severity for a in after.standing()] == [2]
        assert [a.en for a in after.standing()] == [told.en]

    def test_of_an_order_that_is_told_late_no_longer_counts(self):
        it = policy()
        it.notice(event(Event.COVER_OPEN, NOON, meter="M1"))
        it.fold([suspected()])
        [revised], _ = it.notice(event(Event.WORK_ORDER, NOON - HOUR, meter="M1"))
        assert (revised.severity, revised.change, revised.en) == (2, "revised", "It goes with the loss.")

    def test_stays_when_it_ends(self):
        it = policy()
        it.notice(event(Event.COVER_OPEN, NOON, meter="M1"))
        it.fold([suspected()])
        [end] = it.fold([suspected(state="cleared", change="cleared", at=NOON + DAY)])
        assert (end.severity, end.evidence["openings"]) == (1, 1)

    def test_is_none_for_other_rules(self):
        it = policy()
        it.notice(event(Event.COVER_OPEN, NOON, meter="M1"))
        assert [a.severity for a in it.fold([alert("step_drop")])] == [3]


SUBJECTS = st.integers(0, MANY + 3)
CHANGES = st.sampled_from(["raised", "escalated", "cleared", "withdrawn"])


@given(st.lists(st.tuples(SUBJECTS, CHANGES), max_size=120))
def test_whatever_becomes_of_alerts_the_notice_stands_for_those_that_are_many(changes):
    it = policy()
    states: dict[int, str] = dict.fromkeys(range(MANY), "raised")
    it.fold(unread(n) for n in states)
    for n, change in changes:
        states[n] = change
        state = change if change in ("cleared", "withdrawn") else "raised"
        it.fold([unread(n, change=change, state=state, severity=2 if change == "escalated" else 3)])
    together = {f"M{n}" for n, change in states.items() if change in ("raised", "cleared")}
    notice = next((a for a in it.recent["A1"].values() if COUNT in a.evidence), None)
    many = len(together) >= MANY
    assert (notice is not None and notice.state != "withdrawn") == many
    if notice and many:
        assert notice.evidence[COUNT] == len(together)
        assert {a.subject for a in it.recent["A1"].values() if a.held == "notice"} == together


def unread_area(meters: int, dead: range, until: int, days: int) -> list[Alert]:
    """What is told of an area of which some meters are not read from the third day to another."""
    engine = Engine(interval=HOUR)
    filed = [Meter(meter=f"M{m}", customer=f"C{m}", effective=START - 400 * DAY, interval_s=HOUR, contract_kva=8)
             for m in range(meters)]  # fmt: skip
    engine.enroll([Area(area="A1", meters=filed)])
    told = []
    for day in range(days):
        silent = set(dead) if 2 <= day < until else ({dead[0]} if dead and day >= until else set())
        read = [m for m in range(meters) if m not in silent]
        at = START + day * DAY + HOUR * np.arange(1, 25)
        told += engine.step(Readings.build(
            [f"M{m}" for m in read], np.tile(np.arange(len(read)), 24), ["A1"], np.zeros(24 * len(read)),
            np.repeat(at, len(read)), kwh=np.full(24 * len(read), 0.3),
        ))  # fmt: skip
    return [a for a in told if a.rule in ("read_failure", "read_success_rate")]


def test_an_area_that_is_not_read_and_one_meter_that_stays_so():
    told = unread_area(30, range(10), until=8, days=12)
    ends = last(told)
    assert ends["read_success_rate", ""].state == "cleared"
    assert {s for (rule, s), a in ends.items() if rule == "read_failure" and not a.held} == {"M0"}
    assert Counter(a.subject for a in told if a.rule == "read_failure" and not a.held) == {"M0": 1}


def test_one_meter_of_a_small_area_is_told_by_itself():
    ends = last(unread_area(25, range(1), until=12, days=12))
    assert [(rule, subject) for (rule, subject), a in ends.items() if not a.held] == [("read_failure", "M0")]


def test_the_same_is_told_of_single_alerts_and_of_all_at_once():
    alerts = [failure(), *(unread(n) for n in range(3)), failure(state="cleared", change="cleared", at=NOON + DAY)]
    whole: Policy = policy()
    parts: Policy = policy()
    together = whole.fold(alerts)
    assert [a for lot in (alerts[:4], alerts[4:]) for a in parts.fold(lot)] == together
