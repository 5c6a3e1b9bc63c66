"""Judging what may still be amended: closed windows until their day is sealed, and timelines with deadlines.

Two judges remember: one as of the last sealed row, one as of the present. An amendment puts the present judge back to
the sealed one for the subjects concerned, judges the open rows again and tells only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from detectors.episodes import Episodes
from detectors.judge import Judge
from detectors.rule import Rule
from models.features import Columns
from models.runs import grouped
from models.state import Owner, Schema, State, StateError
from schemas.alert import Alert
from schemas.columns import Batch, Codes

FINAL_SUFFIX = "/final"  # ends the names of the sealed judge's owners
JudgeInput = (
    tuple[Batch, Codes]
    | tuple[Batch, Codes, Columns]
    | tuple[Batch, Codes, Columns | None, list[Codes]]
)
"""A batch, its slots, columns beside its own, and in which turns its rows count."""


class RevisableJudge(Owner):
    """A sealed and a present judge of one kind, and what was told of the rows between them."""

    missed = False

    def __init__(self, make: Callable[[bool], Judge]) -> None:
        self.final, self.live = make(True), make(False)
        self.published: dict[
            int, dict[str, Alert]
        ] = {}  # by slot and id, the last told since the sealed rows

    def adopt(self, rules: Sequence[Rule]) -> list[Episodes]:
        """Judge by other rules; what is remembered of those that are gone or told otherwise, as of the present."""
        self.final.adopt(rules)
        gone = self.live.adopt(rules)
        names = {episodes.rule.name for episodes in gone}
        for slot, alerts in list(self.published.items()):
            self.published[slot] = {
                key: alert for key, alert in alerts.items() if alert.rule not in names
            }
            if not self.published[slot]:
                del self.published[slot]
        return gone

    def close(
        self,
        batch: Batch,
        slots: Codes,
        more: Columns | None = None,
        passes: list[Codes] | None = None,
    ) -> list[Alert]:
        """Judge rows that closed in order."""
        return self.remember(self.live.judge(batch, slots, more, passes))

    def remember(self, alerts: list[Alert]) -> list[Alert]:
        """Keep what is told."""
        for alert in alerts:
            slot = self.live.index.slot(alert.area, alert.subject)
            self.published.setdefault(slot, {})[alert.id] = alert
        return alerts

    def amend(self, slots: Codes, rows: Iterable[JudgeInput]) -> list[Alert]:
        """Judge the rows since the seal of some subjects again; what differs from what was told."""
        self.live.write(slots, self.final.read(slots))
        told = {
            key: alert
            for slot in slots.tolist()
            for key, alert in self.published.pop(slot, {}).items()
        }
        chains: dict[str, list[Alert]] = {
            a.id: [a]
            for e in self.final.episodes
            for s in slots.tolist()
            if (a := e.open.get(s)) is not None
        }
        fresh: dict[str, list[Alert]] = {}
        for row in rows:
            for alert in self.live.judge(*row):
                chains.setdefault(alert.id, []).append(alert)
                fresh.setdefault(alert.id, []).append(alert)
        news = {key: chain for key, chain in fresh.items() if key not in told}
        versions = {e.rule.name: e.rule.version for e in self.live.episodes}
        news |= {
            key: _unpublished(old, chains.get(key, []), versions[old.rule])
            for key, old in told.items()
        }
        latest = [chain[-1] if chain else told[key] for key, chain in news.items()]
        self.remember(latest)
        self._reopen(latest)
        return [alert for chain in news.values() for alert in chain]

    def _reopen(self, alerts: Iterable[Alert]) -> None:
        """Let the present judge go on from what was told last of its open episodes."""
        known = {e.rule.name: e for e in self.live.episodes}
        for alert in alerts:
            slot = self.live.index.slot(alert.area, alert.subject)
            if alert.state == "raised" and slot in known[alert.rule].open:
                known[alert.rule].open[slot] = alert

    def seal(
        self,
        batch: Batch,
        slots: Codes,
        more: Columns | None = None,
        passes: list[Codes] | None = None,
    ) -> None:
        """Take rows, in order, as final."""
        self.final.judge(batch, slots, more, passes)
        open_to_change = np.flatnonzero(np.isin(slots, list(self.published)))
        for slot, rows in grouped(slots[open_to_change]):
            until = int(batch.at[open_to_change[rows[-1]]])
            if kept := {
                key: alert
                for key, alert in self.published.pop(slot, {}).items()
                if alert.at > until
            }:
                self.published[slot] = kept

    def finalise(self, slots: Codes) -> None:
        """Take as final what is remembered of some subjects."""
        self.final.write(slots, self.live.read(slots))
        for slot in slots.tolist():
            self.published.pop(slot, None)

    def open_subjects(self) -> set[int]:
        """The subjects with an open episode."""
        return {slot for episodes in self.live.episodes for slot in episodes.open}

    def forget(self, slots: Codes) -> None:
        """Drop all that is remembered of some subjects."""
        for judge in (self.final, self.live):
            judge.forget(slots)
        for slot in slots.tolist():
            self.published.pop(slot, None)

    def reserve(self) -> None:
        """Make room for every slot of the index."""
        for judge in (self.final, self.live):
            judge.reserve()

    def owners(self) -> dict[str, Owner]:
        """Those of the present judge, the same of the sealed one, and what was told between them."""
        sealed = {
            f"{name}{FINAL_SUFFIX}": owner
            for name, owner in self.final.owners().items()
        }
        return {**self.live.owners(), **sealed, "published": self}

    def resume(self, afresh: Collection[str]) -> None:
        """Go on after all owners were loaded, of which some start afresh. Raises StateError."""
        self.live.resume(afresh)
        self.final.resume(
            {
                name.removesuffix(FINAL_SUFFIX)
                for name in afresh
                if name.endswith(FINAL_SUFFIX)
            }
        )
        for slot, alerts in list(self.published.items()):
            self.published[slot] = {
                key: alert for key, alert in alerts.items() if alert.rule not in afresh
            }
            if not self.published[slot]:
                del self.published[slot]

    def schema(self) -> Schema:
        """What was told since the sealed rows."""
        return {"alerts": list[Alert]}

    def state(self) -> State:
        """Everything remembered beside the judges."""
        return {
            "alerts": [
                alert for alerts in self.published.values() for alert in alerts.values()
            ]
        }

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave but alerts of rules that are not judged. Raises StateError."""
        self.published, known = (
            {},
            {episodes.rule.name for episodes in self.live.episodes},
        )
        alerts = [alert for alert in state.get("alerts", ()) if alert.rule in known]
        if any(
            alert.subject not in self.live.index.known.get(alert.area, {})
            for alert in alerts
        ):
            raise StateError("something was told of a subject that is not known")
        self.remember(alerts)


def _unpublished(old: Alert, chain: list[Alert], version: int) -> list[Alert]:
    """What is left to tell of an episode of which `old` was told last, and that went as `chain` says."""
    if not chain:
        gone = msgspec.structs.replace(old, state="withdrawn", change="withdrawn")
        chain = [] if old.state == "withdrawn" else [gone]
    elif known := [
        n for n, alert in enumerate(chain) if _substance(alert) == _substance(old)
    ]:
        chain = chain[known[-1] + 1 :]
    else:
        chain = [msgspec.structs.replace(chain[-1], change="revised")]
    return [
        msgspec.structs.replace(alert, revision=old.revision + n, version=version)
        for n, alert in enumerate(chain, 1)
    ]


def _substance(alert: Alert) -> tuple[Any, ...]:
    """What must be the same for an alert not to need telling again."""
    return (
        alert.state,
        alert.severity,
        alert.since,
        alert.raised,
        alert.at,
        alert.score,
        alert.phase,
        alert.evidence,
    )
