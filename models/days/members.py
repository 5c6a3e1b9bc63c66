"""The meters of each area, numbered in the order in which they came."""

from __future__ import annotations

from itertools import chain

import numpy as np

from models.master.registry import Registry
from models.state.cells import Cells
from models.state.owners import State, StateError, within
from models.state.runs import runs, sizes_of
from schemas.columns import Codes


class Members:
    """The members of areas; a meter's number is its row in each of its area's days."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.numbers = Cells(number=np.int32(-1))  # of a meter slot in its area
        self._counts = Cells(members=np.int32(0))  # of an area
        self.meters: dict[int, list[int]] = {}  # of an area

    def load(self, state: State) -> None:
        """Replaces the numbers of meters by `state`, and forgets all areas."""
        self.numbers.load(state)
        self._counts.load({})
        self.meters = {}

    def begin(self, slot: int, meters: list[int]) -> None:
        """Takes in an area with these members, which have their numbers."""
        self.meters[slot] = meters
        self._counts.reserve(slot + 1)
        self._counts["members"][slot] = len(meters)

    def count(self, slots: Codes) -> Codes:
        """The number of members of areas."""
        return self._counts["members"][slots]

    def number(self, meters: Codes) -> Codes:
        """The numbers of meters in their areas."""
        return self.numbers["number"][meters]

    def reserve(self) -> None:
        """Makes room for all meters that are known."""
        self.numbers.reserve(len(self._registry.meter_index))

    def add(self, areas: Codes, meters: Codes) -> None:
        """Numbers the meters, sorted by area, that have no number in their area yet."""
        numbers = self.number(meters)
        unnumbered = np.flatnonzero(numbers < 0)
        if not len(unnumbered):
            return
        _, firsts = np.unique(meters[unnumbered], return_index=True)
        fresh = unnumbered[np.sort(firsts)]
        areas = areas[fresh]
        meters = meters[fresh]

        begins = runs(areas)
        sizes = sizes_of(begins, len(areas))
        slots = areas[begins]
        counts = self._counts["members"]
        offsets = counts[slots] - begins
        places = np.arange(len(meters))
        self.numbers["number"][meters] = places + np.repeat(offsets, sizes)
        counts[slots] += sizes

        by_area = np.split(meters, begins[1:])
        for slot, added in zip(slots.tolist(), by_area, strict=True):
            self.meters[slot] += added.tolist()

    def add_enrolled(self, slots: Codes) -> None:
        """Numbers the meters that the master data have of areas."""
        pairs = self._registry.area_index.pairs
        by_name = self._registry.members
        enrolled = [by_name.get(pairs[slot][0], []) for slot in slots.tolist()]
        sizes = [len(meters) for meters in enrolled]
        every_meter = chain.from_iterable(enrolled)
        meters = np.fromiter(every_meter, np.int64, sum(sizes))
        self.reserve()
        self.add(np.repeat(slots, sizes), meters)

    def of(self, slots: Codes) -> Codes:
        """The members of areas, of one area after another."""
        by_area = [self.meters[slot] for slot in slots.tolist()]
        count = int(self.count(slots).sum())
        return np.fromiter(chain.from_iterable(by_area), np.int32, count)

    def check(self) -> None:
        """Raises StateError if the numbers are not the members' places in their areas."""
        known = self.numbers.used
        within("the number of meters", known, 0, len(self._registry.meter_index))
        expected = np.full(known, -1, np.int32)
        for meters in self.meters.values():
            within("a member", meters, 0, known - 1)
            expected[meters] = np.arange(len(meters))
        if not np.array_equal(expected, self.numbers["number"]):
            raise StateError("the numbers of its meters are not their places in areas")
