"""How far each area has come by all its topics together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.state.index import Index
from models.state.lost_rows import Holes, Lapses
from models.state.owners import Attributes, within
from schemas.columns import LATEST_TIME, Batch, Codes, Names, Times
from schemas.units import DAY_SECONDS


class AreaTimes:
    """The watermark of each area, by slot, and the spans in which rows of a topic were lost."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.watermarks: Times = np.zeros(0, np.int64)
        self.forgotten_days: Times = np.zeros(0, np.int64)  # when old state was dropped
        self.holes = Holes()

        # names, pairs and slots of the last batch
        self._last: tuple[Names, list[tuple[str, str]], Codes]
        self._last = ((), [], np.zeros(0, np.int32))

    @property
    def lost_spans(self) -> Lapses:
        """The spans of time in which rows were lost, by kind."""
        return self.holes.spans

    @lost_spans.setter
    def lost_spans(self, spans: Lapses) -> None:
        self.holes.spans = spans

    def advance(self, until: int) -> None:
        """Move the watermarks of all areas up to a time, if they are behind it."""
        self.watermarks = np.maximum(self.watermarks, until)

    def slots(self, batch: Batch) -> Codes:
        """The area slot of every row."""
        names, pairs, slots = self._last
        if names is not batch.areas or pairs is not self.index.pairs:
            slots = np.array(
                [self.index.slot(area, "") for area in batch.areas], np.int32
            )
            self._last = (batch.areas, self.index.pairs, slots)

        if (more := len(self.index) - len(self.watermarks)) > 0:
            self.watermarks = np.r_[self.watermarks, np.zeros(more, np.int64)]
        return slots[batch.area]

    def names(self, slots: Codes) -> tuple[tuple[str, ...], Codes]:
        """The names of area slots, dictionary-encoded."""
        unique, codes = np.unique(slots, return_inverse=True)
        return tuple(self.index.pairs[slot][0] for slot in unique.tolist()), codes

    def watermark_of(self, area: str) -> int:
        """The watermark of an area; 0 if it has none."""
        slot = self.index.slot(area, "")
        return int(self.watermarks[slot]) if slot < len(self.watermarks) else 0

    def all_watermarks(self) -> dict[str, int]:
        """The watermark of every area, by its name."""
        return self.watermarks_by_name(np.arange(len(self.watermarks)))

    def watermarks_by_name(self, slots: Codes) -> dict[str, int]:
        """The watermarks of areas, by their names."""
        return {
            self.index.pairs[slot][0]: int(self.watermarks[slot])
            for slot in slots.tolist()
        }

    def in_new_days(self) -> Codes:
        """The areas that have entered another day since they forgot old state."""
        more = len(self.watermarks) - len(self.forgotten_days)
        self.forgotten_days = np.concatenate(
            [self.forgotten_days, np.zeros(more, np.int64)]
        )
        return np.flatnonzero(self.watermarks // DAY_SECONDS > self.forgotten_days)

    def note_forgotten(self, slots: Codes) -> None:
        """Note that areas have forgotten the old state of the days before this one."""
        self.forgotten_days[slots] = self.watermarks[slots] // DAY_SECONDS

    def owner(self) -> Attributes:
        """The state of all areas."""
        return Attributes(
            self,
            watermarks=np.zeros((), np.int64),
            forgotten_days=np.zeros((), np.int64),
            lost_spans=Lapses,
        )

    def check(self) -> None:
        """Raises StateError if the loaded state does not fit the index."""
        count = len(self.watermarks)
        within("the number of areas with a watermark", count, 0, len(self.index))
        within(
            "the number of areas that forgot old state",
            len(self.forgotten_days),
            0,
            count,
        )
        within("a watermark", self.watermarks, 0, 2 * LATEST_TIME)


class SubjectWatermarks:
    """The watermarks of areas by subject, of subjects that are numbered for good."""

    def __init__(self, areas: AreaTimes) -> None:
        self._areas = areas
        self._area_slots = np.zeros(0, np.int64)  # by number

    def of(self, places: Sequence[tuple[str, str]]) -> Times:
        """The watermark of each subject's area, given all subjects by number."""
        index = self._areas.index
        new = places[len(self._area_slots) :]
        slots = [index.slot(area, "") for area, _ in new]
        self._area_slots = np.r_[self._area_slots, np.array(slots, np.int64)]
        watermarks = self._areas.watermarks
        missing = np.zeros(len(index) - len(watermarks), np.int64)
        return np.r_[watermarks, missing][self._area_slots]
