"""The commands that learn fleet models offline from histories, and rank by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from streams.command_options import (
    Chinese,
    JobCount,
    Json,
    LabelsFile,
    Report,
    RulesFile,
    Scheduler,
    Sources,
    TopCustomers,
    load_settings,
)
from streams.json_output import show_json
from streams.terminal import plain_output

app = typer.Typer()
learning = typer.Typer(
    help="Fleet models, learned offline from a history.", no_args_is_help=True
)
app.add_typer(learning, name="learn")
out = plain_output()


@app.command()
def use_classes(
    context: typer.Context,
    sources: Sources,
    to: Annotated[
        Path, typer.Option("--out", "-o", help="The model that is written.")
    ] = Path("use_classes.json"),
    json: Json = False,
) -> None:
    """Learns the usual days of each use class from a history and its master data, for the rule tariff_misuse."""
    from replay.use_class import labelled_meters, learn  # noqa: PLC0415 - as `send`
    from streams.histories import opened  # noqa: PLC0415 - as above

    source = opened(sources, load_settings(context))
    lesson = learn(labelled_meters(source))
    to.write_bytes(
        msgspec.json.format(msgspec.json.encode(lesson.model), indent=0) + b"\n"
    )

    classes = lesson.model.classes
    if json:
        show_json(
            {
                "model": lesson.model.name,
                "classes": classes,
                "confusion": lesson.confusion.tolist(),
                "log_loss": lesson.log_loss,
                "sure": lesson.sure.tolist(),
                "alerts": lesson.alert_count,
            }
        )
        return

    out.print(f"{to}: {lesson.model.name}; of meters whose customers were left out:")
    out.print(f"{'filed':14}{''.join(f'{name:>14}' for name in classes)}")
    for name, row in zip(classes, lesson.confusion.tolist(), strict=True):
        out.print(f"{name:14}{''.join(f'{count:14,}' for count in row)}")
    out.print(
        f"log loss {lesson.log_loss:.4f}; of {lesson.sure.sum():,} that are sure {lesson.alert_count:,} would be alerts"
    )


@learning.command("suspicion")
def learn_suspicion(
    context: typer.Context,
    sources: Sources,
    labels: LabelsFile = None,
    to: Annotated[
        Path, typer.Option("--out", "-o", help="The model that is written.")
    ] = Path("suspicion.json"),
    rules_file: RulesFile = None,
    top: TopCustomers = 20,
    report: Report = None,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Learns from past visits the chance that a visit finds theft, measures it, and ranks the customers."""
    from streams.rulebook_files import load_as_it_stands  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`
    from streams.suspicion_lesson import learn_suspicion as learn  # noqa: PLC0415 - as `run`

    learn(
        sources,
        labels,
        load_as_it_stands(rules_file),
        load_settings(context),
        to,
        top,
        as_json=json,
        chinese=chinese,
        report=report,
        jobs=Jobs(jobs, scheduler),
    )


@app.command()
def suspects(
    context: typer.Context,
    sources: Sources,
    model: Annotated[Path, typer.Option(help="What `learn suspicion` wrote.")] = Path(
        "suspicion.json"
    ),
    rules_file: RulesFile = None,
    top: TopCustomers = 20,
    report: Report = None,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Ranks the customers of a history by a learned model of suspicion, each with its three strongest reasons."""
    from streams.rulebook_files import load_as_it_stands  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`
    from streams.suspicion_command import show_suspects  # noqa: PLC0415 - as `run`

    show_suspects(
        sources,
        model,
        load_as_it_stands(rules_file),
        load_settings(context),
        top,
        as_json=json,
        chinese=chinese,
        report=report,
        jobs=Jobs(jobs, scheduler),
    )
