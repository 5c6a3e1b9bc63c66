"""Shards that are judged by the workers of a dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from distributed import Client, KilledWorker, get_worker

from replay.shards import Shard
from streams.local.progress import Passed
from streams.shards import JobError, Jobs, OnPassed, PassedOfShards, ShardQuestion

Answer = TypeVar("Answer")
CONNECT_SECONDS = 5


def asked_on_cluster(
    question: ShardQuestion[Answer], jobs: Jobs, on_passed: OnPassed
) -> list[Answer]:
    """The answers of all shards, as many as `shards_of_cluster` says. Raises JobError.

    The workers open the history themselves, by the same paths.
    """
    topic = f"meterwatch {uuid4().hex}"
    passed = PassedOfShards(on_passed)

    def note(event: tuple[float, Any]) -> None:
        number, *fields = event[1]
        passed.note(number, Passed(*fields))

    with _client(jobs.scheduler) as client:
        count = _shards_of(client, jobs)
        client.subscribe_topic(topic, note)
        futures = [
            client.submit(_judge, question, Shard(number, count), topic, pure=False)
            for number in range(count)
        ]
        try:
            return list(client.gather(futures))
        except KilledWorker as error:
            raise JobError(
                "workers died again and again while they judged, for lack of memory? Try more --jobs"
            ) from error
        finally:
            client.cancel(futures)


def shards_of_cluster(jobs: Jobs) -> int:
    """As many shards as jobs are asked for, else one for each thread of the workers. Raises JobError."""
    with _client(jobs.scheduler) as client:
        return _shards_of(client, jobs)


def _shards_of(client: Any, jobs: Jobs) -> int:
    """As `shards_of_cluster`, of a client."""
    threads = sum(client.nthreads().values())
    if not threads:
        raise JobError(f"the scheduler {jobs.scheduler} has no workers: start some")
    return jobs.count if jobs.count > 1 else int(threads)


def _judge(question: ShardQuestion[Answer], shard: Shard, topic: str) -> Answer:
    """Judges a shard, as the task of a worker."""
    worker = get_worker()

    def note(passed: Passed) -> None:
        fields = (
            passed.rows,
            passed.expected,
            passed.last,
            passed.seconds,
            passed.zone,
        )
        worker.log_event(topic, (shard.number, *fields))

    return question(shard, note)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A client of a scheduler. Raises JobError if there is none."""
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise JobError(f"no dask scheduler answers at {address}: {error}") from error
    with client:
        yield client
