"""The parts of an engine that remember: which owners of state they have, and how these are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from detectors.area_times import AreaTimes
from detectors.office_watch import OfficeWatch
from detectors.outcomes import RowOutcomes
from detectors.pipelines import AllTimelines, Indexes, Judges
from detectors.publication import Publication
from detectors.reorder.buffer import ReorderBuffer
from detectors.revisable import FINAL_SUFFIX
from detectors.score_feed import ScoreFeed
from detectors.snapshots import load_owners
from models.days.open_days import OpenDays
from models.master.registry import Registry
from models.state.owners import Owner, Saved
from schemas.master import Area

SCORES_OWNER = "scores"


class EngineState(NamedTuple):
    """Everything that an engine remembers, and its master data, which no snapshot has."""

    indexes: Indexes
    registry: Registry
    areas: AreaTimes
    open_days: OpenDays
    timelines: AllTimelines
    judges: Judges
    reorder: ReorderBuffer
    office: OfficeWatch
    outcomes: RowOutcomes
    publication: Publication
    scores: ScoreFeed | None  # None unless they are kept

    def owners(self) -> dict[str, Owner]:
        """Every owner of state by its name; the indexes before the owners that refer to them."""
        return {**self.indexes.owners(), **self._owners_beside_indexes()}

    def _owners_beside_indexes(self) -> dict[str, Owner]:
        """The owners whose state refers to slots of the indexes."""
        scores: dict[str, Owner] = {SCORES_OWNER: self.scores} if self.scores else {}
        return {
            "watermarks": self.areas.owner(),
            **self.office.owners(),
            "counts": self.outcomes.owner(),
            **self.publication.owners(),
            "open_days": self.open_days,
            "order": self.reorder.validation.order,
            **self.timelines._asdict(),
            "policy": self.publication.policy,
            **self.reorder.owners(),
            **self.judges.owners(),
            **scores,
        }

    def load(self, saved: Mapping[str, Saved], areas: Iterable[Area]) -> list[str]:
        """Load every owner; the names of those starting afresh. Raises StateError and is then unusable."""
        # the indexes, then the areas, then all that refers to them
        afresh = load_owners(self.indexes.owners(), saved)
        self.registry.enroll(areas)
        self.judges.reserve()
        afresh += load_owners(self._owners_beside_indexes(), saved)

        # what was loaded must agree
        self.areas.check()
        self.timelines.check(len(self.indexes.areas))
        self.reorder.resume()
        self.judges.resume(afresh)
        if self.scores and SCORES_OWNER not in saved:
            self.scores.begin()

        # open alerts of rules that start afresh or are no longer judged, are withdrawn
        names_afresh = {name.partition("/")[2] for name in afresh}
        self.publication.withdraw_unless_judged(self.judges.rules - names_afresh)
        return list(dict.fromkeys(name.removesuffix(FINAL_SUFFIX) for name in afresh))
