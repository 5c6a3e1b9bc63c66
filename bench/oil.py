"""The oil at the top of a transformer as its load heats it, beside the oil as measured, for bench.forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import lfilter

from models.meters.loading import Heat
from models.state.cells import Array
from schemas.units import DAY_HOURS, HOUR_SECONDS

YEAR_HOURS = 365.25 * DAY_HOURS


class OilFit(NamedTuple):
    """What heats the oil, and the air around it."""

    rated: float  # load, in the units of the file
    rise: float  # K at rated load
    hours: float  # time constant
    mean: float  # deg C of the air
    seasons: Array  # of the year and the day: cosine and sine of each, K

    def air(self, hours: Array) -> Array:
        """The air by the season and the hour."""
        angles = [2 * np.pi * hours / span for span in (YEAR_HOURS, DAY_HOURS)]
        parts = [wave(angle) for angle in angles for wave in (np.cos, np.sin)]
        return self.mean + sum(
            size * part for size, part in zip(self.seasons, parts, strict=True)
        )

    def oil(self, kva: Array, hours: Array) -> Array:
        """The top oil, deg C, as transformer_thermal has it with these constants."""
        heat = Heat(HOUR_SECONDS)
        final, _ = heat.course(kva / self.rated, np.zeros(1))[0]
        left = np.exp(-1 / self.hours)
        start = np.array([left * final[0]])
        rise, _ = lfilter([1 - left], [1, -left], final, zi=start)
        return rise * self.rise / Heat.OIL_RISE + self.air(hours)


class OilHours(NamedTuple):
    """The station's load and top oil, hour by hour."""

    kva: Array
    hours: Array
    oil: Array  # deg C

    def of_year(self, second: bool) -> OilHours:
        """The first or the second half, which is a year each."""
        half = len(self.oil) // 2
        part = slice(half, None) if second else slice(None, half)
        return OilHours(*(column[part] for column in self))


def _fitted(first: OilHours, start: OilFit, free: slice) -> OilFit:
    """The constants with which the oil is nearest; those outside of `free` stay."""
    constants = np.array([*start[:4], *start.seasons])

    def fit_of(values: Array) -> OilFit:
        changed = constants.copy()
        changed[free] = values
        rated, rise, hours, mean = changed[:4].tolist()
        return OilFit(rated, rise, hours, mean, changed[4:])

    def off(values: Array) -> Array:
        return fit_of(values).oil(first.kva, first.hours) - first.oil

    lowest = np.array([0.1, 0.1, 0.1, *[-np.inf] * 5])[free]
    found = least_squares(off, constants[free], bounds=(lowest, np.inf), x_scale="jac")
    return fit_of(found.x)


def _oil_fits(first: OilHours) -> dict[str, OilFit]:
    """The constants by what was fitted in the first year."""
    standard = OilFit(
        rated=float(np.quantile(first.kva, 0.99)),
        rise=Heat.OIL_RISE,
        hours=Heat.OIL_TIME / HOUR_SECONDS,
        mean=20.0,
        seasons=np.zeros(4),
    )
    only_air, all_but_rating = slice(3, None), slice(1, None)
    unheated = standard._replace(rise=0.0)
    return {
        "the standard's constants, air of 20 deg C": standard,
        "the standard's constants, air fitted": _fitted(first, standard, only_air),
        "constants and air fitted": _fitted(first, standard, all_but_rating),
        "air fitted, no load": _fitted(first, unheated, only_air),
    }


def oil_lines(columns: dict[str, Array]) -> Iterator[str]:
    """Oil by the load beside oil as measured, fitted in the first year and judged in the second."""
    kva = np.hypot(columns["HUFL"], columns["HULL"])
    both = OilHours(kva, np.arange(len(kva)), columns["OT"])
    fits = _oil_fits(both.of_year(second=False))
    yield "| Top oil by | Off by in the year of the fit | In the year after | In its hottest twentieth | r |"
    yield "|---|---|---|---|---|"

    for name, fit in fits.items():
        off = both._replace(oil=fit.oil(both.kva, both.hours) - both.oil)
        first, second = (off.of_year(second=later).oil for later in (False, True))
        oil = both.of_year(second=True).oil
        at_heat = second[oil >= np.quantile(oil, 0.95)].mean()
        agreement = np.corrcoef(oil + second, oil)[0, 1]
        sizes = f"{np.abs(first).mean():.1f} K | {np.abs(second).mean():.1f} K"
        yield f"| {name} | {sizes} | {at_heat:+.1f} K | {agreement:.2f} |"
    yield ""
    yield _left_over(both, fits["constants and air fitted"])


def _left_over(both: OilHours, fit: OilFit) -> str:
    """What a fit does not explain in the second year."""
    off = both._replace(oil=both.oil - fit.oil(both.kva, both.hours))
    kva, _, error = off.of_year(second=True)
    days = error[: len(error) // DAY_HOURS * DAY_HOURS].reshape(-1, DAY_HOURS)
    daily = days.mean(axis=1)
    by_day = np.var(daily) / np.var(days)
    lasting = np.corrcoef(daily[1:], daily[:-1])[0, 1]
    by_load = np.corrcoef(error, kva)[0, 1]
    return (
        f"Fitted, the load that 1 % of the hours pass heats the oil by {fit.rise:.0f} K with a time constant of "
        f"{fit.hours:.0f} h. Of the variance that the fit leaves in the year after, {by_day:.0%} is of whole days, "
        f"with r = {lasting:.2f} from one day to the next; with the load it goes with r = {by_load:.2f}."
    )
