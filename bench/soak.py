"""`python -m bench.soak [MINUTES]`: a worker at half of what it sustains of all topics, and whether anything grows.

Event time runs faster than the wall, several days in a few minutes, so that days open, close, are sealed and dropped.
Writes soak.csv and soak.svg and prints the slopes: from the middle on, from when as many days are open as ever will be,
and from when as many alerts are remembered (forty days of them) as ever will be. A worker that ends is started again
and counted. A run of three minutes shows that all is well; half an hour, whether it grows.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple, Self

import numpy as np
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from numpy.typing import NDArray
from rich.console import Console

from bench import sustained
from bench.feed import Feed, waiting
from bench.load import SLOTS_PER_DAY, Load
from bench.plot import PlotCurve, picture
from bench.steady import longest_calls, pause_at_most
from bench.testbed import CHECKOUT_FOLDER, Testbed, total, wait
from schemas.topics import LARGE_CONFIG, READS_TOPIC, RECEIPT_TIME_CONFIG
from streams.kafka.broker import Broker
from streams.settings import Settings
from tests.workers import Samples

SOAK_METERS = 20_000  # few, so that forty days pass in half an hour
MEASURED_SLOTS = (
    4 * SLOTS_PER_DAY
)  # quarter-hours over which it is measured what the worker sustains
SAMPLE_SECONDS = 5.0  # seconds between samples
FULL_AFTER = (
    5,
    41,
)  # days of event time, from which no more days are open, and no more alerts remembered, than before
ENOUGH_SAMPLES = 12 * 2  # samples: two minutes
READINGS_RETENTION = {
    "retention.bytes": str(512 << 20),
    "segment.bytes": str(64 << 20),
}  # of a partition of readings
PLOT_CURVES = (
    PlotCurve("memory", "MB resident", 1e-6),
    PlotCurve("checkpoint", "MB in the last checkpoints", 1e-6),
    PlotCurve("lag", "frames that wait", 1.0),
    PlotCurve("alerts", "alert messages so far", 1.0),
)


class _Sample(NamedTuple):
    """How the worker stands."""

    seconds: float  # since the first sample
    days: float  # of event time that were sent
    memory: float  # bytes resident
    checkpoint: float  # bytes of state in the last checkpoints
    lag: float  # frames
    alerts: float  # messages so far
    cpu: float  # seconds so far
    pause: float  # seconds for which the event loop was held at most so far
    restarts: int


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument(
        "minutes", nargs="?", type=float, default=30.0, help="[default: 30]"
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=CHECKOUT_FOLDER / "docs",
        help="the folder of CSV and picture",
    )
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)

    with (
        tempfile.TemporaryDirectory(prefix="meterwatch-soak-") as name,
        Broker(Path(name) / "kafka") as broker,
    ):
        folder = Path(name)
        rate = (
            sustained.measure(
                broker.address, folder, meters=SOAK_METERS, slots=MEASURED_SLOTS, runs=1
            ).median
            / 2
        )
        console.print(
            f"{rate:,.0f} readings/s of {SOAK_METERS:,} meters with all topics for {options.minutes:g} minutes"
        )
        place = Testbed(broker.address, folder, "soak", instance="one")
        asyncio.run(_configure(place.settings, READINGS_RETENTION))
        place.enroll(Load(SOAK_METERS).areas())

        with (
            _RestartedWorker(place) as worker,
            Feed(place, rate, SOAK_METERS, 0) as feed,
        ):
            feed.begin()
            wait(
                lambda: total(worker.scrape(), "meterwatch_judged_total"),
                "the worker judges",
            )
            samples = _take_samples(
                worker, rate, 60 * options.minutes, options.to / "soak.csv"
            )
            calls = longest_calls([worker.scrape()])

    (options.to / "soak.svg").write_text(
        picture(
            [sample.seconds / 60 for sample in samples],
            _columns_of(samples),
            PLOT_CURVES,
        ),
        "utf-8",
    )
    _show(samples, console)

    for cause, longest in sorted(calls.items()):
        console.print(f"longest call of {cause:10} {longest:8.3f} s of CPU")


class _RestartedWorker:
    """A worker that is started again when it ends."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed, self.restarts = testbed, 0
        self._worker = testbed.worker(testbed.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.kill()

    def scrape(self) -> Samples:
        """Its metrics; nothing while it starts."""
        if self._worker.process.poll() is not None:
            self.restarts += 1
            self._worker = self._testbed.worker(self._testbed.name)
        return self._worker.scrape()


def _show(samples: Sequence[_Sample], console: Console) -> None:
    """Prints how the worker stood, and how much of it has grown from when it need not grow any more."""
    last = samples[-1]
    console.print(
        f"{last.days:.1f} days of event time, {last.alerts:,.0f} alert messages, {last.restarts} restarts"
    )
    lags = [sample.lag for sample in samples]
    console.print(
        f"frames that wait: {np.median(lags):,.0f} usually, {max(lags):,.0f} at most; "
        f"the event loop was held for {np.nanmax([sample.pause for sample in samples]):g} s at most"
    )
    spans = {"the middle": last.seconds / 2}
    spans |= {
        f"day {days}": next(
            (sample.seconds for sample in samples if sample.days > days), np.inf
        )
        for days in FULL_AFTER
    }

    for name, begin in spans.items():
        full = [sample for sample in samples if sample.seconds >= begin]
        if len(full) <= ENOUGH_SAMPLES:
            continue
        columns = _columns_of(full)
        for curve in ("memory", "checkpoint", "lag"):
            slope, margin = _growth_per_hour(columns["seconds"], columns[curve])
            console.print(
                f"from {name}: {curve:10} {slope:+16,.0f} an hour, 95 % within {margin:,.0f}; "
                f"mean {np.mean(columns[curve]):,.0f}"
            )


def _take_samples(
    worker: _RestartedWorker, rate: float, seconds: float, path: Path
) -> list[_Sample]:
    """A sample every few seconds, written down as it is taken."""
    samples: list[_Sample] = []
    began = time.monotonic()

    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_Sample._fields)

        while (now := time.monotonic() - began) < seconds:
            samples.append(
                _sample_of(
                    now,
                    rate * now / SOAK_METERS / SLOTS_PER_DAY,
                    worker.scrape(),
                    worker.restarts,
                )
            )
            rows.writerow(f"{value:.10g}" for value in samples[-1])
            file.flush()
            time.sleep(
                max(0.0, began + len(samples) * SAMPLE_SECONDS - time.monotonic())
            )

    return samples


def _sample_of(now: float, days: float, found: Samples, restarts: int) -> _Sample:
    """The metrics at a time."""
    return _Sample(
        now,
        days,
        total(found, "process_resident_memory_bytes"),
        total(found, "meterwatch_checkpoint_bytes"),
        waiting(found) or 0.0,
        total(found, "meterwatch_alerts_total")
        + total(found, "meterwatch_alerts_suppressed_total"),
        total(found, "process_cpu_seconds_total"),
        pause_at_most([found]),
        restarts,
    )


def _columns_of(samples: Sequence[_Sample]) -> dict[str, list[float]]:
    """The samples by column."""
    columns = zip(*samples, strict=True)
    return dict(zip(_Sample._fields, map(list, columns), strict=True))


def _growth_per_hour(
    seconds: Sequence[float], values: Sequence[float]
) -> tuple[float, float]:
    """Growth an hour and half the width of its 95 % interval, of a line through the medians of the minutes.

    What is sampled often is not independent: a minute counts as one observation.

    >>> slope, margin = _growth_per_hour([10.0 * n for n in range(360)], [5.0 * n for n in range(360)])
    >>> round(slope), round(margin)
    (1800, 0)
    """
    minutes = np.asarray(seconds, float) // 60
    at = np.unique(minutes)
    middle = np.array(
        [np.median(np.asarray(values, float)[minutes == minute]) for minute in at]
    )
    hours: NDArray[np.float64] = (at - at.mean()) / 60
    slope = float((hours * middle).sum() / (hours**2).sum())
    rest = middle - middle.mean() - slope * hours
    error = float(np.sqrt((rest**2).sum() / max(len(at) - 2, 1) / (hours**2).sum()))
    return slope, NormalDist().inv_cdf(0.975) * error


async def _configure(settings: Settings, topic_config: dict[str, str]) -> None:
    """Sets the readings' topic so that old readings go, else the disk fills."""
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        configs = LARGE_CONFIG | RECEIPT_TIME_CONFIG | topic_config
        await admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC, settings.topic(READS_TOPIC), configs
                )
            ]
        )
    finally:
        await admin.close()


if __name__ == "__main__":
    main()
