"""What a meter's closed days say of the meter itself, as a clerk would work it out from its readings and registers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
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


def end_of_day(
    m: Meter | None, read: list[Facts], start: int, end: int, interval: int
) -> Facts:
    """What a day's readings leave behind: last registers, mean powers, the highest interval."""
    own = max(m.interval_s if m else 0, interval)
    expected = max((end - start) / own, 1)
    sound = [f for f in read if not f["stale"]]
    powered = [
        f
        for f in sound
        if not math.isnan(total(f["p"]))
        and all(
            math.isnan(i) or not math.isnan(p)
            for p, i in zip(f["p"], f["i"], strict=True)
        )
    ]
    drawn = [max(total(f["p"]), 0) for f in powered]
    reactive = [abs(q) for f in powered if not math.isnan(q := total(f["q"]))]
    mean = (
        sum(drawn) / len(drawn)
        if drawn and len(drawn) >= expected / 2
        else NOT_A_NUMBER
    )
    spread = sum((kw - mean) ** 2 for kw in drawn) / max(len(drawn) - 1, 1)
    energy = {f["at"]: f["kwh"] for f in read if not math.isnan(f["kwh"])}
    tops = [
        kwh / own * HOUR_SECONDS
        for at, kwh in energy.items()
        if at - own in energy and at - own > start
    ]
    told: Facts = {
        "at": end,
        "record": m,
        "mean_kw": mean,
        "mean_kw_error": math.sqrt(spread / max(len(drawn), 1)),
        "mean_kvar": sum(reactive) / len(drawn)
        if len(reactive) == len(drawn) and not math.isnan(mean)
        else NOT_A_NUMBER,
        "power_coverage": min(len(drawn) / expected, 1),
        "top_kw": max(tops, default=NOT_A_NUMBER),
    }
    for name, others in (
        ("register", ("export_register", *TARIFF_REGISTERS)),
        ("demand", ("demand_resets",)),
        ("meter_ratio", ()),
    ):
        last = [f for f in sound if not math.isnan(f[name])][-1:]
        told |= {
            other: last[0][other] if last else NOT_A_NUMBER for other in (name, *others)
        }
        told[f"{name}_at"] = last[0]["at"] if last else NOT_A_NUMBER
    tariffs = [told[name] for name in TARIFF_REGISTERS if not math.isnan(told[name])]
    return told | {
        "tariff_sum": sum(tariffs) if tariffs else NOT_A_NUMBER,
        "tariffs": len(tariffs),
    }


class RegisterBook:
    """What the registers of a meter have said, day by day."""

    def __init__(self) -> None:
        self.register = self.odd = self.export = NOT_A_NUMBER
        self.read = self.effective = 0
        self.midnight = False
        self.tariffs = 0
        self.stopped = 0.0

    def enter(self, day: Facts) -> Facts:
        """What moved since the last entry."""
        nothing = dict.fromkeys(
            (
                "register_kwh",
                "hours",
                "export_kwh",
                "tariff_gap",
                "stopped_kwh",
                "midnights",
            ),
            NOT_A_NUMBER,
        )
        register, m = day["register"], day["record"]
        if math.isnan(register):
            return nothing
        if (m.effective if m else -1) != self.effective:
            self.register = self.odd = self.export = NOT_A_NUMBER
            self.tariffs, self.effective = 0, m.effective if m else -1
        hours = (
            NOT_A_NUMBER
            if math.isnan(self.register)
            else (day["register_at"] - self.read) / HOUR_SECONDS
        )
        moved, out = register - self.register, day["export_register"] - self.export
        span = 10**m.register_digits if m else NOT_A_NUMBER
        if moved < 0 and self.register > 0.9 * span and register < 0.1 * span:
            moved += span
        most = (
            2 * m.un_v * m.imax_a * (1 if m.wiring == "1P2W" else 3) / 1000 * hours + 1
            if m
            else NOT_A_NUMBER
        )
        fell, leapt = moved < 0, moved > most
        confirmed = (
            fell and self.odd < self.register <= math.inf and register >= self.odd
        ) or (leapt and self.odd > self.register and register >= self.odd)
        good, midnight = (
            confirmed or not (fell or leapt),
            day["register_at"] == day["at"],
        )
        moved = moved if good and not fell else NOT_A_NUMBER
        apart = abs(register - day["tariff_sum"]) % (span if m else math.inf)
        ratio = m.ct * m.pt if m else NOT_A_NUMBER
        told = {
            "register_kwh": moved,
            "hours": hours,
            "export_kwh": out * ratio if out >= 0 and not out > most else NOT_A_NUMBER,
            "tariff_gap": min(apart, span - apart if m else apart)
            if day["tariffs"] >= self.tariffs
            else NOT_A_NUMBER,
            "midnights": NOT_A_NUMBER
            if math.isnan(moved)
            else midnight and self.midnight and hours < 36,
        }
        since_stop = bool(m and 0 < m.stopped <= self.read)
        self.stopped = self.stopped + total([0.0, moved]) if since_stop else 0.0
        told["stopped_kwh"] = self.stopped * ratio if m else NOT_A_NUMBER
        self.export = (
            self.export
            if math.isnan(day["export_register"])
            else day["export_register"]
        )
        self.tariffs = max(self.tariffs, day["tariffs"])
        if good:
            self.register, self.read, self.odd, self.midnight = (
                register,
                day["register_at"],
                NOT_A_NUMBER,
                midnight,
            )
        else:
            self.odd = register
        return told


def accounted(day: Facts, past: list[tuple[float, float]]) -> Facts:
    """What power or the contract makes of what the register moved; `past` are the days that could be compared."""
    m, hours, moved = day["record"], day["hours"], day["register_kwh"]
    if math.isnan(moved):
        return dict.fromkeys(
            ("explained_kwh", "by_power", "over", "under"), NOT_A_NUMBER
        )
    flowed = day["mean_kw"] * hours
    by_power = day["power_coverage"] >= 0.9 and hours < 72
    contract = (
        NOT_A_NUMBER
        if m is None or m.contract_kva is None
        else max(m.contract_kva - m.suspended_kva, 1) / m.ct / m.pt
    )
    told: Facts = {
        "by_power": by_power,
        "explained_kwh": flowed if by_power else contract * hours,
    }
    if (
        abs(hours - 24) <= 2
        and day["at"] - day["register_at"] <= HOUR_SECONDS
        and flowed >= 1
        and day["power_coverage"] >= 0.95
        and day["back"] <= 0.01 * flowed
    ):
        ratio, error = moved / flowed, 2 * day["mean_kw_error"] / day["mean_kw"]
        past[:] = [*past, (ratio - error, ratio + error)][-3:]
        if len(past) > 1:
            over, under = (sorted(column) for column in zip(*past, strict=True))
            return told | {"over": over[-2], "under": under[1]}
    return told | {"over": NOT_A_NUMBER, "under": NOT_A_NUMBER}


class DemandBook:
    """Between which bounds a register of demand must stand."""

    def __init__(self) -> None:
        self.demand = self.resets = NOT_A_NUMBER
        self.then = 0
        self.floor, self.ceiling = 0.0, math.inf

    def enter(self, day: Facts) -> Facts:
        """The bounds after one more day."""
        if math.isnan(day["demand"]):
            return {"floor": NOT_A_NUMBER, "ceiling": NOT_A_NUMBER}
        m, top = day["record"], day["top_kw"]
        full = (
            day["coverage"] >= 0.95
            and not (m and m.interval_s > 900)
            and not math.isnan(top)
        )
        most = top if full and day["at"] - self.then < 1.5 * DAY_SECONDS else math.inf
        if not self.then:
            self.floor, self.ceiling = 0.0, math.inf
        elif day["demand"] < self.demand or abs(day["demand_resets"] - self.resets) > 0:
            self.floor, self.ceiling = 0.0, most
        else:
            self.floor, self.ceiling = (
                max(self.floor, total([0.0, top])),
                max(self.ceiling, most),
            )
        self.demand, self.then = day["demand"], day["at"]
        self.resets = (
            self.resets if math.isnan(day["demand_resets"]) else day["demand_resets"]
        )
        known = self.floor > 0 or self.ceiling < math.inf
        return {
            "floor": self.floor if known else NOT_A_NUMBER,
            "ceiling": self.ceiling if known else NOT_A_NUMBER,
        }


class RatioBook:
    """What a meter showed before and after the ratio on file was changed."""

    def __init__(self) -> None:
        self.ratio = self.former = self.contract = self.before = NOT_A_NUMBER
        self.mean, self.days = 0.0, 0

    def enter(self, day: Facts) -> Facts:
        """How many times the ratio and what the meter shows are of what they were."""
        nothing: Facts = {"ratio_factor": NOT_A_NUMBER, "shown_factor": NOT_A_NUMBER}
        kwh, ratio, contract = day["kwh"], day["ratio"], day["contract_kva"]
        if math.isnan(kwh) or math.isnan(ratio):
            return nothing
        if ratio != self.ratio:
            known = self.days >= 7 and (
                contract == self.contract or math.isnan(contract)
            )
            self.former = (
                ratio if ratio == self.former else self.ratio if known else NOT_A_NUMBER
            )
            self.before, self.mean, self.days = self.mean, 0.0, 0
        else:
            self.days = min(self.days + 1, 255)
            self.mean += (kwh - self.mean) / min(self.days, 7)
        self.ratio, self.contract = ratio, contract
        if not (7 <= self.days <= 35 and self.before > 0):
            return nothing
        return {
            "ratio_factor": ratio / self.former,
            "shown_factor": self.mean / self.before,
        }


def ratio_step(f: Facts) -> float:
    due = abs(math.log(f["ratio_factor"]))
    seen = abs(math.log(f["shown_factor"])) if f["shown_factor"] > 0 else math.inf
    large = due >= math.log(1.25)
    return between(large and seen < 0.25 * due, not large or seen > 0.5 * due)


def metered(diary: Iterable[Facts], zone: str) -> Iterator[Facts]:
    """A meter's days with what was remembered of its registers, its demand and the month's power."""
    ledger, demands, ratios = RegisterBook(), DemandBook(), RatioBook()
    past, month = list[tuple[float, float]](), list[Facts]()
    for day in diary:
        date = datetime.fromtimestamp(day["at"] - 1, ZoneInfo(zone)).date()
        tomorrow = date + timedelta(1)
        month = [*([] if date.day == 1 else month), day]
        m, factor = day["record"], NOT_A_NUMBER
        known = [d for d in month if not math.isnan(d["mean_kvar"])]
        if (
            tomorrow.day == 1
            and sum(d["power_coverage"] for d in known) >= 0.9 * date.day
        ):
            kw, kvar = (
                sum(d["power_coverage"] * d[name] for d in known)
                for name in ("mean_kw", "mean_kvar")
            )
            factor = kw / math.hypot(kw, kvar) if kw + kvar else NOT_A_NUMBER
        told = day | {
            "factor": factor,
            "declared_kw": m.declared_kw or NOT_A_NUMBER if m else NOT_A_NUMBER,
            "pv_kva": m.pv_kva if m else NOT_A_NUMBER,
            "contract_kva": NOT_A_NUMBER
            if m is None or m.contract_kva is None
            else m.contract_kva,
            "farm": m is not None and m.segment == "agricultural",
            "industrial": m is not None and m.segment == "industrial",
            **ledger.enter(day),
            **demands.enter(day),
        }
        yield told | ratios.enter(told) | accounted(told, past)


def runaway(f: Facts) -> float:
    limit = (10 if f["by_power"] else 1.2) * f["explained_kwh"]
    if not limit:
        return 0.95
    return gated(
        f["register_kwh"] / limit, f["explained_kwh"] > 0.01 and f["register_kwh"] > 3
    )


def sum_check(f: Facts) -> float:
    if f["coverage"] < 1 or not f["midnights"]:
        return NOT_A_NUMBER
    return abs(f["register_kwh"] - f["kwh"]) / max(0.02, 0.01 * f["kwh"])


def demand_error(f: Facts) -> float:
    low = (
        1 + (0.95 * f["floor"] - 0.05 - f["demand"]) / f["floor"]
        if f["floor"]
        else -math.inf
    )
    return max(low, f["demand"] / (1.1 * f["ceiling"] + 0.05))


def factor_short(f: Facts) -> float:
    due = (
        0.80
        if f["farm"]
        else 0.90
        if f["industrial"] and f["contract_kva"] >= 160
        else 0.85
    )
    charged = f["contract_kva"] >= 100 and f["residential"] == 0 and f["pv_kva"] == 0
    return 1 + due - f["factor"] if charged else NOT_A_NUMBER


METERING_RULES = {
    "register_sum_mismatch": OracleRule(
        whole(
            lambda f: f["tariff_gap"] / max(0.1, 0.005 * f["register_kwh"]),
            "tariff_gap",
            "register_kwh",
        ),
        2,
        1,
    ),
    "meter_runaway": OracleRule(
        whole(runaway, "register_kwh", "explained_kwh"), 1, 0, 2 * DAY_SECONDS
    ),
    "energy_ratio_error": OracleRule(
        whole(lambda f: max(f["over"] - 1, 1 - f["under"]) / 0.1, "over", "under"),
        2,
        0,
        DAY_SECONDS,
    ),
    "register_interval_sum": OracleRule(
        whole(sum_check, "register_kwh", "kwh", "midnights"), 4, 0, DAY_SECONDS
    ),
    "ct_ratio_mismatch": OracleRule(
        whole(
            lambda f: between(
                abs(f["meter_ratio"] / f["ratio"] - 1) > 0.02 and f["meter_ratio"] != 1,
                abs(f["meter_ratio"] / f["ratio"] - 1) < 0.01,
            ),
            "meter_ratio",
            "ratio",
        ),
        1,
        2 * DAY_SECONDS,
    ),
    "ct_ratio_step": OracleRule(
        whole(ratio_step, "ratio_factor", "shown_factor"),
        2,
        2 * DAY_SECONDS,
        DAY_SECONDS,
    ),
    "unregistered_reverse": OracleRule(
        whole(
            lambda f: (
                -math.inf
                if f["pv_kva"] > 0
                else between(
                    f["export_kwh"] > max(1, 0.02 * f["ratio"]),
                    f["export_kwh"] < max(0.1, 0.002 * f["ratio"]),
                )
            ),
            "export_kwh",
            "pv_kva",
        ),
        2,
        1,
        30 * DAY_SECONDS,
    ),
    "use_after_stop": OracleRule(
        whole(
            lambda f: between(
                f["stopped_kwh"] > max(0.1, 0.02 * f["ratio"]), f["stopped_kwh"] == 0
            ),
            "stopped_kwh",
        ),
        1,
    ),
    "demand_register_error": OracleRule(
        whole(demand_error, "demand", "floor", "ceiling"), 2, clear=0.97
    ),
    "demand_over_contract": OracleRule(
        whole(
            lambda f: f["demand"] * f["ratio"] / f["declared_kw"] / 1.05,
            "demand",
            "ratio",
            "declared_kw",
        ),
        3,
        clear=1 / 1.05,
    ),
    "monthly_power_factor": OracleRule(
        whole(factor_short, "factor", "contract_kva", "residential", "pv_kva"),
        3,
        clear=0.99,
    ),
}
