"""An index gives every row's area and subject the same number, whatever it cached of the batch before."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.state.index import RUN_LENGTH, Index
from models.state.owners import StateError
from schemas.columns import Readings

AREA_COUNT = 4
NAMES_PER_AREA = 3 * RUN_LENGTH  # of an area


def whole() -> Readings:
    """Two readings of every meter, as two frames of each area have them."""
    names = [f"M{number}" for number in range(NAMES_PER_AREA)] * AREA_COUNT * 2
    areas = np.tile(np.repeat(np.arange(AREA_COUNT), NAMES_PER_AREA), 2)
    rows = np.arange(len(names))
    return Readings.build(
        names, rows, [f"A{number}" for number in range(AREA_COUNT)], areas, rows
    )


@given(cuts=st.lists(st.integers(1, 2 * AREA_COUNT * NAMES_PER_AREA - 1), max_size=4))
def test_slices_of_a_batch_have_the_slots_of_their_rows(cuts):
    batch = whole()
    sliced = Index()
    single = Index()
    ends = [0, *sorted(set(cuts)), len(batch)]
    for first, last in pairwise(ends):
        piece = batch.select(slice(first, last))
        pairs = zip(piece.area, piece.subject, strict=True)
        expected = [
            single.slot(piece.areas[area], piece.names[subject])
            for area, subject in pairs
        ]
        assert sliced.slots(piece).tolist() == expected


@pytest.mark.parametrize("cut", [NAMES_PER_AREA, AREA_COUNT * NAMES_PER_AREA])
def test_names_of_a_further_slice_are_looked_up_together(monkeypatch, cut):
    index, batch = Index(), whole()
    index.slots(batch)
    monkeypatch.setattr(index, "slot", lambda *_: pytest.fail("looked up alone"))
    repeated = whole()
    index.slots(repeated.select(slice(0, cut)))
    index.slots(repeated.select(slice(cut, None)))


def test_an_area_without_a_name_is_restored():
    index = Index()
    slots = [index.slot(area, "") for area in ("A1", "", "A2", "A3")]
    index.release(np.array([slots[2]]))
    restored = Index()
    restored.load(index.state())
    assert [restored.slot(area, "") for area in ("A1", "", "A3")] == [0, 1, 3]
    assert restored.slot("A4", "") == slots[2]


@pytest.mark.parametrize(
    ("pairs", "free"),
    [
        ([("A", ""), ("A", "")], []),
        ([("A", ""), ("", "")], [1, 1]),
        ([("A", ""), ("", "")], [0]),
        ([("A", ""), ("", "")], [2]),
        ([("", ""), ("", "")], []),
    ],
)
def test_impossible_slots_are_refused(pairs, free):
    with pytest.raises(StateError):
        Index().load({"pairs": pairs, "free": free})
