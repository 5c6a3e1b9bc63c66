"""Alerts as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from rich.text import Text

from schemas.alert import Alert
from streams.times import local_time

SEVERITY_COLOURS = {1: "bold red", 2: "red", 3: "yellow", 4: "cyan"}


def line(alert: Alert, zone: ZoneInfo, *, chinese: bool) -> Text:
    """An alert for people."""
    at = local_time(alert.at, zone.key)
    colour = "dim"
    if alert.change in ("raised", "escalated"):
        colour = SEVERITY_COLOURS.get(alert.severity, "dim")
    place = alert.area
    if alert.subject != alert.area:
        place = f"{alert.area} {alert.subject}"

    sentence = visible(f"{place:24} {alert.zh if chinese else alert.en}")
    note = ""
    if alert.suppressed_by:
        note = visible(f" (suppressed: {alert.suppressed_by})")
    change = f"{alert.severity} {alert.change:9}"
    return Text.assemble(f"{at} ", (change, colour), f" {sentence}", (note, "dim"))


def gravest(alerts: Iterable[Alert], count: int) -> list[Alert]:
    """The first `count` alerts that are shown: the gravest first, then the latest."""
    shown = [alert for alert in alerts if not alert.suppressed_by]
    shown.sort(key=lambda alert: (alert.severity, -alert.raised, alert.id))
    return shown[:count]


def visible(text: str) -> str:
    r"""A text without characters that move a terminal's cursor or change its colours.

    >>> visible("A1\x1b[2J 失压")
    'A1\\x1b[2J 失压'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in text
    )
