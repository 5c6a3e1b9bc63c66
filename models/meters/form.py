"""The usual form of a customer's days, and how the days differ from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.meters.fading import kept_share
from models.meters.peer_days import beyond_peers, peer_median
from models.meters.usual import learned, ordinary_days, remembered
from models.state.cells import Cells, Columns
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask


class FormColumns(NamedTuple):
    """Given by Form."""

    usual_variation: Column  # spread of the hours on a usual day
    usual_rhythm: Column  # daily swing of the hours on a usual day
    usual_high_kwh: Column  # primary; 95th percentile of the intervals on a usual day
    clipped_days: Column  # with many intervals at the same top
    clip_kwh: Column  # primary; that top, with none above it between
    # recent rise of the valley hours' share over the usual, beyond the peers' rise
    valley_rise: Column
    valley_usual: Column  # usual share of the valley hours
    kept_lately: Column  # share of the expected use in the same days


class Form(Feature):
    """The usual form of a customer's days, and how the days differ from it."""

    SAME_SHARE = 0.02  # by which the tops of two clipped days may differ
    CLIPPED_SHARE = 0.05  # of the intervals that lie at the top of a clipped day
    RECENT_FADE = kept_share(3.0)
    MOVED_SHARE = 0.05  # of the use, from which a day teaches a quarter

    def __init__(self) -> None:
        self.cells = Cells(
            variation=np.float32(np.nan),
            rhythm=np.float32(np.nan),
            high=np.float32(np.nan),
            top=np.float32(np.nan),
            clipped=np.uint8(0),
            valley=np.float32(np.nan),
            late=np.float32(0),
            weight=np.float32(0),
            used=np.float32(0),
            excused=np.float32(0),
        )

    def fold(
        self,
        slots: Codes,
        used_kwh: Column,
        *,
        area: Codes,
        segments: Column,
        day_kind: Column,
        known_days: Column,
        variation: Column,
        rhythm: Column,
        top_kwh: Column,
        top_share: Column,
        high_kwh: Column,
        valley_share: Column,
        excess: Column,
        expected_kwh: Column,
    ) -> FormColumns:
        """The usual form before the day, and the day beside it."""
        memory = remembered(self.cells, slots)
        ordinary = ordinary_days(known_days, day_kind)
        seen = np.where(ordinary, known_days, 0.0)

        def usual(name: str, value: Column, rate: Column | float = 1.0) -> Column:
            return learned(memory[name], only(ordinary, value), seen, rate)

        # The valley hours' share of the last few days.
        valley_share = only(ordinary, valley_share)
        comparable = ~np.isnan(valley_share)
        comparable &= ~np.isnan(only(ordinary, excess))
        added: dict[str, Column | float] = {
            "late": valley_share,
            "weight": 1,
            "used": expected_kwh * np.exp(excess),
            "excused": expected_kwh,
        }
        recent = self._recent(memory, added, comparable)
        rise = recent["late"] / recent["weight"] - memory["valley"]
        rise = only(comparable, rise)
        kept = recent["used"] / recent["excused"]

        top_kwh = only(ordinary, top_kwh)
        clipped, clip = self._clipped(memory, top_kwh, only(ordinary, top_share))
        high_rate = np.where(clipped > 1, 0.25, 1.0)
        valley_rate = np.where(np.abs(rise) > self.MOVED_SHARE, 0.25, 1.0)
        after = {
            "clipped": clipped,
            "top": clip,
            "variation": usual("variation", variation),
            "rhythm": usual("rhythm", rhythm),
            "high": usual("high", high_kwh, high_rate),
            "valley": usual("valley", valley_share, valley_rate),
        }
        self.cells.write(slots, after | recent)
        return FormColumns(
            usual_variation=memory["variation"],
            usual_rhythm=memory["rhythm"],
            usual_high_kwh=memory["high"],
            clipped_days=np.where(np.isnan(top_kwh), np.nan, clipped),
            clip_kwh=clip,
            valley_rise=beyond_peers(rise, peer_median(area, segments, rise)),
            valley_usual=memory["valley"],
            kept_lately=only(comparable, kept),
        )

    def _clipped(
        self, memory: Columns, top: Column, top_share: Column
    ) -> tuple[Column, Column]:
        """The number of days clipped at the same top, and that top."""
        before = memory["top"]
        flat = top_share >= self.CLIPPED_SHARE
        above = top > (1 + self.SAME_SHARE) * before
        near = top >= (1 - self.SAME_SHARE) * before
        same = flat & ~above & near

        first = flat & ~same
        clipped = np.where(above, 0, memory["clipped"])
        clipped = np.where(same, np.minimum(memory["clipped"] + 1, 250), clipped)
        return np.where(first, 1, clipped), np.where(first, top, before)

    def _recent(
        self, memory: Columns, added: dict[str, Column | float], known: Mask
    ) -> Columns:
        """The fading sums of the last few days, by cell."""
        recent: Columns = {}
        for name, value in added.items():
            after = self.RECENT_FADE * memory[name] + value
            recent[name] = np.where(known, after, memory[name])
        return recent
