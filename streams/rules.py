"""Rulebooks in files and on the topic, and the commands that show, check and publish them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import tomllib
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from aiokafka import TopicPartition
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from detectors.catalogue import facts
from detectors.rule import ALL_RULES, Rule
from detectors.rulebook import (
    EMPTY_RULEBOOK,
    applied,
    changes,
    check,
    edited,
    problems,
    signed,
    unapproved,
    unknown_entries,
    unraised,
)
from schemas.rules import (
    Rulebook,
    RulebookError,
    decode_rulebook,
    rulebook_of,
    unknown_fields,
)
from schemas.topics import RULES_TOPIC
from streams.kafka.answers import answered
from streams.kafka.logs import UnansweredError, read_to_end, reader, visible
from streams.kafka.outbox import producer
from streams.kafka.topics import ensure
from streams.settings import Settings
from streams.settings import load as load_settings

RECORD_KEY = b"rules"
log = logging.getLogger("meterwatch")

app = typer.Typer(
    help="Rules: what they are set to, and publishing other settings.",
    no_args_is_help=True,
)
out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

RulesFile = Annotated[
    Path | None, typer.Option("--rules", help="A rulebook such as deploy/rules.toml.")
]
File = Annotated[Path, typer.Argument(help="A rulebook such as deploy/rules.toml.")]
Published = Annotated[
    bool, typer.Option("--published", help="As published on the topic.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def load(path: Path) -> Rulebook:
    """The rulebook of a file, with the models that it names beside it. Raises RulebookError, which names the file."""
    try:
        entries = tomllib.loads(path.read_text("utf-8"))
        _read_models(entries, path.parent)
        return rulebook_of(entries)

    except FileNotFoundError as error:
        raise RulebookError([f"{error.filename}: there is no such file"]) from None
    except (
        OSError,
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        msgspec.DecodeError,
    ) as error:
        raise RulebookError([f"{path}: {error}"]) from None
    except RulebookError as error:
        raise RulebookError([f"{path}: {fault}" for fault in error.faults]) from None


def _read_models(entries: dict[str, Any], folder: Path) -> None:
    """Puts each model in the place of the name of its file."""
    for entry in entries.values():
        if isinstance(entry, dict) and isinstance(model := entry.get("model"), str):
            entry["model"] = msgspec.json.decode((folder / model).read_bytes())


def _fitting(path: Path, before: Rulebook) -> Rulebook:
    """A file's rulebook that may follow another, approval apart. Raises RulebookError, which names the file."""
    loaded = load(path)
    if faults := problems(loaded, before):
        raise RulebookError([f"{path}: {fault}" for fault in faults])
    return loaded


def rulebook(path: Path | None) -> Rulebook:
    """The rulebook of a run: of the file, if it is valid, or empty without a file. Raises RulebookError.

    It need not be approved, for it holds for the run alone; a note says what is not approved.
    """
    if path is None:
        return EMPTY_RULEBOOK
    loaded = _fitting(path, EMPTY_RULEBOOK)
    for fault in unapproved(loaded):
        typer.echo(f"{path}: {fault}; it holds for this run alone", err=True)
    return loaded


def published(key: bytes | None, value: bytes | None, before: Rulebook) -> Rulebook:
    """The rulebook of a record that follows another; a record without value changes nothing. Raises RulebookError.

    Rules and settings that this version does not know are logged, and the rest is in force.
    """
    if value is None:
        return before
    if key != RECORD_KEY:
        raise RulebookError([f"the key is {key!r:.40}, not {RECORD_KEY!r}"])

    decoded = decode_rulebook(value)
    if faults := unraised(decoded, before) or unapproved(decoded, before):
        raise RulebookError(faults)
    for fault in unknown_fields(value) + unknown_entries(decoded):
        log.warning(
            "this version does not know all of the published rulebook, the rest is in force: %s",
            fault,
        )
    return decoded


async def newest(settings: Settings) -> Rulebook:
    """The published rulebook. Raises UnansweredError, TopicError."""
    await ensure(settings)
    tp = TopicPartition(settings.topic(RULES_TOPIC), 0)
    found = EMPTY_RULEBOOK
    async with reader(settings) as consumer:
        starts = await consumer.beginning_offsets([tp])
        async for _, records in read_to_end(consumer, starts):
            for record in records:
                try:
                    found = published(record.key, record.value, found)
                except RulebookError as error:
                    err.print(
                        f"offset {record.offset} of `{tp.topic}` is passed over: {visible(str(error))}"
                    )
    return found


async def send(settings: Settings, rulebook: Rulebook) -> None:
    """Publishes a rulebook. Raises KafkaError, also if no broker takes it in time."""
    client = producer(settings)
    await client.start()
    try:
        await answered(
            client.send_and_wait(
                settings.topic(RULES_TOPIC),
                msgspec.json.encode(rulebook),
                RECORD_KEY,
                0,
            )
        )
    finally:
        await client.stop()


@app.command("list")
def list_rules(
    context: typer.Context,
    rules: RulesFile = None,
    on_topic: Published = False,
    json: Json = False,
) -> None:
    """Lists every rule with its family, titles, kind, severity, status and version."""
    summaries = [_summary(rule) for rule in _chosen(context, rules, on_topic=on_topic)]
    if json:
        print(msgspec.json.format(msgspec.json.encode(summaries)).decode())  # noqa: T201 - for machines
        return

    rows = [list(summaries[0])]
    rows.extend(list(map(str, summary.values())) for summary in summaries)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        out.print("  ".join(map(set_cell_size, row, widths)).rstrip())


@app.command()
def show(
    context: typer.Context,
    name: str,
    rules: RulesFile = None,
    on_topic: Published = False,
) -> None:
    """Shows all of one rule."""
    found = {rule.name: rule for rule in _chosen(context, rules, on_topic=on_topic)}
    if name not in found:
        near = get_close_matches(name, found, 1)
        advice = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no rule {name}{advice}")

    rule = found[name]
    out.print(
        f"{name}, {rule.title[0]} {rule.title[1]}: {rule.status}, version {rule.version}\n"
    )
    out.print(f"{inspect.getdoc(rule.judge)}\n")
    for line in facts(rule):
        out.print(line)
    out.print(f"- Cases: tests/cases/{name}.toml")


@app.command("check")
def check_file(file: File) -> None:
    """Checks a rulebook: shows its faults, and the entries that wait for approval."""
    loaded = _fitting(file, EMPTY_RULEBOOK)
    out.print(
        f"{file}: {len(loaded.rules)} rules, {len(changes(loaded))} set otherwise than in code"
    )
    for fault in unapproved(loaded):
        out.print(fault)


@app.command()
def diff(context: typer.Context, file: File) -> None:
    """Shows how a rulebook differs from the published one, or from the code if no broker answers."""
    loaded = load(file)
    settings = _settings_of(context)
    before, beside = EMPTY_RULEBOOK, "the code"
    try:
        before, beside = asyncio.run(newest(settings)), "what is published"
    except UnansweredError as error:
        err.print(f"beside {beside}, for there is {error}")
    _show_changes(loaded, before, beside)
    for fault in problems(loaded, before):
        out.print(fault)


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
    load(file)  # fails before brokers are asked
    settings = _settings_of(context)
    before = asyncio.run(newest(settings))
    loaded = _fitting(file, before)
    now = datetime.now(UTC).replace(microsecond=0)
    after = signed(loaded, before, approved_by, now)

    check(after, before)
    if after != before:
        asyncio.run(send(settings, after))
    _show_changes(after, before, "what was published")


def _chosen(context: typer.Context, file: Path | None, *, on_topic: bool) -> list[Rule]:
    """The rules as a file, the topic or the code sets them."""
    if file and on_topic:
        raise ValueError("--rules and --published exclude each other")
    if on_topic:
        chosen = asyncio.run(newest(_settings_of(context)))
    elif file:
        chosen = _fitting(file, EMPTY_RULEBOOK)
    else:
        chosen = EMPTY_RULEBOOK
    return sorted(applied(chosen), key=lambda rule: rule.family)


def _summary(rule: Rule) -> dict[str, Any]:
    """A rule as a row of the list."""
    return {
        "rule": rule.name,
        "family": rule.family,
        "title": rule.title[0],
        "标题": rule.title[1],
        "judged on": rule.kind.kind,
        "severity": "/".join(str(level.severity) for level in rule.levels),
        "status": rule.status,
        "version": rule.version,
    }


def _show_changes(after: Rulebook, before: Rulebook, beside: str) -> None:
    """Prints the changes from one rulebook to another."""
    changed = changes(after, before)
    for name, lines in changed.items():
        old = edited(ALL_RULES[name], before.rules.get(name)).version
        new = edited(ALL_RULES[name], after.rules.get(name)).version
        out.print(f"{name}, version {old} -> {new}: {', '.join(lines)}")
    if not changed:
        out.print(f"nothing is set otherwise than in {beside}")


def _settings_of(context: typer.Context) -> Settings:
    """The settings of this run. Raises SettingsError."""
    return load_settings(os.environ, context.obj)
