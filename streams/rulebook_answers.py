"""What the commands on rules print: rules as they are set, and rulebooks that are checked and published."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
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
)
from replay.extras import missing_extra
from schemas.rules import Rulebook
from streams.case_results import case_files, case_results, show_results
from streams.command_options import load_settings
from streams.json_output import show_json
from streams.rulebook_files import load, load_as_it_stands, load_fitting
from streams.settings import Settings
from streams.terminal import plain_output

out = plain_output()
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def list_rules(
    context: typer.Context, rules: Path | None, *, on_topic: bool, json: bool
) -> None:
    """Lists every rule in a table, or as JSON."""
    summaries = [_summary(rule) for rule in _chosen(context, rules, on_topic=on_topic)]
    if json:
        show_json(summaries)
        return

    rows = [list(summaries[0])]
    rows.extend(list(map(str, summary.values())) for summary in summaries)
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        out.print("  ".join(map(set_cell_size, row, widths)).rstrip())


def show_rule(
    context: typer.Context, name: str, rules: Path | None, *, on_topic: bool
) -> None:
    """Shows all of one rule. Raises ValueError if there is none of this name."""
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


def check_file(file: Path) -> None:
    """Shows the entries of a rulebook that wait for approval. Raises RulebookError for its faults."""
    loaded = load_fitting(file, EMPTY_RULEBOOK)
    out.print(
        f"{file}: {len(loaded.rules)} rules, {len(changes(loaded))} set otherwise than in code"
    )
    for fault in unapproved(loaded):
        out.print(fault)


def run_cases(paths: Sequence[Path], rules: Path | None, *, json: bool) -> bool:
    """True if all cases pass against the rules of a rulebook; shows the results."""
    chosen = {rule.name: rule for rule in applied(load_as_it_stands(rules))}
    results = case_results(list(case_files(paths)), chosen)
    if json:
        all_results = list(results)
        show_json(all_results)
        return all(result.passed for result in all_results)
    return show_results(results, out)


def show_diff(context: typer.Context, file: Path) -> None:
    """Shows how a rulebook differs from the published one, or from the code if there is no broker to ask."""
    loaded = load(file)
    settings = load_settings(context)
    before, beside = EMPTY_RULEBOOK, "the code"
    try:
        before, beside = _published(settings), "what is published"
    except (ConnectionError, ModuleNotFoundError) as error:
        err.print(f"beside {beside}: {missing_extra(error) or error}")
    _show_changes(loaded, before, beside)
    for fault in problems(loaded, before):
        out.print(fault)


def publish_file(context: typer.Context, file: Path, approved_by: str) -> None:
    """Publishes a rulebook, and shows what changes. Raises RulebookError if it is not fit or not approved."""
    from streams.kafka.rights import PUBLISH_RIGHTS  # noqa: PLC0415 - an extra
    from streams.kafka.rulebooks import newest, send  # noqa: PLC0415 - the same

    load(file)  # fails before brokers are asked
    settings = load_settings(context)
    before = asyncio.run(newest(settings, err.print, PUBLISH_RIGHTS))
    loaded = load_fitting(file, before)
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
        chosen = _published(load_settings(context))
    elif file:
        chosen = load_fitting(file, EMPTY_RULEBOOK)
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


def _published(settings: Settings) -> Rulebook:
    """The published rulebook. Raises UnansweredError, TopicError."""
    from streams.kafka.rulebooks import newest  # noqa: PLC0415 - an extra

    return asyncio.run(newest(settings, err.print))
