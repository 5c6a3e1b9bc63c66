"""Voltages that move together: hourly voltages of meters, their transformer's phases, own load.

The line before the transformer changes the voltage of all three phases alike; so a meter's changes
are compared with each phase's by their difference, in whole steps of voltage.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.days.hourly_voltages import STEP_VOLTS, hourly_stride
from models.feature import Feature
from models.meters.fading import faded
from models.meters.usual import remembered
from models.state.cells import Array, Cells
from models.state.missing_values import only
from models.state.runs import crowded
from schemas.columns import Codes, Column, Mask, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS

# Of nominal, by which a meter departs from every phase in an hour: a contact or a tap,
# no load.
LEAP_SHARE = 0.05
LEAST_VOLTS = 0.05  # V that are as good as nothing to meters that show tenths


class PhasesColumns(NamedTuple):
    """Given by Phases; NaN until enough is known."""

    found_phase: Column  # 0 to 2, that the voltage follows
    filed_apart: Column  # usual V from the filed phase
    found_apart: Column  # usual V from the phase it follows
    next_apart: Column  # usual V from the next best
    area_apart: Column  # median of found_apart of the area's meters
    sure_phase: Column  # the phase it follows, where it is the nearest today, too


class Phases(Feature):
    """Departures of meters' hourly voltages from their transformer's phases; a week's half-life."""

    HALF_LIFE = 7 * DAY_SECONDS
    LEAST_PAIRS = 150  # pairs of hours, which ten days of hourly voltages bring
    # Times a day's least squares, from which the second least make the phase sure.
    CLEAR_RATIO = 1.5
    LEAST_METERS = 5  # meters that make up the usual of an area

    def __init__(self) -> None:
        self.cells = Cells(
            squares=np.zeros(3, np.float32), pairs=np.float32(0), then=np.int64(0)
        )

    def fold(
        self,
        slots: Codes,
        voltage_apart: Column,
        *,
        area: Codes,
        at: Times,
        un: Column,
        filed_phase: Column,
    ) -> PhasesColumns:
        """The phase that each voltage follows; the rows of an area are of one day."""
        rows = np.flatnonzero(~np.isnan(voltage_apart).all(axis=0))
        today, hours = _departures(voltage_apart, un, rows)
        squares, pairs = self.learn(slots[rows], at[rows], today, hours)
        found = PhasesColumns(*np.full((6, len(slots)), np.nan))

        # The phase is sure if today's hours show it alone.
        nearest = squares.argmin(axis=0)
        least, second, _ = np.sort(today, axis=0)
        sure = second > self.CLEAR_RATIO * least
        sure &= nearest == today.argmin(axis=0)
        found.sure_phase[rows[sure]] = nearest[sure]

        # Usual departures are known from enough pairs of hours.
        known = pairs >= self.LEAST_PAIRS
        rows = rows[known]
        mean_squares = squares[:, known] / pairs[known]
        apart = np.maximum(np.sqrt(mean_squares), LEAST_VOLTS)
        least, second, _ = np.sort(apart, axis=0)
        found.found_phase[rows] = apart.argmin(axis=0)
        found.found_apart[rows] = least
        found.next_apart[rows] = second
        for phase, volts in enumerate(apart):
            filed = filed_phase[rows] == phase
            found.filed_apart[rows[filed]] = volts[filed]
        for _, members in crowded(area[rows], self.LEAST_METERS):
            found.area_apart[rows[members]] = np.median(least[members])
        return found

    def learn(
        self, slots: Codes, at: Array, squares: Array, pairs: Array
    ) -> tuple[Array, Array]:
        """The faded sums of slots with a day's."""
        memory = self.cells.read(slots)
        keep = faded(at - memory["then"], self.HALF_LIFE)
        after = {
            "squares": keep * memory["squares"] + squares,
            "pairs": keep * memory["pairs"] + pairs,
            "then": at,
        }
        self.cells.write(slots, after)
        memory = remembered(self.cells, slots)
        return memory["squares"], memory["pairs"]


def _by_hour(apart: Array, rows: Codes) -> Array:
    """The values of rows for three phases' hours, (3, hours, rows)."""
    chosen = np.take(apart, rows, axis=1)
    return chosen.reshape(3, len(apart) // 3, len(rows))


def _departures(apart: Column, un: Column, rows: Codes) -> tuple[Array, Array]:
    """Sums of squares (3, rows), V^2, of a day's hourly departures without leaps, and the hours."""
    volts = _by_hour(apart, rows)
    leap = LEAP_SHARE * un[rows]
    calm: Mask = np.abs(volts).min(axis=0) <= leap
    steps = np.rint(volts / np.float32(STEP_VOLTS))
    steps = np.where(calm, steps, 0).astype(np.float64)
    squares = np.square(steps).sum(axis=1)
    return squares * STEP_VOLTS**2, calm.sum(axis=0)


class CouplingColumns(NamedTuple):
    """Given by Coupling; NaN for three weeks, and with generation."""

    dip: Column  # V that a kW usually costs
    # share of the departure left by the network that load usually explains
    explained: Column
    explained_week: Column  # the same recently
    # how many times the usual variance is left recently, beside the median of the area's
    # meters if there are five
    unexplained: Column


class Coupling(Feature):
    """How a single-phase meter's voltage dips with the load it registers: usually and recently.

    A meter's departure from its phase is taken to be a share of the departure of the area's meters
    on that phase, and volts for each kW of its own; the rest is left over. A day that leaves more
    than twice the usual counts for as much less, so that a lasting change becomes usual only after
    months.
    """

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

    def fold(
        self,
        slots: Codes,
        sure_phase: Column,
        *,
        voltage_apart: Column,
        curve: Column,
        area: Codes,
        at: Times,
        un: Column,
        interval_s: Column,
        phases: Column,
        pv_kva: Column,
    ) -> CouplingColumns:
        """The coupling that days before show; learns the day where the phase is sure."""
        found = CouplingColumns(*np.full((4, len(slots)), np.nan))
        rows = np.flatnonzero(~np.isnan(sure_phase))
        phase = sure_phase[rows].astype(np.intp)
        areas = area[rows]
        departure = _own_departures(voltage_apart, un, rows, phase)
        load = self._load_changes(curve, interval_s, rows, len(departure))
        others = _others_departures(departure, areas, phase)
        sums = _products(load, others, departure)

        single_phase = (phases[rows] == 1) & (pv_kva[rows] == 0)
        coupled = single_phase & (sums[6] > 0)
        rows = rows[coupled]
        values, known = self._learn(slots[rows], at[rows], sums[:, coupled])
        for column, value in zip(found, values, strict=True):
            column[rows[known]] = value[known]

        # Beside the median of the area's meters.
        compared = known & np.isfinite(values.dip)
        rows = rows[compared]
        for _, members in crowded(areas[coupled][compared], Phases.LEAST_METERS):
            compared_rows = rows[members]
            median = np.median(found.unexplained[compared_rows])
            found.unexplained[compared_rows] /= np.maximum(median, 1)
        return found

    def _learn(
        self, slots: Codes, at: Array, sums: Array
    ) -> tuple[CouplingColumns, Mask]:
        """The columns of slots before a day's sums, which are added; the mask of known ones."""
        memory = self.cells.read(slots)
        past = at - memory["then"]
        usual = memory["usual"].astype(np.float64)
        dip, network = _slopes(usual)
        known = usual[6] >= self.LEAST_PAIRS
        solvable = np.isfinite(dip)

        # A day weighs less if it leaves more than the usual noise.
        rest, whole = _squares_left(usual, dip, network)
        noise = np.maximum(rest / usual[6], LEAST_VOLTS**2)
        today = np.stack([*_squares_left(sums, dip, network), sums[6]])
        rest_today = np.maximum(today[0], LEAST_VOLTS**2)
        weight = np.minimum(self.MOST_LEFT * noise * sums[6] / rest_today, 1)
        weight[~(known & solvable)] = 1

        week = faded(past, self.RECENT_HALF_LIFE) * memory["week"]
        week[:, solvable] += today[:, solvable]
        known &= week[2] >= self.LEAST_RECENT_PAIRS
        kept = faded(past, self.USUAL_HALF_LIFE) * usual
        usual = kept + weight * sums
        self.cells.write(slots, {"usual": usual, "week": week, "then": at})
        return CouplingColumns(
            dip=-dip,
            explained=1 - rest / whole,
            explained_week=1 - week[0] / week[1],
            unexplained=week[0] / week[2] / noise,
        ), known

    def _load_changes(
        self, curve: Column, interval_s: Column, rows: Codes, hours: int
    ) -> Array:
        """The changes of the mean power of meters, W, from one kept voltage to the next."""
        stride = hourly_stride(self._interval)
        meter_interval = np.fmax(interval_s[rows], self._interval)
        kept = curve[stride - 1 :: stride]
        kwh = np.take(kept, rows, axis=1)
        watts_per_kwh = 1000 * HOUR_SECONDS / meter_interval
        watts = np.rint(kwh * watts_per_kwh)
        return np.diff(watts[: hours + 1], axis=0)


def _own_departures(apart: Column, un: Column, rows: Codes, phase: Codes) -> Array:
    """The departures (hours, rows) of meters from their phases, in steps; NaN at a leap."""
    volts = _by_hour(apart, rows)
    of_phase = np.take_along_axis(volts, phase[None, None], axis=0)[0]
    steps = np.rint(of_phase / np.float32(STEP_VOLTS))
    departure = steps.astype(np.float64)
    leap = LEAP_SHARE / STEP_VOLTS * un[rows]
    departure[np.abs(departure) > leap] = np.nan
    return departure


def _others_departures(departure: Array, areas: Codes, phase: Codes) -> Array:
    """The lower median of the departures of an area's meters on the same phase, for each."""
    others = np.full(departure.shape, np.nan)
    group = areas.astype(np.int64) * 3 + phase
    for _, members in crowded(group, Phases.LEAST_METERS):
        median = _lower_median(departure[:, members])
        others[:, members] = median[:, None]
    return others


def _products(load: Array, others: Array, departure: Array) -> Array:
    """A day's sums of squares and products of load, others' departure and own departure.

    With x the own load in kW, m the others' and y the own departure in V, in the order xx, xm, mm,
    xy, my, yy and their number; from W and steps of voltage, over hours that have all three.
    """
    known = ~np.isnan(load + departure + others)
    load = np.where(known, load, 0)
    others = np.where(known, others, 0)
    departure = np.where(known, departure, 0)

    kw_volts = STEP_VOLTS / 1000
    volts_squared = STEP_VOLTS**2
    scale = np.array(
        [1e-6, kw_volts, volts_squared, kw_volts, volts_squared, volts_squared, 1]
    )
    products = (
        load * load,
        load * others,
        others * others,
        load * departure,
        others * departure,
        departure * departure,
        known,
    )
    sums = [product.sum(axis=0) for product in products]
    return scale[:, None] * np.stack(sums)


def _lower_median(values: Array) -> Column:
    """The lower median of each row; NaN if fewer than five values are known.

    >>> _lower_median(np.array([[5, 1, 9, 2, 7, 8], [1, 2, 3, 4, np.nan, np.nan]])).tolist()
    [5.0, nan]
    """
    known = (~np.isnan(values)).sum(axis=1)
    places = np.maximum(known - 1, 0) // 2
    rows = np.arange(len(values))
    ordered = np.sort(values, axis=1)  # NaN last
    middle = ordered[rows, places]
    return only(known >= Phases.LEAST_METERS, middle)


def _slopes(sums: Array) -> tuple[Column, Column]:
    """The V by which a kW raises a voltage, and its share of the others' departure; else NaN."""
    xx, xm, mm, xy, my, _, count = sums
    # So that others who do not move explain nothing.
    mm = mm + count * LEAST_VOLTS**2
    det = only(xx > 0, xx * mm - xm**2)
    own = xy * mm - my * xm
    shared = my * xx - xy * xm
    return own / det, shared / det


def _squares_left(sums: Array, dip: Column, network: Column) -> tuple[Column, Column]:
    """Squares of own departures left by load and others, and left by others alone."""
    xx, xm, mm, xy, my, yy, _ = sums
    by_network = network**2 * mm
    whole = yy - 2 * network * my + by_network
    whole = np.maximum(whole, 0)
    with_load = xy - network * xm  # products of load and what others leave
    by_dip = dip**2 * xx
    rest = whole + by_dip - 2 * dip * with_load
    return np.maximum(rest, 0), whole
