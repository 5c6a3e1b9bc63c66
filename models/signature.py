"""The parameters of a function of columns: a rule is one, and a feature has one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Signature(NamedTuple):
    """The names of a function's parameters, by what they stand for."""

    reads: tuple[str, ...]  # positional, without a default
    optional_reads: tuple[str, ...]  # positional, with a default
    keywords: Mapping[str, Any]  # keyword-only, by name: the default


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function. Raises TypeError for a parameter that stands for many.

    >>> signature_of(lambda u, i=0, *, limit=5: None)
    Signature(reads=('u',), optional_reads=('i',), keywords={'limit': 5})
    """
    reads: list[str] = []
    optional_reads: list[str] = []
    keywords: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function.__qualname__}: {parameter} names no column")
        if parameter.kind is parameter.KEYWORD_ONLY:
            keywords[name] = parameter.default
        elif parameter.default is parameter.empty:
            reads.append(name)
        else:
            optional_reads.append(name)
    return Signature(tuple(reads), tuple(optional_reads), keywords)
