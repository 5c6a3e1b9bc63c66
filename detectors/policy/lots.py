"""Alerts that fall due at one moment are decided together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from schemas.alert import Alert

# kinds that are judged as rows arrive, not all at once
ARRIVING_KINDS = frozenset({"readings", "clocks", "payments", "attempts"})


def lots(alerts: Iterable[Alert]) -> Iterator[list[Alert]]:
    """The alerts of each area in order, alerts that fell due at one moment together."""
    by_area: dict[str, list[list[Alert]]] = {}
    for alert in alerts:
        area_lots = by_area.setdefault(alert.area, [])
        lot = area_lots[-1] if area_lots else []
        if lot and _fell_due_together(alert, lot[-1]):
            lot.append(alert)
        else:
            area_lots.append([alert])
    for area_lots in by_area.values():
        yield from area_lots


def _fell_due_together(alert: Alert, last: Alert) -> bool:
    """Whether an alert fell due with the alert before it."""
    if alert.at != last.at:
        return False
    return ARRIVING_KINDS.isdisjoint({alert.kind, last.kind})
