"""Decoders, checkpoints, snapshots and stores against any bytes. `make fuzz MINUTES=n` goes on for n minutes.

In `make test` each test has a few examples, the same every time; METERWATCH_FUZZ_SECONDS gives each so many seconds of
examples drawn anew. An example that takes EXAMPLE_SECONDS of CPU is a find: its work has no bound.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings

# For each test; 0 runs a few examples.
TEST_SECONDS = float(os.environ.get("METERWATCH_FUZZ_SECONDS", "0"))
FEW_SECONDS = 30.0  # after which the few examples end, however slow the machine is
MOST_EXAMPLES = 1_000_000  # time ends them
EXAMPLE_SECONDS = 30  # of CPU


class EndlessExampleError(BaseException):
    """An example takes too long; no Exception, so that Hypothesis does not look for a smaller one."""


class TimeIsUpError(BaseException):
    """The time of a test is over: no find."""


def bounded(few: int) -> Callable[[Any], Any]:
    """A few examples, the same every time; with METERWATCH_FUZZ_SECONDS as many as fit."""
    drawn = settings(
        max_examples=MOST_EXAMPLES if TEST_SECONDS else few,
        deadline=None,
        derandomize=not TEST_SECONDS,
        suppress_health_check=list(HealthCheck),
    )

    def within_time(test: Any) -> Any:
        test.hypothesis.inner_test = while_time_is_left(
            test.hypothesis.inner_test, TEST_SECONDS or FEW_SECONDS
        )
        test = drawn(test)

        @wraps(test)
        def run() -> None:
            with suppress(TimeIsUpError):
                test()

        return run

    return within_time


def while_time_is_left(
    check: Callable[..., None], seconds: float
) -> Callable[..., None]:
    """The function for so many seconds from its first call on; later calls raise TimeIsUpError."""
    until = 0.0

    @wraps(check)
    def check_in_time(*arguments: Any, **named: Any) -> None:
        nonlocal until
        until = until or time.monotonic() + seconds
        if time.monotonic() > until:
            raise TimeIsUpError
        with limited(EXAMPLE_SECONDS):
            check(*arguments, **named)

    return check_in_time


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises EndlessExampleError in the block once it has taken so many seconds of CPU."""

    def end(_: int, __: FrameType | None) -> None:
        raise EndlessExampleError(
            f"an example has taken {seconds:g} s of CPU and has not ended"
        )

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
