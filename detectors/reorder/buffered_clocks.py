"""The errors of meters' clocks: judged as they are observed, and again where a reading was missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.reorder.reading_batch import ReadingBatch
from detectors.reorder.row_log import RowLog
from detectors.reorder.waiting_gaps import WaitingGaps
from detectors.revisable import JudgeInput, RevisableJudge
from schemas.alert import Alert
from schemas.columns import Clocks, Codes, Column, Readings, Times


class BufferedClocks:
    """Judges the errors of clocks, and keeps the errors of meters that lack a reading."""

    def __init__(self, judge: RevisableJudge, gaps: WaitingGaps) -> None:
        self._judge = judge
        self._gaps = gaps
        self.log = RowLog(("at", "observed_at", "offset"))

    def judge(self, batch: ReadingBatch, rows: Codes) -> list[Alert]:
        """Judge the clock errors that some rows of a batch show, and keep those of meters with a gap."""
        observation = batch.observation
        rows = rows[observation.mask[rows]]
        if not len(rows):
            return []
        readings, slots = batch.readings, batch.slots[rows]
        at = observation.at[rows]
        offset = observation.offset[rows]
        order_time = observation.order_time[rows]

        clocks = Clocks(
            readings.names,
            readings.subject[rows],
            readings.areas,
            readings.area[rows],
            at,
            offset,
        )
        alerts = self._judge.live.judge(clocks, slots)

        kept = self._gaps.after_gap(slots, order_time)
        if kept.any():
            self._add(slots[kept], order_time[kept], at[kept], offset[kept])
            self._judge.remember(self._gaps.alerts_of_waiting(alerts))
        return alerts

    def add_late(self, readings: Readings, slots: Codes) -> None:
        """Keep the clock errors that late readings report."""
        reported = np.isfinite(readings.clock_offset)
        if reported.any():
            at = readings.at[reported]
            offset = readings.clock_offset[reported].astype(np.float64)
            self._add(slots[reported], at, at, offset)

    def _add(
        self, slots: Codes, order_time: Times, observed_at: Times, offset: Column
    ) -> None:
        """Keep clock errors."""
        self.log.append(
            slot=slots.astype(np.int32),
            at=order_time,
            observed_at=observed_at,
            offset=offset,
        )

    def judge_again(self, slots: Codes) -> list[Alert]:
        """Judge the kept clock errors of meters again."""
        _, rows = self.log.select(slots)
        return self._judge.amend(slots, [_clocks_of(rows)])

    def seal(self, slots: Codes, ends: Times) -> None:
        """Judge for good the clock errors of meters before each one's end, and drop them."""
        positions, rows = self.log.select_before(slots, ends)
        self._judge.seal(*_clocks_of(rows))
        self.log.drop(positions)

    def open(self, slots: Codes) -> None:
        """Begin to keep the clock errors of meters."""
        self._judge.finalise(slots)

    def drop(self, slots: Codes) -> None:
        """Drop the kept clock errors of meters."""
        self.log.drop(self.log.positions(slots))
        self._judge.finalise(slots)


def _clocks_of(rows: dict[str, Any]) -> JudgeInput:
    """Kept clock errors as rows to judge."""
    none = np.zeros(len(rows["slot"]))
    batch = Clocks.build(
        ("",), none, ("",), none, rows["observed_at"], offset=rows["offset"]
    )
    return JudgeInput(batch, rows["slot"])
