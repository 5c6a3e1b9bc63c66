"""Options that commands share, and the settings of a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from streams.settings import Settings, load

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
RulesFile = Annotated[
    Path | None, typer.Option("--rules", help="A rulebook such as deploy/rules.toml.")
]
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
LabelsFile = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="What was found: CSV, Parquet, JSON lines, or an archive [default: the inspections of the archive].",
    ),
]
JobCount = Annotated[
    int,
    typer.Option(
        "--jobs", help="Processes that judge a part of the areas each.", min=1
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(help="Judge on a dask cluster, such as tcp://10.0.0.5:8786."),
]
TopCustomers = Annotated[
    int, typer.Option("--top", help="How many customers are shown.", min=1)
]
Chinese = Annotated[bool, typer.Option("--zh", help="In Chinese.")]
Report = Annotated[
    Path | None, typer.Option(help="Where to write a page that opens offline.")
]


def load_settings(context: typer.Context) -> Settings:
    """The settings of this run. Raises SettingsError."""
    return load(os.environ, context.obj)
