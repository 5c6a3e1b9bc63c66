"""What a worker sustains: readings a second over a day of all topics, with everything that days bring.

A midnight, closing, sealing and checkpoints as often as under a steady load: half of it is half a load on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.engine import BEFORE_MIDNIGHT
from bench.live import drain
from bench.load import SLOTS_PER_DAY, Load
from bench.others import messages, topic_loads
from bench.results import READINGS_PER_SECOND, Result, summed
from bench.testbed import Testbed
from schemas.columns import Readings
from schemas.topics import READS_TOPIC
from schemas.wire import Encoded, encode

CHECKPOINT_SECONDS = (
    10  # six times as often as by default, so that some fall into every spell
)
SPARSE_DAYS = (
    4,
    3,
    2,
)  # days before the load; two quarter-hours of each have readings, so that it is open
WHOLE_SLOTS = 160  # quarter-hours right before the load, all with readings: the gaps of the sparse days are given up
HISTORY_SLOTS = 2 * len(SPARSE_DAYS) + WHOLE_SLOTS  # quarter-hours of history
AT_ONCE = 25  # messages, about as many as come at once under a steady load


def measure(
    brokers: str, folder: Path, *, meters: int, slots: int, runs: int
) -> Result:
    """So many runs over the same quarter-hours from before a midnight on, with all days of every area open."""
    found = []
    with Testbed(
        brokers, folder, "sustained", checkpoint_seconds=CHECKPOINT_SECONDS
    ) as place:
        place.enroll(Load(meters).areas())
        place.produce(history(meters))
        place.produce(_quarter_hours(meters, slots), AT_ONCE)

        for number in range(runs):
            if number:
                place.renew()
            with place.worker() as worker:
                found.append(
                    drain(
                        worker,
                        Readings.kind,
                        HISTORY_SLOTS * meters,
                        (HISTORY_SLOTS + slots) * meters,
                    )
                )

    cpu = median(run.cpu for run in found)
    note = f"{cpu:.2f} µs CPU each; all topics, a midnight, checkpoints every {CHECKPOINT_SECONDS} s"
    return summed("sustained", READINGS_PER_SECOND, [run.rate for run in found], note)


def _quarter_hours(meters: int, slots: int) -> Iterator[tuple[str, Encoded]]:
    """The messages of so many quarter-hours, of all topics."""
    load = Load(meters, BEFORE_MIDNIGHT)
    others = topic_loads(load)
    for _ in range(slots):
        yield from messages(load, others)


def history(meters: int) -> Iterator[tuple[str, Encoded]]:
    """The messages of the days before."""
    return (
        (READS_TOPIC, message)
        for slot in days_before(meters)
        for message in encode(slot, "packed")
    )


def days_before(meters: int) -> Iterator[Readings]:
    """The quarter-hours of history; the registers end where a load's begin."""
    load = Load(meters, BEFORE_MIDNIGHT)
    first = load.register.copy()
    for _ in sparse(load):
        pass
    used = load.register - first
    load = Load(meters, BEFORE_MIDNIGHT)
    load.register -= used
    yield from sparse(load)


def sparse(load: Load) -> Iterator[Readings]:
    """Two quarter-hours of each of some days, and forty whole hours."""
    for days in SPARSE_DAYS:
        load.next = BEFORE_MIDNIGHT - days * SLOTS_PER_DAY
        yield from load.slots(2)
    load.next = BEFORE_MIDNIGHT - WHOLE_SLOTS
    yield from load.slots(WHOLE_SLOTS)
