"""Implausible values become NaN before any rule reads them, and are counted by reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import Level, Rule
from models.meters.bounds import within_bounds
from replay.cases.case import Case, batches, master_data
from schemas.columns import KIND_COLUMNS, Readings

NOT_A_NUMBER = np.nan
PLAUSIBLE_TIME = 1_700_000_000
SEEN_COLUMNS = (
    "register",
    "export_register",
    "kwh",
    "u",
    "i",
    "p",
    "q",
    "register_delta",
    "register_drop",
)


class ColumnProbe(Rule):
    """A rule that records its columns and raises nothing."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012 - the test empties it

    def score(self, columns, missing):
        self.seen.append(
            {name: np.array(columns[name], float) for name in SEEN_COLUMNS}
        )
        return np.zeros(len(columns["at"]))


def validated(readings, **more):
    """The columns that rules read, implausible values by reason, and every other outcome."""
    probe = ColumnProbe(
        "probe",
        Readings,
        (Level(1, 4, 0),),
        0,
        0.9,
        len,
        (),
        {},
        ("", ""),
        ("", ""),
        (),
    )
    ColumnProbe.seen = []
    case = Case(name="", shows="", readings=readings, **more)
    engine = Engine([probe], interval=case.interval)
    if case.known:
        engine.enroll([master_data(case)])
    for batch in batches(case):
        engine.step(batch)
    columns = {
        name: np.concatenate([shown[name] for shown in probe.seen], axis=-1)
        for name in SEEN_COLUMNS
        if probe.seen
    }

    implausible = {
        reason: n
        for (_, outcome, reason), n in engine.counts.items()
        if outcome == "implausible"
    }
    outcomes = {
        reason or outcome: n
        for (_, outcome, reason), n in engine.counts.items()
        if outcome not in OTHER_COUNTS
    }

    return columns, implausible, outcomes


OTHER_COUNTS = ("implausible", "flagged", "in")  # counts that are no outcome of a row


def assert_seen(column, expected):
    np.testing.assert_allclose(column, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "value",
    [
        "4294967.295",
        "42949672.95",
        "429496729.5",
        "4294967295",
        "2147483.647",
        "21474836.47",
        "2147483647",
        "214748.3647",
        "61166",
        "65535",
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_sentinel_becomes_nan(value, known):
    columns, implausible, _ = validated(
        f"""
        at                register
        d1 00:15          {value}
        d1 00:30..01:00   100+1
        """,
        known=known,
    )
    assert_seen(columns["register"], [NOT_A_NUMBER, 100, 101, 102])
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, 1, 1])
    assert implausible == {"sentinel": 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("u", "-214748364.8"),
        ("i", "2147483.647"),
        ("p", "-2147483648"),
        ("q", "4294967.295"),
    ],
)
def test_sentinel_of_one_phase_leaves_the_others(column, value):
    columns, implausible, _ = validated(
        f"""
        at        {column}
        d1 00:15  1/{value}/1
        """,
        known=False,
    )
    assert_seen(columns[column][:, 0], [1, NOT_A_NUMBER, 1])
    assert implausible == {"sentinel": 1}


NUMBER_COLUMNS = [
    name
    for name, column in KIND_COLUMNS[Readings].items()
    if np.dtype(column.form.dtype).kind == "f"
]
REPORTED_NUMBERS = {"demand_resets", "meter_ratio", "flags", "clock_offset"}


@pytest.mark.parametrize("name", NUMBER_COLUMNS)
def test_every_declared_number_is_validated_but_the_reported_ones(name):
    has_phases = KIND_COLUMNS[Readings][name].form.axis == "phases"
    values = np.full((3, 1) if has_phases else 1, 0xFFFFFFFF)
    readings = Readings.build(
        ("M1",), [0], ("A1",), [0], [PLAUSIBLE_TIME], **{name: values}
    )
    unregistered = Engine().registry.meters.columns_of(np.zeros(1, np.int64))

    validated = within_bounds(readings, unregistered, 900, Counter())
    is_unknown = np.isnan(getattr(validated, name)).all()
    assert is_unknown == (name not in REPORTED_NUMBERS)


def test_a_large_register_is_a_value():
    columns, implausible, _ = validated("""
        at                register
        d1 00:15..01:00   429496.72+0.01
        """)
    assert not np.isnan(columns["register"]).any()
    assert not implausible


@pytest.mark.parametrize("value", ["inf", "-inf"])
def test_infinity_becomes_nan(value):
    columns, implausible, _ = validated(f"""
        at        i
        d1 00:15  1/{value}/1
        """)
    assert_seen(columns["i"][:, 0], [1, NOT_A_NUMBER, 1])
    assert implausible == {"not_finite": 1}


def test_energy_registers_and_voltages_are_not_negative_but_power_and_current_may_be():
    columns, implausible, _ = validated("""
        at        register  export_register  kwh  u           i       p   q
        d1 00:15  -5        -5               -1   220/-3/220  -1/1/1  -1  -1
        """)
    for name in ("register", "export_register", "kwh"):
        assert_seen(columns[name], [NOT_A_NUMBER])
    assert_seen(columns["u"][:, 0], [220, NOT_A_NUMBER, 220])
    assert_seen(columns["i"][:, 0], [-1, 1, 1])
    assert_seen(columns["p"][:, 0], [-1, -1, -1])
    assert implausible == {"negative": 4}


@pytest.mark.parametrize(
    ("column", "within", "beyond"),
    [
        ("u", "440", "441"),  # twice 220 V
        ("i", "-120", "-121"),  # twice 60 A
        ("p", "-79.2", "-79.3"),  # twice 220 V, 60 A and three phases
        ("q", "79.2", "79.3"),
        ("kwh", "19.8", "19.9"),  # of a quarter-hour
    ],
)
def test_value_beyond_the_meters_range_becomes_nan(column, within, beyond):
    columns, implausible, _ = validated(f"""
        at        {column}
        d1 00:15  {within}
        d1 00:30  {beyond}
        """)
    assert_seen(columns[column][..., 0], float(within))
    assert np.isnan(columns[column][..., 1]).all()
    assert implausible == {"beyond_bound": 1 if column == "kwh" else 3}


def test_the_bound_follows_the_contract_the_interval_and_needs_master_data():
    hourly = "meter  wiring  interval_s\nM1     3P4W    3600"
    columns, implausible, _ = validated(
        "at        kwh\nd1 01:00  79\nd1 02:00  80", meters=hourly
    )
    assert_seen(columns["kwh"], [79, NOT_A_NUMBER])
    assert implausible == {"beyond_bound": 1}
    large = "meter  wiring  contract_kva\nM1     3P4W    100"
    assert not validated("at        p\nd1 00:15  190", meters=large)[1]
    assert not validated("at        p\nd1 00:15  190", known=False)[1]


def test_an_estimate_is_no_measurement_and_an_edited_value_is():
    columns, implausible, outcomes = validated("""
        at        register  kwh  u    status
        d1 00:15  100       1    220  measured
        d1 00:30  101       1    220  estimated
        d1 00:45  102       1    220  edited
        """)
    assert_seen(columns["kwh"], [1, NOT_A_NUMBER, 1])
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, 2])
    assert implausible == {"estimated": 5}
    assert outcomes == {"judged": 3}


def test_phase_b_of_a_three_wire_meter_becomes_nan():
    columns, implausible, _ = validated(
        """
        at        u          i
        d1 00:15  100/3/100  1/0/1
        """,
        meters="meter  wiring  un_v\nM1     3P3W    100",
    )
    assert_seen(columns["u"][:, 0], [100, NOT_A_NUMBER, 100])
    assert_seen(columns["i"][:, 0], [1, NOT_A_NUMBER, 1])
    assert not implausible


def test_a_repeated_snapshot_is_missing_not_zero():
    columns, implausible, _ = validated("""
        at        register  kwh  p  clock_offset
        d1 00:15  100       0    1  0
        d1 00:30  100       0    1  -900
        d1 00:45  100.5     0.5  1  0
        """)
    assert_seen(columns["kwh"], [0, NOT_A_NUMBER, 0.5])
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, 0.5])
    assert np.isnan(columns["p"][:, 1]).all()
    assert implausible == {"repeated_snapshot": 5}


def test_a_register_that_stands_while_the_clock_goes_on_is_no_repeat():
    columns, implausible, _ = validated("""
        at               register  kwh  clock_offset
        d1 00:15..01:00  100       0    3
        """)
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, 0, 0, 0])
    assert not implausible


def test_one_low_reading_is_no_new_base():
    columns, implausible, _ = validated("""
        at        register
        d1 00:15  1000
        d1 00:30  12
        d1 00:45  1001
        d1 01:00  1002
        """)
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, 1, 1])
    assert_seen(columns["register_drop"], [0, NOT_A_NUMBER, 0, 0])
    assert implausible == {"transient_low": 1}


def test_a_gap_between_two_low_readings_does_not_hide_the_decrease():
    columns, implausible, _ = validated("""
        at        register
        d1 00:15  1000
        d1 00:30  900
        d1 00:45  -
        d1 01:00  901
        d1 01:15  902
        """)
    assert_seen(columns["register_drop"], [0, NOT_A_NUMBER, NOT_A_NUMBER, 100, 0])
    assert_seen(
        columns["register_delta"],
        [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, 1],
    )
    assert not implausible


def test_falling_low_readings_are_confirmed_by_the_next_rise():
    columns, _, _ = validated("""
        at        register
        d1 00:15  1000
        d1 00:30  900
        d1 00:45  800
        d1 01:00  801
        """)
    assert_seen(columns["register_drop"], [0, NOT_A_NUMBER, NOT_A_NUMBER, 200])


def test_one_high_reading_is_no_new_base():
    columns, implausible, _ = validated("""
        at        register
        d1 00:15  1000
        d1 00:30  90000
        d1 00:45  1001
        d1 01:00  1002
        """)
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, 1, 1])
    assert_seen(columns["register_drop"], [0, 0, 0, 0])
    assert implausible == {"transient_high": 1}


def test_confirmed_high_reading_is_a_new_base_and_no_usage():
    columns, implausible, _ = validated("""
        at        register
        d1 00:15  1000
        d1 00:30  90000
        d1 00:45  90001
        d1 01:00  90003
        """)
    assert_seen(
        columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, 2]
    )
    assert_seen(columns["register_drop"], [0, 0, 0, 0])
    assert not implausible


def test_second_leap_does_not_confirm_a_high_reading():
    columns, _, _ = validated("""
        at        register
        d1 00:15  1000
        d1 00:30  90000
        d1 00:45  180000
        d1 01:00  180001
        d1 01:15  180003
        """)
    assert_seen(
        columns["register_delta"],
        [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, 2],
    )


@pytest.mark.parametrize(
    ("digits", "last", "next_", "delta"), [(6, 999_999, 1, 2), (4, 9_990, 5, 15)]
)
def test_rollover_is_unwrapped(digits, last, next_, delta):
    columns, implausible, _ = validated(
        f"""
        at        register
        d1 00:15  {last}
        d1 00:30  {next_}
        """,
        meters=f"meter  wiring  register_digits\nM1     3P4W    {digits}",
    )
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, delta])
    assert_seen(columns["register_drop"], [0, 0])
    assert not implausible


def test_a_fall_from_the_middle_of_the_register_is_no_rollover():
    columns, _, _ = validated("""
        at        register
        d1 00:15  800000
        d1 00:30  1
        d1 00:45  2
        """)
    assert_seen(columns["register_drop"], [0, NOT_A_NUMBER, 799_999])


def test_new_version_of_a_meter_starts_afresh():
    columns, implausible, _ = validated(
        """
        at        register
        d1 00:15  1000
        d1 00:30  0
        d1 00:45  1
        """,
        meters="meter  wiring  effective\nM1     3P4W    -\nM1     3P4W    d1 00:20",
    )
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, NOT_A_NUMBER, 1])
    assert_seen(columns["register_drop"], [0, 0, 0])
    assert not implausible


def test_the_energy_of_hours_in_one_interval_is_a_backfill_lump():
    columns, implausible, _ = validated("""
        at        register  kwh
        d1 00:15  100       0.5
        d1 00:30  100.5     0.5
        d1 04:00  107       6.5
        d1 04:15  107.5     0.5
        """)
    assert_seen(columns["kwh"], [0.5, 0.5, NOT_A_NUMBER, 0.5])
    assert_seen(columns["register_delta"], [NOT_A_NUMBER, 0.5, 6.5, 0.5])
    assert implausible == {"backfill_lump": 1}


def test_after_a_gap_the_energy_of_one_interval_is_no_lump():
    columns, implausible, _ = validated("""
        at        register  kwh
        d1 00:15  100       0.5
        d1 04:00  107       0.6
        """)
    assert_seen(columns["kwh"], [0.5, 0.6])
    assert not implausible


def test_the_energy_of_an_hour_in_one_interval_is_no_lump():
    columns, implausible, _ = validated("""
        at        register  kwh
        d1 00:15  100       0.5
        d1 01:15  106       6
        """)
    assert_seen(columns["kwh"], [0.5, 6])
    assert not implausible


def test_an_hourly_or_daily_meter_sends_no_lumps():
    for interval, times in ((3600, "d1 01:00..06:00 /60"), (86_400, "d1..d4 24:00")):
        _, implausible, _ = validated(
            f"at                   register  kwh\n{times}  100+5      5",
            meters=f"meter  wiring  interval_s\nM1     3P4W    {interval}",
        )
        assert not implausible


def test_event_times_ahead_of_their_receipt_are_rejected():
    columns, _, outcomes = validated("""
        at        kwh  received
        d1 00:15  1    d1 00:10
        d1 01:15  2    d1 00:16
        d1 00:30  3    d1 00:31
        """)
    assert outcomes == {"judged": 2, "future": 1}
    assert_seen(columns["kwh"], [1, 3])


def test_implausible_event_times_are_rejected():
    case = Case(name="", shows="", meters="meter  wiring\nM1     3P4W")
    engine = Engine([])
    engine.enroll([master_data(case)])
    engine.step(
        Readings.build(
            ("M1",), [0, 0], ("A1",), [0, 0], [900, 4_200_000_000], kwh=[1, 1]
        )
    )
    assert engine.counts["readings", "rejected", "implausible_time"] == 2
    assert engine.counts["readings", "judged", ""] == 0


def test_every_row_has_one_outcome():
    _, implausible, outcomes = validated("""
        at               arrives    register     kwh  u    i     received
        d1 00:15..24:00  -          100+0.5      0.5  220  4     -
        d1 00:15..12:00  d1 23:00   100+0.5      0.5  220  4     -
        d2 00:15..06:00  -          4294967.295  0.5  900  inf   -
        d2 06:15..12:00  -          150          1    220  4     d1 00:00
        """)
    assert sum(outcomes.values()) == 96 + 48 + 24 + 24
    assert outcomes["duplicate"] == 48
    assert outcomes["future"] == 24
    assert implausible == {"sentinel": 24, "beyond_bound": 72, "not_finite": 72}
