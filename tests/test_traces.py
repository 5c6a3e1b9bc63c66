"""The W3C trace context of a record goes on to the alerts that it raises."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.topics import ALERTS_TOPIC, READS_TOPIC
from schemas.wire import Reason, decode_alert, encode
from streams.kafka.outbox import producer
from streams.kafka.records import TRACE_HEADER, Damage, traces_of
from streams.settings import Settings
from tests.chaos import publish_areas
from tests.workers import WorkerProcess, all_checkpointed, records, wait

START_TIME = 1_700_006_400
TRACE_FORM = b"00-0af7651916cd43dd8448eb211c80319c-%016x-01"


def record(key: bytes | None, *headers: tuple[str, bytes | None]) -> Damage:
    return Damage(0, 0, None, b"", Reason.CORRUPT, "", key, headers)


def test_the_last_valid_trace_of_each_key_counts():
    found = traces_of(
        [
            record(b"A", (TRACE_HEADER, TRACE_FORM % 1)),
            record(b"A", ("content-type", b"x"), (TRACE_HEADER, TRACE_FORM % 2)),
            record(b"A"),
            record(b"B", (TRACE_HEADER, b"00-" + b"0" * 5000)),
            record(b"C", (TRACE_HEADER, None)),
            record(None, (TRACE_HEADER, TRACE_FORM % 3)),
        ]
    )
    assert found == {"A": TRACE_FORM % 2}


def lost_phase(area: str, at: int) -> Readings:
    """A reading of two meters, one of which has lost a phase."""
    volts = np.full((3, 2), 220.0)
    volts[1, 0] = 150.0
    names = (f"{area}-a", f"{area}-b")
    rows = np.arange(2)
    return Readings.build(
        names, rows, (area,), 0 * rows, 0 * rows + at, u=volts, i=np.full((3, 2), 4.0)
    )


async def send(settings: Settings) -> None:
    """Two hours of two areas, of which only one has traces."""
    areas = [
        Area(
            area=area, meters=[Meter(meter=f"{area}-{n}", wiring="3P4W") for n in "ab"]
        )
        for area in ("traced", "plain")
    ]
    async with producer(settings) as client:
        await publish_areas(client, settings, areas)

        for step in range(8):
            for area in ("traced", "plain"):
                batch = lost_phase(area, START_TIME + 900 * step)
                for key, value, content_type in encode(batch, "array"):
                    headers = [("content-type", content_type.encode())]
                    if area == "traced":
                        headers.append((TRACE_HEADER, TRACE_FORM % step))
                    topic = settings.topic(READS_TOPIC)
                    await client.send(topic, value, key, headers=headers)
        await client.flush()


def test_an_alert_has_the_trace_of_its_record(
    settings: Settings, environment: dict[str, str], tmp_path: Path
):
    asyncio.run(send(settings))
    with WorkerProcess(environment, tmp_path / "log"):
        wait(lambda: all_checkpointed(settings))
    traces: dict[str, set[bytes | None]] = {}
    for published in asyncio.run(records(settings, ALERTS_TOPIC)):
        alert = decode_alert(published.value)
        trace = dict(published.headers).get(TRACE_HEADER)
        traces.setdefault(alert.area, set()).add(trace)
    assert traces.keys() == {"traced", "plain"}
    assert traces["plain"] == {None}
    assert None not in traces["traced"]
    assert traces["traced"] <= {TRACE_FORM % step for step in range(8)}
