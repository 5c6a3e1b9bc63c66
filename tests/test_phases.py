"""Which phase and transformer feed a meter, and whether it is bypassed: the promises of the core over weeks.

The amount of data required is set to a third here, so that days stand for weeks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tests.oracle.phases
from models.days.hourly_voltages import hours_of
from models.meters.phases import Coupling, Phases
from schemas.columns import Days, Readings
from schemas.master import Area, Meter, Phase
from schemas.units import DAY_SECONDS
from tests.adversarial import (
    NOT_A_NUMBER,
    Row,
    Stream,
    duplicated,
    reading_columns,
    shuffled,
    straggling,
    with_closing_readings,
)
from tests.test_open_days import windows
from tests.test_promises import agree, exactly, judge_stream, restored, same

START_TIME = 1_772_380_800
STEP_SECONDS = 3600
DAY_COUNT = 15
USER_COUNT = 8
PHASE_RULES = ("phase_mismatch", "area_mismatch", "voltage_current_decoupling")


def weeks(seed: int) -> Stream:
    """An area of which M1 is filed on a wrong phase, M2 fed from elsewhere, and M4 bypassed since the tenth day."""
    rng, hours = np.random.default_rng(seed), DAY_COUNT * 24
    # A, B, C, and elsewhere
    busbar = 228 + rng.normal(0, 1, (1, hours)) + rng.normal(0, 1, (4, hours))
    used = rng.exponential(0.8, (USER_COUNT, hours))
    volts = (
        busbar[[0, 1, 3, 2, 2, 2, 2, 2]]
        - 0.3 * used
        - rng.uniform(0, 1, (USER_COUNT, 1)) * rng.exponential(0.3, hours)
    )
    used[4, 9 * 24 :] *= np.arange(9 * 24, hours) % 24 < 12
    meters = [Meter(meter="G", wiring="3P4W", interval_s=STEP_SECONDS)]
    filed: list[Phase] = ["A", "C", "", "C", "C", "", "C", "C"]
    meters += [
        Meter(meter=f"M{k}", phase=phase, interval_s=STEP_SECONDS)
        for k, phase in enumerate(filed)
    ]

    rows = []
    for k, meter in enumerate(meters):
        phase_volts = np.full((3, hours), np.nan)
        phase_volts[: 3 if k == 0 else 1] = busbar[:3] if k == 0 else volts[k - 1]
        power = np.where(
            np.isnan(phase_volts),
            np.nan,
            used[k - 1] if k else used.sum(axis=0) * 1.02 / 3,
        )
        lost = rng.random(hours) < 0.01

        for n, columns in enumerate(
            reading_columns(power / 0.23, np.round(phase_volts, 1), power, STEP_SECONDS)
        ):
            if not lost[n]:
                rows.append(
                    Row(
                        Readings,
                        "A1",
                        meter.meter,
                        START_TIME + STEP_SECONDS * (n + 1),
                        columns,
                    )
                )

    order = sorted(range(len(rows)), key=lambda n: (rows[n].at, n))
    return Stream(
        [Area(area="A1", gateway="G", meters=meters)],
        tuple(rows[n] for n in order),
        "Asia/Shanghai",
        STEP_SECONDS,
    )


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, name, pairs in (
            (Phases, "LEAST_PAIRS", 50),
            (Coupling, "LEAST_PAIRS", 150),
            (tests.oracle.phases, "ENOUGH_PHASE_PAIRS", 50),
            (tests.oracle.phases, "ENOUGH_LOAD_PAIRS", 150),
        ):
            patch.setattr(module, name, pairs)
        yield


@pytest.fixture(scope="module")
def stream() -> Stream:
    return with_closing_readings(weeks(1), DAY_SECONDS)


@pytest.fixture(scope="module")
def alerts(stream):
    return judge_stream(stream)[1]


def phase_alerts(alerts):
    return [alert for alert in alerts if alert.rule in PHASE_RULES]


def test_only_meters_at_fault_are_found(alerts):
    last = {alert.id: alert for alert in phase_alerts(alerts)}.values()
    assert {(alert.rule, alert.subject, alert.state) for alert in last} == {
        ("phase_mismatch", "M1", "raised"),
        ("area_mismatch", "M2", "raised"),
        ("voltage_current_decoupling", "M4", "raised"),
    }
    mismatch = next(alert for alert in last if alert.subject == "M1")
    assert mismatch.en.startswith(
        "The file has the meter on phase C, its voltage follows B:"
    )


def test_the_slow_twin_agrees_when_rows_come_shuffled_late_and_duplicated():
    disordered = shuffled(straggling(weeks(1), 3, 0, DAY_SECONDS), 1, 6 * 3600)
    agree(with_closing_readings(duplicated(disordered, 2), DAY_SECONDS))


def test_any_cut_publishes_exactly_the_same(stream, alerts):
    size = len(stream.rows)
    for cuts in (
        range(0, size, 3),
        np.random.default_rng(1).integers(0, size, 30).tolist(),
    ):
        assert exactly(judge_stream(stream, cuts)[1]) == exactly(alerts)


def test_an_engine_restored_again_and_again_goes_on_undisturbed(stream, alerts):
    assert exactly(restored(stream, 97)) == exactly(alerts)


def test_readings_two_days_late_amend_the_alerts(stream, alerts):
    disordered = straggling(weeks(1), 5, DAY_SECONDS, 2 * DAY_SECONDS)
    late = judge_stream(with_closing_readings(disordered, DAY_SECONDS))[1]
    same(phase_alerts(late), phase_alerts(alerts))


@pytest.mark.parametrize(
    ("interval", "hourly_count"),
    [(300, 24), (900, 24), (1800, 24), (3600, 24), (7200, 12), (2700, 32)],
)
def test_one_voltage_an_hour_is_kept(interval, hourly_count):
    hours = hours_of(DAY_SECONDS // interval, interval)
    assert np.array_equal(hours[hours >= 0], np.arange(hourly_count))
    assert hours[0] == (0 if interval >= 3600 or interval == 2700 else -1)


def test_a_day_contains_how_far_every_hour_departs_from_each_phase():
    names = ["G", "M"]
    area = Area(
        area="A1",
        gateway="G",
        meters=[Meter(meter="G", wiring="3P4W"), Meter(meter="M")],
    )
    volts = {
        hour: [[228, 229, 230], [226, NOT_A_NUMBER, NOT_A_NUMBER]]
        for hour in range(1, 25)
    }
    volts[2] = [[227, 229, 231], [220, NOT_A_NUMBER, NOT_A_NUMBER]]
    # one phase has no supply
    volts[9] = [
        [228, 90, 230],
        [226, NOT_A_NUMBER, NOT_A_NUMBER],
    ]

    batches = []
    for quarter in range(1, 106):
        hour, left = divmod(quarter, 4)
        phase_volts = np.array(
            volts.get(hour if not left else 1, volts[1]), np.float32
        ).T + (left > 0)
        ends = [(0, phase_volts)]
        # two readings of one interval
        if hour == 2 and not left:
            ends = [(-300, phase_volts), (0, phase_volts - np.float32(9))]
        for early, here in ends:
            at = [START_TIME + 900 * quarter + early] * 2
            batches.append(Readings.build(names, [0, 1], ["A1"], [0, 0], at, u=here))

    deviations = windows(Days, area, batches)["voltage_apart"].reshape(3, 24, 2)
    assert np.isnan(deviations[:, :, 0]).all()  # the gateway itself
    assert deviations[:, 0, 1] == pytest.approx([-5, -6, -7], abs=0.001)
    assert deviations[:, 1, 1] == pytest.approx([5, 6, 7], abs=0.001)
    assert deviations[:, 2:7, 1] == pytest.approx(0)
    assert np.isnan(deviations[:, [7, 8, 23], 1]).all()
