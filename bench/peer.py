"""The naive peer: what one would write with Faust and river in an afternoon, on the same broker.

One agent, one JSON reading a message, `faust.Record`, fading mean and variance per meter, one HalfSpaceTrees that
scores and learns every reading, three rules. `python -m bench.peer BROKERS PREFIX GROUP` is its process; it says how
far it has come.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import faust
from river.anomaly import HalfSpaceTrees
from river.stats import EWMean, EWVar

from bench.load import Load
from bench.results import READINGS_PER_SECOND, Result, summed
from bench.testbed import CHECKOUT_FOLDER, Testbed
from schemas.topics import ALERTS_TOPIC, READS_TOPIC
from schemas.wire import encode
from tests.workers import cpu_limited

PEER_METERS = 5_000  # all known after the warm-up
WARM_UP_READINGS = 6_000  # readings
PROGRESS_READINGS = 1_000  # readings between two words


class _Reading(faust.Record, serializer="json"):
    """A reading as it travels."""

    meter: str
    at: int
    register: float
    kwh: float
    u: list[float]
    i: list[float]
    p: list[float]
    q: list[float]


class _Alarm(faust.Record, serializer="json"):
    """What a rule says."""

    meter: str
    at: int
    rule: str
    score: float


class Usual:
    """What is usual for a meter."""

    __slots__ = ("mean", "variance")

    def __init__(self) -> None:
        self.mean, self.variance = EWMean(0.05), EWVar(0.05)


def _serve(brokers: str, prefix: str, group: str) -> None:
    """Runs the app until it is killed."""
    app = faust.App(
        group,
        broker=f"aiokafka://{brokers}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
    )
    reads = app.topic(prefix + READS_TOPIC, value_type=_Reading)
    alarms = app.topic(prefix + ALERTS_TOPIC, value_type=_Alarm)
    usual: defaultdict[str, Usual] = defaultdict(Usual)
    trees = HalfSpaceTrees(
        limits={"u": (0, 300), "i": (0, 60), "p": (0, 20), "kwh": (0, 5)}, seed=1
    )
    count = 0

    @app.agent(reads)
    async def judge(readings: Any) -> None:
        nonlocal count
        async for reading in readings:
            features = {
                "u": reading.u[0],
                "i": reading.i[0],
                "p": sum(reading.p),
                "kwh": reading.kwh,
            }
            score = trees.score_one(features)
            trees.learn_one(features)
            known = usual[reading.meter]
            mean, spread = known.mean.get(), known.variance.get() ** 0.5
            known.mean.update(reading.kwh)

            known.variance.update(reading.kwh)
            for rule, trouble in (
                (
                    "voltage_loss",
                    any(
                        u < 0.78 * 220 and i > 0.025
                        for u, i in zip(reading.u, reading.i, strict=True)
                    ),
                ),
                ("over_capacity", sum(reading.p) > 50),
                ("unusual", score > 0.99 and abs(reading.kwh - mean) > 6 * spread > 0),
            ):
                if trouble:
                    await alarms.send(
                        key=reading.meter,
                        value=_Alarm(reading.meter, reading.at, rule, score),
                    )

            count += 1
            if count % PROGRESS_READINGS == 0:
                print(
                    json.dumps([count, time.perf_counter(), time.process_time()]),
                    flush=True,
                )

    worker = faust.Worker(app, loglevel="WARN", quiet=True, redirect_stdouts=False)
    worker.spinner = None
    logging.getLogger("mode").setLevel(logging.ERROR)
    worker.execute_from_commandline()


class PeerRun(NamedTuple):
    """Once it is warm."""

    rate: float  # readings a second
    cpu: float  # microseconds of its CPU a reading


def measure(brokers: str, folder: Path, *, readings: int, number: int) -> PeerRun:
    """One run, without start-up and warm-up; each of a broker has a number of its own."""
    with Testbed(brokers, folder, f"naive_peer_{number}") as place:
        slots = Load(PEER_METERS, 64).slots(
            -(-(WARM_UP_READINGS + readings) // PEER_METERS)
        )
        place.produce(
            (READS_TOPIC, message)
            for slot in slots
            for message in encode(slot, "single")
        )
        peer = _start(place, f"naive-{number}")
        with cpu_limited(peer, place.share):
            return _follow(peer, readings)


def row(runs: Sequence[PeerRun]) -> Result:
    """All runs of a bench as its row."""
    return summed(
        "naive_peer",
        READINGS_PER_SECOND,
        [run.rate for run in runs],
        f"{median(run.cpu for run in runs):.0f} µs CPU each",
    )


def _start(testbed: Testbed, group: str) -> subprocess.Popen[bytes]:
    """The peer's process."""
    with (testbed.folder / f"{group}.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.peer",
                testbed.settings.brokers,
                testbed.settings.prefix,
                group,
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=CHECKOUT_FOLDER,
            env=os.environ | {"APP_DATADIR": str(testbed.folder / f"{group}-data")},
        )


def _follow(process: subprocess.Popen[bytes], readings: int) -> PeerRun:
    """What it does until so many readings; ends the process. Raises RuntimeError when it ends itself."""
    begun: tuple[float, ...] = ()
    try:
        for line in process.stdout or ():
            count, wall, cpu = json.loads(line)
            if count == WARM_UP_READINGS:
                begun = count, wall, cpu
            if begun and count >= WARM_UP_READINGS + readings:
                done = count - begun[0]
                return PeerRun(done / (wall - begun[1]), 1e6 * (cpu - begun[2]) / done)
    finally:
        process.kill()
        process.wait()
    raise RuntimeError("the naive peer has ended by itself; its log says why")


if __name__ == "__main__":
    _serve(*sys.argv[1:])
