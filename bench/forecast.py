"""`python -m bench.forecast DATA` measures the forecast of a transformer's load, and the oil that its load heats.

The station of `transformer_load.csv.gz` is forecast over two years, from its first day on, as an engine would; so are
the areas of a simulated town. Beside each forecast stand the same hour of the last known day and of the week before.
The tables go into docs/detection.md. It takes three minutes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from river.time_series import HoltWinters
from scipy.special import ndtri

from bench.oil import oil_lines
from bench.real import CHECKOUT_FOLDER, filled
from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.master.calendar import day_of, midnight, midnights
from models.meters.load_forecast import AHEAD_DAYS, LoadForecast, LoadForecastColumns
from models.state.cells import Array
from replay.simulation.town import Town
from schemas.columns import Codes, Column, Readings, Times
from schemas.units import DAY_HOURS

PAGE_FILE = CHECKOUT_FOLDER / "docs" / "detection.md"
STATION_NAME = "transformer_load.csv.gz"
STATION_ZONE = "Asia/Shanghai"
STATION_SIDES = {
    "high side": ("HUFL", "HULL"),
    "middle side": ("MUFL", "MULL"),
    "low side": ("LUFL", "LULL"),
}
TOWN_METERS, TOWN_DAYS, TOWN_SEED = 1000, 70, 1
TOWN_START = date(
    2026, 10, 12
)  # a Monday; no public holiday follows, as towns know none
RULE_NAME = "transformer_overload_expected"
LESS_ERROR = 0.15  # than both baselines, from which the rule is published
HELD_SHARES = (0.85, 0.95)  # between which an interval of 90 % must hold
HEAVY_SHARE = (
    0.8  # of the days' peaks that stay below the line of the table of warnings
)


class ForecastDays(NamedTuple):
    """The known load of areas day by day, and what was forecast at the end of each day; areas last."""

    load: Array  # (days, 24, areas)
    expected: Array  # (days, 48, areas)
    lowest: Array
    highest: Array
    peak: Array  # (days, areas)
    peak_error: Array
    drifts: Array


class Accuracy(NamedTuple):
    """The mean absolute errors of a day ahead, and the share of hours within the interval."""

    error: float
    as_before: float  # of the same hour of the last known day
    as_last_week: float
    held: float

    @property
    def gains(self) -> tuple[float, float]:
        """The share by which the error is less than that of each baseline."""
        return 1 - self.error / self.as_before, 1 - self.error / self.as_last_week


def _station(path: Path) -> tuple[dict[str, Array], int]:
    """The columns of the station's file, hour by hour, and its first day, an index into midnights."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "date"]
    columns = {
        name: np.array([row[name] for row in rows], np.float64) for name in names
    }
    first = datetime.fromisoformat(rows[0]["date"]).date()
    starts = np.array([midnight(first, STATION_ZONE) + 1])
    return columns, int(day_of(starts, STATION_ZONE)[0])


def _watched_station(kva: Array, first_day: int) -> ForecastDays:
    """One side of the station, forecast day by day."""
    load = kva[: len(kva) // DAY_HOURS * DAY_HOURS].reshape(-1, DAY_HOURS, 1)
    feature = LoadForecast(STATION_ZONE)
    feature.cells.reserve(1)
    ends = midnights(STATION_ZONE)[first_day + 1 :]
    given: list[LoadForecastColumns] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for n, day in enumerate(load):
            day_end, unknown = ends[n : n + 1], np.full(1, np.nan)
            slots = np.zeros(1, np.int64)
            given.append(feature.fold(slots, day, temperature=unknown, at=day_end))
    return _joined(load, given)


def _joined(load: Array, given: Sequence[LoadForecastColumns]) -> ForecastDays:
    """Days after one another."""
    names = ("expected_kva", "lowest_kva", "highest_kva", "peak_kva", "peak_error")
    columns = [
        np.stack([getattr(day, name) for day in given]) for name in (*names, "drifts")
    ]
    return ForecastDays(load, *columns)


def _by_holt_winters(load: Array) -> ForecastDays:
    """The same days by river's Holt-Winters, with the best constants of a few; it gives no interval."""
    model = HoltWinters(alpha=0.2, beta=0.001, gamma=0.2, seasonality=DAY_HOURS)
    expected = np.full((len(load), AHEAD_DAYS * DAY_HOURS, 1), np.nan)
    for n, day in enumerate(load[:, :, 0].tolist()):
        for kva in day:
            model.learn_one(kva)
        if n >= LoadForecast.LEARNED_DAYS:
            expected[n, :, 0] = model.forecast(horizon=AHEAD_DAYS * DAY_HOURS)

    nothing = np.full((len(load), 1), np.nan)
    return ForecastDays(load, expected, expected, expected, nothing, nothing, nothing)


class _NotedForecast(LoadForecast):
    """Remembers the days that it was given, and what it gave."""

    def __init__(self, zone: str) -> None:
        super().__init__(zone)
        self.days: dict[tuple[int, int], tuple[Column, list[Any]]] = {}

    def fold(
        self, slots: Codes, hourly_kva: Column, *, temperature: Column, at: Times
    ) -> LoadForecastColumns:
        given = super().fold(slots, hourly_kva, temperature=temperature, at=at)
        for row, key in enumerate(zip(slots.tolist(), at.tolist(), strict=True)):
            values = [column[..., row] for column in given]
            self.days[key] = hourly_kva[:, row], values
        return given


def _watched_town() -> ForecastDays:
    """The areas of a quiet town, forecast by the engine that judges their gateway meters."""
    start = midnight(TOWN_START, STATION_ZONE)
    town = Town(TOWN_METERS, TOWN_DAYS, TOWN_SEED, faults=False, start=start)
    engine = Engine([ALL_RULES[RULE_NAME]], zone=town.zone, interval=town.interval)
    noted = _NotedForecast(town.zone)
    features: Any = engine.judges.revisable["area_days"].live.features
    features[[type(feature) for feature in features].index(LoadForecast)] = noted
    gateways = {area.gateway for area in town.areas}
    for area in town.areas:
        meters = [meter for meter in area.meters if meter.meter in gateways]
        engine.enroll([replace(area, meters=meters)])
    for batch in town.batches():
        if isinstance(batch, Readings):
            is_gateway = np.array([name in gateways for name in batch.names])
            engine.step(batch.select(is_gateway[batch.subject]))

    areas, ends = (sorted(set(keys)) for keys in zip(*noted.days, strict=True))
    loads: list[Array] = []
    given: list[LoadForecastColumns] = []
    for end in ends:
        of_day = [noted.days[area, end] for area in areas]
        loads.append(np.stack([load for load, _ in of_day], axis=-1))
        columns = zip(*(values for _, values in of_day), strict=True)
        stacked = [np.stack(column, axis=-1) for column in columns]
        given.append(LoadForecastColumns(*stacked))
    return _joined(np.stack(loads), given)


def accuracy(watched: ForecastDays, ahead: int) -> Accuracy:
    """How good forecasts so many days ahead are, over all hours that they and both baselines have."""
    week = 7
    hours = slice(DAY_HOURS * (ahead - 1), DAY_HOURS * ahead)
    actual, before = watched.load[week:], watched.load[week - ahead : -ahead]
    made = slice(week - ahead, -ahead)
    expected = watched.expected[made, hours]
    low, high = watched.lowest[made, hours], watched.highest[made, hours]
    last_week = watched.load[:-week]

    known = ~np.isnan(actual + expected + before + last_week)
    errors = [
        float(np.abs(guess - actual)[known].mean())
        for guess in (expected, before, last_week)
    ]
    held = float(((low <= actual) & (actual <= high))[known].mean())
    return Accuracy(errors[0], errors[1], errors[2], held)


def _forecast_table(all_watched: dict[str, ForecastDays]) -> Iterator[str]:
    """How far forecasts are off, beside both baselines."""
    yield (
        "| Load of | Forecast of | Off by, mean | Less than the same hour of the last known day | Of the week before "
        "| 90 % interval holds | Days without answer |"
    )
    yield "|---|---|---|---|---|---|---|"

    for name, watched in all_watched.items():
        for ahead in range(1, AHEAD_DAYS + 1):
            found = accuracy(watched, ahead)
            day, week = found.gains
            silent = np.isnan(watched.expected[:, 0]).mean()
            held = "" if np.isnan(watched.peak).all() else f"{found.held:.1%}"
            yield (
                f"| {name} | {('tomorrow', 'the day after')[ahead - 1]} | {found.error / np.nanmean(watched.load):.1%} "
                f"| {day:.1%} | {week:.1%} | {held} | {silent:.1%} |"
            )


class Warnings(NamedTuple):
    """Warnings of a chance, and what came of them."""

    warned: int
    passed: int  # of the warned, where the line was passed
    missed: int  # passed without a warning

    @property
    def sure(self) -> float:
        """The share of warnings after which the line was passed; NaN without any."""
        return self.passed / self.warned if self.warned else np.nan


def warnings(watched: ForecastDays, chance: float) -> Warnings:
    """Warnings of two days in which an area passes its line with such a chance.

    The line of an area is passed on one day of five.
    """
    highest = watched.load.max(axis=1)
    actual = np.fmax(highest[1:-1], highest[2:])
    line = np.nanquantile(highest, HEAVY_SHARE, axis=0)
    sure = watched.peak[:-2] - ndtri(chance) * watched.peak_error[:-2]
    known = ~np.isnan(actual + sure)
    warned, passed = known & (sure >= line), known & (actual >= line)
    return Warnings(
        int(warned.sum()), int((warned & passed).sum()), int((passed & ~warned).sum())
    )


def _warning_table(all_watched: dict[str, ForecastDays]) -> Iterator[str]:
    """What warnings of several chances are worth."""
    yield "| Load of | Chance of at least | Warned for two days | Passed the line | Of all that passed it, warned |"
    yield "|---|---|---|---|---|"
    for name, watched in all_watched.items():
        for chance in (0.5, 0.8, 0.95):
            found = warnings(watched, chance)
            share = found.passed / (found.passed + found.missed)
            came_true = f"{found.sure:.0%}" if found.warned else ""
            yield f"| {name} | {chance:.0%} | {found.warned} | {came_true} | {share:.0%} |"


def _drift_line(all_watched: dict[str, ForecastDays]) -> str:
    """How often the errors drifted."""
    counts = [
        f"{name}: {int(np.nansum(np.nanmax(watched.drifts, axis=0)))} in {len(watched.load)} days"
        for name, watched in all_watched.items()
    ]
    return f"Drifts of the error, after each of which the rule cannot tell for three weeks: {'; '.join(counts)}."


def _verdict(watched: ForecastDays, town: ForecastDays) -> str:
    """Why the rule is published, or why it is in shadow."""
    found = [accuracy(data, 1) for data in (watched, town)]
    gains = min(gain for one in found for gain in one.gains)
    held = [one.held for one in found]
    sure = warnings(watched, 0.8).sure
    earned = gains >= LESS_ERROR and all(
        HELD_SHARES[0] <= share <= HELD_SHARES[1] for share in held
    )
    status = "Published" if earned else "In shadow"
    return (
        f"{status} because the forecast of tomorrow is off by at least {gains:.1%} less than both baselines, on the "
        f"station and in the town (bar: {LESS_ERROR:.0%}), its 90 % intervals hold "
        f"{min(held):.1%} to {max(held):.1%}, and {sure:.0%} of its warnings of 80 % come true on the station."
    )


def tables(data: Path) -> dict[str, list[str]]:
    """The lines of docs/detection.md by their place."""
    columns, first_day = _station(data / STATION_NAME)
    all_watched = {
        f"the station, {name}": _watched_station(
            np.hypot(columns[active], columns[reactive]), first_day
        )
        for name, (active, reactive) in STATION_SIDES.items()
    }

    station = next(iter(all_watched.values()))
    by_river = _by_holt_winters(station.load)
    town = _watched_town()
    all_watched["the town's areas"] = town
    forecast = [
        *_forecast_table(all_watched | {"the station, high side, by river": by_river}),
        "",
        _verdict(station, town),
        "",
        *_warning_table(all_watched),
        "",
        _drift_line(all_watched),
    ]
    return {"forecast": forecast, "oil": [*oil_lines(columns)]}


def main() -> int:
    """Writes the tables into the page, or prints them."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.forecast", description=__doc__
    )
    parser.add_argument("data", type=Path, help="the folder with the station's file")
    parser.add_argument("--print", action="store_true", help="write no page")
    options = parser.parse_args()
    if not (options.data / STATION_NAME).exists():
        print(f"{options.data} has no {STATION_NAME}", file=sys.stderr)
        return 2

    made = tables(options.data)
    if options.print:
        print("\n\n".join("\n".join(lines) for lines in made.values()))
        return 0
    page = filled(PAGE_FILE.read_text("utf-8"), made, "bench.forecast")
    PAGE_FILE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
