"""Hours without use though use was usual, and the time of day at which they recur."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.meters.usual import learned, ordinary_days, teaching_share
from models.state.cells import Cells, pushed
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_HOURS


class DarknessColumns(NamedTuple):
    """Given by Darkness, of the last seven days."""

    dark_days: Column  # days on which the same four hours were dark
    dark_from: Column  # first of these hours
    dark_kwh: Column  # primary; usual use of these hours
    dark_before: Column  # share of earlier days with four such hours anywhere
    usual_hours: Column  # primary; usual kWh of every hour, (24, rows)


class Darkness(Feature):
    """Hours without use though use was usual, and the time of day at which they recur."""

    DARK_HOURS = 4  # hours on end
    REMEMBERED_DAYS = 7  # days
    NOTHING_SHARE = 0.01  # of the usual
    USED_KWH = 0.05  # kWh in an hour, from which it counts as use
    USED_SHARE = 0.2  # of the mean hour, from which an hour counts as use
    LIVELY_SHARE = 0.5  # of the usual in the other hours: the premises are not closed

    def __init__(self) -> None:
        self.cells = Cells(
            usual=np.full(DAY_HOURS, np.nan, np.float16),
            dark=np.zeros(self.REMEMBERED_DAYS + 1, np.uint32),
            share=np.float32(0),
        )

    def fold(
        self,
        slots: Codes,
        used_kwh: Column,
        *,
        hours: Column,
        day_kind: Column,
        known_days: Column,
    ) -> DarknessColumns:
        """The dark hours of the last seven days, this day among them."""
        known = ordinary_days(known_days, day_kind)
        hours = only(known, hours)
        known &= ~np.isnan(hours).all(axis=0)
        seen = np.where(known, known_days, 0.0)
        usual = self.cells["usual"][:, slots].astype(np.float64)

        # The dark hours of each day are the bits of a number.
        dark, bits = self._dark(usual, hours)
        ring = self.cells["dark"][:, slots].astype(np.int64)
        ring = np.where(known, pushed(ring, bits), ring)
        self.cells["dark"][:, slots] = ring
        hour_rate = np.where(dark, 0.25, 1.0)
        self.cells["usual"][:, slots] = learned(usual, hours, seen, hour_rate)
        share = teaching_share(seen) * np.where(bits > 0, 0.25, 1.0)
        dark_before = self._share_before(slots, known, hours, share)

        days, start = self._recurring(ring)
        later = np.arange(self.DARK_HOURS)[:, None]
        stretch = (start + later) % DAY_HOURS
        lost = usual[stretch, np.arange(len(slots))].sum(axis=0)
        return DarknessColumns(
            dark_days=only(known, days),
            dark_from=start.astype(float),
            dark_kwh=only(known, np.nan_to_num(lost)),
            dark_before=only(known, dark_before),
            usual_hours=usual,
        )

    def _share_before(
        self, slots: Codes, known: Mask, hours: Column, share: Column
    ) -> Column:
        """The share of earlier days with four hours without use; learns the day by a share."""
        before = self.cells["share"][slots].astype(np.float64)
        after = before + share * (self._unused(hours) - before)
        self.cells["share"][slots] = np.where(known, after, before)
        return before

    def _dark(self, usual: Column, hours: Column) -> tuple[Mask, Codes]:
        """The hours without use though use was usual, and their bits.

        These are 0 on a day without use in other hours.
        """
        known = ~np.isnan(usual)
        mean = np.sum(usual, axis=0, where=known) / DAY_HOURS
        least = np.maximum(self.USED_KWH, self.USED_SHARE * mean)
        dark = (usual >= least) & (hours < self.NOTHING_SHARE * usual)

        others = ~dark & ~np.isnan(hours) & known
        used = np.sum(hours, axis=0, where=others)
        expected = np.sum(usual, axis=0, where=others)
        lively = used >= self.LIVELY_SHARE * expected
        lively &= others.any(axis=0)

        hour = np.arange(DAY_HOURS)[:, None]
        bits = (dark & lively) << hour
        return dark, bits.sum(axis=0)

    def _unused(self, hours: Column) -> Mask:
        """True on days with four hours on end without use."""
        known = ~np.isnan(hours)
        total = np.sum(hours, axis=0, where=known)
        nothing = hours < self.NOTHING_SHARE * total / DAY_HOURS
        starts = DAY_HOURS - self.DARK_HOURS + 1
        stretches = [nothing[n : n + starts] for n in range(self.DARK_HOURS)]
        unused = np.logical_and.reduce(stretches)
        return np.asarray(unused.any(axis=0))

    def _recurring(self, ring: Codes) -> tuple[Codes, Codes]:
        """The most days on which the same four hours were dark, and the first of these hours."""
        more = self.DARK_HOURS - 1  # hours of the day before that a stretch may have
        day_before = ring[:-1] >> DAY_HOURS - more
        joined = ring[1:] << more | day_before
        whole = joined & joined >> 1 & joined >> 2 & joined >> 3

        hour = np.arange(DAY_HOURS)[:, None, None]
        counts = (whole >> hour & 1).sum(axis=1)
        first = counts.argmax(axis=0)
        rows = np.arange(len(first))
        return counts[first, rows], (first - more) % DAY_HOURS
