"""Rulebooks in files."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import typer

from detectors.rulebook import (
    EMPTY_RULEBOOK,
    problems,
    unapproved,
    unknown_entries,
)
from schemas.rules import Rulebook, RulebookError, rulebook_of


def load(path: Path) -> Rulebook:
    """The rulebook of a file, with the models that it names beside it. Raises RulebookError, which names the file."""
    try:
        entries = tomllib.loads(path.read_text("utf-8"))
        _read_models(entries, path.parent)
        return rulebook_of(entries)

    # Every error names its file.
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


def load_fitting(path: Path, before: Rulebook) -> Rulebook:
    """A file's rulebook that may follow another, approval apart. Raises RulebookError, which names the file."""
    loaded = load(path)
    if faults := problems(loaded, before):
        raise RulebookError([f"{path}: {fault}" for fault in faults])
    return loaded


def load_as_it_stands(path: Path | None) -> Rulebook:
    """The rulebook of a question: neither versions nor approval count. Raises RulebookError for unknown entries."""
    if path is None:
        return EMPTY_RULEBOOK
    loaded = load(path)
    if faults := unknown_entries(loaded):
        raise RulebookError([f"{path}: {fault}" for fault in faults])
    return loaded


def draft_text(name: str, rulebook: Rulebook, evidence: Iterable[str]) -> str:
    """A rulebook as its file has it, with the evidence for the edition of one rule above it."""
    lines: list[str] = []
    for rule, edition in rulebook.rules.items():
        if rule == name:
            lines += [f"# {line}" for line in evidence]
        lines.append(f"[{rule}]")
        fields = msgspec.to_builtins(edition, builtin_types=(datetime,))
        lines += [
            f"{'.'.join(path)} = {_toml(value)}" for path, value in _leaves(fields)
        ]
        lines.append("")
    return "\n".join(lines)


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of a table and of those in it, each with its path; None has no form in TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from (((name, *path), leaf) for path, leaf in _leaves(value))
        elif value is not None:
            yield (name,), value


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


def load_for_run(path: Path | None) -> Rulebook:
    """The rulebook of a run: of the file, if it is valid, or empty without a file. Raises RulebookError.

    It need not be approved, for it holds for the run alone; a note says what is not approved.
    """
    if path is None:
        return EMPTY_RULEBOOK
    loaded = load_fitting(path, EMPTY_RULEBOOK)
    for fault in unapproved(loaded):
        typer.echo(f"{path}: {fault}; it holds for this run alone", err=True)
    return loaded
