"""Features that started afresh cannot tell of subjects that their rules knew."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.feature import Feature
from models.state.cells import Cells, Columns
from models.state.owners import Owner, Schema, State
from schemas.columns import Codes


class Relearning(Owner):
    """Subjects for which features that started afresh cannot tell yet, though their rules knew them."""

    missed = False

    def __init__(self) -> None:
        self.cells = Cells(rows=np.uint8(0))  # rows to come before features answer
        self.features: list[str] = []

    def start(self, features: Iterable[Feature]) -> None:
        """Let all subjects wait for `features`."""
        for feature in features:
            self.features = sorted({*self.features, type(feature).__name__})
            self.cells["rows"][:] = np.maximum(self.cells["rows"], feature.relearns)

    def hide(self, feature: Feature, slots: Codes, columns: Columns) -> Columns:
        """The columns of a feature, NaN for subjects that wait for it."""
        if type(feature).__name__ not in self.features:
            return columns
        waits = self.cells["rows"][slots] > 0
        return {
            name: np.where(waits, np.nan, column) for name, column in columns.items()
        }

    def count_rows(self, slots: Codes) -> None:
        """Count the rows of subjects."""
        if not self.features:
            return
        rows = self.cells["rows"]
        places, counts = np.unique(slots, return_counts=True)
        rows[places] -= np.minimum(rows[places], counts).astype(np.uint8)
        self.features = self.features if rows.any() else []

    def schema(self) -> Schema:
        """How many rows of each subject are to come, and the features."""
        return {**self.cells.schema(), "features": list[str]}

    def state(self) -> State:
        """The whole state."""
        return {**self.cells.state(), "features": self.features}

    def load(self, state: State) -> None:
        """Replace the state by that of `state`."""
        self.cells.load(state)
        self.features = state.get("features", [])
