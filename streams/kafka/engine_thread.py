"""The thread in which engines run, one call at a time; heartbeats, fetches and scrapes go on meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from streams.kafka.metrics import Cause, Metrics
from streams.kafka.spans import NO_SPANS, Spans

HUNG_SHARE = 0.1  # of a core: a call that uses less for too long hangs

Given = ParamSpec("Given")
Value = TypeVar("Value")


class _Call(NamedTuple):
    """The call that runs."""

    cause: Cause
    began: float  # CPU seconds of the process


class EngineThread:
    """Runs calls in the order in which they are asked for; exports the longest of each cause."""

    def __init__(self, metrics: Metrics, spans: Spans = NO_SPANS) -> None:
        self._metrics = metrics
        self._spans = spans
        self._executor = ThreadPoolExecutor(1, "engine")
        self._call: _Call | None = None
        self._monitored: _Call | None = None
        self._beats = (
            0.0  # s for which the monitored call has run, while the process did
        )

    @property
    def busy(self) -> bool:
        """True while a call runs."""
        return self._call is not None

    async def run(
        self,
        cause: Cause,
        call: Callable[Given, Value],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Value:
        """The result of a call. Raises what the call raises."""
        loop = asyncio.get_running_loop()
        context = copy_context()  # with the span of whoever asks
        timed = partial(self._timed, cause, partial(call, *args, **kwargs))
        return await loop.run_in_executor(self._executor, context.run, timed)

    def wedged(self, beat: float, limit: float) -> str:
        """The fault of the call that runs, "" if there is none; asked every `beat` seconds by another thread.

        Seconds in which the process itself stood still do not count. A starved process is not wedged: its call goes on
        as long as it uses a tenth of a core and less CPU than `limit` seconds in all.
        """
        call = self._call
        if call is None or call is not self._monitored:
            self._monitored = call
            self._beats = 0.0
            return ""
        self._beats += beat
        used = time.process_time() - call.began
        if self._beats <= limit or HUNG_SHARE * self._beats <= used <= limit:
            return ""
        return f"`{call.cause}` has not come to an end after {self._beats:.0f} s, {used:.0f} s of them CPU"

    def _timed(self, cause: Cause, call: Callable[[], Value]) -> Value:
        """Runs a call in the thread and measures its CPU."""
        self._call = _Call(cause, time.process_time())
        began, began_cpu = time.monotonic(), time.thread_time()
        try:
            with self._spans.call(cause):
                return call()
        finally:
            self._call = None
            cpu = time.thread_time() - began_cpu
            self._metrics.called(cause, cpu, time.monotonic() - began)
