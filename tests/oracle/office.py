"""Offices: payments, bills and work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import groupby
from operator import itemgetter
from zoneinfo import ZoneInfo

import holidays

from schemas.columns import Payment, StageProgress
from schemas.master import Area, Meter, Tariff
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row
from tests.oracle.scores import (
    ARREARS_RULES,
    ATTEMPT_RULES,
    BACKLOG_RULES,
    BILL_ISSUE_RULES,
    DISORDER_RULES,
    OVERDUE_RULES,
    OVERPAID_RULES,
    PAYMENT_RULES,
    PREPAID_RULES,
    STALL_RULES,
    TRANSFER_RULES,
)
from tests.oracle.watch import Endings, Facts, judge

STAGE_LIMITS = {
    "reading": DAY_SECONDS,
    "checking": DAY_SECONDS,
    "review": DAY_SECONDS,
    "issue": 5 * DAY_SECONDS,
    "collection": 20 * DAY_SECONDS,
}


def customer_endings(area: str, rows: list[Row]) -> Endings:
    """How the episodes of failing payments end, of customers and of channels."""
    told: Endings = {}
    attempts = [
        r for r in rows if r.columns["payment"] in (Payment.PAYMENT, Payment.TOPUP)
    ]
    for customer in dict.fromkeys(r.subject for r in attempts):
        facts: list[Facts] = []
        failed: list[int] = []
        for row in [r for r in attempts if r.subject == customer]:
            failed = [] if row.columns["succeeded"] else [*failed, row.at][-3:]
            facts.append(
                {
                    "at": row.at,
                    "failures": sum(at > row.at - DAY_SECONDS for at in failed),
                }
            )
        judge(PAYMENT_RULES, area, customer, facts, told)
    for customer in dict.fromkeys(r.subject for r in rows):
        judge(
            PREPAID_RULES,
            area,
            customer,
            prepaid_facts([r for r in rows if r.subject == customer]),
            told,
        )
    for channel in dict.fromkeys(r.columns["channel"] for r in attempts):
        tried = [
            (r.at, r.columns["succeeded"] == 0)
            for r in attempts
            if r.columns["channel"] == channel
        ]
        judge(ATTEMPT_RULES, area, channel, shares(tried), told)
    return told


def prepaid_facts(rows: list[Row]) -> Iterator[Facts]:
    """What a prepaid customer has left after each balance and top-up, and uses a day."""
    last: Row | None = None
    topped = daily = 0.0
    for row in rows:
        amount, what = row.columns["amount"], row.columns["payment"]
        if what == Payment.BALANCE and (last is None or row.at > last.at):
            if (
                last is not None
                and 6 * HOUR_SECONDS <= row.at - last.at <= 40 * DAY_SECONDS
            ):
                days = (row.at - last.at) / DAY_SECONDS
                used, keep = (
                    (last.columns["amount"] + topped - amount) / days,
                    0.5 ** (days / 14) if daily else 0,
                )
                daily = keep * daily + (1 - keep) * used if used >= 0 else daily
            last, topped = row, 0.0
            yield {"at": row.at, "balance": amount, "daily": daily}
        elif (
            what == Payment.TOPUP
            and row.columns["succeeded"]
            and (last is None or row.at >= last.at)
        ):
            topped += amount
            if last is not None:
                yield {
                    "at": row.at,
                    "balance": last.columns["amount"] + topped,
                    "daily": daily,
                }


def shares(attempts: list[tuple[int, bool]]) -> Iterator[Facts]:
    """How often a channel's attempts fail: of late, fading over 50, and by habit in this hour of the week."""
    habit: dict[
        int, tuple[float, float]
    ] = {}  # attempts and failures by hour of the week
    share = weight = 0.0
    for hour, group in groupby(
        attempts, key=lambda attempt: attempt[0] // HOUR_SECONDS
    ):
        here = list(group)
        tried, failed = (
            sum(counts) for counts in zip((0, 0), *habit.values(), strict=True)
        )
        usual = failed / tried if tried else NOT_A_NUMBER
        own = habit.get(hour % 168, (0.0, 0.0))
        for at, fails in here:
            weight = weight * 0.98 + 1
            share += (fails - share) / weight
            yield {
                "at": at,
                "share": share,
                "attempts": weight,
                "usual": own[1] / own[0] if own[0] >= 50 else usual,
            }
        most = len(here) * (2 * usual + 0.02) if tried else math.inf
        habit[hour % 168] = (
            0.8 * own[0] + len(here),
            0.8 * own[1] + min(sum(fails for _, fails in here), most),
        )


def bill_endings(
    area: str, master: Area | None, zone: str, rows: list[Row], watermark: int
) -> Endings:
    """How the episodes of bills end, of how they were issued and of what stays unpaid."""
    told: Endings = {}
    bills = [r for r in rows if r.columns["payment"] == Payment.BILL]
    for customer, bill in dict.fromkeys((r.subject, r.columns["bill"]) for r in bills):
        mine = [r for r in rows if r.subject == customer and r.columns["bill"] == bill]
        issues = sorted(
            (r for r in mine if r.columns["payment"] == Payment.BILL),
            key=lambda r: r.at,
        )
        subject = f"{customer}/{bill}"
        known = account(issues[-1], master)
        weight = {"A": 0.5, "D": 2.2}.get(known[0].credit, 1.0) if known else 1.0
        late = [f | {"weight": weight} for f in overdue(issues[-1], mine, watermark)]
        judge(ARREARS_RULES, area, subject, late, told)
        judge(OVERPAID_RULES, area, subject, overpaid(issues, mine), told)
        facts: list[Facts] = []
        for n, row in enumerate(issues):
            seen = {
                "at": row.at,
                **read_facts(row, master, zone),
                **recomputed(row, master),
            }
            after = issues[n + 1].at if n + 1 < len(issues) else watermark + 1
            facts += [seen] + [seen | {"at": row.at + DAY_SECONDS}] * (
                row.at + DAY_SECONDS < after
            )
        judge(BILL_ISSUE_RULES, area, subject, facts, told)
    return told


def overdue(bill: Row, mine: list[Row], watermark: int) -> list[Facts]:
    """What is unpaid of a bill, one, seven, fifteen and thirty days after it was due."""
    paid = paid_amounts(mine)
    facts: list[Facts] = []
    since, is_open = bill.columns["due"], True
    for n, at in enumerate([*(at for at, _ in paid), watermark + 1], 1):
        covered = sum(a for _, a in paid[:n]) >= bill.columns["amount"] and n <= len(
            paid
        )
        if is_open and (covered or n > len(paid)):
            for days in (1, 7, 15, 30):
                late = since + days * DAY_SECONDS
                unpaid = bill.columns["amount"] - sum(
                    a for when, a in paid if when <= late
                )
                facts += [{"at": late, "days": days, "unpaid": unpaid}] * (late < at)
            facts += [{"at": at, "days": 0, "unpaid": 0}] * covered
        elif not is_open and not covered:
            since = max(bill.columns["due"], at)
        is_open = not covered
    return sorted(facts, key=itemgetter("at"))


def paid_amounts(mine: list[Row]) -> list[tuple[int, float]]:
    """What was paid on a bill and what of it was taken back, in order of time."""
    told: list[tuple[int, float]] = []
    payments = [
        r for r in mine if r.columns["payment"] in (Payment.PAYMENT, Payment.REVERSAL)
    ]
    for row in sorted(payments, key=lambda r: (r.at, is_payment(r))):
        amount, number = row.columns["amount"], row.columns.get("reference")
        if is_payment(row):
            told.append((row.at, amount))
        elif number:
            under = [r for r in payments if r.columns.get("reference") == number]
            failed = [r.at for r in under if not is_payment(r) and r.at < row.at]
            back = sum(
                r.columns["amount"]
                for r in under
                if is_payment(r) and max(failed, default=0) <= r.at < row.at
            )
            told += [(row.at, -back)] * bool(back)
        elif row.columns["payment"] == Payment.REVERSAL:
            told.append((row.at, -abs(amount)))
    return told


def is_payment(row: Row) -> bool:
    """Whether something was paid by it."""
    return bool(row.columns["payment"] == Payment.PAYMENT and row.columns["succeeded"])


def overpaid(issues: list[Row], mine: list[Row]) -> Iterator[Facts]:
    """By how much what was paid is above the bill as it stood, at every row since it was issued."""
    for at in sorted({r.at for r in mine}):
        amounts = [r.columns["amount"] for r in issues if r.at <= at]
        paid = [amount for when, amount in paid_amounts(mine) if when <= at]
        if amounts:
            yield {"at": at, "overpaid": sum(paid) - amounts[-1]}


def transfer_endings(area: str, rows: list[Row], watermark: int) -> Endings:
    """How the episodes of payments and settlements end that do not come together."""
    told: Endings = {}
    mine = [
        r
        for r in rows
        if r.columns.get("reference")
        and (
            r.columns["payment"] == Payment.SETTLEMENT
            or (
                r.columns["payment"] in (Payment.PAYMENT, Payment.TOPUP)
                and r.columns["succeeded"]
            )
        )
    ]
    mine.sort(key=lambda r: r.at)
    for customer, number in dict.fromkeys(
        (r.subject, r.columns["reference"]) for r in mine
    ):
        both = [
            r for r in mine if (r.subject, r.columns["reference"]) == (customer, number)
        ]
        facts: list[Facts] = []
        first, others = both[0], [r for r in both if is_line(r) != is_line(both[0])]
        begun = min((r.at for r in both if not is_line(r)), default=math.inf)
        back = min(
            (r.at for r in rows if is_taken_back(r, customer, number) and r.at > begun),
            default=math.inf,
        )
        until = min(others[0].at if others else watermark + 1, back)
        channel = [r for r in mine if r.columns["channel"] == first.columns["channel"]]
        for hours in (12, 24, 36, 48, 72, 120, 168):
            at = first.at + hours * HOUR_SECONDS
            before = (
                first.at - 3 * DAY_SECONDS if is_line(first) else first.at + DAY_SECONDS
            )
            expected = any(
                r.at < before for r in channel if is_line(r) != is_line(first)
            )
            if at < until and expected:
                facts.append({"at": at, "hours": hours, "off": NOT_A_NUMBER})
        facts += [{"at": until, "hours": 0, "off": NOT_A_NUMBER}] * (
            bool(others) or back <= watermark
        )
        for at in dict.fromkeys(r.at for r in both):
            lines = [r.columns["amount"] for r in both if r.at <= at and is_line(r)]
            paid = [r.columns["amount"] for r in both if r.at <= at and not is_line(r)]
            off = (
                NOT_A_NUMBER
                if at >= back
                else sum(lines or paid[:1]) - sum(paid or lines[:1])
            )
            facts.append({"at": at, "hours": NOT_A_NUMBER, "off": off})
        judge(
            TRANSFER_RULES,
            area,
            f"{customer}/{number}",
            sorted(facts, key=itemgetter("at")),
            told,
        )
    return told


def is_taken_back(row: Row, customer: str, number: str) -> bool:
    """Whether a customer's number is told to have failed."""
    failed = row.columns["payment"] == Payment.REVERSAL or not row.columns["succeeded"]
    return (
        failed
        and not is_line(row)
        and (row.subject, row.columns.get("reference")) == (customer, number)
    )


def is_line(row: Row) -> bool:
    """Whether a channel settles by it."""
    return bool(row.columns["payment"] == Payment.SETTLEMENT)


def account(row: Row, master: Area | None) -> tuple[Meter, Tariff] | None:
    """The newest record of a bill's customer, and its tariff."""
    if (
        master is None
        or (
            records := [
                m
                for m in master.meters
                if m.customer == row.subject
                and m.effective <= row.at
                and (not m.until or m.until >= row.at)
            ]
        )
        == []
    ):
        return None
    newest = max(records, key=lambda m: m.effective)
    return newest, next(t for t in master.tariffs if t.tariff == newest.tariff)


def read_facts(row: Row, master: Area | None, zone: str) -> Facts:
    """How far a bill's reading is off its time, and below the month-end freeze; NaN where neither is known."""
    known, read = account(row, master), row.columns["read_at"]
    off = NOT_A_NUMBER
    if known and read:
        meter, tariff = known
        today = datetime.fromtimestamp(read, ZoneInfo(zone))
        firsts = [today.replace(day=1, hour=0, minute=0, second=0, fold=0)]
        firsts.append((firsts[0] + timedelta(days=32)).replace(day=1))
        if tariff.demand is not None:
            off = min(abs(read - first.timestamp()) for first in firsts) / HOUR_SECONDS
        elif meter.read_day:
            days = [
                (
                    f + timedelta(days=meter.read_day - 1),
                    f + timedelta(days=meter.read_day),
                )
                for f in [(firsts[0] - timedelta(days=1)).replace(day=1), *firsts]
            ]
            off = (
                min(max(s.timestamp() - read, read - e.timestamp(), 0) for s, e in days)
                / HOUR_SECONDS
            )
    short = max(row.columns["frozen_register"] - row.columns["read_register"], 0)
    short = 0 if short <= 0.02 else short * (known[0].ct * known[0].pt if known else 1)
    if math.isnan(short) != math.isnan(off):
        short, off = (
            -math.inf if math.isnan(value) else value for value in (short, off)
        )
    return {
        "off": off,
        "short": short,
        "by_demand": known is not None and known[1].demand is not None,
    }


def recomputed(row: Row, master: Area | None) -> Facts:
    """What a bill says and what its tariff gives."""
    known, c = account(row, master), row.columns
    if known is None:
        return {"billed": c["amount"], "recomputed": NOT_A_NUMBER}
    meter, tariff = known
    fee = c["billed_kwh"] * tariff.flat
    if tariff.peak is not None:
        fee += c["billed_peak"] * (tariff.peak - tariff.flat)
    if tariff.demand is not None and meter.declared_kw is not None:
        contract = meter.contract_kva or NOT_A_NUMBER
        declared = (
            max(meter.declared_kw, 0.4 * contract)
            if contract > 0
            else meter.declared_kw
        )
        price = tariff.demand
        if row.at >= datetime(2023, 7, 1, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp():
            price *= (
                0.9
                if c["billed_kwh"] >= 260 * contract
                else 1.0
                if contract > 0
                else NOT_A_NUMBER
            )
        fee += price * declared
        if math.isnan(c["billed_demand"]) or c["billed_demand"] > 1.05 * declared:
            fee += 2 * price * (c["billed_demand"] - 1.05 * declared)
    return {"billed": c["amount"], "recomputed": fee}


def work_endings(
    section: str, master: Area | None, zone: str, rows: list[Row], watermark: int
) -> Endings:
    """How the episodes of stalled and disordered work end, as far as the section's clock has come."""
    told: Endings = {}
    order = (
        [stage.stage for stage in master.stages]
        if master and master.stages
        else list(STAGE_LIMITS)
    )
    every = {
        item: stays_of([r for r in rows if (r.subject, r.columns["stage"]) == item])
        for item in dict.fromkeys((r.subject, r.columns["stage"]) for r in rows)
    }
    waits = {
        item: waits_of([r for r in rows if (r.subject, r.columns["stage"]) == item])
        for item in every
    }
    for (subject, stage), visits in every.items():
        late: list[Facts] = []
        stalled: list[Facts] = []
        for row, done in visits:
            limit, working = limit_of(row, master)
            until = watermark + 1 if done == math.inf else done
            for share in (0.8, 1.0, 2.0):
                due = (
                    worked_after(row.at, round(share * limit), zone)
                    if working
                    else row.at + round(share * limit)
                )
                at = put_off(waits[subject, stage], row.at, due)
                late += [{"at": at, "share": share}] * (limit > 0 and at < until)
            alike = [key for key in every if key[1] == stage]
            usual = usual_of(
                [v for key in alike for v in worked_times(every[key], waits[key])],
                row.at,
            )
            marks = (
                [
                    (
                        put_off(
                            waits[subject, stage], row.at, row.at + round(m * usual)
                        ),
                        m,
                    )
                    for m in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
                ]
                if usual
                else []
            )
            stalled += [
                {"at": at, "stalled": times}
                for at, times in marks
                if at < until and row.at <= watermark
            ]
            if done < math.inf:
                late.append({"at": done, "share": 0.0})
                stalled.append({"at": done, "stalled": 0.0})
        judge(
            OVERDUE_RULES,
            section,
            f"{subject}/{stage}",
            sorted(late, key=itemgetter("at")),
            told,
        )
        judge(
            STALL_RULES,
            section,
            f"{subject}/{stage}",
            sorted(stalled, key=itemgetter("at")),
            told,
        )
    for stage in dict.fromkeys(stage for _, stage in every):
        judge(
            BACKLOG_RULES,
            section,
            stage,
            stuck(every, waits, stage, master, zone, watermark),
            told,
        )
    for subject in dict.fromkeys(r.subject for r in rows):
        mine = [
            r for r in rows if r.subject == subject and r.columns["progress"] in (0, 1)
        ]
        judge(DISORDER_RULES, section, subject, left_out(mine, order), told)
    return told


def waits_of(rows: list[Row]) -> list[tuple[int, float]]:
    """From when until when an item waited for somebody else."""
    resumed = sorted(
        r.at for r in rows if r.columns["progress"] == StageProgress.RESUMED
    )
    waits: list[tuple[int, float]] = []
    for at in sorted(
        r.at for r in rows if r.columns["progress"] == StageProgress.PAUSED
    ):
        if not waits or at >= waits[-1][1]:
            waits.append(
                (at, min((until for until in resumed if until >= at), default=math.inf))
            )
    return waits


def put_off(waits: list[tuple[int, float]], start: int, at: float) -> float:
    """When something comes that was due at a time, when every wait since the start is added."""
    for since, until in waits:
        if until > start and since < at:
            at += until - max(since, start)
    return at


def stuck(
    every: dict[tuple[str, str], list[tuple[Row, float]]],
    waits: dict[tuple[str, str], list[tuple[int, float]]],
    stage: str,
    master: Area | None,
    zone: str,
    watermark: int,
) -> list[Facts]:
    """How many items stand in a stage overdue or stalled at every midnight, of all that the section has open."""
    visits = [
        (other, row, done)
        for (_, other), visits in every.items()
        for row, done in visits
    ]
    since: list[tuple[str, Row, float, float]] = []
    for other, row, done in visits:
        limit, working = limit_of(row, master)
        late = (
            worked_after(row.at, round(limit), zone)
            if working
            else row.at + round(limit)
        )
        alike = [(r, d) for name, r, d in visits if name == other]
        usual = usual_of(
            [
                v
                for r, d in alike
                for v in worked_times([(r, d)], waits[r.subject, other])
            ],
            row.at,
        )
        waited = waits[row.subject, other]
        times = [put_off(waited, row.at, late)] * (limit > 0)
        times += [put_off(waited, row.at, row.at + round(2 * usual))] * (usual > 0)
        since.append((other, row, done, min(times, default=math.inf)))
    first = (
        datetime.fromtimestamp(
            min(row.at for _, row, _ in visits), ZoneInfo(zone)
        ).date()
        if visits
        else None
    )
    facts: list[Facts] = []
    while (
        first
        and (at := datetime.combine(first, time(), ZoneInfo(zone)).timestamp())
        <= watermark
    ):
        there = [
            (other, late) for other, row, done, late in since if row.at < at <= done
        ]
        count = sum(other == stage and late <= at for other, late in there)
        facts.append(
            {"at": int(at), "stuck": count, "share": count / max(len(there), 1)}
        )
        first += timedelta(days=1)
    return facts


def stays_of(rows: list[Row]) -> list[tuple[Row, float]]:
    """The starts that opened a stage, and when each was left."""
    ends = [r.at for r in rows if r.columns["progress"] == StageProgress.FINISHED]
    visits: list[tuple[Row, float]] = []
    done: float = 0
    for row in sorted(
        (r for r in rows if r.columns["progress"] == StageProgress.STARTED),
        key=lambda r: r.at,
    ):
        if row.at >= done:
            done = min((end for end in ends if end >= row.at), default=math.inf)
            visits.append((row, done))
    return visits


def limit_of(row: Row, master: Area | None) -> tuple[float, bool]:
    """The seconds that a stage may take, 0 for no limit, and whether they are those of working days."""
    stage, own = row.columns["stage"], row.columns["limit"]
    if own > 0:
        return own, False
    if master is None or not master.stages:
        return STAGE_LIMITS.get(stage, 0), False
    known = [s for s in master.stages if s.stage == stage and s.effective <= row.at]
    return (
        ((known[-1].hours or 0) * HOUR_SECONDS, known[-1].working_days)
        if known
        else (0, False)
    )


def worked_after(at: int, seconds: int, zone: str) -> int:
    """When so many seconds of working days have passed."""
    while True:
        today = datetime.fromtimestamp(at, ZoneInfo(zone)).date()
        tomorrow = datetime.combine(today + timedelta(days=1), time(), ZoneInfo(zone))
        left = int(tomorrow.timestamp()) - at if works(today, zone) else 0
        if left and left >= seconds:
            return at + seconds
        seconds -= left
        at = int(tomorrow.timestamp())


def works(day: date, zone: str) -> bool:
    """Whether people work: in China not on public holidays, but on some weekends."""
    china = (
        holidays.country_holidays("CN", years=day.year)
        if zone == "Asia/Shanghai"
        else None
    )
    if china is None or day not in china:
        return day.weekday() < 5 or (
            china is not None and day in china.weekend_workdays
        )
    return False


def worked_times(
    stays: list[tuple[Row, float]], waits: list[tuple[int, float]]
) -> list[tuple[Row, float, float]]:
    """Visits with the time that was worked in them; what waited in one that has not ended is not known yet."""
    return [
        (
            row,
            done,
            done
            - row.at
            - (
                sum(
                    max(min(until, done) - max(since, row.at), 0)
                    for since, until in waits
                )
                if done < math.inf
                else 0
            ),
        )
        for row, done in stays
    ]


def usual_of(stays: list[tuple[Row, float, float]], start: int) -> float:
    """Within which time 95 % of what began in half a year was done, as known three days before; 0 when it was not.

    What still lasted then leaves the count at the time it had lasted (Kaplan and Meier).
    """
    last = (start - 3 * DAY_SECONDS) // DAY_SECONDS
    mine = [visit for visit in stays if last - 180 <= visit[0].at // DAY_SECONDS < last]
    ended = [
        eighth_of_octave(took) for _, done, took in mine if done < last * DAY_SECONDS
    ]
    lasting = [
        eighth_of_octave((last - row.at // DAY_SECONDS) * DAY_SECONDS)
        for row, done, _ in mine
        if done >= last * DAY_SECONDS
    ]
    old = [
        eighth_of_octave(took)
        for row, done, took in mine
        if done < last * DAY_SECONDS and row.at // DAY_SECONDS < last - 90
    ]
    return until_done(ended, lasting, 0.05) or until_done(old, [], 0.01)


def until_done(ended: list[int], lasting: list[int], left: float) -> float:
    """Within which time all but some were done; 0 when they were not, or fewer than 20 were."""
    if len(ended) < 20:
        return 0
    share = 1.0
    for step in sorted({*ended, *lasting}):
        share *= 1 - ended.count(step) / (
            sum(e >= step for e in ended) + sum(e >= step for e in lasting)
        )
        if share <= left + 1e-9:
            return 60 * 2 ** (step / 8)
    return 0


def eighth_of_octave(seconds: float) -> int:
    """How many eighths of an octave above a minute a time is, rounded up."""
    step = 0
    while 60 * 2 ** (step / 8) < seconds * (1 - 1e-12):
        step += 1
    return step


def left_out(rows: list[Row], order: list[str]) -> list[Facts]:
    """At every move of an item, how many stages it has passed by, from the first that was seen."""
    facts: list[Facts] = []
    mine = [r for r in rows if r.columns["stage"] in order]
    for at in sorted({r.at for r in mine}):
        past = [r for r in mine if r.at <= at]
        begun = [
            order.index(r.columns["stage"])
            for r in past
            if r.columns["progress"] == StageProgress.STARTED
        ]
        ended = {
            order.index(r.columns["stage"])
            for r in past
            if r.columns["progress"] == StageProgress.FINISHED
        }
        first = min(order.index(r.columns["stage"]) for r in past)
        facts.append(
            {
                "at": at,
                "unfinished": len({*range(first, max(begun, default=0))} - ended),
            }
        )
    return facts
