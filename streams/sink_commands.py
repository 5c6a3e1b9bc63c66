"""The commands that carry alerts to other systems until they are ended."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from streams.command_options import load_settings

app = typer.Typer(
    help="Sinks: alerts to other systems, each until it is ended.",
    no_args_is_help=True,
)
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
    from streams.sinks.postgres import PostgresSink  # noqa: PLC0415 - an extra
    from streams.sinks.running import deliver_to  # noqa: PLC0415 - as `worker`

    deliver_to(load_settings(context), "postgres", PostgresSink(url).take, metrics_port)


@app.command()
def webhook(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Where each alert is posted.")],
    metrics_port: MetricsPort = None,
) -> None:
    """Posts alerts as CloudEvents, signed by the setting `webhook_secret`."""
    from streams.sinks.running import deliver_to  # noqa: PLC0415 - as `worker`
    from streams.sinks.webhook import WebhookSink  # noqa: PLC0415 - an HTTP client

    settings = load_settings(context)
    sink = WebhookSink(_checked(url), settings.webhook_secret)
    if not settings.webhook_secret:
        typer.echo("`webhook_secret` is not set: alerts go unsigned", err=True)
    deliver_to(settings, "webhook", sink.take, metrics_port)


@app.command()
def alertmanager(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Such as http://127.0.0.1:9093")],
    metrics_port: MetricsPort = None,
) -> None:
    """Keeps Alertmanager at the alerts of severity 1 that stand, for the duty of operations."""
    from streams.sinks.alertmanager import AlertmanagerSink, mirror  # noqa: PLC0415 - an HTTP client
    from streams.sinks.delivery import SinkMetrics  # noqa: PLC0415 - as `worker`
    from streams.sinks.running import run_delivery  # noqa: PLC0415 - as `worker`

    settings = load_settings(context)
    metrics = SinkMetrics("alertmanager")
    mirroring = partial(mirror, settings, AlertmanagerSink(_checked(url)), metrics)
    run_delivery(settings, metrics, metrics_port, mirroring)


def _checked(url: str) -> str:
    """The URL of an HTTP endpoint. Raises ValueError."""
    from replay.addresses import is_address  # noqa: PLC0415 - as `worker`

    if not is_address(url):
        raise ValueError("the URL is no address such as http://127.0.0.1:9093")
    return url
