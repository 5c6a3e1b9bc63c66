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

from bench.house import LONG_LINES, SourceModule

CHECKOUT_FOLDER = Path(__file__).parents[1]
SOURCE_FOLDERS = ("schemas", "models", "detectors", "replay", "streams", "bench", "tests")
RETIRED_WORDS = re.compile(
    r"(?<![a-z])(untold|told|(?<!cannot )(?<!cannot_)tells?|telling|heard|hears?|tardy|freezes|heights|waves|fates|"
    r"doomed|hostile|speaks?|spoken|stamps?|habits?|doubt(?:s|ed)?|those that|that which|sets? right)(?![a-z])",
    re.IGNORECASE,
)
ALLOWED_LETTERS = frozenset("UIPQnijk_T")  # quantities, counts, indices, and a type variable
COMPREHENSION_NODES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
GENERATED_FOLDERS = frozenset({"tests/data", "schemas/json"})


def retired_words(text: str) -> Iterator[tuple[int, str]]:
    """Every line with a word that the glossary has retired, and the word."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in RETIRED_WORDS.finditer(line):
            yield number, f"retired word {match[1]!r}"


def one_word_constants(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module constant of one word."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for name in (leaf for target in targets if target for leaf in ast.walk(target)):
            if isinstance(name, ast.Name) and re.fullmatch(r"_?[A-Z]+", name.id):
                yield node.lineno, f"constant of one word {name.id}"


def one_letter_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name of one letter that is neither a quantity nor an index."""
    for node in ast.walk(tree):
        name = node.arg if isinstance(node, ast.arg) else None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        if name and len(name) == 1 and name not in ALLOWED_LETTERS:
            yield node.lineno, f"name of one letter {name!r}"


def crowded_lines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every line on which two comprehensions begin."""
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, COMPREHENSION_NODES)]
    for line in sorted({line for line in lines if lines.count(line) > 1}):
        yield line, "two comprehensions on a line"


def dense_functions(source: SourceModule) -> Iterator[tuple[int, str]]:
    """Every long function without a blank or comment line."""
    for function in source.long_functions():
        if not source.has_paragraphs(function):
            yield function.lineno, f"{function.name} has {LONG_LINES} lines or more and no paragraph"


def class_names_twice(sources: Mapping[str, SourceModule]) -> Iterator[str]:
    """Every class name that more than one module defines."""
    where: dict[str, list[str]] = defaultdict(list)
    for path, source in sources.items():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{path}:{node.lineno}")
    yield from (f"{', '.join(places)}: class {name} twice" for name, places in where.items() if len(places) > 1)


def breaches(checkout: Path) -> Iterator[str]:
    """Everything that breaks a rule of the house, with its place."""
    sources = {
        str(path.relative_to(checkout)): SourceModule(path)
        for folder in SOURCE_FOLDERS
        for path in sorted((checkout / folder).rglob("*.py"))
    }
    for path, source in sources.items():
        checks = (one_word_constants(source.tree), one_letter_names(source.tree), crowded_lines(source.tree))
        found = [*retired_words("\n".join(source.lines)), *dense_functions(source)]
        found += (breach for check in checks for breach in check)
        yield from (f"{path}:{line}: {what}" for line, what in sorted(found))
    yield from class_names_twice(sources)
    for path in [*sorted((checkout / "docs").glob("*.md")), *sorted(checkout.glob("*.md"))]:
        text = path.read_text("utf-8")
        yield from (f"{path.relative_to(checkout)}:{line}: {what}" for line, what in retired_words(text))


def main() -> int:
    """Prints every breach; exit code 1 if there is any."""
    found = list(breaches(CHECKOUT_FOLDER))
    print("\n".join(found), file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
