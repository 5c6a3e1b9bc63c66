"""The limits of the fuzzer: an endless example is a find, and the end of its time is none."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import fuzz
from tests.fuzz import __main__ as rounds


def test_an_example_without_end_is_a_find(monkeypatch):
    monkeypatch.setattr(fuzz, "EXAMPLE_SECONDS", 0.05)

    @fuzz.bounded(2)
    @given(st.integers())
    def stands_still(_):
        while True:
            pass

    with pytest.raises(fuzz.EndlessExampleError, match="CPU"):
        stands_still()


def test_test_ends_without_a_find_when_its_time_is_up(monkeypatch):
    monkeypatch.setattr(fuzz, "TEST_SECONDS", 0.05)
    judged = []

    @fuzz.bounded(2)
    @given(st.integers())
    def judges(value):
        judged.append(value)

    judges()
    assert 2 < len(judged) < fuzz.MOST_EXAMPLES


def test_finding_of_a_test_is_raised():
    @fuzz.bounded(20)
    @given(st.integers())
    def finds(value):
        assert value != 0

    with pytest.raises(AssertionError):
        finds()


@pytest.mark.parametrize(
    ("code", "stuck"),
    [
        ("import time; time.sleep(60)", False),
        ("sum(range(10**13))", True),
        ("raise SystemExit(3)", False),
    ],
)
def test_a_round_ends_when_its_time_is_over(monkeypatch, code, stuck):
    run = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    monkeypatch.setattr(rounds, "PYTEST_COMMAND", (sys.executable, "-c", run + code))
    monkeypatch.setattr(rounds, "OVERHEAD_SECONDS", 2.0)
    monkeypatch.setattr(rounds, "STUCK_SECONDS", 0.001)
    if stuck:
        with pytest.raises(SystemExit, match="within one call"):
            rounds.finished(1.0, time.monotonic() + 3)
    else:
        assert rounds.finished(1.0, time.monotonic() + 3) == 3 * ("Exit" in code)
