"""Alerts of the same day (severity 1) to Alertmanager, for the duty of operations.

Alertmanager forgets what is not repeated, so the sink keeps the alerts that stand and repeats them. It belongs to no
consumer group: it reads the topic from its beginning, which holds the newest state of every alert.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import aiohttp

from schemas.alert import Alert
from streams.kafka.alerts import alert_of, alert_partitions
from streams.kafka.readers import FETCH_WAIT_MS, read_to_end, reader
from streams.settings import Settings
from streams.sinks.delivery import SinkMetrics, until_taken

ANSWER_SECONDS = 30.0  # that Alertmanager has
REPEAT_SECONDS = 60.0  # between two posts of the same alerts
# An alert that is not repeated for so long is over for Alertmanager.
LASTING_SECONDS = 300.0
URGENT_SEVERITY = 1
LONGEST_REASON = 200  # bytes of what Alertmanager says to a refusal


class AlertmanagerError(Exception):
    """Alertmanager refuses alerts; says with which status and why."""


class AlertmanagerSink:
    """Posts alerts to the v2 API."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v2/alerts"

    async def take(self, alerts: Sequence[Alert]) -> None:
        """Posts alerts. Raises AlertmanagerError, ClientError and TimeoutError."""
        now = time.time()
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        body = [posted(alert, now) for alert in alerts]
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            # a page to log in on, behind a redirect, would answer 200
            session.post(self._url, json=body, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                content = await answer.content.read(LONGEST_REASON)
                text = content.decode(errors="replace")
                raise AlertmanagerError(f"Alertmanager answers {answer.status} {text}")


async def mirror(
    settings: Settings, sink: AlertmanagerSink, metrics: SinkMetrics
) -> NoReturn:
    """Keeps Alertmanager at the urgent alerts that stand, for ever. Raises UnansweredError."""
    urgent = UrgentAlerts()
    async with reader(settings) as consumer:
        tps = alert_partitions(settings)
        starts = await consumer.beginning_offsets(tps)
        ends = await consumer.end_offsets(tps)
        async for _, records in read_to_end(consumer, starts, ends):
            urgent.note([alert for record in records if (alert := alert_of(record))])

        consumer.assign(tps)
        for tp, end in ends.items():
            consumer.seek(tp, end)
        while True:
            if urgent.is_due() and (alerts := urgent.due()):
                await until_taken(sink.take, alerts, metrics)
            urgent.posted()
            fetched = await consumer.getmany(timeout_ms=FETCH_WAIT_MS)
            for records in fetched.values():
                urgent.note(
                    [alert for record in records if (alert := alert_of(record))]
                )


class UrgentAlerts:
    """The urgent alerts that stand, and the ones that ended since the last post."""

    def __init__(self) -> None:
        self._standing: dict[str, Alert] = {}
        self._ended: dict[str, Alert] = {}
        self._posted_at = -REPEAT_SECONDS
        self._changed = True

    def note(self, alerts: Sequence[Alert]) -> None:
        """Takes in alerts as they are published."""
        for alert in alerts:
            if is_urgent(alert):
                self._standing[alert.id] = alert
                self._ended.pop(alert.id, None)
                self._changed = True
            elif self._standing.pop(alert.id, None):
                self._ended[alert.id] = alert
                self._changed = True

    def is_due(self) -> bool:
        """True if something has changed, or the alerts that stand are to be repeated."""
        return self._changed or time.monotonic() - self._posted_at >= REPEAT_SECONDS

    def due(self) -> list[Alert]:
        """The alerts to post."""
        return [*self._standing.values(), *self._ended.values()]

    def posted(self) -> None:
        """Notes that Alertmanager has them."""
        if self.is_due():
            self._posted_at = time.monotonic()
            self._changed = False
            self._ended.clear()


def is_urgent(alert: Alert) -> bool:
    """True if an alert is for the same day, stands, and is shown."""
    is_shown = alert.state == "raised" and not alert.suppressed_by
    return is_shown and alert.severity == URGENT_SEVERITY


def posted(alert: Alert, now: float) -> dict[str, Any]:
    """An alert as Alertmanager takes it; one that does not stand ends now."""
    ends = now + LASTING_SECONDS if is_urgent(alert) else now
    return {
        "labels": {
            "alertname": alert.rule,
            "source": "meterwatch",
            "severity": str(URGENT_SEVERITY),
            "area": alert.area,
            "subject": alert.subject,
            "id": alert.id,
        },
        "annotations": {"summary": alert.en, "summary_zh": alert.zh},
        "startsAt": datetime.fromtimestamp(alert.raised, UTC).isoformat(),
        "endsAt": datetime.fromtimestamp(ends, UTC).isoformat(),
    }
