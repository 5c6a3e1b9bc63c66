"""Judges timelines: when a row changes them, and when they pass a mark."""

from __future__ import annotations

import numpy as np

from detectors.area_times import AreaTimes
from detectors.pipelines import AllTimelines, Judges
from detectors.revisable import JudgeInput
from models.timelines.base import Timeline, Timelines
from schemas.alert import Alert
from schemas.columns import Codes


class TimelineJudges:
    """The judges of timelines, by the name of their pipeline."""

    def __init__(
        self,
        judges: Judges,
        timelines: AllTimelines,
        areas: AreaTimes,
    ) -> None:
        self.timelines = timelines
        self._areas = areas
        self._judges = judges.revisable
        self._timelines = {
            pipeline.name: pipeline.timeline
            for pipeline in judges.pipelines
            if pipeline.timeline is not None
        }

    def judge(self, name: str, slots: set[int]) -> list[Alert]:
        """Judge whole timelines again."""
        if not slots:
            return []
        return self._judge(name, np.array(sorted(slots), np.int64))

    def _judge(self, name: str, slots: Codes) -> list[Alert]:
        """Judge the whole timelines of at least one slot, in ascending order."""
        timelines = self._timelines[name]
        timeline = timelines.timeline(slots, self._areas.watermarks)
        return self._judges[name].amend(slots, [self._rows_of(timelines, timeline)])

    def seal_days(self, areas: Codes) -> None:
        """Judge for good what lies in sealed days of areas."""
        watermarks = self._areas.watermarks
        self._seal("incidents", self.timelines.reports.seal(areas, watermarks))
        self._seal("backlogs", self.timelines.backlog.seal(areas, watermarks))

    def _seal(self, name: str, timeline: Timeline) -> None:
        """Judge rows of timelines for good."""
        self._judges[name].seal(*self._rows_of(self._timelines[name], timeline))

    def _rows_of(self, timelines: Timelines, timeline: Timeline) -> JudgeInput:
        """A timeline as rows to judge."""
        slots, at, columns = timeline
        names, codes = self._areas.names(timelines.cells["area"][slots])
        batch = timelines.kind.build(
            ("",), np.zeros(len(slots)), names, codes, at, **columns
        )
        return JudgeInput(batch, slots)

    def portion(self, until: int) -> int:
        """How far time may pass towards `until` with at most a portion of timelines falling due."""
        for timelines in self._timelines.values():
            until = timelines.portion(until)
        return until

    def fall_due(self) -> list[Alert]:
        """Judge the timelines that passed a mark."""
        alerts: list[Alert] = []
        for name, timelines in self._timelines.items():
            slots = timelines.due(self._areas.watermarks)
            if len(slots):
                alerts += self._judge(name, slots)
        return alerts

    def forget_finished(self, grace: int) -> None:
        """Forget the timelines that ended too long ago to change."""
        for name, timelines in self._timelines.items():
            judge = self._judges[name]
            finished = timelines.finished(
                self._areas.watermarks, grace, judge.open_subjects()
            )
            if len(finished):
                judge.forget(finished)
                timelines.forget(finished)
