"""A feature has a method of columns, `fold`, whose signature says what it reads and what it gives.

Its positional parameters, after the slots, are columns that a row must have to be folded; its
keyword-only parameters are columns that it may use. It returns a NamedTuple, whose fields are the
columns that it gives, each with its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple, get_type_hints

import numpy as np

from models.signature import signature_of
from models.state.cells import Cells, Columns
from models.state.owners import Owner, Schema
from schemas.columns import Codes


class Feature(Owner):
    """Columns computed from a batch and from the rows before it.

    An empty cell means that nothing is known.
    """

    expendable = True
    # rows of a subject after which a feature that started afresh knows as much as before
    relearns: ClassVar[int] = 31
    # True: it folds rows of distinct slots; else of any, each slot's in order of arrival
    distinct: ClassVar[bool] = True

    # of an online model whose drift is watched: its name
    model: ClassVar[str] = ""

    cells: Cells
    # gives columns for rows of slots, as things stood before each row; then remembers the rows
    fold: Callable[..., NamedTuple]

    # by the signature of `fold`
    reads: ClassVar[tuple[str, ...]]  # columns that a row must have to be folded
    takes: ClassVar[tuple[str, ...]]  # further columns
    uses: ClassVar[tuple[str, ...]]  # both
    gives: ClassVar[tuple[str, ...]]  # columns that it adds

    def __init_subclass__(cls) -> None:
        """Reads the names of columns. Raises TypeError if `fold` does not have the form above."""
        super().__init_subclass__()
        signature = signature_of(cls.fold)
        if signature.reads[:2] != ("self", "slots") or signature.optional_reads:
            raise TypeError(f"{cls.__name__}.fold takes slots, then columns")
        cls.reads = signature.reads[2:]
        cls.takes = tuple(signature.keywords)
        cls.uses = (*cls.reads, *cls.takes)
        cls.gives = _fields_of(get_type_hints(cls.fold).get("return"))
        if not cls.gives:
            raise TypeError(f"{cls.__name__}.fold does not return a NamedTuple")

    def __init__(self) -> None:
        self.cells = Cells()  # a feature that remembers has others

    def columns_for(self, slots: Codes, columns: Columns) -> Columns:
        """What `fold` gives for rows, by name, from columns by name."""
        used = {name: columns[name] for name in self.uses}
        return self.fold(slots, **used)._asdict()

    @property
    def drifted(self) -> int:
        """How many subjects are learned anew since the error of the model drifted."""
        return 0

    def schema(self) -> Schema:
        """The cells of one subject, by column."""
        return self.cells.schema()

    def state(self) -> Columns:
        """Everything remembered."""
        return self.cells.state()

    def load(self, columns: Columns) -> None:
        """Replaces everything by the result of `state`."""
        self.cells.load(columns)


def feature_columns_of(
    feature: Feature, slots: Codes, columns: Columns, passes: list[Codes]
) -> Columns:
    """A feature's columns for a whole batch, folded pass by pass where it must be."""
    if len(passes) == 1 or not feature.distinct:
        return feature.columns_for(slots, columns)

    used = {name: columns[name] for name in feature.uses}
    joined: Columns = {}
    for rows in passes:
        given = feature.columns_for(
            slots[rows], {name: column[..., rows] for name, column in used.items()}
        )
        for name, column in given.items():
            if name not in joined:
                shape = (*column.shape[:-1], len(slots))
                joined[name] = np.empty(shape, column.dtype)
            joined[name][..., rows] = column
    return joined


def _fields_of(result: object) -> tuple[str, ...]:
    """The fields of a NamedTuple; none of another type."""
    if isinstance(result, type) and issubclass(result, tuple):
        return tuple(get_type_hints(result))
    return ()
