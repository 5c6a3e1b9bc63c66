"""Notes what devices report: it suppresses or releases alerts, and may be trouble itself."""

from __future__ import annotations

import numpy as np

from detectors.area_times import AreaTimes
from detectors.outcomes import RowOutcomes
from detectors.publication import Publication
from detectors.timeline_judges import TimelineJudges
from models.timelines.device_reports import Reports
from schemas.alert import Alert
from schemas.columns import Codes, DeviceEvents


class DeviceWatch:
    """Judges device events by meter; policy takes note of them."""

    def __init__(
        self,
        reports: Reports,
        judges: TimelineJudges,
        publication: Publication,
        areas: AreaTimes,
        outcomes: RowOutcomes,
    ) -> None:
        self._reports = reports
        self._judges = judges
        self._publication = publication
        self._areas = areas
        self._outcomes = outcomes

    def step(self, batch: DeviceEvents, areas: Codes) -> list[Alert]:
        """Judge events; the alerts as published, with earlier ones that the events revise."""
        batch, areas = self._outcomes.at_plausible_times(batch, areas)
        slots = self._reports.index.slots(batch)
        alerts: list[Alert] = []
        for rows in self._reports.unique_passes(batch, slots):
            events = batch.select(rows)
            alerts += self._judge(events, slots[rows], areas[rows])
        return self._publication.publish(alerts)

    def _judge(self, events: DeviceEvents, slots: Codes, areas: Codes) -> list[Alert]:
        """Judge events of distinct meters."""
        revised, known = self._publication.note_events(events)
        touched, again, late = self._reports.record(
            events, slots, areas, self._areas.watermarks
        )

        fresh = np.ones(len(events), bool)
        fresh[known] = fresh[again] = fresh[late] = False
        self._outcomes.sections.note_events(events, fresh)
        duplicate = len(set(known).intersection(again + late))
        fresh_late = len(set(late).difference(known))
        self._outcomes.count(events, "late", fresh_late)
        self._outcomes.count(events, "duplicate", duplicate)
        self._outcomes.count(events, "judged", len(events) - duplicate - fresh_late)
        judged = self._judges.judge("incidents", touched)
        return revised + self._publication.apply(judged)
