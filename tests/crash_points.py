"""A worker, bridge or local run that kills itself at a named moment: `python crash_points.py MOMENT COUNT COMMAND...`.

A kill at random seldom comes between a checkpoint's chunks and its manifest.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.cli import main
from streams.kafka import checkpoints
from streams.kafka.answers import BoundedConsumer
from streams.kafka.bridge import Bridge
from streams.kafka.deliveries import Producer
from streams.kafka.outbox import Outbox
from streams.kafka.partitions import Partition
from streams.kafka.slices import Consumer
from streams.kafka.worker import Worker
from streams.local.runner import run
from streams.local.store import Store
from streams.settings import Settings

CHUNK_BYTES = 16 << 10  # so that a small state takes several chunks
BEFORE_CALL, AFTER_CALL = True, False
CRASH_POINTS: dict[str, tuple[Any, str, bool]] = {
    "about to take over": (Worker, "take_over", BEFORE_CALL),
    "checkpoints read": (checkpoints, "newest", AFTER_CALL),
    "about to read on": (Consumer, "perform_seek", BEFORE_CALL),
    "reading on": (Consumer, "perform_seek", AFTER_CALL),
    "judged, not published": (Outbox, "publish_alerts", BEFORE_CALL),
    "published": (Outbox, "publish_alerts", AFTER_CALL),
    "all published is on its topic": (Outbox, "settle", AFTER_CALL),
    "chunks without manifest": (AIOKafkaProducer, "send_and_wait", BEFORE_CALL),
    "checkpoint not acknowledged": (Partition, "note_checkpoint", BEFORE_CALL),
    "about to hand over": (Worker, "hand_over", BEFORE_CALL),
    "handed over": (Worker, "hand_over", AFTER_CALL),
    "stored": (Store, "save", AFTER_CALL),
}
BRIDGE_CRASH_POINTS: dict[str, tuple[Any, str, bool]] = {
    "mapped": (Bridge, "_rows", AFTER_CALL),
    "some rows sent": (Producer, "send", AFTER_CALL),
    "on the brokers": (BoundedConsumer, "commit", BEFORE_CALL),
    "committed": (BoundedConsumer, "commit", AFTER_CALL),
}


def crash_at_call(owner: Any, name: str, left: int, *, before: bool) -> None:
    """Kill the process when a function has been called `left` times."""
    function = getattr(owner, name)

    def count_down(is_here: bool) -> None:
        nonlocal left
        left -= is_here
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def awaited(*arguments: Any, **named: Any) -> Any:
        count_down(before)
        result = await function(*arguments, **named)
        count_down(not before)
        return result

    def called(*arguments: Any, **named: Any) -> Any:
        count_down(before)
        result = function(*arguments, **named)
        count_down(not before)
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(function) else called)


def crash_within_save(left: int) -> None:
    """Kill the process between two statements of a transaction."""
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
    checkpoints.CHUNK_BYTES = CHUNK_BYTES
    if moment == "within a save":
        crash_within_save(int(count))
    elif moment != "never":
        points = CRASH_POINTS | BRIDGE_CRASH_POINTS
        owner, attribute, before = points[moment]
        crash_at_call(owner, attribute, int(count), before=before)
    if command[0] == "run":
        _, source, store, interval = command
        run([source], Path(store), Settings(interval=int(interval)), every=0.0)
    else:
        sys.argv = ["meterwatch", *command]
        main()
