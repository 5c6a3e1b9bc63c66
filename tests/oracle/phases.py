"""Which phase a meter's voltage goes with, as somebody finds out who lays printed curves on top of one another."""

from __future__ import annotations

import math
from statistics import median

from tests.hostile import DAY, HOUR, NAN
from tests.oracle.watch import Facts, Rule, whole

Hours = dict[int, list[float]]


def hourly(read: list[Facts], start: int, interval: int) -> Hours:
    """The highest voltages of the intervals with which a day's hours end."""
    every = max(HOUR // interval, 1)
    told: Hours = {}
    for f in read:
        hour, odd = divmod((f["at"] - start - 1) // interval + 1, every)
        if not odd and not f["stale"]:
            volts = [0.0 if math.isnan(u) else round(u / 0.02) * 0.02 for u in f["u"]]
            told[hour] = [max(pair) for pair in zip(told.get(hour, [0.0] * 3), volts, strict=True)]
    return told


def departures(day: Facts, through: Facts) -> list[list[float]]:
    """By how many volts more each hour changed a meter's voltage than each phase of the gateway's."""
    m, g = day["record"], through["record"]
    if m is None or m.wiring == "3P3W" or m.pt != g.pt:
        return []
    told = []
    for hour in day["hours"]:
        pair = [(day["hours"][h][0], through["hours"].get(h, [0.0] * 3)) for h in (hour, hour + 1) if h in day["hours"]]
        if len(pair) == 2 and all(u > 0.5 * m.un_v and min(theirs) > 0.5 * g.un_v for u, theirs in pair):
            (before, they), (after, then) = pair
            told.append([after - before - (y - x) for x, y in zip(they, then, strict=True)])
    return told


class Follower:
    """What is remembered of a meter's departures."""

    def __init__(self) -> None:
        self.squares, self.pairs, self.then = [0.0] * 3, 0.0, 0

    def learn(self, at: int, apart: list[list[float]], un: float) -> None:
        """Fade by a week of half-life, and take a day in."""
        keep = 2 ** ((self.then - at) / (7 * DAY))
        calm = [three for three in apart if min(map(abs, three)) <= 0.05 * un]
        self.squares = [keep * self.squares[n] + sum(three[n] ** 2 for three in calm) for n in range(3)]
        self.pairs, self.then = keep * self.pairs + len(calm), at


def followed(today: dict[str, Facts], followers: dict[str, Follower], gateway: str) -> None:
    """Adds filed, found, filed_apart, found_apart, next_apart and area_apart to a day of an area's meters."""
    for meter, day in today.items():
        m = day["record"]
        day.update(dict.fromkeys(("found", "filed_apart", "found_apart", "next_apart", "area_apart"), NAN))
        day["filed"] = "ABC".index(m.phase) if m and m.phase and m.wiring == "1P2W" else NAN
        apart = departures(day, today[gateway]) if gateway in today and meter != gateway else []
        if not apart:
            continue
        mine = followers.setdefault(meter, Follower())
        mine.learn(day["at"], apart, m.un_v)
        if mine.pairs >= 150:
            volts = [max(math.sqrt(square / mine.pairs), 0.05) for square in mine.squares]
            day["found_apart"], day["next_apart"], _ = sorted(volts)
            day["found"] = volts.index(day["found_apart"])
            day["filed_apart"] = NAN if math.isnan(day["filed"]) else volts[day["filed"]]
    known = [day for day in today.values() if not math.isnan(day["found"])]
    for day in known:
        day["area_apart"] = median(d["found_apart"] for d in known) if len(known) >= 5 else NAN


def misfiled(f: Facts) -> float:
    clear = f["next_apart"] / f["found_apart"] / 1.2
    if f["filed"] == f["found"]:
        return 0.0 if clear >= 1 else 0.95
    return max(min(f["filed_apart"] / f["found_apart"] / 1.4, clear), 0.95)


PHASES = {
    "phase_mismatch": Rule(whole(misfiled, "filed", "found"), 4, 2 * DAY, 7 * DAY),
    "area_mismatch": Rule(whole(
        lambda f: min(f["found_apart"] / f["area_apart"] / 2.5, 1.2 * f["found_apart"] / f["next_apart"]),
        "found_apart", "area_apart"), 4, 2 * DAY, 7 * DAY),
}  # fmt: skip
