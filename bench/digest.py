"""`python -m bench.digest DATA` digests the last state of every alert of known streams.

A change that must not change what is detected leaves every digest as it stands in bench/digests.toml.
`--write` writes that file; `--lines FOLDER` writes the digested lines, so that two versions can be compared.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from detectors.engine import Engine
from replay.sources import open_sources
from replay.town import Town
from schemas.alert import Alert
from tests import hostile
from tests.hostile import DAY, HOUR, Stream

DIGESTS = Path(__file__).with_name("digests.toml")
ROWS = 500  # of an adversarial stream in a batch
SEED = 7
ADVERSARIAL: dict[str, Callable[[], Stream]] = {  # a stream of each promise
    "mixed": lambda: hostile.hostile(SEED),
    "clock set back": lambda: hostile.hostile(4014, interval=3600),
    "topic by topic": lambda: hostile.by_topic(hostile.hostile(SEED)),
    "events last": lambda: hostile.by_topic(hostile.town(27), events_last=True),
    "any order": lambda: hostile.shuffled(hostile.town(SEED), SEED, 9 * HOUR),
    "drawn topics": lambda: hostile.drawn_topics(hostile.town(24), np.random.default_rng(24)),
    "meter by meter": lambda: hostile.by_meter(hostile.town(SEED)),
    "a day late": lambda: hostile.straggling(hostile.town(SEED), SEED, 0, DAY),
    "two days late": lambda: hostile.straggling(hostile.town(SEED, noise=False), SEED, DAY, 2 * DAY),
    "duplicates": lambda: hostile.duplicated(hostile.town(SEED), SEED, 0.3),
    "corrections": lambda: hostile.corrected(hostile.town(SEED), SEED, 0.5),
    "wrong clock": lambda: _with_wrong_clock(hostile.town(9469)),
    "1970 and 2038": lambda: hostile.mistimed(hostile.town(SEED), SEED),
    "areas apart": lambda: hostile.apart(hostile.hostile(SEED), SEED),
    "area quiet": lambda: _with_quiet_area(hostile.town(SEED)),
    "late work": lambda: hostile.working(hostile.town(SEED), SEED),
}


class Digest(NamedTuple):
    """How many alerts a stream raised, and their lines."""

    stream: str
    lines: list[str]

    @property
    def text(self) -> str:
        """The number of lines, and a hash of them."""
        joined = "\n".join(self.lines)
        return f"{len(self.lines)} {sha256(joined.encode()).hexdigest()[:32]}"


def line_of(alert: Alert) -> str:
    """An alert without its sentences, its id and the names of its fields."""
    known = [alert.rule, alert.area, alert.subject, alert.since, alert.state, alert.severity, alert.raised, alert.at]
    return msgspec.json.encode([*known, alert.score, alert.phase, sorted(alert.evidence.items())]).decode()


def digest_of(stream: str, alerts: Iterable[Alert]) -> Digest:
    """The digest of the last state of every alert, withdrawn ones included."""
    last = {alert.id: alert for alert in alerts}
    return Digest(stream, sorted(map(line_of, last.values())))


def simulated(stream: str, meters: int, days: int, seed: int, *, faults: bool) -> Digest:
    """The digest of a simulated town."""
    town = Town(meters, days, seed, faults=faults)
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    return digest_of(stream, (alert for batch in town.batches() for alert in engine.step(batch)))


def recorded(stream: str, paths: list[Path], zone: str) -> Digest:
    """The digest of a history in files."""
    source = open_sources(paths)
    engine = Engine(zone=source.zone or zone, interval=source.interval or 900)
    engine.enroll(source.areas)
    return digest_of(stream, (alert for batch in source.batches for alert in engine.step(batch)))


def adversarial(name: str) -> Digest:
    """The digest of an adversarial stream, after which time passes for nine days."""
    stream = ADVERSARIAL[name]()
    engine = Engine(zone=stream.zone, interval=stream.interval)
    engine.enroll(stream.areas)
    alerts: list[Alert] = []
    for batch in stream.batches(range(0, len(stream.rows), ROWS)):
        alerts += engine.step(batch)
    end = max(row.at for row in stream.rows if row.at < 2**31 - 1)
    return digest_of(name, alerts + engine.tick(end + 9 * DAY))


def _with_wrong_clock(stream: Stream) -> Stream:
    """One meter's clock is 40 days ahead."""
    area = stream.areas[0]
    meter = next(meter.meter for meter in area.meters if meter.meter != area.gateway)
    return hostile.astray(stream, area.area, meter, 40 * DAY)


def _with_quiet_area(stream: Stream) -> Stream:
    """The first area is silent from the middle on."""
    middle = (stream.rows[0].at + stream.rows[-1].at) // 2
    return stream.with_rows(row for row in stream.rows if row.area != stream.areas[0].area or row.at < middle)


def tasks(data: Path | None) -> Iterator[Callable[[], Digest]]:
    """Every stream to digest, the longest first."""
    if data:
        yield partial(recorded, "billing log", [data / "hospital_billing_stages.parquet"], "Europe/Amsterdam")
        yield partial(recorded, "households", [data / "sgsc_25households_halfhourly.parquet"], "Australia/Sydney")
        yield partial(recorded, "garden4", sorted(data.glob("garden4_*")), "Asia/Shanghai")
    yield partial(simulated, "demo town", 3000, 12, 1, faults=True)
    yield partial(simulated, "clean town", 300, 30, 11, faults=False)
    for name in ADVERSARIAL:
        yield partial(adversarial, name)


def _run(task: Callable[[], Digest]) -> Digest:
    return task()


def main() -> int:
    """Compares the digests with those that stand in the file, or writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="the folder with the real data sets")
    parser.add_argument("--write", action="store_true", help="write bench/digests.toml")
    parser.add_argument("--lines", type=Path, metavar="FOLDER", help="write the lines to files")
    options = parser.parse_args()

    with ProcessPoolExecutor(cpu_count(), get_context("spawn")) as pool:
        digests = list(pool.map(_run, tasks(options.data)))

    if options.lines:
        options.lines.mkdir(parents=True, exist_ok=True)
        for digest in digests:
            (options.lines / f"{digest.stream.replace(' ', '_')}.txt").write_text("\n".join(digest.lines), "utf-8")
    if options.write:
        DIGESTS.write_text("".join(f'"{digest.stream}" = "{digest.text}"\n' for digest in digests), "utf-8")
        return 0

    known = tomllib.loads(DIGESTS.read_text("utf-8"))
    others = [digest for digest in digests if known[digest.stream] != digest.text]
    for digest in others:
        print(f"{digest.stream}: was {known[digest.stream]}, is {digest.text}", file=sys.stderr)
    print(f"{len(digests) - len(others)} of {len(digests)} streams end with the same alerts")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
