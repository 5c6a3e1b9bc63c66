"""A meter's readings as plain numbers: master data, what no meter can measure, what registers and clocks have said."""

from __future__ import annotations

import math
import struct

from schemas.columns import Status
from schemas.master import Area, Meter
from schemas.units import HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row
from tests.oracle.metering import METER_COLUMNS
from tests.oracle.scores import CLOCK_RULES, READING_RULES
from tests.oracle.watch import Endings, Facts, judge, most, total
from tests.oracle.wiring import WIRING_RULES, Wires, wired

SENTINEL_WORDS = (0xFFFFFFFF, 0x7FFFFFFF, -0x80000000)
SENTINEL_NUMBERS = (
    61166.0,
    65535.0,
    *(word / 10**places for word in SENTINEL_WORDS for places in range(5)),
)


def single(value: float) -> float:
    """The nearest number of single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


def record(area: Area | None, meter: str, at: int) -> Meter | None:
    """The record in force in the interval that ends at `at`."""
    mine = [
        m
        for m in (area.meters if area else [])
        if m.meter == meter and m.effective <= at - 1
    ]
    return max(mine, key=lambda m: m.effective) if mine else None


def validated(row: Row, m: Meter | None, interval: int) -> Facts:
    """A reading's columns as plain numbers, what no meter can measure made NaN."""
    c = row.columns
    f: Facts = {
        name: [float(v) for v in c.get(name, [NOT_A_NUMBER] * 3)]
        for name in ("u", "i", "p", "q", "thd", "u_angle")
    }
    f |= {name: float(c[name]) for name in ("kwh", "register", "clock_offset")}
    told = (
        "neutral",
        "terminal_p",
        "frequency",
        "temperature",
        "flags",
        *METER_COLUMNS,
    )
    f |= {name: float(c.get(name, NOT_A_NUMBER)) for name in told}
    f["stale"] = False
    f |= {
        "at": row.at,
        "estimated": c["status"] == Status.ESTIMATED,
        "measured": c["status"] == Status.MEASURED,
    }
    limit = math.inf
    if m:
        limit = 2 * m.un_v * m.imax_a * (1 if m.wiring == "1P2W" else 3) / 1000
        limit = max(limit, 2 * (m.contract_kva or 0) / (m.ct * m.pt))

    def sound(name: str, value: float) -> bool:
        bounds = {
            "p": limit,
            "q": limit,
            "terminal_p": limit,
            "demand": limit,
            "kwh": limit * interval / HOUR_SECONDS,
        }
        bounds |= (
            {"u": 2 * m.un_v, "i": 2 * m.imax_a, "neutral": 2 * m.imax_a} if m else {}
        )
        bound = {"thd": 100, "frequency": 100, "temperature": 70, "u_angle": 360}.get(
            name, bounds.get(name, math.inf)
        )
        sentinel = value in SENTINEL_NUMBERS or (
            "register" not in name and value in map(single, SENTINEL_NUMBERS)
        )
        positive = value >= 0 or name in (
            "i",
            "p",
            "q",
            "u_angle",
            "neutral",
            "terminal_p",
            "temperature",
        )
        return (
            not (sentinel or math.isinf(value) or f["estimated"] or abs(value) > bound)
            and positive
        )

    for name in ("u", "i", "p", "q", "thd", "u_angle"):
        f[name] = [v if sound(name, v) else NOT_A_NUMBER for v in f[name]]
    for name in (
        "kwh",
        "register",
        "neutral",
        "terminal_p",
        "frequency",
        "temperature",
        *METER_COLUMNS[:-2],
    ):
        f[name] = f[name] if sound(name, f[name]) else NOT_A_NUMBER
    if m and m.wiring == "3P3W":
        f["u"][1] = f["i"][1] = NOT_A_NUMBER
    return f


def apparent(f: Facts, m: Meter | None) -> float:
    """Primary kVA from P and Q, else from U and I, else from I at nominal voltage; NaN without a current."""
    if m is None:
        return NOT_A_NUMBER
    ratio, live = m.ct * m.pt, [n for n in range(3) if not math.isnan(f["i"][n])]
    p, q = total(f["p"]), total(f["q"])
    if not (math.isnan(p) or math.isnan(q) or any(math.isnan(f["p"][n]) for n in live)):
        return math.hypot(p, q) * ratio
    if not live:
        return NOT_A_NUMBER
    product = (
        sum(
            abs(f["i"][n]) * (m.un_v if math.isnan(f["u"][n]) else f["u"][n])
            for n in live
        )
        / 1000
        * ratio
    )
    return product * (math.sqrt(3) / 2 if m.wiring == "3P3W" else 1)


class MeterNotebook:
    """What a meter's registers and clock have said so far."""

    def __init__(self) -> None:
        self.register = self.odd = self.clock = self.before = NOT_A_NUMBER
        self.read = self.then = self.before_read = 0
        self.dip = 0.0
        self.still = 0.0
        self.record: Meter | None = None

    def take(self, f: Facts, m: Meter | None) -> None:
        """Adds delta, drop and still to a reading, and takes away what it cannot have measured."""
        if m is not self.record:
            self.register = self.odd = self.before = NOT_A_NUMBER
        self.record = m
        register, clock = f["register"], f["at"] + f["clock_offset"]
        if register == self.register and clock <= self.clock:  # a repeated snapshot
            f |= {
                name: [NOT_A_NUMBER] * 3
                for name in ("u", "i", "p", "q", "thd", "u_angle")
            } | {"stale": True}
            f |= dict.fromkeys(
                ("kwh", "kva", "neutral", "terminal_p", "frequency", "temperature"),
                NOT_A_NUMBER,
            )
            register = NOT_A_NUMBER
        self.clock = self.clock if math.isnan(clock) else clock
        past_the_top = (
            m
            and register < self.register
            and self.register > 0.9 * 10**m.register_digits > 9 * register
        )
        if register == 0 < self.register and not past_the_top:
            register = f["register"] = NOT_A_NUMBER
        delta, drop = (
            register - self.register,
            0.0 if not math.isnan(register) else NOT_A_NUMBER,
        )
        if m and past_the_top:
            delta += 10**m.register_digits
        seconds = f["at"] - self.read
        most = (
            2
            * m.un_v
            * m.imax_a
            * (1 if m.wiring == "1P2W" else 3)
            / 1000
            * seconds
            / HOUR_SECONDS
            + 1
            if m
            else math.inf
        )
        fell, leapt = delta < 0, delta > most
        away = f["at"] - self.before_read
        could = (
            2
            * m.un_v
            * m.imax_a
            * (1 if m.wiring == "1P2W" else 3)
            / 1000
            * away
            / HOUR_SECONDS
            + 1
            if m
            else math.inf
        )
        at_once = self.dip >= 1 and self.before - self.register >= self.dip / 2
        moved = fell or leapt or at_once
        if (
            moved
            and 0 <= register - self.before <= could
            and away <= 30 * 24 * HOUR_SECONDS
        ):  # it never was away
            drop, delta = -math.inf if self.dip else 0.0, NOT_A_NUMBER
            self.register, self.read, self.odd, self.before = (
                register,
                f["at"],
                NOT_A_NUMBER,
                NOT_A_NUMBER,
            )
            fell = leapt = False
            register = NOT_A_NUMBER
        again = self.odd <= register <= (self.odd + most if leapt else math.inf)
        if (fell and not (self.odd < self.register and again)) or (
            leapt and not (self.odd > self.register and again)
        ):
            self.odd, delta, drop = (
                register,
                NOT_A_NUMBER,
                NOT_A_NUMBER if fell else 0.0,
            )  # perhaps transient: wait for a second one
        elif not math.isnan(register):
            if (
                m
                and seconds > 4 * m.interval_s
                and f["kwh"] > 0.5
                and f["kwh"] >= 0.95 * delta
            ):
                f["kwh"] = NOT_A_NUMBER  # a backfill lump
            drop = self.register - self.odd if fell else drop
            if fell or leapt:
                delta, self.before, self.before_read, self.dip = (
                    NOT_A_NUMBER,
                    self.register,
                    self.read,
                    drop if fell else 0.0,
                )
            self.register, self.read, self.odd = register, f["at"], NOT_A_NUMBER
        power = total(f["p"])
        still = NOT_A_NUMBER
        if not math.isnan(delta) and not math.isnan(power):
            hours = (
                min(f["at"] - self.then, HOUR_SECONDS) / HOUR_SECONDS
                if self.then
                else 0
            )
            still = self.still = (
                0.0 if delta > 0 else self.still + max(power, 0) * hours
            )
            self.then = f["at"]
        f |= {"delta": delta, "drop": drop, "still": still}


def reading_endings(
    area: Area | None, name: str, meter: str, rows: list[Row], interval: int
) -> tuple[Endings, list[Facts]]:
    """How the episodes of one meter's readings end, and the readings as they were believed.

    Its history begins with the first of its readings to arrive; from there on they count in order of time.
    """
    told: Endings = {}
    notebook, wires, newest, forward, believed = MeterNotebook(), Wires(), 0, [], []
    for row in sorted(rows, key=lambda row: row.at):
        m = record(area, meter, row.at)
        f, own = validated(row, m, interval), max(m.interval_s if m else 0, interval)
        f["kva"], f["record"] = apparent(f, m), m
        believed.append(f)
        if row.at < rows[0].at or row.at == newest:
            continue
        notebook.take(f, m)
        if (
            math.isnan(f["kwh"])
            and f["measured"]
            and newest
            and row.at - newest <= 1.5 * own
        ):
            f["kwh"] = single(f["delta"])
        newest = row.at
        amps = [abs(i) for i in f["i"]]
        f |= {
            "most_u": most(f["u"]),
            "most_i": most(amps),
            "mean_i": sum(amps) / 3,
            "most_p": most(f["p"]),
        }
        f |= {
            "un": m.un_v if m else NOT_A_NUMBER,
            "ib": m.ib_a if m else NOT_A_NUMBER,
            "pv_kva": m.pv_kva if m else NOT_A_NUMBER,
        }
        f |= {
            "contract_kva": NOT_A_NUMBER
            if m is None or m.contract_kva is None
            else m.contract_kva
        }
        f |= {"total_p": total(f["p"]), "ratio": m.ct * m.pt if m else NOT_A_NUMBER}
        f |= {
            "own_kva": m.own_transformer_kva if m else NOT_A_NUMBER,
            "imax": m.imax_a if m else NOT_A_NUMBER,
            "ct": m.ct if m else NOT_A_NUMBER,
        }
        f |= {
            "suspended_kva": m.suspended_kva if m else NOT_A_NUMBER,
            "phases": 1 if m and m.wiring == "1P2W" else 3,
        }
        f |= {"elements": {"1P2W": 1, "3P3W": 2, "3P4W": 3}[m.wiring] if m else 0}
        wired(f, m)
        wires.take(f, m)
        forward.append(f)
    judge(READING_RULES | WIRING_RULES, name, meter, forward, told)
    clocks = [
        {"at": f["at"], "offset": f["clock_offset"]}
        for f in forward
        if not math.isnan(f["clock_offset"])
    ]
    judge(CLOCK_RULES, name, meter, clocks, told)
    return told, believed
