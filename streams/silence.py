"""What keeps a rule silent, in words."""

from __future__ import annotations

import math

from schemas.units import DAY_SECONDS, HOUR_SECONDS

WITHDRAWN_TEXT = ("its alert was withdrawn later", "告警后被撤回")


def score_text(score: float, *, chinese: bool) -> str:
    """How far a score is from the raise line."""
    if score == -math.inf:
        return (
            "该行证明没有异常" if chinese else "the row proves that there is no trouble"
        )
    return f"得分{score:.3g}低于1" if chinese else f"score {score:.3g} below 1"


def trouble_text(trouble: int, hold: int, *, chinese: bool) -> str:
    """For how long trouble has lasted, of how long it must, both in s.

    >>> trouble_text(1800, 3600, chinese=False), trouble_text(86400, 172800, chinese=False)
    ('in trouble for 0.5 of 1 hours', 'in trouble for 1 of 2 days')
    """
    is_daily = hold % DAY_SECONDS == 0
    seconds = DAY_SECONDS if is_daily else HOUR_SECONDS
    spent, needed = trouble / seconds, hold / seconds
    if chinese:
        unit = "天" if is_daily else "小时"
        return f"已异常{spent:.3g}{unit}，需{needed:.3g}{unit}"
    unit = "days" if is_daily else "hours"
    return f"in trouble for {spent:.3g} of {needed:.3g} {unit}"
