"""The end of a worker that must not go on: a line of the log, and an exit code by reason."""

from __future__ import annotations

import logging
import os
from enum import IntEnum
from typing import NoReturn

log = logging.getLogger("meterwatch")


class ExitCode(IntEnum):
    """Why a worker ended; 0 is in good order, 2 a setting or argument that is wrong."""

    FAILED = 1  # an error in the worker itself
    STALLED = 10  # no progress on waiting records, or a thread hangs
    BROKERS = 11  # the brokers do not answer, or do not take what is published
    STATE = 12  # no checkpoint to go on from
    TOPIC = 13  # a source topic was deleted, cut or created anew
    STARVED = 14  # the process stood still for most of its session
    GROUP = 15  # the group gives other partitions than this worker can hold


def fatal(reason: str, code: ExitCode) -> NoReturn:
    """Ends the process at once, as if killed: the next worker repeats what was unfinished."""
    log.critical("%s; this worker ends", reason, extra={"exit_code": int(code)})
    logging.shutdown()
    os._exit(code)
