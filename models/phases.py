"""Whose voltage moves with whose: hourly voltages of meters beside their transformer's phases and their own load.

What the line before the transformer does to the voltage, all three phases share; so a meter's changes are held against
each phase's by their difference. Voltages are kept in whole steps, so that sums are exact.
"""

from __future__ import annotations

import numpy as np

from models.cells import Array, Cells
from models.features import Columns, Feature, faded
from models.runs import crowded
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS, HOUR_SECONDS

STEP_VOLTS = 0.02  # V
HIGHEST_STEPS = np.iinfo(np.uint16).max  # steps, 1310 V
LIVE_SHARE = 0.5  # of nominal; below it there is no supply to compare
LEAP_SHARE = 0.05  # of nominal, by which a meter departs from every phase in an hour: a contact or a tap, no load
LEAST_VOLTS = 0.05  # V that are as good as nothing to meters that tell tenths


def _stride(interval: int) -> int:
    """How many intervals there are from one kept voltage to the next: an hour's, or one."""
    return max(HOUR_SECONDS // interval, 1)


def hours_of(steps: int, interval: int) -> Codes:
    """Which kept voltage the interval of each step ends with, -1 for none."""
    after = np.arange(1, steps + 1)
    return np.where(after % _stride(interval) == 0, after // _stride(interval) - 1, -1)


def in_steps(volts: Column) -> Array:
    """Voltages in whole steps; 0 where there is none.

    >>> in_steps(np.array([220.1, np.nan, 1e4])).tolist()
    [11005, 0, 0]
    """
    steps = np.rint(volts / STEP_VOLTS)
    return np.where((steps > 0) & (steps <= HIGHEST_STEPS), steps, 0).astype(np.uint16)


def beside_gateway(
    volts: Array, gateway: Array, master: dict[str, Column], sizes: Codes
) -> dict[str, Column]:
    """The Days column of every member, from (hours, members) and the gateways' (3, hours, areas), both in steps.

    An area has so many of the members, one area after another.
    """
    owner, through = (
        np.repeat(np.arange(len(sizes)), sizes),
        np.flatnonzero(master["is_gateway"] == 1),
    )
    told = np.full((3 * (len(volts) - 1), volts.shape[1]), np.nan, np.float32)
    first = np.full(len(sizes), -1)
    first[owner[through][::-1]] = through[::-1]
    compared = (first >= 0) & gateway.reshape(-1, len(sizes)).any(axis=0)
    rows = np.flatnonzero(compared[owner])
    if not len(rows):
        return {"voltage_apart": told}
    here, beside = owner[rows], first[owner[rows]]
    pt, un = master["ratio"] / master["ct"], master["un"] / STEP_VOLTS
    alike = (
        (master["is_gateway"][rows] == 0)
        & (master["three_wire"][rows] == 0)
        & (pt[rows] == pt[beside])
    )
    volts = volts[:, rows]
    own = np.diff(
        np.where((volts > LIVE_SHARE * un[rows]) & alike, volts, np.float32(np.nan)),
        axis=0,
    )
    theirs = np.diff(
        np.where(gateway > LIVE_SHARE * un[first], gateway, np.float32(np.nan)), axis=1
    )
    apart = own - theirs[:, :, here]
    apart = np.float32(STEP_VOLTS) * np.where(
        np.isnan(apart).any(axis=0), np.nan, apart
    )
    told[:, rows] = apart.reshape(-1, len(rows))
    return {"voltage_apart": told}


class Phases(Feature):
    """How far each meter's voltage departs, hour by hour, from each phase of its transformer; a week's half-life."""

    reads: tuple[str, ...] = ("voltage_apart",)
    takes: tuple[str, ...] = ("area", "at", "un", "filed_phase")
    gives: tuple[str, ...] = (
        "found_phase",
        "filed_apart",
        "found_apart",
        "next_apart",
        "area_apart",
        "sure_phase",
    )

    HALF_LIFE = 7 * DAY_SECONDS
    LEAST_PAIRS = 150  # pairs of hours, which ten days of hourly voltages bring
    CLEAR_RATIO = 1.5  # times the least squares of a day that the second least are where it is sure
    LEAST_METERS = 5  # meters that make out what is usual in an area

    def __init__(self) -> None:
        self.cells = Cells(
            squares=np.zeros(3, np.float32), pairs=np.float32(0), then=np.int64(0)
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the phase that each voltage follows, 0 to 2, and the V by which it usually departs from the filed phase.

        Also from the one it follows and from the next best, and the median of the area's meters; NaN until enough is
        known. Then the phase that today, too, is the nearest. The rows of an area are those of one day.
        """
        told = np.flatnonzero(~np.isnan(columns["voltage_apart"]).all(axis=0))
        today, hours = _departures(columns, told)
        squares, pairs = self.learn(slots[told], columns["at"][told], today, hours)
        out: Columns = {name: np.full(len(slots), np.nan) for name in self.gives}
        nearest, (least, second, _) = squares.argmin(axis=0), np.sort(today, axis=0)
        sure = (nearest == today.argmin(axis=0)) & (second > self.CLEAR_RATIO * least)
        out["sure_phase"][told[sure]] = nearest[sure]
        known = pairs >= self.LEAST_PAIRS
        rows, apart = (
            told[known],
            np.maximum(np.sqrt(squares[:, known] / pairs[known]), LEAST_VOLTS),
        )
        out["found_phase"][rows] = apart.argmin(axis=0)
        out["found_apart"][rows], out["next_apart"][rows] = np.sort(apart, axis=0)[:2]
        for phase, column in enumerate(apart):
            filed = columns["filed_phase"][rows] == phase
            out["filed_apart"][rows[filed]] = column[filed]
        for _, some in crowded(columns["area"][rows], self.LEAST_METERS):
            out["area_apart"][rows[some]] = np.median(out["found_apart"][rows[some]])
        return out

    def learn(
        self, slots: Codes, at: Array, squares: Array, pairs: Array
    ) -> tuple[Array, Array]:
        """The faded sums of some slots with a day's."""
        c = self.cells
        keep = faded(at - c["then"][slots], self.HALF_LIFE)
        c["squares"][:, slots] = keep * c["squares"][:, slots] + squares
        c["pairs"][slots] = keep * c["pairs"][slots] + pairs
        c["then"][slots] = at
        return c["squares"][:, slots].astype(np.float64), c["pairs"][slots].astype(
            np.float64
        )


def _by_hour(apart: Array, rows: Codes) -> Array:
    """Of some rows the values of three phases' hours, (3, hours, rows)."""
    return np.take(apart, rows, axis=1).reshape(3, len(apart) // 3, len(rows))


def _departures(columns: Columns, rows: Codes) -> tuple[Array, Array]:
    """The sums of squares (3, rows) in V^2 of a day's hourly departures, and of how many, without leaps."""
    apart = _by_hour(columns["voltage_apart"], rows)
    calm: Mask = np.abs(apart).min(axis=0) <= LEAP_SHARE * columns["un"][rows]
    steps = np.where(calm, np.rint(apart / np.float32(STEP_VOLTS)), 0).astype(
        np.float64
    )
    return np.square(steps).sum(axis=1) * STEP_VOLTS**2, calm.sum(axis=0)


class Coupling(Feature):
    """How each single-phase meter's voltage dips with the load that it registers: usually, and of late.

    What a meter departs from its phase by is taken to be a share of what the area's meters on that phase do, and volts
    for each kW of its own; the rest is left over. A day that leaves more than twice the usual counts for as much less,
    so that what came to stay is usual only after months.
    """

    reads: tuple[str, ...] = ("sure_phase",)
    takes: tuple[str, ...] = (
        "voltage_apart",
        "curve",
        "area",
        "at",
        "un",
        "interval_s",
        "phases",
        "pv_kva",
    )
    gives: tuple[str, ...] = ("dip", "explained", "explained_week", "unexplained")

    USUAL_HALF_LIFE, RECENT_HALF_LIFE = (
        45 * DAY_SECONDS,
        3 * DAY_SECONDS,
    )  # half-lives of what is usual and of what counts as of late
    LEAST_PAIRS = 460  # pairs of hours, which three weeks bring
    LEAST_RECENT_PAIRS = 70  # of them of late, which five of the last seven days bring
    MOST_LEFT = 2.0  # times the usual that a day may leave

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.cells = Cells(
            usual=np.zeros(7, np.float32),
            week=np.zeros(3, np.float32),
            then=np.int64(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds dip, the V that a kW usually costs, and the share that load explains of what the network leaves.

        Also that share of late, and unexplained: how many times the usual variance is left of late, beside the median
        of the area's meters where there are five. NaN for three weeks, and with generation.
        """
        out = {name: np.full(len(slots), np.nan) for name in self.gives}
        told = np.flatnonzero(~np.isnan(columns["sure_phase"]))
        sums = self._sums(columns, told)
        own = (
            (columns["phases"][told] == 1)
            & (columns["pv_kva"][told] == 0)
            & (sums[6] > 0)
        )
        rows, sums, c = told[own], sums[:, own], self.cells
        here, past = slots[rows], columns["at"][rows] - c["then"][slots[rows]]
        usual = c["usual"][:, here].astype(np.float64)
        dip, network = _slopes(usual)
        known, able = usual[6] >= self.LEAST_PAIRS, np.isfinite(dip)
        rest, whole = _squares_left(usual, dip, network)
        noise = np.maximum(rest / usual[6], LEAST_VOLTS**2)
        today = np.stack([*_squares_left(sums, dip, network), sums[6]])
        weight = np.minimum(
            self.MOST_LEFT * noise * sums[6] / np.maximum(today[0], LEAST_VOLTS**2), 1
        )
        weight[~(known & able)] = 1
        week = faded(past, self.RECENT_HALF_LIFE) * c["week"][:, here]
        week[:, able] += today[:, able]
        known &= week[2] >= self.LEAST_RECENT_PAIRS
        c["usual"][:, here] = faded(past, self.USUAL_HALF_LIFE) * usual + weight * sums
        c["week"][:, here], c["then"][here] = week, columns["at"][rows]
        found = -dip, 1 - rest / whole, 1 - week[0] / week[1], week[0] / week[2] / noise
        for name, column in zip(self.gives, found, strict=True):
            out[name][rows[known]] = column[known]
        told = rows[known & able]
        for _, some in crowded(columns["area"][told], Phases.LEAST_METERS):
            out["unexplained"][told[some]] /= np.maximum(
                np.median(out["unexplained"][told[some]]), 1
            )
        return out

    def _sums(self, columns: Columns, rows: Codes) -> Array:
        """A day's sums of squares and products of own load x (kW), others' departure m and own y (V), and their number.

        In order xx, xm, mm, xy, my, yy and 1.
        """
        phase, every = (
            columns["sure_phase"][rows].astype(np.intp),
            _stride(self._interval),
        )
        apart = _by_hour(columns["voltage_apart"], rows)
        y = np.rint(
            np.take_along_axis(apart, phase[None, None], axis=0)[0]
            / np.float32(STEP_VOLTS)
        ).astype(np.float64)
        y[np.abs(y) > LEAP_SHARE / STEP_VOLTS * columns["un"][rows]] = np.nan
        own = np.fmax(columns["interval_s"][rows], self._interval)
        watts = np.rint(
            np.take(columns["curve"][every - 1 :: every], rows, axis=1)
            * (1000 * HOUR_SECONDS / own)
        )
        x, m = np.diff(watts[: len(y) + 1], axis=0), np.full(y.shape, np.nan)
        group = columns["area"][rows].astype(np.int64) * 3 + phase
        for _, mine in crowded(group, Phases.LEAST_METERS):
            m[:, mine] = _lower_median(y[:, mine])[:, None]
        told = ~np.isnan(x + y + m)
        x, m, y = (np.where(told, column, 0) for column in (x, m, y))
        scale = np.array(
            [
                1e-6,
                STEP_VOLTS / 1000,
                STEP_VOLTS**2,
                STEP_VOLTS / 1000,
                STEP_VOLTS**2,
                STEP_VOLTS**2,
                1,
            ]
        )[:, None]
        pairs = (x, x), (x, m), (m, m), (x, y), (m, y), (y, y), (told, told)
        return scale * np.stack([(one * two).sum(axis=0) for one, two in pairs])


def _lower_median(values: Array) -> Column:
    """The lower median of each row; NaN where fewer than five are known.

    >>> _lower_median(np.array([[5, 1, 9, 2, 7, 8], [1, 2, 3, 4, np.nan, np.nan]])).tolist()
    [5.0, nan]
    """
    known = (~np.isnan(values)).sum(axis=1)
    middle = np.sort(values, axis=1)[
        np.arange(len(values)), np.maximum(known - 1, 0) // 2
    ]
    return np.where(known >= Phases.LEAST_METERS, middle, np.nan)


def _slopes(sums: Array) -> tuple[Column, Column]:
    """By how many V a kW raises a voltage, and its share of what the others depart; NaN where nothing tells."""
    xx, xm, mm, xy, my, _, n = sums
    mm = mm + n * LEAST_VOLTS**2  # so that nothing is made of others who do not move
    det = np.where(xx > 0, xx * mm - xm**2, np.nan)
    return (xy * mm - my * xm) / det, (my * xx - xy * xm) / det


def _squares_left(sums: Array, dip: Column, network: Column) -> tuple[Column, Column]:
    """The squares that are left of own departures beside load and others, and beside others alone."""
    xx, xm, mm, xy, my, yy, _ = sums
    whole = np.maximum(yy - 2 * network * my + network**2 * mm, 0)
    return np.maximum(whole + dip**2 * xx - 2 * dip * (xy - network * xm), 0), whole
