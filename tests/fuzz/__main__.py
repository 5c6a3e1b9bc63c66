"""`python -m tests.fuzz MINUTES`: examples drawn anew for so many minutes and not longer; ends with 1 on a find."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.fuzz import test_decoders, test_state

SHARE_SECONDS = 60.0  # that a test has at once
LEAST_SECONDS = 2.0  # that are worth a round, for each test
KEPT_SECONDS = 10.0  # of a round for its start and its end
INTERRUPTED = 2  # pytest's exit code
COMMAND = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/fuzz")


def main(minutes: float) -> None:
    """Rounds of all tests until the time is over."""
    tests = sum(name.startswith("test_") for module in (test_decoders, test_state) for name in vars(module))
    end = time.monotonic() + 60 * minutes
    for seconds in shares(end, tests):
        if code := finished(seconds, end):
            sys.exit(code)


def shares(end: float, tests: int) -> Iterator[float]:
    """Seconds of each test in the rounds until the end."""
    while (left := (end - time.monotonic() - KEPT_SECONDS) / tests) >= LEAST_SECONDS:
        yield min(left, SHARE_SECONDS)


def finished(seconds: float, end: float) -> int:
    """The exit code of a round; 0 too when its last example goes on at the end, and is stopped."""
    round_ = subprocess.Popen(COMMAND, env=os.environ | {"METERWATCH_FUZZ_SECONDS": str(seconds)})
    try:
        return round_.wait(max(0.0, end - time.monotonic() - KEPT_SECONDS / 2))
    except subprocess.TimeoutExpired:
        round_.send_signal(signal.SIGINT)
    try:
        code = round_.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        round_.kill()
        round_.wait()
        sys.exit("a test did not end when it was interrupted: an example stands still within one call")
    return 0 if code == INTERRUPTED else code


if __name__ == "__main__":
    main(float(sys.argv[1]))
