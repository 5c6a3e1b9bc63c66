"""Whether the brokers answer and take what is published: says when they stop, once a minute, and when it is over."""

from __future__ import annotations

import logging
import time

from streams.log_limit import LOG_LIMIT

REPORT_SECONDS = 60.0

log = logging.getLogger("meterwatch")


class Outage:
    """What is wrong with the brokers, and since when."""

    def __init__(self) -> None:
        self._fault = ""  # what they do not do, "" while all is well
        self._since = self._reported = 0.0

    def note_fault(self, fault: str, silent: float) -> None:
        """Notes what the brokers have not done for some seconds, "" when all is well; logs what is new."""
        now = time.monotonic()
        if fault and not self._fault:
            self._since, self._reported = now - silent, now
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
        self._fault, LOG_LIMIT.brokers_away = fault, bool(fault)
