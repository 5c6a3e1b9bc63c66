"""Workers as processes on a real broker: how they start and end, and their alerts, checkpoints and metrics."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import set_forkserver_preload
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import ConsumerRecord
from prometheus_client.parser import text_string_to_metric_families

from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.columns import Batch, Readings
from schemas.topics import ALERTS_TOPIC, CHECKPOINTS_TOPIC, REJECTS_TOPIC, SOURCE_TOPICS
from schemas.wire import decode_alert
from streams.cli import main
from streams.kafka import checkpoints
from streams.kafka.exits import ExitCode, fatal
from streams.kafka.readers import read_to_end, reader
from streams.kafka.worker import HASTE_MS
from streams.settings import Settings

WAIT_SECONDS = 180  # until a condition is given up; a busy machine takes its time
LONGEST_PAUSE_SECONDS = 0.5  # between two looks at a condition
DUTY_CYCLE_SECONDS = 0.1  # in which a process with a share of the time runs once
# Reasons for suppressing an alert that depend on which alert came first.
ORDER_DEPENDENT_REASONS = ("repeat", "storm", "budget")
WORKER_COMMAND = ("-m", "streams.cli", "worker")

# what workers import, and the module of ForkedWorker
set_forkserver_preload(["streams.kafka.app", __name__])

Samples = Counter[tuple[str, tuple[str, ...]]]


def thinned(town: Town) -> list[Batch]:
    """The history of a town, of the meters with a planted fault and every sixth other."""
    planted = {fault.subject for fault in town.planted}
    batches: list[Batch] = []
    for batch in town.batches():
        if isinstance(batch, Readings):
            kept = [n % 6 == 0 or name in planted for n, name in enumerate(batch.names)]
            batches.append(batch.select(np.array(kept)[batch.subject]))
        else:
            batches.append(batch)
    return batches


class Signalled(Protocol):
    """A process of `subprocess`."""

    def poll(self) -> int | None: ...

    def send_signal(self, number: int, /) -> None: ...


class CpuShare:
    """Gives a process a share of the time, by SIGSTOP and SIGCONT; none while it is frozen."""

    def __init__(self, process: Signalled, share: float) -> None:
        self.process, self.share = process, share
        self.frozen = self.over = False
        self._thread = threading.Thread(
            target=self._alternate, name="cpu share", daemon=True
        )
        if share < 1:
            self.start()

    def start(self) -> None:
        """Begin to give the process its share only."""
        self._thread.start()

    def freeze(self) -> None:
        """Stop the process until `wake`."""
        self.frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let the process go on."""
        self.frozen = False
        self.process.send_signal(signal.SIGCONT)

    def release(self) -> None:
        """Give the process all of the time."""
        self.over = True
        if self._thread.is_alive():
            self._thread.join()
        self.wake()

    def _alternate(self) -> None:
        while not self.over and self.process.poll() is None:
            if not self.frozen:
                self.process.send_signal(signal.SIGCONT)
            time.sleep(DUTY_CYCLE_SECONDS * self.share)
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(DUTY_CYCLE_SECONDS * (1 - self.share))


@contextmanager
def cpu_limited(process: Signalled, share: float) -> Iterator[CpuShare]:
    """The process has a share of the time within the block."""
    cpu_share = CpuShare(process, share)
    try:
        yield cpu_share
    finally:
        cpu_share.release()


class ForkedWorker(ForkServerProcess):
    """A worker in a fork of a process that has imported it; the import takes seconds. Its use is that of `Popen`."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        super().__init__(daemon=True)
        self.environment, self.log = environment, log

    def run(self) -> None:
        """Becomes the worker."""
        os.environ.clear()
        os.environ.update(self.environment)
        with self.log.open("ab") as output:
            for standard in (sys.stdout, sys.stderr):
                os.dup2(output.fileno(), standard.fileno())
        sys.argv = ["meterwatch", "worker"]
        for seek in ("seek_to", "request_offset_reset"):
            _only_in_own_thread(seek)
        main()

    @property
    def returncode(self) -> int | None:
        return self.exitcode

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return self.exitcode

    def send_signal(self, number: int) -> None:
        if self.pid and self.poll() is None:
            os.kill(self.pid, number)


def _only_in_own_thread(seek: str) -> None:
    """From here on this process ends if a seek drops what was fetched in another thread than the fetcher's."""
    original = getattr(Fetcher, seek)

    def checked(fetcher: Fetcher, *arguments: Any) -> Any:
        if asyncio.get_running_loop() is not fetcher._client._loop:
            fatal(f"{seek} was called outside of the fetcher's thread", ExitCode.FAILED)
        return original(fetcher, *arguments)

    setattr(Fetcher, seek, checked)


class WorkerProcess:
    """A worker in a process of its own, with a share of the time; killed when the test ends.

    It is a fork of a process that has imported it, or with `arguments` a Python that starts.
    """

    def __init__(
        self,
        environment: dict[str, str],
        log: Path,
        *arguments: str,
        share: float = 1.0,
    ) -> None:
        self.log = log
        self.process: ForkedWorker | subprocess.Popen[bytes]
        whole_environment = os.environ | environment

        with log.open("ab") as output:
            if arguments:
                self.process = subprocess.Popen(
                    [sys.executable, *arguments],
                    env=whole_environment,
                    stdout=output,
                    stderr=output,
                )
            else:
                self.process = ForkedWorker(whole_environment, log)
                self.process.start()
        self.cpu_share = CpuShare(self.process, share)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self.kill()
        if error:
            error.add_note(self.log.read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS / self.cpu_share.share)

    def metrics_address(self) -> str:
        """Host and port of the metrics, "" before they are served. Raises once the worker has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker has ended with {self.process.returncode}")
        log = self.log.read_text(errors="replace")
        found = re.search(r"metrics on http://(\S+)/metrics", log)
        return found[1] if found else ""

    def scrape(self, *names: str) -> Samples:
        """The samples of these names, else of all, by name and labels; nothing before the worker answers.

        All of them take a twentieth of a second of CPU, here and in the worker. Raises once the worker has ended.
        """
        address = self.metrics_address()
        if not address:
            return Counter()

        query = urllib.parse.urlencode([("name[]", name) for name in names])
        url = f"http://{address}/metrics?{query}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()

        samples: dict[tuple[str, tuple[str, ...]], Any] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                samples[sample.name, labels] = sample.value
        return Counter(samples)

    def sample(self, name: str, *labels: str) -> Any:
        """The value of one sample, 0 before the worker answers."""
        return self.scrape(name)[name, labels]

    def rows(self) -> int:
        """The rows that the worker has received."""
        return self.scrape("meterwatch_rows_total").total()


def last_states(alerts: Iterable[Alert]) -> dict[str, dict[str, Any]]:
    """The last message of every alert that was not withdrawn, without the fields that depend on the way there."""
    last = {alert.id: alert for alert in alerts}
    states: dict[str, dict[str, Any]] = {}
    for key, alert in last.items():
        if alert.state == "withdrawn":
            continue

        state = {name: getattr(alert, name) for name in alert.__struct_fields__}
        del state["revision"], state["change"]
        by_order = alert.suppressed_by in ORDER_DEPENDENT_REASONS
        states[key] = state | {"suppressed_by": "" if by_order else alert.suppressed_by}
    return states


async def records(settings: Settings, topic: str) -> list[ConsumerRecord]:
    partitions = range(1 if topic == REJECTS_TOPIC else settings.partitions)
    found: list[ConsumerRecord] = []
    async with reader(settings, wait_ms=HASTE_MS) as consumer:
        tps = [TopicPartition(settings.topic(topic), number) for number in partitions]
        async for _, fetched in read_to_end(consumer, dict.fromkeys(tps, 0)):
            found += fetched
    return found


def published_states(settings: Settings) -> dict[str, dict[str, Any]]:
    published = asyncio.run(records(settings, ALERTS_TOPIC))
    return last_states(decode_alert(record.value) for record in published)


def all_checkpointed(settings: Settings) -> bool:
    """Whether the checkpoints contain all records; their alerts were published before."""

    async def compare() -> bool:
        async with reader(settings, wait_ms=HASTE_MS) as consumer:
            numbers = range(settings.partitions)
            tps = {
                (topic, number): TopicPartition(settings.topic(topic), number)
                for topic in SOURCE_TOPICS
                for number in numbers
            }
            ends = await consumer.end_offsets(list(tps.values()))

            checkpoint_topic = settings.topic(CHECKPOINTS_TOPIC)
            found = await checkpoints.newest(
                consumer, checkpoint_topic, numbers, {}, settings.partitions
            )
            offsets = {
                number: newest.manifest.offsets
                for number, newest in found.items()
                if newest
            }
            return all(
                offsets.get(number, {}).get(topic, 0) == ends[tp]
                for (topic, number), tp in tps.items()
            )

    return asyncio.run(compare())


def wait(condition: Callable[[], object]) -> None:
    """Returns once the condition holds; looks at it ever less often, because a look takes CPU from the workers."""
    deadline = time.monotonic() + WAIT_SECONDS
    pause = 0.05
    while not condition():
        assert time.monotonic() < deadline, "the condition has not come"
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
