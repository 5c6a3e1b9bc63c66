"""Whether work moves."""

from __future__ import annotations

import numpy as np

from detectors.curves.office import stages_beside, stages_of_item
from detectors.rule import Level, between, rule
from schemas.columns import Backlogs, Column, Overdue, Traces


@rule(
    Overdue,
    severity=3,
    worse=(Level(1.25, 2, 0), Level(2.5, 1, 0)),
    title=("Stage overdue", "环节超时"),
    text=(
        "The stage has taken {share:.0%} of its {limit_hours:.0f} hours.",
        "该环节已用{limit_hours:.0f}小时时限的{share:.0%}。",
    ),
    curve=stages_beside,
    explained_by=(),
)
def stage_overdue(share: Column, limit_hours: Column, *, warn: float = 0.80) -> Column:  # noqa: ARG001 - evidence
    """A stage nears (80 %), passes or doubles its time limit, though nothing happens (环节超时). Catalogue 1.7."""
    return share / warn


@rule(
    Overdue,
    severity=2,
    title=("Stage stalled", "环节停滞"),
    text=(
        "It has stood for {stalled:.1f} times the {usual_hours:.1f} hours in which 95 % of such stages that end do.",
        "该环节停留时间已达同类已办结环节95%完成时长({usual_hours:.1f}小时)的{stalled:.1f}倍,无进展。",
    ),
    curve=stages_beside,
    explained_by=(),
)
def stage_stall(stalled: Column, usual_hours: Column, *, times: float = 2.0) -> Column:  # noqa: ARG001 - evidence
    """No event for twice the time in which the section finished 95 % of its work in that stage. Catalogue 1.7.

    Learned from the stays of 180 days, at least 20 of them ended, as known three days before this stay began, without
    their pauses. If many never end, the usual time is that of 99 % of the ended stays older than 90 days; a stage in
    which nearly no stay ends is the last, and cannot stall. Defaults of this project. Judged at 1 to 8 times.
    """
    return stalled / times


@rule(
    Overdue,
    severity=3,
    title=("Stage likely to be overdue", "环节预计超时"),
    text=(
        (
            "After {used_share:.0%} of its {limit_hours:.0f} hours the chance is {overdue_chance:.0%} that the stage "
            "passes its limit."
        ),
        "该环节已用{limit_hours:.0f}小时时限的{used_share:.0%},预计超时概率{overdue_chance:.0%}。",
    ),
    curve=stages_beside,
    explained_by=(),
)
def stage_overdue_expected(
    overdue_chance: Column,
    used_share: Column,  # noqa: ARG001 - evidence
    limit_hours: Column,  # noqa: ARG001 - evidence
    *,
    chance: float = 0.8,
) -> Column:
    """A stage will likely pass its limit, as known when 25, 50 or 75 % of it have passed (环节预计超时).

    The section's model learns it from all stays that began with a limit, as known three days before: by stage, the
    stage before, the time since then, and the weekday and hour at which the limit passes; at least 50 such stays.
    80 %: default of this project.
    """
    return overdue_chance / chance


@rule(
    Traces,
    severity=2,
    title=("Stages out of order", "环节顺序异常"),
    text=(
        "It has entered a stage and not finished those before it: {unfinished:.0f}.",
        "已进入后续环节,前序未完成环节数:{unfinished:.0f}。",
    ),
    curve=stages_of_item,
    explained_by=(),
)
def stage_disorder(unfinished: Column, *, stages: float = 1.0) -> Column:
    """An item enters a stage before it has finished the stages before it (环节顺序异常). Catalogue 1.7."""
    return between(unfinished >= stages, unfinished == 0)


@rule(
    Backlogs,
    severity=2,
    title=("Many items stuck in a stage", "环节批量积压"),
    text=(
        (
            "At midnight {stuck:.0f} items, {stuck_share:.0%} of the section's[ {open_items:.0f}] open ones, stood in "
            "it overdue or stalled."
        ),
        "零点时该环节有{stuck:.0f}件超时或停滞,占本班组[{open_items:.0f}件]在办的{stuck_share:.0%}。",
    ),
    curve=None,
    explained_by=(),
)
def stage_batch_stuck(
    stuck: Column, stuck_share: Column, *, share: float = 0.05, least: float = 5.0
) -> Column:
    """Of a section's open items 5 %, five at least, are stuck in one stage (批量积压). Catalogue 1.7, `stage_stall`.

    An item is stuck if it has passed its limit or stays twice as long as usual; counted every local midnight. The least
    number is a default of this project.
    """
    return np.minimum(stuck / least, stuck_share / share)
