"""Spans of time in seconds, the hours of a day, and the time that never comes."""

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
DAY_HOURS = 24
NEVER_TIME = 2**62  # s, later than any time
