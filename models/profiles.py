"""What a customer's days look like: each day's form, and how far it is from that customer's own and the peers' days.

Peers are the users of the same area and segment on the same day, so that no partitioning can change who they are.
Holidays are days of their own kind, the weeks around Spring Festival tell and teach nothing but the month's sum.
What trouble there is teaches little: a day counts within half to twice the usual, a sliding meter's for a quarter.
"""

from __future__ import annotations

import numpy as np

from models.calendar import FESTIVAL_KIND, HOLIDAY_KIND, day_kinds, day_of, month_of
from models.cells import Cells
from models.features import Columns, Feature
from models.runs import crowded
from schemas.columns import Codes, Column, Mask
from schemas.units import DAY_SECONDS, HOUR_SECONDS

COVERED_SHARE = 0.9  # of a day's intervals, measured
DAY_HOURS = 24
HALF_LIFE = 28.0  # days over which the usual fades
YOUNG_DAYS = 7  # days after which what is unheard of counts for less
LEAST_LEARNED = (
    0.05  # that may be learned beyond twice the usual, where nothing was usual
)
USE_CLASS_COUNT = 4  # residential to agricultural, the first of a row's segments
LEAST_PEERS = 5  # fewer do not speak for the weather
LEAST_SPREAD = 0.15  # of a customer's daily changes: nobody is steadier
HEATING_TEMPERATURE, COOLING_TEMPERATURE = (
    15.0,
    24.0,
)  # deg C below which one heats, above which one cools
SLIDE_ALLOWANCE, SLIDE_CAP = (
    0.5,
    16.0,
)  # spreads that a day may fall short, and how much shortfall is remembered
SUSPECT_SLIDE = 4.0  # shortfall from which a day teaches a quarter
FOR_GOOD = 90  # days of a slide from which on they teach in full: what has lasted so long is becoming the usual


def _fading(half_life: float) -> float:
    """What is left of a memory after one day."""
    return float(2 ** (-1 / half_life))


def _learned(
    usual: Column,
    value: Column,
    seen: Column,
    rate: Column | float = 1.0,
    least: float = LEAST_LEARNED,
    untamed: Mask | bool = False,
) -> Column:
    """The usual after a day's value, within half to twice the usual after the first week; NaN teaches nothing."""
    tamed = np.where(
        (seen < YOUNG_DAYS) | untamed,
        value,
        np.clip(value, usual / 2, 2 * usual + least),
    )
    share = np.maximum(1 - _fading(HALF_LIFE), 1 / (seen + 1)) * rate
    after = np.where(np.isnan(usual), value, usual + share * (tamed - usual))
    return np.where(np.isnan(value), usual, after)


def _crowds(areas: Codes, segments: Column) -> Codes:
    """A number for the area and class of customer of each row."""
    return np.asarray(
        areas.astype(np.int64) << USE_CLASS_COUNT
        | segments.astype(np.int64) & (1 << USE_CLASS_COUNT) - 1
    )


def _peer_median(areas: Codes, segments: Column, values: Column) -> Column:
    """The median of the peers' values; NaN where fewer than five have one."""
    told = np.flatnonzero(~np.isnan(values))
    if len(told) < LEAST_PEERS:
        return np.full(len(values), np.nan)
    crowd = _crowds(areas, segments)
    medians = {
        one: np.median(values[told[rows]])
        for one, rows in crowded(crowd[told], LEAST_PEERS)
    }
    known, place = np.unique(crowd, return_inverse=True)
    return np.array([medians.get(one, np.nan) for one in known.tolist()])[place]


def _beyond_peers(values: Column, shared: Column) -> Column:
    """What is left of values without what the peers, where there are enough, have in the same direction."""
    return values - np.clip(
        np.nan_to_num(shared), np.minimum(values, 0), np.maximum(values, 0)
    )


class Shape(Feature):
    """The form of a day, from its curve; NaN where less than 90 % of it was measured, and of the area's own meter."""

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
        self._zone, self._interval = zone, interval
        self.cells = Cells()
        turns = np.outer(2 * np.pi * np.arange(DAY_HOURS) / DAY_HOURS, (1, 2))
        self._harmonics = np.concatenate(
            [np.cos(turns), np.sin(turns)], axis=1
        )  # of a day and of half a day

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds the day's energy and its form.

        used_kwh, primary, as if every interval were read; hours, its kWh by hour; standing, the mean of its lowest
        six hours; variation and rhythm, the hours' spread and daily swing over their mean; top_kwh, the highest
        interval; top_share, how many lie within 1 % of it; high_kwh, the 95th percentile; valley_share, the energy in
        the tariff's valley hours; day_kind, of the calendar.
        """
        curve = columns["curve"] * columns["ratio"]
        step = np.fmax(columns["interval_s"], self._interval)
        told = ~np.isnan(curve)
        count = told.sum(axis=0)
        whole = (count >= COVERED_SHARE * DAY_SECONDS / step) & (
            columns["is_gateway"] == 0
        )
        curve = np.where(whole, curve, np.nan)
        used = np.where(
            whole,
            np.nansum(curve, axis=0) / np.maximum(count, 1) * DAY_SECONDS / step,
            np.nan,
        )
        hours = self._hours_of(curve, step)
        known = ~np.isnan(hours)
        mean = np.where(
            known.sum(axis=0) >= COVERED_SHARE * DAY_HOURS,
            np.nansum(hours, axis=0) / known.sum(axis=0),
            np.nan,
        )
        swing = np.where(known, hours - mean, 0.0)
        ordered = np.sort(hours, axis=0)  # NaN last
        sizes = np.sort(curve, axis=0)
        rows = np.arange(curve.shape[1])
        top = sizes[np.maximum(count - 1, 0), rows]
        within = np.sum(sizes >= 0.99 * top, axis=0)
        clock = np.arange(DAY_HOURS)[:, None]
        since, until = columns["valley_from"], columns["valley_until"]
        valley = np.where(
            since < until,
            (clock >= since) & (clock < until),
            (clock >= since) | (clock < until),
        )
        return {
            "used_kwh": used,
            "hours": hours,
            "standing": np.where(np.isnan(mean), np.nan, ordered[:6].mean(axis=0)),
            "variation": np.sqrt(np.sum(swing**2, axis=0) / known.sum(axis=0)) / mean,
            "rhythm": np.sqrt(np.sum((self._harmonics.T @ swing) ** 2, axis=0))
            * 2
            / DAY_HOURS
            / mean,
            "top_kwh": top,
            "top_share": np.where(top > 0, within / count, np.nan),
            "high_kwh": sizes[np.maximum((count * 95 - 1) // 100, 0), rows],
            "valley_share": np.nansum(np.where(valley, hours, 0), axis=0)
            / (mean * known.sum(axis=0)),
            "day_kind": day_kinds(self._zone)[day_of(columns["at"], self._zone)].astype(
                float
            ),
        }

    def _hours_of(self, curve: Column, step: Column) -> Column:
        """The kWh of each hour since midnight; NaN where an interval of it is missing, or longer than an hour."""
        rows = curve.shape[1]
        if HOUR_SECONDS % self._interval == 0:
            parts = HOUR_SECONDS // self._interval
            cut = curve[: DAY_HOURS * parts].reshape(DAY_HOURS, parts, rows)
            full = np.sum(~np.isnan(cut), axis=1) * step == HOUR_SECONDS
            return np.where(full, np.nansum(cut, axis=1), np.nan)
        if self._interval % HOUR_SECONDS == 0 and DAY_SECONDS % self._interval == 0:
            parts = self._interval // HOUR_SECONDS
            return np.repeat(curve[: DAY_HOURS // parts], parts, axis=0) / parts
        return np.full((DAY_HOURS, rows), np.nan)


class Routine(Feature):
    """What a customer uses on a day of its kind, and how far below it has slid."""

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
    TELLING_SHARE = 0.1  # of the expected use, that a standing load must be for its fall to say something
    WEATHER_FADE = _fading(60.0)  # of what weather does to a customer
    EMPTY_SHARE, LIVED_IN_SHARE = (
        0.1,
        0.6,
    )  # of the expected use: below the one nobody is there, from the other on somebody is
    PRIOR_SQUARES = 2.0  # squares of ten degrees that speak against it at first
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
            used=np.float32(0),
            excused=np.float32(0),
            standing=np.float32(np.nan),
            stands=np.float32(0),
            stood=np.float32(0),
            degrees=np.full(
                2, np.nan, np.float32
            ),  # tens of them to heat and to cool on a usual day
            squares=np.zeros(2, np.float32),
            moved=np.zeros(2, np.float32),  # of changes of them, and of use with them
            emptied=np.bool_(0),
            before=np.float32(np.nan),
            year_least=np.float32(np.nan),
            year_most=np.float32(np.nan),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds what was to be expected and how it compares.

        expected_kwh, by the level of about four weeks, the kind of the day and, where the temperature is told, what the
        weather has done to this customer; change, the log of the use over it, and
        excess, what the peers do not share of that; spread, the usual size of the excess; known_days; kept and
        kept_standing, the share of the expected use and of the usual standing load that the last few days reached;
        slide, the cumulative sum of shortfalls in spreads (k = 0.5), and slide_days, how long it has lasted; emptied, 1
        since next to nothing of the expected use was left, until most of it is there again; left, the share of the
        expected use that is there today, peers considered, and peers_left, what the peers have left of theirs, NaN of
        fewer than five; kept_year and over_year, the last few days over the least and the most that this time of the
        year brought before; before_kwh, the level before next to nothing was left, until people are back; usual_kinds,
        each kind of day's use over the level.
        """
        c, rows = self.cells, np.arange(len(slots))
        kind = np.where(np.isnan(columns["day_kind"]), 0, columns["day_kind"]).astype(
            np.int64
        )
        used = np.where(kind == FESTIVAL_KIND, np.nan, columns["used_kwh"])
        kind = np.minimum(kind, HOLIDAY_KIND)
        held = {name: c[name][..., slots].astype(np.float64) for name in c.arrays}
        level, here, seen, spread = (
            held["level"],
            held["kinds"][kind, rows],
            held["seen"],
            held["spread"],
        )
        weather, degrees = self._weather(held, columns["temperature"])
        expected = level * here * np.exp(weather)
        change = np.log((used + self.LEAST_KWH) / (expected + self.LEAST_KWH))
        peers = _peer_median(columns["area"], columns["segments"], change)
        excess = _beyond_peers(change, peers)
        told = ~np.isnan(excess)
        slide = np.clip(
            held["slide"] - np.clip(excess / spread, -3, 3) - SLIDE_ALLOWANCE,
            0,
            SLIDE_CAP,
        )
        slide = np.where(told, np.where(seen < HALF_LIFE, 0.0, slide), held["slide"])
        days = np.where(
            told, np.where(slide > 0, held["slide_days"] + 1, 0), held["slide_days"]
        )
        keep = self.RECENT_FADE
        recent = np.where(told, keep * held["used"] + used, held["used"])
        excused = np.where(
            told,
            keep * held["excused"] + expected * np.exp(change - excess),
            held["excused"],
        )
        standing = np.where(told, columns["standing"], np.nan)
        stands = np.where(
            np.isnan(standing), held["stands"], keep * held["stands"] + standing
        )
        stood = np.where(
            np.isnan(standing), held["stood"], keep * held["stood"] + held["standing"]
        )
        kept = recent / excused
        emptied = (held["emptied"] > 0) & ~(told & (kept >= self.LIVED_IN_SHARE)) | (
            told & (kept < self.EMPTY_SHARE)
        )
        year = {
            name: self._last_year(held[name], columns[f"{name}_kwh"], told)
            for name in ("year_least", "year_most")
        }

        before = np.where(
            told & emptied & np.isnan(held["before"]), level, held["before"]
        )
        back = told & (recent * (1 - keep) >= self.LIVED_IN_SHARE * before)
        kept_before = np.where(back | ((slide == 0) & ~emptied), np.nan, before)
        days = np.where(back, 0, days)
        for_good = (slide >= SUSPECT_SLIDE) & (days >= FOR_GOOD)
        rate = np.where((slide >= SUSPECT_SLIDE) & ~for_good, 0.25, 1.0)
        held_now = held | {"level": np.where(back, before, level)}
        self._learn(
            slots,
            held_now,
            used / np.exp(weather),
            kind,
            rate,
            excess,
            standing,
            for_good,
        )
        self._learn_weather(slots, held, degrees, change + weather, rate)

        for name, value in (
            ("slide", slide),
            ("slide_days", days),
            ("used", recent),
            ("excused", excused),
            ("stands", stands),
            ("stood", np.where(np.isnan(stood), 0, stood)),
            ("emptied", emptied),
            ("before", kept_before),
            *year.items(),
        ):
            c[name][slots] = value
        gone = {
            name: np.where(told, value, np.nan)
            for name, value in {
                "expected_kwh": expected,
                "excess": excess,
                "spread": spread,
                "known_days": seen,
                "kept": kept,
                "kept_standing": np.where(
                    stood * DAY_HOURS >= self.TELLING_SHARE * excused,
                    stands / stood,
                    np.nan,
                ),
                "slide": slide,
                "slide_days": days,
                "emptied": emptied.astype(float),
                "left": np.exp(excess),
                "peers_left": np.exp(peers),
                "kept_year": recent / year["year_least"],
                "over_year": recent / year["year_most"],
                "before_kwh": before,
            }.items()
        }
        return {"change": change, "usual_kinds": held["kinds"]} | gone

    def _last_year(self, before: Column, kwh: Column, known: Column) -> Column:
        """The fading sum of what this time of the year brought before, as `used` is that of what was used."""
        steady = kwh / (1 - self.RECENT_FADE)
        after = np.where(np.isnan(before), steady, self.RECENT_FADE * before + kwh)
        return np.where(known, after, before)

    def _weather(self, memory: Columns, temperature: Column) -> tuple[Column, Column]:
        """The log by which the weather moves a day's use, else 0; and the tens of degrees to heat and to cool."""
        degrees = (
            np.maximum(
                [HEATING_TEMPERATURE - temperature, temperature - COOLING_TEMPERATURE],
                0,
            )
            / 10
        )
        slope = np.clip(
            memory["moved"] / (memory["squares"] + self.PRIOR_SQUARES),
            0,
            self.MOST_EFFECT,
        )
        return np.nansum(slope * (degrees - memory["degrees"]), axis=0), degrees

    def _learn_weather(
        self,
        slots: Codes,
        memory: Columns,
        degrees: Column,
        change: Column,
        rate: Column,
    ) -> None:
        """Take into what the weather does how a day's use, log over that of its kind, went with its degrees."""
        c, told = self.cells, ~np.isnan(change) & ~np.isnan(degrees[0])
        off = np.where(np.isnan(memory["degrees"]), 0, degrees - memory["degrees"])
        tamed = np.clip(change, -np.log(2), np.log(2))
        for name, more in (("squares", off**2), ("moved", off * tamed)):
            c[name][:, slots] = np.where(
                told, self.WEATHER_FADE * memory[name] + rate * more, memory[name]
            )
        share = np.maximum(1 - _fading(HALF_LIFE), 1 / (memory["seen"] + 1))
        after = np.where(
            np.isnan(memory["degrees"]), degrees, memory["degrees"] + share * off
        )
        c["degrees"][:, slots] = np.where(told, after, memory["degrees"])

    def _learn(
        self,
        slots: Codes,
        memory: Columns,
        used: Column,
        kind: Codes,
        rate: Column,
        excess: Column,
        standing: Column,
        for_good: Mask,
    ) -> None:
        """Take a day into the usual, one of a slide that is for good as it is."""
        c, seen, rows = self.cells, memory["seen"], np.arange(len(slots))
        level, here = memory["level"], memory["kinds"][kind, rows]
        share = used / level
        sooner = (
            np.where(
                kind == HOLIDAY_KIND, 1 / 3, np.maximum(1 - _fading(8), 7 / (seen + 14))
            )
            * rate
        )
        first = np.where(rate < 1, np.nan, share)
        turned = np.where(
            np.isnan(here),
            first,
            here + sooner * (np.clip(share, here / 2, 2 * here + 0.1) - here),
        )
        c["kinds"][kind, slots] = np.where(np.isfinite(turned), turned, here)
        c["level"][slots] = _learned(
            level,
            np.where(here > 0, used / here, np.nan),
            seen,
            rate,
            10 * LEAST_LEARNED,
            for_good,
        )
        size = np.minimum(
            np.abs(excess) * 1.25,
            np.where(seen < YOUNG_DAYS, np.inf, 3 * memory["spread"]),
        )
        c["spread"][slots] = np.maximum(
            _learned(memory["spread"], size, seen, rate), LEAST_SPREAD
        )
        c["standing"][slots] = _learned(
            memory["standing"], standing, seen, rate, untamed=for_good
        )
        c["seen"][slots] = np.minimum(seen + ~np.isnan(used), 9999)


class Form(Feature):
    """What form a customer's days usually have, and how they differ from it."""

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

    SAME_SHARE = 0.02  # by which the top of one clipped day may differ from the last
    CLIPPED_SHARE = 0.05  # of the intervals lie at the top
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
        """Adds the usual and how the day differs from it.

        usual_variation, usual_rhythm and usual_high_kwh; clipped_days, how many days with many intervals at the top
        had the same top, clip_kwh, with none above it between; valley_rise, by how much the valley hours' share has
        lately exceeded the usual and the peers' rise, and valley_usual; kept_lately, the share of the expected use
        meanwhile.
        """
        c = self.cells
        held = {name: c[name][slots].astype(np.float64) for name in c.arrays}
        told = ~np.isnan(columns["known_days"]) & (columns["day_kind"] < HOLIDAY_KIND)
        day = {name: np.where(told, columns[name], np.nan) for name in self.takes[3:]}
        seen = np.where(told, columns["known_days"], 0.0)
        top, before = day["top_kwh"], held["top"]
        flat, over = (
            day["top_share"] >= self.CLIPPED_SHARE,
            top > (1 + self.SAME_SHARE) * before,
        )
        again = flat & ~over & (top >= (1 - self.SAME_SHARE) * before)
        clipped = np.where(
            again,
            np.minimum(held["clipped"] + 1, 250),
            np.where(over, 0, held["clipped"]),
        )
        clipped = np.where(flat & ~again, 1, clipped)
        c["clipped"][slots] = clipped
        c["top"][slots] = clip = np.where(flat & ~again, top, before)
        c["variation"][slots] = _learned(held["variation"], day["variation"], seen)
        c["rhythm"][slots] = _learned(held["rhythm"], day["rhythm"], seen)
        c["high"][slots] = _learned(
            held["high"], day["high_kwh"], seen, np.where(clipped > 1, 0.25, 1.0)
        )
        share, keep = day["valley_share"], self.RECENT_FADE
        known = ~np.isnan(share) & ~np.isnan(day["excess"])
        late = np.where(known, keep * held["late"] + share, held["late"])
        weight = np.where(known, keep * held["weight"] + 1, held["weight"])
        expected = day["expected_kwh"]
        used = np.where(
            known, keep * held["used"] + expected * np.exp(day["excess"]), held["used"]
        )
        excused = np.where(known, keep * held["excused"] + expected, held["excused"])
        rise = np.where(known, late / weight - held["valley"], np.nan)
        peers = _peer_median(columns["area"], columns["segments"], rise)
        c["valley"][slots] = _learned(
            held["valley"],
            share,
            seen,
            np.where(np.abs(rise) > self.MOVED_SHARE, 0.25, 1.0),
        )
        for name, value in (
            ("late", late),
            ("weight", weight),
            ("used", used),
            ("excused", excused),
        ):
            c[name][slots] = value
        return {
            "usual_variation": held["variation"],
            "usual_rhythm": held["rhythm"],
            "usual_high_kwh": held["high"],
            "clipped_days": np.where(np.isnan(top), np.nan, clipped),
            "clip_kwh": clip,
            "valley_rise": _beyond_peers(rise, peers),
            "valley_usual": held["valley"],
            "kept_lately": np.where(known, used / excused, np.nan),
        }


class Darkness(Feature):
    """Hours in which nothing is used though use was usual, and at which clock time they come again."""

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
    USED_KWH, USED_SHARE = (
        0.05,
        0.2,
    )  # kWh in the hour, and of the mean hour, that count as use
    LIVELY_SHARE = (
        0.5  # of the usual in the other hours: the premises are not simply closed
    )

    def __init__(self) -> None:
        self.cells = Cells(
            usual=np.full(DAY_HOURS, np.nan, np.float16),
            dark=np.zeros(self.REMEMBERED_DAYS + 1, np.uint32),
            share=np.float32(0),
        )

    def fold(self, slots: Codes, columns: Columns) -> Columns:
        """Adds dark_days, on how many of the last seven days the same four hours were dark, the hour dark_from which.

        dark_kwh is what those hours usually bring, dark_before the share of earlier days with four such hours anywhere,
        usual_hours the usual kWh of every hour.
        """
        c, more = (
            self.cells,
            self.DARK_HOURS - 1,
        )  # hours of the day before that a stretch may begin with
        told = ~np.isnan(columns["known_days"]) & (columns["day_kind"] < HOLIDAY_KIND)
        hours = np.where(told, columns["hours"], np.nan)
        told &= ~np.isnan(hours).all(axis=0)
        usual = c["usual"][:, slots].astype(np.float64)
        mean = np.sum(usual, axis=0, where=~np.isnan(usual)) / DAY_HOURS
        inhabited = (usual >= self.USED_KWH) & (usual >= self.USED_SHARE * mean)
        dark = inhabited & (hours < self.NOTHING_SHARE * usual)
        rest = ~dark & ~np.isnan(hours) & ~np.isnan(usual)
        lively = np.sum(hours, axis=0, where=rest) >= self.LIVELY_SHARE * np.sum(
            usual, axis=0, where=rest
        )
        lively &= rest.any(axis=0)
        bits = np.sum(
            (dark & lively) << np.arange(DAY_HOURS)[:, None].astype(np.int64), axis=0
        )
        ring = c["dark"][:, slots].astype(np.int64)
        ring = np.where(told, np.concatenate([ring[1:], bits[None]]), ring)
        c["dark"][:, slots] = ring
        seen = np.where(told, columns["known_days"], 0.0)
        c["usual"][:, slots] = _learned(usual, hours, seen, np.where(dark, 0.25, 1.0))
        before = c["share"][slots].astype(np.float64)
        nothing = (
            hours
            < self.NOTHING_SHARE
            * np.sum(hours, axis=0, where=~np.isnan(hours))
            / DAY_HOURS
        )
        still = np.logical_and.reduce(
            [nothing[n : n + DAY_HOURS - more] for n in range(self.DARK_HOURS)]
        ).any(axis=0)
        share = np.maximum(1 - _fading(HALF_LIFE), 1 / (seen + 1)) * np.where(
            bits > 0, 0.25, 1.0
        )
        c["share"][slots] = np.where(told, before + share * (still - before), before)
        joined = ring[1:] << more | ring[:-1] >> DAY_HOURS - more
        whole = joined & joined >> 1 & joined >> 2 & joined >> 3
        counts = np.array([(whole >> n & 1).sum(axis=0) for n in range(DAY_HOURS)])
        first = counts.argmax(axis=0)
        most = counts[first, np.arange(len(slots))]
        start = (first - more) % DAY_HOURS
        lost = usual[
            (start + np.arange(self.DARK_HOURS)[:, None]) % DAY_HOURS,
            np.arange(len(slots)),
        ].sum(axis=0)
        return {
            "dark_days": np.where(told, most, np.nan),
            "dark_from": start.astype(float),
            "dark_kwh": np.where(told, np.nan_to_num(lost), np.nan),
            "dark_before": np.where(told, before, np.nan),
            "usual_hours": usual,
        }


class Months(Feature):
    """A customer's months: each against the same month as it usually is, and against the peers' by capacity."""

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

    LEAST_DAYS = 20  # told, of a month that counts
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

        month_kwh, a day of it; own_share of the same month's usual, or of the median month in the first year;
        peer_share of the peers' median by contract capacity, below_peers, robust deviations under it, and how many
        peers. A share that cannot be told is infinite where the other can. year_least_kwh and year_most_kwh, what a day
        of this month, of the one before and of the one after used in the years before; NaN where this month is unknown.
        """
        c, rows = self.cells, np.arange(len(slots))
        held = {name: c[name][..., slots].astype(np.float64) for name in c.arrays}
        told, used = ~np.isnan(columns["used_kwh"]), columns["used_kwh"]
        month = month_of(day_of(columns["at"], self._zone))[0] % 12
        around = held["usual"][(month + np.array([[-1], [0], [1]])) % 12, rows]
        around = np.where(np.isnan(around[1]), np.nan, around)
        ended = told & (held["month"] >= 0) & (held["month"] != month)
        last, share = held["last"], held["share"]
        if ended.any():
            which = np.maximum(held["month"], 0).astype(np.int64)
            last = np.where(
                ended,
                np.where(
                    held["days"] >= self.LEAST_DAYS, held["sum"] / held["days"], np.nan
                ),
                last,
            )
            same, middle = held["usual"][which, rows], self._middle(held["usual"])
            usual = np.where(np.isnan(same), middle, same)
            share = np.where(ended, last / usual, share)
            first = np.where(
                np.isnan(middle), last, np.clip(last, middle / 4, 4 * middle)
            )
            after = np.where(
                np.isnan(same), first, (same + np.clip(last, same / 2, 2 * same)) / 2
            )
            c["usual"][which, slots] = np.where(ended & ~np.isnan(last), after, same)
        fresh = ended | (held["month"] < 0)
        c["sum"][slots] = np.where(
            told, np.where(fresh, 0, held["sum"]) + used, held["sum"]
        )
        c["days"][slots] = np.where(
            told, np.where(fresh, 0, held["days"]) + 1, held["days"]
        )
        c["month"][slots] = np.where(told, month, held["month"])
        c["last"][slots], c["share"][slots] = last, share
        size = np.log(
            (last + 0.01) / (columns["contract_kva"] - columns["suspended_kva"])
        )
        size = np.where(np.isfinite(size), size, np.nan)
        ahead, spread, peers = self._among_peers(
            columns["area"], columns["segments"], size
        )
        unknown = np.isnan(share) & np.isnan(ahead)
        return {
            "month_kwh": np.where(told, last, np.nan),
            "own_share": np.where(
                unknown | ~told, np.nan, np.where(np.isnan(share), np.inf, share)
            ),
            "peer_share": np.where(
                unknown | ~told,
                np.nan,
                np.where(np.isnan(ahead), np.inf, np.exp(ahead)),
            ),
            "below_peers": np.where(told, -ahead / spread, np.nan),
            "peers": peers,
            "year_least_kwh": np.fmin.reduce(around),
            "year_most_kwh": np.fmax.reduce(around),
        }

    def _middle(self, usual: Column) -> Column:
        """The median of the months known, where three are."""
        ordered, known = np.sort(usual, axis=0), (~np.isnan(usual)).sum(axis=0)
        rows = np.arange(usual.shape[1])
        both = (
            ordered[np.maximum(known - 1, 0) // 2, rows]
            + ordered[np.minimum(known // 2, len(usual) - 1), rows]
        )
        return np.where(known >= self.LEAST_MONTHS, both / 2, np.nan)

    def _among_peers(
        self, areas: Codes, segments: Column, size: Column
    ) -> tuple[Column, Column, Column]:
        """How far each is above its peers' median, the peers' spread, and how many they are; NaN among too few."""
        ahead, spread, peers = np.full((3, len(size)), np.nan)
        known = np.flatnonzero(~np.isnan(size))
        crowd = _crowds(areas[known], segments[known])
        _, place, counts = np.unique(crowd, return_inverse=True, return_counts=True)
        peers[known] = counts[place]
        for _, rows in crowded(crowd, LEAST_PEERS):
            told = known[rows]
            ahead[told] = size[told] - np.median(size[told])
            spread[told] = max(
                1.4826 * float(np.median(np.abs(ahead[told]))), self.LEAST_SPREAD
            )
        return ahead, spread, peers
