"""The event loop runs on while an engine works in its thread; an endless call is noticed."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from streams.kafka.engine_thread import EngineThread
from streams.kafka.metrics import Metrics


def wedged_message(engines: EngineThread, call, used: float, monkeypatch) -> str:
    """The message on a call that lasts 100 s and uses `used` seconds of CPU, with a limit of 60 s."""
    clock = [0.0]
    monkeypatch.setattr(
        "streams.kafka.engine_thread.time.process_time", lambda: clock[0]
    )

    async def judge() -> str:
        running = asyncio.create_task(engines.run("step", call))
        await asyncio.to_thread(begun.wait)
        assert not engines.wedged(1.0, 60.0)
        clock[0] += used
        messages = [engines.wedged(1.0, 60.0) for _ in range(100)]
        release.set()
        await running
        return messages[-1]

    return asyncio.run(judge())


begun, release = threading.Event(), threading.Event()


@pytest.mark.parametrize(
    ("used", "wedged"),
    [(1.0, True), (20.0, False), (59.0, False), (61.0, True)],
    ids=["waits for something", "starved", "long", "without end"],
)
def test_call_is_wedged_if_it_uses_almost_no_cpu_or_more_than_the_limit(
    monkeypatch, used, wedged
):
    begun.clear()
    release.clear()

    def call() -> None:
        begun.set()
        while not release.is_set():
            time.sleep(0.001)

    message = wedged_message(EngineThread(Metrics()), call, used, monkeypatch)
    assert ("`step` has not come to an end after 100 s" in message) == wedged


def test_event_loop_runs_on_and_calls_are_serial():
    engines, order = EngineThread(Metrics()), []

    def call(number: int) -> None:
        order.append(number)
        time.sleep(0.05)
        order.append(number)

    async def judge() -> int:
        running = asyncio.gather(
            *(engines.run("step", call, number) for number in range(3))
        )
        turns = 0
        while not running.done():
            await asyncio.sleep(0.001)
            turns += 1
        await running
        return turns

    assert asyncio.run(judge()) > 3
    assert order == [0, 0, 1, 1, 2, 2]


def test_exception_of_a_call_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(EngineThread(Metrics()).run("tick", lambda: 1 // 0))
