"""What every format ends in: readings of meters in one area, in order of time."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.history import Source, Tally, nothing_read, pieces
from replay.inferred import sure_steps
from schemas.columns import Codes, Readings, Times
from schemas.master import Area

KWH = {"wh": 1e-3, "kwh": 1.0, "mwh": 1e3, "gwh": 1e6}  # by unit of energy
KW = {"w": 1e-3, "kw": 1.0, "mw": 1e3}  # by unit of power
NO_FLOW_BACK = "energy that flows back has no column of its own per interval"


class Part(NamedTuple):
    """Rows of one file."""

    who: Codes  # into the names of all parts
    at: Times  # when the interval ended
    columns: dict[str, NDArray[Any]]  # of Readings


def history(
    name: str, names: Sequence[str], area: str, zone: str, parts: Sequence[Part], tally: Tally,
    areas: Sequence[Area] = (),
) -> Source:  # fmt: skip
    """The parts as one history. Raises SourceError when there is no row."""
    who, at = (np.concatenate([getattr(part, column) for part in parts]) for column in ("who", "at"))
    if not len(at):
        raise nothing_read(name, tally)
    order = np.lexsort((who, at))
    columns = {
        column: np.concatenate([part.columns[column] for part in parts], axis=-1)[..., order]
        for column in parts[0].columns
    }
    readings = Readings.build(names, who[order], [area], np.zeros(len(order)), at[order], **columns)
    steps = {(area, readings.names[number]): step for number, step in sure_steps(readings).items()}
    return Source(
        name=name, areas=list(areas), batches=pieces(readings), rows=len(readings), zone=zone, steps=steps, tally=tally,
    )  # fmt: skip


def one_phase(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values as phase A, of which alone a meter of one phase knows."""
    return np.stack([values, *np.full((2, len(values)), np.nan)]).astype(np.float32)
