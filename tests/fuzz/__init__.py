"""Whatever the bytes: decoders, checkpoints, snapshots and stores. `make fuzz` goes on for minutes."""
from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = float(os.environ.get("METERWATCH_EXAMPLES", "1"))


def bounded(examples: int) -> settings:
    """So many examples, the same every time, unless METERWATCH_EXAMPLES asks for more."""
    return settings(max_examples=int(examples * EXAMPLES), deadline=None, derandomize=EXAMPLES == 1,
                    suppress_health_check=list(HealthCheck))  # fmt: skip
