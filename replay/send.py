"""Publishes a history to Kafka, at full speed or at a multiple of the pace at which it happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from kafka import KafkaProducer
from kafka.errors import KafkaError

from replay.history import SharedNumbering, Source, arrival_groups, arrivals, edges
from schemas.columns import Batch, DeviceEvents, Payments, Readings, Stages
from schemas.wire import (
    Encoded,
    encode_area,
    encode_events,
    encode_payments,
    encode_readings,
    encode_stages,
)

Shape = Literal["single", "array", "packed"]

REGISTRY_TOPIC = "registry"
KIND_TOPICS: dict[type[Batch], str] = {
    Readings: "meter.reads",
    DeviceEvents: "meter.events",
    Payments: "payments",
    Stages: "workflow",
}
LARGEST_MESSAGE = 16 << 20  # bytes of a message
GATHERED_ROWS = (
    100_000  # rows that are cut into messages together, so that these are full
)
BROKER_TIMEOUT = 15  # seconds that brokers may take to answer


class SendError(Exception):
    """A history that could not be published whole; says what to do."""


def send(
    source: Source,
    bootstrap: Sequence[str],
    shape: Shape = "packed",
    speed: float | None = None,
    security: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    prefix: str = "",
) -> Counter[str]:
    """The rows published per topic, master data first. Raises SendError.

    Speed is how many seconds of history pass in a second, None for as fast as the brokers take it. Progress is told
    the rows so far and the time they have come to. Security is kafka-python's SASL and TLS settings. Rows of an area
    stay in order in the area's partition; what is not readings goes as single JSON, or as arrays when readings do not.
    """
    try:
        producer = KafkaProducer(
            bootstrap_servers=list(bootstrap),
            allow_auto_create_topics=False,
            linger_ms=20,
            batch_size=256 << 10,
            max_request_size=LARGEST_MESSAGE,
            max_block_ms=BROKER_TIMEOUT * 1000,
            bootstrap_timeout_ms=BROKER_TIMEOUT * 1000,
            **(security or {}),
        )
    except KafkaError as error:
        raise SendError(
            f"no answer from the brokers at {', '.join(bootstrap)}: {error!r}"
        ) from error
    sent: Counter[str] = Counter()
    try:
        _publish(
            producer,
            prefix + REGISTRY_TOPIC,
            (encode_area(area) for area in source.areas),
        )
        sent[prefix + REGISTRY_TOPIC] = len(source.areas)
        rows = 1 if shape == "single" else GATHERED_ROWS
        for batch in (
            paced(source.batches, speed) if speed else _gathered(source.batches, rows)
        ):
            topic = prefix + KIND_TOPICS[type(batch)]
            _publish(producer, topic, encoded(batch, shape))
            sent[topic] += len(batch)
            if progress:
                progress(sent.total() - len(source.areas), int(arrivals(batch)[-1]))
    finally:
        producer.close(timeout=10)
    return sent


def encoded(batch: Batch, shape: Shape) -> Iterator[Encoded]:
    """The messages of a batch. Events, payments and stages are never packed."""
    if isinstance(batch, Readings):
        return encode_readings(batch, shape)
    json: Literal["single", "array"] = "single" if shape == "single" else "array"
    if isinstance(batch, DeviceEvents):
        return encode_events(batch, json)
    if isinstance(batch, Payments):
        return encode_payments(batch, json)
    if isinstance(batch, Stages):
        return encode_stages(batch, json)
    raise TypeError(f"{batch.kind} do not travel")


def _gathered(batches: Iterator[Batch], rows: int) -> Iterator[Batch]:
    """Successive batches of one kind joined to so many rows or a batch more."""
    common = SharedNumbering()
    held: list[Batch] = []
    for batch in batches:
        if held and (type(batch) is not type(held[0]) or sum(map(len, held)) >= rows):
            yield common.join(type(held[0]), [(0, part) for part in held])
            held = []
        held.append(batch)
    if held:
        yield common.join(type(held[0]), [(0, part) for part in held])


def paced(batches: Iterator[Batch], speed: float) -> Iterator[Batch]:
    """The rows of each time when it is their turn, so many seconds of history in a second."""
    began, first = time.monotonic(), None
    for batch in batches:
        arrived = arrivals(batch)
        first = int(arrived[0]) if first is None else first
        for a, b in pairwise(edges(arrival_groups(batch), rows=1)):
            time.sleep(
                max(began + (int(arrived[a]) - first) / speed - time.monotonic(), 0)
            )
            yield batch.select(slice(a, b))


def _publish(producer: KafkaProducer, topic: str, messages: Iterator[Encoded]) -> None:
    """Returns when the brokers have them all. Raises SendError."""
    try:
        told = [
            producer.send(
                topic, value, key, headers=[("content-type", content_type.encode())]
            )
            for key, value, content_type in messages
        ]
        producer.flush()
        lost = next((future.exception for future in told if future.failed()), None)
    except KafkaError as error:
        lost = error
    if lost:
        raise SendError(
            f"`{topic}` took not all; `meterwatch topics` creates and checks topics: {lost!r}"
        ) from lost
