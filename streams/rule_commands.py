"""The commands that show rules, and check and publish rulebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.command_options import Json, RulesFile

app = typer.Typer(
    help="Rules: what they are set to, and publishing other settings.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(help="A rulebook such as deploy/rules.toml.")]
Published = Annotated[
    bool, typer.Option("--published", help="As published on the topic.")
]


@app.command("list")
def list_rules(
    context: typer.Context,
    rules: RulesFile = None,
    on_topic: Published = False,
    json: Json = False,
) -> None:
    """Lists every rule with its family, titles, kind, severity, status and version."""
    from streams import rulebook_answers  # noqa: PLC0415 - the other commands start faster without rules

    rulebook_answers.list_rules(context, rules, on_topic=on_topic, json=json)


@app.command()
def show(
    context: typer.Context,
    name: str,
    rules: RulesFile = None,
    on_topic: Published = False,
) -> None:
    """Shows all of one rule."""
    from streams.rulebook_answers import show_rule  # noqa: PLC0415 - as `list`

    show_rule(context, name, rules, on_topic=on_topic)


@app.command("check")
def check_file(file: File) -> None:
    """Checks a rulebook: shows its faults, and the entries that wait for approval."""
    from streams import rulebook_answers  # noqa: PLC0415 - as `list`

    rulebook_answers.check_file(file)


@app.command("test")
def run_cases(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Case files RULE.toml, or folders of them."),
    ],
    rules: RulesFile = None,
    json: Json = False,
) -> None:
    """Runs cases, rows in and alerts out, against the rules of a rulebook. Ends with exit code 1 if one fails."""
    from streams import rulebook_answers  # noqa: PLC0415 - as `list`

    if not rulebook_answers.run_cases(paths, rules, json=json):
        raise typer.Exit(1)


@app.command()
def diff(context: typer.Context, file: File) -> None:
    """Shows how a rulebook differs from the published one, or from the code if no broker answers."""
    from streams.rulebook_answers import show_diff  # noqa: PLC0415 - as `list`

    show_diff(context, file)


@app.command()
def publish(
    context: typer.Context,
    file: File,
    approved_by: Annotated[
        str,
        typer.Option(help="Who approves the entries that the file does not approve."),
    ] = "",
) -> None:
    """Publishes a rulebook: workers adopt it without a restart."""
    from streams.rulebook_answers import publish_file  # noqa: PLC0415 - as `list`

    publish_file(context, file, approved_by)
