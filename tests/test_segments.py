"""A rule with other settings for some segments: the setting in force for a row, and its evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.master.records import segments_code
from schemas.columns import Readings
from schemas.master import Area, Meter

START_TIME = 1_772_380_800
DEVIATION_RULE = ALL_RULES["voltage_deviation"]


def in_force(judged, name, *rows):
    """A setting of rows that each belong to several segments."""
    codes = np.array([segments_code(*segments) for segments in rows])
    return np.broadcast_to(judged.in_force(codes)[name], len(rows)).tolist()


def test_last_of_several_segments_counts():
    judged = replace(
        DEVIATION_RULE,
        segments={"pv": {"over": 1.10}, "residential": {"over": 1.05, "under": 0.88}},
    )
    rows = ((), ("commercial",), ("residential",), ("residential", "pv"), ("pv",))
    assert in_force(judged, "over", *rows) == [1.07, 1.07, 1.05, 1.10, 1.10]
    assert in_force(judged, "under", *rows) == [0.93, 0.93, 0.88, 0.88, 0.93]


def test_settings_stay_numbers_if_no_segment_differs():
    assert (
        replace(DEVIATION_RULE, segments={}).in_force(np.zeros(9, int))
        is DEVIATION_RULE.settings
    )
    assert DEVIATION_RULE.in_force(None) is DEVIATION_RULE.settings
    assert DEVIATION_RULE.in_force(np.zeros(9, int))["inside"] == 0.01


def test_impossible_segments_and_unknown_settings_are_refused():
    with pytest.raises(
        ValueError, match="voltage_deviation: a row of readings is of no segment dyn11"
    ):
        replace(DEVIATION_RULE, segments={"dyn11": {"over": 1.1}})
    with pytest.raises(ValueError, match="voltage_deviation has no setting above"):
        replace(DEVIATION_RULE, segments={"pv": {"above": 1.1}})


def test_a_meter_is_judged_by_the_segments_of_its_time():
    before = Meter(meter="M1", segment="commercial")
    engine = Engine([replace(DEVIATION_RULE, segments={"residential": {"over": 1.03}})])
    engine.enroll(
        [
            Area(
                area="A1",
                meters=[before, Meter(meter="M1", effective=START_TIME + 9 * 900)],
            )
        ]
    )
    at = START_TIME + 900 * np.arange(1, 25)
    phase_volts = np.full((3, 24), np.nan)
    phase_volts[0] = 228
    unknown = Readings.build(
        ["M1", "M2"],
        np.tile([0, 1], 24),
        ["A1"],
        np.zeros(48),
        np.repeat(at, 2),
        u=np.repeat(phase_volts, 2, axis=1),
    )

    [alert] = engine.step(unknown)
    assert (alert.subject, alert.since) == ("M1", START_TIME + 10 * 900)
    assert alert.evidence["over"] == 1.03
    assert "to 103% of 220 V" in alert.en
