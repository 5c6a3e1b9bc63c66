"""Judging what may still be amended: closed windows until their day is sealed, and timelines with deadlines.

Two judges remember: one as of the last sealed row, one as of the present. An amendment puts the present judge back to
the sealed one for the subjects concerned, judges the open rows again and tells only what differs.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from detectors.judge import Judge
from schemas.alert import Alert
from schemas.columns import Batch, Codes

Rows = tuple[Batch, Codes]


class Windows:
    """A sealed and a present judge of one kind, and what was told of the rows between them."""

    def __init__(self, make: Callable[[bool], Judge]) -> None:
        self.sealed, self.present = make(True), make(False)
        self.told: dict[int, dict[str, Alert]] = {}  # by slot and id, the last told since the sealed rows

    def close(self, batch: Batch, slots: Codes) -> list[Alert]:
        """Judge rows that closed in order."""
        return self.note(self.present.fold(batch, slots))

    def note(self, alerts: list[Alert]) -> list[Alert]:
        """Keep what is told."""
        for alert in alerts:
            slot = self.present.index.slot(alert.area, alert.subject)
            self.told.setdefault(slot, {})[alert.id] = alert
        return alerts

    def amend(self, slots: Codes, rows: Iterable[Rows]) -> list[Alert]:
        """Judge the rows since the seal of some subjects again; what differs from what was told."""
        self.present.put(slots, self.sealed.take(slots))
        events = [alert for batch, where in rows for alert in self.present.fold(batch, where)]
        now = {alert.id: alert for alert in events}
        alerts: list[Alert] = []
        told = {key: alert for slot in slots.tolist() for key, alert in self.told.pop(slot, {}).items()}
        standing = {a.id: a for e in self.sealed.episodes for s in slots.tolist() if (a := e.open.get(s)) is not None}
        alerts += [event for event in events if event.id not in told]
        for key, old in told.items():
            new = now.get(key) or standing.get(key)
            if new is None:
                if old.state != "withdrawn":
                    new = msgspec.structs.replace(
                        old, state="withdrawn", change="withdrawn", revision=old.revision + 1
                    )  # fmt: skip
                    alerts.append(new)
            elif substance(new) != substance(old):
                new = msgspec.structs.replace(new, change="revised", revision=old.revision + 1)
                alerts.append(new)
            else:
                new = old
            if new is not None:
                now[key] = new
        self.note(list(now.values()))
        self.reopen(now.values())
        return alerts

    def reopen(self, alerts: Iterable[Alert]) -> None:
        """Let the present judge go on from what was told last of its open episodes."""
        known = {e.rule.name: e for e in self.present.episodes}
        for alert in alerts:
            slot = self.present.index.slot(alert.area, alert.subject)
            if alert.state == "raised" and slot in known[alert.rule].open:
                known[alert.rule].open[slot] = alert

    def seal(self, batch: Batch, slots: Codes) -> None:
        """Take rows, in order, as final."""
        self.sealed.fold(batch, slots)
        until = int(batch.at.max(initial=0))
        for slot in np.unique(slots).tolist():
            if slot in self.told:
                kept = {key: alert for key, alert in self.told[slot].items() if alert.at > until}
                if kept:
                    self.told[slot] = kept
                else:
                    del self.told[slot]

    def forget(self, slots: Codes) -> None:
        """Drop all that is remembered of some subjects."""
        for judge in (self.sealed, self.present):
            judge.forget(slots)
        for slot in slots.tolist():
            self.told.pop(slot, None)

    def state(self) -> dict[str, Any]:
        """Everything remembered."""
        told = [alert for alerts in self.told.values() for alert in alerts.values()]
        return {"sealed": self.sealed.state(), "present": self.present.state(), "told": told}

    def load(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` gave."""
        self.sealed.load(state["sealed"])
        self.present.load(state["present"])
        self.told = {}
        self.note([msgspec.convert(alert, Alert) for alert in state["told"]])


def substance(alert: Alert) -> tuple[Any, ...]:
    """What must be the same for an alert not to need telling again."""
    return alert.state, alert.severity, alert.since, alert.raised, alert.at, alert.score, alert.phase, alert.evidence
