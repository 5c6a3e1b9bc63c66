"""An area's windows: its watermark, its intervals, its meters' days and its energy balance."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from operator import itemgetter
from zoneinfo import ZoneInfo

from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row, Stream
from tests.oracle.forecasts import forecasted
from tests.oracle.metering import METERING_RULES, end_of_day, metered
from tests.oracle.meters import record
from tests.oracle.peaks import day_peaks, exceeded, heated
from tests.oracle.phases import (
    PHASE_RULES,
    Coupler,
    Follower,
    coupled,
    followed,
    hourly,
)
from tests.oracle.profiles import Page, profiled, shape
from tests.oracle.scores import AREA_DAY_RULES, DAY_RULES, INTERVAL_RULES
from tests.oracle.suspects import suspect
from tests.oracle.watch import Endings, Facts, judge, most, total
from tests.oracle.wiring import NEUTRAL_RULES

MISSING_DAYS_LIMIT = 60  # days without a reading
GRACE_SECONDS = 3 * DAY_SECONDS  # for which a closed day may still change
WEEK_RATE = 1 - 2 ** (-1 / 8)  # a half-life of eight readings
MONTH_RATE = 1 - 2 ** (-1 / 28)  # a half-life of 28 days


# Times.


def midnights(stream: Stream) -> list[int]:
    """Every local midnight from the day of the first reading on, to 80 days after the last row."""
    zone = ZoneInfo(stream.zone)
    times = [row.at for row in stream.rows]
    reading_times = [row.at for row in stream.rows if row.kind is Readings]
    first = min(reading_times or times)
    count = 80 + (max(times) - first) // DAY_SECONDS

    first_day = datetime.fromtimestamp(first - 1, zone)
    first_day = first_day.replace(hour=0, minute=0, second=0)
    nights: list[int] = []
    for n in range(count):
        day = first_day + timedelta(n)
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        nights.append(int(midnight.timestamp()))
    return nights


def area_watermark(rows: list[Row], single: bool) -> int:
    """The second-highest event time of the area's meters.

    If only one meter has reported for two days, its previous reading sets the watermark.
    """
    newest: dict[str, int] = {}
    watermark, since, latest = 0, 0, ""
    for row in rows:
        if row.subject != latest:
            since = row.at
        latest = row.subject
        highest = max(newest.values(), default=0)
        newest[latest] = max(newest.get(latest, 0), row.at)

        watermark = max(watermark, sorted([0, 0, *newest.values()])[-2])
        if single or row.at - since > 2 * DAY_SECONDS:
            watermark = max(watermark, min(row.at, highest))
    return watermark


def intervals_of(
    validated: dict[str, list[Facts]], nights: list[int], interval: int
) -> dict[int, dict[str, Facts]]:
    """By the end of every local interval the last reading of each meter in it.

    The rest at the end of a day of 23 hours, shorter than an interval, is none.
    """
    ends: dict[int, dict[str, Facts]] = {}
    for start, midnight in pairwise(nights):
        for end in range(start + interval, midnight + 1, interval):
            last: dict[str, Facts] = {}
            for name, readings in validated.items():
                if found := readings_between(readings, end - interval, end):
                    last[name] = found[-1]
            if last:
                ends[end] = last
    return ends


# The transformer, interval by interval.


def interval_endings(
    area: Area,
    validated: dict[str, list[Facts]],
    nights: list[int],
    interval: int,
    until: int,
) -> Endings:
    """How the episodes of the transformer end: by the gateway meter, else by the sum of the users."""
    endings: Endings = {}
    rows: list[Facts] = []
    for at, readings in intervals_of(validated, nights, interval).items():
        if at > until:
            break
        load = transformer_load(area, at, readings)
        if load is not None:
            rating = transformer_rating(area, at)
            deviation = frequency_facts(readings)
            temperature = {"temperature": mean_temperature(readings.values())}
            rows.append({"at": at, **rating, **deviation, **temperature, **load})
    rules = INTERVAL_RULES | NEUTRAL_RULES
    judge(rules, area.area, "", heated(rows, interval), endings)
    return endings


def transformer_rating(area: Area, at: int) -> Facts:
    """The transformer in force."""
    records = [item for item in area.transformers if item.effective <= at - 1]
    if not records:
        return {"rating_kva": NOT_A_NUMBER, "dyn11": False}
    newest = max(records, key=lambda item: item.effective)
    return {"rating_kva": newest.rating_kva, "dyn11": newest.vector_group == "Dyn11"}


def known_frequencies(readings: dict[str, Facts]) -> list[float]:
    """The frequencies of an interval in rising order."""
    hertz = [reading["frequency"] for reading in readings.values()]
    return sorted(value for value in hertz if not math.isnan(value))


def frequency_facts(readings: dict[str, Facts]) -> Facts:
    """The third highest and third lowest deviation from 50 Hz, which a faulty meter or two cannot move."""
    hertz = known_frequencies(readings)
    if len(hertz) < 3:
        return {"above": NOT_A_NUMBER, "below": NOT_A_NUMBER}
    return {"above": hertz[-3] - 50, "below": 50 - hertz[2]}


def transformer_load(area: Area, at: int, readings: dict[str, Facts]) -> Facts | None:
    """The load by the gateway meter, else by the sum of the users; None where nothing is known."""
    gateway = readings.get(area.gateway)
    if gateway and not math.isnan(gateway["kva"]):
        ratio = gateway["record"].ct * gateway["record"].pt
        return {
            "gateway": 1,
            "coverage": 1.0,
            "kva": gateway["kva"],
            "current": [I * ratio for I in gateway["i"]],
            "neutral": gateway["neutral"] * ratio,
        }

    loads = [
        reading["kva"] for name, reading in readings.items() if name != area.gateway
    ]
    loads = [kva for kva in loads if not math.isnan(kva)]
    if not loads and len(known_frequencies(readings)) < 3:
        return None
    connected = 0
    for name in {meter.meter for meter in area.meters} - {area.gateway}:
        connected += is_connected(record(area, name, at), at)
    return {
        "gateway": 0,
        "coverage": len(loads) / max(connected, 1),
        "kva": sum(loads),
        "neutral": NOT_A_NUMBER,
    }


def day_load(
    area: Area,
    validated: dict[str, list[Facts]],
    start: int,
    end: int,
    interval: int,
) -> Facts:
    """A day's transformer and its mean load in each of 24 hours; NaN where it is not known."""
    hours: list[list[float]] = [[] for _ in range(24)]
    today = {
        name: readings_between(readings, start, end)
        for name, readings in validated.items()
    }
    for at, readings in intervals_of(today, [start, end], interval).items():
        load = transformer_load(area, at, readings)
        if load is None or load["coverage"] < 0.9:
            continue
        first = (at - interval - start) // HOUR_SECONDS
        for hour in range(first, first + max(interval // HOUR_SECONDS, 1)):
            if hour < 24:
                hours[hour].append(load["kva"])

    means = [sum(kva) / len(kva) if kva else NOT_A_NUMBER for kva in hours]
    return {"hourly": means, **transformer_rating(area, end)}


def is_connected(meter: Meter | None, at: int) -> bool:
    """Whether a record in force has not ended."""
    return meter is not None and not 0 < meter.until < at


def mean_temperature(readings: Iterable[Facts]) -> float:
    """The mean of the known temperatures, to 0.01 degrees each."""
    known = [
        round(reading["temperature"], 2)
        for reading in readings
        if not math.isnan(reading["temperature"])
    ]
    return sum(known) / len(known) if known else NOT_A_NUMBER


def day_temperature(
    validated: dict[str, list[Facts]], start: int, end: int, interval: int
) -> float:
    """The mean of a day's hours; NaN where less than nine of ten have a temperature."""
    by_interval = intervals_of(validated, [start, end], interval)
    span = max(HOUR_SECONDS, interval)
    hours: list[float] = []
    for since in range(start, end - interval + 1, span):
        readings: list[Facts] = []
        for at, last in by_interval.items():
            if since < at <= since + span:
                readings += last.values()
        hours.append(mean_temperature(readings))

    known = [degrees for degrees in hours if not math.isnan(degrees)]
    return sum(known) / len(known) if len(known) >= 0.9 * len(hours) else NOT_A_NUMBER


# The days of the meters and of the area.


@dataclass
class AreaHistory:
    """What is remembered of an area from day to day."""

    diaries: dict[str, list[Facts]]
    balances: list[Facts] = field(default_factory=list)
    pages: dict[str, Page] = field(default_factory=dict)
    followers: dict[str, Follower] = field(default_factory=dict)
    couplers: dict[str, Coupler] = field(default_factory=dict)


def day_endings(
    area_name: str,
    area: Area | None,
    validated: dict[str, list[Facts]],
    days: list[tuple[int, int]],
    interval: int,
    zone: str,
) -> Endings:
    """How the episodes of closed days end, of every meter and of the area."""
    history = AreaHistory({name: [] for name in meter_names(area, validated)})
    gateway = area.gateway if area else ""
    times = [reading["at"] for readings in validated.values() for reading in readings]
    first_reading = min(times, default=0)

    for start, end in days:
        today = days_of_meters(area, validated, start, end, interval)
        for name, day in today.items():
            day["area_read"] = any(other["reads"] for other in today.values())
            history.diaries[name].append(day)
        temperature = day_temperature(validated, start, end, interval)
        profiled(today, history.pages, end, zone, temperature)
        followed(today, history.followers, gateway)
        coupled(today, history.couplers, interval)
        if today and end >= first_reading:
            shares = read_shares(today)
            load = day_load(
                area or Area(area=area_name), validated, start, end, interval
            )
            load["temperature"] = temperature
            history.balances.append(
                {"at": end, **shares, **balance(today, gateway), **load}
            )

    endings: Endings = {}
    area_days = list(read_days(losses(forecasted(history.balances, zone)), zone))
    suspect(history.diaries, area_days, gateway)
    rules = DAY_RULES | METERING_RULES | PHASE_RULES
    for name, diary in history.diaries.items():
        facts = first_month(metered(lived(diary), zone), newcomer(area, name))
        judge(rules, area_name, name, facts, endings)
    judge(AREA_DAY_RULES, area_name, "", area_days, endings)
    return endings


def meter_names(area: Area | None, validated: dict[str, list[Facts]]) -> list[str]:
    """The meters of the master data, then the others that have reported."""
    known = [meter.meter for meter in area.meters] if area else []
    return list(dict.fromkeys([*known, *validated]))


def days_of_meters(
    area: Area | None,
    validated: dict[str, list[Facts]],
    start: int,
    end: int,
    interval: int,
) -> dict[str, Facts]:
    """The day of every meter that is connected or was read."""
    today: dict[str, Facts] = {}
    for name in meter_names(area, validated):
        meter = record(area, name, end)
        readings = readings_between(validated.get(name, []), start, end)
        if not (is_connected(meter, end) or any_measured(readings)):
            continue
        day = day_of(meter, readings, start, end, interval)
        day |= end_of_day(meter, readings, start, end, interval)
        is_gateway = area is not None and name == area.gateway
        curve = day["curve"]
        day["shape"] = shape(meter, is_gateway, curve, interval) if meter else {}
        today[name] = day
    return today


def readings_between(readings: list[Facts], start: int, end: int) -> list[Facts]:
    """The readings after `start`, up to `end`, of readings in order of time."""
    first = bisect_right(readings, start, key=itemgetter("at"))
    return readings[first : bisect_right(readings, end, first, key=itemgetter("at"))]


def any_measured(readings: list[Facts]) -> bool:
    """Whether a reading is not an estimate."""
    return any(not reading["estimated"] for reading in readings)


def read_shares(today: dict[str, Facts]) -> Facts:
    """The share of an area's expected readings that came, with and without the meter that misses most."""
    shares = sorted(
        (day["share"] for day in today.values()),
        key=lambda share: (share[1] - share[0], share[1]),
    )
    came = [share[0] for share in shares]
    due = [share[1] for share in shares]
    others_due = sum(due[:-1])
    return {
        "read_share": sum(came) / sum(due),
        "others_share": sum(came[:-1]) / others_due if others_due else NOT_A_NUMBER,
    }


def energy_of(
    area: Area | None,
    validated: dict[str, list[Facts]],
    nights: list[int],
    interval: int,
    watermark: int,
) -> dict[str, dict[int, tuple[int, float]]]:
    """By meter and sealed day: the day's end, and the primary kWh used on it."""
    used: dict[str, dict[int, tuple[int, float]]] = {}
    for name in meter_names(area, validated):
        for n, (start, end) in enumerate(pairwise(nights)):
            meter = record(area, name, end)
            readings = readings_between(validated.get(name, []), start, end)
            sealed = end + GRACE_SECONDS <= watermark
            if sealed and (is_connected(meter, end) or any_measured(readings)):
                ratio = meter.ct * meter.pt if meter else 1
                kwh = day_of(meter, readings, start, end, interval)["kwh"]
                used.setdefault(name, {})[n] = (end, ratio * kwh)
    return used


def day_of(
    meter: Meter | None, readings: list[Facts], start: int, end: int, interval: int
) -> Facts:
    """One meter's day."""
    expected = (end - start) / (meter.interval_s if meter else interval)
    step = max(meter.interval_s if meter else 0, interval)
    reads = sum(not reading["estimated"] for reading in readings)

    # Energy in, energy back, and the curve of the day.
    measured = [reading for reading in readings if not math.isnan(reading["kwh"])]
    back = 0.0
    for reading in readings:
        back += max(-total([0.0, *reading["p"]]), 0) * step / HOUR_SECONDS
    curve: dict[int, float] = {}
    for reading in measured:
        n = (reading["at"] - start - 1) // interval
        curve[n] = curve.get(n, 0.0) + reading["kwh"]

    # The share of the readings with a voltage in which the supply is on.
    volts = [most(reading["u"]) for reading in readings]
    volts = [highest for highest in volts if not math.isnan(highest)]
    live = sum(highest > 0.5 * meter.un_v for highest in volts) if meter else 0

    enough = len(measured) >= expected / 2
    return {
        "at": end,
        "record": meter,
        "hours": hourly(readings, start, interval),
        "curve": curve,
        "kwh": sum(reading["kwh"] for reading in measured) if enough else NOT_A_NUMBER,
        "coverage": min(len(measured) / expected, 1),
        "back": back,
        "reads": reads,
        "share": (min(reads, expected), expected),
        "live": live / len(volts) if volts else NOT_A_NUMBER,
        **day_master_data(meter),
        **day_peaks(meter, readings, start, end, interval),
    }


def day_master_data(meter: Meter | None) -> Facts:
    """The master data of a meter's day; NaN of an unknown one."""
    if meter is None:
        names = ("residential", "ratio", "contract", "suspended", "pv")
        return {"class": "", **dict.fromkeys(names, NOT_A_NUMBER)}
    return {
        "class": meter.segment,
        "residential": meter.segment == "residential",
        "ratio": meter.ct * meter.pt,
        "contract": meter.contract_kva or NOT_A_NUMBER,
        "suspended": meter.suspended_kva,
        "pv": meter.pv_kva,
    }


def lived(diary: list[Facts]) -> Iterator[Facts]:
    """A meter's days with the counts of days without use and without readings, and the usual use."""
    zeros = missing = 0
    usual = apart = NOT_A_NUMBER
    for day in exceeded(diary):
        # Days without use; a stopped contract explains them.
        zero = day["kwh"] == 0 and day["coverage"] >= 0.9 and not day["live"] < 0.5
        used = day["kwh"] > 0
        meter = day["record"]
        stopped = meter is not None and 0 < meter.stopped <= day["at"]
        if stopped or (used and not zero):
            zeros = 0
        elif zero:
            zeros += 1

        # Days without a reading, beyond what is usual; after the limit the meter is lost.
        seldom = math.floor(1.5 * (apart - 1)) if apart >= 1.5 else 0
        limit = MISSING_DAYS_LIMIT + seldom
        before = missing
        if day["reads"]:
            missing = 0
        elif missing != limit or day["area_read"]:
            missing += 1
        yield day | {
            "zero_days": zeros if zero or used else NOT_A_NUMBER,
            "missing_days": missing if missing <= limit else -math.inf,
            "usual": usual,
            "unread_usual": seldom,
        }

        if day["reads"]:
            rate = 1 if apart == 0 else WEEK_RATE
            known = not math.isnan(apart) and before <= limit
            apart = apart + rate * (before + 1 - apart) if known else 0.0
        if used:
            kwh = day["kwh"] * (1 if math.isnan(day["ratio"]) else day["ratio"])
            usual = kwh if math.isnan(usual) else usual + MONTH_RATE * (kwh - usual)


def newcomer(area: Area | None, name: str) -> float:
    """Since when a customer is new who was connected when half of the area stood; infinity for any other."""
    records = sorted(area.meters if area else [], key=lambda meter: meter.effective)
    own_records = [meter for meter in records if meter.meter == name]
    if area is None or not own_records or name == area.gateway:
        return math.inf
    first = own_records[0]
    if not first.customer:
        return math.inf

    begun: dict[str, int] = {}
    for meter in records:
        begun.setdefault(meter.meter, meter.effective)
    middle = sorted(begun.values())[(len(begun) - 1) // 2]
    same_customer = [meter for meter in records if meter.customer == first.customer]
    new = middle < first.effective == same_customer[0].effective
    return first.effective if new else math.inf


def first_month(diary: Iterator[Facts], since: float) -> Iterator[Facts]:
    """A new customer's days with the days since connection without a reading, and the mean load."""
    loads: list[float] = []
    read = followed = False
    for day in diary:
        age = (day["at"] - since) / DAY_SECONDS
        followed = followed or 0 < age <= 1.05

        # Judged for 60 days, from the first day on; on the last it is well.
        facts: Facts = {"unread": NOT_A_NUMBER, "load": NOT_A_NUMBER}
        if followed and 0 < age <= 61:
            facts = {"unread": -math.inf, "load": math.inf}
            if not math.isnan(day["kwh"]):
                loads.append(day["kwh"] / day["coverage"] * day["ratio"] / 24)
            read = read or day["reads"] > 0
            if age <= 60 and not read:
                facts["unread"] = age
            if 30 <= age <= 60 and len(loads) >= 15 and day["contract"] > 0:
                facts["load"] = sum(loads) / len(loads) / day["contract"]
        yield day | facts


# The energy balance of an area.


def balance(today: dict[str, Facts], gateway: str) -> Facts:
    """The energy into an area and its loss, primary kWh; `error` is three deviations of the unread energy."""
    users = [day for name, day in today.items() if name != gateway]
    known = [day for day in users if not math.isnan(day["ratio"])]
    nothing = dict.fromkeys(("in", "loss", "error"), NOT_A_NUMBER)
    if gateway not in today or not known:
        return nothing

    through = today[gateway]
    put_in = (total([0.0, through["kwh"]]) - through["back"]) * through["ratio"]
    put_in += sum(day["back"] * day["ratio"] for day in known)
    taken = sum(total([0.0, day["kwh"]]) * day["ratio"] for day in known)
    users_coverage = sum(day["coverage"] for day in users) / len(users)
    if put_in <= 1e-6 or min(through["coverage"], users_coverage) < 0.98:
        return nothing

    # The unread energy and the last digit of every register.
    gaps = unread_energy(users, taken)
    gap = through["kwh"] * through["ratio"] * (1 / through["coverage"] - 1)
    digits = [0.01 * total([0.0, day["ratio"]]) for day in today.values()]
    squares = sum(kwh * kwh for kwh in [*gaps, gap, *digits])
    return {
        "in": put_in + gap,
        "loss": put_in + gap - taken - sum(gaps),
        "error": math.sqrt(3 * squares),
    }


def unread_energy(users: list[Facts], taken: float) -> list[float]:
    """The energy of every user's unread intervals; of an unread day its share by contract."""
    contracts = [day["contract"] for day in users if day["contract"] > 0]
    mean = sum(contracts) / len(contracts) if contracts else 1.0
    weights = [day["contract"] if day["contract"] > 0 else mean for day in users]
    weight_read = 0.0
    for weight, day in zip(weights, users, strict=True):
        if not math.isnan(day["kwh"]):
            weight_read += weight

    gaps: list[float] = []
    for weight, day in zip(weights, users, strict=True):
        if not math.isnan(day["kwh"]):
            kwh = day["kwh"] * total([0.0, day["ratio"]])
            gaps.append(kwh * (1 / day["coverage"] - 1))
        else:
            gaps.append(taken * weight / weight_read if weight_read else 0.0)
    return gaps


def read_days(balances: Iterable[Facts], zone: str) -> Iterator[Facts]:
    """An area's days with the share of readings that usually arrives on such a weekday."""
    usual: dict[int, float] = {}
    last_read = 0
    for day in balances:
        share = day["read_share"]
        weekday = datetime.fromtimestamp(day["at"] - 1, ZoneInfo(zone)).weekday()
        yield day | {"usual_read": usual.get(weekday, NOT_A_NUMBER)}
        if share > 0:
            last_read = day["at"]
        if day["at"] - last_read < 7 * DAY_SECONDS:
            known = usual.get(weekday, share)
            usual[weekday] = known + 0.3 * (share - known)


def losses(balances: Iterable[Facts]) -> Iterator[Facts]:
    """An area's days with the losses of the last seven, the usual loss at their energy, and the excess over it."""
    lows: list[float] = []
    highs: list[float] = []
    week: list[tuple[float, float]] = []  # excess of a day, and its variance
    usual = FadingLossLine()
    for day in balances:
        loss, error, energy = day["loss"], day["error"], day["in"]
        expected = usual.at(energy)
        spread = max(math.sqrt(usual.variance), 0.0005 * energy)
        facts: Facts = {
            "third": NOT_A_NUMBER,
            "least": NOT_A_NUMBER,
            "unusual": NOT_A_NUMBER,
            "excess": NOT_A_NUMBER,
            "mean": expected / energy,
            "spread": spread / energy,
            "seen": usual.seen,
        }

        if not math.isnan(loss):
            lows = [*lows, (loss - error) / energy][-7:]
            highs = [*highs, (loss + error) / energy][-7:]
            facts["third"] = third(lows)
            facts["least"] = -third([-high for high in highs])

        # Only a day that is nearly complete counts for the week and for the usual loss.
        if error <= 0.01 * energy:
            line = 0.07 * energy if usual.seen < 6 else min(expected, 0.07 * energy)
            week = [*week, (loss - line, spread**2 + (error / 3) ** 2)][-7:]
            if len(week) > 2:
                facts["excess"] = sure_excess(week, spread, usual.seen)
            facts["unusual"] = loss - expected
            usual.learn(day["at"], loss, energy, expected)
        yield day | facts


def sure_excess(week: list[tuple[float, float]], spread: float, seen: int) -> float:
    """The weighted mean of a week's excesses less three standard errors."""
    weights = sum(1 / variance for _, variance in week)
    error = math.sqrt(1 / weights + spread**2 / min(max(seen, 1), 30))
    return sum(excess / variance for excess, variance in week) / weights - 3 * error


def third(values: list[float]) -> float:
    """The third-highest."""
    return sorted(values)[-3] if len(values) > 2 else NOT_A_NUMBER


class FadingLossLine:
    """A fading regression of the loss on the square of the energy; no single day moves it far."""

    def __init__(self) -> None:
        self.loss = NOT_A_NUMBER
        self.square = 0.0
        self.spread = 0.0
        self.together = 0.0
        self.variance = 0.0
        self.then = self.seen = 0

    def at(self, energy: float) -> float:
        """The loss to expect at so much energy."""
        if self.seen < 2:
            return self.loss
        prior = (0.1 * self.square) ** 2
        together = self.together + prior * self.loss / self.square
        slope = together / (self.spread + prior)
        return self.loss + max(slope, 0.0) * (energy**2 - self.square)

    def learn(self, at: int, loss: float, energy: float, expected: float) -> None:
        """Learn a day; what exceeds the usual deviation counts only up to it."""
        if not self.seen:
            expected = loss
        narrow = math.inf
        if self.seen >= 3:
            narrow = max(math.sqrt(self.variance), 0.0005 * energy)
        widest = max(narrow, 0.3 * abs(expected)) if self.seen < 6 else narrow
        step = min(max(loss - expected, -widest), widest)
        surprise = min(max(loss - expected, -narrow), narrow)

        fading = 2 ** ((self.then - at) / (30 * DAY_SECONDS))
        keep = min(fading, 1 - 1 / (self.seen + 1))
        off = expected + step - self.loss if self.seen else 0.0
        more = energy**2 - self.square
        self.loss = expected + step - keep * off
        self.square += (1 - keep) * more
        self.spread = keep * (self.spread + (1 - keep) * more * more)
        self.together = keep * (self.together + (1 - keep) * more * off)
        self.variance = keep * (self.variance + (1 - keep) * surprise**2)
        self.then, self.seen = at, self.seen + 1
