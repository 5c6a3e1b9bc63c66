"""The end of a worker that must not go on."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

log = logging.getLogger("meterwatch")


def fatal(reason: str) -> NoReturn:
    """Ends the process at once with exit code 1, as if killed: the next worker repeats what was unfinished."""
    log.critical("%s; this worker ends", reason)
    logging.shutdown()
    os._exit(1)
