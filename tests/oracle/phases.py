"""Which phase a meter's voltage follows, and how it dips with the meter's load: least squares over pairs of hours."""

from __future__ import annotations

import math
from statistics import median, median_low
from typing import NamedTuple

from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.watch import Facts, OracleRule, whole

Hours = dict[int, list[float]]
ENOUGH_PHASE_PAIRS = 150.0  # pairs of hours that a phase is known from
ENOUGH_LOAD_PAIRS = 460.0  # pairs of hours that a load's effect is known from
PHASE_FACTS = (
    "found",
    "filed_apart",
    "found_apart",
    "next_apart",
    "area_apart",
    "sure",
)
LOAD_FACTS = ("dip", "by_load", "by_load_week", "unexplained")


def hourly(readings: list[Facts], start: int, interval: int) -> Hours:
    """The highest voltages of the intervals with which a day's hours end."""
    intervals = max(HOUR_SECONDS // interval, 1)
    hours: Hours = {}
    for reading in readings:
        hour, odd = divmod((reading["at"] - start - 1) // interval + 1, intervals)
        if odd or reading["stale"]:
            continue
        volts = [0.0 if math.isnan(U) else round(U / 0.02) * 0.02 for U in reading["u"]]
        before = hours.get(hour, [0.0] * 3)
        hours[hour] = [max(pair) for pair in zip(before, volts, strict=True)]
    return hours


def departures(day: Facts, through: Facts) -> Hours:
    """By how many volts more than each phase of the gateway a meter's voltage changed, by hour."""
    meter, gateway = day["record"], through["record"]
    if meter is None or meter.wiring == "3P3W" or meter.pt != gateway.pt:
        return {}

    def is_live(hour: int) -> bool:
        if hour not in day["hours"]:
            return False
        volts = min(through["hours"].get(hour, [0.0] * 3))
        live = day["hours"][hour][0] > 0.5 * meter.un_v
        return bool(live and volts > 0.5 * gateway.un_v)

    apart: Hours = {}
    for hour, (before, *_) in day["hours"].items():
        if is_live(hour) and is_live(hour + 1):
            after = day["hours"][hour + 1][0]
            changes = zip(
                through["hours"][hour], through["hours"][hour + 1], strict=True
            )
            apart[hour] = [after - before - (then - now) for now, then in changes]
    return apart


class Follower:
    """What is remembered of a meter's departures."""

    def __init__(self) -> None:
        self.squares, self.pairs, self.then = [0.0] * 3, 0.0, 0

    def learn(self, at: int, apart: Hours, nominal: float) -> float:
        """Fade by a half-life of a week and learn a day; the nearest phase if this day agrees, else NaN."""
        limit = 0.05 * nominal
        calm = [volts for volts in apart.values() if min(map(abs, volts)) <= limit]
        today = [0.0] * 3
        for volts in calm:
            for n in range(3):
                today[n] += volts[n] ** 2

        keep = 2 ** ((self.then - at) / (7 * DAY_SECONDS))
        for n in range(3):
            self.squares[n] = keep * self.squares[n] + today[n]
        self.pairs = keep * self.pairs + len(calm)
        self.then = at

        nearest = self.squares.index(min(self.squares))
        agrees = nearest == today.index(min(today))
        clear = sorted(today)[1] > 1.5 * min(today)
        return nearest if agrees and clear else NOT_A_NUMBER


def followed(
    today: dict[str, Facts], followers: dict[str, Follower], gateway: str
) -> None:
    """Add to a day of an area's meters the phase in the records, the phase found, and the volts apart."""
    for name, day in today.items():
        meter = day["record"]
        day.update(dict.fromkeys(PHASE_FACTS, NOT_A_NUMBER))
        filed = meter and meter.phase and meter.wiring == "1P2W"
        day["filed"] = "ABC".index(meter.phase) if filed else NOT_A_NUMBER

        day["apart"] = {}
        if gateway in today and name != gateway:
            day["apart"] = departures(day, today[gateway])
        if day["apart"]:
            find_phase(day, followers.setdefault(name, Follower()))

    known = [day for day in today.values() if not math.isnan(day["found"])]
    if len(known) >= 5:
        middle = median(day["found_apart"] for day in known)
        for day in known:
            day["area_apart"] = middle


def find_phase(day: Facts, follower: Follower) -> None:
    """Learn a day; with enough pairs of hours, add the nearest phase and the volts apart."""
    day["sure"] = follower.learn(day["at"], day["apart"], day["record"].un_v)
    if follower.pairs < ENOUGH_PHASE_PAIRS:
        return
    volts = [
        max(math.sqrt(square / follower.pairs), 0.05) for square in follower.squares
    ]
    day["found_apart"], day["next_apart"], _ = sorted(volts)
    day["found"] = volts.index(day["found_apart"])
    if not math.isnan(day["filed"]):
        day["filed_apart"] = volts[day["filed"]]


class Pair(NamedTuple):
    """By how much an hour differs from the hour before it."""

    load: float  # kW of the meter
    others: float  # V by which its neighbours depart
    volts: float  # V by which it departs


class LearnedDay(NamedTuple):
    """A day's pairs of hours, and how much they count."""

    end: int
    weight: float
    pairs: list[Pair]


class DayRest(NamedTuple):
    """Squares of a day that remain unexplained."""

    end: int
    beside_both: float  # load and neighbours
    beside_others: float  # neighbours alone
    pairs: int


class UsualEffect(NamedTuple):
    """The usual effect of a load."""

    slope: float = NOT_A_NUMBER  # V a kW
    share: float = NOT_A_NUMBER  # of the neighbours' departure
    beside_both: float = NOT_A_NUMBER  # mean square beside load and neighbours
    beside_others: float = NOT_A_NUMBER  # mean square beside the neighbours alone
    pairs: float = 0.0  # their fading number


class Coupler:
    """What is remembered of a meter's load and voltage: every pair of hours, and by day the unexplained squares."""

    def __init__(self) -> None:
        self.days: list[LearnedDay] = []
        self.rests: list[DayRest] = []

    def usual(self) -> UsualEffect:
        """The regression of the departures on load and neighbours, fading by a half-life of 45 days."""
        if not self.days:
            return UsualEffect()
        weights: list[float] = []
        pairs: list[Pair] = []
        for day in self.days:
            fading = 2 ** ((day.end - self.days[-1].end) / (45 * DAY_SECONDS))
            weights += [day.weight * fading] * len(day.pairs)
            pairs += day.pairs

        def moment(i: int, k: int) -> float:
            weighted = zip(weights, pairs, strict=True)
            return sum(weight * pair[i] * pair[k] for weight, pair in weighted)

        count = sum(weights)
        load_load, load_others, load_volts = moment(0, 0), moment(0, 1), moment(0, 2)
        others_others, others_volts = moment(1, 1), moment(1, 2)
        others_others += count * 0.05**2
        if not load_load:
            return UsualEffect(pairs=count)

        scale = load_load * others_others - load_others * load_others
        slope = (load_volts * others_others - others_volts * load_others) / scale
        share = (others_volts * load_load - load_volts * load_others) / scale
        both = others = 0.0
        for weight, pair in zip(weights, pairs, strict=True):
            both += weight * rest_beside_both(pair, slope, share) ** 2
            others += weight * (pair.volts - share * pair.others) ** 2
        return UsualEffect(slope, share, both / count, others / count, count)

    def take(self, at: int, pairs: list[Pair], day: Facts) -> None:
        """Add dip, by_load, by_load_week and unexplained to a day by the usual before it, then learn the day."""
        usual = self.usual()
        noise = max(usual.beside_both, 0.05**2)
        weight = 1.0
        if not math.isnan(usual.slope):
            rest = day_rest(at, pairs, usual)
            if usual.pairs >= ENOUGH_LOAD_PAIRS:
                unusual = max(rest.beside_both, 0.05**2)
                weight = min(2 * noise * len(pairs) / unusual, 1.0)
            self.rests.append(rest)

        # The last days' squares fade by a half-life of three days.
        both = others = count = 0.0
        for rest in self.rests:
            fading = 2 ** ((rest.end - at) / (3 * DAY_SECONDS))
            both += fading * rest.beside_both
            others += fading * rest.beside_others
            count += fading * rest.pairs
        if usual.pairs >= ENOUGH_LOAD_PAIRS and count >= 70:
            day |= {
                "dip": -usual.slope,
                "by_load": 1 - usual.beside_both / usual.beside_others,
                "by_load_week": 1 - both / others,
                "unexplained": both / count / noise,
            }
        self.days.append(LearnedDay(at, weight, pairs))


def rest_beside_both(pair: Pair, slope: float, share: float) -> float:
    """The volts that neither load nor neighbours explain."""
    return pair.volts - slope * pair.load - share * pair.others


def day_rest(at: int, pairs: list[Pair], usual: UsualEffect) -> DayRest:
    """The squares of a day that the usual effect does not explain."""
    slope, share = usual.slope, usual.share
    both = sum(rest_beside_both(pair, slope, share) ** 2 for pair in pairs)
    others = sum((pair.volts - share * pair.others) ** 2 for pair in pairs)
    return DayRest(at, both, others, len(pairs))


def coupled(
    today: dict[str, Facts], couplers: dict[str, Coupler], interval: int
) -> None:
    """Add to a day of an area's meters how their voltages dip with their loads; after `followed`."""
    lines = phase_lines(today)
    for name, day in today.items():
        meter = day["record"]
        if math.isnan(day["sure"]) or meter.wiring != "1P2W" or meter.pv_kva:
            continue
        pairs = pairs_of(day, lines[day["sure"]], interval)
        if pairs:
            couplers.setdefault(name, Coupler()).take(day["at"], pairs, day)

    # What the whole area does not explain is no fault of a single meter.
    known = [day for day in today.values() if not math.isnan(day["unexplained"])]
    middle = 1.0
    if len(known) >= 5:
        middle = max(median(day["unexplained"] for day in known), 1)
    for day in known:
        day["unexplained"] /= middle


def phase_lines(today: dict[str, Facts]) -> dict[float, list[Hours]]:
    """By phase the departures of its meters; a day's departures become those from its own phase."""
    lines: dict[float, list[Hours]] = {}
    for day in today.values():
        day.update(dict.fromkeys(LOAD_FACTS, NOT_A_NUMBER))
        if math.isnan(day["sure"]):
            continue
        limit = 0.05 * day["record"].un_v
        phase = int(day["sure"])
        day["apart"] = {
            hour: [volts[phase]]
            for hour, volts in day["apart"].items()
            if abs(volts[phase]) <= limit
        }
        lines.setdefault(day["sure"], []).append(day["apart"])
    return lines


def pairs_of(day: Facts, line: list[Hours], interval: int) -> list[Pair]:
    """A day's pairs of hours with a known load and five meters or more on the phase."""
    intervals = max(HOUR_SECONDS // interval, 1)
    step = max(day["record"].interval_s, interval)

    def power(hour: int) -> float:
        kwh = day["curve"].get(hour * intervals - 1, NOT_A_NUMBER)
        return kwh * HOUR_SECONDS / step

    pairs: list[Pair] = []
    for hour, (volts,) in day["apart"].items():
        others = [hours[hour][0] for hours in line if hour in hours]
        load = power(hour + 1) - power(hour)
        if len(others) >= 5 and not math.isnan(load):
            pairs.append(Pair(load, median_low(others), volts))
    return pairs


def phase_mismatch(facts: Facts) -> float:
    clear = facts["next_apart"] / facts["found_apart"] / 1.2
    if facts["filed"] == facts["found"]:
        return 0.0 if clear >= 1 else 0.95
    wrong = facts["filed_apart"] / facts["found_apart"] / 1.4
    return max(min(wrong, clear), 0.95)


def area_mismatch(facts: Facts) -> float:
    found = facts["found_apart"]
    return min(found / facts["area_apart"] / 2.5, 1.2 * found / facts["next_apart"])


def voltage_current_decoupling(facts: Facts) -> float:
    if facts["by_load"] < 0.5 or facts["dip"] < 0.02:
        return NOT_A_NUMBER
    lost = 0.85 * facts["by_load"] / max(facts["by_load_week"], 0.01)
    return min(facts["unexplained"] / 1.8, lost)


PHASE_RULES = {
    "phase_mismatch": OracleRule(
        whole(phase_mismatch, "filed", "found"),
        severity=4,
        hold=2 * DAY_SECONDS,
        release=7 * DAY_SECONDS,
    ),
    "area_mismatch": OracleRule(
        whole(area_mismatch, "found_apart", "area_apart"),
        severity=4,
        hold=7 * DAY_SECONDS,
        release=7 * DAY_SECONDS,
    ),
    "voltage_current_decoupling": OracleRule(
        whole(voltage_current_decoupling, "by_load", "unexplained"),
        severity=2,
        hold=2 * DAY_SECONDS,
        release=14 * DAY_SECONDS,
    ),
}
