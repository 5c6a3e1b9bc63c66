"""The office: payments, bills, settlements and work items."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import holidays

from schemas.columns import Payment, StageProgress
from schemas.master import Area, Meter, Tariff
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from tests.adversarial import NOT_A_NUMBER, Row
from tests.oracle.lateness import PartFacts, PlainLateness
from tests.oracle.scores import (
    ARREARS_RULES,
    ATTEMPT_RULES,
    BACKLOG_RULES,
    BILL_ISSUE_RULES,
    DISORDER_RULES,
    EXPECTED_RULES,
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
OVERDUE_DAYS = (1, 7, 15, 30)
SETTLEMENT_HOURS = (12, 24, 36, 48, 72, 120, 168)
OVERDUE_SHARES = (0.8, 1.0, 2.0)
STALL_TIMES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
HOURS_A_WEEK = 168
CREDIT_WEIGHTS = {"A": 0.5, "D": 2.2}
DEMAND_RULE_START = (2023, 7, 1)  # since when a high use lowers the demand price


# Payments and channels.


def payment_of(row: Row) -> Payment:
    """The kind of a payment row."""
    payment: Payment = row.columns["payment"]
    return payment


def customer_endings(area: str, rows: list[Row]) -> Endings:
    """How the episodes of customers and channels end."""
    endings: Endings = {}
    attempts = [
        row for row in rows if payment_of(row) in (Payment.PAYMENT, Payment.TOPUP)
    ]
    for customer in dict.fromkeys(row.subject for row in attempts):
        own_rows = [row for row in attempts if row.subject == customer]
        judge(PAYMENT_RULES, area, customer, failures(own_rows), endings)

    for customer in dict.fromkeys(row.subject for row in rows):
        own_rows = [row for row in rows if row.subject == customer]
        judge(PREPAID_RULES, area, customer, prepaid_facts(own_rows), endings)

    for channel in dict.fromkeys(row.columns["channel"] for row in attempts):
        own_rows = [row for row in attempts if row.columns["channel"] == channel]
        judge(ATTEMPT_RULES, area, channel, failure_shares(own_rows), endings)
    return endings


def failures(attempts: list[Row]) -> Iterator[Facts]:
    """The number of a customer's last three attempts, within a day, that failed since one succeeded."""
    failed: list[int] = []
    for row in attempts:
        failed = [] if row.columns["succeeded"] else [*failed, row.at][-3:]
        count = sum(at > row.at - DAY_SECONDS for at in failed)
        yield {"at": row.at, "failures": count}


def prepaid_facts(rows: list[Row]) -> Iterator[Facts]:
    """A prepaid customer's balance after each balance and top-up, and the daily use."""
    last: Row | None = None
    topped = daily = 0.0
    for row in rows:
        amount, payment = row.columns["amount"], payment_of(row)
        if payment == Payment.BALANCE and (last is None or row.at > last.at):
            if last is not None:
                daily = daily_use(last, row, topped, daily)
            last, topped = row, 0.0
            yield {"at": row.at, "balance": amount, "daily": daily}

        topped_up = payment == Payment.TOPUP and row.columns["succeeded"]
        if topped_up and (last is None or row.at >= last.at):
            topped += amount
            if last is not None:
                balance = last.columns["amount"] + topped
                yield {"at": row.at, "balance": balance, "daily": daily}


def daily_use(last: Row, row: Row, topped: float, daily: float) -> float:
    """The daily use after one more balance, with a half-life of 14 days."""
    if not 6 * HOUR_SECONDS <= row.at - last.at <= 40 * DAY_SECONDS:
        return daily
    days = (row.at - last.at) / DAY_SECONDS
    used = (last.columns["amount"] + topped - row.columns["amount"]) / days
    keep = 0.5 ** (days / 14) if daily else 0
    return keep * daily + (1 - keep) * used if used >= 0 else daily


def failure_shares(attempts: list[Row]) -> Iterator[Facts]:
    """How often a channel's attempts fail: lately, fading over 50, and usually in this hour of the week."""
    baseline: dict[int, tuple[float, float]] = {}  # attempts and failures by hour
    share = weight = 0.0
    for hour, group in groupby(attempts, key=lambda row: row.at // HOUR_SECONDS):
        tried = sum(count for count, _ in baseline.values())
        failed = sum(count for _, count in baseline.values())
        overall = failed / tried if tried else NOT_A_NUMBER
        hour_tried, hour_failed = baseline.get(hour % HOURS_A_WEEK, (0.0, 0.0))
        usual = hour_failed / hour_tried if hour_tried >= 50 else overall

        fails = 0
        rows = list(group)
        for row in rows:
            failure = row.columns["succeeded"] == 0
            fails += failure
            weight = weight * 0.98 + 1
            share += (failure - share) / weight
            yield {"at": row.at, "share": share, "attempts": weight, "usual": usual}

        # A bad hour teaches little.
        most = len(rows) * (2 * overall + 0.02) if tried else math.inf
        baseline[hour % HOURS_A_WEEK] = (
            0.8 * hour_tried + len(rows),
            0.8 * hour_failed + min(fails, most),
        )


# Bills.


def bill_endings(
    area: str, master: Area | None, zone: str, rows: list[Row], watermark: int
) -> Endings:
    """How the episodes of bills end: of their issue, of arrears and of overpayment."""
    endings: Endings = {}
    bills = [row for row in rows if payment_of(row) == Payment.BILL]
    keys = dict.fromkeys((row.subject, row.columns["bill"]) for row in bills)
    for customer, bill in keys:
        own_rows = [
            row
            for row in rows
            if row.subject == customer and row.columns["bill"] == bill
        ]
        issues = [row for row in own_rows if payment_of(row) == Payment.BILL]
        issues.sort(key=attrgetter("at"))
        subject = f"{customer}/{bill}"

        known = account(issues[-1], master)
        weight = CREDIT_WEIGHTS.get(known[0].credit, 1.0) if known else 1.0
        arrears = overdue(issues[-1], own_rows, watermark)
        late = [facts | {"weight": weight} for facts in arrears]
        judge(ARREARS_RULES, area, subject, late, endings)
        judge(OVERPAID_RULES, area, subject, overpaid(issues, own_rows), endings)
        issue = issue_facts(issues, master, zone, watermark)
        judge(BILL_ISSUE_RULES, area, subject, issue, endings)
    return endings


def issue_facts(
    issues: list[Row], master: Area | None, zone: str, watermark: int
) -> Iterator[Facts]:
    """A bill at every issue, and a day later unless it was issued again before."""
    for n, row in enumerate(issues):
        facts = read_facts(row, master, zone) | recomputed(row, master)
        yield {"at": row.at} | facts
        next_issue = issues[n + 1].at if n + 1 < len(issues) else watermark + 1
        if row.at + DAY_SECONDS < next_issue:
            yield {"at": row.at + DAY_SECONDS} | facts


def overdue(bill: Row, own_rows: list[Row], watermark: int) -> list[Facts]:
    """The unpaid amount of a bill, one, seven, fifteen and thirty days after it was due."""
    amount, since = bill.columns["amount"], bill.columns["due"]
    paid = paid_amounts(own_rows)
    facts: list[Facts] = []
    is_open = True

    # After every payment, and at the watermark, whether the payments cover the bill.
    for n, at in enumerate([*(at for at, _ in paid), watermark + 1], 1):
        is_last = n > len(paid)
        covered = sum(part for _, part in paid[:n]) >= amount and not is_last
        if is_open and (covered or is_last):
            for days in OVERDUE_DAYS:
                late = since + days * DAY_SECONDS
                unpaid = amount - sum(part for when, part in paid if when <= late)
                if late < at:
                    facts.append({"at": late, "days": days, "unpaid": unpaid})
            if covered:
                facts.append({"at": at, "days": 0, "unpaid": 0})
        elif not is_open and not covered:  # a payment was taken back
            since = max(bill.columns["due"], at)
        is_open = not covered
    return sorted(facts, key=itemgetter("at"))


def paid_amounts(own_rows: list[Row]) -> list[tuple[int, float]]:
    """The amounts paid on a bill and the amounts taken back, in order of time."""
    amounts: list[tuple[int, float]] = []
    payments = [
        row
        for row in own_rows
        if payment_of(row) in (Payment.PAYMENT, Payment.REVERSAL)
    ]

    # Of one moment a failure comes before a payment.
    for row in sorted(payments, key=lambda row: (row.at, is_payment(row))):
        amount, reference = row.columns["amount"], row.columns.get("reference")
        if is_payment(row):
            amounts.append((row.at, amount))
        elif reference:
            back = paid_under(reference, payments, row.at)
            if back:
                amounts.append((row.at, -back))
        elif payment_of(row) == Payment.REVERSAL:
            amounts.append((row.at, -abs(amount)))
    return amounts


def paid_under(reference: str, payments: list[Row], at: int) -> float:
    """The amount paid under a reference since it last failed."""
    own_rows = [row for row in payments if row.columns.get("reference") == reference]
    failed = [row.at for row in own_rows if not is_payment(row) and row.at < at]
    since = max(failed, default=0)
    paid = [row for row in own_rows if is_payment(row) and since <= row.at < at]
    return sum(row.columns["amount"] for row in paid)


def is_payment(row: Row) -> bool:
    """Whether a row is a payment that succeeded."""
    return bool(payment_of(row) == Payment.PAYMENT and row.columns["succeeded"])


def overpaid(issues: list[Row], own_rows: list[Row]) -> Iterator[Facts]:
    """By how much the payments exceed the bill as it stood, at every row since it was issued."""
    for at in sorted({row.at for row in own_rows}):
        amounts = [row.columns["amount"] for row in issues if row.at <= at]
        paid = [amount for when, amount in paid_amounts(own_rows) if when <= at]
        if amounts:
            yield {"at": at, "overpaid": sum(paid) - amounts[-1]}


def account(row: Row, master: Area | None) -> tuple[Meter, Tariff] | None:
    """The newest record of a bill's customer, and its tariff."""
    records = [
        meter
        for meter in (master.meters if master else [])
        if meter.customer == row.subject
        and meter.effective <= row.at
        and (not meter.until or meter.until >= row.at)
    ]
    if master is None or not records:
        return None
    newest = max(records, key=attrgetter("effective"))
    tariffs = [item for item in master.tariffs if item.tariff == newest.tariff]
    return newest, tariffs[0]


def read_facts(row: Row, master: Area | None, zone: str) -> Facts:
    """Hours by which a bill's reading is off, and kWh below the month-end register; NaN where neither is known."""
    known, read = account(row, master), row.columns["read_at"]
    by_demand = known is not None and known[1].demand is not None
    off = NOT_A_NUMBER
    if known and read:
        off = hours_off(read, known[0], ZoneInfo(zone), by_demand=by_demand)

    short = max(row.columns["frozen_register"] - row.columns["read_register"], 0)
    ratio = known[0].ct * known[0].pt if known else 1
    short = 0 if short <= 0.02 else short * ratio

    # If only one of them is known, it alone counts.
    if math.isnan(short) and not math.isnan(off):
        short = -math.inf
    elif math.isnan(off) and not math.isnan(short):
        off = -math.inf
    return {"off": off, "short": short, "by_demand": by_demand}


def hours_off(read: int, meter: Meter, zone: ZoneInfo, *, by_demand: bool) -> float:
    """Hours between a reading and the month's end, or outside the meter's reading day; NaN without such a day."""
    today = datetime.fromtimestamp(read, zone)
    first = today.replace(day=1, hour=0, minute=0, second=0, fold=0)
    following = (first + timedelta(days=32)).replace(day=1)
    if by_demand:
        ends = [first.timestamp(), following.timestamp()]
        return min(abs(read - end) for end in ends) / HOUR_SECONDS
    if not meter.read_day:
        return NOT_A_NUMBER

    former = (first - timedelta(days=1)).replace(day=1)
    seconds: list[float] = []
    for month in (former, first, following):
        start = month + timedelta(days=meter.read_day - 1)
        end = month + timedelta(days=meter.read_day)
        seconds.append(max(start.timestamp() - read, read - end.timestamp(), 0))
    return min(seconds) / HOUR_SECONDS


def recomputed(row: Row, master: Area | None) -> Facts:
    """The amount of a bill, and the amount by its tariff."""
    known, columns = account(row, master), row.columns
    if known is None:
        return {"billed": columns["amount"], "recomputed": NOT_A_NUMBER}
    meter, tariff = known
    fee = columns["billed_kwh"] * tariff.flat
    if tariff.peak is not None:
        fee += columns["billed_peak"] * (tariff.peak - tariff.flat)
    if tariff.demand is None or meter.declared_kw is None:
        return {"billed": columns["amount"], "recomputed": fee}

    # Demand: at least 40 % of the contract; above 105 % of the declared demand it costs double.
    contract = meter.contract_kva or NOT_A_NUMBER
    declared = meter.declared_kw
    if contract > 0:
        declared = max(declared, 0.4 * contract)
    price = tariff.demand * demand_discount(row, contract)
    fee += price * declared
    demand = columns["billed_demand"]
    if math.isnan(demand) or demand > 1.05 * declared:
        fee += 2 * price * (demand - 1.05 * declared)
    return {"billed": columns["amount"], "recomputed": fee}


def demand_discount(row: Row, contract: float) -> float:
    """0.9 for 260 kWh a kVA and more, since July 2023; NaN where the contract is not known."""
    start = datetime(*DEMAND_RULE_START, tzinfo=ZoneInfo("Asia/Shanghai"))
    if row.at < start.timestamp():
        return 1.0
    if row.columns["billed_kwh"] >= 260 * contract:
        return 0.9
    return 1.0 if contract > 0 else NOT_A_NUMBER


# Settlements.


def transfer_endings(area: str, rows: list[Row], watermark: int) -> Endings:
    """How the episodes of payments and settlements that do not match end."""
    endings: Endings = {}
    transfers = [row for row in rows if row.columns.get("reference")]
    transfers = [row for row in transfers if is_settlement(row) or is_received(row)]
    transfers.sort(key=attrgetter("at"))

    for customer, reference in dict.fromkeys(reference_of(row) for row in transfers):
        both = [row for row in transfers if reference_of(row) == (customer, reference)]
        received = [row.at for row in both if not is_settlement(row)]
        begun = min(received, default=math.inf)

        # A payment that is taken back needs no settlement.
        returns = [
            row.at
            for row in rows
            if is_returned(row, customer, reference) and row.at > begun
        ]
        back = min(returns, default=math.inf)
        facts = unmatched(both, transfers, back, watermark) + differences(both, back)
        facts.sort(key=itemgetter("at"))
        judge(TRANSFER_RULES, area, f"{customer}/{reference}", facts, endings)
    return endings


def reference_of(row: Row) -> tuple[str, Any]:
    """The customer and the reference of a row."""
    return row.subject, row.columns.get("reference")


def is_settlement(row: Row) -> bool:
    """Whether a row is a line by which a channel settles."""
    return bool(payment_of(row) == Payment.SETTLEMENT)


def is_received(row: Row) -> bool:
    """Whether a row is a payment or top-up that succeeded."""
    paid = payment_of(row) in (Payment.PAYMENT, Payment.TOPUP)
    return bool(paid and row.columns["succeeded"])


def is_returned(row: Row, customer: str, reference: str) -> bool:
    """Whether a row says that a customer's payment failed."""
    failed = payment_of(row) == Payment.REVERSAL or not row.columns["succeeded"]
    same = reference_of(row) == (customer, reference)
    return failed and not is_settlement(row) and same


def unmatched(
    both: list[Row], transfers: list[Row], back: float, watermark: int
) -> list[Facts]:
    """The hours for which a first row waits for its counterpart, if its channel has settled such rows before."""
    first = both[0]
    opposite = [row for row in both if is_settlement(row) != is_settlement(first)]
    until = min(opposite[0].at if opposite else watermark + 1, back)

    wait = -3 * DAY_SECONDS if is_settlement(first) else DAY_SECONDS
    channel = first.columns["channel"]
    expected = any(
        row.at < first.at + wait
        for row in transfers
        if row.columns["channel"] == channel
        and is_settlement(row) != is_settlement(first)
    )
    facts: list[Facts] = []
    for hours in SETTLEMENT_HOURS:
        at = first.at + hours * HOUR_SECONDS
        if at < until and expected:
            facts.append({"at": at, "hours": hours, "off": NOT_A_NUMBER})
    if opposite or back <= watermark:
        facts.append({"at": until, "hours": 0, "off": NOT_A_NUMBER})
    return facts


def differences(both: list[Row], back: float) -> list[Facts]:
    """By how much settlements and payments differ, at every row; a side that has not come yet is taken as right."""
    facts: list[Facts] = []
    for at in dict.fromkeys(row.at for row in both):
        so_far = [row for row in both if row.at <= at]
        lines = [row.columns["amount"] for row in so_far if is_settlement(row)]
        paid = [row.columns["amount"] for row in so_far if not is_settlement(row)]
        off = sum(lines or paid[:1]) - sum(paid or lines[:1])
        if at >= back:
            off = NOT_A_NUMBER
        facts.append({"at": at, "hours": NOT_A_NUMBER, "off": off})
    return facts


# Work items.

Item = tuple[str, str]  # a work item and its stage


class StageStay(NamedTuple):
    """The stay of a work item in a stage."""

    row: Row  # its start
    done: float  # infinity while it lasts


class WorkedStay(NamedTuple):
    """A stay and the seconds in which it was worked on; its pauses count only once it has ended."""

    row: Row
    done: float
    seconds: float


Pause = tuple[int, float]  # since when, until when


class Section(NamedTuple):
    """All that a section has done."""

    stays: dict[Item, list[StageStay]]
    pauses: dict[Item, list[Pause]]
    master: Area | None
    zone: str
    watermark: int

    def due(self, item: Item, row: Row, share: float = 1.0) -> float:
        """When a stay has used up a share of its limit; infinity without a limit."""
        limit, working_days = limit_of(row, self.master)
        if not limit > 0:
            return math.inf
        seconds = round(share * limit)
        at = row.at + seconds
        if working_days:
            at = worked_after(row.at, seconds, self.zone)
        return put_off(self.pauses[item], row.at, at)

    def usual(self, stage: str, row: Row) -> float:
        """The time within which stays of a stage usually end; 0 if unknown."""
        worked: list[WorkedStay] = []
        for item, stays in self.stays.items():
            if item[1] == stage:
                worked += worked_times(stays, self.pauses[item])
        return usual_of(worked, row.at)

    def stalled(self, item: Item, row: Row, times: float, usual: float) -> float:
        """When a stay has lasted so many times the usual time; infinity if that is unknown."""
        if not usual > 0:
            return math.inf
        return put_off(self.pauses[item], row.at, row.at + round(times * usual))


def stage_of(row: Row) -> str:
    """The stage of a row."""
    stage: str = row.columns["stage"]
    return stage


def progress_of(row: Row) -> StageProgress:
    """The progress of a row."""
    progress: StageProgress = row.columns["progress"]
    return progress


def work_endings(
    section_name: str, master: Area | None, zone: str, rows: list[Row], watermark: int
) -> Endings:
    """How the episodes of stalled and disordered work end, up to the watermark."""
    by_item: dict[Item, list[Row]] = {}
    for row in rows:
        by_item.setdefault((row.subject, stage_of(row)), []).append(row)
    stays = {item: stays_of(own_rows) for item, own_rows in by_item.items()}
    pauses = {item: pauses_of(own_rows) for item, own_rows in by_item.items()}
    section = Section(stays, pauses, master, zone, watermark)
    starts = [row for row in rows if progress_of(row) == StageProgress.STARTED]
    model = PlainLateness(parts_of_limits(section, starts))

    endings: Endings = {}
    for item in stays:
        subject = "/".join(item)
        late = lateness(section, item)
        judge(OVERDUE_RULES, section_name, subject, late, endings)
        expected = expectations(section, item, model)
        judge(EXPECTED_RULES, section_name, subject, expected, endings)
        stalls = stall_times(section, item)
        judge(STALL_RULES, section_name, subject, stalls, endings)

    for stage in dict.fromkeys(stage for _, stage in stays):
        backlog = stuck(section, stage)
        judge(BACKLOG_RULES, section_name, stage, backlog, endings)

    order = list(STAGE_LIMITS)
    if master and master.stages:
        order = [stage.stage for stage in master.stages]
    for subject in dict.fromkeys(row.subject for row in rows):
        moves = [row for row in rows if row.subject == subject]
        moves = [row for row in moves if progress_of(row) in (0, 1)]
        judge(DISORDER_RULES, section_name, subject, left_out(moves, order), endings)
    return endings


def lateness(section: Section, item: Item) -> list[Facts]:
    """When a work item has used up shares of a stage's limit, and when it was done."""
    facts: list[Facts] = []
    for row, done in section.stays[item]:
        until = section.watermark + 1 if done == math.inf else done
        for share in OVERDUE_SHARES:
            at = section.due(item, row, share)
            if at < until:
                facts.append({"at": at, "share": share})
        if done < math.inf:
            facts.append({"at": done, "share": 0.0})
    return sorted(facts, key=itemgetter("at"))


def parts_of_limits(section: Section, starts: list[Row]) -> list[PartFacts]:
    """The quarters of every stay's limit but the first, that the stay reaches."""
    parts: list[PartFacts] = []
    for item, stays in section.stays.items():
        moves = [row for row in starts if row.subject == item[0]]
        for row, done in stays:
            before = max(
                ((move.at, stage_of(move)) for move in moves if move.at < row.at),
                default=(-math.inf, ""),
            )
            limit, working_days = limit_of(row, section.master)

            for n, share in enumerate((0.25, 0.5, 0.75)):
                begin = section.due(item, row, share)
                if begin == math.inf or begin >= done:
                    continue
                end = section.due(item, row, share + 0.25)
                deadline = begin + round(limit - share * limit)
                if working_days:
                    left = round(limit - share * limit)
                    deadline = worked_after(int(begin), left, section.zone)
                local = datetime.fromtimestamp(deadline, ZoneInfo(section.zone))
                parts.append(
                    PartFacts(item, row.at, n, int(begin), end, done, before, local)
                )
    return parts


def expectations(section: Section, item: Item, model: PlainLateness) -> list[Facts]:
    """The chance of an item at every quarter of its limit, and when it was done."""
    facts: list[Facts] = []
    for row, done in section.stays[item]:
        own = [
            part for part in model.parts if (part.item, part.start) == (item, row.at)
        ]
        for part in own:
            if part.begin <= section.watermark:
                chance = model.chance(part)
                facts.append({"at": part.begin, "overdue_chance": chance})
        if done < math.inf:
            facts.append({"at": done, "overdue_chance": 0.0})
    return sorted(facts, key=itemgetter("at"))


def stall_times(section: Section, item: Item) -> list[Facts]:
    """When a work item has stayed several times as long as usual, and when it was done."""
    facts: list[Facts] = []
    for row, done in section.stays[item]:
        until = section.watermark + 1 if done == math.inf else done
        usual = section.usual(item[1], row)
        for times in STALL_TIMES:
            at = section.stalled(item, row, times, usual)
            if at < until and row.at <= section.watermark:
                facts.append({"at": at, "stalled": times})
        if done < math.inf:
            facts.append({"at": done, "stalled": 0.0})
    return sorted(facts, key=itemgetter("at"))


def stuck(section: Section, stage: str) -> list[Facts]:
    """At every midnight the open items of a stage that are overdue or stalled, and their share of the section's."""
    stays: list[tuple[str, Row, float, float]] = []  # stage, start, end, late since
    for item, item_stays in section.stays.items():
        for row, done in item_stays:
            usual = section.usual(item[1], row)
            late = min(section.due(item, row), section.stalled(item, row, 2, usual))
            stays.append((item[1], row, done, late))
    if not stays:
        return []

    zone = ZoneInfo(section.zone)
    day = datetime.fromtimestamp(min(row.at for _, row, _, _ in stays), zone).date()
    facts: list[Facts] = []
    while True:
        at = datetime.combine(day, time(), zone).timestamp()
        if at > section.watermark:
            return facts
        there = [
            (other, late) for other, row, done, late in stays if row.at < at <= done
        ]
        count = sum(other == stage and late <= at for other, late in there)
        share = count / max(len(there), 1)
        facts.append({"at": int(at), "stuck": count, "share": share})
        day += timedelta(days=1)


def pauses_of(rows: list[Row]) -> list[Pause]:
    """From when until when an item waited for somebody else."""
    resumed = [row.at for row in rows if progress_of(row) == StageProgress.RESUMED]
    paused = [row.at for row in rows if progress_of(row) == StageProgress.PAUSED]
    pauses: list[Pause] = []
    for at in sorted(paused):
        if not pauses or at >= pauses[-1][1]:
            ends = [until for until in resumed if until >= at]
            pauses.append((at, min(ends, default=math.inf)))
    return pauses


def put_off(pauses: list[Pause], start: int, at: float) -> float:
    """The time at which something falls due when every pause since the start is added."""
    for since, until in pauses:
        if until > start and since < at:
            at += until - max(since, start)
    return at


def stays_of(rows: list[Row]) -> list[StageStay]:
    """The starts that opened a stage, and when each ended."""
    ends = [row.at for row in rows if progress_of(row) == StageProgress.FINISHED]
    starts = [row for row in rows if progress_of(row) == StageProgress.STARTED]
    stays: list[StageStay] = []
    done: float = 0
    for row in sorted(starts, key=attrgetter("at")):
        if row.at >= done:
            done = min((end for end in ends if end >= row.at), default=math.inf)
            stays.append(StageStay(row, done))
    return stays


def limit_of(row: Row, master: Area | None) -> tuple[float, bool]:
    """The seconds that a stage may take, 0 for no limit, and whether only working days count."""
    stage, own_limit = stage_of(row), row.columns["limit"]
    if own_limit > 0:
        return own_limit, False
    if master is None or not master.stages:
        return STAGE_LIMITS.get(stage, 0), False
    records = [
        item
        for item in master.stages
        if item.stage == stage and item.effective <= row.at
    ]
    if not records:
        return 0, False
    newest = records[-1]
    return (newest.hours or 0) * HOUR_SECONDS, newest.working_days


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
    """Whether people work: in China not on public holidays, but on certain weekends."""
    if zone != "Asia/Shanghai":
        return day.weekday() < 5
    china = holidays.country_holidays("CN", years=day.year)
    if day in china:
        return False
    return day.weekday() < 5 or day in china.weekend_workdays


def worked_times(stays: list[StageStay], pauses: list[Pause]) -> list[WorkedStay]:
    """The stays of an item with the seconds in which they were worked on."""
    worked: list[WorkedStay] = []
    for row, done in stays:
        paused: float = 0
        if done < math.inf:
            for since, until in pauses:
                paused += max(min(until, done) - max(since, row.at), 0)
        worked.append(WorkedStay(row, done, done - row.at - paused))
    return worked


def usual_of(stays: list[WorkedStay], start: int) -> float:
    """The time within which 95 % of the last half year's stays ended, as known three days before; 0 if unknown.

    A stay that still lasted then leaves the count at the time it had lasted (Kaplan and Meier).
    """
    last = (start - 3 * DAY_SECONDS) // DAY_SECONDS
    end = last * DAY_SECONDS
    ended: list[int] = []
    lasting: list[int] = []
    old: list[int] = []  # of the first 90 of 180 days
    for row, done, seconds in stays:
        day = row.at // DAY_SECONDS

        # As known at `end`: a stay that ends later still lasts.
        if not last - 180 <= day < last:
            continue
        if done >= end:
            lasting.append(eighth_of_octave((last - day) * DAY_SECONDS))
            continue
        ended.append(eighth_of_octave(seconds))
        if day < last - 90:
            old.append(ended[-1])
    return until_done(ended, lasting, 0.05) or until_done(old, [], 0.01)


def until_done(ended: list[int], lasting: list[int], left: float) -> float:
    """The time after which only a share is left; 0 if it never is, or if fewer than 20 ended."""
    if len(ended) < 20:
        return 0
    share = 1.0
    for step in sorted({*ended, *lasting}):
        at_risk = sum(other >= step for other in [*ended, *lasting])
        share *= 1 - ended.count(step) / at_risk
        if share <= left + 1e-9:
            return 60 * 2 ** (step / 8)
    return 0


def eighth_of_octave(seconds: float) -> int:
    """How many eighths of an octave above a minute a time is, rounded up."""
    step = 0
    while 60 * 2 ** (step / 8) < seconds * (1 - 1e-12):
        step += 1
    return step


def left_out(moves: list[Row], order: list[str]) -> Iterator[Facts]:
    """At every move of an item the stages before its furthest, since its first, that have not ended."""
    moves = [row for row in moves if stage_of(row) in order]

    for at in sorted({row.at for row in moves}):
        first = len(order)
        furthest = 0
        ended: set[int] = set()
        for row in moves:
            if row.at > at:
                continue

            place = order.index(stage_of(row))
            first = min(first, place)
            if progress_of(row) == StageProgress.STARTED:
                furthest = max(furthest, place)
            elif progress_of(row) == StageProgress.FINISHED:
                ended.add(place)
        yield {"at": at, "unfinished": len({*range(first, furthest)} - ended)}
