"""Whether a meter's conductors agree: the facts of one reading, the readings before it, and the scores."""

from __future__ import annotations

import math

from schemas.columns import Flag
from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.watch import (
    RETURN_SECONDS,
    Facts,
    OracleRule,
    between,
    by_phase,
    gated,
    total,
    whole,
)

ELEMENTS_BY_WIRING = {"1P2W": 1, "3P3W": 2, "3P4W": 3}


def wired(facts: Facts, meter: Meter | None) -> None:
    """Add to a reading the lowest and highest voltage, the whole power, each phase's lag and the flags."""
    elements = ELEMENTS_BY_WIRING[meter.wiring] if meter else 4
    volts = [U for U in facts["u"] if not math.isnan(U)]
    complete = len(volts) >= elements
    facts["lowest_u"] = min(volts) if complete else NOT_A_NUMBER
    facts["highest_u"] = max(volts) if complete else NOT_A_NUMBER

    powers = [P for P in facts["p"] if not math.isnan(P)]
    facts["whole_p"] = total(powers) if len(powers) >= elements else NOT_A_NUMBER

    # A current lags only where some phase feeds back.
    facts["lag"] = [NOT_A_NUMBER] * 3
    feeds_back = any(P < 0 for P in facts["p"])
    for n, P in enumerate(facts["p"]):
        if elements == 3 and not math.isnan(P):
            facts["lag"][n] = lag(facts, n) if feeds_back else 0.0

    for name, flag in (
        ("reversed_sequence", Flag.REVERSED_SEQUENCE),
        ("relay_open", Flag.RELAY_OPEN),
    ):
        known = not math.isnan(facts["flags"])
        facts[name] = float(int(facts["flags"]) & flag > 0) if known else NOT_A_NUMBER


def lag(facts: Facts, n: int) -> float:
    """Degrees by which a phase's current lags; without reactive power their size."""
    U, I, P, Q = (facts[name][n] for name in "uipq")
    if not math.isnan(Q) or math.isnan(P) or math.isnan(U * I):
        return math.degrees(math.atan2(Q, P))
    if U * I == 0:
        return NOT_A_NUMBER if P == 0 else 90 - math.copysign(90, P)
    return math.degrees(math.acos(min(max(P * 1000 / (U * abs(I)), -1), 1)))


class Wires:
    """The history of a meter's conductors."""

    def __init__(self) -> None:
        self.loaded: list[tuple[int, float]] = []  # when, and |line - neutral| / larger
        self.busy = [0.0, 0.0, 0.0]
        self.then = 0

    def take(self, facts: Facts, meter: Meter | None) -> None:
        """Add to a reading, in order of time, the history before it."""
        facts["third"] = NOT_A_NUMBER
        facts["busy"] = [NOT_A_NUMBER] * 3
        if meter and meter.wiring == "1P2W":
            self.compare_neutral(facts, meter)
        elif meter and not all(map(math.isnan, facts["i"])):
            self.learn_busy_phases(facts, meter)

    def compare_neutral(self, facts: Facts, meter: Meter) -> None:
        """Add the third highest difference among the last five loaded readings of a day."""
        line = facts["most_i"]
        neutral = abs(facts["neutral"])
        larger = max(line, neutral)
        if larger > 0.2 * meter.ib_a and not math.isnan(line + neutral):
            self.loaded.append((facts["at"], abs(line - neutral) / larger))
            self.loaded = self.loaded[-5:]
            since = facts["at"] - DAY_SECONDS
            shares = sorted(share for at, share in self.loaded if at > since)
            facts["third"] = shares[-3] if len(shares) >= 3 else NOT_A_NUMBER

    def learn_busy_phases(self, facts: Facts, meter: Meter) -> None:
        """Add how often each phase was loaded, fading over three days; then learn this reading."""
        facts["busy"] = list(self.busy)
        weight = 0.0
        if self.then:
            passed = min(facts["at"] - self.then, 2 * HOUR_SECONDS)
            weight = passed / (3 * DAY_SECONDS)
        for n, amps in enumerate(facts["i"]):
            if not math.isnan(amps):
                loaded = abs(amps) > 0.05 * meter.ib_a
                self.busy[n] += weight * (loaded - self.busy[n])
        self.then = facts["at"]


def all_voltage_loss(facts: Facts) -> float:
    if facts["elements"] <= 1:
        return NOT_A_NUMBER
    dead = facts["highest_u"] < 0.6 * facts["un"]
    return between(
        dead and facts["most_i"] > 0.05 * facts["ib"],
        facts["highest_u"] > 0.7 * facts["un"],
    )


def reverse_sequence(facts: Facts) -> float:
    supplied = facts["lowest_u"] > 0.6 * facts["un"] and facts["elements"] > 1
    return between(
        facts["reversed_sequence"] == 1 and supplied, facts["reversed_sequence"] == 0
    )


def wrong_wiring_vector(facts: Facts, n: int) -> float:
    lags = [
        lag if abs(I) > 0.05 * facts["ib"] else NOT_A_NUMBER
        for lag, I in zip(facts["lag"], facts["i"], strict=True)
    ]
    if facts["pv_kva"] or any(map(math.isnan, lags)):
        return NOT_A_NUMBER

    # Between A and C, B and A, C and B.
    apart = [abs((lags[k] - lags[k - 1] + 180) % 360 - 180) for k in range(3)]
    nearest = min(apart[n], apart[(n + 1) % 3])
    sizes = [abs(lag) for lag in lags]
    return max(min(nearest / 50, max(sizes) / 90), min(sizes) / 92)


def meter_voltage_unbalance(facts: Facts, n: int) -> float:
    if math.isnan(sum(facts["u"])):
        return NOT_A_NUMBER
    mean = sum(facts["u"]) / 3
    return gated(
        abs(facts["u"][n] - mean) / mean / 0.3,
        facts["lowest_u"] > 0.6 * facts["un"]
        or facts["highest_u"] > 1.15 * facts["un"],
    )


def current_break(facts: Facts, n: int) -> float:
    amps = abs(facts["i"][n])
    idle = amps < 0.005 * facts["ib"] < facts["most_i"]
    dead = facts["u"][n] > 0.6 * facts["un"] and idle
    return between(dead and facts["busy"][n] > 0.8, amps > 0.05 * facts["ib"])


def neutral_phase_mismatch(facts: Facts) -> float:
    line = facts["most_i"]
    neutral = abs(facts["neutral"])
    return min(abs(line - neutral) / max(line, neutral), facts["third"]) / 0.2


def power_differential(facts: Facts) -> float:
    terminal = abs(facts["terminal_p"])
    if terminal <= 0.05 * facts["un"] * facts["ib"] * facts["phases"] / 1000:
        return NOT_A_NUMBER
    return abs(facts["whole_p"] - facts["terminal_p"]) / terminal / 0.1


def relay_mismatch(facts: Facts) -> float:
    return between(
        facts["relay_open"] == 1 and facts["most_i"] > 0.005 * facts["ib"],
        facts["relay_open"] == 0 or facts["most_i"] < 0.004 * facts["ib"],
    )


def neutral_current_high(facts: Facts) -> float:
    rated_a = facts["rating_kva"] * 1000 / (math.sqrt(3) * 400)
    limit = 0.4 if facts["dyn11"] else 0.25
    return abs(facts["neutral"]) / rated_a / limit


WIRING_RULES = {
    "all_voltage_loss": OracleRule(
        whole(all_voltage_loss, "highest_u", "most_i", "un", "ib"),
        severity=1,
        hold=MINUTE_SECONDS,
        release=0,
        lull=2 * HOUR_SECONDS,
    ),
    "reverse_sequence": OracleRule(
        whole(reverse_sequence, "reversed_sequence", "lowest_u", "un"),
        severity=2,
        hold=15 * MINUTE_SECONDS,
        release=15 * MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "wrong_wiring_vector": OracleRule(
        by_phase(wrong_wiring_vector, "lag", "i", "ib", "pv_kva"),
        severity=1,
        hold=DAY_SECONDS,
        release=DAY_SECONDS,
        lull=DAY_SECONDS,
    ),
    "meter_voltage_unbalance": OracleRule(
        by_phase(meter_voltage_unbalance, "u", "lowest_u", "highest_u", "un"),
        severity=2,
        hold=MINUTE_SECONDS,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "current_break": OracleRule(
        by_phase(current_break, "u", "i", "busy", "most_i", "un", "ib"),
        severity=3,
        hold=HOUR_SECONDS,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "neutral_phase_mismatch": OracleRule(
        whole(neutral_phase_mismatch, "most_i", "neutral", "third"),
        severity=2,
        hold=0,
        release=7 * DAY_SECONDS,
        worse=((2.5, 1, HOUR_SECONDS // 2),),
        lull=2 * HOUR_SECONDS,
    ),
    "power_differential": OracleRule(
        whole(power_differential, "whole_p", "terminal_p", "un", "ib"),
        severity=2,
        hold=HOUR_SECONDS // 2,
        release=DAY_SECONDS,
        worse=((2.0, 1, HOUR_SECONDS // 2),),
        lull=2 * HOUR_SECONDS,
    ),
    "relay_mismatch": OracleRule(
        whole(relay_mismatch, "relay_open", "most_i", "ib"),
        severity=2,
        hold=5 * MINUTE_SECONDS,
        release=0,
        lull=2 * HOUR_SECONDS,
    ),
}
NEUTRAL_RULES = {
    "neutral_current_high": OracleRule(
        whole(neutral_current_high, "neutral", "rating_kva"),
        severity=2,
        hold=HOUR_SECONDS // 2,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
}
