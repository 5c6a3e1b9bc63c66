"""What a meter's closed days show of the meter itself: its registers, its demand, its ratio and its power factor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from schemas.master import Meter
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER
from tests.oracle.watch import Facts, OracleRule, between, gated, total, whole

TARIFF_REGISTERS = (
    "register_sharp",
    "register_peak",
    "register_flat",
    "register_valley",
)
METER_COLUMNS = (
    "export_register",
    *TARIFF_REGISTERS,
    "demand",
    "demand_resets",
    "meter_ratio",
)
REGISTER_FACTS = (
    "register_kwh",
    "hours",
    "export_kwh",
    "tariff_gap",
    "stopped_kwh",
    "midnights",
)


def highest_energy(meter: Meter, hours: float) -> float:
    """The kWh that a meter can register in some hours: twice its rating."""
    phases = 1 if meter.wiring == "1P2W" else 3
    return 2 * meter.un_v * meter.imax_a * phases / 1000 * hours


def end_of_day(
    meter: Meter | None, readings: list[Facts], start: int, end: int, interval: int
) -> Facts:
    """A day's last registers, mean powers and highest interval."""
    step = max(meter.interval_s if meter else 0, interval)
    sound = [reading for reading in readings if not reading["stale"]]
    day: Facts = {
        "at": end,
        "record": meter,
        **mean_powers(sound, max((end - start) / step, 1)),
        "top_kw": highest_interval(readings, start, step),
    }

    for name, others in (
        ("register", ("export_register", *TARIFF_REGISTERS)),
        ("demand", ("demand_resets",)),
        ("meter_ratio", ()),
    ):
        last = [reading for reading in sound if not math.isnan(reading[name])][-1:]
        for column in (name, *others):
            day[column] = last[0][column] if last else NOT_A_NUMBER
        day[f"{name}_at"] = last[0]["at"] if last else NOT_A_NUMBER

    tariffs = [day[name] for name in TARIFF_REGISTERS if not math.isnan(day[name])]
    day["tariff_sum"] = sum(tariffs) if tariffs else NOT_A_NUMBER
    day["tariffs"] = len(tariffs)
    return day


def mean_powers(sound: list[Facts], expected: float) -> Facts:
    """The mean powers of the readings in which every phase with a current has a power."""
    powered = [reading for reading in sound if is_powered(reading)]
    drawn = [max(total(reading["p"]), 0) for reading in powered]
    sums = [total(reading["q"]) for reading in powered]
    reactive = [abs(Q) for Q in sums if not math.isnan(Q)]

    mean = mean_kvar = NOT_A_NUMBER
    if drawn and len(drawn) >= expected / 2:
        mean = sum(drawn) / len(drawn)
        if len(reactive) == len(drawn):
            mean_kvar = sum(reactive) / len(drawn)
    variance = sum((kw - mean) ** 2 for kw in drawn) / max(len(drawn) - 1, 1)
    return {
        "mean_kw": mean,
        "mean_kw_error": math.sqrt(variance / max(len(drawn), 1)),
        "mean_kvar": mean_kvar,
        "power_coverage": min(len(drawn) / expected, 1),
    }


def is_powered(reading: Facts) -> bool:
    """Whether a reading has a power, and one for every phase with a current."""
    if math.isnan(total(reading["p"])):
        return False
    phases = zip(reading["p"], reading["i"], strict=True)
    return all(math.isnan(I) or not math.isnan(P) for P, I in phases)


def highest_interval(readings: list[Facts], start: int, step: int) -> float:
    """The highest mean power of an interval whose predecessor was read on the same day."""
    energy = {
        reading["at"]: reading["kwh"]
        for reading in readings
        if not math.isnan(reading["kwh"])
    }
    powers = [
        kwh / step * HOUR_SECONDS
        for at, kwh in energy.items()
        if at - step in energy and at - step > start
    ]
    return max(powers, default=NOT_A_NUMBER)


class RegisterBook:
    """What a meter's registers moved, day by day."""

    def __init__(self) -> None:
        self.register = self.odd = self.export = NOT_A_NUMBER
        self.read = self.effective = 0
        self.midnight = False
        self.tariffs = 0
        self.stopped = 0.0

    def enter(self, day: Facts) -> Facts:
        """How far the registers moved since the last day that was entered."""
        register, meter = day["register"], day["record"]
        if math.isnan(register):
            return dict.fromkeys(REGISTER_FACTS, NOT_A_NUMBER)
        self.begin_record(meter)

        hours = NOT_A_NUMBER
        if not math.isnan(self.register):
            hours = (day["register_at"] - self.read) / HOUR_SECONDS
        limit = highest_energy(meter, hours) + 1 if meter else NOT_A_NUMBER
        moved = self.movement(register, meter)

        # A register that fell or leapt is odd until a second day confirms it.
        fell, leapt = moved < 0, moved > limit
        good = not (fell or leapt) or self.confirmed(register, fell=fell, leapt=leapt)
        if not good or fell:
            moved = NOT_A_NUMBER

        midnight = day["register_at"] == day["at"]
        midnights: Any = midnight and self.midnight and hours < 36
        facts = {
            "register_kwh": moved,
            "hours": hours,
            "export_kwh": self.exported(day, limit),
            "tariff_gap": self.tariff_gap(day),
            "midnights": NOT_A_NUMBER if math.isnan(moved) else midnights,
            "stopped_kwh": self.used_after_stop(moved, meter),
        }

        if not math.isnan(day["export_register"]):
            self.export = day["export_register"]
        self.tariffs = max(self.tariffs, day["tariffs"])
        if good:
            self.register = register
            self.read = day["register_at"]
            self.odd = NOT_A_NUMBER
            self.midnight = midnight
        else:
            self.odd = register
        return facts

    def begin_record(self, meter: Meter | None) -> None:
        """Forget the registers of a former record."""
        effective = meter.effective if meter else -1
        if effective != self.effective:
            self.register = self.odd = self.export = NOT_A_NUMBER
            self.tariffs = 0
            self.effective = effective

    def movement(self, register: float, meter: Meter | None) -> float:
        """How far the register moved, over its top if it was close to it."""
        moved = register - self.register
        span = 10**meter.register_digits if meter else NOT_A_NUMBER
        if moved < 0 and self.register > 0.9 * span and register < 0.1 * span:
            moved += span
        return moved

    def confirmed(self, register: float, *, fell: bool, leapt: bool) -> bool:
        """Whether the register goes on from an odd value on the same side."""
        lower = fell and self.odd < self.register <= math.inf
        higher = leapt and self.odd > self.register
        return (lower or higher) and register >= self.odd

    def exported(self, day: Facts, limit: float) -> float:
        """The kWh that went out, primary."""
        meter = day["record"]
        ratio = meter.ct * meter.pt if meter else NOT_A_NUMBER
        out = day["export_register"] - self.export
        return out * ratio if out >= 0 and not out > limit else NOT_A_NUMBER

    def tariff_gap(self, day: Facts) -> float:
        """How far the tariff registers are off the total register."""
        if day["tariffs"] < self.tariffs:
            return NOT_A_NUMBER
        meter = day["record"]
        apart = abs(day["register"] - day["tariff_sum"])
        if meter is None:
            return apart % math.inf
        span = 10**meter.register_digits
        return min(apart % span, span - apart % span)

    def used_after_stop(self, moved: float, meter: Meter | None) -> float:
        """The primary kWh since the contract was stopped."""
        stopped = bool(meter and 0 < meter.stopped <= self.read)
        self.stopped = self.stopped + total([0.0, moved]) if stopped else 0.0
        return self.stopped * (meter.ct * meter.pt) if meter else NOT_A_NUMBER


def accounted(day: Facts, past: list[tuple[float, float]]) -> Facts:
    """What power or the contract explains of the register's movement; `past` are the bounds of its error."""
    meter, hours, moved = day["record"], day["hours"], day["register_kwh"]
    if math.isnan(moved):
        names = ("explained_kwh", "by_power", "over", "under")
        return dict.fromkeys(names, NOT_A_NUMBER)

    # By power where it is known, else by the contract.
    flowed = day["mean_kw"] * hours
    by_power = day["power_coverage"] >= 0.9 and hours < 72
    contract = NOT_A_NUMBER
    if meter is not None and meter.contract_kva is not None:
        left = max(meter.contract_kva - meter.suspended_kva, 1)
        contract = left / meter.ct / meter.pt
    facts: Facts = {
        "by_power": by_power,
        "explained_kwh": flowed if by_power else contract * hours,
        "over": NOT_A_NUMBER,
        "under": NOT_A_NUMBER,
    }

    # The second of the last three comparable days on either side.
    if is_comparable(day, flowed):
        ratio = moved / flowed
        error = 2 * day["mean_kw_error"] / day["mean_kw"]
        past[:] = [*past, (ratio - error, ratio + error)][-3:]
        if len(past) > 1:
            facts["over"] = sorted(low for low, _ in past)[-2]
            facts["under"] = sorted(high for _, high in past)[1]
    return facts


def is_comparable(day: Facts, flowed: float) -> bool:
    """Whether register and power of a day cover the same 24 hours, nearly complete, with nothing fed back."""
    whole_day = abs(day["hours"] - 24) <= 2
    read_late = day["at"] - day["register_at"] <= HOUR_SECONDS
    measured = flowed >= 1 and day["power_coverage"] >= 0.95
    return bool(whole_day and read_late and measured and day["back"] <= 0.01 * flowed)


class DemandBook:
    """The bounds of a demand register, by the highest interval of every day."""

    def __init__(self) -> None:
        self.demand = self.resets = NOT_A_NUMBER
        self.then = 0
        self.floor, self.ceiling = 0.0, math.inf

    def enter(self, day: Facts) -> Facts:
        """The bounds after one more day."""
        demand = day["demand"]
        if math.isnan(demand):
            return {"floor": NOT_A_NUMBER, "ceiling": NOT_A_NUMBER}
        self.move_bounds(day)

        self.demand = demand
        self.then = day["at"]
        if not math.isnan(day["demand_resets"]):
            self.resets = day["demand_resets"]
        known = self.floor > 0 or self.ceiling < math.inf
        return {
            "floor": self.floor if known else NOT_A_NUMBER,
            "ceiling": self.ceiling if known else NOT_A_NUMBER,
        }

    def move_bounds(self, day: Facts) -> None:
        """Begin new bounds after a reset; else let the day's highest interval raise them."""
        meter, top = day["record"], day["top_kw"]
        coarse = meter and meter.interval_s > 900
        full = day["coverage"] >= 0.95 and not coarse and not math.isnan(top)
        recent = day["at"] - self.then < 1.5 * DAY_SECONDS
        highest = top if full and recent else math.inf

        reset = abs(day["demand_resets"] - self.resets) > 0
        if not self.then:
            self.floor, self.ceiling = 0.0, math.inf
        elif day["demand"] < self.demand or reset:
            self.floor, self.ceiling = 0.0, highest
        else:
            self.floor = max(self.floor, total([0.0, top]))
            self.ceiling = max(self.ceiling, highest)


class RatioBook:
    """What a meter showed before and after its ratio was changed in the master data."""

    def __init__(self) -> None:
        self.ratio = self.former = self.contract = self.before = NOT_A_NUMBER
        self.mean, self.days = 0.0, 0

    def enter(self, day: Facts) -> Facts:
        """By which factors the ratio and the energy shown have changed, 7 to 35 days after a change."""
        nothing: Facts = {"ratio_factor": NOT_A_NUMBER, "shown_factor": NOT_A_NUMBER}
        kwh, ratio, contract = day["kwh"], day["ratio"], day["contract_kva"]
        if math.isnan(kwh) or math.isnan(ratio):
            return nothing

        if ratio == self.ratio:
            self.days = min(self.days + 1, 255)
            self.mean += (kwh - self.mean) / min(self.days, 7)
        else:
            self.change_ratio(ratio, contract)
        self.ratio, self.contract = ratio, contract

        if not (7 <= self.days <= 35 and self.before > 0):
            return nothing
        return {
            "ratio_factor": ratio / self.former,
            "shown_factor": self.mean / self.before,
        }

    def change_ratio(self, ratio: float, contract: float) -> None:
        """Keep the former ratio and mean, if the contract is the same; a ratio that comes back has no former."""
        same_contract = contract == self.contract or math.isnan(contract)
        if ratio == self.former:
            self.former = ratio
        else:
            known = self.days >= 7 and same_contract
            self.former = self.ratio if known else NOT_A_NUMBER
        self.before, self.mean, self.days = self.mean, 0.0, 0


def metered(diary: Iterable[Facts], zone: str) -> Iterator[Facts]:
    """A meter's days with the facts of its registers, its demand, its ratio and the month's power factor."""
    registers, demands, ratios = RegisterBook(), DemandBook(), RatioBook()
    past: list[tuple[float, float]] = []
    month: list[Facts] = []
    for day in diary:
        date = datetime.fromtimestamp(day["at"] - 1, ZoneInfo(zone)).date()
        if date.day == 1:
            month = []
        month.append(day)
        last_of_month = (date + timedelta(1)).day == 1
        factor = monthly_factor(month, date.day) if last_of_month else NOT_A_NUMBER

        meter = day["record"]
        contracted = meter is not None and meter.contract_kva is not None
        facts = day | {
            "factor": factor,
            "declared_kw": (meter.declared_kw or NOT_A_NUMBER)
            if meter
            else NOT_A_NUMBER,
            "pv_kva": meter.pv_kva if meter else NOT_A_NUMBER,
            "contract_kva": meter.contract_kva if contracted else NOT_A_NUMBER,
            "farm": meter is not None and meter.segment == "agricultural",
            "industrial": meter is not None and meter.segment == "industrial",
            **registers.enter(day),
            **demands.enter(day),
        }
        yield facts | ratios.enter(facts) | accounted(facts, past)


def monthly_factor(month: list[Facts], days: int) -> float:
    """The power factor of a month; NaN where less than nine of ten days are known."""
    known = [day for day in month if not math.isnan(day["mean_kvar"])]
    if sum(day["power_coverage"] for day in known) < 0.9 * days:
        return NOT_A_NUMBER
    kw = sum(day["power_coverage"] * day["mean_kw"] for day in known)
    kvar = sum(day["power_coverage"] * day["mean_kvar"] for day in known)
    return kw / math.hypot(kw, kvar) if kw + kvar else NOT_A_NUMBER


def register_sum_mismatch(facts: Facts) -> float:
    return facts["tariff_gap"] / max(0.1, 0.005 * facts["register_kwh"])


def meter_runaway(facts: Facts) -> float:
    limit = (10 if facts["by_power"] else 1.2) * facts["explained_kwh"]
    if not limit:
        return 0.95
    counts = facts["explained_kwh"] > 0.01 and facts["register_kwh"] > 3
    return gated(facts["register_kwh"] / limit, counts)


def energy_ratio_error(facts: Facts) -> float:
    return max(facts["over"] - 1, 1 - facts["under"]) / 0.1


def register_interval_sum(facts: Facts) -> float:
    if facts["coverage"] < 1 or not facts["midnights"]:
        return NOT_A_NUMBER
    off = abs(facts["register_kwh"] - facts["kwh"])
    return off / max(0.02, 0.01 * facts["kwh"])


def ct_ratio_mismatch(facts: Facts) -> float:
    off = abs(facts["meter_ratio"] / facts["ratio"] - 1)
    return between(off > 0.02 and facts["meter_ratio"] != 1, off < 0.01)


def ct_ratio_step(facts: Facts) -> float:
    due = abs(math.log(facts["ratio_factor"]))
    shown = facts["shown_factor"]
    seen = abs(math.log(shown)) if shown > 0 else math.inf
    large = due >= math.log(1.25)
    return between(large and seen < 0.25 * due, not large or seen > 0.5 * due)


def unregistered_reverse(facts: Facts) -> float:
    if facts["pv_kva"] > 0:
        return -math.inf
    return between(
        facts["export_kwh"] > max(1, 0.02 * facts["ratio"]),
        facts["export_kwh"] < max(0.1, 0.002 * facts["ratio"]),
    )


def use_after_stop(facts: Facts) -> float:
    used = facts["stopped_kwh"]
    return between(used > max(0.1, 0.02 * facts["ratio"]), used == 0)


def demand_register_error(facts: Facts) -> float:
    demand, floor = facts["demand"], facts["floor"]
    low = 1 + (0.95 * floor - 0.05 - demand) / floor if floor else -math.inf
    return max(low, demand / (1.1 * facts["ceiling"] + 0.05))


def demand_over_contract(facts: Facts) -> float:
    return facts["demand"] * facts["ratio"] / facts["declared_kw"] / 1.05


def monthly_power_factor(facts: Facts) -> float:
    """How far the factor is below 0.80 of farms, 0.90 of industry of 160 kVA and more, else 0.85."""
    due = 0.85
    if facts["farm"]:
        due = 0.80
    elif facts["industrial"] and facts["contract_kva"] >= 160:
        due = 0.90
    charged = facts["residential"] == 0 and facts["pv_kva"] == 0
    if not (charged and facts["contract_kva"] >= 100):
        return NOT_A_NUMBER
    return 1 + due - facts["factor"]


METERING_RULES = {
    "register_sum_mismatch": OracleRule(
        whole(register_sum_mismatch, "tariff_gap", "register_kwh"), severity=2, hold=1
    ),
    "meter_runaway": OracleRule(
        whole(meter_runaway, "register_kwh", "explained_kwh"),
        severity=1,
        hold=0,
        release=2 * DAY_SECONDS,
    ),
    "energy_ratio_error": OracleRule(
        whole(energy_ratio_error, "over", "under"),
        severity=2,
        hold=0,
        release=DAY_SECONDS,
    ),
    "register_interval_sum": OracleRule(
        whole(register_interval_sum, "register_kwh", "kwh", "midnights"),
        severity=4,
        hold=0,
        release=DAY_SECONDS,
    ),
    "ct_ratio_mismatch": OracleRule(
        whole(ct_ratio_mismatch, "meter_ratio", "ratio"),
        severity=1,
        hold=2 * DAY_SECONDS,
    ),
    "ct_ratio_step": OracleRule(
        whole(ct_ratio_step, "ratio_factor", "shown_factor"),
        severity=2,
        hold=2 * DAY_SECONDS,
        release=DAY_SECONDS,
    ),
    "unregistered_reverse": OracleRule(
        whole(unregistered_reverse, "export_kwh", "pv_kva"),
        severity=2,
        hold=1,
        release=30 * DAY_SECONDS,
    ),
    "use_after_stop": OracleRule(whole(use_after_stop, "stopped_kwh"), severity=1),
    "demand_register_error": OracleRule(
        whole(demand_register_error, "demand", "floor", "ceiling"),
        severity=2,
        clear=0.97,
    ),
    "demand_over_contract": OracleRule(
        whole(demand_over_contract, "demand", "ratio", "declared_kw"),
        severity=3,
        clear=1 / 1.05,
    ),
    "monthly_power_factor": OracleRule(
        whole(monthly_power_factor, "factor", "contract_kva", "residential", "pv_kva"),
        severity=3,
        clear=0.99,
    ),
}
