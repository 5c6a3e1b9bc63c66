"""Offices: payments, bills and work."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from schemas.columns import Payment, Progress
from tests.hostile import DAY, HOUR, NAN, Row
from tests.oracle.scores import ARREARS, ATTEMPTS, OVERDUE, PAYMENTS
from tests.oracle.watch import Endings, Facts, judge

LIMITS = {"reading": DAY, "checking": DAY, "review": DAY, "issue": 5 * DAY, "collection": 20 * DAY}

def customers_told(area: str, rows: list[Row]) -> Endings:
    """How the episodes of failing payments end, of customers and of channels."""
    told: Endings = {}
    attempts = [r for r in rows if r.columns["payment"] in (Payment.PAYMENT, Payment.TOPUP)]
    for customer in dict.fromkeys(r.subject for r in attempts):
        facts: list[Facts] = []
        failed: list[int] = []
        for row in [r for r in attempts if r.subject == customer]:
            failed = [] if row.columns["succeeded"] else [*failed, row.at][-3:]
            facts.append({"at": row.at, "failures": sum(at > row.at - DAY for at in failed)})
        judge(PAYMENTS, area, customer, facts, told)
    for channel in dict.fromkeys(r.columns["channel"] for r in attempts):
        tried = [(r.at, r.columns["succeeded"] == 0) for r in attempts if r.columns["channel"] == channel]
        judge(ATTEMPTS, area, channel, shares(tried), told)
    return told


def shares(attempts: list[tuple[int, bool]]) -> Iterator[Facts]:
    """How often a channel's attempts fail: of late, fading over 50, and by habit in this hour of the week."""
    habit: dict[int, tuple[float, float]] = {}  # attempts and failures by hour of the week
    share = weight = 0.0
    for hour, group in groupby(attempts, key=lambda attempt: attempt[0] // HOUR):
        here = list(group)
        tried, failed = (sum(counts) for counts in zip((0, 0), *habit.values(), strict=True))
        usual = failed / tried if tried else NAN
        own = habit.get(hour % 168, (0.0, 0.0))
        for at, fails in here:
            weight = weight * 0.98 + 1
            share += (fails - share) / weight
            yield {"at": at, "share": share, "attempts": weight, "usual": own[1] / own[0] if own[0] >= 50 else usual}
        most = len(here) * (2 * usual + 0.02) if tried else math.inf
        habit[hour % 168] = 0.8 * own[0] + len(here), 0.8 * own[1] + min(sum(fails for _, fails in here), most)


def bills_told(area: str, rows: list[Row], clock: int) -> Endings:
    """How the episodes of unpaid bills end, as far as the area's clock has come."""
    told: Endings = {}
    for row in [r for r in rows if r.columns["payment"] == Payment.BILL]:
        mine = [r for r in rows if r.subject == row.subject and r.columns["bill"] == row.columns["bill"]]
        paid = sorted((r.at, r.columns["amount"]) for r in mine
                      if r.columns["payment"] == Payment.PAYMENT and r.columns["succeeded"])  # fmt: skip
        settled = next((at for n, (at, _) in enumerate(paid, 1)
                        if sum(a for _, a in paid[:n]) >= row.columns["amount"]), math.inf)  # fmt: skip
        facts: list[Facts] = []
        for days in (1, 7, 15, 30):
            at = row.columns["due"] + days * DAY
            if at < (clock + 1 if settled == math.inf else settled):
                unpaid = row.columns["amount"] - sum(a for when, a in paid if when <= at)
                facts.append({"at": at, "days": days, "unpaid": unpaid})
        if settled < math.inf:
            facts.append({"at": settled, "days": 0, "unpaid": 0})
        judge(ARREARS, area, f"{row.subject}/{row.columns['bill']}", sorted(facts, key=itemgetter("at")), told)
    return told


def work_told(section: str, rows: list[Row], clock: int) -> Endings:
    """How the episodes of stalled work end, as far as the section's clock has come."""
    told: Endings = {}
    for item in dict.fromkeys((r.subject, r.columns["stage"]) for r in rows):
        mine = [r for r in rows if (r.subject, r.columns["stage"]) == item]
        ends = [r.at for r in mine if r.columns["progress"] == Progress.FINISHED]
        facts: list[Facts] = []
        done = -math.inf
        for row in sorted((r for r in mine if r.columns["progress"] == Progress.STARTED), key=lambda r: r.at):
            if row.at < done:
                continue  # it had not left the stage
            done = min((end for end in ends if end >= row.at), default=math.inf)
            limit = row.columns["limit"] if row.columns["limit"] > 0 else LIMITS.get(item[1], NAN)
            if not math.isnan(limit):
                marks = [(row.at + round(share * limit), share) for share in (0.8, 1.0, 2.0)]
                until = clock + 1 if done == math.inf else done
                facts += [{"at": at, "share": share} for at, share in marks if at < until]
            if done < math.inf:
                facts.append({"at": done, "share": 0.0})
        judge(OVERDUE, section, "/".join(item), sorted(facts, key=itemgetter("at")), told)
    return told

