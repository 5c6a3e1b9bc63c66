"""An online model per area and segment: how unusual a meter's day is beside its peers' days."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from models.feature import Feature
from models.state.cells import Cells
from models.state.index import Index
from models.state.owners import Owner, Schema, State
from models.state.runs import grouped
from schemas.columns import Codes, Column, Times

if TYPE_CHECKING:
    from river.anomaly import GaussianScorer

GRACE_PEER_DAYS = 100  # days of peers before the model scores
# seconds between a day and the sealed days it is scored by: less than four days of 23 hours
SCORING_LAG_SECONDS = 4 * 86_400 - 7200
KEPT_DAYS = 8
Key = tuple[str, float]


def import_river() -> None:
    """Imports river before the first step, because it takes a second."""
    import_module("river.anomaly")


class Peers(Owner):
    """River's Gaussian scorer over the log change of daily kWh, per area and segment.

    It learns sealed days only.

    Its state is arrays (count, mean, variance by day), since river's pickles do not survive
    versions.
    """

    def __init__(self) -> None:
        self._states: dict[Key, dict[int, tuple[float, float, float]]] = {}

    def scorer(self, key: Key, at: int) -> GaussianScorer:
        """The model as it stood at a midnight.

        River is imported here: it would take half of a worker's start.
        """
        from river.anomaly import GaussianScorer  # noqa: PLC0415
        from river.proba import Gaussian  # noqa: PLC0415

        known = [day for day in self._states.get(key, {}) if day <= at]
        scorer = GaussianScorer(grace_period=GRACE_PEER_DAYS)
        if known:
            n, mean, variance = self._states[key][max(known)]
            scorer.gaussian = Gaussian._from_state(n, mean, variance, ddof=1)  # noqa: SLF001 - the only way to set it
        return scorer

    def count(self, key: Key, at: int) -> float:
        """How many values the model had learned at a midnight."""
        states = self._states.get(key, {})
        counts = [n for day, (n, _, _) in states.items() if day <= at]
        return max(counts, default=0.0)

    def learn(self, key: Key, at: int, values: list[float]) -> None:
        """Learns one sealed day, in a fixed order."""
        scorer = self.scorer(key, at)
        for value in sorted(values):
            scorer.learn_one(None, value)

        days = self._states.setdefault(key, {})
        learned: Any = scorer.gaussian
        days[at] = (learned.n_samples, learned.mu, learned.sigma**2)
        for day in sorted(days)[:-KEPT_DAYS]:
            del days[day]

    def schema(self) -> Schema:
        """Count, mean and variance by area, segment and day."""
        return {"states": list[tuple[Key, dict[int, tuple[float, float, float]]]]}

    def state(self) -> State:
        """Everything learned."""
        return {"states": list(self._states.items())}

    def load(self, state: State) -> None:
        """Replaces everything by the result of `state`."""
        self._states = dict(state.get("states", ()))


class PeerScoreColumns(NamedTuple):
    """Given by PeerScore."""

    # between 0 and 1; NaN before the model has seen enough, or without a change to score
    peer_score: Column


class PeerScore(Feature):
    """The peers' score of a day; the final judge learns, the live judge only scores."""

    def __init__(self, peers: Peers, meters: Index, learns: bool) -> None:
        self._peers = peers
        self._meters = meters
        self._learns = learns
        self.cells = Cells()

    def fold(
        self,
        slots: Codes,
        change: Column,
        residential: Column,
        *,
        area: Codes,
        at: Times,
    ) -> PeerScoreColumns:
        """The score by the model as it stood some days before."""
        is_known = ~np.isnan(change) & ~np.isnan(residential)
        known = np.flatnonzero(is_known)
        is_home = residential[known] > 0
        groups = area[known].astype(np.int64) << 1 | is_home

        score = np.full(len(slots), np.nan)
        for _, group_rows in grouped(groups):
            rows = known[group_rows]
            first = rows[0]
            changes = change[rows].tolist()
            area_name, _ = self._meters.pairs[slots[first]]
            key = area_name, float(residential[first])
            day = int(at[first])
            sealed = day - SCORING_LAG_SECONDS
            if self._learns:
                self._peers.learn(key, day, changes)
            elif self._peers.count(key, sealed) >= GRACE_PEER_DAYS:
                scorer = self._peers.scorer(key, sealed)
                score[rows] = [scorer.score_one(None, value) for value in changes]
        return PeerScoreColumns(peer_score=score)
