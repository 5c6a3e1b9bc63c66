"""Keeps a log short, however much the libraries log while a broker is away.

A line of a library passes once a minute, and few lines of each library; the next one that passes says how many lines
like it were kept back. While the brokers are known to be away, only critical lines of libraries pass. A warning of the
worker itself passes once a minute, and few of one kind; its information always.
"""

from __future__ import annotations

import logging
import re
import threading
import time

from aiokafka.errors import KafkaError

OWN_LOGGER = "meterwatch"
WINDOW_SECONDS = 60.0
LIBRARY_LINES = 5  # of one library in a window
OWN_LINES = 20  # of one kind of the worker in a window
REMEMBERED_LINES = 1_000  # different lines of which the log knows when they passed
TEMPLATE_LENGTH = 80  # characters in which two lines must differ
VARYING_TEXT = re.compile(r"0x[0-9a-f]+|'[^']*'|\"[^\"]*\"|\d+")
# Lines at the start of a worker, at each rebalance, and at a long step.
EXPECTED_LINES = (
    (
        "aiokafka.consumer.group_coordinator",
        "Group Coordinator Request failed: [Error 15]",
    ),
    ("aiokafka.consumer.group_coordinator", "Heartbeat failed for group "),
    ("aiokafka.consumer.group_coordinator", "Marking the coordinator dead"),
    ("mode.timers", "Timer "),
)


class LogLimit(logging.Filter):
    """A filter for the handlers of all log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.brokers_away = False  # True while the brokers are known to be away
        self._kept_back = 0
        self._lock = threading.Lock()
        self._passed: dict[tuple[str, str], float] = {}  # when a line last passed
        # How many lines like it were kept back since.
        self._repeats: dict[tuple[str, str], int] = {}
        # When the last lines of a library, or of a kind of the worker's own, passed.
        self._recent: dict[str, list[float]] = {}

    def install(self) -> None:
        """Filters the present handlers."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)

    def kept_back(self) -> int:
        """The number of lines kept back since the last call."""
        with self._lock:
            count, self._kept_back = self._kept_back, 0
        return count

    def filter(self, record: logging.LogRecord) -> bool:
        """True if a line passes; a line of a library is shortened."""
        own = record.name.partition(".")[0] == OWN_LOGGER
        if record.levelno >= logging.CRITICAL:
            return True
        if own and record.levelno < logging.WARNING:
            return True
        text = _text(record)
        if any(
            record.name == name and text.startswith(start)
            for name, start in EXPECTED_LINES
        ):
            return False
        source = str(record.msg) if own else record.name.partition(".")[0]
        key = (record.name, text if own else _template(record))

        with self._lock:
            self._forget(time.monotonic())
            passes = self._passes(key, source, time.monotonic(), own=own)
            repeats = self._repeats.pop(key, 0) if passes else 0
            if not passes:
                self._kept_back += 1
                self._repeats[key] = self._repeats.get(key, 0) + 1

        if passes and not own:
            _shorten(record)
        if repeats:
            record.msg = f"{_text(record)} ({repeats:,} more like it were kept back)"
            record.args = ()
        return passes

    def _passes(
        self, key: tuple[str, str], source: str, now: float, *, own: bool
    ) -> bool:
        """True if neither this line nor too many of its source passed within the window."""
        recent = [
            at for at in self._recent.get(source, []) if now - at < WINDOW_SECONDS
        ]
        if now - self._passed.get(key, -WINDOW_SECONDS) < WINDOW_SECONDS:
            return False
        if len(recent) >= (OWN_LINES if own else LIBRARY_LINES):
            return False
        if self.brokers_away and not own:
            return False

        self._passed[key] = now
        self._recent[source] = [*recent, now]
        return True

    def _forget(self, now: float) -> None:
        """Forgets lines that passed before the window, once many are remembered."""
        if max(len(self._passed), len(self._repeats)) >= REMEMBERED_LINES:
            self._passed = {
                line: at
                for line, at in self._passed.items()
                if now - at < WINDOW_SECONDS
            }
            self._repeats = {
                line: count
                for line, count in self._repeats.items()
                if line in self._passed
            }


LOG_LIMIT = LogLimit()


def _text(record: logging.LogRecord) -> str:
    """The whole line; the bare message if its arguments do not fit it."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return str(record.msg)


def _template(record: logging.LogRecord) -> str:
    """The common text of lines that differ in numbers and names only."""
    return VARYING_TEXT.sub("#", str(record.msg))[:TEMPLATE_LENGTH]


def _shorten(record: logging.LogRecord) -> None:
    """Cuts a line of a library to its first line; a traceback stays unless a broker is the cause."""
    text = _text(record).partition("\n")[0]
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, KafkaError | OSError):
        text = f"{text}: {error!r}"
        record.exc_info = record.exc_text = None
    record.msg = text
    record.args = ()
