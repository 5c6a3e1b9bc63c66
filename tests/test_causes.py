"""One cause, one alert: the failure of an area explains its meters' alerts, and one notice stands for many alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.engine import Engine
from detectors.policy import Policy
from detectors.policy.area_failure import EXPLAINED_COUNT
from detectors.policy.notices import (
    NAMED_SUBJECTS,
    NOTICE_COUNT,
    NOTICE_RECORDS,
    NOTICE_SUBJECTS,
)
from detectors.policy.shadow import Shadow
from detectors.rule import ALL_RULES
from models.state.owners import Saved, restore_owner, saved
from schemas.alert import Alert
from schemas.columns import Event, Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.test_policy import NOON_TIME, alert, event, new_policy, suppressed_by

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai
MASTER_DATA_FAULTS = {
    "no_customer": 0.0,
    "doubled": 0.0,
    "bad_capacity": 1.0,
    "bad_ratio": 0.0,
    "bad_class": 0.0,
}


def last(alerts: Iterable[Alert]) -> dict[tuple[str, str], Alert]:
    """The last state of every alert by rule and subject."""
    return {(alert.rule, alert.subject): alert for alert in alerts}


def failure(**more) -> Alert:
    return alert("read_success_rate", subject="", **more)


def unread(n: int = 1, **more) -> Alert:
    return alert("read_failure", subject=f"M{n}", **more)


class TestAFailureOfTheArea:
    def test_explains_its_meters_and_counts_them(self):
        whole_area = failure(en="Few readings.", zh="少。")
        meters = [unread(n) for n in range(1, 4)]
        last_states = last(new_policy().apply([whole_area, *meters]))
        area_alert = last_states["read_success_rate", ""]

        assert suppressed_by(last_states.values()) == ["", *["area_failure"] * 3]
        assert area_alert.evidence[EXPLAINED_COUNT] == 3
        assert (
            area_alert.en
            == "Few readings. It explains 3 alerts of its meters, among them M1, M2, M3."
        )
        assert area_alert.zh == "少。由此引起的用户告警3条,包括M1, M2, M3。"

    def test_names_a_single_explained_meter(self):
        last_states = last(new_policy().apply([failure(en="Few readings."), unread()]))
        assert (
            last_states["read_success_rate", ""].en
            == "Few readings. It explains the alert of its meter M1."
        )

    def test_is_published_once_with_all_alerts_due_then(self):
        alerts = new_policy().apply([*(unread(n) for n in range(9)), failure()])
        assert Counter(alert.rule for alert in alerts) == {
            "read_failure": 9,
            "read_success_rate": 1,
        }

    def test_explains_alerts_published_before_it(self):
        policy = new_policy()
        policy.apply([unread(since=NOON_TIME, raised=NOON_TIME)])
        meter_alert = policy.apply(
            [failure(since=NOON_TIME - DAY_SECONDS, raised=NOON_TIME + DAY_SECONDS)]
        )[1]
        open_alerts = policy.open_alerts()

        assert (meter_alert.suppressed_by, meter_alert.change) == (
            "area_failure",
            "revised",
        )
        assert [
            alert.evidence.get(EXPLAINED_COUNT)
            for alert in open_alerts
            if alert.rule == "read_success_rate"
        ] == [1]

    def test_explains_nothing_older_nor_of_another_cause_or_area(self):
        policy = new_policy()
        others = [
            unread(since=NOON_TIME - DAY_SECONDS),
            alert("step_drop"),
            alert("read_failure", area="A2"),
        ]
        assert suppressed_by(policy.apply([failure(), *others])) == [""] * 4

    def test_when_cleared_no_longer_explains_a_meter_that_stays_unread(self):
        policy = new_policy()
        policy.apply([failure(), unread(1), unread(2)])
        cleared_at = NOON_TIME + 3 * DAY_SECONDS
        policy.apply([failure(state="cleared", change="cleared", at=cleared_at)])
        [cleared] = [
            alert
            for alert in policy.apply(
                [unread(1, state="cleared", at=cleared_at + HOUR_SECONDS)]
            )
            if alert.subject == "M1"
        ]

        assert cleared.suppressed_by == "area_failure"

        policy.forget({"A1": cleared_at + 2 * DAY_SECONDS})
        lasting, area_alert = policy.apply([])
        assert (lasting.subject, lasting.suppressed_by, lasting.change) == (
            "M2",
            "",
            "revised",
        )
        assert area_alert.evidence[EXPLAINED_COUNT] == 1

        policy.forget({"A1": cleared_at + 3 * DAY_SECONDS})
        assert policy.apply([]) == []

    def test_when_withdrawn_explains_nothing_at_once(self):
        policy = new_policy()
        policy.apply([failure(), unread(1)])
        alerts = policy.apply([failure(state="withdrawn", change="withdrawn")])
        assert last(alerts)["read_failure", "M1"].suppressed_by == ""

    def test_when_suppressed_itself_explains_nothing(self):
        policy = new_policy()
        policy.apply(
            [
                failure(),
                unread(
                    raised=NOON_TIME + 3 * DAY_SECONDS,
                    since=NOON_TIME + 2 * DAY_SECONDS,
                ),
            ]
        )
        revised, _ = policy.note_events(
            event(Event.POWER_OFF, NOON_TIME - HOUR_SECONDS)
        )

        assert {(alert.rule, alert.suppressed_by) for alert in revised} == {
            ("read_success_rate", "area_outage"),
            ("read_failure", ""),
        }

    def test_continues_from_its_state(self):
        policy, restored = new_policy(), new_policy()
        policy.apply([failure(), unread(1)])
        policy.forget({"A1": NOON_TIME + DAY_SECONDS})
        policy.apply([])
        assert restore_owner(
            restored,
            msgspec.msgpack.decode(msgspec.msgpack.encode(saved(policy)), type=Saved),
        )
        end = failure(state="cleared", change="cleared", at=NOON_TIME + DAY_SECONDS)
        for each in (policy, restored):
            each.apply([end])
            each.forget({"A1": NOON_TIME + 9 * DAY_SECONDS})
        assert restored.apply([]) == policy.apply([])


class TestOneTroubleOfACustomer:
    def drop(self, **more) -> Alert:
        return alert("step_drop", **more)

    def fluctuation(self, **more) -> Alert:
        return alert("usage_fluctuation", **more)

    def test_is_shown_by_its_first_rule_which_names_the_others(self):
        policy = new_policy()
        [first] = policy.apply([self.fluctuation(en="Less.", zh="少。")])
        drop = self.drop(
            since=NOON_TIME + DAY_SECONDS,
            raised=NOON_TIME + 2 * DAY_SECONDS,
            at=NOON_TIME + 2 * DAY_SECONDS,
            score=1.5,
        )
        last_states = last(policy.apply([drop]))

        assert (first.suppressed_by, first.en) == ("", "Less.")
        assert last_states["step_drop", "M1"].suppressed_by == "same_trouble"
        assert (
            last_states["usage_fluctuation", "M1"].en
            == "Less. The same is reported by 'Sustained drop'."
        )
        assert last_states["usage_fluctuation", "M1"].zh == "少。同一情况另见电量突降。"
        assert last_states["usage_fluctuation", "M1"].evidence["also_step_drop"] == 1.5

    def test_is_shown_by_the_gravest_rule(self):
        policy = new_policy()
        policy.apply(
            [
                self.fluctuation(),
                self.drop(raised=NOON_TIME + DAY_SECONDS, at=NOON_TIME + DAY_SECONDS),
            ]
        )
        escalated = self.drop(
            severity=2, change="escalated", revision=1, at=NOON_TIME + 8 * DAY_SECONDS
        )
        last_states = last(policy.apply([escalated]))

        assert (
            last_states["step_drop", "M1"].suppressed_by,
            last_states["usage_fluctuation", "M1"].suppressed_by,
        ) == ("", "same_trouble")
        assert "also_usage_fluctuation" in last_states["step_drop", "M1"].evidence

    def test_is_shown_by_the_rule_that_stays_raised(self):
        policy = new_policy()
        policy.apply([self.fluctuation(), self.drop()])
        cleared = self.drop(
            state="cleared",
            change="cleared",
            revision=1,
            at=NOON_TIME + 8 * DAY_SECONDS,
        )
        last_states = last(policy.apply([cleared]))

        shown = {
            rule for (rule, _), state in last_states.items() if not state.suppressed_by
        }
        assert [
            alert.rule for alert in policy.open_alerts() if not alert.suppressed_by
        ] == ["usage_fluctuation"]
        assert shown <= {"usage_fluctuation"}

    def test_is_new_after_two_weeks_of_calm(self):
        cleared = self.fluctuation(
            state="cleared",
            change="cleared",
            revision=1,
            at=NOON_TIME + 3 * DAY_SECONDS,
        )
        near = self.drop(
            since=NOON_TIME + 16 * DAY_SECONDS, raised=NOON_TIME + 17 * DAY_SECONDS
        )
        far = self.drop(
            since=NOON_TIME + 18 * DAY_SECONDS,
            raised=NOON_TIME + 19 * DAY_SECONDS,
            id="far",
        )

        # within two weeks: the drop lasts, the fluctuation does not
        policy = new_policy()
        policy.apply([self.fluctuation(), cleared])
        assert last(policy.apply([near]))["step_drop", "M1"].suppressed_by == ""
        assert [
            alert.suppressed_by
            for alert in policy.recent["A1"].values()
            if alert.rule == "usage_fluctuation"
        ] == ["same_trouble"]

        second_policy = new_policy()
        second_policy.apply([self.fluctuation(), cleared])
        assert suppressed_by(second_policy.apply([far])) == [""]
        assert [
            alert.suppressed_by
            for alert in second_policy.recent["A1"].values()
            if alert.rule == "usage_fluctuation"
        ] == [""]

    def test_concerns_one_customer_only(self):
        others = [self.drop(subject="M2"), self.drop(area="A2")]
        alerts = new_policy().apply([self.fluctuation(), *others])
        assert suppressed_by(alerts) == [""] * 3

    def test_when_explained_by_an_event_suppresses_no_other_alert(self):
        policy = new_policy()
        begin, end = NOON_TIME - HOUR_SECONDS, NOON_TIME + 90 * DAY_SECONDS
        policy.note_events(event(Event.PLANNED_OUTAGE, begin, end, meter="M1"))
        last_states = last(policy.apply([alert("zero_usage"), self.fluctuation()]))

        reasons = {
            rule: state.suppressed_by for (rule, _), state in last_states.items()
        }
        assert reasons == {"zero_usage": "planned_outage", "usage_fluctuation": ""}

    def test_when_withdrawn_shows_the_other_alert(self):
        policy = new_policy()
        policy.apply([self.fluctuation(), self.drop()])
        shown = next(alert for alert in policy.open_alerts() if not alert.suppressed_by)
        withdrawn = msgspec.structs.replace(
            shown, state="withdrawn", change="withdrawn", revision=1
        )
        last_states = last(policy.apply([withdrawn]))

        assert [
            state.suppressed_by
            for (rule, _), state in last_states.items()
            if rule != shown.rule
        ] == [""]
        assert not any(
            name.startswith("also_")
            for state in last_states.values()
            for name in state.evidence
        )

    def test_continues_from_its_state(self):
        policy, restored = new_policy(), new_policy()
        policy.apply([self.fluctuation(), self.drop()])
        assert restore_owner(
            restored,
            msgspec.msgpack.decode(msgspec.msgpack.encode(saved(policy)), type=Saved),
        )

        end = [
            self.fluctuation(
                state="cleared",
                change="cleared",
                revision=1,
                at=NOON_TIME + DAY_SECONDS,
            )
        ]

        assert restored.apply(end) == policy.apply(end)


class TestAnEventThatIsOver:
    def test_no_longer_explains_an_alert_that_lasts(self):
        policy = new_policy()
        policy.note_events(
            event(
                Event.PLANNED_OUTAGE, NOON_TIME - HOUR_SECONDS, NOON_TIME + HOUR_SECONDS
            )
        )
        assert suppressed_by(policy.apply([unread()])) == ["planned_outage"]
        policy.forget({"A1": NOON_TIME + DAY_SECONDS // 2})
        assert policy.apply([]) == []
        policy.forget({"A1": NOON_TIME + DAY_SECONDS + DAY_SECONDS // 2})
        assert suppressed_by(policy.apply([])) == [""]

    def test_still_explains_an_alert_that_clears_by_its_release(self):
        policy = new_policy()
        policy.note_events(
            event(Event.METER_CHANGE, NOON_TIME - HOUR_SECONDS, meter="M1")
        )
        ended = alert(
            "register_decrease",
            state="cleared",
            change="cleared",
            at=NOON_TIME + 31 * DAY_SECONDS,
        )
        assert (
            suppressed_by(policy.apply([alert("register_decrease"), ended]))
            == ["meter_change"] * 2
        )

    def test_without_an_end_explains_everything(self):
        policy = new_policy()
        policy.note_events(event(Event.VACANCY, NOON_TIME - DAY_SECONDS, meter="M1"))
        policy.apply([alert()])
        policy.forget({"A1": NOON_TIME + 39 * DAY_SECONDS})
        assert policy.apply([]) == []

    def test_revises_a_lasting_alert_before_it_clears(self):
        policy = new_policy()
        policy.note_events(event(Event.POWER_OFF, NOON_TIME - HOUR_SECONDS))
        policy.note_events(event(Event.POWER_ON, NOON_TIME))
        policy.apply([alert("phase_break", kind="readings")])
        end = alert(
            "phase_break",
            kind="readings",
            state="cleared",
            change="cleared",
            at=NOON_TIME + 3 * DAY_SECONDS,
        )

        revised, cleared = policy.apply([end])
        assert (revised.change, revised.suppressed_by, revised.revision) == (
            "revised",
            "",
            1,
        )
        assert (cleared.change, cleared.suppressed_by, cleared.revision) == (
            "cleared",
            "",
            2,
        )


class TestManyAlerts:
    def test_become_one_notice_that_names_them(self):
        published = new_policy().apply(
            unread(n, en="Not read.", zh="未读。") for n in range(93)
        )
        *alerts, notice = published
        assert set(suppressed_by(alerts)) == {"notice"}
        assert (
            notice.subject,
            notice.suppressed_by,
            notice.state,
            notice.evidence[NOTICE_COUNT],
        ) == ("", "", "raised", 93)
        assert notice.en.startswith("93 alerts of one day and kind in one: M0, M1, M10")
        assert notice.en.count(",") == NAMED_SUBJECTS - 1

    def test_below_the_limit_are_shown_each(self):
        assert suppressed_by(
            new_policy().apply(unread(n) for n in range(NOTICE_SUBJECTS - 1))
        ) == [""] * (NOTICE_SUBJECTS - 1)

    def test_of_two_areas_or_days_share_no_notice(self):
        alerts = [
            unread(n, area=f"A{n % 2}", raised=NOON_TIME + n % 4 // 2 * DAY_SECONDS)
            for n in range(4 * (NOTICE_SUBJECTS - 1))
        ]
        assert set(suppressed_by(new_policy().apply(alerts))) == {""}

    def test_end_the_same_one_by_one_or_at_once(self):
        at_once, one_by_one = new_policy(), new_policy()
        alerts = [unread(n, score=n) for n in range(NOTICE_SUBJECTS + 2)]
        at_once.apply(alerts)
        for each in reversed(alerts):
            one_by_one.apply([each])
        ends = [
            {
                key: msgspec.structs.replace(state, revision=0, change="raised")
                for key, state in policy.recent["A1"].items()
            }
            for policy in (at_once, one_by_one)
        ]
        assert ends[0] == ends[1]

    def test_are_shown_each_when_grave(self):
        assert set(
            suppressed_by(
                new_policy().apply(
                    alert("voltage_loss", subject=f"M{n}", severity=2)
                    for n in range(99)
                )
            )
        ) == {""}

    def test_show_an_alert_that_becomes_grave(self):
        policy = new_policy()
        policy.apply(unread(n) for n in range(NOTICE_SUBJECTS + 1))
        worse, notice = policy.apply([unread(3, severity=2, change="escalated")])
        assert (worse.suppressed_by, notice.evidence[NOTICE_COUNT]) == (
            "",
            NOTICE_SUBJECTS,
        )

    def test_clear_the_notice_when_all_cleared(self):
        policy = new_policy()
        policy.apply(unread(n) for n in range(NOTICE_SUBJECTS))
        ended = policy.apply(
            unread(n, state="cleared", change="cleared", at=NOON_TIME + DAY_SECONDS)
            for n in range(NOTICE_SUBJECTS)
        )
        assert (ended[-1].change, ended[-1].evidence[NOTICE_COUNT]) == (
            "cleared",
            NOTICE_SUBJECTS,
        )
        assert len(ended) == NOTICE_SUBJECTS + 1

    def test_are_shown_and_the_notice_withdrawn_when_too_few(self):
        policy = new_policy()
        policy.apply(unread(n) for n in range(NOTICE_SUBJECTS))
        alerts = policy.apply([unread(0, state="withdrawn", change="withdrawn")])
        assert Counter((alert.state, alert.suppressed_by) for alert in alerts) == {
            ("raised", ""): NOTICE_SUBJECTS - 1,
            ("withdrawn", ""): 2,
        }

    def test_of_a_storm_are_not_lost(self):
        policy = new_policy()
        for day in range(7):
            when = NOON_TIME + day * DAY_SECONDS
            policy.apply(
                unread(n, area=f"B{n}", raised=when, since=when) for n in range(20)
            )
        when = NOON_TIME + 7 * DAY_SECONDS
        *_, notice = policy.apply(
            unread(n, raised=when, since=when) for n in range(300)
        )
        assert (notice.suppressed_by, notice.evidence[NOTICE_COUNT]) == ("", 300)

    def test_cost_the_same_each_at_any_number(self, monkeypatch):
        reasoned: list[str] = []
        real = Shadow.reason

        def counting(self: Shadow, alert: Alert) -> str:
            reasoned.append(alert.id)
            return real(self, alert)

        monkeypatch.setattr(Shadow, "reason", counting)
        cost, messages = [], []
        for size in (200, 1600):
            policy = new_policy()
            reasoned.clear()
            alerts = [
                unread(n, raised=NOON_TIME + n, since=NOON_TIME + n, at=NOON_TIME + n)
                for n in range(size)
            ]
            messages.append(
                sum(len(policy.apply([published])) for published in alerts) - size
            )
            cost.append(len(reasoned))

        assert cost[1] <= 9 * cost[0]
        assert messages[1] <= 3 * messages[0]

    def test_are_kept_as_long_as_their_notice_lasts(self):
        policy = new_policy()
        policy.apply(unread(n) for n in range(NOTICE_SUBJECTS))
        policy.apply(
            unread(n, state="cleared", change="cleared", at=NOON_TIME)
            for n in range(NOTICE_SUBJECTS - 1)
        )
        policy.forget({"A1": NOON_TIME + 90 * DAY_SECONDS})
        assert policy.apply([]) == []
        assert len(policy.recent["A1"]) == NOTICE_SUBJECTS + 1


def test_fault_in_a_whole_column_of_records_is_one_notice():
    policy = new_policy()
    column_faults = [
        alert(
            "file_inconsistency",
            subject=f"M{n}",
            severity=4,
            evidence=MASTER_DATA_FAULTS,
        )
        for n in range(NOTICE_RECORDS)
    ]
    other_fault = alert(
        "file_inconsistency",
        subject="M9",
        severity=4,
        evidence=MASTER_DATA_FAULTS | {"bad_capacity": 0, "bad_ratio": 1},
    )

    assert suppressed_by(policy.apply([*column_faults, other_fault])) == [
        "notice"
    ] * NOTICE_RECORDS + [
        "",
        "",
    ]


class TestCancelledEvent:
    @pytest.mark.parametrize("kind", [Event.PLANNED_OUTAGE, Event.VACANCY])
    @pytest.mark.parametrize("meter", ["", "M1"])
    def test_explains_nothing_any_more(self, kind, meter):
        before = new_policy()
        after = new_policy()
        reason = kind.name.lower()
        start = NOON_TIME - HOUR_SECONDS
        planned = event(kind, start, NOON_TIME + 9 * DAY_SECONDS, meter=meter)
        cancelled = event(kind, start, start, meter=meter)

        before.note_events(cancelled)
        before.note_events(planned)
        after.note_events(planned)
        assert suppressed_by(before.apply([alert("zero_usage")])) == [""]
        assert suppressed_by(after.apply([alert("zero_usage")])) == [reason]
        [revised], _ = after.note_events(cancelled)
        assert (revised.suppressed_by, revised.change) == ("", "revised")

    def test_is_the_event_with_the_same_start_only(self):
        policy = new_policy()
        policy.note_events(
            event(
                Event.PLANNED_OUTAGE, NOON_TIME - HOUR_SECONDS, NOON_TIME + HOUR_SECONDS
            )
        )
        policy.note_events(
            event(
                Event.PLANNED_OUTAGE,
                NOON_TIME - 2 * HOUR_SECONDS,
                NOON_TIME - 2 * HOUR_SECONDS,
            )
        )
        assert suppressed_by(policy.apply([alert()])) == ["planned_outage"]

    def test_no_longer_covers_an_opening(self):
        engine = Engine([ALL_RULES["seal_or_cover_event"]])
        order = START_TIME + 2 * DAY_SECONDS
        opened = START_TIME + 2 * DAY_SECONDS + HOUR_SECONDS
        engine.step(event(Event.WORK_ORDER, order, order + DAY_SECONDS, meter="M1"))
        assert engine.step(event(Event.COVER_OPEN, opened, meter="M1")) == []
        alerts = engine.step(
            event(Event.WORK_ORDER, order, order, meter="M1")
        ) + engine.tick(START_TIME + 9 * DAY_SECONDS)
        assert [(alert.rule, alert.change) for alert in alerts] == [
            ("seal_or_cover_event", "raised")
        ]


LOSS_RULE = "area_loss_correlation"


def suspected(**more) -> Alert:
    return alert(
        LOSS_RULE,
        severity=2,
        score=1.2,
        en="It goes with the loss.",
        zh="相关。",
        **more,
    )


class TestASecondEvidence:
    """A loss that correlates with a meter's use is one statistic; an opening or a magnet is another evidence."""

    @pytest.mark.parametrize(
        ("report", "name"),
        [
            (Event.COVER_OPEN, "openings"),
            (Event.TERMINAL_OPEN, "openings"),
            (Event.MAGNETIC_FIELD, "fields"),
        ],
    )
    @pytest.mark.parametrize("days", [-29, 5])
    def test_makes_it_grave_whichever_comes_first(self, report, name, days):
        before, after = new_policy(), new_policy()
        opened = event(report, NOON_TIME + days * DAY_SECONDS, meter="M1")
        before.note_events(opened)
        [raised] = before.apply([suspected()])
        after.apply([suspected()])
        [revised], _ = after.note_events(opened)

        assert (raised.severity, raised.change, raised.evidence[name]) == (
            1,
            "raised",
            1,
        )
        assert (revised.severity, revised.change, revised.en, revised.zh) == (
            1,
            "escalated",
            raised.en,
            raised.zh,
        )
        assert raised.en.startswith("It goes with the loss. ")

    @pytest.mark.parametrize(
        "reports",
        [
            [event(Event.COVER_OPEN, NOON_TIME, meter="M2")],
            [event(Event.COVER_OPEN, NOON_TIME - 31 * DAY_SECONDS, meter="M1")],
            [
                event(Event.COVER_OPEN, NOON_TIME, meter="M1"),
                event(Event.WORK_ORDER, NOON_TIME + HOUR_SECONDS, meter="M1"),
            ],
            [event(Event.MAGNETIC_FIELD, NOON_TIME, NOON_TIME + 30, meter="M1")],
            [
                event(Event.MAGNETIC_FIELD, NOON_TIME, meter="M1"),
                event(Event.MAGNETIC_FIELD_END, NOON_TIME + 9, meter="M1"),
            ],
            [event(Event.COVER_CLOSED, NOON_TIME, meter="M1")],
        ],
        ids=[
            "another meter",
            "long ago",
            "with an order",
            "a short field",
            "a field that ended",
            "closed",
        ],
    )
    def test_does_not_come_from_these_reports(self, reports):
        before, after = new_policy(), new_policy()
        [unaided] = after.apply([suspected()])
        for report in reports:
            before.note_events(report)
            after.note_events(report)
        assert [alert.severity for alert in before.apply([suspected()])] == [2]
        assert [alert.severity for alert in after.open_alerts()] == [2]
        assert [alert.en for alert in after.open_alerts()] == [unaided.en]

    def test_no_longer_counts_once_a_late_order_covers_it(self):
        policy = new_policy()
        policy.note_events(event(Event.COVER_OPEN, NOON_TIME, meter="M1"))
        policy.apply([suspected()])
        [revised], _ = policy.note_events(
            event(Event.WORK_ORDER, NOON_TIME - HOUR_SECONDS, meter="M1")
        )
        assert (revised.severity, revised.change, revised.en) == (
            2,
            "revised",
            "It goes with the loss.",
        )

    def test_stays_when_it_ends(self):
        policy = new_policy()
        policy.note_events(event(Event.COVER_OPEN, NOON_TIME, meter="M1"))
        policy.apply([suspected()])
        [end] = policy.apply(
            [suspected(state="cleared", change="cleared", at=NOON_TIME + DAY_SECONDS)]
        )
        assert (end.severity, end.evidence["openings"]) == (1, 1)

    def test_does_not_change_other_rules(self):
        policy = new_policy()
        policy.note_events(event(Event.COVER_OPEN, NOON_TIME, meter="M1"))
        assert [
            published.severity for published in policy.apply([alert("step_drop")])
        ] == [3]


METER_NUMBERS = st.integers(0, NOTICE_SUBJECTS + 3)
ALERT_CHANGES = st.sampled_from(["raised", "escalated", "cleared", "withdrawn"])


@given(st.lists(st.tuples(METER_NUMBERS, ALERT_CHANGES), max_size=120))
def test_whatever_becomes_of_alerts_the_notice_stands_for_those_that_are_many(changes):
    policy = new_policy()
    states: dict[int, str] = dict.fromkeys(range(NOTICE_SUBJECTS), "raised")
    policy.apply(unread(n) for n in states)
    for n, change in changes:
        states[n] = change
        state = change if change in ("cleared", "withdrawn") else "raised"
        policy.apply(
            [
                unread(
                    n,
                    change=change,
                    state=state,
                    severity=2 if change == "escalated" else 3,
                )
            ]
        )

    together = {
        f"M{n}" for n, change in states.items() if change in ("raised", "cleared")
    }
    notice = next(
        (
            alert
            for alert in policy.recent["A1"].values()
            if NOTICE_COUNT in alert.evidence
        ),
        None,
    )
    many = len(together) >= NOTICE_SUBJECTS

    assert (notice is not None and notice.state != "withdrawn") == many

    if notice and many:
        assert notice.evidence[NOTICE_COUNT] == len(together)
        assert {
            alert.subject
            for alert in policy.recent["A1"].values()
            if alert.suppressed_by == "notice"
        } == together


def unread_area(meters: int, dead: range, until: int, days: int) -> list[Alert]:
    """Alerts of an area in which the `dead` meters are unread from the third day to day `until`."""
    engine = Engine(interval=HOUR_SECONDS)
    meters_filed = [
        Meter(
            meter=f"M{number}",
            customer=f"C{number}",
            effective=START_TIME - 400 * DAY_SECONDS,
            interval_s=HOUR_SECONDS,
            contract_kva=8,
        )
        for number in range(meters)
    ]
    engine.enroll([Area(area="A1", meters=meters_filed)])

    alerts = []
    for day in range(days):
        silent = set()
        if 2 <= day < until:
            silent = set(dead)
        elif dead and day >= until:
            silent = {dead[0]}
        read_numbers = [number for number in range(meters) if number not in silent]
        at = START_TIME + day * DAY_SECONDS + HOUR_SECONDS * np.arange(1, 25)
        alerts += engine.step(
            Readings.build(
                [f"M{number}" for number in read_numbers],
                np.tile(np.arange(len(read_numbers)), 24),
                ["A1"],
                np.zeros(24 * len(read_numbers)),
                np.repeat(at, len(read_numbers)),
                kwh=np.full(24 * len(read_numbers), 0.3),
            )
        )

    return [
        alert for alert in alerts if alert.rule in ("read_failure", "read_success_rate")
    ]


def test_area_failure_ends_and_one_meter_stays_unread():
    alerts = unread_area(30, range(10), until=8, days=12)
    ends = last(alerts)
    assert ends["read_success_rate", ""].state == "cleared"
    assert {
        subject
        for (rule, subject), alert in ends.items()
        if rule == "read_failure" and not alert.suppressed_by
    } == {"M0"}
    assert Counter(
        alert.subject
        for alert in alerts
        if alert.rule == "read_failure" and not alert.suppressed_by
    ) == {"M0": 1}


def test_one_meter_of_a_small_area_has_its_own_alert():
    ends = last(unread_area(25, range(1), until=12, days=12))
    assert [
        (rule, subject)
        for (rule, subject), alert in ends.items()
        if not alert.suppressed_by
    ] == [("read_failure", "M0")]


def test_alerts_one_by_one_or_at_once_are_published_the_same():
    alerts = [
        failure(),
        *(unread(n) for n in range(3)),
        failure(state="cleared", change="cleared", at=NOON_TIME + DAY_SECONDS),
    ]
    at_once: Policy = new_policy()
    piecewise: Policy = new_policy()
    together = at_once.apply(alerts)
    assert [
        alert
        for portion in (alerts[:4], alerts[4:])
        for alert in piecewise.apply(portion)
    ] == together
