"""`python -m bench.stages DATA` has a billing log judged by stage_overdue_expected, and writes what came of it.

The log has no deadlines. A stage's limit is the time in which 90 % of its stays of the first half year were done. The
model learns from the first day on; stays are counted from the second year on, if the log goes on until their limit.
Beside it stand the usual stay, by which stage_stall judges, a gradient boosting on the same facts that is fitted anew
every half year, and a plain alarm at a share of the limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import isnan
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from bench.real import CHECKOUT_FOLDER, filled
from bench.stage_log import StageLog, read_rows, stays_of
from detectors.engine import Engine
from detectors.revisable import JudgeInput, RevisableJudge
from detectors.rule import ALL_RULES
from models.state.cells import Array
from models.timelines.durations import Durations
from models.timelines.hazard import PART_MARKS
from schemas.alert import Alert
from schemas.columns import Codes, Mask, Overdue, StageProgress, Stages
from schemas.units import DAY_SECONDS, NEVER_TIME

PAGE_FILE = CHECKOUT_FOLDER / "docs" / "detection.md"
LOG_NAME = "hospital_billing_stages.parquet"
RULE_NAME = "stage_overdue_expected"
WARM_UP_DAYS = 365  # that are learned from and not counted
GRACE_DAYS = 3  # until rows are sealed
FIT_DAYS = 182  # from one fit of the gradient boosting to the next
FALSE_SHARE = 0.05  # of the stays that end in time, at which recalls are compared
ALARM_MARKS = (0.8, 0.9, 0.98)  # shares of the limit
CHANCE_LINES = (0.5, 0.6, 0.7, 0.8, 0.9)
BANDS_COUNT = 10  # of the table of calibration
CATEGORY_NAMES = ("stage", "previous", "weekday")

Moment = tuple[str, str, int]  # item, stage and event time
Chances = dict[Moment, float]


class _NotingJudge(RevisableJudge):
    """Notes the chances that it is to judge, and judges nothing."""

    def __init__(self, judge: RevisableJudge) -> None:
        super().__init__(lambda is_final: judge.final if is_final else judge.live)
        self.chances: Chances = {}

    def amend(self, slots: Codes, rows: Iterable[JudgeInput]) -> list[Alert]:
        """No alerts; the chances are noted."""
        for judge_input in rows:
            batch = judge_input.batch
            if not isinstance(batch, Overdue):
                raise TypeError(f"{batch.kind} are not overdue")
            for row in np.flatnonzero(batch.used_share > 0).tolist():
                slot = int(judge_input.slots[row])
                item, _, stage = self.live.index.pairs[slot][1].rpartition("/")
                key = item, stage, int(batch.at[row])
                self.chances[key] = float(batch.overdue_chance[row])
        return []


class _Mark(NamedTuple):
    """The stays that reach a mark and whose limit the log can show."""

    rows: Codes  # of the log
    late: Mask
    scores: dict[str, Array]  # by method
    unsure_days: Codes  # of the stays of which this rule cannot tell since a drift


def _chances(rows: Stages, log: StageLog, zone: str) -> Chances:
    """The chance of every stay at every mark, as the engine knew it."""
    by_stage = dict(zip(log.stages, log.limit.tolist(), strict=True))
    limits = np.array([by_stage.get(stage, np.nan) for stage in rows.stages])
    is_start = rows.progress == StageProgress.STARTED
    limited = replace(rows, limit=np.where(is_start, limits[rows.stage], np.nan))

    engine = Engine([ALL_RULES[RULE_NAME]], zone=zone)
    judge = _NotingJudge(engine.judges.revisable["overdue"])
    engine.judges.revisable["overdue"] = judge
    engine.step(limited)
    return judge.chances


def _usual(log: StageLog) -> Array:
    """Seconds in which 95 % of such stays were done, as known when each began."""
    durations = Durations()
    stays = zip(log.stages, log.start.tolist(), log.done.tolist(), strict=True)
    known = list(stays)
    for stage, start, done in known:
        durations.count(("", stage), start, done if done < NEVER_TIME else None, 1)
    days = [start // DAY_SECONDS - GRACE_DAYS for _, start, _ in known]
    return np.array(
        [
            durations.usual(("", stage), day)
            for (stage, *_), day in zip(known, days, strict=True)
        ]
    )


def _boosted(log: StageLog, rows: Codes, at: Array, names: Sequence[str]) -> Array:
    """The chances by a gradient boosting that is fitted every half year to what was known then."""
    facts = np.column_stack([log.facts[name][rows] for name in names])
    deadline = log.start[rows] + log.limit[rows]
    known, late = np.minimum(log.done[rows], deadline), log.done[rows] > deadline
    chances = np.full(len(rows), np.nan)

    fits = np.arange(
        log.start.min() + WARM_UP_DAYS * DAY_SECONDS, log.end, FIT_DAYS * DAY_SECONDS
    )
    for fit in fits.tolist():
        learned = known < fit - GRACE_DAYS * DAY_SECONDS
        asked = (at >= fit) & (at < fit + FIT_DAYS * DAY_SECONDS)
        if not asked.any():
            continue
        categories = [name in CATEGORY_NAMES for name in names]
        model = HistGradientBoostingClassifier(
            categorical_features=categories, random_state=0
        )
        with threadpool_limits(1):
            model.fit(facts[learned], late[learned])
            chances[asked] = model.predict_proba(facts[asked])[:, 1]
    return chances


def _unsure_since_drift(chances: Chances) -> set[Moment]:
    """The moments without a chance in stages that had one before."""
    known_stages: set[str] = set()
    unsure: set[Moment] = set()
    for moment in sorted(chances, key=itemgetter(2)):
        _, stage, _ = moment
        if not isnan(chances[moment]):
            known_stages.add(stage)
        elif stage in known_stages:
            unsure.add(moment)
    return unsure


def _marks(log: StageLog, chances: Chances) -> list[_Mark]:
    """Every mark with the stays that reach it, and what each method says of them."""
    usual = _usual(log)
    peer = ("stage", "previous", "came_after", "weekday", "hour")
    unsure = _unsure_since_drift(chances)
    marks: list[_Mark] = []

    for share in PART_MARKS:
        with np.errstate(invalid="ignore"):
            reached = log.start + np.round(share * log.limit) < log.done
            shown = log.start + log.limit < log.end
        rows = np.flatnonzero(reached & shown)
        at = (log.start[rows] + np.round(share * log.limit[rows])).astype(np.int64)
        late = log.done[rows] > log.start[rows] + log.limit[rows]
        moments = [
            (log.items[row], log.stages[row], when)
            for row, when in zip(rows.tolist(), at.tolist(), strict=True)
        ]
        scores = {
            "this rule": np.array([chances.get(moment, np.nan) for moment in moments]),
            "gradient boosting": _boosted(log, rows, at, peer),
            "gradient boosting with backlog": _boosted(
                log, rows, at, (*peer, "backlog")
            ),
            "usual stay": share * log.limit[rows] / usual[rows],
        }
        counted = at >= log.start.min() + WARM_UP_DAYS * DAY_SECONDS
        is_unsure = np.array([moment in unsure for moment in moments], bool)
        marks.append(
            _Mark(
                rows[counted],
                late[counted],
                {name: score[counted] for name, score in scores.items()},
                at[counted & is_unsure] // DAY_SECONDS,
            )
        )
    return marks


def _recall(score: Array, late: Mask) -> float:
    """The share of late stays above the score that a share of the others passes; NaN warns of nothing."""
    score = np.where(np.isnan(score), -np.inf, score)
    line = np.quantile(score[~late], 1 - FALSE_SHARE, method="higher")
    return float(np.mean(score[late] > line))


def _recall_table(marks: Sequence[_Mark]) -> Iterator[str]:
    """What each method finds at each mark, at an equal share of false warnings."""
    shares = " | ".join(f"At {share:.0%}" for share in PART_MARKS)
    yield f"| Late stays found, at {FALSE_SHARE:.0%} false | {shares} |"
    yield f"|---|{'---|' * len(marks)}"
    for name in marks[0].scores:
        recalls = [f"{_recall(mark.scores[name], mark.late):.1%}" for mark in marks]
        yield f"| {name} | {' | '.join(recalls)} |"
    counts = [f"{mark.late.sum():,} of {len(mark.late):,}" for mark in marks]
    yield f"| late, of the stays that reach the mark | {' | '.join(counts)} |"
    unsure = [
        f"{len(mark.unsure_days) / len(mark.late):.1%} on {len(set(mark.unsure_days.tolist()))} days"
        for mark in marks
    ]
    yield f"| stays of which this rule cannot tell since a drift | {' | '.join(unsure)} |"


def _line_table(log: StageLog, marks: Sequence[_Mark]) -> Iterator[str]:
    """What a line finds and warns of in vain, of all stays with a limit."""
    with np.errstate(invalid="ignore"):
        shown = log.start + log.limit < log.end
    shown &= log.start >= log.start.min() + WARM_UP_DAYS * DAY_SECONDS
    deadline = log.start + log.limit
    late = shown & (log.done > deadline)
    in_time = np.count_nonzero(shown & ~late)

    yield "| Warned | Lead time | Late stays found | Stays in time warned of | Warnings that are right |"
    yield "|---|---|---|---|---|"
    warned: list[tuple[str, float, Mask]] = []
    for line in CHANCE_LINES:
        for share, mark in zip(PART_MARKS, marks, strict=True):
            mask = np.zeros(len(shown), bool)
            mask[mark.rows[mark.scores["this rule"] >= line]] = True
            warned.append((f"chance of {line:.0%} at {share:.0%}", 1 - share, mask))
    for share in ALARM_MARKS:
        mask = log.start + share * log.limit < log.done
        warned.append((f"plain alarm at {share:.0%}", 1 - share, mask))

    for name, lead, mask in warned:
        found = np.count_nonzero(mask & late)
        false = np.count_nonzero(mask & shown & ~late)
        precision = f"{found / (found + false):.1%}" if found + false else ""
        yield (
            f"| {name} | {lead:.0%} of the limit | {found / late.sum():.1%} | {false / in_time:.1%} | {precision} |"
        )


def _calibration_table(marks: Sequence[_Mark]) -> Iterator[str]:
    """How many were late of those of about the same chance."""
    heads = " | ".join(f"At {share:.0%}: mean | Late | Stays" for share in PART_MARKS)
    yield f"| Chance | {heads} |"
    yield f"|---|{'---|' * (3 * len(marks))}"

    for band in range(BANDS_COUNT):
        cells: list[str] = []
        for mark in marks:
            chance = mark.scores["this rule"]
            with np.errstate(invalid="ignore"):
                inside = np.minimum(chance * BANDS_COUNT, BANDS_COUNT - 1) // 1 == band
            count = np.count_nonzero(inside)
            mean = f"{chance[inside].mean():.1%}" if count else ""
            late = f"{mark.late[inside].mean():.1%}" if count else ""
            cells += [mean, late, f"{count:,}"]
        first, last = band / BANDS_COUNT, (band + 1) / BANDS_COUNT
        yield f"| {first:.0%} to {last:.0%} | {' | '.join(cells)} |"


def _verdict(marks: Sequence[_Mark]) -> str:
    """Why the rule is published, or why it is in shadow."""
    recalls = {
        name: [_recall(mark.scores[name], mark.late) for mark in marks]
        for name in ("this rule", "usual stay")
    }

    own, usual = (np.array(recall) for recall in recalls.values())
    found, beside = (
        f"{recall.min():.0%} to {recall.max():.0%}" for recall in (own, usual)
    )
    if (own > usual).all():
        return (
            f"Published because at {FALSE_SHARE:.0%} false it finds {found} of the late stays a quarter to three "
            f"quarters of the limit after they began, and the usual stay {beside}."
        )
    return (
        f"In shadow because at {FALSE_SHARE:.0%} false it finds {found} of the late stays, "
        f"and the usual stay {beside}."
    )


def page(path: Path) -> Iterator[str]:
    """The tables of docs/detection.md, line by line."""
    rows, zone = read_rows(path)
    log = stays_of(rows)
    marks = _marks(log, _chances(rows, log, zone))
    yield from _recall_table(marks)
    yield ""
    yield _verdict(marks)
    yield ""
    yield from _line_table(log, marks)
    yield ""
    yield from _calibration_table(marks)


def main() -> int:
    """Writes the tables into the page, or prints them."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder with the billing log")
    parser.add_argument("--print", action="store_true", help="write no page")
    options = parser.parse_args()
    path = options.data / LOG_NAME
    if not path.exists():
        print(f"{options.data} has no {LOG_NAME}", file=sys.stderr)
        return 2

    lines = list(page(path))
    if options.print:
        print("\n".join(lines))
        return 0
    made = filled(PAGE_FILE.read_text("utf-8"), {"stages": lines}, "bench.stages")
    PAGE_FILE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
