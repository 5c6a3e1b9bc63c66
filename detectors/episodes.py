"""From scores to episodes: raise after `hold` seconds, escalate, clear after `release` seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detectors.rule import DISPROVED_SCORE, Rule
from models.state.cells import Array, Cells
from models.state.owners import Owner, Schema, State, StateError, same_length, within
from models.state.runs import ascending
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

# observations further apart than this, and than the hold, do not make one run; the
# rows of other kinds have no gaps
LULL_SECONDS: dict[type[Batch], int] = {
    Readings: 2 * HOUR_SECONDS,
    Intervals: 2 * HOUR_SECONDS,
    Clocks: 3 * DAY_SECONDS,
}
NO_SEVERITY = 99
FEW_ROWS = (
    100  # at most so many rows are judged without looking for the rows that matter
)
WEEK_DAYS = 7


class EpisodeChange(NamedTuple):
    """A row at which an episode changed, since when it has trouble, and its severity, 0 if cleared."""

    row: int
    since: int
    severity: int
    disproved: bool
    week_s: int  # seconds of trouble in the last seven days, of a chronic state


class EpisodeState:
    """The state of a subject: since when it is in trouble at each level, since when well while raised, how severe.

    A chronic state also has the seconds of trouble in each of the last days, the last of these days, and the time of
    its last alert.
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
        well_since: int,
        severity: int,
        trouble_seconds: list[int] | None = None,
        day: int = 0,
        last_revised: int = 0,
    ) -> None:
        self.since = since
        self.well_since = well_since
        self.severity = severity
        self.trouble_seconds = trouble_seconds or [0] * WEEK_DAYS
        self.day = day
        self.last_revised = last_revised
        self.rows = 0  # judged in this batch

    def clear(self) -> None:
        """Forget all trouble."""
        self.since = [0] * len(self.since)
        self.well_since = 0
        self.severity = 0
        self.trouble_seconds = [0] * WEEK_DAYS
        self.day = 0
        self.last_revised = 0

    def add_trouble(self, at: int, seconds: int) -> None:
        """Add seconds of trouble to the day of a row, and drop those of days before the last seven."""
        today = at // DAY_SECONDS
        for weekday in range(WEEK_DAYS):
            latest = today - (today - weekday) % WEEK_DAYS
            if latest > self.day:
                self.trouble_seconds[weekday] = 0

        self.trouble_seconds[today % WEEK_DAYS] += seconds
        self.day = max(today, self.day)

    def is_due_again(self, at: int) -> bool:
        """Whether a row comes a day after the raise, or a week after the last alert."""
        if not self.last_revised:
            return False
        is_first_day = self.last_revised - self.since[0] < DAY_SECONDS
        pause = DAY_SECONDS if is_first_day else WEEK_DAYS * DAY_SECONDS
        return at - self.last_revised >= pause


class Episodes(Owner):
    """The episodes of one rule, of the subjects that it tracks: subjects with trouble to remember."""

    expendable = True

    def __init__(self, rule: Rule, tracked: Cells) -> None:
        self.rule = rule
        self.version = rule.meaning
        self._tracked = tracked  # by subject: how many rules track it
        self._max_gap = max(LULL_SECONDS.get(rule.kind, 0), rule.levels[0].hold)
        self.slots = np.zeros(0, np.int32)  # in ascending order

        # since: the start of the run at each level, 0 without a run
        # well_since: the start of the calm while raised
        # severity: 0 when not raised
        self.cells: dict[str, Array] = {
            "since": np.zeros((len(rule.levels), 0), np.uint32),
            "well_since": np.zeros(0, np.uint32),
            "severity": np.zeros(0, np.uint8),
        }
        # trouble_seconds: in each of the last days; day: the last of them
        # last_revised: the time of the last alert
        if rule.chronic:
            self.cells |= {
                "trouble_seconds": np.zeros((WEEK_DAYS, 0), np.uint32),
                "day": np.zeros(0, np.uint32),
                "last_revised": np.zeros(0, np.uint32),
            }
        self.open: dict[int, Alert] = {}  # by slot: the last alert of a raised episode

    def positions(self, slots: Codes) -> tuple[Codes, Mask]:
        """The positions in the table where `slots` are or would be, and which are there."""
        count = len(self.slots)
        if not count:
            none = np.zeros(len(slots), np.int64)
            return none, none > 0
        places = np.searchsorted(self.slots, slots)
        places = np.minimum(places, count - 1)
        return places, self.slots[places] == slots

    def update(
        self, rows: Codes, slots: Codes, at: Times, score: Column, gap: Column | None
    ) -> list[EpisodeChange]:
        """Judge rows in order of arrival; `gap` is the seconds since the slot's row before. No score is NaN.

        Slots, times, scores and gaps are those of the rows. Each slot's first change comes before any second change.
        """
        gap = np.zeros(len(rows)) if gap is None else gap
        if len(rows) > FEW_ROWS and not self.rule.chronic:
            kept = self._may_change(slots, at, score)
            if not kept.all():
                rows = rows[kept]
                slots = slots[kept]
                at = at[kept]
                score = score[kept]
                gap = gap[kept]
        if not len(rows):
            return []

        subjects, places = np.unique(slots, return_inverse=True)
        cells = [array.T.tolist() for array in self._cells_of(subjects).values()]
        states = [EpisodeState(*values) for values in zip(*cells, strict=True)]
        columns = (rows, places, at, score, gap)
        changes = self._changes(states, [column.tolist() for column in columns])
        self._write_states(subjects, states)
        return changes

    def _changes(
        self, states: list[EpisodeState], columns: list[list[Any]]
    ) -> list[EpisodeChange]:
        """Judge rows, given by row, place in `states`, time, score and gap; the changes of episodes in order."""
        found: list[tuple[int, EpisodeChange]] = []
        for row, place, at, score, gap in zip(*columns, strict=True):
            state = states[place]
            state.rows += 1
            since = self._judge_row(state, at, score, gap)
            if since is None:
                continue

            disproved = score == DISPROVED_SCORE
            week_s = sum(state.trouble_seconds)
            change = EpisodeChange(row, since, state.severity, disproved, week_s)
            found.append((state.rows, change))
        return [change for _, change in sorted(found)]

    def _write_states(self, slots: Codes, states: list[EpisodeState]) -> None:
        """Write the states of `slots`, and drop slots without trouble."""
        cells: dict[str, Array] = {}
        for name in self.cells:
            values = [getattr(state, name) for state in states]
            cells[name] = np.array(values).T

        first_since = cells["since"][0]
        tracked = (cells["severity"] > 0) | (first_since > 0)
        self._write_cells(slots, cells, tracked)

    def _cells_of(self, slots: Codes) -> dict[str, Array]:
        """The cells of `slots`, 0 for slots that are not tracked."""
        places, known = self.positions(slots)
        found = places[known]
        cells = self._nothing(len(slots))
        for name, array in self.cells.items():
            cells[name][..., known] = array[..., found]
        return cells

    def _nothing(self, count: int) -> dict[str, Array]:
        """The cells of so many slots without trouble."""
        nothing: dict[str, Array] = {}
        for name, array in self.cells.items():
            shape = (*array.shape[:-1], count)
            nothing[name] = np.zeros(shape, np.int64)
        return nothing

    def _may_change(self, slots: Codes, at: Times, score: Column) -> Mask:
        """The rows of slots of which one row may change the state; none does while trouble goes on."""
        subjects, places = np.unique(slots, return_inverse=True)
        saved = self._cells_of(subjects)
        severity = saved["severity"][places]
        is_calm = saved["well_since"][places] > 0
        in_trouble = score >= self.rule.clear
        unchanged = (severity > 0) & in_trouble & ~is_calm

        for n, level in enumerate(self.rule.levels):
            since = saved["since"][n, places]
            is_held = at - since >= level.hold
            escalates = is_held & (level.severity < severity)
            goes_on = (since > 0) & ~escalates
            stays_well = (since == 0) | (n == 0)
            unchanged &= np.where(score >= level.score, goes_on, stays_well)

        changing = np.bincount(places, ~unchanged) > 0
        return changing[places]

    def _judge_row(
        self, state: EpisodeState, at: int, score: float, gap: float
    ) -> int | None:
        """Judge a row of a subject; since when it has trouble, if its episode changes or is due."""
        is_raised = state.severity > 0
        # a NaN gap breaks a run too
        is_broken = not is_raised and not gap <= self._max_gap
        severity = state.severity or NO_SEVERITY
        for n, level in enumerate(self.rule.levels):
            if score >= level.score:
                if is_broken or not state.since[n]:
                    state.since[n] = at
                is_held = at - state.since[n] >= level.hold
                if is_held:
                    severity = min(severity, level.severity)
            elif n or not is_raised:
                state.since[n] = 0

        since = state.since[0]
        if is_raised and score < self.rule.clear:
            state.well_since = min(state.well_since or at, at)
            well_seconds = at - state.well_since
            is_released = well_seconds >= self.rule.release
            if is_released or score == DISPROVED_SCORE:
                state.clear()
                return since
        else:
            state.well_since = 0

        is_due = self.rule.chronic and self._count_week(state, at, score, gap)
        if severity in (NO_SEVERITY, state.severity) and not is_due:
            if not since and not is_raised:
                state.clear()
            return None
        state.severity = severity
        state.last_revised = at if self.rule.chronic else 0
        return since

    def _count_week(
        self, state: EpisodeState, at: int, score: float, gap: float
    ) -> bool:
        """Add a row of a chronic state to its week; whether another alert is due."""
        trouble = score >= self.rule.levels[0].score
        counts = trouble and gap <= self._max_gap
        state.add_trouble(at, int(gap) if counts else 0)
        return trouble and state.severity > 0 and state.is_due_again(at)

    def _write_cells(
        self, slots: Codes, cells: dict[str, Array], tracked: Mask
    ) -> None:
        """Write the cells of `slots`, and drop slots that are not `tracked`."""
        places, known = self.positions(slots)
        if known.any():
            found = places[known]
            for name, array in self.cells.items():
                array[..., found] = cells[name][..., known]
        if (known == tracked).all():
            return

        dropped = known & ~tracked
        added = tracked & ~known
        rule_counts = self._tracked["rules"]
        rule_counts[slots[dropped]] -= 1
        rule_counts[slots[added]] += 1

        kept = np.ones(len(self.slots), bool)
        kept[places[dropped]] = False
        new_slots = slots[added].astype(np.int32)
        joined = np.concatenate([self.slots[kept], new_slots])
        order = np.argsort(joined, kind="stable")
        self.slots = joined[order]
        for name, array in self.cells.items():
            new = cells[name][..., added].astype(array.dtype)
            both = np.concatenate([array[..., kept], new], axis=-1)
            self.cells[name] = both[..., order]

    def read(self, slots: Codes) -> dict[str, Array]:
        """The state of the tracked slots among `slots`."""
        places, known = self.positions(slots)
        found = places[known]
        saved: dict[str, Array] = {"slots": slots[known]}
        for name, array in self.cells.items():
            saved[name] = array[..., found]
        return saved

    def write_back(self, slots: Codes, saved: dict[str, Array]) -> None:
        """Go back to the state of `slots` that `read` gave."""
        self.clear(slots)
        tracked = saved["slots"]
        self._write_cells(tracked, saved, np.ones(len(tracked), bool))

    def clear(self, slots: Codes) -> None:
        """Forget the state of `slots`."""
        tracked = slots[self.positions(slots)[1]]
        if count := len(tracked):
            self._write_cells(tracked, self._nothing(count), np.zeros(count, bool))

    def schema(self) -> Schema:
        """The cells of a tracked subject, and its last alert."""
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
        """The whole state."""
        return {"slots": self.slots, **self.cells, "open": self.open}

    def reshaped(self, columns: State) -> State:
        """With as many levels as the rule has: a run at a new level begins with the next row."""
        since = columns.get("since")
        if not isinstance(since, np.ndarray) or since.ndim != 2:
            return columns
        levels = len(self.rule.levels)
        kept = since[:levels]
        shape = (levels - len(kept), since.shape[1])
        new = np.zeros(shape, since.dtype)
        return columns | {"since": np.concatenate([kept, new])}

    def load(self, state: State) -> None:
        """Replace the state by that of `state`; all subjects have cells already. Raises StateError."""
        slots = state.get("slots", self.slots[:0])
        self.open = state.get("open", {})
        within("a subject", slots, 0, self._tracked.used - 1)
        cells: dict[str, Array] = {}
        for name, array in self.cells.items():
            shape = (*array.shape[:-1], len(slots))
            empty = np.zeros(shape, array.dtype)
            cells[name] = state.get(name, empty)
        same_length([slots, *cells.values()])

        is_raised = cells["severity"] > 0
        raised = set(slots[is_raised].tolist())
        if not ascending(slots) or self.open.keys() != raised:
            raise StateError("its open episodes are not those of its subjects")
        self.write_back(self.slots, {"slots": slots, **cells})
