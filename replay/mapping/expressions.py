"""Arithmetic over columns of others: names, paths, constants, + - * / and parentheses; nothing else is accepted."""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ColumnPath = tuple[str | int, ...]
"""The way to a value: a name, then names of fields and places in lists."""
Numbers = NDArray[np.float64]

LONGEST_EXPRESSION = 300  # characters; they also bound how deep it can nest
QUOTED_NAME = re.compile(r"`([^`]+)`")
PLACEHOLDER_NAME = re.compile(r"__quoted_(\d+)__")
KNOWN_OPERATIONS: Mapping[type[ast.operator], np.ufunc] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}


class ExpressionError(ValueError):
    """The text is no expression of columns; says why."""


class Expression(NamedTuple):
    """An expression, and the paths that it reads, by their text."""

    text: str
    tree: ast.expr
    paths: Mapping[str, ColumnPath]

    @property
    def is_path(self) -> bool:
        """True if it is a path and nothing is computed."""
        return isinstance(self.tree, ast.Name | ast.Attribute | ast.Subscript)

    def evaluate(self, columns: Mapping[str, Numbers]) -> Numbers:
        """The values for columns by the text of their path.

        Infinite, which no quantity is, where nothing can be computed of known values.
        """
        with np.errstate(all="ignore"):
            found = np.asarray(_evaluated(self.tree, columns), np.float64)
        read = [columns[path] for path in self.paths]
        known = np.logical_and.reduce([~np.isnan(values) for values in read])
        return np.where(np.isnan(found) & known, np.inf, found)


def parsed(text: str) -> Expression:
    """The expression of a text. Raises ExpressionError.

    >>> list(parsed("energy.import_wh / 1000 + `KWH/hh`").paths.values())
    [('energy', 'import_wh'), ('KWH/hh',)]
    """
    if len(text) > LONGEST_EXPRESSION:
        raise ExpressionError(f"is longer than {LONGEST_EXPRESSION} characters")
    quoted: list[str] = []

    def placeholder(found: re.Match[str]) -> str:
        quoted.append(found[1])
        return f"__quoted_{len(quoted) - 1}__"

    source = QUOTED_NAME.sub(placeholder, text.strip())
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(
            "is neither a name nor arithmetic; put a name with other characters between `backquotes`"
        ) from None

    tree = _Named(quoted).visit(tree)
    paths = dict(_paths(tree))
    if not paths:
        raise ExpressionError('names no column; a constant is { value = "..." }')
    return Expression(text, tree, paths)


def can_be_named(name: str) -> bool:
    """True if a name can stand in an expression, between backquotes or without."""
    return bool(name) and "`" not in name


def _is_plain(name: str) -> bool:
    """True if a name needs no backquotes: the parser takes it, and takes it as it is.

    >>> _is_plain("volts"), _is_plain("import"), _is_plain("V 1")
    (True, False, False)
    """
    is_normal = unicodedata.normalize("NFKC", name) == name
    return name.isidentifier() and is_normal and not keyword.iskeyword(name)


def path_text(path: Sequence[str | int]) -> str:
    """A path as its text.

    >>> path_text(("phases", 0, "V 1"))
    'phases[0].`V 1`'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _is_plain(part) else f"`{part}`"
            text += f".{name}" if text else name
    return text


def walked(value: Any, path: Sequence[str | int]) -> Any:
    """The value at the end of a path, None where the way ends before."""
    for part in path:
        if isinstance(part, str) and isinstance(value, dict):
            value = value.get(part)
        elif isinstance(part, int) and isinstance(value, list) and part < len(value):
            value = value[part]
        else:
            return None
    return value


class _Named(ast.NodeTransformer):
    """Puts the quoted names back."""

    def __init__(self, quoted: Sequence[str]) -> None:
        self._quoted = quoted

    def _name(self, name: str) -> str:
        found = PLACEHOLDER_NAME.fullmatch(name)
        return self._quoted[int(found[1])] if found else name

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """A name."""
        node.id = self._name(node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        """A field."""
        self.generic_visit(node)
        node.attr = self._name(node.attr)
        return node


def _path(node: ast.expr) -> ColumnPath:
    """The path of a node. Raises ExpressionError if it is none."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=inner, attr=name):
            return (*_path(inner), name)
        case ast.Subscript(value=inner, slice=ast.Constant(value=int() as place)) if (
            not isinstance(place, bool)
        ):
            return (*_path(inner), place)
    raise ExpressionError(f"has {ast.unparse(node)!r}, which is no path to a value")


def _paths(node: ast.expr) -> Iterator[tuple[str, ColumnPath]]:
    """The paths that an expression reads. Raises ExpressionError for what is no arithmetic."""
    match node:
        # the ends of the tree are paths and constants
        case ast.Name() | ast.Attribute() | ast.Subscript():
            path = _path(node)
            yield path_text(path), path
        case ast.BinOp(left=left, op=operator, right=right) if (
            type(operator) in KNOWN_OPERATIONS
        ):
            yield from _paths(left)
            yield from _paths(right)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            yield from _paths(operand)
        case ast.Constant(value=int() | float() as number) if _is_usable(number):
            return
        case _:
            raise ExpressionError(
                f"has {ast.unparse(node)[:60]!r}; known are names, numbers, + - * / and parentheses"
            )


def _is_usable(number: float) -> bool:
    """True if a constant is a finite number."""
    try:
        return not isinstance(number, bool) and isfinite(float(number))
    except OverflowError:
        return False


def _evaluated(node: ast.expr, columns: Mapping[str, Numbers]) -> Any:
    match node:
        case ast.BinOp(left=left, op=operator, right=right):
            operation = KNOWN_OPERATIONS[type(operator)]
            return operation(_evaluated(left, columns), _evaluated(right, columns))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return np.negative(_evaluated(operand, columns))
        case ast.UnaryOp(operand=operand):
            return _evaluated(operand, columns)
        case ast.Constant(value=int() | float() as number):
            return np.float64(number)
    return columns[path_text(_path(node))]
