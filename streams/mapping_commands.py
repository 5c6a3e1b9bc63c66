"""The commands for data of others: a mapping guessed or checked, and the bridge from a topic."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer

from streams.command_options import Json, load_settings
from streams.log_lines import log_as
from streams.terminal import plain_output

app = typer.Typer()
out = plain_output()


@app.command("map")
def map_source(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A file, a pattern such as 'x/*.csv', a topic, or a mapping."
        ),
    ],
    check: Annotated[
        int, typer.Option(help="How many rows or records are looked at.", min=1)
    ] = 1000,
    file: Annotated[
        Path, typer.Option("--out", help="The mapping that is written.")
    ] = Path("columns.toml"),
    kind: Annotated[
        str, typer.Option(help="What a row is: readings, events, payments or stages.")
    ] = "readings",
    form: Annotated[
        str, typer.Option("--format", help="Of a topic: json, avro or protobuf.")
    ] = "json",
    schema_registry: Annotated[
        str, typer.Option(help="The address of the schema registry.")
    ] = "",
    json: Json = False,
) -> None:
    """Guesses a mapping of data of others, or checks one; shows what it gives and which rules can judge it."""
    from streams.map_command import show_mapped  # noqa: PLC0415 - as `run`
    from streams.map_sample import MappedPlace  # noqa: PLC0415 - as above

    place = MappedPlace(source, kind, form, schema_registry)
    show_mapped(place, file, check, load_settings(context), as_json=json)


@app.command()
def bridge(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A mapping of a topic.")],
) -> None:
    """Publishes the records of a mapped topic to the project's topics, until it is ended."""
    from replay.mapping.file import read_mapping  # noqa: PLC0415 - as `run`
    from streams.kafka.bridge import bridge as run  # noqa: PLC0415 - as above
    from streams.kafka.log_limit import LOG_LIMIT  # noqa: PLC0415 - as above
    from streams.kafka.rights import BRIDGE_RIGHTS  # noqa: PLC0415 - as above
    from streams.kafka.topics import ensure  # noqa: PLC0415 - as above

    settings = load_settings(context)
    mapping = read_mapping(file)
    if not mapping.topic:
        raise ValueError(f"{file} maps files: `meterwatch send {file}` publishes them")
    log_as(settings.log_format)
    LOG_LIMIT.install()

    async def bridge_all() -> None:
        await ensure(settings, BRIDGE_RIGHTS)
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
        logging.getLogger("meterwatch").setLevel(settings.log_level)
        await run(settings, mapping)

    asyncio.run(bridge_all())
