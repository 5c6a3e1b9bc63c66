"""A batch of readings with their place in the order of their meters."""

from __future__ import annotations

from typing import NamedTuple

from models.days.watermarks import WatermarkUpdate
from models.state.cells import Columns
from schemas.columns import Codes, Column, Mask, Readings, Times


class ClockObservation(NamedTuple):
    """The errors of meters' clocks that the rows of a batch show."""

    mask: Mask  # rows that show an error
    order_time: Times  # its place among the meter's readings
    at: Times  # when it was observed
    offset: Column  # seconds ahead


class ReadingBatch(NamedTuple):
    """A batch of readings, and what the order of its rows says of each."""

    readings: Readings
    slots: Codes  # of meters
    areas: Codes
    update: WatermarkUpdate
    accepted: Mask
    in_order: Mask
    before: Times  # of the meter's reading in order before each row
    observation: ClockObservation
    master: Columns
