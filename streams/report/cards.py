"""A card shows an alert: what and where it is, its chart, and what it said."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from detectors.rule import ALL_RULES
from schemas.alert import Alert
from streams.lines import visible

SEVERITY_TEXTS = {1: "same day", 2: "within 3 days", 3: "batch", 4: "information"}
CHINESE_SEVERITY_TEXTS = {1: "当日", 2: "3日内", 3: "批量", 4: "提示"}
PLACE_WORDS = {"overdue": ("section", "班组")}
AREA_WORD = ("area", "台区")


def badge(alert: Alert, *, chinese: bool = False) -> str:
    """How soon somebody should look at an alert."""
    text = (CHINESE_SEVERITY_TEXTS if chinese else SEVERITY_TEXTS)[alert.severity]
    return f'<span class="badge s{alert.severity}">{escape(text)}</span>'


def card_in(
    alert: Alert,
    chart: str,
    facts: Iterable[str],
    settings: Iterable[str] = (),
    *,
    chinese: bool,
) -> str:
    """The card of an alert in one language, with facts beside its place and settings below its chart."""
    where = _where(alert, facts, chinese=chinese)
    lines = "<br>".join(map(escape, settings))
    title = ALL_RULES[alert.rule].title[chinese]
    sentence = visible(alert.zh if chinese else alert.en)
    return (
        f'<figure class="card"><header><h3>{escape(title)}</h3>{badge(alert, chinese=chinese)}</header>'
        f'<p class="where">{escape(where)}</p>{chart}'
        f'<p class="where">{lines}</p><p class="says">{escape(sentence)}</p></figure>'
    )


def _where(alert: Alert, facts: Iterable[str], *, chinese: bool) -> str:
    """The place of an alert, and facts beside it."""
    word = PLACE_WORDS.get(alert.kind, AREA_WORD)[chinese]
    places = [f"{word} {alert.area}", alert.subject, *facts]
    return visible(" · ".join(filter(None, places)))


def card(alert: Alert, chart: str, facts: Iterable[str]) -> str:
    """The card of an alert in both languages, with facts beside its place."""
    en, zh = ALL_RULES[alert.rule].title
    where = _where(alert, facts, chinese=False)
    return (
        f'<figure class="card"><header><h3>{escape(en)}<span lang="zh">{escape(zh)}</span></h3>'
        f"{badge(alert)}</header>"
        f'<p class="where">{escape(where)}</p>{chart}'
        f'<p class="says">{escape(visible(alert.en))}</p>'
        f'<p class="zh" lang="zh">{escape(visible(alert.zh))}</p></figure>'
    )
