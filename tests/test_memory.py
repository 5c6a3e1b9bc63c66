"""Memory that a worker frees goes back to the system."""

from __future__ import annotations

from pathlib import Path

from streams.kafka.memory import give_back

BLOCK_BYTES = 60_000  # bytes, small enough for glibc to keep it in a heap


def resident() -> int:
    """Pages in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_freed_memory_between_used_blocks_is_returned():
    blocks = [b"x" * BLOCK_BYTES for _ in range(2000)]
    resident_before = resident()
    kept_blocks = blocks[::50]
    del blocks
    give_back()
    assert (
        resident()
        < resident_before - 0.8 * (2000 - len(kept_blocks)) * BLOCK_BYTES / 4096
    )
