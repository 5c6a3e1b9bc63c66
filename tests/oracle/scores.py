"""The score of every rule, from plain numbers: first the functions, then a table of rules for each subject judged."""

from __future__ import annotations

import math
from statistics import NormalDist

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

LITTLE_LEFT_LOG = math.log(0.1)  # of the expected use, where little is left


# Rules on readings: one phase or the whole meter.


def voltage_loss(facts: Facts, n: int) -> float:
    volts = facts["u"][n]
    amps = abs(facts["i"][n])
    return between(
        volts < 0.78 * facts["un"] and amps > 0.005 * facts["ib"],
        volts > 0.85 * facts["un"],
    )


def phase_break(facts: Facts, n: int) -> float:
    volts = facts["u"][n]
    amps = abs(facts["i"][n])
    dead = volts < 0.6 * facts["un"] and amps < 0.005 * facts["ib"]
    return between(
        dead and facts["most_u"] > 0.7 * facts["un"], volts > 0.7 * facts["un"]
    )


def current_loss(facts: Facts, n: int) -> float:
    amps = abs(facts["i"][n])
    idle = facts["u"][n] > 0.7 * facts["un"] and amps < 0.005 * facts["ib"]
    return between(
        idle and facts["most_i"] > 0.05 * facts["ib"], amps > 0.05 * facts["ib"]
    )


def reverse_polarity(facts: Facts, n: int) -> float:
    """One phase feeds back while another draws; two elements are judged by their sum, one alone."""
    power = facts["p"][n]
    others_draw = facts["most_p"] > 0 or facts["elements"] == 1
    wrong = total(facts["p"]) < 0 if facts["elements"] == 2 else others_draw
    fed_back = power < -0.005 * facts["un"] * facts["ib"] / 1000
    return between(fed_back and facts["pv_kva"] == 0 and wrong, power >= 0)


def meter_current_unbalance(facts: Facts, n: int) -> float:
    mean = facts["mean_i"]
    if not mean:
        return NOT_A_NUMBER
    departure = abs(abs(facts["i"][n]) - mean) / mean
    return gated(departure / 0.3, facts["most_i"] > 0.05 * facts["ib"])


def voltage_deviation(facts: Facts, n: int) -> float:
    ratio = facts["u"][n] / facts["un"]
    low = 0.93 if facts["phases"] == 3 else 0.90
    return between(ratio > 1.07 or 0.60 < ratio < low, low + 0.01 < ratio < 1.07 - 0.01)


def over_contract_capacity(facts: Facts) -> float:
    return (
        facts["kva"] / max(facts["contract_kva"] - facts["suspended_kva"], 1.0) / 1.05
    )


def low_power_factor(facts: Facts) -> float:
    if facts["pv_kva"] != 0 or not facts["kva"]:
        return NOT_A_NUMBER
    factor = abs(facts["total_p"]) * facts["ratio"] / facts["kva"]
    return gated(1.3 - factor, facts["most_i"] > 0.05 * facts["ib"])


def suspended_use(facts: Facts) -> float:
    if facts["suspended_kva"] == 0:
        return 0.0
    left = facts["contract_kva"] - facts["suspended_kva"]
    return facts["kva"] / max(1.05 * left, 0.005 * facts["contract_kva"], 1.0)


def customer_transformer_overload(facts: Facts) -> float:
    if not facts["own_kva"] > facts["suspended_kva"]:
        return NOT_A_NUMBER
    return facts["kva"] / (facts["own_kva"] - facts["suspended_kva"]) / 0.8


def meter_overcurrent(facts: Facts, n: int) -> float:
    limit = min(facts["imax"], 5) if facts["ct"] > 1 else facts["imax"]
    return abs(facts["i"][n]) / limit / 1.2


def harmonics_thd(facts: Facts, n: int) -> float:
    return facts["thd"][n] / 5


def meter_stopped(facts: Facts) -> float:
    return between(facts["delta"] == 0 and facts["still"] >= 0.1, facts["delta"] > 0)


def register_decrease(facts: Facts) -> float:
    if facts["drop"] == -math.inf:  # the register has returned: it never fell
        return -math.inf
    return between(facts["drop"] > 0.01, facts["drop"] <= 0.01)


def clock_drift(facts: Facts) -> float:
    return abs(facts["offset"]) / 300


# Rules on intervals of a transformer.


def transformer_overload(facts: Facts) -> float:
    if not facts["coverage"] >= 0.9:
        return NOT_A_NUMBER
    return facts["kva"] / facts["rating_kva"] / 0.8


def transformer_overload_expected(facts: Facts) -> float:
    sure = facts["peak"] - NormalDist().inv_cdf(0.8) * facts["peak_error"]
    return sure / facts["rating_kva"] / 0.8


def transformer_thermal(facts: Facts) -> float:
    air = facts["air"] if math.isfinite(facts["air"]) else 20
    winding_excess = facts["oil"] + facts["winding"] - 120 + air
    oil_excess = facts["oil"] - 105 + air
    score = 1 + max(winding_excess, oil_excess) / 100
    return score if score >= 1 or facts["heated"] >= 12 * HOUR_SECONDS else NOT_A_NUMBER


def frequency_deviation(facts: Facts) -> float:
    return max(facts["above"], facts["below"]) / 0.2


def area_load_unbalance(facts: Facts) -> float:
    if facts["gateway"] != 1:
        return NOT_A_NUMBER
    amps = [abs(current) for current in facts["current"]]
    if any(math.isnan(current) for current in amps) or max(amps) == 0:
        return NOT_A_NUMBER

    limit = 0.25 if facts["dyn11"] else 0.15
    spread = 1 - min(amps) / max(amps)
    score = between(False, spread < limit - 0.05) if spread <= limit else spread / limit
    return gated(score, facts["kva"] > 0.5 * facts["rating_kva"])


# Rules on a customer's days.


def established(facts: Facts) -> bool:
    """Whether a customer has been known for four weeks, uses something and has no panels."""
    return bool(facts["known"] >= 28 and facts["expected"] >= 1 and facts["pv"] == 0)


def well_established(facts: Facts) -> bool:
    """As `established`, with 3 kWh a day or more."""
    return bool(facts["known"] >= 28 and facts["expected"] >= 3 and facts["pv"] == 0)


def vacant(facts: Facts) -> bool:
    """Whether the home looks empty, or its use cannot be compared."""
    empty = facts["emptied"] or facts["used"] < 0.1 * facts["before"]
    stands = not facts["kept_standing"] <= min(0.75, 1.5 * facts["kept"])
    little = facts["beyond"] < LITTLE_LEFT_LOG
    return bool(empty or stands or little or facts["suspended"] > 0)


def worse_in_lossy_area(score: float, facts: Facts) -> float:
    """One more where the area loses energy beyond the usual; at most 1.9 elsewhere."""
    return score + 1 if score >= 1 and facts["excess"] > 0 else min(score, 1.9)


def zero_usage(facts: Facts) -> float:
    """How long a customer has used nothing."""
    days = 30 if facts["residential"] else 7
    is_suspended = 0 < facts["suspended"] >= facts["contract"]
    counts = facts["usual"] > 0.5 and not is_suspended
    return worse_in_lossy_area(gated(facts["zero_days"] / days, counts), facts)


def read_failure(facts: Facts) -> float:
    return facts["missing_days"] / (3 + facts["unread_usual"])


def area_loss_correlation(facts: Facts) -> float:
    """How far a user's energy explains a loss, beyond what chance makes of so few days."""
    line = max(0.6, math.tanh(3.5 / math.sqrt(max(facts["suspect_days"] - 5, 1))))
    lossy = facts["excess"] > 0
    score = min(facts["rho"] / line, facts["explained"] / 10) if lossy else 0.0
    if score >= 1 and (facts["unexplained"] >= 1.8 or facts["slide"] >= 8):
        return 1 + score
    return min(score, 1.9)


def near_zero_usage(facts: Facts) -> float:
    """How far a day is below a tenth of the usual use."""
    all_year = facts["used"] > 0.3 * facts["least"]
    fell = facts["used"] > 0 and not facts["suspended"] > 0 and not all_year
    score = gated(0.1 / max(facts["left"], 0.001), fell and established(facts))
    return worse_in_lossy_area(score, facts)


def step_drop(facts: Facts) -> float:
    """How far the last days are below the usual use, and below last year's."""
    kept = facts["kept"]
    if facts["kept_year"] >= 0:
        kept = max(kept, facts["kept_year"])
    score = min(facts["slide"] / 8, 0.6 / max(kept, 0.01))
    return gated(score, not vacant(facts) and established(facts))


def usage_fluctuation(facts: Facts) -> float:
    """How far a day is from the usual use, and from last year's."""
    rises = facts["beyond"] > 0
    beyond = abs(facts["beyond"])

    # A day like last year's is no fluctuation.
    year = facts["over_year"] if rises else facts["kept_year"]
    if year >= 0:
        beyond = max(min(beyond, math.log(max(year, 0.01)) * (1 if rises else -1)), 0)

    # Nor is the return after an absence.
    times = 2 if facts["residential"] else 1.5
    counts = not vacant(facts)
    if rises:
        counts = not facts["used"] <= times * facts["before"]
    limit = max(math.log(times), 3 * facts["spread"])
    return gated(beyond / limit, counts and established(facts))


def timed_zero_block(facts: Facts) -> float:
    supplied = facts["live"] >= 0.9
    usual = facts["known"] >= 28 and facts["pv"] == 0
    return gated(
        facts["dark_days"] / 3, facts["dark_before"] <= 0.15 and supplied and usual
    )


def model_score(facts: Facts) -> float:
    """How far the last days depart from the usual, by the worst of level, form and dark hours."""
    if not well_established(facts):
        return NOT_A_NUMBER
    if facts["suspended"] > 0:
        return 0.0

    level, scores = facts["level_left"], [0.0]
    if not facts["kept_standing"] > min(0.75, 1.5 * level):
        scores.append(-math.log(level) / 4.5 / facts["spread"])
    if 0.4 <= level <= 1.35 and not 0.85 < facts["kept_standing"] < 1.1:
        scores.append(math.log(facts["form_left"]) / math.log(0.45))
    if level >= 0.4 and facts["dark_before"] <= 0.15:
        scores.append(facts["dark_days"] / 6)
    return max(scores)


def clipped_profile(facts: Facts) -> float:
    score = min(facts["clipped"] / 5, facts["usual_high"] / 1.3 / facts["clip"])
    return gated(score, facts["beyond"] >= math.log(0.5) and well_established(facts))


def flat_profile(facts: Facts) -> float:
    """How flat a day is beside the usual days."""
    variation = facts["shape"]["variation"]
    rhythm = facts["shape"]["rhythm"]
    if math.isnan(variation) or math.isnan(rhythm):
        return NOT_A_NUMBER

    calm = min(
        0.2 * facts["usual_rhythm"] / max(rhythm, 0.005),
        0.5 * facts["usual_variation"] / max(variation, 0.005),
    )
    as_usual = math.log(0.35) <= facts["beyond"] <= math.log(1.2)
    lively = facts["usual_variation"] >= 0.2
    return gated(
        max(0.05 / max(variation, 0.005), calm),
        as_usual and lively and well_established(facts),
    )


def tou_inversion(facts: Facts) -> float:
    as_much = abs(math.log(max(facts["kept_week"], 0.01))) <= math.log(1.1)
    return gated(facts["valley_rise"] / 0.2, as_much and well_established(facts))


def peer_shortfall(facts: Facts) -> float:
    lively = facts["usual_rhythm"] >= 0.15 and facts["month"] > 0
    return gated(facts["below"] / 3, facts["peers"] >= 30 and lively)


def low_usage(facts: Facts) -> float:
    by_own = 0.1 / max(facts["own_share"], 0.001)
    by_peers = 0.05 / max(facts["peer_share"], 0.001)
    return gated(max(by_own, by_peers), facts["month"] > 0)


def tariff_misuse(facts: Facts) -> float:
    usual = facts["known"] >= 14 and facts["expected"] >= 1 and facts["pv"] == 0
    return facts["chance"] / 0.9 if usual else NOT_A_NUMBER


def new_install_check(facts: Facts) -> float:
    least = 0.002 if facts["residential"] else 0.02
    return max(facts["unread"] / 3, least / max(facts["load"], 1e-6))


def capacity_expansion(facts: Facts) -> float:
    capacity = max(facts["contract"] - facts["suspended"], 1)
    return max(facts["fifth"] / 1.1, facts["kva_2h"] / capacity / 1.5)


def pq_voltage_unbalance(facts: Facts) -> float:
    score = max(facts["unbalance"] / 0.02, facts["unbalance_top"] / 0.04)
    return score / (2 if facts["stand_in"] else 1)


# Rules on an area's days.


def usual_line(facts: Facts) -> float:
    """The line loss that is too high: 10 % until six days are known, then the usual loss and a margin."""
    if not facts["seen"] >= 6:
        return 0.10
    return min(max(facts["mean"] + max(3 * facts["spread"], 0.01), 0.07), 0.10)


def area_loss_high(facts: Facts) -> float:
    return max(facts["third"] / usual_line(facts), facts["least"] / -0.01)


def read_success_rate(facts: Facts) -> float:
    if facts["usual_read"] < 0.5 and facts["others_share"] <= 0.98:
        return NOT_A_NUMBER
    return (1 - facts["others_share"]) / 0.02


# Rules on payments and bills.


def payment_failure_repeat(facts: Facts) -> float:
    return between(facts["failures"] >= 3, facts["failures"] == 0)


def payment_failure_burst(facts: Facts) -> float:
    usual = facts["usual"]
    if facts["attempts"] < 40 or math.isnan(usual):
        return NOT_A_NUMBER
    spread = math.sqrt(max(usual * (1 - usual), 1e-4) / facts["attempts"])
    return min(
        facts["share"] / max(0.05, usual + 3 * spread),
        facts["share"] * facts["attempts"] / 5,
    )


def arrears_tier(facts: Facts) -> float:
    return facts["days"] * facts["weight"] if facts["unpaid"] > 0 else 0.0


def low_balance(facts: Facts) -> float:
    return 2 - facts["balance"] / max(20, 3 * facts["daily"])


def bill_overpaid(facts: Facts) -> float:
    return facts["overpaid"]


def payment_reconcile(facts: Facts) -> float:
    return facts["hours"] / 24


def payment_conflict(facts: Facts) -> float:
    return abs(round(facts["off"], 2)) / 0.01


def read_date_wrong(facts: Facts) -> float:
    return max(facts["off"] / (1 if facts["by_demand"] else 24), facts["short"])


def bill_recalc_mismatch(facts: Facts) -> float:
    return abs(facts["billed"] - facts["recomputed"]) / max(
        1, 0.005 * facts["recomputed"]
    )


# Rules on work items.


def stage_overdue(facts: Facts) -> float:
    return facts["share"] / 0.8


def stage_overdue_expected(facts: Facts) -> float:
    return facts["overdue_chance"] / 0.8


def stage_stall(facts: Facts) -> float:
    return facts["stalled"] / 2


def stage_batch_stuck(facts: Facts) -> float:
    return min(facts["stuck"] / 5, facts["share"] / 0.05)


def stage_disorder(facts: Facts) -> float:
    return between(facts["unfinished"] >= 1, facts["unfinished"] == 0)


# Rules on device events.


def seal_or_cover_event(facts: Facts) -> float:
    if not facts["openings"]:
        return 0.0
    return 1 + facts["drop_opened"] / 0.4 if facts["drop_opened"] >= 0.4 else 1.0


def magnetic_field(facts: Facts) -> float:
    if facts["field_s"] < 60:
        return facts["field_s"] / 60
    return 1 + facts["drop_field"] / 0.3 if facts["drop_field"] >= 0.3 else 1.0


def param_change_unordered(facts: Facts) -> float:
    return min(facts["changes"], 1.0)


def relay_unanswered(facts: Facts) -> float:
    return facts["failures"] / 3


def voltage_sag(facts: Facts) -> float:
    return facts["disturbances"]


def frequent_outage(facts: Facts) -> float:
    return facts["outages"] / 3


# Rules on master data.


def calibration_due(facts: Facts) -> float:
    late = facts["late"]
    if late is None:
        return NOT_A_NUMBER
    return 1 + late if late > 0 else between(False, late < 0)


def file_inconsistency(facts: Facts) -> float:
    return float(facts["faults"])


def contract_gap(facts: Facts) -> float:
    return max(facts["gaps"], facts["off"] / 0.01)


def contract_expiry(facts: Facts) -> float:
    """3 after the end, 2 in the last 30 days, 1 at 60 days before."""
    left = facts["left"]
    if left is None:
        return NOT_A_NUMBER
    if left <= 0:
        return 3.0
    return 2.0 if left <= 30 else max(1 + (60 - left) / 30, 0.0)


# The tables: how bad, how long to hold and to release, and which needs make a score NaN.

READING_RULES = {
    "voltage_loss": OracleRule(
        by_phase(voltage_loss, "u", "i", "un", "ib"),
        severity=1,
        hold=MINUTE_SECONDS,
        release=MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "phase_break": OracleRule(
        by_phase(phase_break, "u", "i", "un", "ib"),
        severity=2,
        hold=MINUTE_SECONDS,
        release=MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "current_loss": OracleRule(
        by_phase(current_loss, "u", "i", "un", "ib"),
        severity=1,
        hold=MINUTE_SECONDS,
        release=MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "reverse_polarity": OracleRule(
        by_phase(reverse_polarity, "p", "un", "ib", "pv_kva"),
        severity=1,
        hold=15 * MINUTE_SECONDS,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "meter_current_unbalance": OracleRule(
        by_phase(meter_current_unbalance, "i", "mean_i", "ib"),
        severity=3,
        hold=HOUR_SECONDS,
        release=RETURN_SECONDS,
        worse=((3.0, 2, HOUR_SECONDS),),
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "voltage_deviation": OracleRule(
        by_phase(voltage_deviation, "u", "un"),
        severity=3,
        hold=HOUR_SECONDS // 2,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "over_contract_capacity": OracleRule(
        whole(over_contract_capacity, "kva", "contract_kva"),
        severity=3,
        hold=2 * HOUR_SECONDS,
        release=RETURN_SECONDS,
        clear=1 / 1.05,
        worse=((1.2 / 1.05, 2, 2 * HOUR_SECONDS),),
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "low_power_factor": OracleRule(
        whole(low_power_factor, "total_p", "kva", "ratio", "most_i", "ib", "pv_kva"),
        severity=3,
        hold=HOUR_SECONDS,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "suspended_use": OracleRule(
        whole(suspended_use, "kva", "contract_kva", "suspended_kva"),
        severity=1,
        hold=HOUR_SECONDS,
        release=RETURN_SECONDS,
        clear=1 / 1.05,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "customer_transformer_overload": OracleRule(
        whole(customer_transformer_overload, "kva", "own_kva", "suspended_kva"),
        severity=3,
        hold=2 * HOUR_SECONDS,
        release=RETURN_SECONDS,
        clear=0.75 / 0.8,
        worse=((1 / 0.8, 2, 2 * HOUR_SECONDS), (1.5 / 0.8, 1, 15 * MINUTE_SECONDS)),
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "meter_overcurrent": OracleRule(
        by_phase(meter_overcurrent, "i", "imax"),
        severity=2,
        hold=MINUTE_SECONDS,
        release=RETURN_SECONDS,
        clear=1.05 / 1.2,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "harmonics_thd": OracleRule(
        by_phase(harmonics_thd, "thd", "un"),
        severity=3,
        hold=5 * MINUTE_SECONDS,
        release=RETURN_SECONDS,
        clear=0.95,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "meter_stopped": OracleRule(
        whole(meter_stopped, "delta", "still"),
        severity=1,
        hold=4 * HOUR_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "register_decrease": OracleRule(
        whole(register_decrease, "drop"),
        severity=1,
        release=30 * DAY_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
}
CLOCK_RULES = {
    "clock_drift": OracleRule(
        clock_drift,
        severity=4,
        hold=1,
        release=0,
        clear=0.4,
        worse=((2.0, 3, 1),),
        lull=3 * DAY_SECONDS,
    ),
}
INTERVAL_RULES = {
    "transformer_overload": OracleRule(
        transformer_overload,
        severity=3,
        hold=2 * HOUR_SECONDS,
        release=RETURN_SECONDS,
        clear=0.75 / 0.8,
        worse=((1 / 0.8, 2, 2 * HOUR_SECONDS), (1.5 / 0.8, 1, 15 * MINUTE_SECONDS)),
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "transformer_thermal": OracleRule(
        transformer_thermal,
        severity=1,
        hold=15 * MINUTE_SECONDS,
        release=RETURN_SECONDS,
        clear=0.95,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
    "frequency_deviation": OracleRule(
        whole(frequency_deviation, "above", "below"),
        severity=3,
        hold=MINUTE_SECONDS,
        release=MINUTE_SECONDS,
        lull=2 * HOUR_SECONDS,
    ),
    "area_load_unbalance": OracleRule(
        area_load_unbalance,
        severity=3,
        hold=2 * HOUR_SECONDS,
        release=RETURN_SECONDS,
        lull=2 * HOUR_SECONDS,
        chronic=True,
    ),
}
DAY_RULES = {
    "zero_usage": OracleRule(
        zero_usage, severity=3, hold=0, release=2 * DAY_SECONDS, worse=((2.0, 2, 0),)
    ),
    "read_failure": OracleRule(read_failure, severity=3),
    "area_loss_correlation": OracleRule(
        whole(area_loss_correlation, "rho", "excess"),
        severity=2,
        hold=2 * DAY_SECONDS,
        release=6 * DAY_SECONDS,
        worse=((2.0, 1, 0),),
    ),
    "near_zero_usage": OracleRule(
        whole(near_zero_usage, "left", "expected", "known", "pv"),
        severity=3,
        hold=6 * DAY_SECONDS,
        release=2 * DAY_SECONDS,
        worse=((2.0, 2, 6 * DAY_SECONDS),),
    ),
    "step_drop": OracleRule(
        whole(step_drop, "slide", "beyond", "kept", "expected", "known", "pv"),
        severity=3,
        hold=4 * DAY_SECONDS,
        release=14 * DAY_SECONDS,
        worse=((1.0, 2, 7 * DAY_SECONDS),),
    ),
    "usage_fluctuation": OracleRule(
        whole(usage_fluctuation, "beyond", "spread", "kept", "expected", "known", "pv"),
        severity=3,
        hold=2 * DAY_SECONDS,
        release=5 * DAY_SECONDS,
    ),
    "timed_zero_block": OracleRule(
        whole(timed_zero_block, "dark_days", "dark_before", "live", "known", "pv"),
        severity=2,
        hold=0,
        release=7 * DAY_SECONDS,
    ),
    "model_score": OracleRule(
        whole(
            model_score, "level_left", "form_left", "dark_days", "spread", "known", "pv"
        ),
        severity=3,
        hold=0,
        release=6 * DAY_SECONDS,
    ),
    "clipped_profile": OracleRule(
        whole(
            clipped_profile, "clipped", "clip", "usual_high", "beyond", "known", "pv"
        ),
        severity=2,
        hold=0,
        release=7 * DAY_SECONDS,
    ),
    "flat_profile": OracleRule(
        whole(flat_profile, "usual_variation", "usual_rhythm", "beyond", "known", "pv"),
        severity=3,
        hold=2 * DAY_SECONDS,
        release=4 * DAY_SECONDS,
    ),
    "tou_inversion": OracleRule(
        whole(tou_inversion, "valley_rise", "kept_week", "known", "pv"),
        severity=3,
        hold=2 * DAY_SECONDS,
        release=14 * DAY_SECONDS,
    ),
    "peer_shortfall": OracleRule(
        whole(peer_shortfall, "below", "peers", "usual_rhythm", "month"),
        severity=3,
        hold=31 * DAY_SECONDS,
    ),
    "low_usage": OracleRule(
        whole(low_usage, "own_share", "peer_share", "month"),
        severity=3,
        hold=31 * DAY_SECONDS,
    ),
    "tariff_misuse": OracleRule(
        whole(tariff_misuse, "chance", "known", "expected", "pv"),
        severity=2,
        hold=30 * DAY_SECONDS,
        release=DAY_SECONDS,
    ),
    "new_install_check": OracleRule(
        whole(new_install_check, "unread", "load"), severity=2
    ),
    "capacity_expansion": OracleRule(
        whole(capacity_expansion, "fifth", "contract"),
        severity=2,
        hold=0,
        release=30 * DAY_SECONDS,
    ),
    "pq_voltage_unbalance": OracleRule(
        pq_voltage_unbalance, severity=3, hold=0, release=2 * DAY_SECONDS
    ),
}
AREA_DAY_RULES = {
    "transformer_overload_expected": OracleRule(
        transformer_overload_expected,
        severity=3,
        release=DAY_SECONDS,
        clear=0.75 / 0.8,
        worse=((1 / 0.8, 2, 0),),
    ),
    "area_loss_high": OracleRule(
        whole(area_loss_high, "third", "least", "mean"),
        severity=2,
        hold=0,
        release=6 * DAY_SECONDS,
    ),
    "read_success_rate": OracleRule(
        read_success_rate, severity=3, hold=DAY_SECONDS, clear=0.5
    ),
}
PAYMENT_RULES = {
    "payment_failure_repeat": OracleRule(payment_failure_repeat, severity=2),
}
ATTEMPT_RULES = {
    "payment_failure_burst": OracleRule(
        payment_failure_burst,
        severity=2,
        hold=10 * MINUTE_SECONDS,
        release=HOUR_SECONDS // 2,
    ),
}
ARREARS_RULES = {
    "arrears_tier": OracleRule(
        arrears_tier, severity=4, worse=((7.0, 3, 0), (15.0, 2, 0), (30.0, 1, 0))
    ),
}
PREPAID_RULES = {
    "low_balance": OracleRule(low_balance, severity=4),
}
OVERPAID_RULES = {
    "bill_overpaid": OracleRule(bill_overpaid, severity=3),
}
TRANSFER_RULES = {
    "payment_reconcile": OracleRule(payment_reconcile, severity=3),
    "payment_conflict": OracleRule(payment_conflict, severity=3),
}
BILL_ISSUE_RULES = {
    "read_date_wrong": OracleRule(
        whole(read_date_wrong, "off", "short"), severity=2, hold=DAY_SECONDS
    ),
    "bill_recalc_mismatch": OracleRule(
        whole(bill_recalc_mismatch, "recomputed"), severity=2
    ),
}
OVERDUE_RULES = {
    "stage_overdue": OracleRule(
        stage_overdue, severity=3, worse=((1.25, 2, 0), (2.5, 1, 0))
    ),
}
EXPECTED_RULES = {
    "stage_overdue_expected": OracleRule(stage_overdue_expected, severity=3),
}
STALL_RULES = {
    "stage_stall": OracleRule(stage_stall, severity=2),
}
BACKLOG_RULES = {
    "stage_batch_stuck": OracleRule(stage_batch_stuck, severity=2),
}
DISORDER_RULES = {
    "stage_disorder": OracleRule(stage_disorder, severity=2),
}
INCIDENT_RULES = {
    "seal_or_cover_event": OracleRule(
        seal_or_cover_event, severity=2, hold=DAY_SECONDS, worse=((2.0, 1, 0),)
    ),
    "magnetic_field": OracleRule(magnetic_field, severity=2, worse=((2.0, 1, 0),)),
    "param_change_unordered": OracleRule(
        param_change_unordered, severity=2, hold=DAY_SECONDS
    ),
    "relay_unanswered": OracleRule(relay_unanswered, severity=2),
    "voltage_sag": OracleRule(voltage_sag, severity=3, worse=((3.0, 2, 0),)),
    "frequent_outage": OracleRule(frequent_outage, severity=3),
}
MASTER_DATA_RULES = {
    "calibration_due": OracleRule(
        calibration_due, severity=4, worse=((31.0, 3, 0), (91.0, 2, 0))
    ),
    "file_inconsistency": OracleRule(file_inconsistency, severity=4),
    "contract_gap": OracleRule(contract_gap, severity=4),
    "contract_expiry": OracleRule(
        contract_expiry, severity=4, worse=((2.0, 3, 0), (3.0, 2, 0))
    ),
}
