"""Lines of the log: one for each event, as text or as JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

TEXT_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"
# What a line may say beside its message, by the `extra` of the call.
EXTRA_FIELDS = ("partition", "topic", "offset", "rule", "reason", "exit_code")


class JsonFormatter(logging.Formatter):
    """A line as a JSON object with `time`, `level`, `logger`, `message`, and fields of EXTRA_FIELDS."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, with its traceback in `exception`."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in EXTRA_FIELDS:
            if name in record.__dict__:
                line[name] = record.__dict__[name]
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as(form: str) -> None:
    """Has the log of this process written to standard error, as `text` or as `json`."""
    handler = logging.StreamHandler()
    is_json = form == "json"
    handler.setFormatter(JsonFormatter() if is_json else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def logs_json() -> bool:
    """True if the log of this process is written as JSON."""
    handlers = logging.getLogger().handlers
    return any(isinstance(handler.formatter, JsonFormatter) for handler in handlers)
