"""A card shows an alert: what and where it is, its chart, and what it said."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from detectors.rule import ALL_RULES
from schemas.alert import Alert
from streams.lines import visible

SEVERITY_TEXTS = {1: "same day", 2: "within 3 days", 3: "batch", 4: "information"}


def badge(alert: Alert) -> str:
    """How soon somebody should look at an alert."""
    return f'<span class="badge s{alert.severity}">{escape(SEVERITY_TEXTS[alert.severity])}</span>'


def card(
    alert: Alert, chart: str, facts: Iterable[str], settings: Iterable[str] = ()
) -> str:
    """The card of an alert, with facts beside its place and settings below its chart."""
    en, zh = ALL_RULES[alert.rule].title
    section = "section" if alert.kind == "overdue" else "area"
    places = [f"{section} {alert.area}", alert.subject, *facts]
    where = visible(" · ".join(filter(None, places)))
    lines = "".join(f'<p class="where">{escape(text)}</p>' for text in settings)
    return (
        f'<figure class="card"><header><h3>{escape(en)}<span lang="zh">{escape(zh)}</span></h3>'
        f"{badge(alert)}</header>"
        f'<p class="where">{escape(where)}</p>{chart}{lines}'
        f'<p class="says">{escape(visible(alert.en))}</p>'
        f'<p class="zh" lang="zh">{escape(visible(alert.zh))}</p></figure>'
    )
