"""The area of each row, looked up by meter or customer in records of areas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.history import Names
from schemas.columns import Batch, Codes, Mask, Payments
from schemas.master import Area

NO_AREA = "?"  # of a row whose area is not looked up yet


class _Membership(NamedTuple):
    """An area that a meter or customer belongs to, from a time on."""

    effective: int
    area: str


class AreaLookup:
    """The areas of meters and of customers, by their newest records."""

    def __init__(self, areas: Iterable[Area] = ()) -> None:
        # by True for customers, then by id
        self._found: dict[bool, dict[str, list[_Membership]]] = {True: {}, False: {}}
        self._members: dict[str, set[tuple[bool, str]]] = {}
        for area in areas:
            self.enroll(area)

    def __len__(self) -> int:
        return len(self._found[False])

    def ids(self, kind: type[Batch]) -> Collection[str]:
        """The meters, or of payments the customers, that have an area."""
        return self._found[kind is Payments].keys()

    def enroll(self, area: Area) -> None:
        """Takes in a record; it replaces the area's earlier one."""
        members: defaultdict[tuple[bool, str], list[int]] = defaultdict(list)
        for meter in area.meters:
            members[False, meter.meter].append(meter.effective)
            if meter.customer:
                members[True, meter.customer].append(meter.effective)
        if area.gateway and (False, area.gateway) not in members:
            members[False, area.gateway].append(0)

        for key in self._members.get(area.area, set()) - members.keys():
            self._place(key, area.area, ())
        for key, effective in members.items():
            # a customer may have meters in several areas at once, a meter comes back
            self._place(key, area.area, [min(effective)] if key[0] else effective)
        self._members[area.area] = set(members)

    def _place(
        self, key: tuple[bool, str], area: str, effective: Sequence[int]
    ) -> None:
        """Notes since when a meter or customer is in an area, again if it was elsewhere between; never without."""
        customers, name = key
        others = [
            membership
            for membership in self._found[customers].get(name, ())
            if membership.area != area
        ]
        others += [_Membership(since, area) for since in effective]
        if others:
            self._found[customers][name] = sorted(others)
        else:
            self._found[customers].pop(name, None)

    def located(self, batch: Batch) -> tuple[Batch, Mask]:
        """The rows with their areas, and which rows have one.

        Of several areas of a meter the latest holds that was effective at the time of the row, else the first.
        """
        found = self._found[isinstance(batch, Payments)]
        seen = Names()
        numbers = np.full(len(batch.names), -1, np.int32)
        moved: list[int] = []
        present = np.unique(batch.subject).tolist()
        known = {code: found.get(batch.names[code], []) for code in present}
        for code, memberships in known.items():
            if memberships:
                numbers[code] = seen.numbers([memberships[0].area])[0]
            if len(memberships) > 1:
                moved.append(code)

        areas: Codes = numbers[batch.subject]
        for code, rows in _rows_by_subject(batch.subject, moved):
            starts = [membership.effective for membership in known[code]]
            places = np.searchsorted(starts, batch.at[rows], "right") - 1
            codes = seen.numbers(membership.area for membership in known[code])
            areas[rows] = codes[np.maximum(places, 0)]

        is_known = areas >= 0
        located = replace(
            batch, areas=seen.names or (NO_AREA,), area=np.maximum(areas, 0)
        )
        return located, is_known


def _rows_by_subject(
    subjects: Codes, some: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The rows of each of some subjects."""
    rows = np.flatnonzero(np.isin(subjects, some))
    rows = rows[np.argsort(subjects[rows], kind="stable")]
    firsts = np.searchsorted(subjects[rows], some, "left").tolist()
    ends = np.searchsorted(subjects[rows], some, "right").tolist()
    for subject, first, end in zip(some, firsts, ends, strict=True):
        yield subject, rows[first:end]
