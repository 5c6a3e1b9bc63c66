"""A chunk that is judged a step at a time, and the result of a step."""

from __future__ import annotations

from typing import NamedTuple

from schemas.alert import Alert
from schemas.columns import Batch, Mask
from streams.kafka.backlog import Chunk


class StepResult(NamedTuple):
    """The result of a step."""

    rows: int
    alerts: list[Alert]
    rejected: list[tuple[Batch, str]]
    seconds: float  # CPU


class InHand(NamedTuple):
    """A chunk that is being judged, a step at a time."""

    chunk: Chunk
    batch: Batch
    rows: int  # of the batch that the engine contains
    accepted: Mask | None = None  # which rows may be judged, None for all
