"""How long the demo takes, from the command to the report."""
from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.place import CHECKOUT
from bench.results import Result, summed


def measure(folder: Path, *, runs: int) -> Result:
    """`meterwatch demo` as it is, with its 3,000 meters and twelve days."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "streams.cli", "demo", "--report", folder / "demo.html"],
                       stdout=subprocess.DEVNULL, check=True, cwd=CHECKOUT)  # fmt: skip
        found.append(time.perf_counter() - began)
    return summed("demo_seconds", "s", found, "3,000 meters, twelve days")
