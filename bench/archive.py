"""How fast an archive of many meters gives the rows of one: ``python -m bench.archive FOLDER``.

It writes hourly readings of 100,000 meters over 35 days, unless FOLDER has them from an earlier run, and reads the
35 days of meters drawn by chance: first with the process's first look at the files, then again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from replay.archive.reading import archive_at
from replay.archive.selection import ArchivedRows, WantedRows
from replay.archive.storage import storage_of
from replay.archive.writing import ArchiveCommit, open_writer
from schemas.columns import Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS

ARCHIVE_ZONE = "Asia/Shanghai"
START_TIME = 1_772_294_400  # midnight of 2026-03-01 there
AREA_METERS = 200
NOMINAL_VOLTS = 220
DAYTIME_HOURS = np.arange(24)


def days_of(meters: int, days: int, seed: int = 1) -> Iterator[Readings]:
    """The hourly readings of each day: energy, voltage and current of single-phase meters."""
    draws = np.random.default_rng(seed)
    names = [f"M{number:07}" for number in range(meters)]
    areas = [f"A{number:05}" for number in range(-(-meters // AREA_METERS))]
    meter = np.tile(np.arange(meters), 24)
    hour = np.repeat(DAYTIME_HOURS, meters)
    usual = draws.gamma(2, 0.2, meters)[meter]

    for day in range(days):
        kwh = usual * draws.gamma(4, 0.25, len(meter))
        i = np.full((3, len(meter)), np.nan)
        u = np.full((3, len(meter)), np.nan)
        u[0] = draws.normal(NOMINAL_VOLTS, 3, len(meter))
        i[0] = kwh * 1000 / u[0]
        at = START_TIME + day * DAY_SECONDS + (hour + 1) * HOUR_SECONDS
        yield Readings.build(
            names,
            meter,
            areas,
            meter // AREA_METERS,
            at,
            kwh=kwh.round(3),
            u=u.round(1),
            i=i.round(3),
        )


def build(folder: Path, meters: int, days: int) -> float:
    """Writes the archive, a day a commit; returns the seconds. The last two days are not cut into shards yet."""
    began = time.perf_counter()
    with open_writer(folder, ARCHIVE_ZONE) as writer:
        for readings in days_of(meters, days):
            writer.commit(ArchiveCommit([readings]), time.time())
    return time.perf_counter() - began


class Taken(NamedTuple):
    """The milliseconds of a read: by the clock, and of all cores' work."""

    elapsed: float
    worked: float


def reads_of(folder: Path, meters: int, days: int, reads: int) -> list[Taken]:
    """How long each of so many reads of one meter's days takes, the opening of the archive included."""
    draws = np.random.default_rng(2)
    taken = []

    for meter in draws.integers(0, meters, reads).tolist():
        began, before = time.perf_counter(), time.process_time()
        wanted = WantedRows(
            Readings,
            f"A{meter // AREA_METERS:05}",
            f"M{meter:07}",
            START_TIME,
            START_TIME + days * DAY_SECONDS,
            frozenset({"kwh", "u", "i"}),
        )
        rows = ArchivedRows(storage_of(folder)).rows(wanted)
        elapsed, worked = time.perf_counter() - began, time.process_time() - before
        taken.append(Taken(1000 * elapsed, 1000 * worked))
        assert len(rows) == 24 * days, (len(rows), meter)  # noqa: S101 - a bench that reads too little measures nothing
    return taken


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--meters", type=int, default=100_000)
    arguments.add_argument("--days", type=int, default=35)
    arguments.add_argument("--reads", type=int, default=21)
    given = arguments.parse_args()

    if archive_at(given.folder) is None:
        seconds = build(given.folder, given.meters, given.days)
        print(f"written in {seconds:,.0f} s")
    files = [path for path in given.folder.rglob("*.parquet") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files):,} files, {size / 1e9:.2f} GB, {os.cpu_count()} cores")

    taken = reads_of(given.folder, given.meters, given.days, given.reads)
    elapsed = [read.elapsed for read in taken]
    print(
        f"{given.days} days of one of {given.meters:,} meters: first {elapsed[0]:.0f} ms, "
        f"median {median(elapsed):.0f} ms, slowest {max(elapsed):.0f} ms of {len(taken)}; "
        f"processor time {median(read.worked for read in taken):.0f} ms; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
