"""Spans of time in seconds, the hours of a day, and the time that never comes."""

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
DAY_HOURS = 24
NEVER_TIME = 2**62  # s, later than any time


def whole_units(seconds: int) -> tuple[int, str]:
    """A span as a count of the largest unit that divides it.

    >>> whole_units(7200), whole_units(90), whole_units(0)
    ((2, 'hour'), (90, 'second'), (0, 'day'))
    """
    sizes = {"day": DAY_SECONDS, "hour": HOUR_SECONDS, "minute": MINUTE_SECONDS}
    for unit, size in sizes.items():
        if seconds % size == 0:
            return seconds // size, unit
    return seconds, "second"
