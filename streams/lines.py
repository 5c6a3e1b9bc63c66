"""Alerts as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from rich.text import Text

from schemas.alert import Alert
from streams.logs import visible
from streams.times import local_time

SEVERITY_COLOURS = {1: "bold red", 2: "red", 3: "yellow", 4: "cyan"}


def line(alert: Alert, zone: ZoneInfo, *, chinese: bool) -> Text:
    """An alert for people."""
    when = local_time(alert.at, zone.key)
    held = f" (suppressed: {alert.suppressed_by})" if alert.suppressed_by else ""
    colour = (
        SEVERITY_COLOURS.get(alert.severity, "dim")
        if alert.change in ("raised", "escalated")
        else "dim"
    )
    where = (
        f"{alert.area} {alert.subject}" if alert.subject != alert.area else alert.area
    )
    said = visible(f"{where:24} {alert.zh if chinese else alert.en}")
    change = f"{alert.severity} {alert.change:9}"
    return Text.assemble(
        f"{when} ", (change, colour), f" {said}", (visible(held), "dim")
    )


def gravest(alerts: Iterable[Alert], count: int) -> list[Alert]:
    """So many alerts that are not held back: the gravest first, of those the latest."""
    told = [alert for alert in alerts if not alert.suppressed_by]
    return sorted(told, key=lambda alert: (alert.severity, -alert.raised, alert.id))[
        :count
    ]
