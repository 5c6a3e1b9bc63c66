"""Which phase a meter's voltage goes with, as somebody finds out who lays printed curves on top of one another."""

from __future__ import annotations

import math
from statistics import median, median_low

from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.watch import Facts, OracleRule, whole

Hours = dict[int, list[float]]
ENOUGH_PHASE_PAIRS, ENOUGH_LOAD_PAIRS = (
    150.0,
    460.0,
)  # pairs of hours: of one's phase, and of one's load


def hourly(read: list[Facts], start: int, interval: int) -> Hours:
    """The highest voltages of the intervals with which a day's hours end."""
    every = max(HOUR_SECONDS // interval, 1)
    told: Hours = {}
    for f in read:
        hour, odd = divmod((f["at"] - start - 1) // interval + 1, every)
        if not odd and not f["stale"]:
            volts = [0.0 if math.isnan(u) else round(u / 0.02) * 0.02 for u in f["u"]]
            told[hour] = [
                max(pair) for pair in zip(told.get(hour, [0.0] * 3), volts, strict=True)
            ]
    return told


def departures(day: Facts, through: Facts) -> Hours:
    """By how many volts more the hour after each changed a meter's voltage than each phase of the gateway's."""
    m, g = day["record"], through["record"]
    if m is None or m.wiring == "3P3W" or m.pt != g.pt:
        return {}
    told: Hours = {}
    for hour in day["hours"]:
        pair = [
            (day["hours"][h][0], through["hours"].get(h, [0.0] * 3))
            for h in (hour, hour + 1)
            if h in day["hours"]
        ]
        if len(pair) == 2 and all(
            u > 0.5 * m.un_v and min(theirs) > 0.5 * g.un_v for u, theirs in pair
        ):
            (before, they), (after, then) = pair
            told[hour] = [
                after - before - (y - x) for x, y in zip(they, then, strict=True)
            ]
    return told


class Follower:
    """What is remembered of a meter's departures."""

    def __init__(self) -> None:
        self.squares, self.pairs, self.then = [0.0] * 3, 0.0, 0

    def learn(self, at: int, apart: Hours, un: float) -> float:
        """Fade by a week of half-life, and take a day in; the phase that this day, too, is clearly the nearest."""
        keep = 2 ** ((self.then - at) / (7 * DAY_SECONDS))
        calm = [three for three in apart.values() if min(map(abs, three)) <= 0.05 * un]
        today = [sum(three[n] ** 2 for three in calm) for n in range(3)]
        self.squares = [
            keep * square + more
            for square, more in zip(self.squares, today, strict=True)
        ]
        self.pairs, self.then = keep * self.pairs + len(calm), at
        nearest = self.squares.index(min(self.squares))
        return (
            nearest
            if nearest == today.index(min(today))
            and sorted(today)[1] > 1.5 * min(today)
            else NOT_A_NUMBER
        )


def followed(
    today: dict[str, Facts], followers: dict[str, Follower], gateway: str
) -> None:
    """Adds filed, found, filed_apart, found_apart, next_apart and area_apart to a day of an area's meters."""
    for meter, day in today.items():
        m = day["record"]
        day.update(
            dict.fromkeys(
                (
                    "found",
                    "filed_apart",
                    "found_apart",
                    "next_apart",
                    "area_apart",
                    "sure",
                ),
                NOT_A_NUMBER,
            )
        )
        day["filed"] = (
            "ABC".index(m.phase)
            if m and m.phase and m.wiring == "1P2W"
            else NOT_A_NUMBER
        )
        day["apart"] = apart = (
            departures(day, today[gateway])
            if gateway in today and meter != gateway
            else {}
        )
        if not apart:
            continue
        mine = followers.setdefault(meter, Follower())
        day["sure"] = mine.learn(day["at"], apart, m.un_v)
        if mine.pairs >= ENOUGH_PHASE_PAIRS:
            volts = [
                max(math.sqrt(square / mine.pairs), 0.05) for square in mine.squares
            ]
            day["found_apart"], day["next_apart"], _ = sorted(volts)
            day["found"] = volts.index(day["found_apart"])
            day["filed_apart"] = (
                NOT_A_NUMBER if math.isnan(day["filed"]) else volts[day["filed"]]
            )
    known = [day for day in today.values() if not math.isnan(day["found"])]
    for day in known:
        day["area_apart"] = (
            median(d["found_apart"] for d in known) if len(known) >= 5 else NOT_A_NUMBER
        )


Pair = tuple[
    float, float, float
]  # own load, what the neighbours depart, what the meter departs


class Coupler:
    """What is remembered of a meter's load and voltage: every pair of hours, and by day what was left over."""

    def __init__(self) -> None:
        self.days: list[
            tuple[int, float, list[Pair]]
        ] = []  # end, for how much it counts, pairs
        self.over: list[
            tuple[int, float, float, int]
        ] = []  # end, squares beside load and others, beside others

    def usual(self) -> tuple[float, float, float, float, float]:
        """V a kW, share of what the neighbours depart, mean squares left beside both and beside one, of how many."""
        last = self.days[-1][0]
        told = [
            (weight * 2 ** ((at - last) / (45 * DAY_SECONDS)), *pair)
            for at, weight, pairs in self.days
            for pair in pairs
        ]
        n = sum(w for w, *_ in told)
        xx, xm, xy = (sum(row[0] * row[1] * row[k] for row in told) for k in (1, 2, 3))
        mm, my = (sum(row[0] * row[2] * row[k] for row in told) for k in (2, 3))
        mm += n * 0.05**2
        if not xx:
            return NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, n
        slope, share = (
            (xy * mm - my * xm) / (xx * mm - xm * xm),
            (my * xx - xy * xm) / (xx * mm - xm * xm),
        )
        rest = sum(w * (y - slope * x - share * m) ** 2 for w, x, m, y in told)
        return (
            slope,
            share,
            rest / n,
            sum(w * (y - share * m) ** 2 for w, _, m, y in told) / n,
            n,
        )

    def take(self, at: int, pairs: list[Pair], day: Facts) -> None:
        """Adds dip, by_load, by_load_week and unexplained to a day as usual before it, then takes it in."""
        slope, share, rest, whole, n = (
            self.usual()
            if self.days
            else (NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, 0.0)
        )
        noise, weight = max(rest, 0.05**2), 1.0
        if not math.isnan(slope):
            beside_both = sum((y - slope * x - share * m) ** 2 for x, m, y in pairs)
            if n >= ENOUGH_LOAD_PAIRS:
                weight = min(2 * noise * len(pairs) / max(beside_both, 0.05**2), 1.0)
            self.over.append(
                (
                    at,
                    beside_both,
                    sum((y - share * m) ** 2 for _, m, y in pairs),
                    len(pairs),
                )
            )
        fading = [
            (2 ** ((end - at) / (3 * DAY_SECONDS)), *left) for end, *left in self.over
        ]
        both, one, count = (sum(f[0] * f[k] for f in fading) for k in (1, 2, 3))
        if n >= ENOUGH_LOAD_PAIRS and count >= 70:
            day |= {
                "dip": -slope,
                "by_load": 1 - rest / whole,
                "by_load_week": 1 - both / one,
                "unexplained": both / count / noise,
            }
        self.days.append((at, weight, pairs))


def coupled(
    today: dict[str, Facts], couplers: dict[str, Coupler], interval: int
) -> None:
    """Adds to a day of an area's meters how their voltages dip with their loads; after `followed`."""
    every = max(HOUR_SECONDS // interval, 1)
    lines: dict[float, list[Hours]] = {}
    for day in today.values():
        day.update(
            dict.fromkeys(
                ("dip", "by_load", "by_load_week", "unexplained"), NOT_A_NUMBER
            )
        )
        if not math.isnan(day["sure"]):
            limit, phase = 0.05 * day["record"].un_v, int(day["sure"])
            day["apart"] = {
                h: [y[phase]] for h, y in day["apart"].items() if abs(y[phase]) <= limit
            }
            lines.setdefault(day["sure"], []).append(day["apart"])
    for meter, day in today.items():
        m = day["record"]
        if math.isnan(day["sure"]) or m.wiring != "1P2W" or m.pv_kva:
            continue
        kw = {
            h: day["curve"].get(h * every - 1, NOT_A_NUMBER)
            * HOUR_SECONDS
            / max(m.interval_s, interval)
            for h in range(30)
        }
        pairs = []
        for h, (y,) in day["apart"].items():
            others = [line[h][0] for line in lines[day["sure"]] if h in line]
            if len(others) >= 5 and not math.isnan(kw[h + 1] - kw[h]):
                pairs.append((kw[h + 1] - kw[h], median_low(others), y))
        if pairs:
            couplers.setdefault(meter, Coupler()).take(day["at"], pairs, day)
    known = [day for day in today.values() if not math.isnan(day["unexplained"])]
    middle = (
        max(median(day["unexplained"] for day in known), 1) if len(known) >= 5 else 1
    )
    for day in known:
        day["unexplained"] /= middle


def decoupled(f: Facts) -> float:
    if f["by_load"] < 0.5 or f["dip"] < 0.02:
        return NOT_A_NUMBER
    return min(
        f["unexplained"] / 1.8, 0.85 * f["by_load"] / max(f["by_load_week"], 0.01)
    )


def wrong_phase(f: Facts) -> float:
    clear = f["next_apart"] / f["found_apart"] / 1.2
    if f["filed"] == f["found"]:
        return 0.0 if clear >= 1 else 0.95
    return max(min(f["filed_apart"] / f["found_apart"] / 1.4, clear), 0.95)


PHASE_RULES = {
    "phase_mismatch": OracleRule(
        whole(wrong_phase, "filed", "found"), 4, 2 * DAY_SECONDS, 7 * DAY_SECONDS
    ),
    "area_mismatch": OracleRule(
        whole(
            lambda f: min(
                f["found_apart"] / f["area_apart"] / 2.5,
                1.2 * f["found_apart"] / f["next_apart"],
            ),
            "found_apart",
            "area_apart",
        ),
        4,
        7 * DAY_SECONDS,
        7 * DAY_SECONDS,
    ),
    "voltage_current_decoupling": OracleRule(
        whole(decoupled, "by_load", "unexplained"), 2, 2 * DAY_SECONDS, 14 * DAY_SECONDS
    ),
}
