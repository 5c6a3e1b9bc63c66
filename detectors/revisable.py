"""Judges rows that may still be amended: closed windows until their day is sealed, and timelines with deadlines.

Two judges have a state: the final one as of the last sealed row, the live one as of now. An amendment puts the live
judge back to the final one for the amended subjects, judges the open rows again and publishes only differences.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from detectors.episodes import Episodes
from detectors.judge import Judge
from detectors.rule import Rule
from models.state.cells import Columns
from models.state.owners import Owner, Schema, State, StateError
from models.state.runs import grouped
from schemas.alert import Alert
from schemas.columns import Batch, Codes

FINAL_SUFFIX = "/final"  # ends the names of the final judge's owners


class JudgeInput(NamedTuple):
    """A batch, its slots, columns beside its own, and the passes in which its rows count."""

    batch: Batch
    slots: Codes
    more: Columns | None = None
    passes: list[Codes] | None = None


class RevisableJudge(Owner):
    """A final and a live judge of one kind, and the published alerts of the rows between them."""

    missed = False

    def __init__(self, make: Callable[[bool], Judge]) -> None:
        self.final = make(True)
        self.live = make(False)
        # by slot and id: the last published alerts since the sealed rows
        self.published: dict[int, dict[str, Alert]] = {}

    def adopt(self, rules: Sequence[Rule]) -> list[Episodes]:
        """Switch to `rules`. Returns the live episodes of rules that were removed or changed."""
        self.final.adopt(rules)
        dropped = self.live.adopt(rules)
        self._forget_rules({episodes.rule.name for episodes in dropped})
        return dropped

    def _forget_rules(self, names: Collection[str]) -> None:
        """Forget the published alerts of rules."""
        for slot, alerts in list(self.published.items()):
            self.published[slot] = {
                key: alert for key, alert in alerts.items() if alert.rule not in names
            }
            if not self.published[slot]:
                del self.published[slot]

    def drop_unread_features(self) -> None:
        """Drop the features that no rule reads. The judges can then adopt no other rules."""
        self.final.drop_unread_features()
        self.live.drop_unread_features()

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
        """Remember alerts that are published."""
        for alert in alerts:
            slot = self.live.index.slot(alert.area, alert.subject)
            self.published.setdefault(slot, {})[alert.id] = alert
        return alerts

    def amend(self, slots: Codes, rows: Iterable[JudgeInput]) -> list[Alert]:
        """Judge the unsealed rows of `slots` again; the alerts that differ from the published ones."""
        self.live.write(slots, self.final.read(slots))
        published: dict[str, Alert] = {}
        for slot in slots.tolist():
            published |= self.published.pop(slot, {})

        # the alerts of each episode now: since the seal, and before them the sealed one
        chains: dict[str, list[Alert]] = {}
        for episodes in self.final.episodes:
            for slot in slots.tolist():
                if (alert := episodes.open.get(slot)) is not None:
                    chains[alert.id] = [alert]
        judged: dict[str, list[Alert]] = {}
        for judge_input in rows:
            for alert in self.live.judge(*judge_input):
                chains.setdefault(alert.id, []).append(alert)
                judged.setdefault(alert.id, []).append(alert)

        versions = {
            episodes.rule.name: episodes.rule.version for episodes in self.live.episodes
        }
        news = {key: chain for key, chain in judged.items() if key not in published}
        for key, old in published.items():
            news[key] = _unpublished(old, chains.get(key, []), versions[old.rule])

        latest = [chain[-1] if chain else published[key] for key, chain in news.items()]
        self.remember(latest)
        self._reopen(latest)
        return [alert for chain in news.values() for alert in chain]

    def _reopen(self, alerts: Iterable[Alert]) -> None:
        """Let the live judge go on from the last published alerts of its open episodes."""
        by_rule = {episodes.rule.name: episodes for episodes in self.live.episodes}
        for alert in alerts:
            slot = self.live.index.slot(alert.area, alert.subject)
            if alert.state == "raised" and slot in by_rule[alert.rule].open:
                by_rule[alert.rule].open[slot] = alert

    def seal(
        self,
        batch: Batch,
        slots: Codes,
        more: Columns | None = None,
        passes: list[Codes] | None = None,
    ) -> None:
        """Judge rows, in order, for good."""
        self.final.judge(batch, slots, more, passes)
        open_to_change = np.flatnonzero(np.isin(slots, list(self.published)))
        for slot, rows in grouped(slots[open_to_change]):
            sealed_until = int(batch.at[open_to_change[rows[-1]]])
            later = {
                key: alert
                for key, alert in self.published.pop(slot, {}).items()
                if alert.at > sealed_until
            }
            if later:
                self.published[slot] = later

    def finalise(self, slots: Codes) -> None:
        """Make the live state of `slots` final."""
        self.final.write(slots, self.live.read(slots))
        for slot in slots.tolist():
            self.published.pop(slot, None)

    def open_subjects(self) -> set[int]:
        """The subjects with an open episode."""
        return {slot for episodes in self.live.episodes for slot in episodes.open}

    def forget(self, slots: Codes) -> None:
        """Forget the state of `slots`."""
        for judge in (self.final, self.live):
            judge.forget(slots)
        for slot in slots.tolist():
            self.published.pop(slot, None)

    def reserve(self) -> None:
        """Make room for every slot of the index."""
        for judge in (self.final, self.live):
            judge.reserve()

    def owners(self) -> dict[str, Owner]:
        """The owners of the live judge, of the final judge, and the published alerts between them."""
        final = {
            f"{name}{FINAL_SUFFIX}": owner
            for name, owner in self.final.owners().items()
        }
        return {**self.live.owners(), **final, "published": self}

    def resume(self, afresh: Collection[str]) -> None:
        """Go on after all owners were loaded; those in `afresh` start afresh. Raises StateError."""
        self.live.resume(afresh)
        final = [name for name in afresh if name.endswith(FINAL_SUFFIX)]
        self.final.resume({name.removesuffix(FINAL_SUFFIX) for name in final})
        self._forget_rules(afresh)

    def schema(self) -> Schema:
        """The published alerts since the sealed rows."""
        return {"alerts": list[Alert]}

    def state(self) -> State:
        """The whole state but the judges'."""
        return {
            "alerts": [
                alert for alerts in self.published.values() for alert in alerts.values()
            ]
        }

    def load(self, state: State) -> None:
        """Replace the state by that of `state`, without alerts of unknown rules. Raises StateError."""
        self.published = {}
        rules = {episodes.rule.name for episodes in self.live.episodes}
        alerts = [alert for alert in state.get("alerts", ()) if alert.rule in rules]
        known = self.live.index.known
        if any(alert.subject not in known.get(alert.area, {}) for alert in alerts):
            raise StateError("an alert was published of an unknown subject")
        self.remember(alerts)


def _unpublished(old: Alert, chain: list[Alert], version: int) -> list[Alert]:
    """The alerts of an episode left to publish; `old` was published last, `chain` is judged now."""
    if not chain:
        withdrawn = msgspec.structs.replace(old, state="withdrawn", change="withdrawn")
        chain = [] if old.state == "withdrawn" else [withdrawn]
    elif same := [
        n for n, alert in enumerate(chain) if _substance(alert) == _substance(old)
    ]:
        chain = chain[same[-1] + 1 :]
    else:
        chain = [msgspec.structs.replace(chain[-1], change="revised")]

    return [
        msgspec.structs.replace(alert, revision=old.revision + n, version=version)
        for n, alert in enumerate(chain, 1)
    ]


def _substance(alert: Alert) -> tuple[Any, ...]:
    """The fields in which two alerts must differ for the second to be published."""
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
