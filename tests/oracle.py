"""The slow twin: what must be told of a stream at its end, in plain loops over plain numbers.

Written from the rules' docstrings, the catalogue and the design; it knows no batch, no slot, no wave and no amendment:
it looks at everything that arrived, and works out how every episode ends. Area windows are taken from all rows that
came within the grace period; the order of arrival matters for which reading of a meter comes first alone.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from schemas.columns import Payment, Payments, Progress, Readings, Stages, Status
from schemas.master import Area, Meter
from tests.hostile import DAY, HOUR, NAN, Row, Stream

MINUTE = 60
Facts = dict[str, Any]
Key = tuple[str, str, str, int]  # rule, area, subject, since
WORDS = (0xFFFFFFFF, 0x7FFFFFFF, -0x80000000)
SENTINELS = (61166.0, 65535.0, *(word / 10**places for word in WORDS for places in range(5)))


LIMITS = {"reading": DAY, "checking": DAY, "review": DAY, "issue": 5 * DAY, "collection": 20 * DAY}


class Ending(NamedTuple):
    """How an episode stood when the stream had ended."""

    state: str
    severity: int
    raised: int
    at: int
    score: float
    phase: str


Endings = dict[Key, Ending]


@dataclass
class Rule:
    """A raise line at 1 with its hold, worse lines, a clear line with its release, and what silence ends a run."""

    score: Callable[[Facts], float | list[float]]
    severity: int
    hold: int = 0
    release: int = 0
    clear: float = 0.9
    worse: tuple[tuple[float, int, int], ...] = ()  # score, severity, hold
    lull: float = math.inf


@dataclass
class Watch:
    """One rule on one subject: what it would remember if it were a clerk with a notebook."""

    rule: Rule
    runs: dict[int, int] = field(default_factory=dict)  # since when each level has been reached, by its number
    calm: int | None = None
    severity: int = 0
    since: int = 0
    endings: dict[int, Ending] = field(default_factory=dict)

    def see(self, at: int, score: float, phase: str, gap: float) -> None:
        """Take one observation; one that cannot tell changes nothing."""
        rule = self.rule
        if math.isnan(score):
            return
        if not self.severity and gap > max(rule.lull, rule.hold):
            self.runs = {}
        levels = [(1.0, rule.severity, rule.hold), *rule.worse]
        for n, (line, _, _) in enumerate(levels):
            if score >= line:
                self.runs.setdefault(n, at)
            elif n or not self.severity:
                self.runs.pop(n, None)
        worst = min((s for n, (line, s, hold) in enumerate(levels)
                     if score >= line and at - self.runs[n] >= hold), default=0)  # fmt: skip
        if self.severity and score < rule.clear:
            self.calm = at if self.calm is None else min(self.calm, at)
            if at - self.calm >= rule.release:
                self.endings[self.since] = self.endings[self.since]._replace(state="cleared", at=at)
                self.severity, self.calm, self.runs = 0, None, {}
        else:
            self.calm = None
            if worst and (not self.severity or worst < self.severity):
                raised = self.endings[self.since].raised if self.severity else at
                self.severity, self.since = worst, self.runs[0]
                self.endings[self.since] = Ending("raised", worst, raised, at, score, phase)


def single(value: float) -> float:
    """The nearest number of single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


def between(trouble: bool, well: bool) -> float:
    """1 in trouble, 0 when well, between the two nothing changes."""
    return 1.0 if trouble else 0.0 if well else 0.95


def gated(score: float, gate: bool) -> float:
    """Behind a closed gate there is no trouble."""
    return score if gate else min(score, 0.95)


def by_phase(judge: Callable[[Facts, int], float], *needs: str) -> Callable[[Facts], list[float]]:
    """A score per phase; NaN where a need is NaN, of the phase or of the whole."""

    def score(f: Facts) -> list[float]:
        told = []
        for n in range(3):
            values = [f[need][n] if isinstance(f[need], list) else f[need] for need in needs]
            told.append(NAN if any(math.isnan(v) for v in values) else judge(f, n))
        return told

    return score


def whole(judge: Callable[[Facts], float], *needs: str) -> Callable[[Facts], float]:
    """One score; NaN where a need is NaN."""
    return lambda f: NAN if any(math.isnan(f[need]) for need in needs) else judge(f)


def voltage_deviation(f: Facts, n: int) -> float:
    ratio, low = f["u"][n] / f["un"], 0.93 if f["phases"] == 3 else 0.90
    return between(ratio > 1.07 or 0.60 < ratio < low, low + 0.01 < ratio < 1.07 - 0.01)


def load_unbalance(f: Facts) -> float:
    if f["gateway"] != 1:
        return NAN
    amps, limit = [abs(a) for a in f["current"]], 0.25 if f["dyn11"] else 0.15
    if any(math.isnan(a) for a in amps) or max(amps) == 0:
        return NAN
    spread = 1 - min(amps) / max(amps)
    return gated(between(False, spread < limit - 0.05) if spread <= limit else spread / limit,
                 f["kva"] > 0.5 * f["rating_kva"])  # fmt: skip


def burst(f: Facts) -> float:
    if f["attempts"] < 40 or math.isnan(f["usual"]):
        return NAN
    spread = math.sqrt(max(f["usual"] * (1 - f["usual"]), 1e-4) / f["attempts"])
    return min(f["share"] / max(0.05, f["usual"] + 3 * spread), f["share"] * f["attempts"] / 5)


def usual_line(f: Facts) -> float:
    """Above which line loss is too high: 10 % until six days are known, then by habit."""
    return min(max(f["mean"] + max(3 * f["spread"], 0.01), 0.07), 0.10) if f["seen"] >= 6 else 0.10


READINGS = {
    "voltage_loss": Rule(by_phase(
        lambda f, n: between(f["u"][n] < 0.78 * f["un"] and abs(f["i"][n]) > 0.005 * f["ib"],
                             f["u"][n] > 0.85 * f["un"]),
        "u", "i", "un", "ib"), 1, MINUTE, MINUTE, lull=2 * HOUR),
    "phase_break": Rule(by_phase(
        lambda f, n: between(f["u"][n] < 0.6 * f["un"] and abs(f["i"][n]) < 0.005 * f["ib"]
                             and f["most_u"] > 0.7 * f["un"], f["u"][n] > 0.7 * f["un"]),
        "u", "i", "un", "ib"), 2, MINUTE, MINUTE, lull=2 * HOUR),
    "current_loss": Rule(by_phase(
        lambda f, n: between(f["u"][n] > 0.7 * f["un"] and abs(f["i"][n]) < 0.005 * f["ib"]
                             and f["most_i"] > 0.05 * f["ib"], abs(f["i"][n]) > 0.05 * f["ib"]),
        "u", "i", "un", "ib"), 1, MINUTE, MINUTE, lull=2 * HOUR),
    "reverse_polarity": Rule(by_phase(
        lambda f, n: between(f["p"][n] < -0.005 * f["un"] * f["ib"] / 1000 and f["pv_kva"] == 0
                             and (total(f["p"]) < 0 if f["elements"] == 2 else f["most_p"] > 0 or f["elements"] == 1),
                             f["p"][n] >= 0),
        "p", "un", "ib", "pv_kva"), 1, 15 * MINUTE, 15 * MINUTE, lull=2 * HOUR),
    "meter_current_unbalance": Rule(by_phase(
        lambda f, n: gated(abs(abs(f["i"][n]) - f["mean_i"]) / f["mean_i"] / 0.3, f["most_i"] > 0.05 * f["ib"])
        if f["mean_i"] else NAN, "i", "mean_i", "ib"), 3, HOUR, DAY, worse=((3.0, 2, HOUR),), lull=2 * HOUR),
    "voltage_deviation": Rule(by_phase(voltage_deviation, "u", "un"), 3, HOUR // 2, HOUR // 2, lull=2 * HOUR),
    "over_contract_capacity": Rule(whole(
        lambda f: f["kva"] / max(f["contract_kva"] - f["suspended_kva"], 1.0) / 1.05, "kva", "contract_kva"),
        3, 2 * HOUR, DAY, 1 / 1.05, ((1.2 / 1.05, 2, 2 * HOUR),), 2 * HOUR),
    "meter_stopped": Rule(whole(
        lambda f: between(f["delta"] == 0 and f["still"] >= 0.1, f["delta"] > 0), "delta", "still"), 1, 4 * HOUR,
        lull=2 * HOUR),
    "register_decrease": Rule(whole(
        lambda f: between(f["drop"] > 0.01, f["drop"] <= 0.01), "drop"), 1, release=30 * DAY, lull=2 * HOUR),
}  # fmt: skip
CLOCKS = {"clock_drift": Rule(lambda f: abs(f["offset"]) / 300, 4, 1, 0, 0.4, ((2.0, 3, 1),), 3 * DAY)}
INTERVALS = {
    "transformer_overload": Rule(
        lambda f: f["kva"] / f["rating_kva"] / 0.8 if f["coverage"] >= 0.9 else NAN, 3, 2 * HOUR, HOUR, 0.75 / 0.8,
        ((1 / 0.8, 2, 2 * HOUR), (1.5 / 0.8, 1, 15 * MINUTE)), 2 * HOUR),
    "area_load_unbalance": Rule(load_unbalance, 3, 2 * HOUR, HOUR, lull=2 * HOUR),
}  # fmt: skip
DAYS = {
    "zero_usage": Rule(
        lambda f: gated(f["zero_days"] / (30 if f["residential"] else 7), f["usual"] > 0.5), 3, 0, 2 * DAY
    ),
    "read_failure": Rule(lambda f: f["missing_days"] / 3, 3),
}
BALANCES = {"area_loss_high": Rule(whole(
    lambda f: max(f["third"] / usual_line(f), f["least"] / -0.01), "third", "least", "mean"), 2, 0, 6 * DAY),
}  # fmt: skip
PAYMENTS = {"payment_failure_repeat": Rule(lambda f: between(f["failures"] >= 3, f["failures"] == 0), 2)}
ATTEMPTS = {"payment_failure_burst": Rule(burst, 2, 10 * MINUTE, HOUR // 2)}
ARREARS = {"arrears_tier": Rule(lambda f: f["days"] if f["unpaid"] > 0 else 0.0, 4,
                                worse=((7.0, 3, 0), (15.0, 2, 0), (30.0, 1, 0)))}  # fmt: skip
OVERDUE = {"stage_overdue": Rule(lambda f: f["share"] / 0.8, 3, worse=((1.25, 2, 0), (2.5, 1, 0)))}


def judge(rules: dict[str, Rule], area: str, subject: str, rows: Iterable[Facts], told: Endings) -> None:
    """Let every rule see every row of one subject; NaN of a phase that a meter has is no proof that all is well."""
    watches = {name: Watch(rule) for name, rule in rules.items()}
    before = None
    for f in rows:
        gap = math.inf if before is None else f["at"] - before
        before = f["at"]
        for watch in watches.values():
            score, phase = watch.rule.score(f), ""
            if isinstance(score, list):
                known = {n: s for n, s in enumerate(score) if not math.isnan(s)}
                best = max(known, key=lambda n: (known[n], -n), default=None)
                if best is None or (known[best] < watch.rule.clear and len(known) < f["elements"]):
                    continue
                score, phase = known[best], "ABC"[best]
            watch.see(f["at"], score, phase, gap)
    for name, watch in watches.items():
        told |= {(name, area, subject, since): ending for since, ending in watch.endings.items()}


# Master data and validation.


def record(area: Area | None, meter: str, at: int) -> Meter | None:
    """The record in force in the interval that ends at `at`."""
    mine = [m for m in (area.meters if area else []) if m.meter == meter and m.effective <= at - 1]
    return max(mine, key=lambda m: m.effective) if mine else None


def validated(row: Row, m: Meter | None, interval: int) -> Facts:
    """A reading's columns as plain numbers, what no meter can measure made NaN."""
    c = row.columns
    f: Facts = {name: [float(v) for v in c[name]] for name in ("u", "i", "p", "q")}
    f |= {name: float(c[name]) for name in ("kwh", "register", "clock_offset")}
    f |= {"at": row.at, "estimated": c["status"] == Status.ESTIMATED, "measured": c["status"] == Status.MEASURED}
    limit = math.inf
    if m:
        limit = 2 * m.un_v * m.imax_a * (1 if m.wiring == "1P2W" else 3) / 1000
        limit = max(limit, 2 * (m.contract_kva or 0) / (m.ct * m.pt))

    def sound(name: str, value: float) -> bool:
        bound = {"u": 2 * m.un_v, "i": 2 * m.imax_a, "p": limit, "q": limit}.get(name, math.inf) if m else math.inf
        if name == "kwh" and m:
            bound = limit * interval / HOUR
        sentinel = value in SENTINELS or (name != "register" and value in map(single, SENTINELS))
        positive = value >= 0 or name in ("i", "p", "q")
        return not (sentinel or math.isinf(value) or f["estimated"] or abs(value) > bound) and positive

    for name in ("u", "i", "p", "q"):
        f[name] = [v if sound(name, v) else NAN for v in f[name]]
    for name in ("kwh", "register"):
        f[name] = f[name] if sound(name, f[name]) else NAN
    if m and m.wiring == "3P3W":
        f["u"][1] = f["i"][1] = NAN
    return f


def most(values: list[float]) -> float:
    """The largest that is known."""
    return max((v for v in values if not math.isnan(v)), default=NAN)


def total(values: list[float]) -> float:
    """The sum of what is known, NaN when nothing is."""
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) if known else NAN


def apparent(f: Facts, m: Meter | None) -> float:
    """Primary kVA from P and Q, else from U and I, else from I at nominal voltage; NaN without a current."""
    if m is None:
        return NAN
    ratio, live = m.ct * m.pt, [n for n in range(3) if not math.isnan(f["i"][n])]
    p, q = total(f["p"]), total(f["q"])
    if not (math.isnan(p) or math.isnan(q) or any(math.isnan(f["p"][n]) for n in live)):
        return math.hypot(p, q) * ratio
    if not live:
        return NAN
    product = sum(abs(f["i"][n]) * (m.un_v if math.isnan(f["u"][n]) else f["u"][n]) for n in live) / 1000 * ratio
    return product * (math.sqrt(3) / 2 if m.wiring == "3P3W" else 1)


class Notebook:
    """What a meter's registers and clock have said so far."""

    def __init__(self) -> None:
        self.register = self.odd = self.clock = NAN
        self.read = self.then = 0
        self.still = 0.0
        self.record: Meter | None = None

    def take(self, f: Facts, m: Meter | None) -> None:
        """Adds delta, drop and still to a reading, and takes away what it cannot have measured."""
        if m is not self.record:
            self.register = self.odd = NAN
        self.record = m
        register, clock = f["register"], f["at"] + f["clock_offset"]
        if register == self.register and clock <= self.clock:  # a repeated snapshot
            f |= {name: [NAN] * 3 for name in ("u", "i", "p", "q")} | {"kwh": NAN, "kva": NAN}
            register = NAN
        self.clock = self.clock if math.isnan(clock) else clock
        delta, drop = register - self.register, 0.0 if not math.isnan(register) else NAN
        if m and delta < 0 and self.register > 0.9 * 10**m.register_digits > 9 * register:
            delta += 10**m.register_digits
        seconds = f["at"] - self.read
        most = 2 * m.un_v * m.imax_a * (1 if m.wiring == "1P2W" else 3) / 1000 * seconds / HOUR + 1 if m else math.inf
        fell, leapt = delta < 0, delta > most
        again = self.odd <= register <= (self.odd + most if leapt else math.inf)
        if (fell and not (self.odd < self.register and again)) or (leapt and not (self.odd > self.register and again)):
            self.odd, delta, drop = register, NAN, NAN if fell else 0.0  # perhaps transient: wait for a second one
        elif not math.isnan(register):
            if m and seconds > 4 * m.interval_s and f["kwh"] > 0.5 and f["kwh"] >= 0.95 * delta:
                f["kwh"] = NAN  # a backfill lump
            drop = self.register - self.odd if fell else drop
            delta = NAN if fell or leapt else delta
            self.register, self.read, self.odd = register, f["at"], NAN
        power = total(f["p"])
        still = NAN
        if not math.isnan(delta) and not math.isnan(power):
            hours = min(f["at"] - self.then, HOUR) / HOUR if self.then else 0
            still = self.still = 0.0 if delta > 0 else self.still + max(power, 0) * hours
            self.then = f["at"]
        f |= {"delta": delta, "drop": drop, "still": still}


def readings_told(
    area: Area | None, name: str, meter: str, rows: list[Row], interval: int
) -> tuple[Endings, list[Facts]]:
    """How the episodes of one meter's readings end, and the readings as they were believed.

    Its history begins with the first of its readings to arrive; from there on they count in order of time.
    """
    told: Endings = {}
    notebook, newest, forward, believed = Notebook(), 0, [], []
    for row in sorted(rows, key=lambda row: row.at):
        m = record(area, meter, row.at)
        f, own = validated(row, m, interval), max(m.interval_s if m else 0, interval)
        f["kva"], f["record"] = apparent(f, m), m
        believed.append(f)
        if row.at < rows[0].at or row.at == newest:
            continue
        notebook.take(f, m)
        if math.isnan(f["kwh"]) and f["measured"] and newest and row.at - newest <= 1.5 * own:
            f["kwh"] = single(f["delta"])
        newest = row.at
        amps = [abs(i) for i in f["i"]]
        f |= {"most_u": most(f["u"]), "most_i": most(amps), "mean_i": sum(amps) / 3, "most_p": most(f["p"])}
        f |= {"un": m.un_v if m else NAN, "ib": m.ib_a if m else NAN, "pv_kva": m.pv_kva if m else NAN}
        f |= {"contract_kva": NAN if m is None or m.contract_kva is None else m.contract_kva}
        f |= {"suspended_kva": m.suspended_kva if m else NAN, "phases": 1 if m and m.wiring == "1P2W" else 3}
        f |= {"elements": {"1P2W": 1, "3P3W": 2, "3P4W": 3}[m.wiring] if m else 0}
        forward.append(f)
    judge(READINGS, name, meter, forward, told)
    clocks = [{"at": f["at"], "offset": f["clock_offset"]} for f in forward if not math.isnan(f["clock_offset"])]
    judge(CLOCKS, name, meter, clocks, told)
    return told, believed


# Windows of an area.


def midnights(stream: Stream) -> list[int]:
    """Every local midnight from the day of the first reading on."""
    zone, first = ZoneInfo(stream.zone), min(row.at for row in stream.rows)
    day = datetime.fromtimestamp(first - 1, zone).replace(hour=0, minute=0, second=0)
    days = [day + timedelta(n) for n in range(40)]
    return [int(datetime(d.year, d.month, d.day, tzinfo=zone).timestamp()) for d in days]


def area_clock(rows: list[Row], single: bool) -> int:
    """The second-highest stamp of the area's meters; a meter that has long been alone moves it by its last but one."""
    newest: dict[str, int] = {}
    clock, since, latest = 0, 0, ""
    for row in rows:
        since = since if row.subject == latest else row.at
        latest, top = row.subject, max(newest.values(), default=0)
        newest[latest] = max(newest.get(latest, 0), row.at)
        clock = max(clock, *sorted([0, 0, *newest.values()])[-2:-1])
        if single or row.at - since > 2 * DAY:
            clock = max(clock, min(row.at, top))
    return clock


def intervals_of(believed: dict[str, list[Facts]], nights: list[int], interval: int) -> dict[int, dict[str, Facts]]:
    """The readings by the end of their local interval; what is left over at the end of a day of 23 hours is none."""
    ends: dict[int, dict[str, Facts]] = {}
    for start, midnight in pairwise(nights):
        for end in range(start + interval, midnight + 1, interval):
            here = {m: f for m, readings in believed.items() for f in readings if end - interval < f["at"] <= end}
            if here:
                ends[end] = here
    return ends


def intervals_told(
    area: Area, believed: dict[str, list[Facts]], nights: list[int], interval: int, until: int
) -> Endings:
    """How the episodes of the transformer end: the gateway's word, else the sum of the users'."""
    told: Endings = {}
    rows = []
    for at, mine in intervals_of(believed, nights, interval).items():
        if at > until:
            break
        transformers = [t for t in area.transformers if t.effective <= at - 1]
        rating = max(transformers, key=lambda t: t.effective) if transformers else None
        f: Facts = {"at": at, "rating_kva": rating.rating_kva if rating else NAN}
        f["dyn11"] = rating is not None and rating.vector_group == "Dyn11"
        gateway = mine.pop(area.gateway, None)
        if gateway and not math.isnan(gateway["kva"]):
            ratio = gateway["record"].ct * gateway["record"].pt
            f |= {"gateway": 1, "coverage": 1.0, "kva": gateway["kva"], "current": [i * ratio for i in gateway["i"]]}
        else:
            users = [u["kva"] for u in mine.values() if not math.isnan(u["kva"])]
            if not users:
                continue
            names = {m.meter for m in area.meters} - {area.gateway}
            records = [m for name in names if (m := record(area, name, at)) and not 0 < m.until < at]
            f |= {"gateway": 0, "coverage": len(users) / max(len(records), 1), "kva": sum(users)}
        rows.append(f)
    judge(INTERVALS, area.area, "", rows, told)
    return told


def days_told(
    name: str, area: Area | None, believed: dict[str, list[Facts]], days: list[tuple[int, int]], interval: int
) -> Endings:
    """How the episodes of closed days end, of every meter and of the area."""
    told: Endings = {}
    meters = dict.fromkeys([*(m.meter for m in (area.meters if area else [])), *believed])
    diaries: dict[str, list[Facts]] = {meter: [] for meter in meters}
    balances = []
    for start, end in days:
        today = {}
        for meter in meters:
            m = record(area, meter, end)
            read = [f for f in believed.get(meter, []) if start < f["at"] <= end]
            if (m and not 0 < m.until < end) or any(not f["estimated"] for f in read):
                today[meter] = day_of(m, read, start, end, interval)
        for meter, day in today.items():
            diaries[meter].append(day)
        if area and area.gateway in today and len(today) > 1:
            balances.append(balance(today, area.gateway))
    for meter, diary in diaries.items():
        judge(DAYS, name, meter, lived(diary), told)
    judge(BALANCES, name, "", losses(balances), told)
    return told


def day_of(m: Meter | None, read: list[Facts], start: int, end: int, interval: int) -> Facts:
    """One meter's day."""
    expected = (end - start) / (m.interval_s if m else interval)
    energy = [f["kwh"] for f in read if not math.isnan(f["kwh"])]
    volted = [f for f in read if not math.isnan(most(f["u"]))]
    live = sum(most(f["u"]) > 0.5 * m.un_v for f in volted) if m else 0
    own = max(m.interval_s if m else 0, interval)
    back = sum(max(-total([0.0, *f["p"]]), 0) * own / HOUR for f in read)
    return {
        "at": end, "kwh": sum(energy) if len(energy) >= expected / 2 else NAN,
        "coverage": min(len(energy) / expected, 1), "reads": sum(not f["estimated"] for f in read),
        "live": live / len(volted) if volted else NAN, "back": back,
        "residential": m.segment == "residential" if m else NAN, "ratio": m.ct * m.pt if m else NAN,
    }  # fmt: skip


def lived(diary: list[Facts]) -> Iterator[Facts]:
    """A meter's days with what a reader of its diary would have counted."""
    zeros = missing = 0
    usual = NAN
    for day in diary:
        zero = day["kwh"] == 0 and day["coverage"] >= 0.9 and not day["live"] < 0.5
        used = day["kwh"] > 0
        zeros = zeros + 1 if zero else 0 if used else zeros
        missing = 0 if day["reads"] else missing + 1
        yield day | {"zero_days": zeros if zero or used else NAN, "missing_days": missing, "usual": usual}
        if used:
            usual = day["kwh"] if math.isnan(usual) else usual + (1 - 2 ** (-1 / 28)) * (day["kwh"] - usual)


def balance(today: dict[str, Facts], gateway: str) -> Facts:
    """What went into an area and what came out, primary kWh."""
    users = [day for meter, day in today.items() if meter != gateway]
    known = [day for day in users if not math.isnan(day["ratio"])]
    through = today[gateway]
    put_in = (total([0.0, through["kwh"]]) - through["back"]) * through["ratio"]
    put_in += sum(d["back"] * d["ratio"] for d in known)
    taken = sum(total([0.0, d["kwh"]]) * d["ratio"] for d in known)
    coverage = min(through["coverage"], sum(d["coverage"] for d in users) / len(users))
    loss = (put_in - taken) / put_in if put_in > 1e-6 and coverage >= 0.98 and known else NAN
    return {"at": through["at"], "loss": loss}


def losses(balances: list[Facts]) -> Iterator[Facts]:
    """An area's days with the last seven losses, and the habit before each."""
    seven: list[float] = []
    mean, var, then, seen = NAN, 0.0, 0, 0
    for day in balances:
        loss = day["loss"]
        spread = math.sqrt(var)
        if not math.isnan(loss):
            seven = [*seven, loss][-7:]
        few = len(seven) < 3 or math.isnan(loss)
        third, least = (NAN, NAN) if few else (sorted(seven)[-3], sorted(seven)[2])
        yield day | {"third": third, "least": least, "mean": mean, "spread": spread, "seen": seen}
        if not math.isnan(loss):
            keep = min(2 ** ((then - day["at"]) / (30 * DAY)), 1 - 1 / (seen + 1))
            widest = math.inf if seen < 3 else 3 * max(spread, 0.1 * abs(mean))
            step = min(max(loss - mean, -widest), widest)
            mean = mean + (1 - keep) * step if seen else loss
            var = keep * (var + (1 - keep) * step * step) if seen else 0.0
            then, seen = day["at"], seen + 1


# Offices: payments and work.


def customers_told(area: str, rows: list[Row]) -> Endings:
    """How the episodes of failing payments end, of customers and of channels."""
    told: Endings = {}
    attempts = [r for r in rows if r.columns["payment"] in (Payment.PAYMENT, Payment.TOPUP)]
    for customer in dict.fromkeys(r.subject for r in attempts):
        facts: list[Facts] = []
        failed: list[int] = []
        for row in [r for r in attempts if r.subject == customer]:
            failed = [] if row.columns["succeeded"] else [*failed, row.at][-3:]
            facts.append({"at": row.at, "failures": sum(at > row.at - DAY for at in failed)})
        judge(PAYMENTS, area, customer, facts, told)
    for channel in dict.fromkeys(r.columns["channel"] for r in attempts):
        tried = [(r.at, r.columns["succeeded"] == 0) for r in attempts if r.columns["channel"] == channel]
        judge(ATTEMPTS, area, channel, shares(tried), told)
    return told


def shares(attempts: list[tuple[int, bool]]) -> Iterator[Facts]:
    """How often a channel's attempts fail: of late, fading over 50, and by habit in this hour of the week."""
    habit: dict[int, tuple[float, float]] = {}  # attempts and failures by hour of the week
    share = weight = 0.0
    for hour, group in groupby(attempts, key=lambda attempt: attempt[0] // HOUR):
        here = list(group)
        tried, failed = (sum(counts) for counts in zip((0, 0), *habit.values(), strict=True))
        usual = failed / tried if tried else NAN
        own = habit.get(hour % 168, (0.0, 0.0))
        for at, fails in here:
            weight = weight * 0.98 + 1
            share += (fails - share) / weight
            yield {"at": at, "share": share, "attempts": weight, "usual": own[1] / own[0] if own[0] >= 50 else usual}
        most = len(here) * (2 * usual + 0.02) if tried else math.inf
        habit[hour % 168] = 0.8 * own[0] + len(here), 0.8 * own[1] + min(sum(fails for _, fails in here), most)


def bills_told(area: str, rows: list[Row], clock: int) -> Endings:
    """How the episodes of unpaid bills end, as far as the area's clock has come."""
    told: Endings = {}
    for row in [r for r in rows if r.columns["payment"] == Payment.BILL]:
        mine = [r for r in rows if r.subject == row.subject and r.columns["bill"] == row.columns["bill"]]
        paid = sorted((r.at, r.columns["amount"]) for r in mine
                      if r.columns["payment"] == Payment.PAYMENT and r.columns["succeeded"])  # fmt: skip
        settled = next((at for n, (at, _) in enumerate(paid, 1)
                        if sum(a for _, a in paid[:n]) >= row.columns["amount"]), math.inf)  # fmt: skip
        facts: list[Facts] = []
        for days in (1, 7, 15, 30):
            at = row.columns["due"] + days * DAY
            if at < (clock + 1 if settled == math.inf else settled):
                unpaid = row.columns["amount"] - sum(a for when, a in paid if when <= at)
                facts.append({"at": at, "days": days, "unpaid": unpaid})
        if settled < math.inf:
            facts.append({"at": settled, "days": 0, "unpaid": 0})
        judge(ARREARS, area, f"{row.subject}/{row.columns['bill']}", sorted(facts, key=itemgetter("at")), told)
    return told


def work_told(section: str, rows: list[Row], clock: int) -> Endings:
    """How the episodes of stalled work end, as far as the section's clock has come."""
    told: Endings = {}
    for item in dict.fromkeys((r.subject, r.columns["stage"]) for r in rows):
        mine = [r for r in rows if (r.subject, r.columns["stage"]) == item]
        ends = [r.at for r in mine if r.columns["progress"] == Progress.FINISHED]
        facts: list[Facts] = []
        done = -math.inf
        for row in sorted((r for r in mine if r.columns["progress"] == Progress.STARTED), key=lambda r: r.at):
            if row.at < done:
                continue  # it had not left the stage
            done = min((end for end in ends if end >= row.at), default=math.inf)
            limit = row.columns["limit"] if row.columns["limit"] > 0 else LIMITS.get(item[1], NAN)
            if not math.isnan(limit):
                marks = [(row.at + round(share * limit), share) for share in (0.8, 1.0, 2.0)]
                until = clock + 1 if done == math.inf else done
                facts += [{"at": at, "share": share} for at, share in marks if at < until]
            if done < math.inf:
                facts.append({"at": done, "share": 0.0})
        judge(OVERDUE, section, "/".join(item), sorted(facts, key=itemgetter("at")), told)
    return told


def expected(stream: Stream) -> Endings:
    """Every episode of a stream, as it stands at its end."""
    told: Endings = {}
    areas = {area.area: area for area in stream.areas}
    nights = midnights(stream)
    once: dict[str, Row] = {}
    for row in stream.rows:
        once.setdefault(repr(row), row)
    for name in dict.fromkeys(row.area for row in stream.rows):
        rows = [row for row in once.values() if row.area == name]
        reads = [row for row in rows if row.kind is Readings]
        area = areas.get(name)
        believed: dict[str, list[Facts]] = {}
        for meter in dict.fromkeys(row.subject for row in reads):
            mine = [row for row in reads if row.subject == meter]
            endings, believed[meter] = readings_told(area, name, meter, mine, stream.interval)
            told |= endings
        clock = area_clock(reads, area is not None and len({m.meter for m in area.meters}) == 1)
        days = [(start, end) for start, end in pairwise(nights) if end + HOUR <= clock]
        told |= days_told(name, area, believed, days, stream.interval)
        if area:
            told |= intervals_told(area, believed, nights, stream.interval, clock - stream.interval)
        for kind, judged in ((Payments, bills_told), (Stages, work_told)):
            office = [row for row in rows if row.kind is kind]
            newest: dict[str, int] = {}
            for row in [row for row in rows if row.kind in (Payments, Stages)]:
                newest[row.subject] = max(newest.get(row.subject, 0), row.at)
            told |= judged(name, office, max([clock, *sorted(newest.values())[-2:-1]]))
        told |= customers_told(name, [row for row in rows if row.kind is Payments])
    return told
