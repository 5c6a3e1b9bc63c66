"""Alerts from their topic to a sink, at least once: offsets are committed after the sink has taken their alerts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge

from schemas.alert import Alert
from schemas.topics import ALERTS_TOPIC
from streams.kafka.alerts import alert_of
from streams.kafka.answers import BoundedConsumer
from streams.kafka.fetched import install
from streams.kafka.readers import unanswered
from streams.settings import Settings

MOST_ALERTS = 500  # that a sink is given at once
FETCH_MS = 500  # that a fetch waits for records
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # s before an alert is offered again
LINE_SECONDS = 60.0  # between two lines about a sink that takes nothing
LONGEST_RETRY_MS = 2**31 - 1  # that the group waits for a sink that takes nothing
Take = Callable[[Sequence[Alert]], Awaitable[None]]
log = logging.getLogger("meterwatch")


class SinkMetrics:
    """The metrics of a sink, in a registry of their own."""

    def __init__(self, sink: str) -> None:
        self.sink = sink
        self.registry = CollectorRegistry()

        def labelled(kind: type[Counter | Gauge], name: str, text: str) -> Any:
            return kind(name, text, ["sink"], registry=self.registry).labels(sink)

        self.taken = labelled(
            Counter, "meterwatch_sink_alerts", "Messages that the sink has taken"
        )
        self.failures = labelled(
            Counter, "meterwatch_sink_failures", "Times that the sink took nothing"
        )
        self.lag = labelled(
            Gauge, "meterwatch_sink_lag_records", "Messages that wait for the sink"
        )


async def deliver(
    settings: Settings, sink: str, take: Take, metrics: SinkMetrics
) -> NoReturn:
    """Gives a sink all alerts, from where its consumer group stands on, for ever. Raises UnansweredError."""
    install()
    consumer = BoundedConsumer(
        settings.topic(ALERTS_TOPIC),
        **settings.client(),
        group_id=f"{settings.group}.sink.{sink}",
        session_timeout_ms=int(settings.session_seconds * 1000),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_poll_interval_ms=LONGEST_RETRY_MS,
    )

    try:
        try:
            await consumer.start()
        except KafkaError as error:
            raise await unanswered(settings, error) from None
        while True:
            await _deliver_some(consumer, take, metrics)
    finally:
        await consumer.stop()


async def _deliver_some(
    consumer: AIOKafkaConsumer, take: Take, metrics: SinkMetrics
) -> None:
    """Gives a sink the next alerts and commits their offsets."""
    fetched = await consumer.getmany(timeout_ms=FETCH_MS, max_records=MOST_ALERTS)
    records = [record for found in fetched.values() for record in found]
    # a record without value is an alert that was forgotten
    written = [record for record in records if record.value is not None]
    alerts = [alert for record in written if (alert := alert_of(record))]
    if alerts:
        await until_taken(take, alerts, metrics)

    if records:
        try:
            await consumer.commit()
        except KafkaError as error:
            # the group then gives these alerts again
            log.warning("offsets of a sink are not committed: %r", error)
    with contextlib.suppress(KafkaError):  # the partitions are changing
        metrics.lag.set(await _lag(consumer))


async def until_taken(
    take: Take, alerts: Sequence[Alert], metrics: SinkMetrics
) -> None:
    """Offers alerts to a sink until it takes them; it is never given up, and logged once a minute."""
    pause = FIRST_PAUSE
    logged = -LINE_SECONDS

    while True:
        try:
            await take(alerts)
        except Exception as error:
            metrics.failures.inc()
            if time.monotonic() - logged >= LINE_SECONDS:
                logged = time.monotonic()
                log.warning(
                    "the sink takes no alerts, and is tried on: %s", _text(error)
                )
        else:
            metrics.taken.inc(len(alerts))
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _lag(consumer: AIOKafkaConsumer) -> int:
    """The messages that were not fetched yet."""
    lag = 0
    for tp in consumer.assignment():
        end = consumer.highwater(tp)
        if end is not None:
            lag += max(0, end - await consumer.position(tp))
    return lag


def _text(error: Exception) -> str:
    """The first line of an error."""
    return str(error).strip().partition("\n")[0] or repr(error)
