"""A simulated town: physically consistent readings of thousands of meters, the office's work, and planted faults.

Assumptions: values are interval means. One transformer feeds an area, and its customers are spread evenly over the
phases. Voltage falls with the phase's load on the way from the transformer. Lines lose 2 to 3.5 % of an area's energy,
more in proportion when the load is high. Registers show two decimals. One reading in two hundred is lost, of the
gateways' one in two thousand; one in five thousand comes twice. A neutral carries the vector sum of its phases. The
voltage's distortion grows with the transformer's load. A terminal measures beside every meter behind transformers,
and such a user's meter shows tariffs' registers, the highest demand of the month, and its own ratio setting. It is
early spring: the colder a day, the more homes and shops use; the gateways' terminals measure the temperature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from msgspec.structs import replace

from replay.history import Source, SourceError
from replay.simulation.happenings import BLOCK_SECONDS, Happening, Planted
from replay.simulation.network import (
    DAY_SLOTS,
    SLOT_SECONDS,
    START_TIME,
    TOWN_ZONE,
    build_grid,
)
from replay.simulation.office import open_office
from replay.simulation.physics import LOST_SHARE, Physics
from replay.simulation.plan import Kinds, Plan
from replay.simulation.usual_faults import USUAL_FAULTS
from schemas.columns import Batch, DeviceEvents, Readings
from schemas.master import Area
from schemas.units import DAY_SECONDS


class Town:
    """So many users' meters for so many days. The same arguments give the same town to the bit."""

    zone = TOWN_ZONE
    interval = SLOT_SECONDS

    def __init__(
        self,
        meters: int = 5000,
        days: int = 14,
        seed: int = 1,
        *,
        faults: bool = True,
        kinds: Kinds = USUAL_FAULTS,
        start: int = START_TIME,
    ) -> None:
        if meters < 50 or days < 1:
            raise ValueError("a town has at least 50 meters and one day")

        self.days = days
        self.seed = seed
        self.start = start
        self.end = start + days * DAY_SECONDS
        self.grid = build_grid(meters, seed)
        self._office = open_office(
            self.grid, start, days, seed, faults and kinds.office
        )

        plan = Plan(self.grid, start, days, seed)
        self.happenings: list[Happening] = [*plan.ordinary()]
        if faults:
            self.happenings += [*plan.faults(kinds), *plan.decoys()]
        planted = [change.planted for change in self.happenings if change.planted]
        planted += self._office.planted
        self.planted: list[Planted] = [fault for fault in planted if fault.rules]
        self.decoys: list[Planted] = [fault for fault in planted if not fault.rules]

        slots = len(self.grid) * days * DAY_SLOTS
        self.rows = round(slots * (1 - LOST_SHARE))
        self.name = f"{'' if faults else 'quiet-'}town:{meters}x{days}:{seed}"

    @cached_property
    def areas(self) -> list[Area]:
        """The master data, with the records that happenings add to it."""
        areas = {area.area: area for area in self.grid.master(self.start)}
        for happening in self.happenings:
            change = happening.record_change
            if not change:
                continue

            area = areas[change.area]
            (usual,) = (meter for meter in area.meters if meter.meter == change.meter)
            others = [
                meter for meter in area.meters if meter is not usual or not change.new
            ]
            records = [replace(change.change(usual), effective=change.since)]
            if happening.end < self.end:
                records.append(replace(usual, effective=happening.end))
            areas[change.area] = replace(area, meters=[*others, *records])
        return list(areas.values())

    def source(self) -> Source:
        """The town as a history."""
        return Source(
            self.name, self.areas, self.batches(), self.rows, self.zone, self.interval
        )

    def batches(self) -> Iterator[Batch]:
        """An hour after another: its events, payments and stages, then its readings."""
        others: tuple[Batch, ...] = (
            self._events(),
            self._office.payments,
            self._office.stages,
        )
        starts = range(self.start, self.end, BLOCK_SECONDS)

        for readings, start in zip(self.readings(), starts, strict=True):
            for batch in others:
                first, last = np.searchsorted(batch.at, (start, start + BLOCK_SECONDS))
                if last > first:
                    yield batch.select(slice(first, last))
            if len(readings):
                yield readings

    def readings(self) -> Iterator[Readings]:
        """The readings of an hour after another."""
        rng = np.random.default_rng([self.seed, 4])
        physics = Physics(self.grid, self.start, self.days, self.seed, rng)
        for start in range(self.start, self.end, BLOCK_SECONDS):
            block = physics.block(start)
            current = [change for change in self.happenings if change.during(block)]
            for happening in current:
                if happening.before:
                    happening.before(block)

            physics.run(block)
            for happening in current:
                if happening.after:
                    happening.after(block)
            yield physics.read(block)

    def _events(self) -> DeviceEvents:
        """The device events that report the happenings, in order of time."""
        notices = [
            notice for happening in self.happenings for notice in happening.notices
        ]
        notices.sort(key=lambda notice: notice.at)
        names = ("", *self.grid.names)
        areas = self.grid.areas
        subjects = {name: k for k, name in enumerate(names)}

        return DeviceEvents.build(
            names,
            [subjects[notice.subject] for notice in notices],
            areas,
            [areas.index(notice.area) for notice in notices],
            [notice.at for notice in notices],
            event=[notice.event for notice in notices],
            until=[notice.until for notice in notices],
            residual=[notice.residual for notice in notices],
            seconds=[notice.seconds for notice in notices],
        )


TOWN_NAME = re.compile(r"(quiet-)?town(?::(\d+)x(\d+)(?::(\d+))?)?")


def named_town(name: str) -> Town | None:
    """The town called `town`, `town:METERSxDAYS` or `town:METERSxDAYS:SEED`, without faults when `quiet-` goes before.

    None for another name. Raises SourceError for a town without meters or days.

    >>> named_town("quiet-town:300x2").name
    'quiet-town:300x2:1'
    """
    if not (found := TOWN_NAME.fullmatch(name)):
        return None
    quiet, meters, days, seed = found.groups()
    try:
        return Town(
            int(meters or 5000), int(days or 14), int(seed or 1), faults=not quiet
        )
    except ValueError as error:
        raise SourceError(f"{name}: {error}") from error
