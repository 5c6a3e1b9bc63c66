"""Local days: when each begins and ends, daylight saving included."""
from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from schemas.columns import Times

FIRST, LAST = date(1999, 12, 31), date(2101, 1, 2)


@lru_cache(maxsize=8)
def midnights(zone: str) -> Times:
    """Unix seconds of every local midnight from 1999 to 2101. Raises ZoneInfoNotFoundError for an unknown zone."""
    info = ZoneInfo(zone)
    days = [FIRST + timedelta(n) for n in range((LAST - FIRST).days)]
    return np.array([int(datetime(d.year, d.month, d.day, tzinfo=info).timestamp()) for d in days], np.int64)


def day_of(at: Times, zone: str) -> Times:
    """The day each interval that ends at `at` belongs to, as an index into midnights; midnight ends the day before.

    >>> day_of(np.array([946684800, 946684801]), "UTC").tolist()
    [0, 1]
    """
    if len(at):
        first, last = (np.searchsorted(midnights(zone), [at.min(), at.max()], side="left") - 1).tolist()
        if first == last:
            return np.full(len(at), first)
    return np.searchsorted(midnights(zone), at, side="left") - 1
