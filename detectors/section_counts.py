"""Sums by section of what has passed, for whoever watches a section's business; counted since the engine was made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.days.day_rows import DayRows
from models.master.registry import Registry
from models.state.cells import Array, Columns
from schemas.columns import (
    Codes,
    DeviceEvents,
    Event,
    Mask,
    Payment,
    Payments,
    StageProgress,
    Stages,
)

# What is summed, each by a word of its metric.
SECTION_MEASURES = {
    "meter_days": "Closed days of meters.",
    "read_meter_days": "The same, each by the share of its intervals that was read.",
    "energy_in_kwh": "Energy through gateway meters on days whose balance is known.",
    "energy_out_kwh": "Energy of the users on the same days.",
    "power_off_events": "Events by which meters report that their supply failed.",
    "billed_yuan": "Amounts of bills.",
    "paid_yuan": "Amounts of payments and top-ups that went through.",
    "returned_yuan": "Amounts of reversals.",
    "payments": "Attempts to pay.",
    "failed_payments": "The same that did not go through.",
    "stages_started": "Work items that entered a stage.",
    "stages_ended": "Work items that ended a stage.",
}
NO_SECTION = "unknown"  # of an area that the registry does not have
OTHER_SECTIONS = "other"
MOST_SECTIONS = 200  # with counts of their own


class SectionCounts:
    """The sums of SECTION_MEASURES by section."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._sections: set[str] = set()
        self.sums: dict[tuple[str, str], float] = {}  # by measure and section

    def label(self, section: str) -> str:
        """The name under which a section is counted: its own for the first MOST_SECTIONS, else OTHER_SECTIONS."""
        if section not in self._sections and len(self._sections) >= MOST_SECTIONS:
            return OTHER_SECTIONS
        self._sections.add(section)
        return section or NO_SECTION

    def note_days(self, days: DayRows, balance: Columns) -> None:
        """Add the days of areas; `balance` has their columns of Losses."""
        areas = [self._registry.area_index.pairs[slot][0] for slot in days.areas]
        rows = np.repeat(np.arange(len(areas)), days.sizes)
        coverage = np.nan_to_num(days.columns["coverage"])
        self._add("meter_days", areas, days.sizes)
        self._add("read_meter_days", areas, np.bincount(rows, coverage, len(areas)))

        through = np.nan_to_num(balance["through_kwh"])
        self._add("energy_in_kwh", areas, through)
        self._add("energy_out_kwh", areas, through - np.nan_to_num(balance["loss_kwh"]))

    def note_payments(self, batch: Payments, fresh: Mask) -> None:
        """Add the rows of payments that are no duplicates."""
        kinds = batch.payment
        is_attempt = (kinds == Payment.PAYMENT) | (kinds == Payment.TOPUP)
        succeeded = batch.succeeded > 0
        measures = {
            "billed_yuan": (kinds == Payment.BILL, batch.amount),
            "paid_yuan": (is_attempt & succeeded, batch.amount),
            "returned_yuan": (kinds == Payment.REVERSAL, np.abs(batch.amount)),
            "payments": (is_attempt, np.ones(len(batch))),
            "failed_payments": (is_attempt & ~succeeded, np.ones(len(batch))),
        }
        for measure, (rows, values) in measures.items():
            self._add_rows(measure, batch, rows & fresh, values)

    def note_stages(self, batch: Stages, fresh: Mask) -> None:
        """Add the rows of work that are no duplicates; their area is their section."""
        started = batch.progress == StageProgress.STARTED
        ended = batch.progress == StageProgress.FINISHED
        for measure, rows in (("stages_started", started), ("stages_ended", ended)):
            of_section = _by_area(batch, rows & fresh, np.ones(len(batch)))
            for section, value in zip(batch.areas, of_section, strict=True):
                self._count(measure, section, value)

    def note_events(self, batch: DeviceEvents, fresh: Mask) -> None:
        """Add the device events that are no duplicates."""
        is_off = batch.event == Event.POWER_OFF
        self._add_rows("power_off_events", batch, is_off & fresh, np.ones(len(batch)))

    def _add_rows(self, measure: str, batch: Any, rows: Mask, values: Array) -> None:
        """Add the values of some rows of a batch by their areas."""
        self._add(measure, batch.areas, _by_area(batch, rows, values))

    def _add(self, measure: str, areas: Sequence[str], values: Array) -> None:
        """Add a value of each area to its section."""
        for area, value in zip(areas, values.tolist(), strict=True):
            known = self._registry.areas.get(area)
            self._count(measure, known.section if known else NO_SECTION, value)

    def _count(self, measure: str, section: str, value: float) -> None:
        """Add a value to a section; a sum never falls."""
        if not 0 < value < np.inf:
            return
        key = measure, self.label(section)
        self.sums[key] = self.sums.get(key, 0.0) + value


def _by_area(batch: Any, rows: Mask, values: Array) -> Array:
    """The sums of some rows' values by the areas of a batch."""
    areas: Codes = batch.area[rows]
    return np.bincount(areas, np.nan_to_num(values[rows]), len(batch.areas))
