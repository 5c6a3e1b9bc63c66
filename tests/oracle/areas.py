"""An area's windows: its clock, its intervals, its meters' days and its balance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row, Stream
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


def midnights(stream: Stream) -> list[int]:
    """Every local midnight from the day of the first reading on, to days after the last row."""
    zone = ZoneInfo(stream.zone)
    first = min(
        (row.at for row in stream.rows if row.kind is Readings),
        default=min(row.at for row in stream.rows),
    )
    day = datetime.fromtimestamp(first - 1, zone).replace(hour=0, minute=0, second=0)
    last = max(row.at for row in stream.rows)
    days = [day + timedelta(n) for n in range(80 + (last - first) // DAY_SECONDS)]
    return [
        int(datetime(d.year, d.month, d.day, tzinfo=zone).timestamp()) for d in days
    ]


def area_watermark(rows: list[Row], single: bool) -> int:
    """The second-highest stamp of the area's meters; a meter that has long been alone moves it by its last but one."""
    newest: dict[str, int] = {}
    clock, since, latest = 0, 0, ""
    for row in rows:
        since = since if row.subject == latest else row.at
        latest, top = row.subject, max(newest.values(), default=0)
        newest[latest] = max(newest.get(latest, 0), row.at)
        clock = max(clock, *sorted([0, 0, *newest.values()])[-2:-1])
        if single or row.at - since > 2 * DAY_SECONDS:
            clock = max(clock, min(row.at, top))
    return clock


def intervals_of(
    validated: dict[str, list[Facts]], nights: list[int], interval: int
) -> dict[int, dict[str, Facts]]:
    """The readings by the end of their local interval; what is left over at the end of a day of 23 hours is none."""
    ends: dict[int, dict[str, Facts]] = {}
    for start, midnight in pairwise(nights):
        for end in range(start + interval, midnight + 1, interval):
            here = {
                m: f
                for m, readings in validated.items()
                for f in readings
                if end - interval < f["at"] <= end
            }
            if here:
                ends[end] = here
    return ends


def interval_endings(
    area: Area,
    validated: dict[str, list[Facts]],
    nights: list[int],
    interval: int,
    until: int,
) -> Endings:
    """How the episodes of the transformer end: the gateway's word, else the sum of the users'."""
    told: Endings = {}
    rows = []
    for at, mine in intervals_of(validated, nights, interval).items():
        if at > until:
            break
        transformers = [t for t in area.transformers if t.effective <= at - 1]
        rating = max(transformers, key=lambda t: t.effective) if transformers else None
        f: Facts = {
            "at": at,
            "rating_kva": rating.rating_kva if rating else NOT_A_NUMBER,
        }
        f["dyn11"] = rating is not None and rating.vector_group == "Dyn11"
        hertz = sorted(
            m["frequency"] for m in mine.values() if not math.isnan(m["frequency"])
        )
        f |= (
            {"above": hertz[-3] - 50, "below": 50 - hertz[2]}
            if len(hertz) > 2
            else {"above": NOT_A_NUMBER, "below": NOT_A_NUMBER}
        )
        f["temperature"] = mean_of(mine.values())
        gateway = mine.pop(area.gateway, None)
        if gateway and not math.isnan(gateway["kva"]):
            ratio = gateway["record"].ct * gateway["record"].pt
            f |= {
                "gateway": 1,
                "coverage": 1.0,
                "kva": gateway["kva"],
                "current": [i * ratio for i in gateway["i"]],
            }
            f["neutral"] = gateway["neutral"] * ratio
        else:
            users = [u["kva"] for u in mine.values() if not math.isnan(u["kva"])]
            if not users and len(hertz) < 3:
                continue
            names = {m.meter for m in area.meters} - {area.gateway}
            records = [
                m
                for name in names
                if (m := record(area, name, at)) and not 0 < m.until < at
            ]
            f |= {
                "gateway": 0,
                "coverage": len(users) / max(len(records), 1),
                "kva": sum(users),
                "neutral": NOT_A_NUMBER,
            }
        rows.append(f)
    judge(INTERVAL_RULES | NEUTRAL_RULES, area.area, "", heated(rows, interval), told)
    return told


def mean_of(readings: Iterable[Facts]) -> float:
    """The mean of the temperatures that some readings tell, to 0.01 degrees each."""
    told = [
        round(f["temperature"], 2) for f in readings if not math.isnan(f["temperature"])
    ]
    return sum(told) / len(told) if told else NOT_A_NUMBER


def warmth_of(
    validated: dict[str, list[Facts]], start: int, end: int, interval: int
) -> float:
    """The mean of a day's hours, where nine of ten tell a temperature."""
    read, span = (
        intervals_of(validated, [start, end], interval),
        max(HOUR_SECONDS, interval),
    )
    hours = [
        mean_of(
            f
            for at, mine in read.items()
            if since < at <= since + span
            for f in mine.values()
        )
        for since in range(start, end - interval + 1, span)
    ]
    known = [warmth for warmth in hours if not math.isnan(warmth)]
    return sum(known) / len(known) if len(known) >= 0.9 * len(hours) else NOT_A_NUMBER


def day_endings(
    name: str,
    area: Area | None,
    validated: dict[str, list[Facts]],
    days: list[tuple[int, int]],
    interval: int,
    zone: str,
) -> Endings:
    """How the episodes of closed days end, of every meter and of the area."""
    told: Endings = {}
    meters = dict.fromkeys(
        [*(m.meter for m in (area.meters if area else [])), *validated]
    )
    diaries: dict[str, list[Facts]] = {meter: [] for meter in meters}
    balances = []
    pages: dict[str, Page] = {}
    followers: dict[str, Follower] = {}
    couplers: dict[str, Coupler] = {}
    begun = min((f["at"] for read in validated.values() for f in read), default=0)
    for start, end in days:
        today = {}
        for meter in meters:
            m = record(area, meter, end)
            read = [f for f in validated.get(meter, []) if start < f["at"] <= end]
            if (m and not 0 < m.until < end) or any(not f["estimated"] for f in read):
                today[meter] = day_of(m, read, start, end, interval) | end_of_day(
                    m, read, start, end, interval
                )
        for meter, day in today.items():
            m = day["record"]
            day["shape"] = (
                shape(
                    m,
                    area is not None and meter == area.gateway,
                    day["curve"],
                    interval,
                )
                if m
                else {}
            )
            day["area_read"] = any(other["reads"] for other in today.values())
            diaries[meter].append(day)
        profiled(today, pages, end, zone, warmth_of(validated, start, end, interval))
        followed(today, followers, area.gateway if area else "")
        coupled(today, couplers, interval)
        if today and end >= begun:
            shares = sorted(
                (day["share"] for day in today.values()),
                key=lambda share: (share[1] - share[0], share[1]),
            )
            got, due = (sum(counts) for counts in zip(*shares, strict=True))
            others = [sum(counts) for counts in zip(*shares[:-1], strict=True)]
            rest = others[0] / others[1] if others and others[1] else NOT_A_NUMBER
            counted = {"at": end, "read_share": got / due, "others_share": rest}
            balances.append(counted | balance(today, area.gateway if area else ""))
    told_balances = list(read_days(losses(balances), zone))
    suspect(diaries, told_balances, area.gateway if area else "")
    for meter, diary in diaries.items():
        facts = first_month(metered(lived(diary), zone), newcomer(area, meter))
        judge(DAY_RULES | METERING_RULES | PHASE_RULES, name, meter, facts, told)
    judge(AREA_DAY_RULES, name, "", told_balances, told)
    return told


def energy_of(
    area: Area | None,
    validated: dict[str, list[Facts]],
    nights: list[int],
    interval: int,
    watermark: int,
) -> dict[str, dict[int, tuple[int, float]]]:
    """By meter and day, where the day is sealed: its end, and what was used on it."""
    used: dict[str, dict[int, tuple[int, float]]] = {}
    for meter in dict.fromkeys(
        [*(m.meter for m in (area.meters if area else [])), *validated]
    ):
        for day, (start, end) in enumerate(pairwise(nights)):
            m = record(area, meter, end)
            read = [f for f in validated.get(meter, []) if start < f["at"] <= end]
            if end + 3 * DAY_SECONDS <= watermark and (
                (m and not 0 < m.until < end) or any(not f["estimated"] for f in read)
            ):
                ratio = m.ct * m.pt if m else 1
                used.setdefault(meter, {})[day] = (
                    end,
                    ratio * day_of(m, read, start, end, interval)["kwh"],
                )
    return used


def day_of(
    m: Meter | None, read: list[Facts], start: int, end: int, interval: int
) -> Facts:
    """One meter's day."""
    expected = (end - start) / (m.interval_s if m else interval)
    energy = [f["kwh"] for f in read if not math.isnan(f["kwh"])]
    volted = [f for f in read if not math.isnan(most(f["u"]))]
    live = sum(most(f["u"]) > 0.5 * m.un_v for f in volted) if m else 0
    own = max(m.interval_s if m else 0, interval)
    back = sum(max(-total([0.0, *f["p"]]), 0) * own / HOUR_SECONDS for f in read)
    curve: dict[int, float] = {}
    for f in read:
        if not math.isnan(f["kwh"]):
            step = (f["at"] - start - 1) // interval
            curve[step] = curve.get(step, 0.0) + f["kwh"]
    return {
        "record": m,
        "hours": hourly(read, start, interval),
        "class": m.segment if m else "",
        "curve": curve,
        "at": end,
        "kwh": sum(energy) if len(energy) >= expected / 2 else NOT_A_NUMBER,
        "coverage": min(len(energy) / expected, 1),
        "reads": sum(not f["estimated"] for f in read),
        "live": live / len(volted) if volted else NOT_A_NUMBER,
        "back": back,
        "residential": m.segment == "residential" if m else NOT_A_NUMBER,
        "ratio": m.ct * m.pt if m else NOT_A_NUMBER,
        "contract": (m.contract_kva or NOT_A_NUMBER) if m else NOT_A_NUMBER,
        "suspended": m.suspended_kva if m else NOT_A_NUMBER,
        "pv": m.pv_kva if m else NOT_A_NUMBER,
        "share": (min(sum(not f["estimated"] for f in read), expected), expected),
    } | day_peaks(m, read, start, end, interval)


def lived(diary: list[Facts]) -> Iterator[Facts]:
    """A meter's days with what a reader of its diary would have counted."""
    zeros = missing = 0
    usual = apart = NOT_A_NUMBER
    for day in exceeded(diary):
        kwh = day["kwh"] * (1 if math.isnan(day["ratio"]) else day["ratio"])
        zero = day["kwh"] == 0 and day["coverage"] >= 0.9 and not day["live"] < 0.5
        used = day["kwh"] > 0
        stopped = bool(m := day["record"]) and 0 < m.stopped <= day["at"]
        zeros = 0 if stopped else zeros + 1 if zero else 0 if used else zeros
        seldom = math.floor(1.5 * (apart - 1)) if apart >= 1.5 else 0
        gone, before = MISSING_DAYS_LIMIT + seldom, missing
        missing = (
            0
            if day["reads"]
            else missing + 1
            if missing != gone or day["area_read"]
            else missing
        )
        unread = missing if missing <= gone else -math.inf
        yield day | {
            "zero_days": zeros if zero or used else NOT_A_NUMBER,
            "missing_days": unread,
            "usual": usual,
            "unread_usual": seldom,
        }
        if day["reads"]:
            taught = 1 if apart == 0 else 1 - 2 ** (-1 / 8)
            apart = (
                0.0
                if math.isnan(apart) or before > gone
                else apart + taught * (before + 1 - apart)
            )
        if used:
            usual = (
                kwh
                if math.isnan(usual)
                else usual + (1 - 2 ** (-1 / 28)) * (kwh - usual)
            )


def newcomer(area: Area | None, meter: str) -> float:
    """Since when a customer is new who was connected when half of the area stood; infinity for any other."""
    records = sorted(area.meters if area else [], key=lambda m: m.effective)
    mine = [m for m in records if m.meter == meter]
    if area is None or not mine or not mine[0].customer or meter == area.gateway:
        return math.inf
    first = next(m for m in records if m.customer == mine[0].customer)
    begun = sorted(
        min(m.effective for m in records if m.meter == name)
        for name in {m.meter for m in records}
    )
    new = begun[(len(begun) - 1) // 2] < mine[0].effective == first.effective
    return mine[0].effective if new else math.inf


def first_month(diary: Iterator[Facts], since: float) -> Iterator[Facts]:
    """A new customer's days with how long nothing was read, and the mean load of those that were."""
    kw: list[float] = []
    read = followed = False
    for day in diary:
        age = (day["at"] - since) / DAY_SECONDS
        followed = followed or 0 < age <= 1.05
        told: Facts = {"unread": NOT_A_NUMBER, "load": NOT_A_NUMBER}
        if followed and 0 < age <= 61:
            told = {"unread": -math.inf, "load": math.inf}
            if not math.isnan(day["kwh"]):
                kw.append(day["kwh"] / day["coverage"] * day["ratio"] / 24)
            read = read or day["reads"] > 0
            if age <= 60 and not read:
                told["unread"] = age
            if 30 <= age <= 60 and len(kw) >= 15 and day["contract"] > 0:
                told["load"] = sum(kw) / len(kw) / day["contract"]
        yield day | told


def balance(today: dict[str, Facts], gateway: str) -> Facts:
    """What went into an area and what was lost, primary kWh; three deviations of what was not read."""
    users = [day for meter, day in today.items() if meter != gateway]
    known = [day for day in users if not math.isnan(day["ratio"])]
    nothing: Facts = {"in": NOT_A_NUMBER, "loss": NOT_A_NUMBER, "doubt": NOT_A_NUMBER}
    if gateway not in today or not known:
        return nothing
    through = today[gateway]
    put_in = (total([0.0, through["kwh"]]) - through["back"]) * through["ratio"]
    put_in += sum(d["back"] * d["ratio"] for d in known)
    taken = sum(total([0.0, d["kwh"]]) * d["ratio"] for d in known)
    coverage = min(through["coverage"], sum(d["coverage"] for d in users) / len(users))
    if put_in <= 1e-6 or coverage < 0.98:
        return nothing
    contracts = [d["contract"] for d in users if d["contract"] > 0]
    mean = sum(contracts) / len(contracts) if contracts else 1.0
    weights = [d["contract"] if d["contract"] > 0 else mean for d in users]
    read = sum(
        w for w, d in zip(weights, users, strict=True) if not math.isnan(d["kwh"])
    )
    gaps = []
    for w, d in zip(weights, users, strict=True):
        if not math.isnan(d["kwh"]):
            gaps.append(d["kwh"] * total([0.0, d["ratio"]]) * (1 / d["coverage"] - 1))
        else:
            gaps.append(taken * w / read if read else 0.0)
    gap = through["kwh"] * through["ratio"] * (1 / through["coverage"] - 1)
    digits = [0.01 * total([0.0, d["ratio"]]) for d in today.values()]
    doubt = math.sqrt(3 * (sum(x * x for x in [*gaps, gap, *digits])))
    return {
        "in": put_in + gap,
        "loss": put_in + gap - taken - sum(gaps),
        "doubt": doubt,
    }


def read_days(balances: Iterable[Facts], zone: str) -> Iterator[Facts]:
    """An area's days with the share of readings that usually arrives on such a weekday."""
    usual: dict[int, float] = {}
    read = 0
    for day in balances:
        share, weekday = (
            day["read_share"],
            datetime.fromtimestamp(day["at"] - 1, ZoneInfo(zone)).weekday(),
        )
        yield day | {"usual_read": usual.get(weekday, NOT_A_NUMBER)}
        read = day["at"] if share > 0 else read
        if day["at"] - read < 7 * DAY_SECONDS:
            known = usual.get(weekday, share)
            usual[weekday] = known + 0.3 * (share - known)


def losses(balances: list[Facts]) -> Iterator[Facts]:
    """An area's days with the last seven losses, what was usual at their load before each, and what was beyond it."""
    lows: list[float] = []
    highs: list[float] = []
    week: list[
        tuple[float, float]
    ] = []  # what was lost beyond the usual, and the square of its deviation
    usual = FadingLossLine()
    for day in balances:
        loss, doubt, through = day["loss"], day["doubt"], day["in"]
        expected, spread = (
            usual.at(through),
            max(math.sqrt(usual.var), 0.0005 * through),
        )
        told: Facts = dict.fromkeys(
            ("third", "least", "unusual", "excess"), NOT_A_NUMBER
        )
        told |= {
            "mean": expected / through,
            "spread": spread / through,
            "seen": usual.seen,
        }
        if not math.isnan(loss):
            lows, highs = (
                [*lows, (loss - doubt) / through][-7:],
                [*highs, (loss + doubt) / through][-7:],
            )
            told |= {"third": third(lows), "least": -third([-x for x in highs])}
        if doubt <= 0.01 * through:
            line = 0.07 * through if usual.seen < 6 else min(expected, 0.07 * through)
            week = [*week, (loss - line, spread**2 + (doubt / 3) ** 2)][-7:]
            weights = sum(1 / square for _, square in week)
            error = math.sqrt(1 / weights + spread**2 / min(max(usual.seen, 1), 30))
            if len(week) > 2:
                told["excess"] = (
                    sum(x / square for x, square in week) / weights - 3 * error
                )
            told["unusual"] = loss - expected
            usual.learn(day["at"], loss, through, expected)
        yield day | told


def third(values: list[float]) -> float:
    """The third-highest."""
    return sorted(values)[-3] if len(values) > 2 else NOT_A_NUMBER


class FadingLossLine:
    """A clerk's fading line through loss against the square of the energy; he believes no day entirely."""

    def __init__(self) -> None:
        self.loss, self.square, self.spread, self.together, self.var = (
            NOT_A_NUMBER,
            0.0,
            0.0,
            0.0,
            0.0,
        )
        self.then = self.seen = 0

    def at(self, energy: float) -> float:
        """The loss to expect at so much energy."""
        if self.seen < 2:
            return self.loss
        prior = (0.1 * self.square) ** 2
        slope = (self.together + prior * self.loss / self.square) / (
            self.spread + prior
        )
        return self.loss + max(slope, 0.0) * (energy**2 - self.square)

    def learn(self, at: int, loss: float, energy: float, expected: float) -> None:
        """Take a day in."""
        expected = expected if self.seen else loss
        narrow = (
            math.inf if self.seen < 3 else max(math.sqrt(self.var), 0.0005 * energy)
        )
        widest = max(narrow, 0.3 * abs(expected)) if self.seen < 6 else narrow
        step = min(max(loss - expected, -widest), widest)
        keep = min(
            2 ** ((self.then - at) / (30 * DAY_SECONDS)), 1 - 1 / (self.seen + 1)
        )
        off = expected + step - self.loss if self.seen else 0.0
        more = energy**2 - self.square
        self.loss = expected + step - keep * off
        self.square += (1 - keep) * more
        self.spread = keep * (self.spread + (1 - keep) * more * more)
        self.together = keep * (self.together + (1 - keep) * more * off)
        self.var = keep * (
            self.var + (1 - keep) * min(max(loss - expected, -narrow), narrow) ** 2
        )
        self.then, self.seen = at, self.seen + 1
