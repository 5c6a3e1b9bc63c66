"""Voltages that move together: hourly voltages of meters, their transformer's phases, own load.

The line before the transformer changes the voltage of all three phases alike; so a meter's changes
are compared with each phase's by their difference, in whole steps of voltage.
"""

from __future__ import annotations

import numpy as np

from models.days.hourly_voltages import STEP_VOLTS, hourly_stride
from models.meters.basics import Columns, Feature, faded
from models.state.cells import Array, Cells
from models.state.runs import crowded
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS, HOUR_SECONDS

# Of nominal, by which a meter departs from every phase in an hour: a contact or a tap,
# no load.
LEAP_SHARE = 0.05
LEAST_VOLTS = 0.05  # V that are as good as nothing to meters that show tenths


class Phases(Feature):
    """Departures of meters' hourly voltages from their transformer's phases; a week's half-life."""

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
    # Times a day's least squares, from which the second least make the phase sure.
    CLEAR_RATIO = 1.5
    LEAST_METERS = 5  # meters that make up the usual of an area

    def __init__(self) -> None:
        self.cells = Cells(
            squares=np.zeros(3, np.float32), pairs=np.float32(0), then=np.int64(0)
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the phase, 0 to 2, that each voltage follows, and its usual V from the filed phase.

        Also its usual V from the phase it follows and from the next best, and the median of the
        area's meters; NaN until enough is known. Then the phase that is the nearest today, too.
        The rows of an area are of one day.
        """
        rows = np.flatnonzero(~np.isnan(columns["voltage_apart"]).all(axis=0))
        today, hours = _departures(columns, rows)
        squares, pairs = self.learn(slots[rows], columns["at"][rows], today, hours)
        out: Columns = {name: np.full(len(slots), np.nan) for name in self.gives}

        # The phase is sure if today's hours show it alone.
        nearest = squares.argmin(axis=0)
        least, second, _ = np.sort(today, axis=0)
        sure = (nearest == today.argmin(axis=0)) & (second > self.CLEAR_RATIO * least)
        out["sure_phase"][rows[sure]] = nearest[sure]

        known = pairs >= self.LEAST_PAIRS
        self._add_departures(
            out, rows[known], columns, squares[:, known] / pairs[known]
        )
        return out

    def _add_departures(
        self, out: Columns, rows: Codes, columns: Columns, mean_squares: Array
    ) -> None:
        """Adds the columns of rows whose mean squares (3, rows) are known."""
        apart = np.maximum(np.sqrt(mean_squares), LEAST_VOLTS)
        out["found_phase"][rows] = apart.argmin(axis=0)
        out["found_apart"][rows], out["next_apart"][rows] = np.sort(apart, axis=0)[:2]
        for phase, column in enumerate(apart):
            filed = columns["filed_phase"][rows] == phase
            out["filed_apart"][rows[filed]] = column[filed]
        for _, members in crowded(columns["area"][rows], self.LEAST_METERS):
            median = np.median(out["found_apart"][rows[members]])
            out["area_apart"][rows[members]] = median

    def learn(
        self, slots: Codes, at: Array, squares: Array, pairs: Array
    ) -> tuple[Array, Array]:
        """The faded sums of slots with a day's."""
        cells = self.cells
        keep = faded(at - cells["then"][slots], self.HALF_LIFE)
        cells["squares"][:, slots] = keep * cells["squares"][:, slots] + squares
        cells["pairs"][slots] = keep * cells["pairs"][slots] + pairs
        cells["then"][slots] = at
        kept_squares = cells["squares"][:, slots].astype(np.float64)
        return kept_squares, cells["pairs"][slots].astype(np.float64)


def _by_hour(apart: Array, rows: Codes) -> Array:
    """The values of rows for three phases' hours, (3, hours, rows)."""
    return np.take(apart, rows, axis=1).reshape(3, len(apart) // 3, len(rows))


def _departures(columns: Columns, rows: Codes) -> tuple[Array, Array]:
    """Sums of squares (3, rows), V^2, of a day's hourly departures without leaps, and the hours."""
    apart = _by_hour(columns["voltage_apart"], rows)
    calm: Mask = np.abs(apart).min(axis=0) <= LEAP_SHARE * columns["un"][rows]
    steps = np.where(calm, np.rint(apart / np.float32(STEP_VOLTS)), 0)
    squares = np.square(steps.astype(np.float64)).sum(axis=1)
    return squares * STEP_VOLTS**2, calm.sum(axis=0)


class Coupling(Feature):
    """How a single-phase meter's voltage dips with the load it registers: usually and recently.

    A meter's departure from its phase is taken to be a share of the departure of the area's meters
    on that phase, and volts for each kW of its own; the rest is left over. A day that leaves more
    than twice the usual counts for as much less, so that a lasting change becomes usual only after
    months.
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

    USUAL_HALF_LIFE = 45 * DAY_SECONDS  # of the usual
    RECENT_HALF_LIFE = 3 * DAY_SECONDS  # of recent days
    LEAST_PAIRS = 460  # pairs of hours, which three weeks bring
    LEAST_RECENT_PAIRS = 70  # recent ones, which five of the last seven days bring
    MOST_LEFT = 2.0  # times the usual that a day may leave

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.cells = Cells(
            usual=np.zeros(7, np.float32),
            week=np.zeros(3, np.float32),
            then=np.int64(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds dip, the V that a kW usually costs, and the share of the rest that load explains.

        The rest is the part of the departure that the network leaves. Also the recent share, and
        unexplained: how many times the usual variance is left recently, beside the median of the
        area's meters if there are five. NaN for three weeks, and with generation.
        """
        out = {name: np.full(len(slots), np.nan) for name in self.gives}
        rows = np.flatnonzero(~np.isnan(columns["sure_phase"]))
        sums = self._sums(columns, rows)
        coupled = (
            (columns["phases"][rows] == 1)
            & (columns["pv_kva"][rows] == 0)
            & (sums[6] > 0)
        )
        rows = rows[coupled]
        found, known = self._learn(slots[rows], columns["at"][rows], sums[:, coupled])
        for name, column in zip(self.gives, found, strict=True):
            out[name][rows[known]] = column[known]

        rows = rows[known & np.isfinite(found[0])]
        for _, members in crowded(columns["area"][rows], Phases.LEAST_METERS):
            unexplained = out["unexplained"][rows[members]]
            out["unexplained"][rows[members]] /= np.maximum(np.median(unexplained), 1)
        return out

    def _learn(
        self, slots: Codes, at: Array, sums: Array
    ) -> tuple[tuple[Column, ...], Mask]:
        """The columns given for slots with a day's sums added, and the mask of known ones."""
        cells = self.cells
        past = at - cells["then"][slots]
        usual = cells["usual"][:, slots].astype(np.float64)
        dip, network = _slopes(usual)
        known = usual[6] >= self.LEAST_PAIRS
        solvable = np.isfinite(dip)

        # A day weighs less if it leaves more than the usual noise.
        rest, whole = _squares_left(usual, dip, network)
        noise = np.maximum(rest / usual[6], LEAST_VOLTS**2)
        today = np.stack([*_squares_left(sums, dip, network), sums[6]])
        weight = self.MOST_LEFT * noise * sums[6] / np.maximum(today[0], LEAST_VOLTS**2)
        weight = np.minimum(weight, 1)
        weight[~(known & solvable)] = 1

        week = faded(past, self.RECENT_HALF_LIFE) * cells["week"][:, slots]
        week[:, solvable] += today[:, solvable]
        known &= week[2] >= self.LEAST_RECENT_PAIRS
        kept = faded(past, self.USUAL_HALF_LIFE) * usual
        cells["usual"][:, slots] = kept + weight * sums
        cells["week"][:, slots] = week
        cells["then"][slots] = at
        explained = 1 - rest / whole, 1 - week[0] / week[1]
        return (-dip, *explained, week[0] / week[2] / noise), known

    def _sums(self, columns: Columns, rows: Codes) -> Array:
        """A day's sums of squares and products of load, others' departure and own departure.

        With x the own load in kW, m the others' and y the own departure in V, in the order xx, xm,
        mm, xy, my, yy and their number.
        """
        phase = columns["sure_phase"][rows].astype(np.intp)
        apart = _by_hour(columns["voltage_apart"], rows)
        of_phase = np.take_along_axis(apart, phase[None, None], axis=0)[0]
        departure = np.rint(of_phase / np.float32(STEP_VOLTS)).astype(np.float64)
        leap = LEAP_SHARE / STEP_VOLTS * columns["un"][rows]
        departure[np.abs(departure) > leap] = np.nan
        load = self._load_changes(columns, rows, len(departure))

        # Others are the area's meters on the same phase.
        others = np.full(departure.shape, np.nan)
        group = columns["area"][rows].astype(np.int64) * 3 + phase
        for _, members in crowded(group, Phases.LEAST_METERS):
            others[:, members] = _lower_median(departure[:, members])[:, None]
        return _products(load, others, departure)

    def _load_changes(self, columns: Columns, rows: Codes, hours: int) -> Array:
        """The changes of the mean power of meters, W, from one kept voltage to the next."""
        stride = hourly_stride(self._interval)
        meter_interval = np.fmax(columns["interval_s"][rows], self._interval)
        kwh = np.take(columns["curve"][stride - 1 :: stride], rows, axis=1)
        watts = np.rint(kwh * (1000 * HOUR_SECONDS / meter_interval))
        return np.diff(watts[: hours + 1], axis=0)


def _products(load: Array, others: Array, departure: Array) -> Array:
    """The sums of `Coupling._sums` from W and steps of voltage, over hours that have all three."""
    known = ~np.isnan(load + departure + others)
    load = np.where(known, load, 0)
    others = np.where(known, others, 0)
    departure = np.where(known, departure, 0)

    kw_volts, volts_squared = STEP_VOLTS / 1000, STEP_VOLTS**2
    scale = np.array(
        [1e-6, kw_volts, volts_squared, kw_volts, volts_squared, volts_squared, 1]
    )
    products = [
        (load * load).sum(axis=0),
        (load * others).sum(axis=0),
        (others * others).sum(axis=0),
        (load * departure).sum(axis=0),
        (others * departure).sum(axis=0),
        (departure * departure).sum(axis=0),
        (known * known).sum(axis=0),
    ]
    return scale[:, None] * np.stack(products)


def _lower_median(values: Array) -> Column:
    """The lower median of each row; NaN if fewer than five values are known.

    >>> _lower_median(np.array([[5, 1, 9, 2, 7, 8], [1, 2, 3, 4, np.nan, np.nan]])).tolist()
    [5.0, nan]
    """
    known = (~np.isnan(values)).sum(axis=1)
    places = np.maximum(known - 1, 0) // 2
    middle = np.sort(values, axis=1)[np.arange(len(values)), places]
    return np.where(known >= Phases.LEAST_METERS, middle, np.nan)


def _slopes(sums: Array) -> tuple[Column, Column]:
    """The V by which a kW raises a voltage, and its share of the others' departure; else NaN."""
    xx, xm, mm, xy, my, _, count = sums
    # So that others who do not move explain nothing.
    mm = mm + count * LEAST_VOLTS**2
    det = np.where(xx > 0, xx * mm - xm**2, np.nan)
    return (xy * mm - my * xm) / det, (my * xx - xy * xm) / det


def _squares_left(sums: Array, dip: Column, network: Column) -> tuple[Column, Column]:
    """Squares of own departures left by load and others, and left by others alone."""
    xx, xm, mm, xy, my, yy, _ = sums
    whole = np.maximum(yy - 2 * network * my + network**2 * mm, 0)
    rest = np.maximum(whole + dip**2 * xx - 2 * dip * (xy - network * xm), 0)
    return rest, whole
