"""An ensemble over a customer's last days: level, form and dark hours, each beside its own limit."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import NOT_KNOWN, Explanation, rule
from detectors.rules.consumption.established import established
from schemas.columns import Column, Days
from schemas.units import DAY_SECONDS

LEAST_FORM = 0.01  # share of the usual ups and downs: less is as flat


@rule(
    Days,
    severity=3,
    release=6 * DAY_SECONDS,
    meaning=2,
    title=("Days depart from the usual", "用电形态或水平偏离"),
    text=(
        (
            "Lately {level_left:.0%} of the expected {expected_kwh:.1f} kWh a day, with {form_left:.0%} of the usual "
            "ups and downs, and nothing in the same four hours on {dark_days:.0f} of 7 days: hardly any home departs "
            "so far."
        ),
        (
            "近日用电为应有日电量{expected_kwh:.1f}kWh的{level_left:.0%},日内起伏为平时的{form_left:.0%},"
            "7天中有{dark_days:.0f}天同一4小时零电量:极少用户偏离至此。"
        ),
    ),
    curve=daily_energy,
    explained_by=(Explanation.OUTAGE, Explanation.VACANCY, Explanation.METER_CHANGE),
)
def model_score(
    level_left: Column,
    form_left: Column,
    dark_days: Column,
    dark_before: Column,
    spread: Column,
    expected_kwh: Column,
    known_days: Column,
    pv_kva: Column,
    suspended_kva: Column,
    kept_standing: Column = NOT_KNOWN,
    *,
    spreads: float = 4.5,
    standing: float = 0.75,
    in_step: float = 1.5,
    calm: float = 0.45,
    stands: float = 0.85,
    stands_most: float = 1.1,
    days: float = 6.0,
    before: float = 0.15,
    lived_in: float = 0.4,
    most: float = 1.35,
    history: float = 28.0,
    usual: float = 3.0,
) -> Column:
    """The last days' level, form or dark hours depart further than those of hardly any home (模型评分).

    The highest of three scores. The use fell by 4.5 of the customer's own spreads, and the standing load in step, as
    for `step_drop`. Or 45 % of the usual ups and downs are left, by both their spread and their daily swing, and the
    standing load is another, which in an empty home it is not. Or the same four hours brought nothing on 6 of 7 days,
    seldom seen before. The last two count while 40 % of the use are left. None counts while capacity is suspended.
    Defaults of this project, chosen on half of the real households of docs/detection.md.
    """
    stays = kept_standing > np.minimum(standing, in_step * level_left)
    fall = np.where(stays, 0.0, -np.log(level_left) / (spreads * spread))

    empty = (kept_standing > stands) & (kept_standing < stands_most)
    lively = (level_left <= most) & ~empty
    calmed = np.log(np.maximum(form_left, LEAST_FORM)) / np.log(calm)
    flat = np.where(lively, calmed, 0.0)
    dark = np.where(dark_before <= before, dark_days / days, 0.0)
    form = np.where(level_left >= lived_in, np.maximum(flat, dark), 0.0)

    score = np.maximum(np.maximum(fall, form), 0.0)
    score = np.where(suspended_kva > 0, 0.0, score)
    known = established(known_days, pv_kva, history) & (expected_kwh >= usual)
    return np.where(known, score, np.nan)
