"""A customer's months, beside the usual month and beside the peers' by capacity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import day_of, month_of
from models.meters.peer_days import LEAST_PEERS, peer_groups
from models.meters.usual import remembered
from models.state.cells import Cells, Columns
from models.state.missing_values import only
from models.state.runs import crowded
from schemas.columns import Codes, Column, Mask, Times


class MonthsColumns(NamedTuple):
    """Given by Months, of the last whole month.

    If only one of own_share and peer_share is known, the other is infinite.
    """

    month_kwh: Column  # primary; kWh a day
    # share of the same month's usual, or of the median month in the first year
    own_share: Column
    peer_share: Column  # share of the peers' median by contract capacity
    below_peers: Column  # robust deviations under that median
    peers: Column  # how many there are
    # least kWh a day of this month, of the month before and of the month after in the
    # years before; NaN where this month is unknown
    year_least_kwh: Column  # primary
    year_most_kwh: Column  # primary; the same of the most


class Months(Feature):
    """A customer's months, beside the usual month and beside the peers' by capacity."""

    LEAST_DAYS = 20  # known days of a month that counts
    LEAST_MONTHS = 3  # months that stand for one not met before
    LEAST_SPREAD = 0.3  # of the peers' logarithms

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self.cells = Cells(
            usual=np.full(12, np.nan, np.float32),
            sum=np.float32(0),
            days=np.uint8(0),
            month=np.int8(-1),
            last=np.float32(np.nan),
            share=np.float32(np.nan),
        )

    def fold(
        self,
        slots: Codes,
        used_kwh: Column,
        *,
        at: Times,
        area: Codes,
        segments: Column,
        contract_kva: Column,
        suspended_kva: Column,
    ) -> MonthsColumns:
        """The last whole month and its standing; the day counts in the running month."""
        memory = remembered(self.cells, slots)
        known = ~np.isnan(used_kwh)
        month = month_of(day_of(at, self._zone))[0] % 12
        year_least, year_most = _years_before(memory["usual"], month)

        # A month ends with the first known day of another.
        ended = known & (memory["month"] >= 0) & (memory["month"] != month)
        last = memory["last"]
        share = memory["share"]
        if ended.any():
            last, share = self._end_months(slots, memory, ended)
        self._add_day(slots, memory, used_kwh, month)
        self.cells.write(slots, {"last": last, "share": share})

        in_force_kva = contract_kva - suspended_kva
        size = np.log((last + 0.01) / in_force_kva)
        size = only(np.isfinite(size), size)
        ahead, spread, peers = self._among_peers(area, segments, size)
        own_share, peer_share = _shares(known, share, ahead)
        return MonthsColumns(
            month_kwh=only(known, last),
            own_share=own_share,
            peer_share=peer_share,
            below_peers=only(known, -ahead / spread),
            peers=peers,
            year_least_kwh=year_least,
            year_most_kwh=year_most,
        )

    def _add_day(
        self, slots: Codes, memory: Columns, used: Column, month: Codes
    ) -> None:
        """Adds a day to the sum of its month, a fresh one where the month is another."""
        fresh = memory["month"] != month
        total = np.where(fresh, 0, memory["sum"]) + used
        days = np.where(fresh, 0, memory["days"]) + 1
        after = {"sum": total, "days": days, "month": month}
        self.cells.write_where(slots, ~np.isnan(used), after)

    def _end_months(
        self, slots: Codes, memory: Columns, ended: Mask
    ) -> tuple[Column, Column]:
        """Learns the months that ended.

        Gives each customer's last month and its share of the usual.
        """
        days = memory["days"]
        mean = memory["sum"] / days
        mean = only(days >= self.LEAST_DAYS, mean)
        last = np.where(ended, mean, memory["last"])

        month = np.maximum(memory["month"], 0).astype(np.int64)
        rows = np.arange(len(slots))
        same = memory["usual"][month, rows]
        middle = self._middle(memory["usual"])
        is_first = np.isnan(same)
        usual = np.where(is_first, middle, same)
        share = np.where(ended, last / usual, memory["share"])

        # A month not met before is learned within a quarter to four times the median.
        tamed = np.clip(last, middle / 4, 4 * middle)
        first = np.where(np.isnan(middle), last, tamed)
        tamed = np.clip(last, same / 2, 2 * same)
        again = (same + tamed) / 2
        after = np.where(is_first, first, again)
        learned = ended & ~np.isnan(last)
        self.cells["usual"][month, slots] = np.where(learned, after, same)
        return last, share

    def _middle(self, usual: Column) -> Column:
        """The median of the known months; NaN of fewer than three."""
        ordered = np.sort(usual, axis=0)  # NaN last
        known = (~np.isnan(usual)).sum(axis=0)
        rows = np.arange(len(known))
        lower = np.maximum(known - 1, 0) // 2
        upper = np.minimum(known // 2, len(usual) - 1)
        both = ordered[lower, rows] + ordered[upper, rows]
        middle = both / 2
        return only(known >= self.LEAST_MONTHS, middle)

    def _among_peers(
        self, areas: Codes, segments: Column, size: Column
    ) -> tuple[Column, Column, Column]:
        """How far each is above its peers' median, the peers' spread, and their number.

        NaN among too few.
        """
        ahead, spread, peers = np.full((3, len(size)), np.nan)
        known = np.flatnonzero(~np.isnan(size))
        groups = peer_groups(areas[known], segments[known])
        _, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
        peers[known] = counts[places]

        for _, group_rows in crowded(groups, LEAST_PEERS):
            rows = known[group_rows]
            apart = size[rows] - np.median(size[rows])
            ahead[rows] = apart
            deviation = 1.4826 * float(np.median(np.abs(apart)))
            spread[rows] = max(deviation, self.LEAST_SPREAD)
        return ahead, spread, peers


def _years_before(usual: Column, month: Codes) -> tuple[Column, Column]:
    """The columns year_least_kwh and year_most_kwh."""
    beside = np.array([[-1], [0], [1]])
    months = (month + beside) % 12
    rows = np.arange(len(month))
    around = usual[months, rows]
    around = only(~np.isnan(around[1]), around)
    return np.fmin.reduce(around), np.fmax.reduce(around)


def _shares(known: Mask, share: Column, ahead: Column) -> tuple[Column, Column]:
    """The columns own_share and peer_share; `ahead` is the logarithm of the peers' share."""
    no_share = np.isnan(share)
    no_peers = np.isnan(ahead)
    shown = known & ~(no_share & no_peers)
    own_share = np.where(no_share, np.inf, share)
    peer_share = np.where(no_peers, np.inf, np.exp(ahead))
    return only(shown, own_share), only(shown, peer_share)
