"""How long the demo takes, from the command to the report."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.results import Result, summed
from bench.testbed import CHECKOUT_FOLDER, Testbed
from tests.workers import cpu_limited

DEMO_COMMAND = (sys.executable, "-m", "streams.cli", "demo", "--report")


def measure(folder: Path, *, runs: int) -> Result:
    """`meterwatch demo` as it is, with its 3,000 meters and twelve days."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        demo = subprocess.Popen(
            [*DEMO_COMMAND, folder / "demo.html"],
            stdout=subprocess.DEVNULL,
            cwd=CHECKOUT_FOLDER,
        )
        with cpu_limited(demo, Testbed.share):
            if code := demo.wait():
                raise RuntimeError(f"the demo has ended with {code}")
        found.append(time.perf_counter() - began)
    return summed("demo_seconds", "s", found, "3,000 meters, twelve days")
