"""Alerts to an HTTP endpoint, each a CloudEvents 1.0 event in JSON, signed as Standard Webhooks has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence

import aiohttp
import msgspec

from schemas.alert import Alert
from schemas.wire import JSON_CONTENT_TYPE, encode_alert
from streams.settings import Secret

ANSWER_SECONDS = 30.0  # that the endpoint has
EVENT_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
SECRET_PREFIX = "whsec_"  # noqa: S105 - begins a secret in Base64


class WebhookError(Exception):
    """The endpoint refuses an alert; says with which status."""


class WebhookSink:
    """Posts one alert after the other; those of a batch that were taken are not posted again."""

    def __init__(self, url: str, secret: Secret) -> None:
        self._url = url
        self._key = signing_key(secret.reveal())
        self._taken: set[str] = set()  # ids of the events of a batch that failed

    async def take(self, alerts: Sequence[Alert]) -> None:
        """Posts alerts in order. Raises WebhookError, ClientError and TimeoutError."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for alert in alerts:
                name, body = event(alert)
                if name not in self._taken:
                    await self._post(session, name, body)
                    self._taken.add(name)
        self._taken.clear()

    async def _post(
        self, session: aiohttp.ClientSession, name: str, body: bytes
    ) -> None:
        moment = str(int(time.time()))
        headers = {
            "content-type": EVENT_CONTENT_TYPE,
            "webhook-id": name,
            "webhook-timestamp": moment,
        }
        if self._key:
            headers["webhook-signature"] = signature(self._key, name, moment, body)

        async with session.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            if not 200 <= answer.status < 300:
                raise WebhookError(f"the endpoint answers {answer.status}")


def event(alert: Alert) -> tuple[str, bytes]:
    """The id of an alert's event, and the event in structured mode."""
    _, value, headers = encode_alert(alert)
    attributes = {
        name.removeprefix("ce_"): text.decode()
        for name, text in headers
        if name.startswith("ce_")
    }
    body = attributes | {
        "datacontenttype": JSON_CONTENT_TYPE,
        "data": msgspec.Raw(value),
    }
    return attributes["id"], msgspec.json.encode(body)


def signing_key(secret: str) -> bytes:
    """The key of a secret, which may stand in Base64 behind `whsec_`. Raises ValueError."""
    if secret.startswith(SECRET_PREFIX):
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    return secret.encode()


def signature(key: bytes, name: str, moment: str, body: bytes) -> str:
    """HMAC-SHA256 over id, time and body.

    >>> signature(b"key", "a1.0", "1700000000", b"{}")
    'v1,eOXyg08fVE+cUmUEiNoTqSJiH67bRsxq34BwV7xYZMo='
    """
    signed = b".".join((name.encode(), moment.encode(), body))
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
