"""Whether a meter's conductors agree, in plain loops: what one reading tells, what was before it, and the scores."""

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


def wired(f: Facts, m: Meter | None) -> None:
    """Adds to a reading what its phases tell together."""
    elements = {"1P2W": 1, "3P3W": 2, "3P4W": 3}[m.wiring] if m else 4
    volts = [u for u in f["u"] if not math.isnan(u)]
    f["lowest_u"], f["highest_u"] = (
        (min(volts), max(volts))
        if len(volts) >= elements
        else (NOT_A_NUMBER, NOT_A_NUMBER)
    )
    f["whole_p"] = (
        total(f["p"])
        if sum(not math.isnan(p) for p in f["p"]) >= elements
        else NOT_A_NUMBER
    )
    back = any(p < 0 for p in f["p"])
    f["lag"] = [
        NOT_A_NUMBER
        if elements != 3 or math.isnan(f["p"][n])
        else lag(f, n)
        if back
        else 0.0
        for n in range(3)
    ]
    for name, flag in (
        ("reversed_sequence", Flag.REVERSED_SEQUENCE),
        ("relay_open", Flag.RELAY_OPEN),
    ):
        f[name] = (
            NOT_A_NUMBER
            if math.isnan(f["flags"])
            else float(int(f["flags"]) & flag > 0)
        )


def lag(f: Facts, n: int) -> float:
    """Degrees by which a phase's current lags; without reactive power their size."""
    u, i, p, q = (f[name][n] for name in "uipq")
    if not math.isnan(q) or math.isnan(p) or math.isnan(u * i):
        return math.degrees(math.atan2(q, p))
    if u * i == 0:
        return NOT_A_NUMBER if p == 0 else 90 - math.copysign(90, p)
    return math.degrees(math.acos(min(max(p * 1000 / (u * abs(i)), -1), 1)))


class Wires:
    """What a clerk keeps of a meter's conductors."""

    def __init__(self) -> None:
        self.loaded: list[
            tuple[int, float]
        ] = []  # when a loaded phase and its neutral differed by which share
        self.busy = [0.0, 0.0, 0.0]
        self.then = 0

    def take(self, f: Facts, m: Meter | None) -> None:
        """Adds to a reading, in order of time, how it was before."""
        f["third"], f["busy"] = NOT_A_NUMBER, [NOT_A_NUMBER] * 3
        if m and m.wiring == "1P2W":
            line, neutral = f["most_i"], abs(f["neutral"])
            if max(line, neutral) > 0.2 * m.ib_a and not math.isnan(line + neutral):
                self.loaded = [
                    *self.loaded,
                    (f["at"], abs(line - neutral) / max(line, neutral)),
                ][-5:]
                shares = sorted(
                    share for at, share in self.loaded if at > f["at"] - DAY_SECONDS
                )
                f["third"] = shares[-3] if len(shares) >= 3 else NOT_A_NUMBER
        elif m and not all(map(math.isnan, f["i"])):
            f["busy"] = list(self.busy)
            weight = (
                min(f["at"] - self.then, 2 * HOUR_SECONDS) / (3 * DAY_SECONDS)
                if self.then
                else 0
            )
            for n, amps in enumerate(f["i"]):
                if not math.isnan(amps):
                    self.busy[n] += weight * (
                        (abs(amps) > 0.05 * m.ib_a) - self.busy[n]
                    )
            self.then = f["at"]


def wrong_angles(f: Facts, n: int) -> float:
    lags = [
        lag if abs(i) > 0.05 * f["ib"] else NOT_A_NUMBER
        for lag, i in zip(f["lag"], f["i"], strict=True)
    ]
    if f["pv_kva"] or any(map(math.isnan, lags)):
        return NOT_A_NUMBER
    apart = [
        abs((lags[k] - lags[k - 1] + 180) % 360 - 180) for k in range(3)
    ]  # A and C, B and A, C and B
    nearest = min(apart[n], apart[(n + 1) % 3])
    return max(min(nearest / 50, max(map(abs, lags)) / 90), min(map(abs, lags)) / 92)


def adrift(f: Facts, n: int) -> float:
    mean = sum(f["u"]) / 3
    return gated(
        abs(f["u"][n] - mean) / mean / 0.3,
        f["lowest_u"] > 0.6 * f["un"] or f["highest_u"] > 1.15 * f["un"],
    )


def idle(f: Facts, n: int) -> float:
    dead = f["u"][n] > 0.6 * f["un"] and abs(f["i"][n]) < 0.005 * f["ib"] < f["most_i"]
    return between(dead and f["busy"][n] > 0.8, abs(f["i"][n]) > 0.05 * f["ib"])


def neutral_off(f: Facts) -> float:
    line, neutral = f["most_i"], abs(f["neutral"])
    return min(abs(line - neutral) / max(line, neutral), f["third"]) / 0.2


def differential(f: Facts) -> float:
    if abs(f["terminal_p"]) <= 0.05 * f["un"] * f["ib"] * f["phases"] / 1000:
        return NOT_A_NUMBER
    return abs(f["whole_p"] - f["terminal_p"]) / abs(f["terminal_p"]) / 0.1


WIRING_RULES = {
    "all_voltage_loss": OracleRule(
        whole(
            lambda f: (
                between(
                    f["highest_u"] < 0.6 * f["un"] and f["most_i"] > 0.05 * f["ib"],
                    f["highest_u"] > 0.7 * f["un"],
                )
                if f["elements"] > 1
                else NOT_A_NUMBER
            ),
            "highest_u",
            "most_i",
            "un",
            "ib",
        ),
        1,
        MINUTE_SECONDS,
        0,
        lull=2 * HOUR_SECONDS,
    ),
    "reverse_sequence": OracleRule(
        whole(
            lambda f: between(
                f["reversed_sequence"] == 1
                and f["lowest_u"] > 0.6 * f["un"]
                and f["elements"] > 1,
                f["reversed_sequence"] == 0,
            ),
            "reversed_sequence",
            "lowest_u",
            "un",
        ),
        2,
        15 * MINUTE_SECONDS,
        15 * MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "wrong_wiring_vector": OracleRule(
        by_phase(wrong_angles, "lag", "i", "ib", "pv_kva"),
        1,
        DAY_SECONDS,
        DAY_SECONDS,
        lull=DAY_SECONDS,
    ),
    "meter_voltage_unbalance": OracleRule(
        by_phase(
            lambda f, n: NOT_A_NUMBER if math.isnan(sum(f["u"])) else adrift(f, n),
            "u",
            "lowest_u",
            "highest_u",
            "un",
        ),
        2,
        MINUTE_SECONDS,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "current_break": OracleRule(
        by_phase(idle, "u", "i", "busy", "most_i", "un", "ib"),
        3,
        HOUR_SECONDS,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "neutral_phase_mismatch": OracleRule(
        whole(neutral_off, "most_i", "neutral", "third"),
        2,
        0,
        7 * DAY_SECONDS,
        worse=((2.5, 1, HOUR_SECONDS // 2),),
        lull=2 * HOUR_SECONDS,
    ),
    "power_differential": OracleRule(
        whole(differential, "whole_p", "terminal_p", "un", "ib"),
        2,
        HOUR_SECONDS // 2,
        DAY_SECONDS,
        worse=((2.0, 1, HOUR_SECONDS // 2),),
        lull=2 * HOUR_SECONDS,
    ),
    "relay_mismatch": OracleRule(
        whole(
            lambda f: between(
                f["relay_open"] == 1 and f["most_i"] > 0.005 * f["ib"],
                f["relay_open"] == 0 or f["most_i"] < 0.004 * f["ib"],
            ),
            "relay_open",
            "most_i",
            "ib",
        ),
        2,
        5 * MINUTE_SECONDS,
        0,
        lull=2 * HOUR_SECONDS,
    ),
}
NEUTRAL_RULES = {
    "neutral_current_high": OracleRule(
        whole(
            lambda f: (
                abs(f["neutral"])
                / (f["rating_kva"] * 1000 / (math.sqrt(3) * 400))
                / (0.4 if f["dyn11"] else 0.25)
            ),
            "neutral",
            "rating_kva",
        ),
        2,
        HOUR_SECONDS // 2,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    )
}
