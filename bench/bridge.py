"""How many records a bridge maps and publishes in a second, from a real broker on which they wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.engine import MORNING_SLOT
from bench.live import CPU_METRIC, LOOK_SECONDS, Run
from bench.load import Load
from bench.results import READINGS_PER_SECOND, Result, summed
from bench.testbed import PARTITION_COUNT, Testbed, total
from replay import layout
from schemas.wire import Encoded
from streams.settings import Settings
from tests.workers import Samples, WorkerProcess

FOREIGN_TOPIC = "ami"  # behind the prefix
ROWS_PUBLISHED = "meterwatch_bridge_rows_total"
MAPPING_TEXT = """topic = "{topic}"
area = "registry"
[columns]
meter = "deviceId"
at = "ts"
ua = "body.V1"
ia = "body.I1"
kwh = {{ from = "body.wh", unit = "Wh" }}
register = "body.total / 1000"
"""


def measure(
    brokers: str, folder: Path, *, meters: int, slots: int, runs: int
) -> Result:
    """So many runs over the same JSON records, one a reading, keyed by device."""
    found = []
    with Testbed(brokers, folder, "bridge_json") as place:
        load = Load(meters, MORNING_SLOT)
        place.enroll(load.areas())
        topic = place.settings.topic(FOREIGN_TOPIC)
        asyncio.run(_create(place.settings, topic))
        place.produce((FOREIGN_TOPIC, message) for message in _messages(load, slots))
        mapping = folder / "bridge.toml"
        mapping.write_text(MAPPING_TEXT.format(topic=topic))

        for number in range(runs):
            environment = place.environment | {"METERWATCH_GROUP": f"bridge-{number}"}
            log = folder / f"bridge-{number}.log"
            arguments = ("-m", "streams.cli", "bridge", str(mapping))
            with WorkerProcess(
                environment, log, *arguments, share=place.share
            ) as bridge:
                found.append(_drain(bridge, meters * slots))

    return summed(
        "bridge_json",
        READINGS_PER_SECOND,
        [run.rate for run in found],
        f"{median(run.cpu for run in found):.2f} µs CPU each",
    )


def _messages(load: Load, slots: int) -> Iterator[Encoded]:
    """The readings as another head-end sends them."""
    for slot in load.slots(slots):
        for row in layout.table_of(slot).to_pylist():
            body = {"V1": row["ua"], "I1": row["ia"], "total": row["register"] * 1000}
            if row["kwh"] is not None:
                body["wh"] = row["kwh"] * 1000
            record = {"deviceId": row["meter"], "ts": row["at"] * 1000, "body": body}
            yield row["meter"].encode(), json.dumps(record).encode(), "application/json"


async def _create(settings: Settings, topic: str) -> None:
    """Creates the topic of others."""
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITION_COUNT, 1)])
    finally:
        await admin.close()


def _drain(bridge: WorkerProcess, rows: int) -> Run:
    """From the first rows on their topic to the last."""
    first = last = _scrape(bridge)
    while not total(first[1], ROWS_PUBLISHED):
        time.sleep(LOOK_SECONDS)
        first = _scrape(bridge)
    while total(last[1], ROWS_PUBLISHED) < rows:
        time.sleep(LOOK_SECONDS)
        last = _scrape(bridge)

    published = rows - total(first[1], ROWS_PUBLISHED)
    cpu = total(last[1], CPU_METRIC) - total(first[1], CPU_METRIC)
    return Run(published / (last[0] - first[0]), 1e6 * cpu / published)


def _scrape(bridge: WorkerProcess) -> tuple[float, Samples]:
    """When the metrics were read, and their values."""
    return time.perf_counter(), bridge.scrape(ROWS_PUBLISHED, CPU_METRIC)
