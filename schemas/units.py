"""Spans of time in seconds, and the hours of a day."""

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
DAY_HOURS = 24
