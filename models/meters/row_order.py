"""The order of each meter's readings in time, and what it shows of the meter's clock."""

from __future__ import annotations

import numpy as np

from models.state.cells import Cells
from models.state.passes import unique_passes
from models.state.runs import ascending
from schemas.columns import Codes, Mask, Readings, Times
from schemas.units import DAY_SECONDS

STEADY_SECONDS = 300  # s by which two delays of the same wrong clock may differ


class RowOrder(Cells):
    """The newest reading of each meter, and the delay of its last late reading."""

    def __init__(self) -> None:
        super().__init__(
            last=np.int64(0),  # event time of the last reading in order
            clock_then=np.int64(0),  # its area's watermark at its last reading
            # The delay of its last late row behind its receipt, and that receipt.
            lag=np.int64(0),
            lag_received=np.int64(0),
        )

    def sequence(
        self, slots: Codes, at: Times, accepted: Mask, watermarks: Times
    ) -> tuple[Mask, Times, Mask]:
        """The rows in order of their meter's time, the meter's time before each row, and strays.

        A row strays if it is more than a day ahead of its area's watermark, the row before it was
        ahead too, and the watermark has moved in between. Then a meter whose last event time was a
        day ahead may go back, too.
        """
        last = self["last"]
        before, watermarks_then, ordered, newest = self._times_before(
            slots, at, accepted, watermarks
        )
        moved = accepted & (watermarks > watermarks_then) & (watermarks_then > 0)
        day_ahead = watermarks + DAY_SECONDS
        strayed = moved & (at > day_ahead) & (before > watermarks)
        may_go_back = moved & (before > day_ahead)
        if not may_go_back.any():
            last[ordered] = newest
            return accepted & (at > before), before, strayed

        return self._one_by_one(slots, at, accepted, moved, watermarks)

    def _one_by_one(
        self, slots: Codes, at: Times, accepted: Mask, moved: Mask, watermarks: Times
    ) -> tuple[Mask, Times, Mask]:
        """As `sequence`, where some meter may go back: the rows of each meter come one by one."""
        last = self["last"]
        day_ahead = watermarks + DAY_SECONDS
        forward = np.zeros(len(at), bool)
        strayed = np.zeros(len(at), bool)
        before = np.zeros(len(at), np.int64)
        for rows in unique_passes(slots):
            meters = slots[rows]
            times = at[rows]
            newest = last[meters]
            before[rows] = newest
            is_ahead = moved[rows] & (times > day_ahead[rows])
            strayed[rows] = is_ahead & (newest > watermarks[rows])

            was_ahead = moved[rows] & (newest > day_ahead[rows])
            goes_back = was_ahead & (times < newest)
            follows = accepted[rows] & ((times > newest) | goes_back)
            forward[rows] = follows
            last[meters[follows]] = times[follows]
        return forward, before, strayed

    def _times_before(
        self, slots: Codes, at: Times, accepted: Mask, watermarks: Times
    ) -> tuple[Times, Times, Codes, Times]:
        """Each row's newest time and watermark before it, the slots in order, and their new times.

        Remembers the watermarks.
        """
        last = self["last"]
        then = self["clock_then"]
        times = np.where(accepted, at, 0)
        if ascending(slots):
            before = last[slots]
            watermarks_then = then[slots]
            then[slots] = watermarks
            return before, watermarks_then, slots, np.maximum(before, times)

        # Rows by slot; the offset lets one running maximum serve all slots.
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        starts = np.diff(ordered, prepend=-1) != 0
        offset = np.cumsum(starts) << 40
        since_last = np.maximum(times[order], last[ordered])
        newest = np.maximum.accumulate(since_last + offset) - offset

        before = np.empty(len(at), np.int64)
        shifted = np.concatenate([[0], newest[:-1]])
        before[order] = np.where(starts, last[ordered], shifted)

        watermarks_then = np.empty(len(at), np.int64)
        by_slot = watermarks[order]
        shifted = np.concatenate([[0], by_slot[:-1]])
        watermarks_then[order] = np.where(starts, then[ordered], shifted)
        then[ordered] = by_slot
        return before, watermarks_then, ordered, newest

    def slow_clocks(self, slots: Codes, readings: Readings, late: Mask) -> Mask:
        """The late rows that show a clock behind: as late as the row before, received after it.

        Rows that were kept back and sent on come at once, or less and less late: they show nothing.
        """
        slow = np.zeros(len(readings), bool)
        if not late.any():
            return slow
        lags = readings.received - readings.at
        is_day_late = (readings.received > 0) & (lags > DAY_SECONDS)
        rows = np.flatnonzero(late & is_day_late)

        last_lag = self["lag"]
        last_received = self["lag_received"]
        for one_pass in unique_passes(slots[rows]):
            chosen = rows[one_pass]
            meters = slots[chosen]
            lag = lags[chosen]
            received = readings.received[chosen]
            before = last_received[meters]
            steady = np.abs(lag - last_lag[meters]) <= STEADY_SECONDS
            slow[chosen] = steady & (before > 0) & (received > before)
            last_lag[meters] = lag
            last_received[meters] = received
        return slow
