"""From scores to episodes: raise after `hold` seconds of trouble, escalate, clear after `release` seconds of well."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from detectors.rule import DAY, DISPROVED, HOUR, Rule
from models.cells import Array, Cells
from models.grid import waves
from models.state import Owner, Schema, State, StateError, same_length, within
from schemas.alert import Alert
from schemas.columns import Batch, Clocks, Codes, Column, Intervals, Mask, Readings, Times

LULLS: dict[type[Batch], int] = {Readings: 2 * HOUR, Intervals: 2 * HOUR, Clocks: 3 * DAY}
# observations further apart than this, and than the hold, do not make one run; other kinds have no gaps
WEEK_DAYS = 7


class Changes(NamedTuple):
    """Rows at which an episode changed, with when its trouble began and its severity now."""

    rows: Codes
    since: Times
    severity: Codes
    cleared: Column  # 1 where it cleared, 2 where it was disproved


class Episodes(Owner):
    """The episodes of one rule, of the subjects that it watches: those with trouble to remember."""

    expendable = True

    def __init__(self, rule: Rule, watching: Cells) -> None:
        self.rule, self.version = rule, rule.meaning
        self.watching = watching  # by subject, how many rules watch it
        self.lull = max(LULLS.get(rule.kind, 0), rule.levels[0].hold)
        self.slots = np.zeros(0, np.int32)  # in ascending order
        self.cells: dict[str, Array] = {
            "since": np.zeros((len(rule.levels), 0), np.uint32),  # start of the run at each level, 0 when there is none
            "well": np.zeros(0, np.uint32),  # start of the calm while raised
            "severity": np.zeros(0, np.uint8),  # 0 when not raised
        }
        if rule.chronic:
            self.cells |= {
                "spent": np.zeros((WEEK_DAYS, 0), np.uint32),  # seconds of trouble in each of the last days
                "day": np.zeros(0, np.uint32),  # the last of them
                "told": np.zeros(0, np.uint32),  # when it was told last
            }
        self.open: dict[int, Alert] = {}  # what was last told of each raised episode

    def places(self, slots: Codes) -> tuple[Codes, Mask]:
        """Where in the table some slots stand or would stand, and which stand there."""
        if not len(self.slots):
            return np.zeros(len(slots), np.int64), np.zeros(len(slots), bool)
        place = np.minimum(np.searchsorted(self.slots, slots), len(self.slots) - 1)
        return place, self.slots[place] == slots

    def fold(self, rows: Codes, slots: Codes, at: Times, score: Column, gap: Column | None) -> Iterator[Changes]:
        """Judge rows in order of arrival; `gap` is the seconds since the slot's previous row. NaN changes nothing.

        Slots, times, scores and gaps are those of the rows.
        """
        for part in waves(slots):
            yield self.turn(rows[part], slots[part], at[part], score[part], None if gap is None else gap[part])

    def turn(self, rows: Codes, s: Codes, t: Times, x: Column, gap: Column | None) -> Changes:
        """Judge rows of distinct slots, none of them NaN."""
        levels, (place, known) = self.rule.levels, self.places(s)
        held = {name: np.zeros((*array.shape[:-1], len(s)), np.int64) for name, array in self.cells.items()}
        for name, array in self.cells.items():
            held[name][..., known] = array[..., place[known]]
        since, severity, well = held["since"], held["severity"], held["well"]
        up = severity > 0
        best = np.where(up, severity, 99)
        broken = np.zeros(len(s), bool) if gap is None else ~up & ~(gap <= self.lull)  # NaN: it cannot be told
        first = since[0]
        for n, level in enumerate(levels):
            start, reached = since[n], x >= level.score
            start = np.where(reached, np.where((start == 0) | broken, t, start), np.where(up & (n == 0), start, 0))
            best = np.where(reached & (t - start >= level.hold), np.minimum(best, level.severity), best)
            since[n] = start
            first = start if n == 0 else first
        calm = x < self.rule.clear
        well = np.where(up & calm, np.where(well == 0, t, np.minimum(well, t)), 0)
        fall = up & calm & ((t - well >= self.rule.release) | (x == DISPROVED))
        rise = (best < 99) & (best != severity) & ~fall
        if self.rule.chronic:
            spent = np.zeros(len(s)) if gap is None else np.where((gap <= self.lull) & (x >= 1), gap, 0)
            rise |= self.lasts(held, t, spent.astype(np.int64), first) & up & (x >= 1)
            held["told"] = np.where(rise, t, held["told"])
        now = np.where(fall, 0, np.where(best < 99, best, 0))
        since[:, fall] = well[fall] = 0
        self.write(s, held | {"since": since, "well": well, "severity": now}, (now > 0) | (since[0] > 0))
        changed = rise | fall
        return Changes(rows[changed], first[changed], now[changed], (fall * (1.0 + (x == DISPROVED)))[changed])

    @staticmethod
    def lasts(held: dict[str, Array], t: Times, spent: Codes, since: Times) -> Mask:
        """Add the seconds of trouble that rows bring; which rows come a day after the raise, or a week later."""
        today, before, told = t // DAY, held["day"], held["told"]
        for day in range(WEEK_DAYS):
            held["spent"][day, today - (today - day) % WEEK_DAYS > before] = 0
        held["spent"][today % WEEK_DAYS, np.arange(len(t))] += spent
        held["day"] = np.maximum(today, before)
        return (told > 0) & (t - told >= np.where(told - since < DAY, DAY, WEEK_DAYS * DAY))

    def hours(self, slot: int) -> dict[str, float]:
        """For how many hours of the last seven days a chronic state was there."""
        if not self.rule.chronic:
            return {}
        place, _ = self.places(np.array([slot]))
        return {"week_hours": round(float(self.cells["spent"][:, place[0]].sum()) / HOUR, 2)}

    def write(self, slots: Codes, cells: dict[str, Array], watched: Mask) -> None:
        """Remember what some slots have now, and forget those that are not watched."""
        place, known = self.places(slots)
        for name, array in self.cells.items():
            array[..., place[known]] = cells[name][..., known]
        left, come = known & ~watched, watched & ~known
        if left.any() or come.any():
            self.watching["rules"][slots[left]] -= 1
            self.watching["rules"][slots[come]] += 1
            kept = np.ones(len(self.slots), bool)
            kept[place[left]] = False
            both = np.concatenate([self.slots[kept], slots[come].astype(np.int32)])
            order = np.argsort(both, kind="stable")
            self.slots = both[order]
            for name, array in self.cells.items():
                new = cells[name][..., come].astype(array.dtype)
                self.cells[name] = np.concatenate([array[..., kept], new], axis=-1)[..., order]

    def take(self, slots: Codes) -> dict[str, Array]:
        """What is remembered of those of some slots that are watched."""
        place, known = self.places(slots)
        return {"slots": slots[known]} | {name: array[..., place[known]] for name, array in self.cells.items()}

    def put(self, slots: Codes, taken: dict[str, Array]) -> None:
        """Go back to what `take` gave of these slots."""
        self.clear(slots)
        self.write(taken["slots"], taken, np.ones(len(taken["slots"]), bool))

    def clear(self, slots: Codes) -> None:
        """Remember nothing of some slots."""
        nothing = {name: np.zeros((*array.shape[:-1], len(slots)), np.int64) for name, array in self.cells.items()}
        self.write(slots, nothing, np.zeros(len(slots), bool))

    def schema(self) -> Schema:
        """What is remembered of a subject that is watched, and what was last told of it."""
        cells = {name: np.zeros(array.shape[:-1], array.dtype) for name, array in self.cells.items()}
        return {"slots": np.zeros((), self.slots.dtype), **cells, "open": dict[int, Alert]}

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
        within("a subject", slots, 0, self.watching.used - 1)
        cells = {name: state.get(name, np.zeros((*array.shape[:-1], len(slots)), array.dtype))
                 for name, array in self.cells.items()}  # fmt: skip
        same_length([slots, *cells.values()])
        if (np.diff(slots) <= 0).any() or self.open.keys() != set(slots[cells["severity"] > 0].tolist()):
            raise StateError("its open episodes are not those of its subjects")
        self.put(self.slots, {"slots": slots, **cells})
