"""Runs a sink until the process is ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from schemas.topics import ALERTS_TOPIC
from streams.kafka.log_limit import LOG_LIMIT
from streams.kafka.rights import ALERTS_RIGHTS
from streams.kafka.status_server import serve
from streams.kafka.topics import ensure
from streams.log_lines import log_as
from streams.settings import Settings
from streams.sinks.delivery import SinkMetrics, Take, deliver

log = logging.getLogger("meterwatch")


def deliver_to(settings: Settings, name: str, take: Take, port: int | None) -> None:
    """Delivers alerts to a sink of a name until the process is ended."""
    metrics = SinkMetrics(name)
    run_delivery(
        settings, metrics, port, partial(deliver, settings, name, take, metrics)
    )


def run_delivery(
    settings: Settings,
    metrics: SinkMetrics,
    port: int | None,
    delivery: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    """Runs a delivery until SIGTERM or SIGINT."""
    log_as(settings.log_format)
    LOG_LIMIT.install()
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    # the sink says itself why a connection failed
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    log.setLevel(settings.log_level)
    if port is not None:
        host = settings.metrics_host
        served = serve(metrics.registry, {}, host, port)
        log.info("metrics on http://%s:%d/metrics", host, served)

    async def run() -> None:
        await ensure(settings, ALERTS_RIGHTS)
        topic = settings.topic(ALERTS_TOPIC)
        log.info("the sink `%s` follows `%s`", metrics.sink, topic)
        task = asyncio.ensure_future(delivery())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
