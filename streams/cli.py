"""The command line: `meterwatch COMMAND --help` tells what each takes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn
from zoneinfo import ZoneInfo

import msgspec
import typer
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from replay.history import Source, Tally
from replay.layout import read_areas
from replay.send import SendError, Shape
from replay.send import send as publish
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.columns import Batch, Stages
from streams import rules
from streams import topics as names
from streams.lines import line
from streams.log_limit import LOG_LIMIT
from streams.logs import UnansweredError, alert_of, read_to_end, reader
from streams.rules import RulesFile
from streams.settings import Settings, load

app = typer.Typer(
    help="Watches an electricity utility's meters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
registry = typer.Typer(
    help="Master data: areas with their meters, customers and transformers.",
    no_args_is_help=True,
)
app.add_typer(registry, name="registry")
app.add_typer(rules.app, name="rules")

out, err = (
    Console(highlight=False, markup=False, soft_wrap=True),
    Console(stderr=True, highlight=False),
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Sources = Annotated[
    list[str], typer.Argument(help="Files, folders, or `town` for a simulated one.")
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="A TOML file [default: meterwatch.toml]; METERWATCH_* in the environment wins.",
    ),
]
COLLECTION_THRESHOLD = 100_000
"""Objects made and not freed before a collection: by Python's own 700 a worker on single readings spent 40 %
of its time looking through records that wait, none of them garbage."""


def main() -> NoReturn:
    """Runs a command. What a user did wrong is said in a line and ends with exit code 2."""
    gc.freeze()
    gc.set_threshold(COLLECTION_THRESHOLD)
    try:
        app()
    except (
        ValueError,
        OSError,
        SendError,
        names.TopicError,
        UnansweredError,
        KafkaError,
    ) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    sys.exit(0)


@app.callback()
def begin(context: typer.Context, settings: SettingsFile = None) -> None:
    """Watches an electricity utility's meters."""
    context.obj = settings
    # what fails is said by the command
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _load_settings(context: typer.Context) -> Settings:
    """The settings of this run. Raises SettingsError."""
    return load(os.environ, context.obj)


@app.command()
def worker(context: typer.Context) -> None:
    """Judges what arrives on the topics until it is ended; start as many as there is work for."""
    from streams.app import run  # noqa: PLC0415 - Faust takes a second to import

    settings = _load_settings(context)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    LOG_LIMIT.install()
    asyncio.run(names.ensure(settings))
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("meterwatch").setLevel(settings.log_level)
    run(settings)


@app.command()
def topics(context: typer.Context, json: Json = False) -> None:
    """Creates the topics that are missing and checks the partition counts of the others."""
    states = asyncio.run(names.ensure(_load_settings(context)))
    if json:
        _show_json(states)
        return
    for state in states:
        out.print(f"{state.state:8}{state.topic}, {state.partitions} partitions")


@app.command()
def alerts(
    context: typer.Context,
    json: Json = False,
    suppressed: Annotated[
        bool, typer.Option("--suppressed", help="Also those that policy suppresses.")
    ] = False,
    past: Annotated[
        bool, typer.Option("--from-beginning", help="First what was told so far.")
    ] = False,
    once: Annotated[
        bool,
        typer.Option("--once", help="List the last state of every alert, and end."),
    ] = False,
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Follows the alerts as they are told."""
    settings = _load_settings(context)
    zone = ZoneInfo(settings.zone)

    def show(alert: Alert) -> None:
        if alert.suppressed_by and not suppressed:
            return
        if json:
            print(msgspec.json.encode(alert).decode(), flush=True)  # noqa: T201 - for machines
        else:
            out.print(line(alert, zone, chinese=chinese))

    async def follow() -> None:
        async for alert in published_alerts(settings, past=past):
            show(alert)

    try:
        if once:
            for alert in asyncio.run(_last_states(settings)):
                show(alert)
        else:
            asyncio.run(follow())
    except KeyboardInterrupt:
        return


@registry.command("load")
def load_registry(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines, an area each.")],
    json: Json = False,
) -> None:
    """Publishes areas to the registry; an area replaces what was known of it."""
    tally = Tally()
    areas = read_areas(file, tally)
    for reason, count in tally.rejected.items():
        raise ValueError(
            f"{file} has {count} lines that are no area ({reason}, first at {tally.first[reason]})"
        )
    send_source(
        _load_settings(context),
        Source(str(file), areas, iter(()), 0),
        "single",
        None,
        json=json,
    )


@app.command()
def send(
    context: typer.Context,
    sources: Sources,
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
    """Publishes a history to the topics, master data first."""
    send_source(_load_settings(context), open_sources(sources), shape, speed, json=json)


@app.command()
def inspect(context: typer.Context, sources: Sources, json: Json = False) -> None:
    """Shows what a history holds, as it was understood, and which rules can judge it."""
    from streams.understood import show, understood  # noqa: PLC0415 - as `run`

    found = understood(sources, _load_settings(context))
    if json:
        _show_json(found)
        return
    show(found, out)


@app.command()
def run(
    context: typer.Context,
    sources: Sources,
    store: Annotated[
        Path, typer.Option(help="Where alerts and progress are kept.")
    ] = Path("meterwatch.db"),
    rules_file: RulesFile = None,
    top: Annotated[
        int, typer.Option(help="How many alerts are shown, the gravest first.", min=0)
    ] = 10,
    report: Annotated[
        Path | None,
        typer.Option(help="Where to write a page with the alerts and their curves."),
    ] = None,
    json: Json = False,
) -> None:
    """Watches a history without a broker; a run that was interrupted goes on where it stopped."""
    from streams import local  # noqa: PLC0415 - the other commands start faster without the engine

    local.run(
        sources,
        store,
        _load_settings(context),
        as_json=json,
        rulebook=rules.rulebook(rules_file),
        top=top,
        report=report,
    )


@app.command()
def stalls(sources: Sources, json: Json = False) -> None:
    """Compares the stages of a work history that are told as stalled with those that took longest."""
    from replay.stalls import compare  # noqa: PLC0415 - as above

    source = open_sources(sources)
    stages = compare(source.areas, source.batches, source.zone)
    if json:
        _show_json([stage._asdict() for stage in stages])
        return
    width = max((len(stage.stage) for stage in stages), default=0) + 2
    figures = f"{'stays':>9}{'told':>7}{'longest 5 %':>13}{'of them told':>14}{'days before the end':>21}"
    out.print(f"{'stage':{width}}{figures}")
    for stage in stages:
        name, stays, told, longest, found, days = stage
        out.print(
            f"{name:{width}}{stays:9,}{told:7,}{longest:13,}{found:14,}{f'{days:.1f}' if found else '-':>21}"
        )


@app.command()
def use_classes(
    context: typer.Context,
    sources: Sources,
    to: Annotated[
        Path, typer.Option("--out", "-o", help="The model that is written.")
    ] = Path("use_classes.json"),
    json: Json = False,
) -> None:
    """Learns from a history and its files how the days of each class of use look, for the rule tariff_misuse."""
    from replay.use_class import labelled_meters, learn  # noqa: PLC0415 - as above

    settings, told_source = _load_settings(context), open_sources(sources)
    source = replace(
        told_source,
        zone=told_source.zone or settings.zone,
        interval=told_source.interval or settings.interval,
    )
    lesson = learn(labelled_meters(source))
    to.write_bytes(
        msgspec.json.format(msgspec.json.encode(lesson.model), indent=0) + b"\n"
    )
    names = lesson.model.classes
    if json:
        _show_json(
            {
                "model": lesson.model.name,
                "classes": names,
                "confusion": lesson.confusion.tolist(),
                "log_loss": lesson.log_loss,
                "sure": lesson.sure.tolist(),
                "told": lesson.alert_count,
            }
        )
        return
    out.print(f"{to}: {lesson.model.name}; of meters whose customers were left out:")
    out.print(f"{'filed':14}{''.join(f'{name:>14}' for name in names)}")
    for name, row in zip(names, lesson.confusion.tolist(), strict=True):
        out.print(f"{name:14}{''.join(f'{count:14,}' for count in row)}")
    out.print(
        f"log loss {lesson.log_loss:.4f}; of {lesson.sure.sum():,} that are sure {lesson.alert_count:,} would be told"
    )


@app.command()
def demo(
    meters: Annotated[int, typer.Option(help="Of the town.")] = 3000,
    days: Annotated[int, typer.Option(help="That pass.")] = 12,
    seed: Annotated[int, typer.Option(help="Another number, another town.")] = 1,
    report: Annotated[Path, typer.Option(help="The page that is written.")] = Path(
        "meterwatch-demo.html"
    ),
    rules_file: RulesFile = None,
) -> None:
    """Shows a simulated town with planted faults, the alarms as they arrive, and what was found of them."""
    from streams.demo import demo as show  # noqa: PLC0415 - as above

    show(meters, days, seed, report, rules.rulebook(rules_file))


def send_source(
    settings: Settings, source: Source, shape: Shape, speed: float | None, *, json: bool
) -> None:
    """Publishes a history, shows how far it has come, and in the end what was sent. Raises SendError, TopicError."""
    asyncio.run(names.ensure(settings))
    seen: set[str] = set()
    source = replace(source, batches=_collecting_areas(source.batches, seen))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=err, transient=True, disable=json or not err.is_terminal
    ) as bar:
        task = bar.add_task(source.name, total=source.rows or None)
        sent = publish(
            source,
            settings.servers,
            shape,
            speed,
            settings.security(),
            prefix=settings.prefix,
            progress=lambda rows, _: bar.update(task, completed=rows),
        )
    if json:
        _show_json(
            {
                "sent": dict(sent),
                "refused": dict(source.rejected),
                "mended": dict(source.tally.mended),
            }
        )
        return
    for topic, rows in sent.items():
        out.print(f"{rows:12,} to {topic}")
    for done, reasons in (
        ("left out", source.rejected),
        ("mended", source.tally.mended),
    ):
        for reason, count in reasons.items():
            out.print(
                f"{count:12,} {done}: {reason}, first at {source.tally.first[reason]}"
            )
    for note in source.tally.notes:
        out.print(note)
    if strangers := sorted(seen.difference(area.area for area in source.areas)):
        told = f"{len(strangers)} areas came without a record, such as {strangers[0]}"
        out.print(
            f"{told}: workers reject what the registry does not know, see `unknown_area`"
        )


def _collecting_areas(batches: Iterator[Batch], areas: set[str]) -> Iterator[Batch]:
    """The same batches; areas that need a record of the registry are noted."""
    for batch in batches:
        if not isinstance(batch, Stages):
            areas.update(batch.areas)
        yield batch


async def published_alerts(
    settings: Settings, *, past: bool
) -> AsyncGenerator[Alert, None]:
    """Alerts as they are told, for ever."""
    async with reader(settings) as consumer:
        tps = alert_partitions(settings)
        consumer.assign(tps)
        await (consumer.seek_to_beginning if past else consumer.seek_to_end)(*tps)
        async for record in consumer:
            if alert := alert_of(record):
                yield alert


async def _last_states(settings: Settings) -> list[Alert]:
    """The last state of every alert that was not withdrawn, as they were raised."""
    last: dict[str, Alert] = {}
    async with reader(settings) as consumer:
        starts = await consumer.beginning_offsets(alert_partitions(settings))
        async for _, records in read_to_end(consumer, starts):
            for record in records:
                if alert := alert_of(record):
                    last[alert.id] = alert
                elif record.value is None:
                    last.pop((record.key or b"").decode(errors="replace"), None)
    standing = (alert for alert in last.values() if alert.state != "withdrawn")
    return sorted(standing, key=lambda alert: (alert.raised, alert.id))


def alert_partitions(settings: Settings) -> list[TopicPartition]:
    """All partitions of the alert topic."""
    return [
        TopicPartition(settings.topic(names.ALERTS_TOPIC), number)
        for number in range(settings.partitions)
    ]


def _show_json(value: Any) -> None:
    """Prints JSON."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())  # noqa: T201 - for machines


if __name__ == "__main__":
    main()
