"""`python -m tests.fuzz MINUTES`: examples drawn anew for so many minutes at most; exit code 1 on a find."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import test_decoders, test_state

SHARE_SECONDS = 60.0  # of a test in a round
LEAST_SECONDS = 2.0  # of a test that are worth a round
OVERHEAD_SECONDS = 20.0  # of a round for its start and its end
STUCK_SECONDS = 3.0  # of CPU after an interrupt: more than a busy machine explains
INTERRUPTED_EXIT_CODE = 2  # pytest's exit code
PYTEST_COMMAND = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "tests/fuzz",
)


def main(minutes: float) -> None:
    """Rounds of all tests until the time is over."""
    names = [*vars(test_decoders), *vars(test_state)]
    tests = sum(name.startswith("test_") for name in names)
    end = time.monotonic() + 60 * minutes
    if next(shares(end, tests), None) is None:
        sys.exit(
            f"{minutes:g} minutes are too few for a round of {tests} tests: one takes a minute"
        )
    for seconds in shares(end, tests):
        if code := finished(seconds, end):
            sys.exit(code)


def shares(end: float, tests: int) -> Iterator[float]:
    """Seconds of each test in the rounds until the end."""
    while True:
        left = (end - time.monotonic() - OVERHEAD_SECONDS) / tests
        if left < LEAST_SECONDS:
            return
        yield min(left, SHARE_SECONDS)


def finished(seconds: float, end: float) -> int:
    """The exit code of a round; 0 also when its last example goes on at the end and is stopped."""
    tests = subprocess.Popen(
        PYTEST_COMMAND, env=os.environ | {"METERWATCH_FUZZ_SECONDS": str(seconds)}
    )
    try:
        return tests.wait(max(0.0, end - time.monotonic() - OVERHEAD_SECONDS / 2))
    except subprocess.TimeoutExpired:
        before = used(tests)
        tests.send_signal(signal.SIGINT)

    # It has the rest of the time for ending; a process that uses CPU meanwhile is stuck.
    try:
        code = tests.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        stuck = used(tests) - before > STUCK_SECONDS
        tests.kill()
        tests.wait()
        if stuck:
            sys.exit(
                "a test did not end on an interrupt: an example is stuck within one call"
            )
        return 0
    return 0 if code == INTERRUPTED_EXIT_CODE else code


def used(process: subprocess.Popen[bytes]) -> float:
    """Seconds of CPU that the main thread of a process has used."""
    schedstat = Path(f"/proc/{process.pid}/schedstat").read_text(encoding="ascii")
    nanoseconds, *_ = schedstat.split()
    return int(nanoseconds) / 1e9


if __name__ == "__main__":
    main(float(sys.argv[1]))
