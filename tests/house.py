"""`python -m tests.house` refuses what the house has agreed to leave: docs/glossary.md and CONTRIBUTING.md say why.

Retired words, a class name used twice, bare one-word constants, one-letter names, two comprehensions on a line, and
long functions without a paragraph.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.house import LONG_LINES, PACKAGE_NAMES, SourceModule

PROJECT_ROOT = Path(__file__).parents[1]
SOURCE_FOLDERS = (*PACKAGE_NAMES, "bench", "tests")
OLDER_FORMATS = frozenset(
    {"house.py", "test_house.py", "older_layouts.py", "packing.py"}
)  # that name what is retired
RETIRED_WORDS = re.compile(
    r"(?<![a-z])(untold|told|(?<!cannot )(?<!cannot_)tells?|telling|heard|hears?|tardy|freezes|heights|waves|fates|"
    r"doomed|hostile|speaks?|spoken|stamps?|habits?|doubts|doubted|those that|that which|sets? right)(?![a-z])",
    re.IGNORECASE,
)
ALLOWED_LETTERS = frozenset("UIPQuipqnjk_")  # quantities, counts and indices
FEW_STATEMENTS = (
    5  # of a function that needs no paragraph, however many lines they take
)
COMPREHENSION_NODES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def retired_words(text: str) -> Iterator[tuple[int, str]]:
    """Every line with a word that the glossary has retired, and the word."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in RETIRED_WORDS.finditer(line):
            yield number, f"retired word {match[1]!r}"


def one_word_constants(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module constant of one word."""
    for node in tree.body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        for name in (leaf for target in targets if target for leaf in ast.walk(target)):
            if isinstance(name, ast.Name) and re.fullmatch(r"_?[A-Z]+", name.id):
                yield node.lineno, f"constant of one word {name.id}"


def one_letter_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name of one letter that is neither a quantity nor an index."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.append((node.lineno, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.lineno, node.id))

    for line, name in names:
        if len(name) == 1 and name not in ALLOWED_LETTERS:
            yield line, f"name of one letter {name!r}"


def crowded_lines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every line on which two comprehensions begin."""
    lines = [
        node.lineno for node in ast.walk(tree) if isinstance(node, COMPREHENSION_NODES)
    ]
    for line in sorted({line for line in lines if lines.count(line) > 1}):
        yield line, "two comprehensions on a line"


def dense_functions(source: SourceModule) -> Iterator[tuple[int, str]]:
    """Every long function of many statements without a blank or comment line."""
    for function in source.long_functions():
        statements = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
        if statements > FEW_STATEMENTS and not source.has_paragraphs(function):
            yield (
                function.lineno,
                f"{function.name} has {LONG_LINES} lines or more and no paragraph",
            )


def class_names_twice(sources: Mapping[str, SourceModule]) -> Iterator[str]:
    """Every class name that more than one module defines."""
    where: dict[str, list[str]] = defaultdict(list)
    for path, source in sources.items():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{path}:{node.lineno}")
    yield from (
        f"{', '.join(places)}: class {name} twice"
        for name, places in where.items()
        if len(places) > 1
    )


def breaches(checkout: Path) -> Iterator[str]:
    """Everything that breaks a rule of the house, with its place."""
    sources: dict[str, SourceModule] = {}
    for folder in SOURCE_FOLDERS:
        for file in sorted((checkout / folder).rglob("*.py")):
            sources[str(file.relative_to(checkout))] = SourceModule(file)
    for path, source in sources.items():
        yield from (
            f"{path}:{line}: {what}" for line, what in sorted(_breaches_of(source))
        )
    yield from class_names_twice(sources)

    for page in [
        *sorted((checkout / "docs").rglob("*.md")),
        *sorted(checkout.glob("*.md")),
    ]:
        for line, what in retired_words(page.read_text("utf-8")):
            yield f"{page.relative_to(checkout)}:{line}: {what}"


def _breaches_of(source: SourceModule) -> Iterator[tuple[int, str]]:
    """Everything in a module that breaks a rule of the house."""
    yield from one_word_constants(source.tree)
    yield from one_letter_names(source.tree)
    yield from crowded_lines(source.tree)
    yield from dense_functions(source)
    if source.path.name not in OLDER_FORMATS:
        yield from retired_words("\n".join(source.lines))


def main() -> int:
    """Prints every breach; exit code 1 if there is any."""
    found = list(breaches(PROJECT_ROOT))
    sys.stderr.write("".join(f"{breach}\n" for breach in found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
