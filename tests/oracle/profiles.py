"""A customer's days beside the usual ones: their form, their weather, the peers, and the months."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from itertools import pairwise
from statistics import median
from zoneinfo import ZoneInfo

import holidays
import msgspec

from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from schemas.use_class import UseClassModel
from tests.adversarial import NOT_A_NUMBER
from tests.casebook import casebook
from tests.oracle.watch import Facts

CHINA_ZONES = (
    "Asia/Shanghai",
    "Asia/Urumqi",
    "Asia/Chongqing",
    "Asia/Harbin",
    "Asia/Kashgar",
    "PRC",
)
DAILY_RATE = 1 - 2 ** (-1 / 28)  # a half-life of 28 days
RECENT_HALF_LIFE, WEEK_HALF_LIFE = 2, 3  # days
Today = dict[str, Facts]
CLASS_MODEL: UseClassModel = msgspec.convert(
    casebook("tariff_misuse").model, UseClassModel
)
BASELINE_FACTS = (
    "expected",
    "beyond",
    "spread",
    "known",
    "kept",
    "kept_standing",
    "slide",
    "emptied",
    "left",
    "used",
    "kept_year",
    "over_year",
    "before",
)


def unknown(count: int) -> list[float]:
    """So many unknown values."""
    return [NOT_A_NUMBER] * count


@dataclass
class Page:
    """What is known of one customer."""

    # The usual use, and the weight of each kind of day.
    seen: int = 0
    level: float = NOT_A_NUMBER
    kinds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys("0123456", 1.0)
    )
    spread: float = 0.15
    slide: float = 0.0
    slid: int = 0  # days of it
    emptied: bool = False  # since next to nothing was left
    before: float = NOT_A_NUMBER  # the level before that
    least_year: float = NOT_A_NUMBER  # fading sum of the least and the most expected
    most_year: float = NOT_A_NUMBER  # by the same months of other years
    standing: float = NOT_A_NUMBER
    recent: list[tuple[float, float]] = field(default_factory=list)  # used, expected
    stood: list[tuple[float, float]] = field(default_factory=list)  # standing, usual

    # The usual form of a day.
    form: dict[str, float] = field(default_factory=dict)
    top: float = NOT_A_NUMBER
    clipped: int = 0
    week: list[tuple[float, float, float]] = field(
        default_factory=list
    )  # valley share, used, expected
    hours: list[float] = field(default_factory=lambda: unknown(24))
    dark: list[list[bool]] = field(default_factory=list)
    dark_share: float = 0.0

    # How far the last days depart: logs of what the use and the ups and downs fell by, None of an empty day.
    departed: list[tuple[float, float] | None] = field(default_factory=list)

    # The months: daily use of the current one, means of the former ones.
    month: list[float] = field(default_factory=list)
    months: dict[int, float] = field(default_factory=dict)
    current: int = -1
    last: float = NOT_A_NUMBER
    share: float = NOT_A_NUMBER

    # Weather: tens of degrees to heat and to cool, as usual, and their regression.
    degrees: list[float] = field(default_factory=lambda: unknown(2))
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    moved: list[float] = field(default_factory=lambda: [0.0, 0.0])


# Days, and means that fade.


@cache
def chinese_holidays(year: int) -> holidays.HolidayBase:
    """China's public holidays of a year and of the years beside it."""
    years = range(year - 1, year + 2)
    return holidays.country_holidays("CN", years=years, language="en_US")


def kind_of(day: date, zone: str) -> str:
    """A weekday's number, `holiday` or `festival`."""
    if zone not in CHINA_ZONES:
        return str(day.weekday())
    public = chinese_holidays(day.year)
    spring = min(
        other
        for other, name in public.items()
        if other.year == day.year and name.startswith("Chinese New Year (")
    )
    if -10 <= (day - spring).days <= 12:
        return "festival"

    def is_off(other: date) -> bool:
        weekend = other.weekday() >= 5 and other not in public.weekend_workdays
        return other in public or weekend

    if not is_off(day):
        return "4" if day in public.weekend_workdays else str(day.weekday())

    # A row of days off with a public holiday is a holiday.
    row = [day]
    for step in (-1, 1):
        other = day + timedelta(step)
        while is_off(other):
            row.append(other)
            other += timedelta(step)
    return "holiday" if any(other in public for other in row) else str(day.weekday())


def clamp(value: float, low: float, high: float) -> float:
    """The value, at least `low` and at most `high`."""
    return min(max(value, low), high)


def learned(
    usual: float,
    value: float,
    seen: float,
    rate: float = 1.0,
    least: float = 0.05,
    *,
    untamed: bool = False,
) -> float:
    """The usual value after one more day; after a week from half to twice the usual, unless `untamed`."""
    if math.isnan(value):
        return usual
    if math.isnan(usual):
        return value
    if seen >= 7 and not untamed:
        value = clamp(value, usual / 2, 2 * usual + least)
    return usual + max(DAILY_RATE, 1 / (seen + 1)) * rate * (value - usual)


def faded(values: list[float], half_life: float) -> float:
    """The sum of values, the latest last, that fade from day to day."""
    return sum(
        value * 2 ** (-n / half_life) for n, value in enumerate(reversed(values))
    )


def share_of(pairs: list[tuple[float, float]], half_life: float) -> float:
    """The fading sum of the first values over the fading sum of the second."""
    whole = faded([second for _, second in pairs], half_life)
    if not whole:
        return NOT_A_NUMBER
    return faded([first for first, _ in pairs], half_life) / whole


# The form of a day.


def shape(meter: Meter, gateway: bool, curve: dict[int, float], interval: int) -> Facts:
    """The form of a day from the kWh of its intervals; empty when too few were read."""
    step, ratio = max(meter.interval_s, interval), meter.ct * meter.pt
    known = {n: kwh * ratio for n, kwh in curve.items() if not math.isnan(kwh)}
    if gateway or len(known) < 0.9 * DAY_SECONDS / step:
        return {}

    sizes = sorted(known.values())
    top = sizes[-1]
    near_top = sum(kwh >= 0.99 * top for kwh in sizes)
    hours = hourly_energy(known, interval, step)
    facts: Facts = {
        "used": sum(sizes) / len(sizes) * DAY_SECONDS / step,
        "top": top,
        "high": sizes[-(-len(sizes) * 95 // 100) - 1],
        "top_share": near_top / len(sizes) if top else NOT_A_NUMBER,
        "hours": hours,
        "standing": NOT_A_NUMBER,
        "variation": NOT_A_NUMBER,
        "rhythm": NOT_A_NUMBER,
        "valley": NOT_A_NUMBER,
    }
    by_hour = {hour: kwh for hour, kwh in enumerate(hours) if not math.isnan(kwh)}
    return facts | form_of(by_hour, meter) if len(by_hour) >= 0.9 * 24 else facts


def hourly_energy(known: dict[int, float], interval: int, step: int) -> list[float]:
    """The energy of every hour; NaN where an interval of it is missing."""
    hours = unknown(24)
    for hour in range(24):
        first = hour * HOUR_SECONDS // interval
        if interval <= HOUR_SECONDS:
            intervals = range(first, (hour + 1) * HOUR_SECONDS // interval)
            values = [known[n] for n in intervals if n in known]
            if len(values) * step == HOUR_SECONDS:
                hours[hour] = sum(values)
        elif interval % HOUR_SECONDS == 0:
            kwh = known.get(first, NOT_A_NUMBER)
            hours[hour] = kwh / (interval / HOUR_SECONDS)
    return hours


def form_of(by_hour: dict[int, float], meter: Meter) -> Facts:
    """Standing load, variation, daily and half-daily rhythm, and share of the valley hours."""
    values = list(by_hour.values())
    mean = sum(values) / len(values)
    facts: Facts = {"standing": sum(sorted(values)[:6]) / 6}
    if not mean:
        return facts

    variance = sum((kwh - mean) ** 2 for kwh in values) / len(values)
    facts["variation"] = math.sqrt(variance) / mean
    amplitudes = [
        sum(
            (kwh - mean) * turn(2 * math.pi * n * hour / 24)
            for hour, kwh in by_hour.items()
        )
        for n in (1, 2)
        for turn in (math.cos, math.sin)
    ]
    facts["rhythm"] = math.hypot(*amplitudes) / 12 / mean
    valley = sum(kwh for hour, kwh in by_hour.items() if in_valley(hour, meter))
    facts["valley"] = valley / sum(values)
    return facts


def in_valley(hour: int, meter: Meter) -> bool:
    """Whether an hour is one of the tariff's valley."""
    if meter.valley_from < meter.valley_until:
        return meter.valley_from <= hour < meter.valley_until
    return hour >= meter.valley_from or hour < meter.valley_until


# A day of an area.


def profiled(
    today: Today, pages: dict[str, Page], end: int, zone: str, temperature: float
) -> None:
    """Add to every customer's day of an area how it compares; then learn it."""
    day = datetime.fromtimestamp(end - 1, ZoneInfo(zone)).date()
    kind = kind_of(day, zone)
    degrees: list[float] = []
    if not math.isnan(temperature):
        degrees = [max(15 - temperature, 0) / 10, max(temperature - 24, 0) / 10]
    for name, facts in today.items():
        meter = facts["record"]
        facts["kind"] = kind
        facts["pv"] = meter.pv_kva if meter else NOT_A_NUMBER
        facts["degrees"] = degrees
        month(pages.setdefault(name, Page()), facts, day)

    # Use beyond the expected, without what the peers share.
    changes = {name: change(pages[name], facts) for name, facts in today.items()}
    for name, facts in today.items():
        use_class_facts(pages[name], facts)
    peers = {name: shared(today, name, changes) for name in today}
    for name, facts in today.items():
        facts["peers_left"] = math.exp(peers[name])
        excess = without(changes[name], peers[name])
        baseline_facts(pages[name], facts, changes[name], excess)

    # The form of the day, and its dark hours.
    rises = {name: formed(pages[name], facts) for name, facts in today.items()}
    for name, facts in today.items():
        facts["valley_rise"] = without(rises[name], shared(today, name, rises))
        darkness(pages[name], facts)
        departures(pages[name], facts)

    # The last month among the peers'.
    sizes = {name: size(facts) for name, facts in today.items()}
    for name, facts in today.items():
        peer_sizes = [sizes[peer] for peer in peers_of(today, name)]
        peer_sizes = [value for value in peer_sizes if not math.isnan(value)]
        standing(facts, sizes[name], peer_sizes)


def without(value: float, shared: float) -> float:
    """A value without the change that it shares with others, if both have the same direction."""
    if math.isnan(shared):
        shared = 0.0
    if value > 0:
        return value - min(max(shared, 0), value)
    return value - max(min(shared, 0), value)


def peers_of(today: Today, name: str) -> list[str]:
    """The customers of the same use class, the customer among them."""
    use_class = today[name]["class"]
    return [other for other, facts in today.items() if facts["class"] == use_class]


def shared(today: Today, name: str, values: dict[str, float]) -> float:
    """The median of the peers' values; NaN of fewer than five."""
    known = [values.get(peer, NOT_A_NUMBER) for peer in peers_of(today, name)]
    known = [value for value in known if not math.isnan(value)]
    return median(known) if len(known) >= 5 else NOT_A_NUMBER


def change(page: Page, facts: Facts) -> float:
    """The log of a day's use over the use that such a day usually brings in such weather."""
    facts["weather"] = weather(page, facts["degrees"])
    kind = page.kinds.get(facts["kind"], NOT_A_NUMBER)
    expected = page.level * kind * math.exp(facts["weather"])
    used = NOT_A_NUMBER
    if facts["kind"] != "festival":
        used = facts["shape"].get("used", NOT_A_NUMBER)
    if not used + expected >= 0:
        return NOT_A_NUMBER
    return math.log((used + 0.05) / (expected + 0.05))


# Weather.


def weather(page: Page, degrees: list[float]) -> float:
    """The log of the factor by which the weather changes a day's use."""
    log = 0.0
    for n, now in enumerate(degrees):
        slope = clamp(page.moved[n] / (page.squares[n] + 2), 0, 1)
        move = slope * (now - page.degrees[n])
        if not math.isnan(move):
            log += move
    return log


def learn_weather(page: Page, facts: Facts, change: float, rate: float) -> None:
    """Learn the effect of ten degrees, with a half-life of 60 days; nothing from an unknown change."""
    if math.isnan(change):
        return
    keep = 2 ** (-1 / 60)
    log = clamp(change + facts["weather"], -math.log(2), math.log(2))
    for n, now in enumerate(facts["degrees"]):
        usual = page.degrees[n]
        off = 0.0 if math.isnan(usual) else now - usual
        page.squares[n] = keep * page.squares[n] + rate * off * off
        page.moved[n] = keep * page.moved[n] + rate * off * log
        if math.isnan(usual):
            page.degrees[n] = now
        else:
            page.degrees[n] = usual + max(DAILY_RATE, 1 / (page.seen + 1)) * off


# The use class.


def use_class_facts(page: Page, facts: Facts) -> None:
    """Add the probability that the usual days are those of another use class, by the model of the cases."""
    facts["chance"] = NOT_A_NUMBER
    hourly_mean = sum(page.hours) / 24
    if math.isnan(hourly_mean) or not hourly_mean:
        return
    if facts["class"] not in CLASS_MODEL.classes:
        return

    # The usual hours, the weekend beside the weekdays, and the variation, standardized.
    weekday_mean = sum(page.kinds[kind] for kind in "01234") / 5
    features = [kwh / hourly_mean for kwh in page.hours]
    features += [page.kinds[kind] / weekday_mean for kind in "56"]
    features.append(page.form.get("variation", NOT_A_NUMBER))
    scales = zip(features, CLASS_MODEL.mean, CLASS_MODEL.scale, strict=True)
    scaled = [(value - mean) / scale for value, mean, scale in scales]
    if not sum(value * value for value in scaled) / len(scaled) <= CLASS_MODEL.reach:
        return

    sizes: dict[str, float] = {}
    for name, weights, bias in zip(
        CLASS_MODEL.classes, CLASS_MODEL.weights, CLASS_MODEL.bias, strict=True
    ):
        terms = zip(weights, scaled, strict=True)
        sizes[name] = math.exp(bias + sum(weight * value for weight, value in terms))
    others = [size for name, size in sizes.items() if name != facts["class"]]
    facts["chance"] = max(others) / sum(sizes.values())


# The baseline.


def baseline_facts(page: Page, facts: Facts, change: float, excess: float) -> None:
    """Add the expected use, its slide and the share that is kept; then learn the day."""
    facts |= dict.fromkeys(BASELINE_FACTS, NOT_A_NUMBER)
    if facts["kind"] == "festival" or "used" not in facts["shape"]:
        return
    used = facts["shape"]["used"]
    stands = NOT_A_NUMBER
    if not math.isnan(excess):
        stands = facts["shape"]["standing"]
        compare(page, facts, change, excess)
        vacated(page, facts, used)

    lasting = page.slide >= 4 and page.slid >= 90
    rate = 0.25 if page.slide >= 4 and not lasting else 1.0
    learn_weather(page, facts, change, rate)
    learn_level(page, facts, rate, lasting=lasting)

    distance = abs(excess) * 1.25
    if page.seen >= 7:
        distance = min(distance, 3 * page.spread)
    page.spread = max(learned(page.spread, distance, page.seen, rate), 0.15)
    page.standing = learned(page.standing, stands, page.seen, rate, untamed=lasting)
    page.seen += 1


def compare(page: Page, facts: Facts, change: float, excess: float) -> None:
    """Compare a day with the expected use: its slide, and the recent share of the use and of the standing load."""
    kind = page.kinds.get(facts["kind"], NOT_A_NUMBER)
    expected = page.level * kind * math.exp(facts["weather"])
    slide = page.slide - clamp(excess / page.spread, -3, 3) - 0.5
    page.slide = max(min(slide, 16), 0) if page.seen >= 28 else 0.0
    page.slid = page.slid + 1 if page.slide else 0

    shape = facts["shape"]
    page.recent.append((shape["used"], expected * math.exp(change - excess)))
    if not math.isnan(shape["standing"]):
        usual = 0 if math.isnan(page.standing) else page.standing
        page.stood.append((shape["standing"], usual))
    due = faded([pair[1] for pair in page.recent], RECENT_HALF_LIFE)
    usual_standing = faded([pair[1] for pair in page.stood], RECENT_HALF_LIFE)
    kept = share_of(page.recent, RECENT_HALF_LIFE)
    page.emptied = kept < 0.1 or (page.emptied and not kept >= 0.6)
    facts |= {
        "expected": expected,
        "beyond": excess,
        "spread": page.spread,
        "known": page.seen,
        "slide": page.slide,
        "kept": kept,
        "emptied": page.emptied,
    }
    if 24 * usual_standing >= 0.1 * due:
        facts["kept_standing"] = share_of(page.stood, RECENT_HALF_LIFE)


def learn_level(page: Page, facts: Facts, rate: float, *, lasting: bool) -> None:
    """Learn the level and the weight of the kind of day from the use without the weather."""
    used = facts["shape"]["used"] / math.exp(facts["weather"])
    kind = facts["kind"]
    weight = page.kinds.get(kind, NOT_A_NUMBER)
    share = math.inf if used else NOT_A_NUMBER
    if page.level:
        share = used / page.level

    if not math.isnan(weight) and not math.isnan(share):
        kind_rate = max(1 - 2 ** (-1 / 8), 7 / (page.seen + 14))
        if kind == "holiday":
            kind_rate = 1 / 3
        tamed = clamp(share, weight / 2, 2 * weight + 0.1)
        page.kinds[kind] = weight + kind_rate * rate * (tamed - weight)
    elif rate == 1 and math.isfinite(share):
        page.kinds[kind] = share

    level = used / weight if weight > 0 else NOT_A_NUMBER
    page.level = learned(page.level, level, page.seen, rate, 0.5, untamed=lasting)


def vacated(page: Page, facts: Facts, used: float) -> None:
    """Keep the level of an emptied home for the return of its people; compare with the same months of other years."""
    keep = 2 ** (-1 / RECENT_HALF_LIFE)
    page.least_year = fading_sum(page.least_year, facts["least"], keep)
    page.most_year = fading_sum(page.most_year, facts["most"], keep)
    if page.emptied and math.isnan(page.before):
        page.before = page.level

    recent = faded([pair[0] for pair in page.recent], RECENT_HALF_LIFE)
    facts |= {"left": math.exp(facts["beyond"]), "used": used, "before": page.before}
    if page.least_year:
        facts["kept_year"] = recent / page.least_year
    if page.most_year:
        facts["over_year"] = recent / page.most_year

    if recent * (1 - keep) >= 0.6 * page.before:
        page.level, page.before, page.slid = page.before, NOT_A_NUMBER, 0
    elif not page.slide and not page.emptied:
        page.before = NOT_A_NUMBER


def fading_sum(before: float, value: float, keep: float) -> float:
    """The fading sum after one more value; it begins as if the value had always come."""
    return value / (1 - keep) if math.isnan(before) else keep * before + value


# The form of the days.


def formed(page: Page, facts: Facts) -> float:
    """Add the usual form and the clipped days; returns by how much the week's valley share exceeds the usual."""
    usual = {
        name: page.form.get(name, NOT_A_NUMBER)
        for name in ("variation", "rhythm", "high", "valley")
    }
    for name, value in usual.items():
        facts[f"usual_{name}"] = value
    facts |= dict.fromkeys(("clipped", "clip", "kept_week"), NOT_A_NUMBER)
    if math.isnan(facts["known"]) or facts["kind"] == "holiday":
        return NOT_A_NUMBER

    day, seen = facts["shape"], facts["known"]
    count_clipped(page, day)
    facts |= {"clipped": page.clipped, "clip": page.top}
    high_rate = 0.25 if page.clipped > 1 else 1.0
    for name, rate in (("variation", 1.0), ("rhythm", 1.0), ("high", high_rate)):
        page.form[name] = learned(usual[name], day[name], seen, rate)
    if math.isnan(day["valley"]):
        return NOT_A_NUMBER

    expected = facts["expected"]
    page.week.append((day["valley"], expected * math.exp(facts["beyond"]), expected))
    uses = [(used, due) for _, used, due in page.week]
    valleys = [(valley, 1.0) for valley, _, _ in page.week]
    facts["kept_week"] = share_of(uses, WEEK_HALF_LIFE)
    rise = share_of(valleys, WEEK_HALF_LIFE) - usual["valley"]
    rate = 0.25 if abs(rise) > 0.05 else 1.0
    page.form["valley"] = learned(usual["valley"], day["valley"], seen, rate)
    return rise


def count_clipped(page: Page, day: Facts) -> None:
    """Count the days that stay at the same top for a twentieth of their intervals."""
    same = 0.98 * page.top <= day["top"] <= 1.02 * page.top
    if day["top_share"] >= 0.05 and not same:
        page.top, page.clipped = day["top"], 1
    elif day["top_share"] >= 0.05:
        page.clipped += 1
    elif day["top"] > 1.02 * page.top:
        page.clipped = 0


def darkness(page: Page, facts: Facts) -> None:
    """Add on how many of the last seven days the same four hours were dark, and how often that is usual."""
    facts |= {"dark_days": NOT_A_NUMBER, "dark_before": NOT_A_NUMBER}
    hours = facts["shape"].get("hours", unknown(24))
    if math.isnan(facts["known"]) or facts["kind"] == "holiday":
        return
    if all(map(math.isnan, hours)):
        return

    # An hour is dark that usually is not, on a day that is lively otherwise.
    dark = dark_hours(page.hours, hours)
    lively = is_lively(page.hours, hours, dark)
    page.dark = [*page.dark, [is_dark and lively for is_dark in dark]][-8:]
    days = [[False] * 24] * (8 - len(page.dark)) + page.dark
    joined = [before[-3:] + after for before, after in pairwise(days)]
    facts["dark_days"] = max(days_dark_from(hour, joined) for hour in range(24))
    facts["dark_before"] = page.dark_share

    rate = 0.25 if any(page.dark[-1]) else 1.0
    step = max(DAILY_RATE, 1 / (facts["known"] + 1)) * rate
    page.dark_share += step * (has_still_hours(hours) - page.dark_share)
    for hour in range(24):
        rate = 0.25 if dark[hour] else 1.0
        usual = page.hours[hour]
        page.hours[hour] = learned(usual, hours[hour], facts["known"], rate)


def departures(page: Page, facts: Facts) -> None:
    """Add what the last days left of the expected use, and of the usual ups and downs."""
    facts |= {"level_left": NOT_A_NUMBER, "form_left": NOT_A_NUMBER}
    fallen = -facts["beyond"]
    calmer = [
        ups_and_downs(facts[f"usual_{name}"])
        - ups_and_downs(facts["shape"].get(name, NOT_A_NUMBER))
        for name in ("variation", "rhythm")
    ]
    if any(map(math.isnan, (fallen, *calmer))):
        return

    day = (clamp(fallen, -1.5, 1.5), clamp(min(calmer), -1, 1))
    page.departed.append(day if facts["beyond"] > math.log(0.1) else None)
    weight = faded([float(each is not None) for each in page.departed], WEEK_HALF_LIFE)
    if weight >= 2:
        for n, name in enumerate(("level_left", "form_left")):
            logs = [each[n] if each else 0.0 for each in page.departed]
            facts[name] = math.exp(-faded(logs, WEEK_HALF_LIFE) / weight)


def ups_and_downs(form: float) -> float:
    """The log of ups and downs over the mean, 5 % at least."""
    return math.log(max(form, 0.05))


def days_dark_from(hour: int, days: list[list[bool]]) -> int:
    """The number of days on which four hours are dark."""
    return sum(all(day[hour : hour + 4]) for day in days)


def dark_hours(usual: list[float], hours: list[float]) -> list[bool]:
    """The hours with less than a hundredth of their usual use, where that is considerable."""
    mean = sum(kwh for kwh in usual if not math.isnan(kwh)) / 24
    least = max(0.05, 0.2 * mean)
    return [
        before >= least and kwh < 0.01 * before
        for before, kwh in zip(usual, hours, strict=True)
    ]


def is_lively(usual: list[float], hours: list[float], dark: list[bool]) -> bool:
    """Whether the other hours bring half of their usual use or more."""
    others = [
        hour
        for hour in range(24)
        if not dark[hour] and not math.isnan(hours[hour] + usual[hour])
    ]
    used = sum(hours[hour] for hour in others)
    return bool(others) and used >= 0.5 * sum(usual[hour] for hour in others)


def has_still_hours(hours: list[float]) -> bool:
    """Whether four hours on end use less than a hundredth of the mean."""
    limit = 0.01 * sum(kwh for kwh in hours if not math.isnan(kwh)) / 24
    still = [kwh < limit for kwh in hours]
    return any(all(still[hour : hour + 4]) for hour in range(21))


# The months.


def month(page: Page, facts: Facts, day: date) -> None:
    """Add the last whole month's mean and its share of that month's usual mean; then learn the day."""
    around = [
        page.months.get((day.month + step - 1) % 12 + 1, NOT_A_NUMBER)
        for step in (-1, 0, 1)
    ]
    known = [kwh for kwh in around if not math.isnan(kwh)]
    if math.isnan(around[1]):
        known = []
    facts |= {
        "least": min(known, default=NOT_A_NUMBER),
        "most": max(known, default=NOT_A_NUMBER),
        "month": NOT_A_NUMBER,
        "own_share": NOT_A_NUMBER,
        "last": page.last,
    }
    if "used" not in facts["shape"]:
        return

    if page.current not in (-1, day.month):
        close_month(page)
    page.current = day.month
    page.month.append(facts["shape"]["used"])
    facts |= {"month": page.last, "own_share": page.share, "last": page.last}


def close_month(page: Page) -> None:
    """Compare the month that has ended with the same month before, else with the middle one; then learn it."""
    days = page.month
    page.last = sum(days) / len(days) if len(days) >= 20 else NOT_A_NUMBER
    same = page.months.get(page.current, NOT_A_NUMBER)
    known = sorted(page.months.values())
    middle = median(known) if len(known) >= 3 else NOT_A_NUMBER
    usual = middle if math.isnan(same) else same
    page.share = page.last / usual if usual else NOT_A_NUMBER

    if not math.isnan(page.last):
        if not math.isnan(same):
            tamed = clamp(page.last, same / 2, 2 * same)
            page.months[page.current] = (same + tamed) / 2
        elif math.isnan(middle):
            page.months[page.current] = page.last
        else:
            tamed = clamp(page.last, middle / 4, 4 * middle)
            page.months[page.current] = tamed
    page.month = []


def size(facts: Facts) -> float:
    """The log of the last month's use by contract capacity."""
    meter = facts["record"]
    if meter is None or meter.contract_kva is None or math.isnan(facts["last"]):
        return NOT_A_NUMBER
    capacity = meter.contract_kva - meter.suspended_kva
    if capacity <= 0:
        return NOT_A_NUMBER
    return math.log((facts["last"] + 0.01) / capacity)


def standing(facts: Facts, own_size: float, sizes: list[float]) -> None:
    """Add how a customer's month stands among the peers'; a share that alone is unknown does not count."""
    facts |= dict.fromkeys(("below", "peers", "peer_share"), NOT_A_NUMBER)
    if not math.isnan(own_size) and "used" in facts["shape"]:
        facts["peers"] = len(sizes)
        if len(sizes) >= 5:
            middle = median(sizes)
            spread = 1.4826 * median([abs(other - middle) for other in sizes])
            facts["below"] = (middle - own_size) / max(spread, 0.3)
            facts["peer_share"] = math.exp(own_size - middle)

    own_share, peer_share = facts["own_share"], facts["peer_share"]
    if math.isnan(own_share) and not math.isnan(peer_share):
        facts["own_share"] = math.inf
    elif math.isnan(peer_share) and not math.isnan(own_share):
        facts["peer_share"] = math.inf
