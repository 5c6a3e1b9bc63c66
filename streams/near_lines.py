"""The highest scores that never raised an alert, as a table and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectors.rule import ALL_RULES
from replay.near_scores import NearScore
from streams.silence import WITHDRAWN_TEXT, score_text, trouble_text
from streams.times import local_time

NEAR_COLUMNS = 3  # words at the left of the table
NEAR_HEADS = (
    ("rule", "规则"),
    ("time", "时间"),
    ("subject", "对象"),
    ("score", "得分"),
    ("kept silent by", "未告警原因"),
)
ENDS_TEXT = {
    "cannot_tell": (", then cannot tell", "，之后无法判断"),
    "unfinished": (" when the history ends", "，历史至此结束"),
}


def near_table(
    found: Sequence[NearScore], zone: str, *, chinese: bool
) -> list[list[str]]:
    """The heads and the cells of every score."""
    heads = [head[chinese] for head in NEAR_HEADS]
    return [heads, *(_cells(near, zone, chinese=chinese) for near in found)]


def plain_near(found: Sequence[NearScore], zone: str) -> list[dict[str, Any]]:
    """The scores as plain data."""
    return [
        {
            "rule": near.rule,
            "area": near.area,
            "subject": near.subject,
            "at": local_time(near.at, zone),
            "score": near.score,
            "silence": near.silence,
            "suppressed_by": near.suppressed_by,
            "trouble_seconds": near.trouble,
            "hold_seconds": near.hold,
            "reason": silence_sentence(near, chinese=False),
        }
        for near in found
    ]


def silence_sentence(near: NearScore, *, chinese: bool) -> str:
    """What kept a rule silent, in a sentence."""
    if near.silence == "below":
        return score_text(near.score, chinese=chinese)
    if near.silence == "suppressed":
        by = near.suppressed_by
        return f"告警被抑制：{by}" if chinese else f"suppressed by {by}"
    if near.silence == "withdrawn":
        return WITHDRAWN_TEXT[chinese]
    lasted = trouble_text(near.trouble, near.hold, chinese=chinese)
    return lasted + ENDS_TEXT.get(near.silence, ("", ""))[chinese]


def place_of(area: str, subject: str) -> str:
    """An area, or an area and its subject.

    >>> place_of("A1", ""), place_of("A1", "M1")
    ('A1', 'A1 M1')
    """
    return area if subject in ("", area) else f"{area} {subject}"


def _cells(near: NearScore, zone: str, *, chinese: bool) -> list[str]:
    """The cells of a score."""
    return [
        ALL_RULES[near.rule].title[1] if chinese else near.rule,
        local_time(near.at, zone),
        place_of(near.area, near.subject),
        f"{near.score:.2f}",
        silence_sentence(near, chinese=chinese),
    ]
