"""Readings that arrive out of order, judged in order of time."""
