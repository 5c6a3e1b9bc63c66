"""Whether a customer's use looks like that customer."""
from __future__ import annotations

from detectors.rule import DAY, gated, rule
from schemas.columns import Column, Days


@rule(
    Days, severity=3, release=2 * DAY, segments={"residential": {"days": 30.0}}, title=("Zero usage", "零电量"),
    text=("No use for {zero_days:.0f} days (limit {days:.0f}) where {usual_kwh:.1f} kWh a day were usual.",
          "连续{zero_days:.0f}天零电量(限值{days:.0f}天),平时日用电{usual_kwh:.1f}kWh。"),
)  # fmt: skip
def zero_usage(zero_days: Column, usual_kwh: Column, *, days: float = 7.0, usual: float = 0.5) -> Column:
    """Nothing used for 7 days, residential 30, read well, alive, after real use (零电量). Defaults of this project."""
    return gated(zero_days / days, usual_kwh > usual)


@rule(
    Days, severity=3, hold=2 * DAY, release=6 * DAY, status="shadow",
    title=("Unusual beside its peers", "模型评分异常"),
    text=("The change of daily use is more unusual than that of {peer_score:.2%} of its peers in the area.",
          "日用电变化比本台区{peer_score:.2%}的同类用户更异常。"),
)  # fmt: skip
def model_score(peer_score: Column, *, top: float = 0.999) -> Column:
    """The online peer model puts the day's change in the top 0.1 %, three days (模型评分). Default of this project."""
    return peer_score / top
