"""A new worker corrects the alerts of a killed worker that judged the same rows in another order of topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping

import msgspec

from detectors.policy.events import MEMORY_SECONDS
from schemas.alert import Alert, Change


def corrections(
    recent: dict[str, dict[str, Alert]],
    predecessor_alerts: Iterable[Alert],
    watermarks: Mapping[str, int],
    published: Container[str],
) -> Iterator[Alert]:
    """Corrections of the alerts of an engine before; `recent` takes their revisions.

    An alert that differs here is published as it is here. An alert that is unknown here is withdrawn, unless it may
    have been forgotten. The last state of an alert in `published` is this engine's own, and stays.
    """
    last: dict[str, Alert] = {}
    revisions: Counter[str] = Counter()
    for alert in predecessor_alerts:
        last[alert.id] = alert
        revisions[alert.id] = max(revisions[alert.id], alert.revision)

    for key, old in last.items():
        known = recent.setdefault(old.area, {})
        oldest = watermarks.get(old.area, 0) - MEMORY_SECONDS
        may_be_forgotten = old.state != "raised" and old.at < oldest
        if key not in known and (may_be_forgotten or key in published):
            continue

        new = known.get(key)
        if new is None:
            new = msgspec.structs.replace(old, state="withdrawn")
        revision = revisions[key]
        if new.revision > revision:
            continue
        known[key] = msgspec.structs.replace(new, revision=revision, change=old.change)
        if known[key] != old:
            is_revision = new.state in ("raised", old.state)
            change: Change = "revised" if is_revision else new.state
            known[key] = msgspec.structs.replace(
                new, revision=revision + 1, change=change
            )
            yield known[key]
