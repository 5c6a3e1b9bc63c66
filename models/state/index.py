"""Dense slots for subjects: the same area and subject have the same slot for good."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, repeat
from typing import NamedTuple

import numpy as np

from models.state.owners import Owner, Schema, State, StateError
from models.state.runs import runs
from schemas.columns import Batch, Codes, Names

FREE_PAIR = ("", "")
RUN_LENGTH = 8  # mean run of an area's names from which runs are looked up together


class _Dictionary(NamedTuple):
    """The names of the latest batch, and by name the slot and its area's code, -1 if not found."""

    names: Names
    areas: Names
    slot: Codes
    area: Codes


EMPTY_DICTIONARY = _Dictionary((), (), np.zeros(0, np.int32), np.zeros(0, np.int32))


class Index(Owner):
    """Numbers (area, subject) pairs in the order they are first seen.

    >>> index = Index()
    >>> index.slot("A1", "M1"), index.slot("A1", "M2"), index.slot("A1", "M1")
    (0, 1, 0)
    """

    missed = False

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.known: dict[str, dict[str, int]] = {}  # by area
        self.free: list[int] = []
        self._latest = EMPTY_DICTIONARY
        # By area the names that last came in a row, and their slots.
        self._name_runs: dict[str, tuple[Names, Codes]] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def slot(self, area: str, subject: str) -> int:
        """The slot of one pair, new if need be."""
        known = self.known.setdefault(area, {})
        slot = known.get(subject)
        if slot is None:
            pair = str(area), str(subject)
            if self.free:
                slot = self.free.pop()
                self.pairs[slot] = pair
            else:
                slot = len(self.pairs)
                self.pairs.append(pair)
            known[pair[1]] = slot
        return slot

    def shared(self) -> int:
        """The number of subjects that are in more than one area.

        >>> index = Index()
        >>> index.slot("A1", "M1"), index.slot("A1", "M2"), index.slot("A2", "M1"), index.shared()
        (0, 1, 2, 1)
        """
        areas = Counter(subject for known in self.known.values() for subject in known)
        return sum(count > 1 for count in areas.values())

    def release(self, slots: Codes) -> None:
        """Forgets pairs; their slots are given out again."""
        self._latest = EMPTY_DICTIONARY
        for slot in slots.tolist():
            area, subject = self.pairs[slot]
            self._name_runs.pop(area, None)
            del self.known[area][subject]
            self.pairs[slot] = FREE_PAIR
            self.free.append(slot)

    def slots(self, batch: Batch) -> Codes:
        """The slot of every row's area and subject."""
        names = batch.names
        areas = batch.areas
        latest = self._latest
        if names is not latest.names or areas != latest.areas:
            self._latest = self._look_up(batch)
        elif len(batch) and latest.slot[batch.subject[0]] < 0:  # a batch's next part
            self._latest = _completed(latest, self._look_up(batch))

        # Pairs that no run has found are looked up one by one.
        slots = self._latest.slot[batch.subject]
        elsewhere = self._latest.area[batch.subject] != batch.area
        rows = ((slots < 0) | elsewhere).nonzero()[0]
        if len(rows):
            subject = batch.subject[rows]
            area = batch.area[rows]
            pairs = zip(area.tolist(), subject.tolist(), strict=True)
            found = [self.slot(areas[i], names[j]) for i, j in pairs]
            slots[rows] = found
            self._latest.slot[subject] = found
            self._latest.area[subject] = area
        return slots

    def _look_up(self, batch: Batch) -> _Dictionary:
        """The known slots of a batch's names, if the names of an area stand together."""
        names = batch.names
        areas = batch.areas
        count = len(names)
        area = np.full(count, -1, np.int32)
        area[batch.subject[::-1]] = batch.area[::-1]
        slot = np.full(count, -1, np.int32)

        begins = runs(area).tolist()
        if RUN_LENGTH * len(begins) < count:
            for begin, end in pairwise([*begins, count]):
                code = area[begin]
                if code >= 0:
                    own_names = names[begin:end]
                    slot[begin:end] = self._slots_of(areas[code], own_names)
        return _Dictionary(names, areas, slot, area)

    def _slots_of(self, area: str, names: Names) -> Codes:
        """The slots of names of an area, -1 if unknown; an area mostly repeats the same names."""
        run = self._name_runs.get(area)
        if run and run[0] == names:
            return run[1]
        known = self.known.get(area, {})
        found = map(known.get, names, repeat(-1))
        slots = np.fromiter(found, np.int32, len(names))
        if slots.min() >= 0:
            own_names = tuple(self.pairs[slot][1] for slot in slots.tolist())
            self._name_runs[area] = own_names, slots
        return slots

    def schema(self) -> Schema:
        """The pairs by slot, and the slots that are free."""
        return {"pairs": list[tuple[str, str]], "free": list[int]}

    def state(self) -> State:
        """The pairs and the free slots, in order."""
        return {"pairs": self.pairs, "free": self.free}

    def load(self, state: State) -> None:
        """Replaces everything by `state`. Raises StateError if a pair or free slot occurs twice."""
        self._latest = EMPTY_DICTIONARY
        self._name_runs = {}
        self.pairs = state.get("pairs", [])
        self.free = state.get("free", [])
        free = set(self.free)
        if len(free) != len(self.free) or not all(
            0 <= slot < len(self.pairs) and self.pairs[slot] == FREE_PAIR
            for slot in self.free
        ):
            raise StateError("its free slots are not slots without a pair")

        # An area may have no name: its pair looks like that of a free slot.
        self.known = {}
        for slot, (area, subject) in enumerate(self.pairs):
            if slot not in free:
                self.known.setdefault(area, {})[subject] = slot
        if sum(map(len, self.known.values())) + len(free) != len(self.pairs):
            raise StateError("a pair occurs twice")

    def used_slots(self) -> set[int]:
        """The slots that are given out."""
        return set(range(len(self.pairs))).difference(self.free)


def _completed(known: _Dictionary, found: _Dictionary) -> _Dictionary:
    """The known slots of a batch's names, and for the other names the slots found since."""
    unknown = known.slot < 0
    slot = np.where(unknown, found.slot, known.slot)
    area = np.where(unknown, found.area, known.area)
    return known._replace(slot=slot, area=area)
