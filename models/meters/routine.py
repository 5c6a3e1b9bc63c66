"""A customer's use on a day of its kind, and how far below it the use has slid.

Holidays are days of their own kind. The weeks around Spring Festival count for the month's sum
alone. A sliding meter's day teaches a quarter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.feature import Feature
from models.master.calendar import FESTIVAL_KIND, HOLIDAY_KIND
from models.meters.fading import kept_share
from models.meters.peer_days import beyond_peers, peer_median
from models.meters.usual import (
    HALF_LIFE,
    LEAST_LEARNED,
    YOUNG_DAYS,
    learned,
    remembered,
    teaching_share,
)
from models.state.cells import Cells, Columns
from models.state.missing_values import only
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_HOURS

LEAST_SPREAD = 0.15  # of a customer's daily changes: nobody is steadier
HEATING_TEMPERATURE = 15.0  # deg C below which customers heat
COOLING_TEMPERATURE = 24.0  # deg C above which customers cool
SLIDE_ALLOWANCE = 0.5  # spreads that a day may fall short
SLIDE_CAP = 16.0  # spreads of shortfall that are remembered
SUSPECT_SLIDE = 4.0  # spreads of shortfall from which a day teaches a quarter
FOR_GOOD = 90  # days after which a slide teaches in full: it becomes the usual


class RoutineColumns(NamedTuple):
    """Given by Routine; but for change and usual_kinds, NaN on a day that is not judged."""

    # by the level of about four weeks, the kind of the day and, where the temperature is
    # known, the weather's past effect on this customer
    expected_kwh: Column  # primary
    change: Column  # log of the use over the expected
    excess: Column  # part of the change that the peers do not share
    spread: Column  # usual size of the excess
    known_days: Column  # that taught the level
    kept: Column  # share of the expected use that the last few days reached
    kept_standing: Column  # the same of the usual standing load
    slide: Column  # cumulative sum of shortfalls in spreads (k = 0.5)
    slide_days: Column  # that the slide has lasted
    usual_kinds: Column  # use of each kind of day over the level, (8, rows)
    # 1 since next to nothing of the expected use was left, until most of it is there again
    emptied: Column
    left: Column  # share of the expected use that is there today, peers considered
    peers_left: Column  # of their expected use, by the peers; NaN of fewer than five
    kept_year: (
        Column  # the last few days over the least that this time of the year brought
    )
    over_year: Column  # the same over the most
    before_kwh: (
        Column  # primary; level before next to nothing was left, until people are back
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
    judged: Mask  # where the excess is known


class Routine(Feature):
    """A customer's use on a day of its kind, and how far below it the use has slid."""

    RECENT_FADE = kept_share(2.0)
    DAY_KINDS = 8  # of days: the weekdays and holidays
    LEAST_KWH = 0.05  # kWh beside which changes do not count
    STANDING_SHARE = 0.1  # of the expected use: a smaller standing load is not judged
    WEATHER_FADE = kept_share(60.0)  # of the weather's effect on a customer
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

    def fold(
        self,
        slots: Codes,
        used_kwh: Column,
        *,
        area: Codes,
        segments: Column,
        standing: Column,
        day_kind: Column,
        temperature: Column,
        year_least_kwh: Column,
        year_most_kwh: Column,
    ) -> RoutineColumns:
        """The expected use, and how the day's use compares; the day is learned."""
        memory = remembered(self.cells, slots)
        kind = np.where(np.isnan(day_kind), 0, day_kind).astype(np.int64)
        used = np.where(kind == FESTIVAL_KIND, np.nan, used_kwh)
        kind = np.minimum(kind, HOLIDAY_KIND)
        weather, degrees = self._weather(memory, temperature)

        # The day's use beside the expected use, with and without the peers' change.
        usual_kind = memory["kinds"][kind, np.arange(len(kind))]
        expected = memory["level"] * usual_kind * np.exp(weather)
        ratio = (used + self.LEAST_KWH) / (expected + self.LEAST_KWH)
        change = np.log(ratio)
        peers = peer_median(area, segments, change)
        excess = beyond_peers(change, peers)
        day = _RoutineDay(
            kind=kind,
            used=used,
            standing=np.where(np.isnan(excess), np.nan, standing),
            weather=weather,
            degrees=degrees,
            expected=expected,
            change=change,
            peers=peers,
            excess=excess,
            judged=~np.isnan(excess),
        )
        recent = self._recent(memory, day)
        recent |= self._recent_years(memory, day, year_least_kwh, year_most_kwh)
        return self._compared(slots, memory, day, recent)

    def _compared(
        self, slots: Codes, memory: Columns, day: _RoutineDay, recent: Columns
    ) -> RoutineColumns:
        """The columns of a day, by the fading sums of the last few days; the day is learned."""
        judged = day.judged
        kept = recent["used"] / recent["excused"]

        # Whether the premises are empty, since when they slide, and who is back.
        lived_in = judged & (kept >= self.LIVED_IN_SHARE)
        emptied = (memory["emptied"] > 0) & ~lived_in
        emptied = emptied | (judged & (kept < self.EMPTY_SHARE))
        leaves = judged & emptied & np.isnan(memory["before"])
        before = np.where(leaves, memory["level"], memory["before"])
        steady = recent["used"] * (1 - self.RECENT_FADE)
        back = judged & (steady >= self.LIVED_IN_SHARE * before)
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

        return RoutineColumns(
            expected_kwh=only(judged, day.expected),
            change=day.change,
            excess=only(judged, day.excess),
            spread=only(judged, memory["spread"]),
            known_days=only(judged, memory["seen"]),
            kept=only(judged, kept),
            kept_standing=only(judged, self._kept_standing(recent)),
            slide=only(judged, slide),
            slide_days=only(judged, slide_days),
            usual_kinds=memory["kinds"],
            emptied=only(judged, emptied.astype(float)),
            left=only(judged, np.exp(day.excess)),
            peers_left=only(judged, np.exp(day.peers)),
            kept_year=only(judged, recent["used"] / recent["year_least"]),
            over_year=only(judged, recent["used"] / recent["year_most"]),
            before_kwh=only(judged, before),
        )

    def _recent(self, memory: Columns, day: _RoutineDay) -> Columns:
        """The fading sums of the last few days, by cell."""
        stands = ~np.isnan(day.standing)
        excused = day.expected * np.exp(day.change - day.excess)

        def added(name: str, known: Mask, value: Column) -> Column:
            after = self.RECENT_FADE * memory[name] + value
            return np.where(known, after, memory[name])

        return {
            "used": added("used", day.judged, day.used),
            "excused": added("excused", day.judged, excused),
            "stands": added("stands", stands, day.standing),
            "stood": added("stood", stands, memory["standing"]),
        }

    def _recent_years(
        self, memory: Columns, day: _RoutineDay, least: Column, most: Column
    ) -> Columns:
        """The fading sums of earlier years' use at this time of the year, by cell."""
        recent: Columns = {}
        for name, kwh in (("year_least", least), ("year_most", most)):
            before = memory[name]
            steady = kwh / (1 - self.RECENT_FADE)
            after = self.RECENT_FADE * before + kwh
            after = np.where(np.isnan(before), steady, after)
            recent[name] = np.where(day.judged, after, before)
        return recent

    def _kept_standing(self, recent: Columns) -> Column:
        """The share of the usual standing load that is there; NaN where the usual one is small."""
        large = recent["stood"] * DAY_HOURS >= self.STANDING_SHARE * recent["excused"]
        return only(large, recent["stands"] / recent["stood"])

    def _weather(self, memory: Columns, temperature: Column) -> tuple[Column, Column]:
        """The log by which the weather moves a day's use, else 0.

        And the tens of degrees to heat and to cool.
        """
        to_heat = HEATING_TEMPERATURE - temperature
        to_cool = temperature - COOLING_TEMPERATURE
        degrees = np.maximum([to_heat, to_cool], 0) / 10
        slope = memory["moved"] / (memory["squares"] + self.PRIOR_SQUARES)
        slope = np.clip(slope, 0, self.MOST_EFFECT)
        effects = slope * (degrees - memory["degrees"])
        return np.nansum(effects, axis=0), degrees

    def _learn_weather(
        self, slots: Codes, memory: Columns, day: _RoutineDay, rate: Column
    ) -> None:
        """Learns how the day's use, as a log over that of its kind, goes with its degrees."""
        usual = memory["degrees"]
        change = day.change + day.weather
        degrees = day.degrees[0]
        known = ~np.isnan(change) & ~np.isnan(degrees)
        off = np.where(np.isnan(usual), 0, day.degrees - usual)
        most = np.log(2)
        tamed = np.clip(change, -most, most)

        for name, more in (("squares", off**2), ("moved", off * tamed)):
            after = self.WEATHER_FADE * memory[name] + rate * more
            self.cells[name][:, slots] = np.where(known, after, memory[name])

        share = teaching_share(memory["seen"])
        moved = usual + share * off
        after = np.where(np.isnan(usual), day.degrees, moved)
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
        used = day.used / np.exp(day.weather)
        usual_kind = memory["kinds"][day.kind, np.arange(len(slots))]
        kind_after = _kind_learned(memory, day, used, rate)

        level_today = only(usual_kind > 0, used / usual_kind)
        level = learned(
            memory["level"],
            level_today,
            seen,
            rate,
            least=10 * LEAST_LEARNED,
            untamed=for_good,
        )
        widest = np.where(seen < YOUNG_DAYS, np.inf, 3 * memory["spread"])
        size = np.minimum(np.abs(day.excess) * 1.25, widest)
        spread = learned(memory["spread"], size, seen, rate)
        standing = learned(
            memory["standing"], day.standing, seen, rate, untamed=for_good
        )
        self.cells["kinds"][day.kind, slots] = kind_after
        self.cells["level"][slots] = level
        self.cells["spread"][slots] = np.maximum(spread, LEAST_SPREAD)
        self.cells["standing"][slots] = standing
        known_days = seen + ~np.isnan(used)
        self.cells["seen"][slots] = np.minimum(known_days, 9999)


def _kind_learned(
    memory: Columns, day: _RoutineDay, used: Column, rate: Column
) -> Column:
    """The use of the day's kind over the level after the day; it learns faster than the level."""
    usual = memory["kinds"][day.kind, np.arange(len(used))]
    of_mean = 7 / (memory["seen"] + 14)
    young_share = np.maximum(1 - kept_share(8), of_mean)
    kind_rate = np.where(day.kind == HOLIDAY_KIND, 1 / 3, young_share)
    share = used / memory["level"]
    tamed = np.clip(share, usual / 2, 2 * usual + 0.1)

    first = np.where(rate < 1, np.nan, share)
    after = usual + kind_rate * rate * (tamed - usual)
    after = np.where(np.isnan(usual), first, after)
    return np.where(np.isfinite(after), after, usual)


def _slide(memory: Columns, excess: Column) -> tuple[Column, Column]:
    """The cumulative sum of shortfalls after a day, in spreads, and the days that it has lasted."""
    judged = ~np.isnan(excess)
    shortfall = np.clip(excess / memory["spread"], -3, 3)
    slid = memory["slide"] - shortfall - SLIDE_ALLOWANCE
    slide = np.clip(slid, 0, SLIDE_CAP)
    slide = np.where(memory["seen"] < HALF_LIFE, 0.0, slide)
    slide = np.where(judged, slide, memory["slide"])
    days = np.where(slide > 0, memory["slide_days"] + 1, 0)
    return slide, np.where(judged, days, memory["slide_days"])
