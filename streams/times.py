"""Times as people read them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo


def local_time(at: int, zone: str) -> str:
    """A local time to the minute.

    >>> local_time(1_772_380_800, "Asia/Shanghai")
    '2026-03-02 00:00'
    """
    return datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")
