"""Alerts to a table of PostgreSQL, the newest revision of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from schemas.alert import Alert

ANSWER_SECONDS = 60.0  # that the database has for a batch
TIME_FIELDS = ("since", "raised", "at")
CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS meterwatch_alerts (
    id text PRIMARY KEY,
    rule text NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    area text NOT NULL,
    subject text NOT NULL,
    state text NOT NULL,
    change text NOT NULL,
    revision integer NOT NULL,
    severity integer NOT NULL,
    since timestamptz NOT NULL,
    raised timestamptz NOT NULL,
    at timestamptz NOT NULL,
    score double precision NOT NULL,
    phase text NOT NULL,
    evidence jsonb NOT NULL,
    suppressed_by text NOT NULL,
    en text NOT NULL,
    zh text NOT NULL,
    code text NOT NULL
)
"""
FIELD_NAMES = Alert.__struct_fields__
UPDATED_FIELDS = ", ".join(f"{name} = EXCLUDED.{name}" for name in FIELD_NAMES)
FIELD_PLACES = ", ".join(f"%({name})s" for name in FIELD_NAMES)
UPSERT_ALERT = f"""
INSERT INTO meterwatch_alerts ({", ".join(FIELD_NAMES)}) VALUES ({FIELD_PLACES})
ON CONFLICT (id) DO UPDATE SET {UPDATED_FIELDS} WHERE meterwatch_alerts.revision < EXCLUDED.revision
"""  # noqa: S608 - the names are of fields


class PostgresSink:
    """Writes alerts in transactions, over a connection that is made anew after a failure."""

    def __init__(self, url: str) -> None:
        try:
            conninfo_to_dict(url)
        except psycopg.Error:  # its text may repeat a password
            raise ValueError(
                "the URL is none of PostgreSQL, such as postgresql://USER@HOST/DATABASE"
            ) from None
        self._url = url
        self._connection: psycopg.AsyncConnection | None = None

    async def take(self, alerts: Sequence[Alert]) -> None:
        """Writes alerts, all or none. Raises psycopg.Error and TimeoutError."""
        try:
            await asyncio.wait_for(self._write(alerts), ANSWER_SECONDS)
        except BaseException:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None
            raise

    async def _write(self, alerts: Sequence[Alert]) -> None:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._url)
            async with self._connection.transaction():
                await self._connection.execute(CREATE_TABLE)
        rows = list(map(_row, alerts))
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.executemany(UPSERT_ALERT, rows)


def _row(alert: Alert) -> dict[str, Any]:
    """An alert as the columns of the table take it."""
    row = {name: getattr(alert, name) for name in FIELD_NAMES}
    row |= {name: datetime.fromtimestamp(row[name], UTC) for name in TIME_FIELDS}
    return row | {"evidence": msgspec.json.encode(alert.evidence).decode()}
