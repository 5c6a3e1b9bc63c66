"""What bounds the fuzzer: an example without end is a find, and time that is up is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz


def test_an_example_without_end_is_a_find(monkeypatch):
    monkeypatch.setattr(fuzz, "EXAMPLE_SECONDS", 0.05)

    @fuzz.bounded(2)
    @given(st.integers())
    def stands_still(_):
        while True:
            pass

    with pytest.raises(fuzz.EndlessExampleError, match="CPU"):
        stands_still()


def test_when_its_time_is_up_a_test_ends_without_a_find(monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    judged = []

    @fuzz.bounded(2)
    @given(st.integers())
    def judges(value):
        judged.append(value)

    judges()
    assert 2 < len(judged) < fuzz.MANY


def test_what_a_test_finds_is_said():
    @fuzz.bounded(20)
    @given(st.integers())
    def finds(value):
        assert value != 0

    with pytest.raises(AssertionError):
        finds()
