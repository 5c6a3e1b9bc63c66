"""The commands that carry alerts to other systems until they are ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

import typer

from streams.command_options import load_settings
from streams.kafka.log_limit import LOG_LIMIT
from streams.kafka.status_server import serve
from streams.kafka.topics import ensure
from streams.log_lines import log_as
from streams.settings import Settings
from streams.sinks.delivery import SinkMetrics, Take, deliver

app = typer.Typer(
    help="Sinks: alerts to other systems, each until it is ended.",
    no_args_is_help=True,
)
log = logging.getLogger("meterwatch")

MetricsPort = Annotated[
    int | None,
    typer.Option(
        help="Serve metrics on this port of `metrics_host`, 0 for a free one [default: none].",
        min=0,
        max=65535,
    ),
]


@app.command()
def postgres(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="postgresql://USER@HOST/DATABASE")],
    metrics_port: MetricsPort = None,
) -> None:
    """Upserts alerts into the table meterwatch_alerts, which is created if it is missing."""
    try:
        from streams.sinks.postgres import PostgresSink  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError(
            f"PostgreSQL needs one more package: install meterwatch[sql] ({error})"
        ) from error
    _deliver(load_settings(context), "postgres", PostgresSink(url).take, metrics_port)


@app.command()
def webhook(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Where each alert is posted.")],
    metrics_port: MetricsPort = None,
) -> None:
    """Posts alerts as CloudEvents, signed by the setting `webhook_secret`."""
    from streams.sinks.webhook import WebhookSink  # noqa: PLC0415 - an HTTP client

    settings = load_settings(context)
    sink = WebhookSink(_checked(url), settings.webhook_secret)
    if not settings.webhook_secret:
        typer.echo("`webhook_secret` is not set: alerts go unsigned", err=True)
    _deliver(settings, "webhook", sink.take, metrics_port)


@app.command()
def alertmanager(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Such as http://127.0.0.1:9093")],
    metrics_port: MetricsPort = None,
) -> None:
    """Keeps Alertmanager at the alerts of severity 1 that stand, for the duty of operations."""
    from streams.sinks.alertmanager import AlertmanagerSink, mirror  # noqa: PLC0415 - an HTTP client

    settings = load_settings(context)
    metrics = SinkMetrics("alertmanager")
    mirroring = partial(mirror, settings, AlertmanagerSink(_checked(url)), metrics)
    _run(settings, metrics, metrics_port, mirroring)


def _checked(url: str) -> str:
    """The URL of an HTTP endpoint. Raises ValueError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("the URL begins with neither http:// nor https://")
    return url


def _deliver(settings: Settings, name: str, take: Take, port: int | None) -> None:
    """Delivers alerts to a sink of a name until the process is ended."""
    metrics = SinkMetrics(name)
    _run(settings, metrics, port, partial(deliver, settings, name, take, metrics))


def _run(
    settings: Settings,
    metrics: SinkMetrics,
    port: int | None,
    delivery: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    """Runs a delivery until SIGTERM or SIGINT."""
    log_as(settings.log_format)
    LOG_LIMIT.install()
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    log.setLevel(settings.log_level)
    if port is not None:
        host = settings.metrics_host
        served = serve(metrics.registry, {}, host, port)
        log.info("metrics on http://%s:%d/metrics", host, served)

    async def run() -> None:
        await ensure(settings)
        task = asyncio.ensure_future(delivery())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
