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
from replay.simulation.town import Town
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests import adversarial
from tests.adversarial import Stream

DIGESTS_FILE = Path(__file__).with_name("digests.toml")
BATCH_ROWS = 500  # of an adversarial stream in a batch
STREAM_SEED = 7
ADVERSARIAL_STREAMS: dict[str, Callable[[], Stream]] = {  # a stream of each promise
    "mixed": lambda: adversarial.adversarial_stream(STREAM_SEED),
    "clock set back": lambda: adversarial.adversarial_stream(4014, interval=3600),
    "topic by topic": lambda: adversarial.by_topic(
        adversarial.adversarial_stream(STREAM_SEED)
    ),
    "events last": lambda: adversarial.by_topic(adversarial.town(27), events_last=True),
    "any order": lambda: adversarial.shuffled(
        adversarial.town(STREAM_SEED), STREAM_SEED, 9 * HOUR_SECONDS
    ),
    "drawn topics": lambda: adversarial.drawn_topics(
        adversarial.town(24), np.random.default_rng(24)
    ),
    "meter by meter": lambda: adversarial.by_meter(adversarial.town(STREAM_SEED)),
    "a day late": lambda: adversarial.straggling(
        adversarial.town(STREAM_SEED), STREAM_SEED, 0, DAY_SECONDS
    ),
    "two days late": lambda: adversarial.straggling(
        adversarial.town(STREAM_SEED, noise=False),
        STREAM_SEED,
        DAY_SECONDS,
        2 * DAY_SECONDS,
    ),
    "duplicates": lambda: adversarial.duplicated(
        adversarial.town(STREAM_SEED), STREAM_SEED, 0.3
    ),
    "corrections": lambda: adversarial.corrected(
        adversarial.town(STREAM_SEED), STREAM_SEED, 0.5
    ),
    "wrong clock": lambda: _with_wrong_clock(adversarial.town(9469)),
    "1970 and 2038": lambda: adversarial.mistimed(
        adversarial.town(STREAM_SEED), STREAM_SEED
    ),
    "areas apart": lambda: adversarial.staggered_areas(
        adversarial.adversarial_stream(STREAM_SEED), STREAM_SEED
    ),
    "area quiet": lambda: _with_quiet_area(adversarial.town(STREAM_SEED)),
    "late work": lambda: adversarial.with_work_items(
        adversarial.town(STREAM_SEED), STREAM_SEED
    ),
}


class _Digest(NamedTuple):
    """How many alerts a stream raised, and their lines."""

    stream: str
    lines: list[str]

    @property
    def text(self) -> str:
        """The number of lines, and a hash of them."""
        joined = "\n".join(self.lines)
        return f"{len(self.lines)} {sha256(joined.encode()).hexdigest()[:32]}"


def _line_of(alert: Alert) -> str:
    """An alert without its sentences, its id and the names of its fields."""
    known = [
        alert.rule,
        alert.area,
        alert.subject,
        alert.since,
        alert.state,
        alert.severity,
        alert.raised,
        alert.at,
    ]
    return msgspec.json.encode(
        [*known, alert.score, alert.phase, sorted(alert.evidence.items())]
    ).decode()


def _digest_of(stream: str, alerts: Iterable[Alert]) -> _Digest:
    """The digest of the last state of every alert, withdrawn ones included."""
    last = {alert.id: alert for alert in alerts}
    return _Digest(stream, sorted(map(_line_of, last.values())))


def _simulated(
    stream: str, meters: int, days: int, seed: int, *, faults: bool
) -> _Digest:
    """The digest of a simulated town."""
    town = Town(meters, days, seed, faults=faults)
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    return _digest_of(
        stream, (alert for batch in town.batches() for alert in engine.step(batch))
    )


def _recorded(stream: str, paths: list[Path], zone: str) -> _Digest:
    """The digest of a history in files."""
    source = open_sources(paths)
    engine = Engine(zone=source.zone or zone, interval=source.interval or 900)
    engine.enroll(source.areas)
    return _digest_of(
        stream, (alert for batch in source.batches for alert in engine.step(batch))
    )


def _adversarial(name: str) -> _Digest:
    """The digest of an adversarial stream, after which time passes for nine days."""
    stream = ADVERSARIAL_STREAMS[name]()
    engine = Engine(zone=stream.zone, interval=stream.interval)
    engine.enroll(stream.areas)
    alerts: list[Alert] = []
    for batch in stream.batches(range(0, len(stream.rows), BATCH_ROWS)):
        alerts += engine.step(batch)
    end = max(row.at for row in stream.rows if row.at < 2**31 - 1)
    return _digest_of(name, alerts + engine.tick(end + 9 * DAY_SECONDS))


def _with_wrong_clock(stream: Stream) -> Stream:
    """One meter's clock is 40 days ahead."""
    area = stream.areas[0]
    meter = next(meter.meter for meter in area.meters if meter.meter != area.gateway)
    return adversarial.with_wrong_clock(stream, area.area, meter, 40 * DAY_SECONDS)


def _with_quiet_area(stream: Stream) -> Stream:
    """The first area is silent from the middle on."""
    middle = (stream.rows[0].at + stream.rows[-1].at) // 2
    return stream.with_rows(
        row
        for row in stream.rows
        if row.area != stream.areas[0].area or row.at < middle
    )


def _tasks(data: Path | None) -> Iterator[Callable[[], _Digest]]:
    """Every stream to digest, the longest first."""
    if data:
        yield partial(
            _recorded,
            "billing log",
            [data / "hospital_billing_stages.parquet"],
            "Europe/Amsterdam",
        )
        yield partial(
            _recorded,
            "households",
            [data / "sgsc_25households_halfhourly.parquet"],
            "Australia/Sydney",
        )
        yield partial(
            _recorded, "garden4", sorted(data.glob("garden4_*")), "Asia/Shanghai"
        )

    yield partial(_simulated, "demo town", 3000, 12, 1, faults=True)
    yield partial(_simulated, "clean town", 300, 30, 11, faults=False)

    for name in ADVERSARIAL_STREAMS:
        yield partial(_adversarial, name)


def _run(task: Callable[[], _Digest]) -> _Digest:
    return task()


def main() -> int:
    """Compares the digests with the file's, or writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", type=Path, nargs="?", help="the folder with the real data sets"
    )
    parser.add_argument("--write", action="store_true", help="write bench/digests.toml")
    parser.add_argument(
        "--lines", type=Path, metavar="FOLDER", help="write the lines to files"
    )
    options = parser.parse_args()

    with ProcessPoolExecutor(cpu_count(), get_context("spawn")) as pool:
        digests = list(pool.map(_run, _tasks(options.data)))

    if options.lines:
        options.lines.mkdir(parents=True, exist_ok=True)
        for digest in digests:
            (options.lines / f"{digest.stream.replace(' ', '_')}.txt").write_text(
                "\n".join(digest.lines), "utf-8"
            )
    if options.write:
        DIGESTS_FILE.write_text(
            "".join(f'"{digest.stream}" = "{digest.text}"\n' for digest in digests),
            "utf-8",
        )
        return 0

    known = tomllib.loads(DIGESTS_FILE.read_text("utf-8"))
    others = [digest for digest in digests if known[digest.stream] != digest.text]
    for digest in others:
        print(
            f"{digest.stream}: was {known[digest.stream]}, is {digest.text}",
            file=sys.stderr,
        )
    print(
        f"{len(digests) - len(others)} of {len(digests)} streams end with the same alerts"
    )
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
