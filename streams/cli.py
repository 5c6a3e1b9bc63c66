"""The command line: `meterwatch COMMAND --help` shows the options of each command."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn
from zoneinfo import ZoneInfo

import msgspec
import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from replay.archive.manifest import ArchiveManifest
from schemas.alert import Alert
from schemas.wire import Shape
from streams.archive_lines import committed, committed_line
from streams.json_output import show_json
from streams.kafka.alerts import last_states, published_alerts
from streams.kafka.log_limit import LOG_LIMIT
from streams.kafka.readers import UnansweredError
from streams.kafka.topics import TopicError, ensure
from streams.lines import line
from streams.rule_commands import RulesFile
from streams.rule_commands import app as rules
from streams.rulebook_files import load_as_it_stands, load_for_run
from streams.settings import Settings, load
from streams.shards import Jobs
from streams.terminal import plain_output

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
learning = typer.Typer(
    help="Fleet models, learned offline from a history.", no_args_is_help=True
)
app.add_typer(registry, name="registry")
app.add_typer(rules, name="rules")
app.add_typer(learning, name="learn")

out = plain_output()
err = Console(stderr=True, highlight=False)

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
COLLECTION_THRESHOLD = 100_000
"""New objects before a garbage collection. By Python's own 700, a worker on single readings spent 40 % of its time
looking through records that wait, none of them garbage."""


def main() -> NoReturn:
    """Runs a command. An error of the user is printed in a line and ends with exit code 2."""
    gc.freeze()
    gc.set_threshold(COLLECTION_THRESHOLD)

    try:
        app()
    except (
        ValueError,
        OSError,
        TopicError,
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
    # The command itself prints what fails.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _load_settings(context: typer.Context) -> Settings:
    """The settings of this run. Raises SettingsError."""
    return load(os.environ, context.obj)


@app.command()
def worker(context: typer.Context) -> None:
    """Judges the records of the topics until it is ended; start as many workers as the work needs."""
    from streams.kafka.app import run  # noqa: PLC0415 - Faust takes a second to import

    settings = _load_settings(context)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )

    LOG_LIMIT.install()
    asyncio.run(ensure(settings))
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("meterwatch").setLevel(settings.log_level)
    run(settings)


@app.command()
def topics(context: typer.Context, json: Json = False) -> None:
    """Creates the topics that are missing and checks the partition counts of the others."""
    states = asyncio.run(ensure(_load_settings(context)))
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
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Follows the alerts as they are published."""
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
    from streams.kafka.archiver import archive as keep  # noqa: PLC0415 - as `worker`

    settings = _load_settings(context)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")

    def show(manifest: ArchiveManifest) -> None:
        if json:
            print(msgspec.json.encode(committed(manifest)).decode(), flush=True)  # noqa: T201 - for machines
        else:
            out.print(committed_line(manifest))

    async def archive_all() -> None:
        await ensure(settings)
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


@registry.command("load")
def load_registry(
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
    from replay.sources import open_sources  # noqa: PLC0415 - a worker starts faster without files
    from streams.sending import send_source  # noqa: PLC0415 - and without another client

    send_source(_load_settings(context), open_sources(sources), shape, speed, json=json)


@app.command()
def inspect(context: typer.Context, sources: Sources, json: Json = False) -> None:
    """Shows how a history is understood, and which rules can judge it."""
    from streams.source_summary import show_source_summary, source_summary  # noqa: PLC0415 - as `run`

    found = source_summary(sources, _load_settings(context))
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
    json: Json = False,
) -> None:
    """Watches a history without a broker; a run that was interrupted goes on where it stopped."""
    from streams.local.runner import run as watch  # noqa: PLC0415 - the other commands start faster without the engine

    watch(
        sources,
        store,
        _load_settings(context),
        as_json=json,
        rulebook=load_for_run(rules_file),
        top=top,
        report=report,
        jobs=jobs,
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
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Judges a history and shows by rule how often it alerts, how often it is right, and what it misses."""
    from streams.score_command import score_history  # noqa: PLC0415 - as `run`

    score_history(
        sources,
        labels,
        load_as_it_stands(rules_file),
        _load_settings(context),
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
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Judges a history by two rule sets in one pass and shows which alerts differ."""
    from streams.compare_command import (  # noqa: PLC0415 - as `run`
        compare_rule_sets,
        conditions_of,
        rule_sets,
    )

    conditions = conditions_of(fail_if or (), labels)
    failed = compare_rule_sets(
        sources,
        labels,
        rule_sets(rules_files or (), chinese=chinese),
        _load_settings(context),
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
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Judges a history by many settings of one rule in one pass and shows what each costs in alerts and finds."""
    from detectors.rulebook import rules_of  # noqa: PLC0415 - as `run`
    from streams.sweep import sweep_of  # noqa: PLC0415 - as `run`
    from streams.tune_command import tune_rule  # noqa: PLC0415 - as `run`

    settings = _load_settings(context)
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
    json: Json = False,
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Ranks subjects by the daily scores of all rules, in shadow or not: whom to look at first, and why."""
    from streams.rank_command import rank_history  # noqa: PLC0415 - as `run`

    rank_history(
        sources,
        labels,
        load_as_it_stands(rules_file),
        _load_settings(context),
        top=top,
        as_json=json,
        chinese=chinese,
        scores=scores,
        report=report,
        jobs=Jobs(jobs),
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
    json: Json = False,
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Judges a history and shows what a rule read of a subject at a time, and why it raised an alert or did not."""
    from streams.explain_command import (  # noqa: PLC0415 - as `run`
        Question,
        asked_alert,
        explain_history,
    )

    alert, sources = asked_alert(asked)
    explain_history(
        sources,
        Question(rule, subject, area, at, alert),
        load_as_it_stands(rules_file),
        _load_settings(context),
        as_json=json,
        chinese=chinese,
        report=report,
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
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="A page that opens offline.")
    ] = None,
) -> None:
    """Scores a single series of any kind: how unusual each value, its change and its distance from the season are."""
    from streams.series_command import score_series  # noqa: PLC0415 - as `run`

    score_series(
        file,
        column,
        time_column,
        _load_settings(context).zone,
        as_json=json,
        chinese=chinese,
        report=report,
    )


@app.command()
def stalls(sources: Sources, json: Json = False) -> None:
    """Compares the stages of a work history that are flagged as stalled with the stages that took longest."""
    from replay.sources import open_sources  # noqa: PLC0415 - as `send`
    from replay.stalls import compare  # noqa: PLC0415 - as above

    source = open_sources(sources)
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
def use_classes(
    context: typer.Context,
    sources: Sources,
    to: Annotated[
        Path, typer.Option("--out", "-o", help="The model that is written.")
    ] = Path("use_classes.json"),
    json: Json = False,
) -> None:
    """Learns the usual days of each use class from a history and its master data, for the rule tariff_misuse."""
    from replay.sources import open_sources  # noqa: PLC0415 - as `send`
    from replay.use_class import labelled_meters, learn  # noqa: PLC0415 - as above

    settings = _load_settings(context)
    opened = open_sources(sources)
    source = replace(
        opened,
        zone=opened.zone or settings.zone,
        interval=opened.interval or settings.interval,
    )
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
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page that opens offline.")
    ] = None,
    json: Json = False,
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Learns from past visits the chance that a visit finds theft, measures it, and ranks the customers."""
    from streams.suspicion_command import learn_suspicion as learn  # noqa: PLC0415 - as `run`

    learn(
        sources,
        labels,
        load_as_it_stands(rules_file),
        _load_settings(context),
        to,
        top,
        as_json=json,
        chinese=chinese,
        report=report,
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
    report: Annotated[
        Path | None, typer.Option(help="Where to write a page that opens offline.")
    ] = None,
    json: Json = False,
    chinese: Annotated[bool, typer.Option("--zh", help="In Chinese.")] = False,
) -> None:
    """Ranks the customers of a history by a learned model of suspicion, each with its three strongest reasons."""
    from streams.suspicion_command import show_suspects  # noqa: PLC0415 - as `run`

    show_suspects(
        sources,
        model,
        load_as_it_stands(rules_file),
        _load_settings(context),
        top,
        as_json=json,
        chinese=chinese,
        report=report,
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

    show(meters, days, seed, report, load_for_run(rules_file), labels)


if __name__ == "__main__":
    main()
