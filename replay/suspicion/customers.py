"""The customers of meters at a time, by the master data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from schemas.columns import LATEST_TIME
from schemas.master import Area, Meter

Place = tuple[str, str]  # area, and meter or customer


class Held(NamedTuple):
    """A meter's record for as long as it is in force."""

    record: Meter
    since: int
    until: int


class Customers:
    """The records of meters, by meter and by customer; a meter without a customer is its own."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self.gateways: set[Place] = set()
        self._of_meter: dict[Place, list[Held]] = defaultdict(list)
        self._of_customer: dict[Place, list[Held]] = defaultdict(list)
        for area in areas:
            if area.gateway:
                self.gateways.add((area.area, area.gateway))
            self._add(area)

    def _add(self, area: Area) -> None:
        """Adds the meters of an area."""
        by_meter: dict[str, list[Meter]] = defaultdict(list)
        for record in sorted(area.meters, key=lambda each: each.effective):
            by_meter[record.meter].append(record)

        for meter, records in by_meter.items():
            ends = [*(each.effective for each in records[1:]), LATEST_TIME]
            for record, following in zip(records, ends, strict=True):
                until = min(record.until or LATEST_TIME, following)
                held = Held(record, record.effective, until)
                self._of_meter[area.area, meter].append(held)
                owner = record.customer or meter
                self._of_customer[area.area, owner].append(held)

    def owner(self, area: str, subject: str, at: int) -> str:
        """The customer of a meter just before a time; the subject itself if it is no meter with a record."""
        for held in self._of_meter.get((area, subject), ()):
            if held.since < at <= held.until:
                return held.record.customer or subject
        return subject

    def held(self, area: str, customer: str, at: int) -> list[Held]:
        """The records of a customer's meters just before a time."""
        records = self._of_customer.get((area, customer), ())
        return [held for held in records if held.since < at <= held.until]

    def tariffs(self, area: str, customer: str, before: int) -> list[str]:
        """The tariffs that a customer has had before a time, in order, each change once."""
        names: list[str] = []
        for held in self._of_customer.get((area, customer), ()):
            tariff = held.record.tariff
            if held.since < before and tariff and names[-1:] != [tariff]:
                names.append(tariff)
        return names
