"""Whether an area's energy balance closes, and whether its meters are read."""
from __future__ import annotations

import numpy as np

from detectors.rule import DAY, rule
from schemas.columns import AreaDays, Column


@rule(
    AreaDays, severity=2, release=6 * DAY, title=("High area line loss", "台区线损异常"),
    text=("Of 7 days 3 lost {loss_third:.1%} or more, 3 {loss_least_third:.1%} or less (usual {usual_loss:.1%}).",
          "近七天中三天线损不低于{loss_third:.1%},三天不高于{loss_least_third:.1%}(平时{usual_loss:.1%})。"),
)  # fmt: skip
def area_loss_high(
    loss_third: Column, loss_least_third: Column, usual_loss: Column, usual_spread: Column, loss_seen: Column, *,
    limit: float = 0.07, hard: float = 0.10, widths: float = 3.0, negative: float = -0.01, learned: float = 6.0,
    margin: float = 0.01,
) -> Column:  # fmt: skip
    """3 of 7 well-covered days lost, whatever was not read, over max(7 %, usual + 3 sigma) or 10 %, or under -1 %.

    Usual is what the area loses at that load. Limits: Zhao County case. 3 sigma are a point at least, and until
    `learned` days are known 10 % is the line: defaults of this project.
    """
    usual = usual_loss + np.maximum(widths * usual_spread, margin)
    line = np.where(loss_seen >= learned, np.clip(usual, limit, hard), hard)
    return np.maximum(loss_third / line, loss_least_third / negative)


@rule(
    AreaDays, severity=3, hold=DAY, title=("Low reading success", "采集成功率低"),
    text=("Of the readings due in a day {read_share:.1%} arrived (limit {limit:.1%}).",
          "当日采集成功率{read_share:.1%},低于{limit:.1%}。"),
)  # fmt: skip
def read_success_rate(read_share: Column, *, limit: float = 0.98) -> Column:
    """Under 98 % of an area's readings arrived, two days in a row (采集成功率). Default of this project."""
    return (1 - read_share) / (1 - limit)
