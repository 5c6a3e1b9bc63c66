"""The rules' scores of plain numbers, by what they judge."""

from __future__ import annotations

import math

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


def voltage_deviation(f: Facts, n: int) -> float:
    ratio, low = f["u"][n] / f["un"], 0.93 if f["phases"] == 3 else 0.90
    return between(ratio > 1.07 or 0.60 < ratio < low, low + 0.01 < ratio < 1.07 - 0.01)


def suspended_use(f: Facts) -> float:
    if f["suspended_kva"] == 0:
        return 0.0
    left = f["contract_kva"] - f["suspended_kva"]
    return f["kva"] / max(1.05 * left, 0.005 * f["contract_kva"], 1.0)


def thermal(f: Facts) -> float:
    air = f["air"] if math.isfinite(f["air"]) else 20
    score = 1 + max(f["oil"] + f["winding"] - 120 + air, f["oil"] - 105 + air) / 100
    return score if score >= 1 or f["heated"] >= 12 * HOUR_SECONDS else NOT_A_NUMBER


def load_unbalance(f: Facts) -> float:
    if f["gateway"] != 1:
        return NOT_A_NUMBER
    amps, limit = [abs(a) for a in f["current"]], 0.25 if f["dyn11"] else 0.15
    if any(math.isnan(a) for a in amps) or max(amps) == 0:
        return NOT_A_NUMBER
    spread = 1 - min(amps) / max(amps)
    return gated(
        between(False, spread < limit - 0.05) if spread <= limit else spread / limit,
        f["kva"] > 0.5 * f["rating_kva"],
    )


def burst(f: Facts) -> float:
    if f["attempts"] < 40 or math.isnan(f["usual"]):
        return NOT_A_NUMBER
    spread = math.sqrt(max(f["usual"] * (1 - f["usual"]), 1e-4) / f["attempts"])
    return min(
        f["share"] / max(0.05, f["usual"] + 3 * spread), f["share"] * f["attempts"] / 5
    )


def suspicion(f: Facts) -> float:
    """How far a user's energy explains a loss, beyond what chance makes of as few days."""
    line = max(0.6, math.tanh(3.5 / math.sqrt(max(f["suspect_days"] - 5, 1))))
    score = min(f["rho"] / line, f["explained"] / 10) if f["excess"] > 0 else 0.0
    return (
        1 + score
        if score >= 1 and (f["unexplained"] >= 1.8 or f["slide"] >= 8)
        else min(score, 1.9)
    )


def usual_line(f: Facts) -> float:
    """Above which line loss is too high: 10 % until six days are known, then by habit."""
    return (
        min(max(f["mean"] + max(3 * f["spread"], 0.01), 0.07), 0.10)
        if f["seen"] >= 6
        else 0.10
    )


def known(f: Facts) -> bool:
    """Whether a customer is known for four weeks, and uses something."""
    return bool(f["known"] >= 28 and f["expected"] >= 1)


def flatness(f: Facts) -> float:
    """How flat a day is beside what is usual."""
    variation, rhythm = (f["shape"][name] for name in ("variation", "rhythm"))
    if math.isnan(variation) or math.isnan(rhythm):
        return NOT_A_NUMBER
    calm = min(
        0.2 * f["usual_rhythm"] / max(rhythm, 0.005),
        0.5 * f["usual_variation"] / max(variation, 0.005),
    )
    usual = (
        math.log(0.35) <= f["beyond"] <= math.log(1.2) and f["usual_variation"] >= 0.2
    )
    known = f["known"] >= 28 and f["expected"] >= 3
    return gated(
        max(0.05 / max(variation, 0.005), calm), usual and known and f["pv"] == 0
    )


def vacant(f: Facts) -> bool:
    """Whether what is left is what was left when nobody was there, or nothing may be asked of it."""
    still = f["emptied"] or f["used"] < 0.1 * f["before"]
    stands = not f["kept_standing"] <= min(0.75, 1.5 * f["kept"])
    return bool(still or stands or f["beyond"] < LITTLE_LEFT_LOG or f["suspended"] > 0)


def dropped(f: Facts) -> float:
    """How far the last days are below what is usual, and below last year's."""
    kept = max(f["kept"], f["kept_year"]) if f["kept_year"] >= 0 else f["kept"]
    score = min(f["slide"] / 8, 0.6 / max(kept, 0.01))
    return gated(score, not vacant(f) and known(f) and f["pv"] == 0)


def fluctuation(f: Facts) -> float:
    """How far a day is from what is usual, and from last year's."""
    rises = f["beyond"] > 0
    beyond = abs(f["beyond"])
    year = f["over_year"] if rises else f["kept_year"]
    if year >= 0:
        beyond = max(min(beyond, math.log(max(year, 0.01)) * (1 if rises else -1)), 0)
    times = 2 if f["residential"] else 1.5
    counts = not f["used"] <= times * f["before"] if rises else not vacant(f)
    return gated(
        beyond / max(math.log(times), 3 * f["spread"]),
        counts and known(f) and f["pv"] == 0,
    )


def nearly_nothing(f: Facts) -> float:
    """How far a day is below a tenth of what is usual; a lossy area makes it worse."""
    fell = f["used"] > 0 and not f["suspended"] > 0 and not f["used"] > 0.3 * f["least"]
    score = gated(0.1 / max(f["left"], 0.001), fell and known(f) and f["pv"] == 0)
    return score + 1 if score >= 1 and f["excess"] > 0 else min(score, 1.9)


def unused(f: Facts) -> float:
    """How long a customer has used nothing; a lossy area makes it worse."""
    score = gated(f["zero_days"] / (30 if f["residential"] else 7), f["usual"] > 0.5)
    return score + 1 if score >= 1 and f["excess"] > 0 else min(score, 1.9)


LITTLE_LEFT_LOG = math.log(0.1)  # of the expected use, where little is left
READING_RULES = {
    "voltage_loss": OracleRule(
        by_phase(
            lambda f, n: between(
                f["u"][n] < 0.78 * f["un"] and abs(f["i"][n]) > 0.005 * f["ib"],
                f["u"][n] > 0.85 * f["un"],
            ),
            "u",
            "i",
            "un",
            "ib",
        ),
        1,
        MINUTE_SECONDS,
        MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "phase_break": OracleRule(
        by_phase(
            lambda f, n: between(
                f["u"][n] < 0.6 * f["un"]
                and abs(f["i"][n]) < 0.005 * f["ib"]
                and f["most_u"] > 0.7 * f["un"],
                f["u"][n] > 0.7 * f["un"],
            ),
            "u",
            "i",
            "un",
            "ib",
        ),
        2,
        MINUTE_SECONDS,
        MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "current_loss": OracleRule(
        by_phase(
            lambda f, n: between(
                f["u"][n] > 0.7 * f["un"]
                and abs(f["i"][n]) < 0.005 * f["ib"]
                and f["most_i"] > 0.05 * f["ib"],
                abs(f["i"][n]) > 0.05 * f["ib"],
            ),
            "u",
            "i",
            "un",
            "ib",
        ),
        1,
        MINUTE_SECONDS,
        MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "reverse_polarity": OracleRule(
        by_phase(
            lambda f, n: between(
                f["p"][n] < -0.005 * f["un"] * f["ib"] / 1000
                and f["pv_kva"] == 0
                and (
                    total(f["p"]) < 0
                    if f["elements"] == 2
                    else f["most_p"] > 0 or f["elements"] == 1
                ),
                f["p"][n] >= 0,
            ),
            "p",
            "un",
            "ib",
            "pv_kva",
        ),
        1,
        15 * MINUTE_SECONDS,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "meter_current_unbalance": OracleRule(
        by_phase(
            lambda f, n: (
                gated(
                    abs(abs(f["i"][n]) - f["mean_i"]) / f["mean_i"] / 0.3,
                    f["most_i"] > 0.05 * f["ib"],
                )
                if f["mean_i"]
                else NOT_A_NUMBER
            ),
            "i",
            "mean_i",
            "ib",
        ),
        3,
        HOUR_SECONDS,
        RETURN_SECONDS,
        worse=((3.0, 2, HOUR_SECONDS),),
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "voltage_deviation": OracleRule(
        by_phase(voltage_deviation, "u", "un"),
        3,
        HOUR_SECONDS // 2,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "over_contract_capacity": OracleRule(
        whole(
            lambda f: (
                f["kva"] / max(f["contract_kva"] - f["suspended_kva"], 1.0) / 1.05
            ),
            "kva",
            "contract_kva",
        ),
        3,
        2 * HOUR_SECONDS,
        RETURN_SECONDS,
        1 / 1.05,
        ((1.2 / 1.05, 2, 2 * HOUR_SECONDS),),
        2 * HOUR_SECONDS,
        chronic=True,
    ),
    "low_power_factor": OracleRule(
        whole(
            lambda f: (
                gated(
                    1.3 - abs(f["total_p"]) * f["ratio"] / f["kva"],
                    f["most_i"] > 0.05 * f["ib"],
                )
                if f["pv_kva"] == 0 and f["kva"]
                else NOT_A_NUMBER
            ),
            "total_p",
            "kva",
            "ratio",
            "most_i",
            "ib",
            "pv_kva",
        ),
        3,
        HOUR_SECONDS,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "suspended_use": OracleRule(
        whole(suspended_use, "kva", "contract_kva", "suspended_kva"),
        1,
        HOUR_SECONDS,
        RETURN_SECONDS,
        1 / 1.05,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "customer_transformer_overload": OracleRule(
        whole(
            lambda f: (
                f["kva"] / (f["own_kva"] - f["suspended_kva"]) / 0.8
                if f["own_kva"] > f["suspended_kva"]
                else NOT_A_NUMBER
            ),
            "kva",
            "own_kva",
            "suspended_kva",
        ),
        3,
        2 * HOUR_SECONDS,
        RETURN_SECONDS,
        0.75 / 0.8,
        ((1 / 0.8, 2, 2 * HOUR_SECONDS), (1.5 / 0.8, 1, 15 * MINUTE_SECONDS)),
        2 * HOUR_SECONDS,
        chronic=True,
    ),
    "meter_overcurrent": OracleRule(
        by_phase(
            lambda f, n: (
                abs(f["i"][n]) / (min(f["imax"], 5) if f["ct"] > 1 else f["imax"]) / 1.2
            ),
            "i",
            "imax",
        ),
        2,
        MINUTE_SECONDS,
        RETURN_SECONDS,
        1.05 / 1.2,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "harmonics_thd": OracleRule(
        by_phase(lambda f, n: f["thd"][n] / 5, "thd", "un"),
        3,
        5 * MINUTE_SECONDS,
        RETURN_SECONDS,
        0.95,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "meter_stopped": OracleRule(
        whole(
            lambda f: between(f["delta"] == 0 and f["still"] >= 0.1, f["delta"] > 0),
            "delta",
            "still",
        ),
        1,
        4 * HOUR_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "register_decrease": OracleRule(
        whole(lambda f: between(f["drop"] > 0.01, f["drop"] <= 0.01), "drop"),
        1,
        release=30 * DAY_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
}
CLOCK_RULES = {
    "clock_drift": OracleRule(
        lambda f: abs(f["offset"]) / 300, 4, 1, 0, 0.4, ((2.0, 3, 1),), 3 * DAY_SECONDS
    )
}
INTERVAL_RULES = {
    "transformer_overload": OracleRule(
        lambda f: (
            f["kva"] / f["rating_kva"] / 0.8 if f["coverage"] >= 0.9 else NOT_A_NUMBER
        ),
        3,
        2 * HOUR_SECONDS,
        RETURN_SECONDS,
        0.75 / 0.8,
        ((1 / 0.8, 2, 2 * HOUR_SECONDS), (1.5 / 0.8, 1, 15 * MINUTE_SECONDS)),
        2 * HOUR_SECONDS,
        chronic=True,
    ),
    "transformer_thermal": OracleRule(
        thermal,
        1,
        15 * MINUTE_SECONDS,
        RETURN_SECONDS,
        0.95,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "frequency_deviation": OracleRule(
        whole(lambda f: max(f["above"], f["below"]) / 0.2, "above", "below"),
        3,
        MINUTE_SECONDS,
        MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "area_load_unbalance": OracleRule(
        load_unbalance,
        3,
        2 * HOUR_SECONDS,
        RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
}
DAY_RULES = {
    "zero_usage": OracleRule(unused, 3, 0, 2 * DAY_SECONDS, worse=((2.0, 2, 0),)),
    "read_failure": OracleRule(
        lambda f: f["missing_days"] / (3 + f["unread_usual"]), 3
    ),
    "area_loss_correlation": OracleRule(
        whole(suspicion, "rho", "excess"),
        2,
        2 * DAY_SECONDS,
        6 * DAY_SECONDS,
        worse=((2.0, 1, 0),),
    ),
    "near_zero_usage": OracleRule(
        whole(nearly_nothing, "left", "expected", "known", "pv"),
        3,
        6 * DAY_SECONDS,
        2 * DAY_SECONDS,
        worse=((2.0, 2, 6 * DAY_SECONDS),),
    ),
    "step_drop": OracleRule(
        whole(dropped, "slide", "beyond", "kept", "expected", "known", "pv"),
        3,
        4 * DAY_SECONDS,
        14 * DAY_SECONDS,
        worse=((1.0, 2, 7 * DAY_SECONDS),),
    ),
    "usage_fluctuation": OracleRule(
        whole(fluctuation, "beyond", "spread", "kept", "expected", "known", "pv"),
        3,
        2 * DAY_SECONDS,
        5 * DAY_SECONDS,
    ),
    "timed_zero_block": OracleRule(
        whole(
            lambda f: gated(
                f["dark_days"] / 3,
                f["dark_before"] <= 0.15
                and f["live"] >= 0.9
                and f["known"] >= 28
                and f["pv"] == 0,
            ),
            "dark_days",
            "dark_before",
            "live",
            "known",
            "pv",
        ),
        2,
        0,
        7 * DAY_SECONDS,
    ),
    "clipped_profile": OracleRule(
        whole(
            lambda f: gated(
                min(f["clipped"] / 5, f["usual_high"] / 1.3 / f["clip"]),
                f["beyond"] >= math.log(0.5)
                and f["known"] >= 28
                and f["expected"] >= 3
                and f["pv"] == 0,
            ),
            "clipped",
            "clip",
            "usual_high",
            "beyond",
            "known",
            "pv",
        ),
        2,
        0,
        7 * DAY_SECONDS,
    ),
    "flat_profile": OracleRule(
        whole(flatness, "usual_variation", "usual_rhythm", "beyond", "known", "pv"),
        3,
        2 * DAY_SECONDS,
        4 * DAY_SECONDS,
    ),
    "tou_inversion": OracleRule(
        whole(
            lambda f: gated(
                f["valley_rise"] / 0.2,
                abs(math.log(max(f["kept_week"], 0.01))) <= math.log(1.1)
                and f["known"] >= 28
                and f["expected"] >= 3
                and f["pv"] == 0,
            ),
            "valley_rise",
            "kept_week",
            "known",
            "pv",
        ),
        3,
        2 * DAY_SECONDS,
        14 * DAY_SECONDS,
    ),
    "peer_shortfall": OracleRule(
        whole(
            lambda f: gated(
                f["below"] / 3,
                f["peers"] >= 30 and f["usual_rhythm"] >= 0.15 and f["month"] > 0,
            ),
            "below",
            "peers",
            "usual_rhythm",
            "month",
        ),
        3,
        31 * DAY_SECONDS,
    ),
    "low_usage": OracleRule(
        whole(
            lambda f: gated(
                max(
                    0.1 / max(f["own_share"], 0.001), 0.05 / max(f["peer_share"], 0.001)
                ),
                f["month"] > 0,
            ),
            "own_share",
            "peer_share",
            "month",
        ),
        3,
        31 * DAY_SECONDS,
    ),
    "tariff_misuse": OracleRule(
        whole(
            lambda f: (
                f["chance"] / 0.9
                if f["known"] >= 14 and f["expected"] >= 1 and f["pv"] == 0
                else NOT_A_NUMBER
            ),
            "chance",
            "known",
            "expected",
            "pv",
        ),
        2,
        30 * DAY_SECONDS,
        DAY_SECONDS,
    ),
    "new_install_check": OracleRule(
        whole(
            lambda f: max(
                f["unread"] / 3,
                (0.002 if f["residential"] else 0.02) / max(f["load"], 1e-6),
            ),
            "unread",
            "load",
        ),
        2,
    ),
    "capacity_expansion": OracleRule(
        whole(
            lambda f: max(
                f["fifth"] / 1.1,
                f["kva_2h"] / max(f["contract"] - f["suspended"], 1) / 1.5,
            ),
            "fifth",
            "contract",
        ),
        2,
        0,
        30 * DAY_SECONDS,
    ),
    "pq_voltage_unbalance": OracleRule(
        lambda f: (
            max(f["unbalance"] / 0.02, f["unbalance_top"] / 0.04)
            / (2 if f["stand_in"] else 1)
        ),
        3,
        0,
        2 * DAY_SECONDS,
    ),
}
AREA_DAY_RULES = {
    "area_loss_high": OracleRule(
        whole(
            lambda f: max(f["third"] / usual_line(f), f["least"] / -0.01),
            "third",
            "least",
            "mean",
        ),
        2,
        0,
        6 * DAY_SECONDS,
    ),
    "read_success_rate": OracleRule(
        lambda f: (
            NOT_A_NUMBER
            if f["usual_read"] < 0.5 and f["others_share"] <= 0.98
            else (1 - f["others_share"]) / 0.02
        ),
        3,
        DAY_SECONDS,
        clear=0.5,
    ),
}
PAYMENT_RULES = {
    "payment_failure_repeat": OracleRule(
        lambda f: between(f["failures"] >= 3, f["failures"] == 0), 2
    )
}
ATTEMPT_RULES = {
    "payment_failure_burst": OracleRule(
        burst, 2, 10 * MINUTE_SECONDS, HOUR_SECONDS // 2
    )
}
ARREARS_RULES = {
    "arrears_tier": OracleRule(
        lambda f: f["days"] * f["weight"] if f["unpaid"] > 0 else 0.0,
        4,
        worse=((7.0, 3, 0), (15.0, 2, 0), (30.0, 1, 0)),
    )
}
PREPAID_RULES = {
    "low_balance": OracleRule(lambda f: 2 - f["balance"] / max(20, 3 * f["daily"]), 4)
}
OVERPAID_RULES = {"bill_overpaid": OracleRule(lambda f: f["overpaid"], 3)}
TRANSFER_RULES = {
    "payment_reconcile": OracleRule(lambda f: f["hours"] / 24, 3),
    "payment_conflict": OracleRule(lambda f: abs(round(f["off"], 2)) / 0.01, 3),
}
BILL_ISSUE_RULES = {
    "read_date_wrong": OracleRule(
        whole(
            lambda f: max(f["off"] / (1 if f["by_demand"] else 24), f["short"]),
            "off",
            "short",
        ),
        2,
        DAY_SECONDS,
    ),
    "bill_recalc_mismatch": OracleRule(
        whole(
            lambda f: (
                abs(f["billed"] - f["recomputed"]) / max(1, 0.005 * f["recomputed"])
            ),
            "recomputed",
        ),
        2,
    ),
}
OVERDUE_RULES = {
    "stage_overdue": OracleRule(
        lambda f: f["share"] / 0.8, 3, worse=((1.25, 2, 0), (2.5, 1, 0))
    )
}
STALL_RULES = {"stage_stall": OracleRule(lambda f: f["stalled"] / 2, 2)}
BACKLOG_RULES = {
    "stage_batch_stuck": OracleRule(lambda f: min(f["stuck"] / 5, f["share"] / 0.05), 2)
}
DISORDER_RULES = {
    "stage_disorder": OracleRule(
        lambda f: between(f["unfinished"] >= 1, f["unfinished"] == 0), 2
    )
}


def opened(f: Facts) -> float:
    return (
        0.0
        if not f["openings"]
        else 1 + f["drop_opened"] / 0.4
        if f["drop_opened"] >= 0.4
        else 1.0
    )


def magnetic(f: Facts) -> float:
    if f["field_s"] < 60:
        return f["field_s"] / 60
    return 1 + f["drop_field"] / 0.3 if f["drop_field"] >= 0.3 else 1.0


INCIDENT_RULES = {
    "seal_or_cover_event": OracleRule(opened, 2, DAY_SECONDS, worse=((2.0, 1, 0),)),
    "magnetic_field": OracleRule(magnetic, 2, worse=((2.0, 1, 0),)),
    "param_change_unordered": OracleRule(
        lambda f: min(f["changes"], 1.0), 2, DAY_SECONDS
    ),
    "relay_unanswered": OracleRule(lambda f: f["failures"] / 3, 2),
    "voltage_sag": OracleRule(lambda f: f["disturbances"], 3, worse=((3.0, 2, 0),)),
    "frequent_outage": OracleRule(lambda f: f["outages"] / 3, 3),
}


def near_end(f: Facts) -> float:
    if f["left"] <= 0:
        return 3.0
    return 2.0 if f["left"] <= 30 else max(1 + (60 - f["left"]) / 30, 0.0)


MASTER_DATA_RULES = {
    "calibration_due": OracleRule(
        lambda f: (
            NOT_A_NUMBER
            if f["late"] is None
            else 1 + f["late"]
            if f["late"] > 0
            else between(False, f["late"] < 0)
        ),
        4,
        worse=((31.0, 3, 0), (91.0, 2, 0)),
    ),
    "file_inconsistency": OracleRule(lambda f: float(f["faults"]), 4),
    "contract_gap": OracleRule(lambda f: max(f["gaps"], f["off"] / 0.01), 4),
    "contract_expiry": OracleRule(
        lambda f: NOT_A_NUMBER if f["left"] is None else near_end(f),
        4,
        worse=((2.0, 3, 0), (3.0, 2, 0)),
    ),
}
