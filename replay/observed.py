"""The subjects of a history: where they are, their segments, and for how long each meter was read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from replay.history import arrivals
from schemas.columns import Batch, Codes, Payments, Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS


class Observed:
    """Notes the subjects of master data and of batches that pass."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.places: dict[str, set[str]] = defaultdict(set)  # areas of each subject
        self._records: dict[tuple[str, str], list[Meter]] = defaultdict(list)
        # first and last receipt of each meter, by area and meter
        self._spans: dict[tuple[str, str], tuple[int, int]] = {}
        for area in areas:
            self.places[area.area].add(area.area)
            for meter in sorted(area.meters, key=lambda record: record.effective):
                for subject in filter(None, (meter.meter, meter.customer)):
                    self.places[subject].add(area.area)
                    self._records[area.area, subject].append(meter)

    @classmethod
    def joined(cls, parts: Sequence[Observed]) -> Observed:
        """The subjects of several shards of a history, which have no area in common."""
        if len(parts) == 1:
            return parts[0]
        whole = cls([])
        for part in parts:
            for subject, areas in part.places.items():
                whole.places[subject] |= areas
            whole._records |= part._records  # noqa: SLF001
            whole._spans |= part._spans  # noqa: SLF001
        return whole

    def note(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, with their subjects noted."""
        for batch in batches:
            self._note(batch)
            yield batch

    def _note(self, batch: Batch) -> None:
        """Notes the subjects of a batch in order of arrival."""
        arrived = arrivals(batch)
        is_readings = isinstance(batch, Readings)
        for area, subject, first, last in _pairs(batch, batch.subject, batch.names):
            self._place(area, subject)
            if is_readings:
                start = int(arrived[first])
                end = int(arrived[last])
                before, _ = self._spans.setdefault((area, subject), (start, end))
                self._spans[area, subject] = before, end

        if isinstance(batch, Payments):
            for area, channel, _, _ in _pairs(batch, batch.channel, batch.channels):
                self._place(area, channel)

    def _place(self, area: str, subject: str) -> None:
        self.places[area].add(area)
        if subject:
            self.places[subject].add(area)

    def areas(self, subject: str) -> Collection[str]:
        """The areas of a subject, or of the customer or item of a bill or stage; none if it is unknown."""
        owner, _, _ = subject.partition("/")
        known = subject if subject in self.places else owner
        return self.places.get(known, set())

    def customers(self, area: str, meter: str) -> set[str]:
        """The customers that a meter has had."""
        return {record.customer for record in self._records.get((area, meter), ())}

    def names(self, area: str, subject: str) -> set[str]:
        """The names by which a label may mean a subject: its own, its area's, those of its owner and customers."""
        owner, _, _ = subject.partition("/")  # of a bill or stage
        return {area, subject, owner, *self.customers(area, subject)}

    def meters(self) -> set[tuple[str, str]]:
        """Every meter of the master data and of readings, with its area."""
        filed = {
            (area, record.meter)
            for (area, _), records in self._records.items()
            for record in records
        }
        return filed | self._spans.keys()

    def segment(self, area: str, subject: str, at: int) -> str:
        """The segment of a meter or customer at a time, "" if the master data name none."""
        records = self._records.get((area, subject), ())
        in_force = [record for record in records if record.effective <= at]
        record = in_force[-1] if in_force else next(iter(records), None)
        return record.segment if record else ""

    def meter_days(self) -> dict[str, float]:
        """Days from each meter's first reading to its last, by segment at the last; of all under ""."""
        seconds: Counter[str] = Counter()
        for (area, meter), (first, last) in self._spans.items():
            seconds[""] += last - first
            if segment := self.segment(area, meter, last):
                seconds[segment] += last - first
        return {segment: total / DAY_SECONDS for segment, total in seconds.items()}


def _pairs(
    batch: Batch, codes: Codes, names: Sequence[str]
) -> Iterator[tuple[str, str, int, int]]:
    """Each area with a name in a batch, and the first and last row of the two."""
    areas = batch.area.astype(np.int64)
    keys = areas * len(names) + codes
    _, first = np.unique(keys, return_index=True)
    _, behind = np.unique(keys[::-1], return_index=True)
    last = len(keys) - 1 - behind
    for start, end in zip(first.tolist(), last.tolist(), strict=True):
        yield batch.areas[batch.area[start]], names[codes[start]], start, end
