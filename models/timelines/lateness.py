"""How likely work items pass the limits of their stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from math import isnan, nan
from operator import and_, eq
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from models.state.owners import Schema, State
from models.timelines.durations import Group
from models.timelines.hazard import Example, Hazard, StayFacts
from models.timelines.paths import Before, Move, Paths
from schemas.columns import LATEST_TIME
from schemas.units import DAY_SECONDS, MINUTE_SECONDS, NEVER_TIME


class PartSpan(NamedTuple):
    """A part of a stay's limit, from its mark on."""

    part: int
    start: int  # of the stay
    begin: int
    end: int  # NEVER_TIME while the item is paused
    deadline: int  # when the limit passes, as it looks at the beginning
    done: int  # of the stay, NEVER_TIME while it is open


class Outlook(msgspec.Struct):
    """What is expected of an item in a stage, and what was learned of it."""

    came_from: dict[int, Before] = {}  # by start
    examples: list[Example] = []
    chances: dict[int, dict[int, float]] = {}  # by part and its beginning

    def knew(self, start: int, done: int) -> bool:
        """True if a chance was known in a stay."""
        return any(
            start < begin < done and not isnan(chance)
            for chances in self.chances.values()
            for begin, chance in chances.items()
        )


@lru_cache(maxsize=1024)  # the parts of a stay without pauses have one deadline
def _weekday_and_hour(at: int, zone: ZoneInfo) -> tuple[int, int]:
    """The local weekday, Monday 0, and hour of a moment."""
    moment = datetime.fromtimestamp(at, zone)
    return moment.weekday(), moment.hour


class Lateness:
    """The paths of items, and what the sections' stays say of limits.

    A chance is as it was known when its part began: by the examples of the days that were sealed then.
    """

    model = "stage_lateness"
    gives = ("overdue_chance",)

    def __init__(self, zone: str, grace: int) -> None:
        self._zone = ZoneInfo(zone)
        self._grace = grace
        self._paths = Paths()
        self._hazard = Hazard()

    def note_move(self, section: str, item: str, move: Move, sealed: int) -> list[Move]:
        """Notes a move; the moves whose stage before it may change: itself and those right behind it."""
        return [move, *self._paths.note(section, item, move, sealed)]

    def note_before(
        self, outlook: Outlook, section: str, item: str, start: int
    ) -> bool:
        """Notes which stage an item came from, and drops chances that were known by another.

        False if it is as it was known.
        """
        before = self._paths.before(section, item, start)
        if outlook.came_from.get(start) == before:
            return False
        outlook.came_from[start] = before
        for chances in outlook.chances.values():
            for begin in [begin for begin in chances if begin > start]:
                del chances[begin]
        return True

    def learn(
        self,
        outlook: Outlook,
        group: Group,
        spans: Iterable[PartSpan],
        sealed: int,
    ) -> None:
        """Counts the examples of an item as they are now; those before the seal stay as they are."""
        section, stage = group
        examples = [example for example in outlook.examples if example.at < sealed]
        for span in spans:
            at = min(span.end, span.done)
            if not sealed <= at < NEVER_TIME:
                continue
            facts = self._facts(outlook, stage, span)
            if facts is not None:
                lasted = span.end < span.done
                examples.append(Example(at, span.part, lasted, facts))

        # The first so many are as they were.
        kept = sum(accumulate(map(eq, examples, outlook.examples), and_))
        self._hazard.count(section, examples[kept:], 1)
        self._hazard.count(section, outlook.examples[kept:], -1)
        outlook.examples = examples

    def chance(self, outlook: Outlook, group: Group, span: PartSpan) -> float:
        """The chance of a part that has begun, as it was known then; NaN if it was not."""
        chances = outlook.chances.setdefault(span.part, {})
        if span.begin in chances:
            return chances[span.begin]

        section, stage = group
        chance = nan
        facts = self._facts(outlook, stage, span)
        if facts is not None:
            day = (span.begin - self._grace) // DAY_SECONDS
            chance = self._hazard.chance(section, day, span.part, facts)
        chances[span.begin] = chance
        return chance

    def _facts(self, outlook: Outlook, stage: str, span: PartSpan) -> StayFacts | None:
        """What is known of a stay when a part begins; None if too little is."""
        before = outlook.came_from.get(span.start)
        if before is None or span.deadline > LATEST_TIME:
            return None
        minutes = before.seconds // MINUTE_SECONDS
        weekday, hour = _weekday_and_hour(span.deadline, self._zone)
        return StayFacts(stage, before.stage, minutes.bit_length(), weekday, hour)

    def expire(self, watermarks: Mapping[str, int]) -> None:
        """Drops what no later row of some sections can concern."""
        sealed = {section: now - self._grace for section, now in watermarks.items()}
        self._paths.forget(sealed)
        first_days = {
            section: (at - self._grace) // DAY_SECONDS for section, at in sealed.items()
        }
        self._hazard.forget(first_days)

    @property
    def drifted(self) -> int:
        """How many sections are learned anew since the error of their model drifted."""
        return self._hazard.drifted

    def schema(self) -> Schema:
        """The paths and the models."""
        return {**self._paths.schema(), **self._hazard.schema()}

    def state(self) -> State:
        """Everything remembered."""
        return self._paths.state() | self._hazard.state()

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError."""
        self._paths.load(state)
        self._hazard.load(state)
