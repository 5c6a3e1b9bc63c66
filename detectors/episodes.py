"""From scores to episodes: raise after `hold` seconds of trouble, escalate, clear after `release` seconds of well."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectors.rule import DISPROVED_SCORE, Rule
from models.cells import Array, Cells
from models.state import Owner, Schema, State, StateError, same_length, within
from schemas.alert import Alert
from schemas.columns import (
    Batch,
    Clocks,
    Codes,
    Column,
    Intervals,
    Mask,
    Readings,
    Times,
)
from schemas.units import DAY_SECONDS, HOUR_SECONDS

LULL_SECONDS: dict[type[Batch], int] = {
    Readings: 2 * HOUR_SECONDS,
    Intervals: 2 * HOUR_SECONDS,
    Clocks: 3 * DAY_SECONDS,
}
# observations further apart than this, and than the hold, do not make one run; other kinds have no gaps
NO_SEVERITY = 99  # no severity
FEW_ROWS = 100  # rows that are judged one by one without asking first which of them may change anything
WEEK_DAYS = 7


class EpisodeChange(NamedTuple):
    """A row at which an episode changed, with when its trouble began and its severity now, 0 where it cleared."""

    row: int
    since: int
    severity: int
    disproved: bool
    week_s: int  # seconds of trouble in the last seven days, of a chronic state


class EpisodeState:
    """How a subject stands: since when it is in trouble at each level, since when well though raised, how severe.

    Of a chronic state also the seconds of trouble in each of the last days, the last of these, and when it was told.
    """

    __slots__ = (
        "day",
        "last_revised",
        "rows",
        "severity",
        "since",
        "trouble_seconds",
        "well_since",
    )

    def __init__(
        self,
        since: list[int],
        well: int,
        severity: int,
        spent: list[int] | None = None,
        day: int = 0,
        told: int = 0,
    ) -> None:
        self.since, self.well_since, self.severity = since, well, severity
        self.trouble_seconds, self.day, self.last_revised = (
            spent or [0] * WEEK_DAYS,
            day,
            told,
        )
        self.rows = 0  # judged in this fold

    def clear(self) -> None:
        """Be as if nothing had been."""
        self.since, self.well_since, self.severity = [0] * len(self.since), 0, 0
        self.trouble_seconds, self.day, self.last_revised = [0] * WEEK_DAYS, 0, 0

    def add_trouble(self, t: int, seconds: int) -> None:
        """Add seconds of trouble to those of a row's day, and drop those of days before the last seven."""
        today = t // DAY_SECONDS
        for day in range(WEEK_DAYS):
            if today - (today - day) % WEEK_DAYS > self.day:
                self.trouble_seconds[day] = 0
        self.trouble_seconds[today % WEEK_DAYS] += seconds
        self.day = max(today, self.day)

    def is_due_again(self, t: int) -> bool:
        """Whether a row comes a day after the raise, or a week after it was told last."""
        again = (
            DAY_SECONDS
            if self.last_revised - self.since[0] < DAY_SECONDS
            else WEEK_DAYS * DAY_SECONDS
        )
        return self.last_revised > 0 and t - self.last_revised >= again


class Episodes(Owner):
    """The episodes of one rule, of the subjects that it watches: those with trouble to remember."""

    expendable = True

    def __init__(self, rule: Rule, tracked: Cells) -> None:
        self.rule, self.version = rule, rule.meaning
        self._tracked = tracked  # by subject, how many rules watch it
        self._max_gap = max(LULL_SECONDS.get(rule.kind, 0), rule.levels[0].hold)
        self.slots = np.zeros(0, np.int32)  # in ascending order
        self.cells: dict[str, Array] = {
            "since": np.zeros(
                (len(rule.levels), 0), np.uint32
            ),  # start of the run at each level, 0 when there is none
            "well_since": np.zeros(0, np.uint32),  # start of the calm while raised
            "severity": np.zeros(0, np.uint8),  # 0 when not raised
        }
        if rule.chronic:
            self.cells |= {
                "trouble_seconds": np.zeros(
                    (WEEK_DAYS, 0), np.uint32
                ),  # seconds of trouble in each of the last days
                "day": np.zeros(0, np.uint32),  # the last of them
                "last_revised": np.zeros(0, np.uint32),  # when it was told last
            }
        self.open: dict[int, Alert] = {}  # what was last told of each raised episode

    def positions(self, slots: Codes) -> tuple[Codes, Mask]:
        """Where in the table some slots stand or would stand, and which stand there."""
        if not len(self.slots):
            return np.zeros(len(slots), np.int64), np.zeros(len(slots), bool)
        place = np.minimum(np.searchsorted(self.slots, slots), len(self.slots) - 1)
        return place, self.slots[place] == slots

    def update(
        self, rows: Codes, slots: Codes, at: Times, score: Column, gap: Column | None
    ) -> list[EpisodeChange]:
        """Judge rows in order of arrival; `gap` is the seconds since the slot's previous row. None is NaN.

        Slots, times, scores and gaps are those of the rows. Each slot's first change is told before any slot's second.
        """
        if (
            len(rows) > FEW_ROWS
            and not self.rule.chronic
            and not (mine := self._may_change(slots, at, score)).all()
        ):
            rows, slots, at, score = rows[mine], slots[mine], at[mine], score[mine]
            gap = None if gap is None else gap[mine]
        if not len(rows):
            return []
        subjects, places = np.unique(slots, return_inverse=True)
        held = self._cells_of(subjects)
        standing = [
            EpisodeState(*told)
            for told in zip(*(held[name].T.tolist() for name in held), strict=True)
        ]
        gap = np.zeros(len(rows)) if gap is None else gap
        found: list[tuple[int, EpisodeChange]] = []
        for row, place, t, x, apart in zip(
            *(c.tolist() for c in (rows, places, at, score, gap)), strict=True
        ):
            one = standing[place]
            one.rows += 1
            if (since := self._judge_row(one, t, x, apart)) is not None:
                found.append(
                    (
                        one.rows,
                        EpisodeChange(
                            row,
                            since,
                            one.severity,
                            x == DISPROVED_SCORE,
                            sum(one.trouble_seconds),
                        ),
                    )
                )

        now = {
            name: np.array([getattr(one, name) for one in standing]).T for name in held
        }
        self._write_cells(subjects, now, (now["severity"] > 0) | (now["since"][0] > 0))
        return [change for _, change in sorted(found)]

    def _cells_of(self, slots: Codes) -> dict[str, Array]:
        """What is remembered of some slots, 0 of those that are not watched."""
        place, known = self.positions(slots)
        held = {
            name: np.zeros((*array.shape[:-1], len(slots)), np.int64)
            for name, array in self.cells.items()
        }
        for name, array in self.cells.items():
            held[name][..., known] = array[..., place[known]]
        return held

    def _may_change(self, slots: Codes, t: Times, x: Column) -> Mask:
        """The rows of slots of which one may change what is remembered; none does where trouble goes on as it was."""
        subjects, places = np.unique(slots, return_inverse=True)
        held = self._cells_of(subjects)
        severity = held["severity"][places]
        still = (
            (severity > 0) & (x >= self.rule.clear) & (held["well_since"][places] == 0)
        )
        for n, level in enumerate(self.rule.levels):
            since = held["since"][n, places]
            worse = (level.severity < severity) & (t - since >= level.hold)
            still &= np.where(
                x >= level.score, (since > 0) & ~worse, (n == 0) | (since == 0)
            )
        return (np.bincount(places, ~still) > 0)[places]

    def _judge_row(self, one: EpisodeState, t: int, x: float, gap: float) -> int | None:
        """Judge a row of a subject; since when there was trouble, where its episode changed or is told again."""
        up = one.severity > 0
        broken = not up and not gap <= self._max_gap  # NaN: it cannot be told
        best = one.severity or NO_SEVERITY
        for n, level in enumerate(self.rule.levels):
            if x >= level.score:
                if broken or not one.since[n]:
                    one.since[n] = t
                if t - one.since[n] >= level.hold:
                    best = min(best, level.severity)
            elif n or not up:
                one.since[n] = 0

        since = one.since[0]
        if up and x < self.rule.clear:
            one.well_since = min(one.well_since or t, t)
            if t - one.well_since >= self.rule.release or x == DISPROVED_SCORE:
                one.clear()
                return since
        else:
            one.well_since = 0
        again = self.rule.chronic and self._count_week(one, t, x, gap)
        if best in (NO_SEVERITY, one.severity) and not again:
            if not since and not up:
                one.clear()
            return None
        one.severity, one.last_revised = best, t if self.rule.chronic else 0
        return since

    def _count_week(self, one: EpisodeState, t: int, x: float, gap: float) -> bool:
        """Add a row of a chronic state to its week; whether it is to be told again."""
        trouble = x >= self.rule.levels[0].score
        one.add_trouble(t, int(gap) if trouble and gap <= self._max_gap else 0)
        return trouble and one.severity > 0 and one.is_due_again(t)

    def _write_cells(
        self, slots: Codes, cells: dict[str, Array], tracked: Mask
    ) -> None:
        """Remember what some slots have now, and forget those that are not watched."""
        place, known = self.positions(slots)
        left, come = known & ~tracked, tracked & ~known
        if known.any():
            for name, array in self.cells.items():
                array[..., place[known]] = cells[name][..., known]
        if left.any() or come.any():
            self._tracked["rules"][slots[left]] -= 1
            self._tracked["rules"][slots[come]] += 1
            kept = np.ones(len(self.slots), bool)
            kept[place[left]] = False
            both = np.concatenate([self.slots[kept], slots[come].astype(np.int32)])
            order = np.argsort(both, kind="stable")
            self.slots = both[order]
            for name, array in self.cells.items():
                new = cells[name][..., come].astype(array.dtype)
                self.cells[name] = np.concatenate([array[..., kept], new], axis=-1)[
                    ..., order
                ]

    def read(self, slots: Codes) -> dict[str, Array]:
        """What is remembered of those of some slots that are watched."""
        place, known = self.positions(slots)
        return {"slots": slots[known]} | {
            name: array[..., place[known]] for name, array in self.cells.items()
        }

    def write_back(self, slots: Codes, saved: dict[str, Array]) -> None:
        """Go back to what `read` gave of these slots."""
        self.clear(slots)
        self._write_cells(saved["slots"], saved, np.ones(len(saved["slots"]), bool))

    def clear(self, slots: Codes) -> None:
        """Remember nothing of some slots."""
        nothing = {
            name: np.zeros((*array.shape[:-1], len(slots)), np.int64)
            for name, array in self.cells.items()
        }
        self._write_cells(slots, nothing, np.zeros(len(slots), bool))

    def schema(self) -> Schema:
        """What is remembered of a subject that is watched, and what was last told of it."""
        cells = {
            name: np.zeros(array.shape[:-1], array.dtype)
            for name, array in self.cells.items()
        }
        return {
            "slots": np.zeros((), self.slots.dtype),
            **cells,
            "open": dict[int, Alert],
        }

    def state(self) -> State:
        """Everything remembered."""
        return {"slots": self.slots, **self.cells, "open": self.open}

    def reshaped(self, columns: State) -> State:
        """With as many levels as the rule has: a run at a level that is new begins with the next row."""
        since = columns.get("since")
        if not isinstance(since, np.ndarray) or since.ndim != 2:
            return columns
        levels, held = len(self.rule.levels), since[: len(self.rule.levels)]
        more = np.zeros((levels - len(held), since.shape[1]), since.dtype)
        return columns | {"since": np.concatenate([held, more])}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave; all subjects have room. Raises StateError."""
        slots, self.open = state.get("slots", self.slots[:0]), state.get("open", {})
        within("a subject", slots, 0, self._tracked.used - 1)
        cells = {
            name: state.get(
                name, np.zeros((*array.shape[:-1], len(slots)), array.dtype)
            )
            for name, array in self.cells.items()
        }
        same_length([slots, *cells.values()])
        if (np.diff(slots) <= 0).any() or self.open.keys() != set(
            slots[cells["severity"] > 0].tolist()
        ):
            raise StateError("its open episodes are not those of its subjects")
        self.write_back(self.slots, {"slots": slots, **cells})
