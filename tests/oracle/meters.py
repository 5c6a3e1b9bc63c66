"""A meter's readings as plain numbers: validation, and the history of its register and its clock."""

from __future__ import annotations

import math
import struct

from schemas.columns import Status
from schemas.master import Area, Meter
from schemas.units import HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row
from tests.oracle.metering import METER_COLUMNS, highest_energy
from tests.oracle.scores import CLOCK_RULES, READING_RULES
from tests.oracle.watch import Endings, Facts, judge, most, total
from tests.oracle.wiring import ELEMENTS_BY_WIRING, WIRING_RULES, Wires, wired

SENTINEL_WORDS = (0xFFFFFFFF, 0x7FFFFFFF, -0x80000000)
SENTINEL_NUMBERS = (
    61166.0,
    65535.0,
    *(word / 10**places for word in SENTINEL_WORDS for places in range(5)),
)
PHASE_COLUMNS = ("u", "i", "p", "q", "thd", "u_angle")
SINGLE_COLUMNS = ("neutral", "terminal_p", "frequency", "temperature")
SIGNED_COLUMNS = ("i", "p", "q", "u_angle", "neutral", "terminal_p", "temperature")
FIXED_BOUNDS = {"thd": 100, "frequency": 100, "temperature": 70, "u_angle": 360}


def single(value: float) -> float:
    """The nearest number of single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


SINGLE_SENTINELS = frozenset(map(single, SENTINEL_NUMBERS))


def record(area: Area | None, name: str, at: int) -> Meter | None:
    """A meter's record in force in the interval that ends at `at`."""
    records = [
        meter
        for meter in (area.meters if area else [])
        if meter.meter == name and meter.effective <= at - 1
    ]
    return max(records, key=lambda meter: meter.effective) if records else None


def validated(row: Row, meter: Meter | None, interval: int) -> Facts:
    """A reading as plain numbers, implausible values NaN."""
    columns = row.columns
    facts: Facts = {
        "at": row.at,
        "stale": False,
        "estimated": columns["status"] == Status.ESTIMATED,
        "measured": columns["status"] == Status.MEASURED,
        "clock_offset": float(columns["clock_offset"]),
        "kwh": float(columns["kwh"]),
        "register": float(columns["register"]),
    }
    for name in PHASE_COLUMNS:
        values = columns.get(name, [NOT_A_NUMBER] * 3)
        facts[name] = [float(value) for value in values]
    for name in (*SINGLE_COLUMNS, "flags", *METER_COLUMNS):
        facts[name] = float(columns.get(name, NOT_A_NUMBER))

    bounds = bounds_of(meter, interval)

    def checked(name: str, value: float) -> float:
        bound = bounds.get(name, math.inf)
        sound = not facts["estimated"] and is_plausible(name, value, bound)
        return value if sound else NOT_A_NUMBER

    for name in PHASE_COLUMNS:
        facts[name] = [checked(name, value) for value in facts[name]]
    for name in ("kwh", "register", *SINGLE_COLUMNS, *METER_COLUMNS[:-2]):
        facts[name] = checked(name, facts[name])
    if meter and meter.wiring == "3P3W":  # its phase B is not measured
        facts["u"][1] = facts["i"][1] = NOT_A_NUMBER
    return facts


def bounds_of(meter: Meter | None, interval: int) -> dict[str, float]:
    """The largest value that a meter can measure, by column."""
    limit = math.inf
    if meter:
        limit = highest_energy(meter, 1)
        limit = max(limit, 2 * (meter.contract_kva or 0) / (meter.ct * meter.pt))
    bounds: dict[str, float] = dict.fromkeys(("p", "q", "terminal_p", "demand"), limit)
    bounds["kwh"] = limit * interval / HOUR_SECONDS
    if meter:
        bounds["u"] = 2 * meter.un_v
        bounds["i"] = bounds["neutral"] = 2 * meter.imax_a
    return bounds | FIXED_BOUNDS


def is_plausible(name: str, value: float, bound: float) -> bool:
    """Whether a value is no sentinel, finite, within its bound, and negative only where it may be."""
    if value in SENTINEL_NUMBERS:
        return False
    if "register" not in name and value in SINGLE_SENTINELS:
        return False
    finite = not math.isinf(value) and not abs(value) > bound
    return finite and (value >= 0 or name in SIGNED_COLUMNS)


def apparent(facts: Facts, meter: Meter | None) -> float:
    """Primary kVA from P and Q, else from U and I, else from I at nominal voltage; NaN without a current."""
    if meter is None:
        return NOT_A_NUMBER
    ratio = meter.ct * meter.pt
    live = [n for n in range(3) if not math.isnan(facts["i"][n])]
    P, Q = total(facts["p"]), total(facts["q"])
    complete = not any(math.isnan(facts["p"][n]) for n in live)
    if complete and not math.isnan(P) and not math.isnan(Q):
        return math.hypot(P, Q) * ratio
    if not live:
        return NOT_A_NUMBER

    products = [
        abs(I) * (meter.un_v if math.isnan(U) else U)
        for U, I in zip(facts["u"], facts["i"], strict=True)
        if not math.isnan(I)
    ]
    kva = sum(products) / 1000 * ratio
    return kva * (math.sqrt(3) / 2 if meter.wiring == "3P3W" else 1)


class MeterNotebook:
    """The history of a meter's register and clock."""

    def __init__(self) -> None:
        self.register = self.odd = self.clock = self.before = NOT_A_NUMBER
        self.read = self.then = self.before_read = 0
        self.dip = 0.0
        self.still = 0.0
        self.record: Meter | None = None

    def take(self, facts: Facts, meter: Meter | None) -> None:
        """Add delta, drop and still to a reading, and make NaN of values it cannot have measured."""
        if meter is not self.record:
            self.register = self.odd = self.before = NOT_A_NUMBER
        self.record = meter
        self.drop_repeated_snapshot(facts)
        delta, drop = self.register_change(facts, meter)
        facts |= {"delta": delta, "drop": drop, "still": self.stillness(facts, delta)}

    def drop_repeated_snapshot(self, facts: Facts) -> None:
        """A reading with the same register and no later clock is the former one again: it measures nothing."""
        clock = facts["at"] + facts["clock_offset"]
        if facts["register"] == self.register and clock <= self.clock:
            facts["stale"] = True
            facts.update({name: [NOT_A_NUMBER] * 3 for name in PHASE_COLUMNS})
            facts.update(dict.fromkeys(("kwh", "kva", *SINGLE_COLUMNS), NOT_A_NUMBER))
        if not math.isnan(clock):
            self.clock = clock

    def register_change(self, facts: Facts, meter: Meter | None) -> tuple[float, float]:
        """By how much the register rose and fell; NaN where it is not known."""
        register = NOT_A_NUMBER if facts["stale"] else facts["register"]
        rolled_over = bool(
            meter
            and register < self.register
            and self.register > 0.9 * 10**meter.register_digits > 9 * register
        )
        if register == 0 < self.register and not rolled_over:
            register = facts["register"] = NOT_A_NUMBER
        delta = register - self.register
        if meter and rolled_over:
            delta += 10**meter.register_digits

        seconds = facts["at"] - self.read
        limit = largest_change(meter, seconds)
        fell, leapt = delta < 0, delta > limit
        if self.has_returned(register, facts["at"], meter, moved=fell or leapt):
            self.settle(register, facts["at"])
            return NOT_A_NUMBER, -math.inf if self.dip else 0.0

        # A first odd value may be transient: wait for a second.
        upper = self.odd + limit if leapt else math.inf
        goes_on = self.odd <= register <= upper
        if fell and not (self.odd < self.register and goes_on):
            self.odd = register
            return NOT_A_NUMBER, NOT_A_NUMBER
        if leapt and not (self.odd > self.register and goes_on):
            self.odd = register
            return NOT_A_NUMBER, 0.0
        if math.isnan(register):
            return delta, NOT_A_NUMBER

        # The kWh after a gap may be the energy of the whole gap.
        lump = facts["kwh"] > 0.5 and facts["kwh"] >= 0.95 * delta
        if meter and seconds > 4 * meter.interval_s and lump:
            facts["kwh"] = NOT_A_NUMBER

        drop = self.register - self.odd if fell else 0.0
        if fell or leapt:
            delta = NOT_A_NUMBER
            self.before, self.before_read = self.register, self.read
            self.dip = drop if fell else 0.0
        self.register, self.read, self.odd = register, facts["at"], NOT_A_NUMBER
        return delta, drop

    def has_returned(
        self, register: float, at: int, meter: Meter | None, *, moved: bool
    ) -> bool:
        """Whether the register is back, within 30 days, where it would be had it not been odd."""
        away = at - self.before_read
        possible = 0 <= register - self.before <= largest_change(meter, away)
        at_once = self.dip >= 1 and self.before - self.register >= self.dip / 2
        recent = away <= 30 * 24 * HOUR_SECONDS
        return (moved or at_once) and possible and recent

    def settle(self, register: float, at: int) -> None:
        """Go on from a register that has returned."""
        self.register, self.read = register, at
        self.odd = self.before = NOT_A_NUMBER

    def stillness(self, facts: Facts, delta: float) -> float:
        """The kWh that power would have brought since the register last moved."""
        power = total(facts["p"])
        if math.isnan(delta) or math.isnan(power):
            return NOT_A_NUMBER
        hours = 0.0
        if self.then:
            hours = min(facts["at"] - self.then, HOUR_SECONDS) / HOUR_SECONDS
        self.then = facts["at"]
        self.still = 0.0 if delta > 0 else self.still + max(power, 0) * hours
        return self.still


def largest_change(meter: Meter | None, seconds: int) -> float:
    """The kWh by which a register can rise."""
    if meter is None:
        return math.inf
    return highest_energy(meter, seconds) / HOUR_SECONDS + 1


def reading_endings(
    area: Area | None, area_name: str, name: str, rows: list[Row], interval: int
) -> tuple[Endings, list[Facts]]:
    """How the episodes of one meter's readings end, and the validated readings.

    Its history begins with the first of its readings to arrive; from there on they count in order of time.
    """
    endings: Endings = {}
    notebook, wires = MeterNotebook(), Wires()
    readings: list[Facts] = []
    judged: list[Facts] = []
    newest = 0
    for row in sorted(rows, key=lambda row: row.at):
        meter = record(area, name, row.at)
        facts = validated(row, meter, interval)
        facts["kva"], facts["record"] = apparent(facts, meter), meter
        readings.append(facts)
        if row.at < rows[0].at or row.at == newest:
            continue

        # Where no energy was measured the register gives it, unless there is a gap.
        notebook.take(facts, meter)
        step = max(meter.interval_s if meter else 0, interval)
        adjacent = newest and row.at - newest <= 1.5 * step
        if math.isnan(facts["kwh"]) and facts["measured"] and adjacent:
            facts["kwh"] = single(facts["delta"])
        newest = row.at

        facts |= phase_facts(facts) | meter_facts(meter)
        wired(facts, meter)
        wires.take(facts, meter)
        judged.append(facts)

    judge(READING_RULES | WIRING_RULES, area_name, name, judged, endings)
    clocks = [
        {"at": facts["at"], "offset": facts["clock_offset"]}
        for facts in judged
        if not math.isnan(facts["clock_offset"])
    ]
    judge(CLOCK_RULES, area_name, name, clocks, endings)
    return endings, readings


def phase_facts(facts: Facts) -> Facts:
    """The facts that several phases give together."""
    amps = [abs(I) for I in facts["i"]]
    return {
        "most_u": most(facts["u"]),
        "most_i": most(amps),
        "mean_i": sum(amps) / 3,
        "most_p": most(facts["p"]),
        "total_p": total(facts["p"]),
    }


def meter_facts(meter: Meter | None) -> Facts:
    """The master data of a meter; NaN of an unknown one."""
    if meter is None:
        names = ("un", "ib", "imax", "ct", "ratio", "contract_kva", "suspended_kva")
        unknown = dict.fromkeys((*names, "own_kva", "pv_kva"), NOT_A_NUMBER)
        return unknown | {"phases": 3, "elements": 0}

    contract = meter.contract_kva
    return {
        "un": meter.un_v,
        "ib": meter.ib_a,
        "imax": meter.imax_a,
        "ct": meter.ct,
        "ratio": meter.ct * meter.pt,
        "contract_kva": NOT_A_NUMBER if contract is None else contract,
        "suspended_kva": meter.suspended_kva,
        "own_kva": meter.own_transformer_kva,
        "pv_kva": meter.pv_kva,
        "phases": 1 if meter.wiring == "1P2W" else 3,
        "elements": ELEMENTS_BY_WIRING[meter.wiring],
    }
