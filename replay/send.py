"""Publishes a history to Kafka, at full speed or at a multiple of the pace at which it happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from replay.history import SharedNumbering, Source, arrival_groups, arrivals, edges
from schemas.columns import Batch
from schemas.topics import KIND_TOPICS, LARGEST_RECORD, REGISTRY_TOPIC
from schemas.wire import Encoded, Shape, encode, encode_area

GATHERED_ROWS = 100_000  # rows that are cut into full messages together
BROKER_TIMEOUT = 15  # seconds that brokers may take to answer


class SendError(OSError):
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

    Speed is how many seconds of history pass in a second, None for as fast as the brokers take it. Progress gets the
    rows so far and the time of the last one. Security is kafka-python's SASL and TLS settings. Rows of an area stay in
    order in the area's partition. Readings go in the shape; other kinds as single JSON, or as arrays otherwise.
    """
    producer = _connected(bootstrap, security)
    sent: Counter[str] = Counter()
    try:
        topic = prefix + REGISTRY_TOPIC
        _publish(producer, topic, (encode_area(area) for area in source.areas))
        sent[topic] = len(source.areas)

        rows = 1 if shape == "single" else GATHERED_ROWS
        batches = source.batches
        for batch in paced(batches, speed) if speed else _gathered(batches, rows):
            topic = prefix + KIND_TOPICS[type(batch)]
            _publish(producer, topic, encode(batch, shape))
            sent[topic] += len(batch)
            if progress:
                progress(sent.total() - len(source.areas), int(arrivals(batch)[-1]))
    finally:
        producer.close(timeout=10)
    return sent


def _connected(
    bootstrap: Sequence[str], security: Mapping[str, Any] | None
) -> KafkaProducer:
    """A producer that has reached the brokers. Raises SendError."""
    try:
        # topics come from `meterwatch topics`; sending creates none
        return KafkaProducer(
            bootstrap_servers=list(bootstrap),
            allow_auto_create_topics=False,
            linger_ms=20,
            batch_size=256 << 10,
            max_request_size=LARGEST_RECORD,
            max_block_ms=BROKER_TIMEOUT * 1000,
            bootstrap_timeout_ms=BROKER_TIMEOUT * 1000,
            **(security or {}),
        )
    except KafkaError as error:
        raise SendError(
            f"no answer from the brokers at {', '.join(bootstrap)}: {error!r}"
        ) from error


def _gathered(batches: Iterator[Batch], rows: int) -> Iterator[Batch]:
    """Successive batches of one kind joined to so many rows or a batch more."""
    common = SharedNumbering()
    gathered: list[Batch] = []
    for batch in batches:
        if gathered and (
            type(batch) is not type(gathered[0]) or sum(map(len, gathered)) >= rows
        ):
            yield _joined(common, gathered)
            gathered = []
        gathered.append(batch)
    if gathered:
        yield _joined(common, gathered)


def _joined(common: SharedNumbering, gathered: Sequence[Batch]) -> Batch:
    """Batches of one kind and one history as one."""
    return common.join(type(gathered[0]), [(0, batch) for batch in gathered])


def paced(batches: Iterator[Batch], speed: float) -> Iterator[Batch]:
    """The rows of each time when it is their turn, so many seconds of history in a second."""
    began = time.monotonic()
    start: int | None = None
    for batch in batches:
        arrived = arrivals(batch)
        if start is None:
            start = int(arrived[0])
        for first, last in pairwise(edges(arrival_groups(batch), rows=1)):
            due = began + (int(arrived[first]) - start) / speed
            time.sleep(max(due - time.monotonic(), 0))
            yield batch.select(slice(first, last))


def _publish(producer: KafkaProducer, topic: str, messages: Iterator[Encoded]) -> None:
    """Returns when the brokers have all messages. Raises SendError."""
    try:
        futures = []
        for key, value, content_type in messages:
            headers = [("content-type", content_type.encode())]
            futures.append(producer.send(topic, value, key, headers=headers))
        producer.flush()
        failures = (future.exception for future in futures if future.failed())
        lost = next(failures, None)
    except KafkaError as error:
        lost = error

    if isinstance(lost, KafkaTimeoutError):
        raise SendError(
            f"no broker took what is left of `{topic}` in time: send it again, what came twice is dropped: {lost}"
        ) from lost
    if lost:
        raise SendError(
            f"`{topic}` took not all; `meterwatch topics` creates and checks topics: {lost!r}"
        ) from lost
