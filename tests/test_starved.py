"""Two workers with a fifth of a core from the start: they lag, live, reach checkpoints and catch up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.kafka.outbox import producer
from tests.chaos import (
    INTERVAL_SECONDS,
    adversarial_areas,
    portions,
    publish,
    publish_areas,
    undisturbed,
)
from tests.workers import (
    DUTY_CYCLE_SECONDS,
    WORKER_COMMAND,
    WorkerProcess,
    all_checkpointed,
    cpu_limited,
    published_states,
)

CPU_SHARE = 0.2
PATIENCE_SECONDS = 300  # seconds on a busy machine; usually a few tens
PORTION_COUNT = 20


@pytest.fixture
def environment(environment):
    return environment | {"METERWATCH_INTERVAL": str(INTERVAL_SECONDS)}


async def send(settings, stream):
    async with producer(settings) as client:
        await publish_areas(client, settings, stream.areas)
        for portion in portions(stream, PORTION_COUNT):
            await publish(client, settings, portion, "array")
            await client.flush()


@pytest.mark.broker
def test_starved_workers_reach_checkpoints_and_catch_up(
    environment, settings, tmp_path
):
    stream = adversarial_areas(4, 5)
    expected = undisturbed(stream, settings)
    asyncio.run(send(settings, stream))
    first, second = (
        # they import all that a worker needs with their share of the time
        WorkerProcess(
            environment, tmp_path / f"{n}.log", *WORKER_COMMAND, share=CPU_SHARE
        )
        for n in range(2)
    )

    with first, second:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all_checkpointed(settings):
            assert first.process.poll() is second.process.poll() is None, (
                "a worker has ended itself"
            )
            assert time.monotonic() < deadline, "the workers do not come to the end"
            time.sleep(0.5)
        assert first.end() == second.end() == 0

    assert published_states(settings) == expected.states


def state(process):
    """The state of the process by Linux; T is stopped."""
    return (
        Path(f"/proc/{process.pid}/stat")
        .read_text(encoding="ascii")
        .rpartition(")")[2]
        .split()[0]
    )


def test_throttled_process_gets_its_share_and_a_frozen_one_none():
    code = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with cpu_limited(process, CPU_SHARE) as holder:
        holder.freeze()
        time.sleep(3 * DUTY_CYCLE_SECONDS)
        assert state(process) == "T"
        holder.wake()
        used, _ = process.communicate()
    assert float(used) < 1.0, "it had half of the time, not a fifth"
