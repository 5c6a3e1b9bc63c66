"""A question put to every shard of a history: in this process, in several, or on a dask cluster."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from threading import Thread
from traceback import format_exception
from typing import Any, NamedTuple, Protocol, TypeVar

from replay.shards import WHOLE_HISTORY, Shard
from streams.local.progress import Passed

Answer_co = TypeVar("Answer_co", covariant=True)
Answer = TypeVar("Answer")
OnPassed = Callable[[Passed], None]


class ShardQuestion(Protocol[Answer_co]):
    """What is asked of a shard. It can be pickled, and so can its answers."""

    def __call__(self, shard: Shard, on_passed: OnPassed) -> Answer_co:
        """The answer of a shard; calls `on_passed` as it comes on."""


@dataclass(frozen=True)
class Jobs:
    """Where shards are judged."""

    count: int = 1
    scheduler: str = ""  # address of dask's; "" for processes of this machine


ONE_JOB = Jobs()


class JobError(ValueError):
    """A job has ended without an answer; says what to do."""


def asked(
    question: ShardQuestion[Answer], jobs: Jobs, on_passed: OnPassed
) -> list[Answer]:
    """The answers of all shards, in order. Raises what a shard raises, or JobError if a job dies."""
    if jobs.scheduler:
        from streams.dask_shards import asked_on_cluster  # noqa: PLC0415 - dask is an extra

        return asked_on_cluster(question, jobs, on_passed)
    if jobs.count == 1:
        return [question(WHOLE_HISTORY, on_passed)]
    return _asked_in_processes(question, jobs.count, on_passed)


def with_count(jobs: Jobs) -> Jobs:
    """The same jobs, with as many shards as there will be. Raises JobError."""
    if not jobs.scheduler:
        return jobs
    from streams.dask_shards import shards_of_cluster  # noqa: PLC0415 - dask is an extra

    return replace(jobs, count=shards_of_cluster(jobs))


class PassedOfShards:
    """Adds up what the shards have judged."""

    def __init__(self, on_passed: OnPassed) -> None:
        self._on_passed = on_passed
        self._parts: dict[int, Passed] = {}

    def note(self, number: int, passed: Passed) -> None:
        """Takes in what a shard has judged."""
        self._parts[number] = passed
        self._on_passed(Passed.of_shards(list(self._parts.values())))


class _Job(NamedTuple):
    """A process that judges a shard."""

    shard: Shard
    process: ForkProcess
    messages: Connection


class _Failure(NamedTuple):
    """What a shard raised; the text stands for what cannot be pickled."""

    error: ValueError | OSError | None
    text: str


class _Done(NamedTuple):
    """The last message of a job."""

    value: Any


def _asked_in_processes(
    question: ShardQuestion[Answer], count: int, on_passed: OnPassed
) -> list[Answer]:
    """The answers of shards that are judged in a process each."""
    passed = PassedOfShards(on_passed)
    answers: dict[int, Answer] = {}
    with _started(question, count) as jobs:
        waiting = list(jobs)
        while waiting:
            ready = wait([job.messages for job in waiting])
            for job in [job for job in waiting if job.messages in ready]:
                message = _next_message(job)
                if isinstance(message, Passed):
                    passed.note(job.shard.number, message)
                else:
                    answers[job.shard.number] = message.value
                    waiting.remove(job)
    return [answers[number] for number in range(count)]


@contextmanager
def _started(question: ShardQuestion[Answer], count: int) -> Iterator[Sequence[_Job]]:
    """A process for each shard; all end with the block."""
    jobs: list[_Job] = []
    try:
        for number in range(count):
            shard = Shard(number, count)
            jobs.append(_start(question, shard))
        yield jobs
    finally:
        for job in jobs:
            job.process.terminate()
        for job in jobs:
            job.process.join()
            job.messages.close()


def _start(question: ShardQuestion[Answer], shard: Shard) -> _Job:
    """A process that judges a shard. A fork costs nothing; a process that imports all anew costs a second."""
    receiver, sender = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(
        target=_judge, args=(question, shard, sender), name=f"shard {shard}"
    )
    with warnings.catch_warnings():
        # Threads of numpy and Arrow wait for work now, and both make theirs anew after a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    return _Job(shard, process, receiver)


def _next_message(job: _Job) -> Passed | _Done:
    """What a job says next. Raises what it raised, or JobError if it has died."""
    try:
        message = job.messages.recv()
    except EOFError:
        job.process.join()
        raise JobError(_death(job)) from None
    if isinstance(message, _Failure):
        raise message.error or RuntimeError(message.text)
    return message


def _death(job: _Job) -> str:
    """How a job died, and what to do."""
    code = job.process.exitcode or 0
    if code >= 0:
        return f"the job of shard {job.shard} ended with exit code {code}"
    name = signal.Signals(-code).name
    advice = ": for lack of memory? Try fewer --jobs" if name == "SIGKILL" else ""
    return f"the job of shard {job.shard} was ended by {name}{advice}"


def _judge(question: ShardQuestion[Answer], shard: Shard, messages: Connection) -> None:
    """Judges a shard, as the work of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = question(shard, messages.send)
    except (ValueError, OSError) as error:
        messages.send(_Failure(error, ""))
    except Exception as error:
        messages.send(_Failure(None, "".join(format_exception(error))))
    else:
        messages.send(_Done(answer))


def _end_with_parent() -> None:
    """Ends the process when its parent ends, however that ends."""
    parent = parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)
