"""What a customer's days look like to a clerk who keeps a page for each: forms, habits, peers and months."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
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
DAILY_RATE = 1 - 2 ** (-1 / 28)
Today = dict[str, Facts]
CLASS_MODEL: UseClassModel = msgspec.convert(
    casebook("tariff_misuse").model, UseClassModel
)


@dataclass
class Page:
    """What is known of one customer."""

    seen: int = 0
    level: float = NOT_A_NUMBER
    kinds: dict[str, float] = field(
        default_factory=lambda: {str(n): 1.0 for n in range(7)}
    )
    spread: float = 0.15
    slide: float = 0.0
    slid: int = 0  # days of it
    emptied: bool = False  # since next to nothing was left
    before: float = NOT_A_NUMBER  # the level before that
    year: dict[str, float] = field(
        default_factory=lambda: {"least": NOT_A_NUMBER, "most": NOT_A_NUMBER}
    )  # what it brought before
    standing: float = NOT_A_NUMBER
    recent: list[tuple[float, float]] = field(default_factory=list)  # used and expected
    stood: list[tuple[float, float]] = field(
        default_factory=list
    )  # standing load and the usual one
    form: dict[str, float] = field(default_factory=dict)
    top: float = NOT_A_NUMBER
    clipped: int = 0
    week: list[tuple[float, float, float]] = field(
        default_factory=list
    )  # valley share, used, expected
    hours: list[float] = field(default_factory=lambda: [NOT_A_NUMBER] * 24)
    dark: list[list[bool]] = field(default_factory=list)
    dark_share: float = 0.0
    month: list[float] = field(default_factory=list)
    months: dict[int, float] = field(default_factory=dict)
    which: int = -1
    last: float = NOT_A_NUMBER
    share: float = NOT_A_NUMBER
    degrees: list[float] = field(
        default_factory=lambda: [NOT_A_NUMBER, NOT_A_NUMBER]
    )  # tens of them to heat and to cool, as usual
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    moved: list[float] = field(default_factory=lambda: [0.0, 0.0])


def kind_of(day: date, zone: str) -> str:
    """A weekday's number, `holiday` or `festival`."""
    if zone not in CHINA_ZONES:
        return str(day.weekday())
    public = holidays.country_holidays(
        "CN", years=range(day.year - 1, day.year + 2), language="en_US"
    )
    spring = min(
        d
        for d, name in public.items()
        if d.year == day.year and name.startswith("Chinese New Year (")
    )
    if -10 <= (day - spring).days <= 12:
        return "festival"

    def off(d: date) -> bool:
        return d in public or (d.weekday() >= 5 and d not in public.weekend_workdays)

    if not off(day):
        return "4" if day in public.weekend_workdays else str(day.weekday())
    row = [day]
    for step in (-1, 1):
        d = day + timedelta(step)
        while off(d):
            row.append(d)
            d += timedelta(step)
    return "holiday" if any(d in public for d in row) else str(day.weekday())


def learned(
    usual: float,
    value: float,
    seen: float,
    rate: float = 1.0,
    least: float = 0.05,
    *,
    untamed: bool = False,
) -> float:
    """The usual after one more day's value."""
    if math.isnan(value) or math.isnan(usual):
        return usual if math.isnan(value) else value
    tamed = (
        value if seen < 7 or untamed else min(max(value, usual / 2), 2 * usual + least)
    )
    return usual + max(DAILY_RATE, 1 / (seen + 1)) * rate * (tamed - usual)


def shape(m: Meter, gateway: bool, curve: dict[int, float], interval: int) -> Facts:
    """The form of a day from the kWh of its intervals; empty when too little was read."""
    step, ratio = max(m.interval_s, interval), m.ct * m.pt
    known = {n: kwh * ratio for n, kwh in curve.items() if not math.isnan(kwh)}
    if gateway or len(known) < 0.9 * DAY_SECONDS / step:
        return {}
    sizes = sorted(known.values())
    f: Facts = {"used": sum(sizes) / len(sizes) * DAY_SECONDS / step, "top": sizes[-1]}
    f["high"] = sizes[-(-len(sizes) * 95 // 100) - 1]
    f["top_share"] = (
        sum(kwh >= 0.99 * sizes[-1] for kwh in sizes) / len(sizes)
        if sizes[-1]
        else NOT_A_NUMBER
    )
    hours = [NOT_A_NUMBER] * 24
    for h in range(24):
        if interval <= HOUR_SECONDS:
            mine = [
                known[n]
                for n in range(
                    h * HOUR_SECONDS // interval, (h + 1) * HOUR_SECONDS // interval
                )
                if n in known
            ]
            if len(mine) * step == HOUR_SECONDS:
                hours[h] = sum(mine)
        elif interval % HOUR_SECONDS == 0:
            hours[h] = known.get(h * HOUR_SECONDS // interval, NOT_A_NUMBER) / (
                interval / HOUR_SECONDS
            )
    told = {h: kwh for h, kwh in enumerate(hours) if not math.isnan(kwh)}
    f |= {
        "hours": hours,
        "standing": NOT_A_NUMBER,
        "variation": NOT_A_NUMBER,
        "rhythm": NOT_A_NUMBER,
        "valley": NOT_A_NUMBER,
    }
    if len(told) >= 0.9 * 24:
        mean = sum(told.values()) / len(told)
        f["standing"] = sum(sorted(told.values())[:6]) / 6
        if mean:
            f["variation"] = (
                math.sqrt(sum((kwh - mean) ** 2 for kwh in told.values()) / len(told))
                / mean
            )
            waves = [
                sum(
                    (kwh - mean) * turn(2 * math.pi * n * h / 24)
                    for h, kwh in told.items()
                )
                for n in (1, 2)
                for turn in (math.cos, math.sin)
            ]
            f["rhythm"] = math.hypot(*waves) / 12 / mean
            f["valley"] = sum(kwh for h, kwh in told.items() if in_valley(h, m)) / sum(
                told.values()
            )
    return f


def in_valley(hour: int, m: Meter) -> bool:
    """Whether an hour is one of the tariff's valley."""
    if m.valley_from < m.valley_until:
        return m.valley_from <= hour < m.valley_until
    return hour >= m.valley_from or hour < m.valley_until


def faded(values: list[float], half_life: float) -> float:
    """The sum of values, the latest last, that fade from day to day."""
    return sum(
        value * 2 ** (-n / half_life) for n, value in enumerate(reversed(values))
    )


def share_of(pairs: list[tuple[float, float]], half_life: float) -> float:
    """Of pairs of what came and what was to come, the one over the other, both fading."""
    whole = faded([whole for _, whole in pairs], half_life)
    return (
        faded([part for part, _ in pairs], half_life) / whole if whole else NOT_A_NUMBER
    )


def without(value: float, shared: float) -> float:
    """What is left of a value without what is shared in the same direction, if anything is."""
    shared = 0.0 if math.isnan(shared) else shared
    return value - (
        min(max(shared, 0), value) if value > 0 else max(min(shared, 0), value)
    )


def peers_of(today: Today, meter: str) -> list[str]:
    """The customers of the same class, the customer among them."""
    return [name for name, f in today.items() if f["class"] == today[meter]["class"]]


def shared(today: Today, meter: str, values: dict[str, float]) -> float:
    """The median of the peers' values; NaN of fewer than five."""
    known = [
        values[name]
        for name in peers_of(today, meter)
        if not math.isnan(values.get(name, NOT_A_NUMBER))
    ]
    return median(known) if len(known) >= 5 else NOT_A_NUMBER


def profiled(
    today: Today, pages: dict[str, Page], end: int, zone: str, temperature: float
) -> None:
    """Add to every customer's day of an area how it compares; then turn the pages."""
    degrees = (
        [max(15 - temperature, 0) / 10, max(temperature - 24, 0) / 10]
        if not math.isnan(temperature)
        else []
    )
    day = datetime.fromtimestamp(end - 1, ZoneInfo(zone)).date()
    kind = kind_of(day, zone)
    for f in today.values():
        f |= {
            "kind": kind,
            "pv": f["record"].pv_kva if f["record"] else NOT_A_NUMBER,
            "degrees": degrees,
        }
    for name, f in today.items():
        month(pages.setdefault(name, Page()), f, day)
    changes = {name: change(pages[name], f) for name, f in today.items()}
    for name, f in today.items():
        use_class_facts(pages[name], f)
    peers = {name: shared(today, name, changes) for name in today}
    excess = {name: without(change, peers[name]) for name, change in changes.items()}
    for name, f in today.items():
        f["peers_left"] = math.exp(peers[name])
        baseline_facts(pages[name], f, changes[name], excess[name])
    rises = {name: formed(pages[name], f) for name, f in today.items()}
    for name, f in today.items():
        f["valley_rise"] = without(rises[name], shared(today, name, rises))
        darkness(pages[name], f)
    sizes = {name: size(f) for name, f in today.items()}
    for name, f in today.items():
        standing(
            f,
            sizes[name],
            [s for peer in peers_of(today, name) if not math.isnan(s := sizes[peer])],
        )


def change(page: Page, f: Facts) -> float:
    """The log of a day's use over what such a day usually brings in such weather."""
    f["weather"] = weather(page, f["degrees"])
    expected = (
        page.level * page.kinds.get(f["kind"], NOT_A_NUMBER) * math.exp(f["weather"])
    )
    used = (
        f["shape"].get("used", NOT_A_NUMBER)
        if f["kind"] != "festival"
        else NOT_A_NUMBER
    )
    return (
        math.log((used + 0.05) / (expected + 0.05))
        if used + expected >= 0
        else NOT_A_NUMBER
    )


def use_class_facts(page: Page, f: Facts) -> None:
    """How likely the usual days are those of another class than the file's, by the model of the cases."""
    f["chance"] = NOT_A_NUMBER
    weekdays, mean = sum(page.kinds[str(n)] for n in range(5)) / 5, sum(page.hours) / 24
    if math.isnan(mean) or not mean or f["class"] not in CLASS_MODEL.classes:
        return
    told = [kwh / mean for kwh in page.hours] + [
        page.kinds[n] / weekdays for n in ("5", "6")
    ]
    told.append(page.form.get("variation", NOT_A_NUMBER))
    z = [
        (x - mean) / scale
        for x, mean, scale in zip(
            told, CLASS_MODEL.mean, CLASS_MODEL.scale, strict=True
        )
    ]
    if sum(x * x for x in z) / len(z) <= CLASS_MODEL.reach:
        sizes = {
            name: math.exp(bias + sum(w * x for w, x in zip(weights, z, strict=True)))
            for name, weights, bias in zip(
                CLASS_MODEL.classes, CLASS_MODEL.weights, CLASS_MODEL.bias, strict=True
            )
        }
        f["chance"] = max(
            size for name, size in sizes.items() if name != f["class"]
        ) / sum(sizes.values())


def weather(page: Page, degrees: list[float]) -> float:
    """The log by which the weather moves a day's use."""
    told = zip(degrees, page.degrees, page.moved, page.squares, strict=bool(degrees))
    moves = [
        min(max(moved / (squares + 2), 0), 1) * (now - usual)
        for now, usual, moved, squares in told
    ]
    return sum(move for move in moves if not math.isnan(move))


def learn_weather(page: Page, f: Facts, change: float, rate: float) -> None:
    """Learn what ten degrees do."""
    for n, now in enumerate(f["degrees"] if not math.isnan(change) else []):
        usual = page.degrees[n]
        off = 0.0 if math.isnan(usual) else now - usual
        keep, tamed = (
            2 ** (-1 / 60),
            min(max(change + f["weather"], -math.log(2)), math.log(2)),
        )
        page.squares[n] = keep * page.squares[n] + rate * off * off
        page.moved[n] = keep * page.moved[n] + rate * off * tamed
        page.degrees[n] = (
            now
            if math.isnan(usual)
            else usual + max(DAILY_RATE, 1 / (page.seen + 1)) * off
        )


def baseline_facts(page: Page, f: Facts, change: float, excess: float) -> None:
    """The customer's expected use, its slide, and what of it is kept."""
    f |= dict.fromkeys(
        (
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
        ),
        NOT_A_NUMBER,
    )
    if f["kind"] == "festival" or "used" not in f["shape"]:
        return
    used, here = f["shape"]["used"], page.kinds.get(f["kind"], NOT_A_NUMBER)
    expected = page.level * here * math.exp(f["weather"])
    stands = NOT_A_NUMBER
    if not math.isnan(excess):
        slid = page.slide - min(max(excess / page.spread, -3), 3) - 0.5
        page.slide = max(min(slid, 16), 0) if page.seen >= 28 else 0.0
        page.slid = page.slid + 1 if page.slide else 0
        page.recent.append((used, expected * math.exp(change - excess)))
        stands = f["shape"]["standing"]
        if not math.isnan(stands):
            page.stood.append(
                (stands, 0 if math.isnan(page.standing) else page.standing)
            )
        due, usual = (
            faded([pair[1] for pair in pairs], 2) for pairs in (page.recent, page.stood)
        )
        f |= {
            "expected": expected,
            "beyond": excess,
            "spread": page.spread,
            "known": page.seen,
            "slide": page.slide,
        }
        f["kept"] = share_of(page.recent, 2)
        page.emptied = f["kept"] < 0.1 or (page.emptied and not f["kept"] >= 0.6)
        f["emptied"] = page.emptied
        f["kept_standing"] = (
            share_of(page.stood, 2) if 24 * usual >= 0.1 * due else NOT_A_NUMBER
        )
        vacated(page, f, used)
    lasting = page.slide >= 4 and page.slid >= 90
    rate = 0.25 if page.slide >= 4 and not lasting else 1.0
    learn_weather(page, f, change, rate)
    used /= math.exp(f["weather"])
    part = used / page.level if page.level else math.inf if used else NOT_A_NUMBER
    if not math.isnan(here) and not math.isnan(part):
        sooner = (
            1 / 3
            if f["kind"] == "holiday"
            else max(1 - 2 ** (-1 / 8), 7 / (page.seen + 14))
        ) * rate
        page.kinds[f["kind"]] = here + sooner * (
            min(max(part, here / 2), 2 * here + 0.1) - here
        )
    elif rate == 1 and math.isfinite(part):
        page.kinds[f["kind"]] = part
    page.level = learned(
        page.level,
        used / here if here > 0 else NOT_A_NUMBER,
        page.seen,
        rate,
        0.5,
        untamed=lasting,
    )
    distance = (
        abs(excess) * 1.25
        if page.seen < 7
        else min(abs(excess) * 1.25, 3 * page.spread)
    )
    page.spread = max(learned(page.spread, distance, page.seen, rate), 0.15)
    page.standing = learned(page.standing, stands, page.seen, rate, untamed=lasting)
    page.seen += 1


def vacated(page: Page, f: Facts, used: float) -> None:
    """The level before next to nothing was left, which counts again once people are back; and last year's use."""
    keep, recent = 2 ** (-1 / 2), faded([pair[0] for pair in page.recent], 2)
    for name, before in page.year.items():
        page.year[name] = (
            f[name] / (1 - keep) if math.isnan(before) else keep * before + f[name]
        )
    if page.emptied and math.isnan(page.before):
        page.before = page.level
    f |= {"left": math.exp(f["beyond"]), "used": used, "before": page.before}
    f["kept_year"] = recent / page.year["least"] if page.year["least"] else NOT_A_NUMBER
    f["over_year"] = recent / page.year["most"] if page.year["most"] else NOT_A_NUMBER
    if recent * (1 - keep) >= 0.6 * page.before:
        page.level, page.before, page.slid = page.before, NOT_A_NUMBER, 0
    elif not page.slide and not page.emptied:
        page.before = NOT_A_NUMBER


def formed(page: Page, f: Facts) -> float:
    """The usual form and the clipped days; by how much the week's valley share exceeds the usual."""
    usual = {
        name: page.form.get(name, NOT_A_NUMBER)
        for name in ("variation", "rhythm", "high", "valley")
    }
    f |= {f"usual_{name}": value for name, value in usual.items()} | {
        "clipped": NOT_A_NUMBER,
        "clip": NOT_A_NUMBER,
        "kept_week": NOT_A_NUMBER,
    }
    if math.isnan(f["known"]) or f["kind"] == "holiday":
        return NOT_A_NUMBER
    day, seen = f["shape"], f["known"]
    if (
        day["top_share"] >= 0.05
        and not 0.98 * page.top <= day["top"] <= 1.02 * page.top
    ):
        page.top, page.clipped = day["top"], 1
    elif day["top_share"] >= 0.05:
        page.clipped += 1
    elif day["top"] > 1.02 * page.top:
        page.clipped = 0
    f |= {"clipped": page.clipped, "clip": page.top}
    for name, rate in (
        ("variation", 1.0),
        ("rhythm", 1.0),
        ("high", 0.25 if page.clipped > 1 else 1.0),
    ):
        page.form[name] = learned(usual[name], day[name], seen, rate)
    if math.isnan(day["valley"]):
        return NOT_A_NUMBER
    page.week.append(
        (day["valley"], f["expected"] * math.exp(f["beyond"]), f["expected"])
    )
    f["kept_week"] = share_of([(used, expected) for _, used, expected in page.week], 3)
    rise = share_of([(valley, 1) for valley, _, _ in page.week], 3) - usual["valley"]
    page.form["valley"] = learned(
        usual["valley"], day["valley"], seen, 0.25 if abs(rise) > 0.05 else 1.0
    )
    return rise


def darkness(page: Page, f: Facts) -> None:
    """On how many of the last seven days the same four hours were dark."""
    f |= {"dark_days": NOT_A_NUMBER, "dark_before": NOT_A_NUMBER}
    hours = f["shape"].get("hours", [NOT_A_NUMBER] * 24)
    if math.isnan(f["known"]) or f["kind"] == "holiday" or all(map(math.isnan, hours)):
        return
    mean = sum(kwh for kwh in page.hours if not math.isnan(kwh)) / 24
    dark = [
        page.hours[h] >= max(0.05, 0.2 * mean) and hours[h] < 0.01 * page.hours[h]
        for h in range(24)
    ]
    rest = [
        h for h in range(24) if not dark[h] and not math.isnan(hours[h] + page.hours[h])
    ]
    lively = bool(rest) and sum(hours[h] for h in rest) >= 0.5 * sum(
        page.hours[h] for h in rest
    )
    page.dark = [*page.dark, [d and lively for d in dark]][-8:]
    days = [[False] * 24] * (8 - len(page.dark)) + page.dark
    joined = [before[-3:] + after for before, after in pairwise(days)]
    f["dark_days"] = max(sum(all(day[h : h + 4]) for day in joined) for h in range(24))
    f["dark_before"] = page.dark_share
    total = sum(kwh for kwh in hours if not math.isnan(kwh))
    still = any(
        all(kwh < 0.01 * total / 24 for kwh in hours[h : h + 4]) for h in range(21)
    )
    teaches = max(DAILY_RATE, 1 / (f["known"] + 1)) * (
        0.25 if any(page.dark[-1]) else 1.0
    )
    page.dark_share += teaches * (still - page.dark_share)
    page.hours = [
        learned(page.hours[h], hours[h], f["known"], 0.25 if dark[h] else 1.0)
        for h in range(24)
    ]


def month(page: Page, f: Facts, day: date) -> None:
    """The last whole month, and its share of what that month usually is."""
    number = day.month
    around = [
        page.months.get((number + step - 1) % 12 + 1, NOT_A_NUMBER)
        for step in (-1, 0, 1)
    ]
    known = [kwh for kwh in around if not math.isnan(kwh) and not math.isnan(around[1])]
    f |= {
        "least": min(known, default=NOT_A_NUMBER),
        "most": max(known, default=NOT_A_NUMBER),
    }
    f |= {"month": NOT_A_NUMBER, "own_share": NOT_A_NUMBER, "last": page.last}
    if "used" not in f["shape"]:
        return
    if page.which not in (-1, number):
        page.last = (
            sum(page.month) / len(page.month) if len(page.month) >= 20 else NOT_A_NUMBER
        )
        same, known = (
            page.months.get(page.which, NOT_A_NUMBER),
            sorted(page.months.values()),
        )
        middle = median(known) if len(known) >= 3 else NOT_A_NUMBER
        usual = middle if math.isnan(same) else same
        page.share = page.last / usual if usual else NOT_A_NUMBER
        if math.isnan(page.last):
            pass
        elif math.isnan(same):
            page.months[page.which] = (
                page.last
                if math.isnan(middle)
                else min(max(page.last, middle / 4), 4 * middle)
            )
        else:
            page.months[page.which] = (
                same + min(max(page.last, same / 2), 2 * same)
            ) / 2
        page.month = []
    page.which = number
    page.month.append(f["shape"]["used"])
    f |= {"month": page.last, "own_share": page.share, "last": page.last}


def size(f: Facts) -> float:
    """The log of the last month's use by contract capacity."""
    m = f["record"]
    if (
        m is None
        or m.contract_kva is None
        or m.contract_kva <= m.suspended_kva
        or math.isnan(f["last"])
    ):
        return NOT_A_NUMBER
    return math.log((f["last"] + 0.01) / (m.contract_kva - m.suspended_kva))


def standing(f: Facts, mine: float, sizes: list[float]) -> None:
    """How a customer's month stands among the peers'."""
    f |= {"below": NOT_A_NUMBER, "peers": NOT_A_NUMBER, "peer_share": NOT_A_NUMBER}
    if not math.isnan(mine) and "used" in f["shape"]:
        f["peers"] = len(sizes)
        if len(sizes) >= 5:
            middle = median(sizes)
            f["below"] = (middle - mine) / max(
                1.4826 * median([abs(s - middle) for s in sizes]), 0.3
            )
            f["peer_share"] = math.exp(mine - middle)
    shares = f["own_share"], f["peer_share"]
    if not all(map(math.isnan, shares)):
        f["own_share"], f["peer_share"] = (
            math.inf if math.isnan(share) else share for share in shares
        )
