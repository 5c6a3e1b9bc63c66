"""How far the last days depart from the usual: single days, empty days and days that cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from models.meters.departure import Departure

USUAL_FORM = 0.8


def last_days(days):
    """The columns after each day, given as the share of the use and the ups and downs of a day."""
    departure = Departure()
    departure.cells.reserve(1)
    given = []
    for left, form in days:
        forms = [np.array([form])] * 2 + [np.array([USUAL_FORM])] * 2
        columns = departure.fold(np.array([0]), np.log(np.array([left])), *forms)
        given.append((float(columns.level_left[0]), float(columns.form_left[0])))
    return given


def test_steady_days_are_what_they_are():
    for level, form in last_days([(0.6, 0.5)] * 9)[2:]:
        assert level == pytest.approx(0.6, rel=1e-5)
        assert form == pytest.approx(0.5 / USUAL_FORM, rel=1e-5)


def test_two_days_are_too_few():
    assert np.isnan(last_days([(1, USUAL_FORM)] * 2)).all()
    assert not np.isnan(last_days([(1, USUAL_FORM)] * 3)[-1]).any()


def test_one_odd_day_counts_for_little():
    usual = [(1, USUAL_FORM)] * 9
    (level, form) = last_days([*usual, (0.11, 0.01)])[-1]
    assert level > 0.68
    assert form > 0.75


def test_empty_days_are_left_out_until_too_few_are_known():
    days = last_days([(0.6, 0.5)] * 9 + [(0.01, 0.01)] * 9)
    levels = [level for level, _ in days]
    assert levels[9:12] == pytest.approx([0.6] * 3, rel=1e-5)
    assert np.isnan(levels[-1])


@pytest.mark.parametrize("unknown", [(np.nan, 0.5), (0.6, np.nan)])
def test_a_day_that_cannot_be_compared_changes_nothing(unknown):
    before, after = [(1, USUAL_FORM)] * 5, [(0.6, 0.5)] * 3
    with_gap = last_days([*before, unknown, *after])
    assert np.isnan(with_gap[5]).all()
    assert with_gap[6:] == last_days([*before, *after])[5:]
