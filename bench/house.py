"""`python -m bench.house [CHECKOUT]` prints how readable a checkout is, in figures."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median, quantiles

PACKAGE_NAMES = ("schemas", "models", "detectors", "replay", "streams")
LONG_LINES = 15  # code lines from which a function needs paragraphs
WORKED_EXAMPLE = re.compile(
    r"^### (A [^\n]+: \d+ files?)\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL
)
CHANGED_FILE = re.compile(r"^\+\+\+ (\S+)$", re.MULTILINE)
FUNCTION_NODES = (ast.FunctionDef, ast.AsyncFunctionDef)


class SourceModule:
    """A module with its syntax tree and the lines that hold code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text("utf-8").splitlines()
        self.tree = ast.parse("\n".join(self.lines))
        documented = set(
            chain.from_iterable(map(_docstring_lines, ast.walk(self.tree)))
        )
        self.code = {
            number
            for number, line in enumerate(self.lines, 1)
            if line.strip()
            and not line.strip().startswith("#")
            and number not in documented
        }

    @property
    def nodes(self) -> int:
        """How many nodes the syntax tree has, contexts of names left out."""
        return sum(
            not isinstance(node, ast.expr_context) for node in ast.walk(self.tree)
        )

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions and methods."""
        return (
            node for node in ast.walk(self.tree) if isinstance(node, FUNCTION_NODES)
        )

    def long_functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """The functions of at least LONG_LINES code lines."""
        for function in self.functions():
            body = range(function.body[0].lineno, (function.end_lineno or 0) + 1)
            if len(self.code.intersection(body)) >= LONG_LINES:
                yield function

    def has_paragraphs(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """True if a blank or comment line stands within a function's body."""
        body = function.body
        first = body[1] if _docstring_lines(function) and len(body) > 1 else body[0]
        lines = self.lines[first.lineno - 1 : function.end_lineno]
        return any(not line.strip() or line.strip().startswith("#") for line in lines)


def _docstring_lines(node: ast.AST) -> range:
    """The lines of a node's docstring."""
    body = getattr(node, "body", None)
    if not isinstance(node, (*FUNCTION_NODES, ast.ClassDef, ast.Module)) or not body:
        return range(0)
    first = body[0]
    text = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return range(first.lineno, first.end_lineno + 1) if text else range(0)


def _local_names(function: ast.AST) -> set[str]:
    """The variables that a function binds, its parameters left out."""
    return {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _methods(sources: list[SourceModule]) -> list[str]:
    """The names of all methods but dunder ones."""
    classes = (
        node
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    )
    members = (
        member.name
        for node in classes
        for member in node.body
        if isinstance(member, FUNCTION_NODES)
    )
    return [name for name in members if not name.startswith("__")]


def _row(name: str, sources: list[SourceModule]) -> str:
    """The figures of some modules as a line of a table."""
    code = sum(len(source.code) for source in sources)
    long = [
        (source, function) for source in sources for function in source.long_functions()
    ]
    dense = sum(not source.has_paragraphs(function) for source, function in long)
    counts = sorted(len(_local_names(function)) for _, function in long)
    names = _methods(sources)
    private = sum(name.startswith("_") for name in names)
    largest = max(len(source.lines) for source in sources)
    return (
        f"| {name} | {len(sources)} | {code:,} | {sum(source.nodes for source in sources) / code:.1f} | "
        f"{dense / len(long):.0%} | {median(counts):.0f} / {quantiles(counts, n=10)[-1]:.0f} | "
        f"{len(names) - private} / {private} | {largest} |"
    )


def _figures(checkout: Path) -> Iterator[str]:
    """The table of a checkout, a line a package and one for all of them."""
    packages = {
        name: [SourceModule(path) for path in sorted((checkout / name).rglob("*.py"))]
        for name in PACKAGE_NAMES
    }
    yield (
        "| Package | Files | Code lines | Nodes a line | Long functions without a paragraph | "
        "Their locals, median / p90 | Methods, public / private | Largest file |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for name, sources in packages.items():
        yield _row(name, sources)
    yield _row("all", list(chain.from_iterable(packages.values())))


def files_per_addition(page: str) -> dict[str, list[str]]:
    """The files that each worked example of a page changes, by its title."""
    return {
        title: list(dict.fromkeys(CHANGED_FILE.findall(example)))
        for title, example in WORKED_EXAMPLE.findall(page)
    }


def main() -> None:
    """Prints the table, and how many files an addition takes by the examples of CONTRIBUTING.md."""
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    print("\n".join(_figures(checkout)))

    page = (checkout / "CONTRIBUTING.md").read_text("utf-8")
    print("\n| Addition | Files |\n|---|---|")
    for title, files in files_per_addition(page).items():
        print(f"| {title.partition(':')[0]} | {len(files)} |")


if __name__ == "__main__":
    main()
