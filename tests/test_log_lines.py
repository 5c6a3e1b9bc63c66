"""A line of the log is one event, as text or as JSON with the place that it is about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from streams.log_lines import JsonFormatter


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that writes JSON, and what it has written."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("tests.log_lines")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger, written
    logger.removeHandler(handler)


def test_a_json_line_has_its_message_and_its_place(log):
    logger, written = log
    place = {"topic": "meter.reads", "partition": 3, "offset": 17}
    logger.warning("offset %d of `%s`", 17, "meter.reads", extra=place)
    found = json.loads(written.getvalue())
    assert found.pop("time").endswith("+00:00")
    assert found == place | {
        "level": "WARNING",
        "logger": "tests.log_lines",
        "message": "offset 17 of `meter.reads`",
    }


def test_a_traceback_and_line_feeds_stay_in_one_line(log):
    logger, written = log
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        logger.exception("failed: %s", error)  # noqa: TRY401 - its text has a line feed
    logger.info("电表")
    failed, plain = written.getvalue().splitlines()
    assert "ValueError: first" in json.loads(failed)["exception"]
    assert json.loads(failed)["message"] == "failed: first\nsecond"
    assert "电表" in plain
