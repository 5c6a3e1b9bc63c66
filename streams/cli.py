"""The command line: `meterwatch COMMAND --help` shows the options of each command."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, NoReturn
from zoneinfo import ZoneInfo

import msgspec
import typer
from rich.console import Console

from replay.extras import missing_extra
from schemas.alert import Alert
from schemas.wire import Shape
from streams.command_options import Chinese, Json, SettingsFile, load_settings
from streams.history_commands import app as history_app
from streams.json_output import show_json
from streams.learning_commands import app as learning_app
from streams.lines import line
from streams.log_lines import log_as, logs_json
from streams.mapping_commands import app as mapping_app
from streams.registry_commands import app as registry
from streams.rule_commands import app as rules
from streams.sink_commands import app as sinks
from streams.terminal import plain_output

app = typer.Typer(
    help="Watches an electricity utility's meters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(registry, name="registry")
app.add_typer(rules, name="rules")
app.add_typer(sinks, name="sink")
app.add_typer(history_app)
app.add_typer(learning_app)
app.add_typer(mapping_app)

out = plain_output()
err = Console(stderr=True, highlight=False)
log = logging.getLogger("meterwatch")

COLLECTION_THRESHOLD = 100_000
"""New objects before a garbage collection. By Python's own 700, a worker on single readings spent 40 % of its time
looking through records that wait, none of them garbage."""


def main() -> NoReturn:
    """Runs a command. An error of the user is a line, of the log if that is JSON, and ends with exit code 2."""
    gc.freeze()
    gc.set_threshold(COLLECTION_THRESHOLD)

    try:
        app()
    except Exception as error:
        text = _text_for_user(error)
        code = 1 if text is None else 2
        if logs_json():
            place = {"exit_code": code}
            log.critical("%s", text or error, exc_info=text is None, extra=place)
        elif text is None:
            raise
        else:
            typer.echo(f"error: {text}", err=True)
        sys.exit(code)
    sys.exit(0)


def _text_for_user(error: Exception) -> str | None:
    """The text of an error of input, settings, files, brokers or a missing extra; None of any other."""
    broker_errors = sys.modules.get("aiokafka.errors")  # if brokers were asked
    if isinstance(error, ValueError | OSError) or (
        broker_errors and isinstance(error, broker_errors.KafkaError)
    ):
        return str(error)
    return missing_extra(error)


def _show_version(asked: bool) -> None:
    """Prints the version that is installed, and ends."""
    if asked:
        out.print(f"meterwatch {installed_version('meterwatch')}")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    settings: SettingsFile = None,
    _version: Annotated[  # its callback does all
        bool,
        typer.Option(
            "--version",
            help="Print the version, and end.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Watches an electricity utility's meters."""
    context.obj = settings
    # The command itself prints what fails.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@app.command()
def worker(context: typer.Context) -> None:
    """Judges the records of the topics until it is ended; start as many workers as the work needs."""
    from streams.kafka.app import run  # noqa: PLC0415 - Faust takes a second to import
    from streams.kafka.log_limit import LOG_LIMIT  # noqa: PLC0415 - as above
    from streams.kafka.rights import worker_rights  # noqa: PLC0415 - as above
    from streams.kafka.topics import ensure  # noqa: PLC0415 - as above

    settings = load_settings(context)
    log_as(settings.log_format)
    LOG_LIMIT.install()
    asyncio.run(ensure(settings, worker_rights(settings)))
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("meterwatch").setLevel(settings.log_level)
    run(settings)


@app.command()
def topics(context: typer.Context, json: Json = False) -> None:
    """Creates the topics that are missing and checks the partition counts of the others."""
    from streams.kafka.topics import ensure  # noqa: PLC0415 - as `worker`

    states = asyncio.run(ensure(load_settings(context)))
    if json:
        show_json(states)
        return
    for state in states:
        out.print(f"{state.state:8}{state.topic}, {state.partitions} partitions")


@app.command()
def alerts(
    context: typer.Context,
    json: Json = False,
    suppressed: Annotated[
        bool, typer.Option("--suppressed", help="Also alerts that policy suppresses.")
    ] = False,
    past: Annotated[
        bool,
        typer.Option("--from-beginning", help="First all alerts published so far."),
    ] = False,
    once: Annotated[
        bool,
        typer.Option("--once", help="List the last state of every alert, and end."),
    ] = False,
    chinese: Chinese = False,
) -> None:
    """Follows the alerts as they are published."""
    from streams.kafka.alerts import last_states, published_alerts  # noqa: PLC0415 - as `worker`
    from streams.kafka.rights import ALERTS_RIGHTS  # noqa: PLC0415 - as `worker`
    from streams.kafka.topics import ensure  # noqa: PLC0415 - as `worker`

    settings = load_settings(context)
    zone = ZoneInfo(settings.zone)

    def show(alert: Alert) -> None:
        if alert.suppressed_by and not suppressed:
            return
        if json:
            print(msgspec.json.encode(alert).decode(), flush=True)  # noqa: T201 - for machines
        else:
            out.print(line(alert, zone, chinese=chinese))

    async def follow() -> None:
        await ensure(settings, ALERTS_RIGHTS)
        async for alert in published_alerts(settings, past=past):
            show(alert)

    try:
        if once:
            asyncio.run(ensure(settings, ALERTS_RIGHTS))
            for alert in asyncio.run(last_states(settings)):
                show(alert)
        else:
            asyncio.run(follow())
    except KeyboardInterrupt:
        return


@app.command()
def archive(
    context: typer.Context,
    folder: Annotated[
        str,
        typer.Argument(help="A folder or URL (s3://): new, empty, or an archive."),
    ],
    once: Annotated[
        bool, typer.Option("--once", help="End where the topics end now.")
    ] = False,
    json: Json = False,
) -> None:
    """Keeps what passes on the topics as Parquet, a history for `run` and `send`."""
    # as `worker`: Arrow takes a while to import
    from replay.archive.manifest import ArchiveManifest  # noqa: PLC0415
    from streams.archive_lines import committed, committed_line  # noqa: PLC0415
    from streams.kafka.archiver import archive as keep  # noqa: PLC0415
    from streams.kafka.log_limit import LOG_LIMIT  # noqa: PLC0415 - as `worker`
    from streams.kafka.rights import ARCHIVE_RIGHTS  # noqa: PLC0415 - as `worker`
    from streams.kafka.topics import ensure  # noqa: PLC0415 - as `worker`

    settings = load_settings(context)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")

    def show(manifest: ArchiveManifest) -> None:
        if json:
            print(msgspec.json.encode(committed(manifest)).decode(), flush=True)  # noqa: T201 - for machines
        else:
            out.print(committed_line(manifest))

    async def archive_all() -> None:
        await ensure(settings, ARCHIVE_RIGHTS)
        if not json:
            when = f"{settings.archive_seconds:g} s or {settings.archive_rows:,} rows"
            out.print(f"{folder}: commits after {when}, and when it is ended")
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
        await keep(settings, folder, once=once, on_commit=show)

    LOG_LIMIT.install()
    try:
        asyncio.run(archive_all())
    except KeyboardInterrupt:
        return


@app.command()
def backup(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder that there is not yet.")],
) -> None:
    """Keeps checkpoints, master data, the rulebook, inspections and alerts in a folder."""
    from streams.kafka.backups import back_up  # noqa: PLC0415 - as `archive`

    kept = asyncio.run(back_up(load_settings(context), folder))
    out.print(f"{folder}: {kept.partitions} partitions, {kept.size:,} bytes")


@app.command()
def restore(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder that `backup` wrote.")],
) -> None:
    """Publishes a backup to new topics; start the workers behind it."""
    from streams.kafka import backups  # noqa: PLC0415 - as `archive`

    restored = asyncio.run(backups.restore(load_settings(context), folder))
    out.print(f"{folder}: {restored.partitions} partitions, {restored.size:,} bytes")


@app.command()
def send(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, or `town` for a simulated one."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="What was found on site: CSV, Parquet, JSON lines, or an archive."
        ),
    ] = None,
    shape: Annotated[Shape, typer.Option(help="How readings travel.")] = "packed",
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Seconds of history in a second [default: as fast as can be].",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Publishes a history to the topics, master data first, and what was found on site."""
    from replay.sources import open_sources  # noqa: PLC0415 - a worker starts faster without files
    from streams.sending import send_source  # noqa: PLC0415 - and without another client
    from streams.sent_labels import send_labels  # noqa: PLC0415 - as above

    settings = load_settings(context)
    if not (sources or labels):
        raise ValueError("nothing to send: name a history, or --labels")
    if sources:
        send_source(settings, open_sources(sources), shape, speed, json=json)
    if labels:
        send_labels(settings, labels, json=json)


if __name__ == "__main__":
    main()
