"""Conditions on figures: a name, a comparison and a number, as in `false > 5`."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection
from dataclasses import dataclass

from replay.labels import nearest_hint

COMPARISON_SIGNS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
CONDITION_FORM = re.compile(
    r"\s*(\w+)\s*([<>]=?|[=!]=)\s*(-?\d+(?:\.\d+)?)\s*", re.ASCII
)


@dataclass(frozen=True)
class Condition:
    """A figure, how it is compared, and with which number."""

    name: str
    comparison: str
    number: float

    def holds(self, value: float) -> bool:
        """True if a value of the figure meets the condition."""
        return COMPARISON_SIGNS[self.comparison](value, self.number)

    def __str__(self) -> str:
        return f"{self.name} {self.comparison} {self.number:g}"


def condition_of(text: str, names: Collection[str]) -> Condition:
    """The condition that a text states on one of the names. Raises ValueError.

    >>> str(condition_of("false>5", ["false", "hours"]))
    'false > 5'
    """
    form = CONDITION_FORM.fullmatch(text)
    if form is None:
        comparisons = " ".join(COMPARISON_SIGNS)
        raise ValueError(
            f"{text!r} is no condition: write a name, one of {comparisons}, and a number, as in 'only_b > 5'"
        )
    name, comparison, number = form.groups()
    if name not in names:
        hint = nearest_hint(name, names)
        raise ValueError(
            f"{text!r}: there is no figure {name}{hint}; there are {', '.join(names)}"
        )
    return Condition(name, comparison, float(number))
