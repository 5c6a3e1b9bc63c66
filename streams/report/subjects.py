"""The meter, master data and settings that an alert was judged by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from detectors.rule import Rule
from models.master.registry import Registry
from models.state.index import Index
from schemas.alert import Alert
from schemas.columns import AreaDays, Batch, Column, Intervals, Mask, Readings
from schemas.master import Area

SENT_VALUES = {"ct": 1.0, "ratio": 1.0}  # of a meter without a record: drawn as sent


class JudgedBy(NamedTuple):
    """All that the alerts of a run were judged by, besides the rows."""

    areas: Sequence[Area]
    rules: Sequence[Rule]  # as the rulebook sets them
    zone: str
    interval: int  # usual seconds between a meter's readings


class Subjects:
    """The subjects of some alerts, as they were when they were judged."""

    def __init__(self, alerts: Iterable[Alert], judged_by: JudgedBy) -> None:
        names = {alert.area for alert in alerts}
        areas = [area for area in judged_by.areas if area.area in names]
        self._gateways = {area.area: area.gateway for area in areas}
        self._interval = judged_by.interval
        self._registry = Registry(Index(), Index())
        self._registry.enroll(areas)

    def is_known(self, alert: Alert) -> bool:
        """Whether the area of an alert has a record."""
        return alert.area in self._gateways

    def meter(self, alert: Alert) -> tuple[str, str]:
        """The area and id of the meter that shows an alert; an area's alert is shown by its gateway meter."""
        return alert.area, alert.subject or self._gateways[alert.area]

    def settings(self, alert: Alert, rule: Rule) -> dict[str, float]:
        """The settings in force for an alert's subject, by its segments of that time."""
        codes = None
        if rule.kind.segments:
            codes = self._record(alert, rule.kind)["segments"].astype(np.int64)
        in_force = rule.in_force(codes)
        return {name: float(np.ravel(value)[0]) for name, value in in_force.items()}

    def master(self, alert: Alert) -> dict[str, float]:
        """The master data of an alert's meter and area at its time."""
        columns = self._record(alert, Intervals) | self._record(alert, Readings)
        master = {name: float(column[0]) for name, column in columns.items()}
        for name, value in SENT_VALUES.items():
            if np.isnan(master[name]):
                master[name] = value
        master["interval_s"] = float(np.fmax(master["interval_s"], self._interval))
        return master

    def energy(self, readings: Readings) -> tuple[Column, Mask]:
        """The primary kWh of readings, and which of them are of a gateway meter; 0 kWh without a record."""
        slots = self._registry.meter_index.slots(readings)
        master = self._registry.enrich(slots, readings)
        energy = np.nan_to_num(readings.kwh * master["ratio"])
        return energy, master["is_gateway"] == 1

    def _record(self, alert: Alert, kind: type[Batch]) -> dict[str, Column]:
        """The master data of a row of a kind by which the alert might have been raised."""
        if kind in {Intervals, AreaDays}:
            slot = self._registry.area_index.slot(alert.area, "")
        else:
            slot = self._registry.meter_index.slot(*self.meter(alert))
        row = kind.build([alert.subject], [0], [alert.area], [0], [alert.raised])
        return self._registry.enrich(np.array([slot]), row)
