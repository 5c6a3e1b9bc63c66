"""A worker, or a local run, that kills itself at a named moment: `python doomed.py MOMENT COUNT COMMAND...`.

What happens at random moments seldom happens between a checkpoint's chunks and its manifest.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streams import checkpoints
from streams.cli import main
from streams.local import Store, run
from streams.outbox import Outbox
from streams.parts import Part
from streams.settings import Settings
from streams.slices import Consumer
from streams.worker import Worker

CHUNK = 16 << 10  # bytes: so that a small state takes several
BEFORE, AFTER = True, False
MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "about to take over": (Worker, "take_over", BEFORE),
    "checkpoints read": (checkpoints, "newest", AFTER),
    "about to read on": (Consumer, "perform_seek", BEFORE),
    "reading on": (Consumer, "perform_seek", AFTER),
    "judged, not told": (Outbox, "tell", BEFORE),
    "told": (Outbox, "tell", AFTER),
    "all told is on its topic": (Outbox, "settle", AFTER),
    "chunks without manifest": (AIOKafkaProducer, "send_and_wait", BEFORE),
    "checkpoint not acknowledged": (Part, "keep", BEFORE),
    "about to hand over": (Worker, "hand_over", BEFORE),
    "handed over": (Worker, "hand_over", AFTER),
    "stored": (Store, "save", AFTER),
}


def doom(owner: Any, name: str, left: int, *, before: bool) -> None:
    """Lets the process die when a function has been called so many times."""
    function = getattr(owner, name)

    def strike(now: bool) -> None:
        nonlocal left
        left -= now
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def awaited(*arguments: Any, **named: Any) -> Any:
        strike(before)
        result = await function(*arguments, **named)
        strike(not before)
        return result

    def called(*arguments: Any, **named: Any) -> Any:
        strike(before)
        result = function(*arguments, **named)
        strike(not before)
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(function) else called)


def die_within_a_save(left: int) -> None:
    """Lets the process die between the statements of a transaction."""
    begin = Store.__init__

    def begin_traced(store: Store, path: Path | str) -> None:
        begin(store, path)

        def trace(statement: str) -> None:
            nonlocal left
            left -= statement.startswith("INSERT OR REPLACE INTO engine")
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        store.db.set_trace_callback(trace)

    Store.__init__ = begin_traced  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    moment, count, *command = sys.argv[1:]
    checkpoints.CHUNK = CHUNK
    if moment == "within a save":
        die_within_a_save(int(count))
    elif moment != "never":
        found, attribute, before = MOMENTS[moment]
        doom(found, attribute, int(count), before=before)
    if command[0] == "run":
        _, source, store, interval = command
        run([source], Path(store), Settings(interval=int(interval)), every=0.0)
    else:
        sys.argv = ["meterwatch", *command]
        main()
