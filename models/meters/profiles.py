"""The form of each customer's days, beside the customer's usual days and the peers' days.

Peers are the users of the same area and segment on the same day, so that no partitioning can change
who they are. Holidays are days of their own kind. The weeks around Spring Festival count for the
month's sum alone. Trouble teaches little: a day counts within half to twice the usual, a sliding
meter's day for a quarter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.master.calendar import (
    FESTIVAL_KIND,
    HOLIDAY_KIND,
    day_kinds,
    day_of,
    month_of,
)
from models.meters.basics import Columns, Feature
from models.state.cells import Cells
from models.state.runs import crowded
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS, HOUR_SECONDS

COVERED_SHARE = 0.9  # of a day's intervals, measured
DAY_HOURS = 24
HALF_LIFE = 28.0  # days over which the usual fades
YOUNG_DAYS = 7  # days after which an unusual value counts for less
LEAST_LEARNED = 0.05  # learned beyond twice the usual, so that zero can grow
USE_CLASS_COUNT = 4  # residential to agricultural, the first of a row's segments
LEAST_PEERS = 5  # fewer peers do not show the weather
LEAST_SPREAD = 0.15  # of a customer's daily changes: nobody is steadier
HEATING_TEMPERATURE = 15.0  # deg C below which customers heat
COOLING_TEMPERATURE = 24.0  # deg C above which customers cool
SLIDE_ALLOWANCE = 0.5  # spreads that a day may fall short
SLIDE_CAP = 16.0  # spreads of shortfall that are remembered
SUSPECT_SLIDE = 4.0  # spreads of shortfall from which a day teaches a quarter
FOR_GOOD = 90  # days after which a slide teaches in full: it becomes the usual


def _fading(half_life: float) -> float:
    """The share of a memory that is left after one day."""
    return float(2 ** (-1 / half_life))


def _learned(
    usual: Column,
    value: Column,
    seen: Column,
    rate: Column | float = 1.0,
    least: float = LEAST_LEARNED,
    untamed: Mask | bool = False,
) -> Column:
    """The usual after a day's value, within half to twice the usual after the first week.

    NaN teaches nothing.
    """
    tamed = np.where(
        (seen < YOUNG_DAYS) | untamed,
        value,
        np.clip(value, usual / 2, 2 * usual + least),
    )
    share = _teaching_share(seen) * rate
    after = np.where(np.isnan(usual), value, usual + share * (tamed - usual))
    return np.where(np.isnan(value), usual, after)


def _teaching_share(seen: Column) -> Column:
    """The weight of a day in the usual: of a plain mean at first, later of the half-life."""
    return np.asarray(np.maximum(1 - _fading(HALF_LIFE), 1 / (seen + 1)))


def _remembered(cells: Cells, slots: Codes) -> Columns:
    """The cells of some slots, in double precision."""
    return {
        name: array[..., slots].astype(np.float64)
        for name, array in cells.arrays.items()
    }


def _ordinary_days(columns: Columns) -> Mask:
    """True on a known customer's days except holidays and the weeks around Spring Festival."""
    return np.asarray(
        ~np.isnan(columns["known_days"]) & (columns["day_kind"] < HOLIDAY_KIND)
    )


def _peer_groups(areas: Codes, segments: Column) -> Codes:
    """A number for the area and use class of each row."""
    return np.asarray(
        areas.astype(np.int64) << USE_CLASS_COUNT
        | segments.astype(np.int64) & (1 << USE_CLASS_COUNT) - 1
    )


def _peer_median(areas: Codes, segments: Column, values: Column) -> Column:
    """The median of the peers' values; NaN where fewer than five have one."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < LEAST_PEERS:
        return np.full(len(values), np.nan)

    groups = _peer_groups(areas, segments)
    medians = {
        group: np.median(values[known[rows]])
        for group, rows in crowded(groups[known], LEAST_PEERS)
    }
    distinct, places = np.unique(groups, return_inverse=True)
    return np.array([medians.get(group, np.nan) for group in distinct.tolist()])[places]


def _beyond_peers(values: Column, shared: Column) -> Column:
    """Values without the peers' share in the same direction, where there are enough peers."""
    return values - np.clip(
        np.nan_to_num(shared), np.minimum(values, 0), np.maximum(values, 0)
    )


class Shape(Feature):
    """The form of a day, from its curve.

    NaN where less than 90 % of it was measured, and of the gateway meter.
    """

    reads: tuple[str, ...] = ("curve",)
    takes: tuple[str, ...] = (
        "at",
        "interval_s",
        "ratio",
        "is_gateway",
        "valley_from",
        "valley_until",
    )
    gives: tuple[str, ...] = (
        "used_kwh",
        "hours",
        "standing",
        "variation",
        "rhythm",
        "top_kwh",
        "top_share",
        "high_kwh",
        "valley_share",
        "day_kind",
    )

    def __init__(self, zone: str, interval: int) -> None:
        self._zone = zone
        self._interval = interval
        self.cells = Cells()

        # The harmonics of a day and of half a day.
        angles = np.outer(2 * np.pi * np.arange(DAY_HOURS) / DAY_HOURS, (1, 2))
        self._harmonics = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the day's energy and its form.

        used_kwh: primary, as if every interval were read
        hours: kWh of each hour
        standing: mean of the lowest six hours
        variation, rhythm: spread and daily swing of the hours, over their mean
        top_kwh: the highest interval
        top_share: share of the intervals within 1 % of the highest
        high_kwh: 95th percentile of the intervals
        valley_share: share of the energy in the tariff's valley hours
        day_kind: by the calendar
        """
        curve = columns["curve"] * columns["ratio"]
        step = np.fmax(columns["interval_s"], self._interval)
        count = (~np.isnan(curve)).sum(axis=0)
        covered = count >= COVERED_SHARE * DAY_SECONDS / step
        whole = covered & (columns["is_gateway"] == 0)
        curve = np.where(whole, curve, np.nan)

        used = np.nansum(curve, axis=0) / np.maximum(count, 1) * DAY_SECONDS / step
        hours = self._hours_of(curve, step)
        known_hours = (~np.isnan(hours)).sum(axis=0)
        mean = np.where(
            known_hours >= COVERED_SHARE * DAY_HOURS,
            np.nansum(hours, axis=0) / known_hours,
            np.nan,
        )
        valley = _valley_hours(columns["valley_from"], columns["valley_until"])
        valley_kwh = np.nansum(np.where(valley, hours, 0), axis=0)
        days = day_of(columns["at"], self._zone)
        return {
            "used_kwh": np.where(whole, used, np.nan),
            "hours": hours,
            **self._hourly_form(hours, mean),
            **self._highest_intervals(curve, count),
            "valley_share": valley_kwh / (mean * known_hours),
            "day_kind": day_kinds(self._zone)[days].astype(float),
        }

    def _hourly_form(self, hours: Column, mean: Column) -> Columns:
        """The columns standing, variation and rhythm."""
        known = ~np.isnan(hours)
        swing = np.where(known, hours - mean, 0.0)
        swing_by_wave = self._harmonics.T @ swing
        ordered = np.sort(hours, axis=0)  # NaN last
        return {
            "standing": np.where(np.isnan(mean), np.nan, ordered[:6].mean(axis=0)),
            "variation": np.sqrt(np.sum(swing**2, axis=0) / known.sum(axis=0)) / mean,
            "rhythm": np.sqrt(np.sum(swing_by_wave**2, axis=0)) * 2 / DAY_HOURS / mean,
        }

    @staticmethod
    def _highest_intervals(curve: Column, count: Codes) -> Columns:
        """The columns top_kwh, top_share and high_kwh, of so many known intervals."""
        ordered = np.sort(curve, axis=0)  # NaN last
        rows = np.arange(curve.shape[1])
        top = ordered[np.maximum(count - 1, 0), rows]
        at_top = np.sum(ordered >= 0.99 * top, axis=0)
        return {
            "top_kwh": top,
            "top_share": np.where(top > 0, at_top / count, np.nan),
            "high_kwh": ordered[np.maximum((count * 95 - 1) // 100, 0), rows],
        }

    def _hours_of(self, curve: Column, step: Column) -> Column:
        """The kWh of each hour since midnight.

        NaN where an interval of it is missing, or longer than an hour.
        """
        rows = curve.shape[1]
        if HOUR_SECONDS % self._interval == 0:
            per_hour = HOUR_SECONDS // self._interval
            intervals = curve[: DAY_HOURS * per_hour].reshape(DAY_HOURS, per_hour, rows)
            full = np.sum(~np.isnan(intervals), axis=1) * step == HOUR_SECONDS
            return np.where(full, np.nansum(intervals, axis=1), np.nan)

        if self._interval % HOUR_SECONDS == 0 and DAY_SECONDS % self._interval == 0:
            length = self._interval // HOUR_SECONDS  # hours
            return np.repeat(curve[: DAY_HOURS // length], length, axis=0) / length
        return np.full((DAY_HOURS, rows), np.nan)


def _valley_hours(since: Column, until: Column) -> Mask:
    """True for each hour of the day in the tariff's valley, which may span midnight."""
    hour = np.arange(DAY_HOURS)[:, None]
    return np.where(
        since < until,
        (hour >= since) & (hour < until),
        (hour >= since) | (hour < until),
    )


class _RoutineDay(NamedTuple):
    """A day's use beside the expected use, by row."""

    kind: Codes
    used: Column  # kWh, NaN in the weeks around Spring Festival
    standing: Column  # NaN where the day is not judged
    weather: Column  # log of its effect on the use
    degrees: Column  # tens of them, to heat and to cool
    expected: Column  # kWh
    change: Column  # log of the use over the expected
    peers: Column  # median of the peers' change
    excess: Column  # change beyond the peers'; NaN where the day is not judged


class Routine(Feature):
    """A customer's use on a day of its kind, and how far below it the use has slid."""

    reads: tuple[str, ...] = ("used_kwh",)
    takes: tuple[str, ...] = (
        "at",
        "area",
        "segments",
        "standing",
        "day_kind",
        "temperature",
        "year_least_kwh",
        "year_most_kwh",
    )
    gives: tuple[str, ...] = (
        "expected_kwh",
        "change",
        "excess",
        "spread",
        "known_days",
        "kept",
        "kept_standing",
        "slide",
        "slide_days",
        "usual_kinds",
        "emptied",
        "left",
        "peers_left",
        "kept_year",
        "over_year",
        "before_kwh",
    )

    RECENT_FADE = _fading(2.0)
    DAY_KINDS = 8  # of days: the weekdays and holidays
    LEAST_KWH = 0.05  # kWh beside which changes do not count
    STANDING_SHARE = 0.1  # of the expected use: a smaller standing load is not judged
    WEATHER_FADE = _fading(60.0)  # of the weather's effect on a customer
    EMPTY_SHARE = 0.1  # of the expected use: with less, nobody is there
    LIVED_IN_SHARE = 0.6  # of the expected use: from here on somebody is there
    PRIOR_SQUARES = 2.0  # squares of ten degrees that count against it at first
    MOST_EFFECT = 1.0  # log of the use that ten degrees may move

    def __init__(self) -> None:
        usual = np.full(self.DAY_KINDS, np.nan, np.float32)
        usual[:HOLIDAY_KIND] = 1
        self.cells = Cells(
            level=np.float32(np.nan),
            kinds=usual,
            spread=np.float32(LEAST_SPREAD),
            seen=np.int16(0),
            slide=np.float32(0),
            slide_days=np.int16(0),
            # fading sums of the use, of the use to expect, and of standing loads
            used=np.float32(0),
            excused=np.float32(0),
            standing=np.float32(np.nan),
            stands=np.float32(0),
            stood=np.float32(0),
            # tens of degrees to heat and to cool: of a usual day, the sum of the
            # squares of their changes, and of the use that went with these
            degrees=np.full(2, np.nan, np.float32),
            squares=np.zeros(2, np.float32),
            moved=np.zeros(2, np.float32),
            emptied=np.bool_(0),
            before=np.float32(np.nan),
            year_least=np.float32(np.nan),
            year_most=np.float32(np.nan),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the expected use and how the day's use compares.

        expected_kwh: by the level of about four weeks, the kind of the day and, where the
            temperature is known, the weather's past effect on this customer
        change: log of the use over the expected
        excess: the part of the change that the peers do not share
        spread: usual size of the excess
        known_days: days that taught the level
        kept, kept_standing: share of the expected use and of the usual standing load that the last
            few days reached
        slide: cumulative sum of shortfalls in spreads (k = 0.5)
        slide_days: days that the slide has lasted
        usual_kinds: use of each kind of day over the level
        emptied: 1 since next to nothing of the expected use was left, until most of it is there
            again
        left: share of the expected use that is there today, peers considered
        peers_left: share of their expected use that the peers have left; NaN of fewer than five
        kept_year, over_year: the last few days over the least and the most that this time of the
            year brought before
        before_kwh: level before next to nothing was left, until people are back
        """
        memory = _remembered(self.cells, slots)
        day = self._beside_expected(memory, columns)
        judged = ~np.isnan(day.excess)
        recent = self._recent(memory, day, columns)
        kept = recent["used"] / recent["excused"]

        # Whether the premises are empty, since when they slide, and who is back.
        emptied = (memory["emptied"] > 0) & ~(judged & (kept >= self.LIVED_IN_SHARE))
        emptied = emptied | (judged & (kept < self.EMPTY_SHARE))
        before = np.where(
            judged & emptied & np.isnan(memory["before"]),
            memory["level"],
            memory["before"],
        )
        back = judged & (
            recent["used"] * (1 - self.RECENT_FADE) >= self.LIVED_IN_SHARE * before
        )
        slide, slide_days = _slide(memory, day.excess)
        slide_days = np.where(back, 0, slide_days)

        # The day is learned.
        suspect = slide >= SUSPECT_SLIDE
        for_good = suspect & (slide_days >= FOR_GOOD)
        rate = np.where(suspect & ~for_good, 0.25, 1.0)
        memory["level"] = np.where(back, before, memory["level"])
        self._learn(slots, memory, day, rate, for_good)
        self._learn_weather(slots, memory, day, rate)
        lived_in = back | ((slide == 0) & ~emptied)
        self.cells.write(
            slots,
            {
                "slide": slide,
                "slide_days": slide_days,
                **recent,
                "stood": np.where(np.isnan(recent["stood"]), 0, recent["stood"]),
                "emptied": emptied,
                "before": np.where(lived_in, np.nan, before),
            },
        )

        judged_columns = {
            "expected_kwh": day.expected,
            "excess": day.excess,
            "spread": memory["spread"],
            "known_days": memory["seen"],
            "kept": kept,
            "kept_standing": self._kept_standing(recent),
            "slide": slide,
            "slide_days": slide_days,
            "emptied": emptied.astype(float),
            "left": np.exp(day.excess),
            "peers_left": np.exp(day.peers),
            "kept_year": recent["used"] / recent["year_least"],
            "over_year": recent["used"] / recent["year_most"],
            "before_kwh": before,
        }
        return {"change": day.change, "usual_kinds": memory["kinds"]} | {
            name: np.where(judged, values, np.nan)
            for name, values in judged_columns.items()
        }

    def _beside_expected(self, memory: Columns, columns: Columns) -> _RoutineDay:
        """The day's use beside the expected use, with and without the peers' change."""
        kind = np.where(np.isnan(columns["day_kind"]), 0, columns["day_kind"])
        kind = kind.astype(np.int64)
        used = np.where(kind == FESTIVAL_KIND, np.nan, columns["used_kwh"])
        kind = np.minimum(kind, HOLIDAY_KIND)

        weather, degrees = self._weather(memory, columns["temperature"])
        usual_kind = memory["kinds"][kind, np.arange(len(kind))]
        expected = memory["level"] * usual_kind * np.exp(weather)
        change = np.log((used + self.LEAST_KWH) / (expected + self.LEAST_KWH))
        peers = _peer_median(columns["area"], columns["segments"], change)
        excess = _beyond_peers(change, peers)
        return _RoutineDay(
            kind=kind,
            used=used,
            standing=np.where(np.isnan(excess), np.nan, columns["standing"]),
            weather=weather,
            degrees=degrees,
            expected=expected,
            change=change,
            peers=peers,
            excess=excess,
        )

    def _recent(self, memory: Columns, day: _RoutineDay, columns: Columns) -> Columns:
        """The fading sums of the last few days, by cell."""
        keep = self.RECENT_FADE
        judged = ~np.isnan(day.excess)
        stands = ~np.isnan(day.standing)
        excused = day.expected * np.exp(day.change - day.excess)

        def added(name: str, known: Mask, value: Column) -> Column:
            return np.where(known, keep * memory[name] + value, memory[name])

        recent = {
            "used": added("used", judged, day.used),
            "excused": added("excused", judged, excused),
            "stands": added("stands", stands, day.standing),
            "stood": added("stood", stands, memory["standing"]),
        }
        for name in ("year_least", "year_most"):
            kwh = columns[f"{name}_kwh"]
            recent[name] = self._last_year(memory[name], kwh, judged)
        return recent

    def _kept_standing(self, recent: Columns) -> Column:
        """The share of the usual standing load that is there; NaN where the usual one is small."""
        large = recent["stood"] * DAY_HOURS >= self.STANDING_SHARE * recent["excused"]
        return np.where(large, recent["stands"] / recent["stood"], np.nan)

    def _last_year(self, before: Column, kwh: Column, known: Mask) -> Column:
        """The fading sum of earlier years' use at this time of the year, beside the cell `used`."""
        steady = kwh / (1 - self.RECENT_FADE)
        after = np.where(np.isnan(before), steady, self.RECENT_FADE * before + kwh)
        return np.where(known, after, before)

    def _weather(self, memory: Columns, temperature: Column) -> tuple[Column, Column]:
        """The log by which the weather moves a day's use, else 0.

        And the tens of degrees to heat and to cool.
        """
        to_heat = HEATING_TEMPERATURE - temperature
        to_cool = temperature - COOLING_TEMPERATURE
        degrees = np.maximum([to_heat, to_cool], 0) / 10
        slope = np.clip(
            memory["moved"] / (memory["squares"] + self.PRIOR_SQUARES),
            0,
            self.MOST_EFFECT,
        )
        return np.nansum(slope * (degrees - memory["degrees"]), axis=0), degrees

    def _learn_weather(
        self, slots: Codes, memory: Columns, day: _RoutineDay, rate: Column
    ) -> None:
        """Learns how the day's use, as a log over that of its kind, goes with its degrees."""
        usual = memory["degrees"]
        change = day.change + day.weather
        known = ~np.isnan(change) & ~np.isnan(day.degrees[0])
        off = np.where(np.isnan(usual), 0, day.degrees - usual)
        tamed = np.clip(change, -np.log(2), np.log(2))

        for name, more in (("squares", off**2), ("moved", off * tamed)):
            after = self.WEATHER_FADE * memory[name] + rate * more
            self.cells[name][:, slots] = np.where(known, after, memory[name])

        share = _teaching_share(memory["seen"])
        after = np.where(np.isnan(usual), day.degrees, usual + share * off)
        self.cells["degrees"][:, slots] = np.where(known, after, usual)

    def _learn(
        self,
        slots: Codes,
        memory: Columns,
        day: _RoutineDay,
        rate: Column,
        for_good: Mask,
    ) -> None:
        """Learns a day's use, spread and standing load.

        The days of a slide that is for good teach in full.
        """
        seen = memory["seen"]
        level = memory["level"]
        used = day.used / np.exp(day.weather)

        # The use of the day's kind, faster than the level.
        usual_kind = memory["kinds"][day.kind, np.arange(len(slots))]
        kind_rate = np.where(
            day.kind == HOLIDAY_KIND,
            1 / 3,
            np.maximum(1 - _fading(8), 7 / (seen + 14)),
        )
        share = used / level
        tamed = np.clip(share, usual_kind / 2, 2 * usual_kind + 0.1)
        kind_after = np.where(
            np.isnan(usual_kind),
            np.where(rate < 1, np.nan, share),
            usual_kind + kind_rate * rate * (tamed - usual_kind),
        )
        kind_after = np.where(np.isfinite(kind_after), kind_after, usual_kind)

        level_after = _learned(
            level,
            np.where(usual_kind > 0, used / usual_kind, np.nan),
            seen,
            rate,
            least=10 * LEAST_LEARNED,
            untamed=for_good,
        )
        widest = np.where(seen < YOUNG_DAYS, np.inf, 3 * memory["spread"])
        size = np.minimum(np.abs(day.excess) * 1.25, widest)
        spread = _learned(memory["spread"], size, seen, rate)
        standing = _learned(
            memory["standing"], day.standing, seen, rate, untamed=for_good
        )
        self.cells["kinds"][day.kind, slots] = kind_after
        self.cells["level"][slots] = level_after
        self.cells["spread"][slots] = np.maximum(spread, LEAST_SPREAD)
        self.cells["standing"][slots] = standing
        self.cells["seen"][slots] = np.minimum(seen + ~np.isnan(used), 9999)


def _slide(memory: Columns, excess: Column) -> tuple[Column, Column]:
    """The cumulative sum of shortfalls after a day, in spreads, and the days that it has lasted."""
    judged = ~np.isnan(excess)
    shortfall = np.clip(excess / memory["spread"], -3, 3)
    slide = np.clip(memory["slide"] - shortfall - SLIDE_ALLOWANCE, 0, SLIDE_CAP)
    slide = np.where(memory["seen"] < HALF_LIFE, 0.0, slide)
    slide = np.where(judged, slide, memory["slide"])
    days = np.where(slide > 0, memory["slide_days"] + 1, 0)
    return slide, np.where(judged, days, memory["slide_days"])


class Form(Feature):
    """The usual form of a customer's days, and how the days differ from it."""

    reads: tuple[str, ...] = ("used_kwh",)
    takes: tuple[str, ...] = (
        "area",
        "segments",
        "day_kind",
        "known_days",
        "variation",
        "rhythm",
        "top_kwh",
        "top_share",
        "high_kwh",
        "valley_share",
        "excess",
        "expected_kwh",
    )
    gives: tuple[str, ...] = (
        "usual_variation",
        "usual_rhythm",
        "usual_high_kwh",
        "clipped_days",
        "clip_kwh",
        "valley_rise",
        "valley_usual",
        "kept_lately",
    )

    SAME_SHARE = 0.02  # by which the tops of two clipped days may differ
    CLIPPED_SHARE = 0.05  # of the intervals that lie at the top of a clipped day
    RECENT_FADE = _fading(3.0)
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

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the usual form and how the day differs from it.

        usual_variation, usual_rhythm, usual_high_kwh: as of a usual day
        clipped_days: days with many intervals at the same top
        clip_kwh: that top, with none above it between
        valley_rise: recent rise of the valley hours' share over the usual, beyond the peers' rise
        valley_usual: usual share of the valley hours
        kept_lately: share of the expected use in the same days
        """
        memory = _remembered(self.cells, slots)
        known = _ordinary_days(columns)
        seen = np.where(known, columns["known_days"], 0.0)
        day = {name: np.where(known, columns[name], np.nan) for name in self.takes[3:]}

        clipped, clip = self._clipped(memory, day)
        valley_share = day["valley_share"]
        comparable = ~np.isnan(valley_share) & ~np.isnan(day["excess"])
        recent = self._recent(memory, day, comparable)
        rise = recent["late"] / recent["weight"] - memory["valley"]
        rise = np.where(comparable, rise, np.nan)
        peers = _peer_median(columns["area"], columns["segments"], rise)

        high_rate = np.where(clipped > 1, 0.25, 1.0)
        valley_rate = np.where(np.abs(rise) > self.MOVED_SHARE, 0.25, 1.0)
        kept = recent["used"] / recent["excused"]
        self.cells.write(
            slots,
            {
                "clipped": clipped,
                "top": clip,
                "variation": _learned(memory["variation"], day["variation"], seen),
                "rhythm": _learned(memory["rhythm"], day["rhythm"], seen),
                "high": _learned(memory["high"], day["high_kwh"], seen, high_rate),
                "valley": _learned(memory["valley"], valley_share, seen, valley_rate),
                **recent,
            },
        )
        return {
            "usual_variation": memory["variation"],
            "usual_rhythm": memory["rhythm"],
            "usual_high_kwh": memory["high"],
            "clipped_days": np.where(np.isnan(day["top_kwh"]), np.nan, clipped),
            "clip_kwh": clip,
            "valley_rise": _beyond_peers(rise, peers),
            "valley_usual": memory["valley"],
            "kept_lately": np.where(comparable, kept, np.nan),
        }

    def _clipped(self, memory: Columns, day: Columns) -> tuple[Column, Column]:
        """The number of days clipped at the same top, and that top."""
        top = day["top_kwh"]
        before = memory["top"]
        flat = day["top_share"] >= self.CLIPPED_SHARE
        above = top > (1 + self.SAME_SHARE) * before
        same = flat & ~above & (top >= (1 - self.SAME_SHARE) * before)

        first = flat & ~same
        clipped = np.where(above, 0, memory["clipped"])
        clipped = np.where(same, np.minimum(memory["clipped"] + 1, 250), clipped)
        return np.where(first, 1, clipped), np.where(first, top, before)

    def _recent(self, memory: Columns, day: Columns, known: Mask) -> Columns:
        """The fading sums of the last few days, by cell."""
        expected = day["expected_kwh"]
        added: dict[str, Column | float] = {
            "late": day["valley_share"],
            "weight": 1,
            "used": expected * np.exp(day["excess"]),
            "excused": expected,
        }
        return {
            name: np.where(known, self.RECENT_FADE * memory[name] + value, memory[name])
            for name, value in added.items()
        }


class Darkness(Feature):
    """Hours without use though use was usual, and the time of day at which they recur."""

    reads: tuple[str, ...] = ("used_kwh",)
    takes: tuple[str, ...] = ("hours", "day_kind", "known_days")
    gives: tuple[str, ...] = (
        "dark_days",
        "dark_from",
        "dark_kwh",
        "dark_before",
        "usual_hours",
    )

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

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the dark hours of the last seven days.

        dark_days: days on which the same four hours were dark
        dark_from: first of these hours
        dark_kwh: usual use of these hours
        dark_before: share of earlier days with four such hours anywhere
        usual_hours: usual kWh of every hour
        """
        known = _ordinary_days(columns)
        hours = np.where(known, columns["hours"], np.nan)
        known &= ~np.isnan(hours).all(axis=0)
        seen = np.where(known, columns["known_days"], 0.0)
        usual = self.cells["usual"][:, slots].astype(np.float64)
        before = self.cells["share"][slots].astype(np.float64)

        # The dark hours of each day are the bits of a number.
        dark, bits = self._dark(usual, hours)
        ring = self.cells["dark"][:, slots].astype(np.int64)
        ring = np.where(known, np.concatenate([ring[1:], bits[None]]), ring)

        self.cells["dark"][:, slots] = ring
        hour_rate = np.where(dark, 0.25, 1.0)
        self.cells["usual"][:, slots] = _learned(usual, hours, seen, hour_rate)
        share = _teaching_share(seen) * np.where(bits > 0, 0.25, 1.0)
        after = before + share * (self._unused(hours) - before)
        self.cells["share"][slots] = np.where(known, after, before)

        days, start = self._recurring(ring)
        stretch = (start + np.arange(self.DARK_HOURS)[:, None]) % DAY_HOURS
        lost = usual[stretch, np.arange(len(slots))].sum(axis=0)
        return {
            "dark_days": np.where(known, days, np.nan),
            "dark_from": start.astype(float),
            "dark_kwh": np.where(known, np.nan_to_num(lost), np.nan),
            "dark_before": np.where(known, before, np.nan),
            "usual_hours": usual,
        }

    def _dark(self, usual: Column, hours: Column) -> tuple[Mask, Codes]:
        """The hours without use though use was usual, and their bits.

        These are 0 on a day without use in other hours.
        """
        mean = np.sum(usual, axis=0, where=~np.isnan(usual)) / DAY_HOURS
        inhabited = (usual >= self.USED_KWH) & (usual >= self.USED_SHARE * mean)
        dark = inhabited & (hours < self.NOTHING_SHARE * usual)

        others = ~dark & ~np.isnan(hours) & ~np.isnan(usual)
        used = np.sum(hours, axis=0, where=others)
        expected = np.sum(usual, axis=0, where=others)
        lively = (used >= self.LIVELY_SHARE * expected) & others.any(axis=0)

        hour = np.arange(DAY_HOURS)[:, None].astype(np.int64)
        return dark, np.sum((dark & lively) << hour, axis=0)

    def _unused(self, hours: Column) -> Mask:
        """True on days with four hours on end without use."""
        total = np.sum(hours, axis=0, where=~np.isnan(hours))
        nothing = hours < self.NOTHING_SHARE * total / DAY_HOURS
        starts = DAY_HOURS - self.DARK_HOURS + 1
        stretches = [nothing[n : n + starts] for n in range(self.DARK_HOURS)]
        return np.asarray(np.logical_and.reduce(stretches).any(axis=0))

    def _recurring(self, ring: Codes) -> tuple[Codes, Codes]:
        """The most days on which the same four hours were dark, and the first of these hours."""
        more = self.DARK_HOURS - 1  # hours of the day before that a stretch may have
        joined = ring[1:] << more | ring[:-1] >> DAY_HOURS - more
        whole = joined & joined >> 1 & joined >> 2 & joined >> 3
        counts = np.array([(whole >> n & 1).sum(axis=0) for n in range(DAY_HOURS)])
        first = counts.argmax(axis=0)
        days = counts[first, np.arange(ring.shape[1])]
        return days, (first - more) % DAY_HOURS


class Months(Feature):
    """A customer's months, beside the usual month and beside the peers' by capacity."""

    reads: tuple[str, ...] = ("used_kwh",)
    takes: tuple[str, ...] = ("at", "area", "segments", "contract_kva", "suspended_kva")
    gives: tuple[str, ...] = (
        "month_kwh",
        "own_share",
        "peer_share",
        "below_peers",
        "peers",
        "year_least_kwh",
        "year_most_kwh",
    )

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

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the last whole month and its standing.

        month_kwh: kWh a day
        own_share: share of the same month's usual, or of the median month in the first year
        peer_share: share of the peers' median by contract capacity
        below_peers: robust deviations under that median
        peers: how many peers there are
        year_least_kwh, year_most_kwh: least and most kWh a day of this month, of the month before
            and of the month after in the years before; NaN where this month is unknown

        If only one of own_share and peer_share is known, the other is infinite.
        """
        memory = _remembered(self.cells, slots)
        used = columns["used_kwh"]
        known = ~np.isnan(used)
        month = month_of(day_of(columns["at"], self._zone))[0] % 12
        years = self._years(memory["usual"], month)

        ended = known & (memory["month"] >= 0) & (memory["month"] != month)
        last = memory["last"]
        share = memory["share"]
        if ended.any():
            last, share = self._end_months(slots, memory, ended)
        fresh = ended | (memory["month"] < 0)
        total = np.where(fresh, 0, memory["sum"]) + used
        days = np.where(fresh, 0, memory["days"]) + 1
        self.cells.write(
            slots,
            {
                "sum": np.where(known, total, memory["sum"]),
                "days": np.where(known, days, memory["days"]),
                "month": np.where(known, month, memory["month"]),
                "last": last,
                "share": share,
            },
        )
        return {
            "month_kwh": np.where(known, last, np.nan),
            **self._standing(columns, known, last, share),
            **years,
        }

    def _end_months(
        self, slots: Codes, memory: Columns, ended: Mask
    ) -> tuple[Column, Column]:
        """Learns the months that ended.

        Gives each customer's last month and its share of the usual.
        """
        month = np.maximum(memory["month"], 0).astype(np.int64)
        counts = memory["days"] >= self.LEAST_DAYS
        mean = np.where(counts, memory["sum"] / memory["days"], np.nan)
        last = np.where(ended, mean, memory["last"])

        same = memory["usual"][month, np.arange(len(slots))]
        middle = self._middle(memory["usual"])
        usual = np.where(np.isnan(same), middle, same)
        share = np.where(ended, last / usual, memory["share"])

        # A month not met before is learned within a quarter to four times the median.
        tamed = np.clip(last, middle / 4, 4 * middle)
        first = np.where(np.isnan(middle), last, tamed)
        again = (same + np.clip(last, same / 2, 2 * same)) / 2
        after = np.where(np.isnan(same), first, again)
        learned = ended & ~np.isnan(last)
        self.cells["usual"][month, slots] = np.where(learned, after, same)
        return last, share

    @staticmethod
    def _years(usual: Column, month: Codes) -> Columns:
        """The columns year_least_kwh and year_most_kwh."""
        months = (month + np.array([[-1], [0], [1]])) % 12
        around = usual[months, np.arange(len(month))]
        around = np.where(np.isnan(around[1]), np.nan, around)
        return {
            "year_least_kwh": np.fmin.reduce(around),
            "year_most_kwh": np.fmax.reduce(around),
        }

    def _standing(
        self, columns: Columns, known: Mask, last: Column, share: Column
    ) -> Columns:
        """The columns own_share, peer_share, below_peers and peers."""
        capacity = columns["contract_kva"] - columns["suspended_kva"]
        size = np.log((last + 0.01) / capacity)
        size = np.where(np.isfinite(size), size, np.nan)
        ahead, spread, peers = self._among_peers(
            columns["area"], columns["segments"], size
        )

        hidden = (np.isnan(share) & np.isnan(ahead)) | ~known
        own_share = np.where(np.isnan(share), np.inf, share)
        peer_share = np.where(np.isnan(ahead), np.inf, np.exp(ahead))
        return {
            "own_share": np.where(hidden, np.nan, own_share),
            "peer_share": np.where(hidden, np.nan, peer_share),
            "below_peers": np.where(known, -ahead / spread, np.nan),
            "peers": peers,
        }

    def _middle(self, usual: Column) -> Column:
        """The median of the known months; NaN of fewer than three."""
        ordered = np.sort(usual, axis=0)  # NaN last
        known = (~np.isnan(usual)).sum(axis=0)
        rows = np.arange(usual.shape[1])
        below = ordered[np.maximum(known - 1, 0) // 2, rows]
        above = ordered[np.minimum(known // 2, len(usual) - 1), rows]
        return np.where(known >= self.LEAST_MONTHS, (below + above) / 2, np.nan)

    def _among_peers(
        self, areas: Codes, segments: Column, size: Column
    ) -> tuple[Column, Column, Column]:
        """How far each is above its peers' median, the peers' spread, and their number.

        NaN among too few.
        """
        ahead, spread, peers = np.full((3, len(size)), np.nan)
        known = np.flatnonzero(~np.isnan(size))
        groups = _peer_groups(areas[known], segments[known])
        _, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
        peers[known] = counts[places]

        for _, group_rows in crowded(groups, LEAST_PEERS):
            rows = known[group_rows]
            ahead[rows] = size[rows] - np.median(size[rows])
            deviation = 1.4826 * float(np.median(np.abs(ahead[rows])))
            spread[rows] = max(deviation, self.LEAST_SPREAD)
        return ahead, spread, peers
