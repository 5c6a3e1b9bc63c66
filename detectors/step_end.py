"""Ends every step: timelines fall due, old state is forgotten, alerts are published."""

from __future__ import annotations

from detectors.area_times import AreaTimes
from detectors.publication import Publication
from detectors.reorder.buffer import ReorderBuffer
from detectors.timeline_judges import TimelineJudges
from models.days.open_days import OpenDays
from schemas.alert import Alert
from schemas.columns import Codes


class StepEnd:
    """What follows wherever rows or time have moved the watermarks of areas."""

    def __init__(
        self,
        areas: AreaTimes,
        open_days: OpenDays,
        reorder: ReorderBuffer,
        judges: TimelineJudges,
        publication: Publication,
        grace: int,
    ) -> None:
        self._areas = areas
        self._open_days = open_days
        self._reorder = reorder
        self._judges = judges
        self._publication = publication
        self._grace = grace

    def publish(self, alerts: list[Alert]) -> list[Alert]:
        """Publish judged alerts, with those of episodes that end and of timelines that fall due."""
        areas = self._areas.in_new_days()
        due = self._judges.fall_due()
        if len(areas):
            portion = self._reorder.portion(areas)  # others with the next batch
            self._forget_old(portion)
        return self._publication.end_step(alerts, due)

    def _forget_old(self, areas: Codes) -> None:
        """Seal the timelines of areas that enter another day, and forget state that no row can concern."""
        self._judges.seal_days(areas)
        self._judges.forget_finished(self._grace)

        self._reorder.expire(areas, self._open_days.reading_watermarks)
        watermarks = self._areas.watermarks_by_name(areas)
        self._publication.forget(watermarks)
        self._judges.timelines.work.expire(watermarks)
        self._areas.note_forgotten(areas)
