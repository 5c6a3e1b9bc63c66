"""The commands that judge histories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streams.command_options import (
    Chinese,
    JobCount,
    Json,
    LabelsFile,
    Report,
    RulesFile,
    Scheduler,
    Sources,
    load_settings,
)
from streams.json_output import show_json
from streams.terminal import plain_output

app = typer.Typer()
out = plain_output()
err = Console(stderr=True, highlight=False)


@app.command()
def inspect(context: typer.Context, sources: Sources, json: Json = False) -> None:
    """Shows how a history is understood, and which rules can judge it."""
    from streams.source_summary import show_source_summary, source_summary  # noqa: PLC0415 - as `run`

    found = source_summary(sources, load_settings(context))
    if json:
        show_json(found)
        return
    show_source_summary(found, out)


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
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
) -> None:
    """Watches a history without a broker; a run that was interrupted goes on where it stopped."""
    from streams.local.runner import run as watch  # noqa: PLC0415 - the other commands start faster without the engine
    from streams.rulebook_files import load_for_run  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`

    watch(
        sources,
        store,
        load_settings(context),
        as_json=json,
        rulebook=load_for_run(rules_file),
        top=top,
        report=report,
        jobs=Jobs(jobs, scheduler),
    )


@app.command()
def score(
    context: typer.Context,
    sources: Sources,
    labels: LabelsFile = None,
    rules_file: RulesFile = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page of the scores.")
    ] = None,
    near: Annotated[
        int,
        typer.Option(
            help="Also so many of each rule's highest scores that never raised an alert.",
            min=0,
        ),
    ] = 0,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Judges a history and shows by rule how often it alerts, how often it is right, and what it misses."""
    from streams.rulebook_files import load_as_it_stands  # noqa: PLC0415 - as `run`
    from streams.score_command import score_history  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`

    score_history(
        sources,
        labels,
        load_as_it_stands(rules_file),
        load_settings(context),
        as_json=json,
        chinese=chinese,
        report=report,
        jobs=Jobs(jobs, scheduler),
        near=near,
    )


@app.command()
def compare(
    context: typer.Context,
    sources: Sources,
    rules_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--rules", help="A rulebook; twice for A and B, once against the code."
        ),
    ] = None,
    labels: LabelsFile = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit with 1 if this holds, such as 'only_b > 5'; may be repeated.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page of the comparison.")
    ] = None,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Judges a history by two rule sets in one pass and shows which alerts differ."""
    from streams.compare_command import (  # noqa: PLC0415 - as `run`
        compare_rule_sets,
        conditions_of,
        rule_sets,
    )
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`

    conditions = conditions_of(fail_if or (), labels)
    failed = compare_rule_sets(
        sources,
        labels,
        rule_sets(rules_files or (), chinese=chinese),
        load_settings(context),
        conditions,
        as_json=json,
        chinese=chinese,
        report=report,
        jobs=Jobs(jobs, scheduler),
    )
    for condition in failed:
        err.print(f"failed: {condition}")
    if failed:
        raise typer.Exit(1)


@app.command()
def tune(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(help="The rule whose settings are swept.")],
    sources: Sources,
    swept: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting with values: limit=5,7,10 or limit=0.6:1.2:0.1; may be repeated.",
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="Alerts that are allowed, such as 2/1000/day [default: as many as now]."
        ),
    ] = "",
    labels: LabelsFile = None,
    rules_file: RulesFile = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page with table and plot.")
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option(help="Where to write the best setting as a rulebook."),
    ] = None,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Judges a history by many settings of one rule in one pass and shows what each costs in alerts and finds."""
    from detectors.rulebook import rules_of  # noqa: PLC0415 - as `run`
    from streams.rulebook_files import load_as_it_stands  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`
    from streams.sweep import sweep_of  # noqa: PLC0415 - as `run`
    from streams.tune_command import tune_rule  # noqa: PLC0415 - as `run`

    settings = load_settings(context)
    rulebook = load_as_it_stands(rules_file)
    limits = rules_of(settings.voltage_limits)
    tune_rule(
        sources,
        labels,
        sweep_of(rule, swept or (), budget, rulebook, limits),
        settings,
        as_json=json,
        chinese=chinese,
        report=report,
        draft=draft,
        jobs=Jobs(jobs, scheduler),
    )


@app.command()
def rank(
    context: typer.Context,
    sources: Sources,
    labels: LabelsFile = None,
    rules_file: RulesFile = None,
    top: Annotated[
        int, typer.Option(help="How many subjects are shown and scored.", min=1)
    ] = 20,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="A new folder for the daily scores and rankings, as Parquet."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page of the ranking.")
    ] = None,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Ranks subjects by the daily scores of all rules, in shadow or not: whom to look at first, and why."""
    from streams.rank_command import rank_history  # noqa: PLC0415 - as `run`
    from streams.rulebook_files import load_as_it_stands  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`

    rank_history(
        sources,
        labels,
        load_as_it_stands(rules_file),
        load_settings(context),
        top=top,
        as_json=json,
        chinese=chinese,
        scores=scores,
        report=report,
        jobs=Jobs(jobs, scheduler),
    )


@app.command()
def explain(
    context: typer.Context,
    asked: Annotated[
        list[str],
        typer.Argument(
            metavar="[ALERT] SOURCES...",
            help="The id of an alert, if one is explained; then files, folders, or `town`.",
        ),
    ],
    rule: Annotated[str, typer.Option(help="The rule that is explained.")] = "",
    at: Annotated[
        str,
        typer.Option(help="A local time, or a date, which means its end."),
    ] = "",
    subject: Annotated[
        str,
        typer.Option("--meter", "--subject", help="A meter, or what the rule judges."),
    ] = "",
    area: Annotated[
        str, typer.Option(help="Its area, or alone: the area is the subject.")
    ] = "",
    rules_file: RulesFile = None,
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page with the curves.")
    ] = None,
    jobs: JobCount = 1,
    scheduler: Scheduler = "",
    json: Json = False,
    chinese: Chinese = False,
) -> None:
    """Judges a history and shows what a rule read of a subject at a time, and why it raised an alert or did not."""
    from streams.explain_command import (  # noqa: PLC0415 - as `run`
        Question,
        asked_alert,
        explain_history,
    )
    from streams.rulebook_files import load_as_it_stands  # noqa: PLC0415 - as `run`
    from streams.shards import Jobs  # noqa: PLC0415 - as `run`

    alert, sources = asked_alert(asked)
    explain_history(
        sources,
        Question(rule, subject, area, at, alert),
        load_as_it_stands(rules_file),
        load_settings(context),
        as_json=json,
        chinese=chinese,
        report=report,
        jobs=Jobs(jobs, scheduler),
    )


@app.command()
def series(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Delimited text or Parquet.")],
    column: Annotated[str, typer.Option(help="The column whose values are scored.")],
    time_column: Annotated[
        str,
        typer.Option(
            "--time", help="The column of the times [default: at, time, date ...]."
        ),
    ] = "",
    json: Json = False,
    chinese: Chinese = False,
    report: Report = None,
) -> None:
    """Scores a single series of any kind: how unusual each value, its change and its distance from the season are."""
    from streams.series_command import score_series  # noqa: PLC0415 - as `run`

    score_series(
        file,
        column,
        time_column,
        load_settings(context).zone,
        as_json=json,
        chinese=chinese,
        report=report,
    )


@app.command()
def stalls(context: typer.Context, sources: Sources, json: Json = False) -> None:
    """Compares the stages of a work history that are flagged as stalled with the stages that took longest."""
    from replay.stalls import compare  # noqa: PLC0415 - as `send`
    from streams.histories import opened  # noqa: PLC0415 - as above

    source = opened(sources, load_settings(context))
    stages = compare(source.areas, source.batches, source.zone)
    if json:
        show_json([stage._asdict() for stage in stages])
        return

    width = max((len(stage.stage) for stage in stages), default=0) + 2
    heads = f"{'stays':>9}{'flagged':>9}{'longest 5 %':>13}{'of them flagged':>17}{'days before the end':>21}"
    out.print(f"{'stage':{width}}{heads}")
    for stage in stages:
        name, stays, flagged, longest, found, days = stage
        before = f"{days:.1f}" if found else "-"
        out.print(
            f"{name:{width}}{stays:9,}{flagged:9,}{longest:13,}{found:17,}{before:>21}"
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
    labels: Annotated[
        Path | None,
        typer.Option(help="Where to write the planted faults as labels, for `score`."),
    ] = None,
) -> None:
    """Shows a simulated town with planted faults, the alerts as they are raised, and which faults were found."""
    from streams.report.demo import demo as show  # noqa: PLC0415 - as above
    from streams.rulebook_files import load_for_run  # noqa: PLC0415 - as `run`

    show(meters, days, seed, report, load_for_run(rules_file), labels)
