"""Logs when the brokers stop answering or taking records, every minute, and when they are back."""

from __future__ import annotations

import logging
import time

from streams.kafka.log_limit import LOG_LIMIT

REPORT_SECONDS = 60.0

log = logging.getLogger("meterwatch")


class Outage:
    """The present fault of the brokers, and since when."""

    def __init__(self) -> None:
        self._fault = ""  # what the brokers fail to do, "" if nothing
        self._since = self._reported = 0.0

    def note_fault(self, fault: str, silent: float) -> None:
        """Notes a fault of the brokers that has lasted `silent` seconds, "" for none; logs changes."""
        now = time.monotonic()
        if fault and not self._fault:
            self._since = now - silent
            self._reported = now
            log.warning("the brokers %s; this worker waits for them", fault)
        elif fault and now - self._reported >= REPORT_SECONDS:
            self._reported = now
            log.warning(
                "the brokers %s, now for %.0f s; %d log lines of libraries were kept back",
                fault,
                now - self._since,
                LOG_LIMIT.kept_back(),
            )

        elif self._fault and not fault:
            log.warning(
                "the brokers are back after %.0f s; %d log lines of libraries were kept back",
                now - self._since,
                LOG_LIMIT.kept_back(),
            )
        self._fault = fault
        LOG_LIMIT.brokers_away = bool(fault)
