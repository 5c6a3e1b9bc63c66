"""Sinks: the alerts on their way to other systems."""
