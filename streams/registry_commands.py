"""The commands for master data: load, sync, show, dump and check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.command_options import Json, load_settings
from streams.json_output import show_json
from streams.terminal import plain_output

app = typer.Typer(
    help="Master data: areas with their meters, customers and transformers.",
    no_args_is_help=True,
)
out = plain_output()


@app.command()
def load(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines, an area each.")],
    json: Json = False,
) -> None:
    """Publishes areas to the registry; an area replaces its earlier record."""
    from replay.history import Source, Tally  # noqa: PLC0415 - as `send`
    from replay.layout import read_areas  # noqa: PLC0415 - as `send`
    from streams.sending import send_source  # noqa: PLC0415 - as `send`

    tally = Tally()
    areas = read_areas(file, tally)
    for reason, count in tally.rejected.items():
        raise ValueError(
            f"{file} has {count} lines that are no area ({reason}, first at {tally.first[reason]})"
        )

    send_source(
        load_settings(context),
        Source(str(file), areas, iter(()), 0),
        "single",
        None,
        json=json,
    )


@app.command()
def sync(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A database and its SELECTs, in TOML.")],
    send: Annotated[
        bool, typer.Option("--send", help="Publish what the diff shows.")
    ] = False,
    allow_ends: Annotated[
        bool,
        typer.Option(
            "--allow-ends",
            help="Also if more than a tenth of the meters end, or a SELECT gives no row.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Shows how a database differs from the registry; with --send, publishes the areas that differ."""
    from streams.registry_answers import sync_registry  # noqa: PLC0415 - as `send`

    sync_registry(
        load_settings(context), file, send=send, allow_ends=allow_ends, as_json=json
    )


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="An area or a meter.")],
    json: Json = False,
) -> None:
    """Shows what the registry says of an area, or of a meter wherever it stands."""
    from streams.registry_answers import show_registry  # noqa: PLC0415 - as `send`

    show_registry(load_settings(context), name, as_json=json)


@app.command()
def dump(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Files or folders, whose areas are inferred or listed."),
    ] = None,
) -> None:
    """Writes areas as JSON lines: of the registry, or as the readers of files understand them."""
    from streams.registry_answers import dump_areas  # noqa: PLC0415 - as `send`

    dump_areas(load_settings(context), sources or [])


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON lines, an area each.")],
    json: Json = False,
) -> None:
    """Shows what is wrong with a file of areas, with its lines. Ends with exit code 1 if anything is."""
    from replay.master_data.checking import problems  # noqa: PLC0415 - as `send`

    found = list(problems(file))
    if json:
        show_json(found)
    else:
        for problem in found:
            out.print(f"{file} line {problem.line}: {problem.text}")
        out.print(f"{file}: {len(found):,} problems")
    if found:
        raise typer.Exit(1)
