"""Whether payments go through and bills are paid."""

from __future__ import annotations

import numpy as np

from detectors.curves.office import (
    messages_of_transfer,
    payments_of_channel,
    payments_of_customer,
)
from detectors.rule import Level, between, rule
from schemas.columns import Attempts, Column, Invoices, Payments, Transfers
from schemas.units import HOUR_SECONDS, MINUTE_SECONDS


@rule(
    Attempts,
    severity=2,
    hold=10 * MINUTE_SECONDS,
    release=HOUR_SECONDS // 2,
    title=("Payment failures of a channel", "缴费渠道失败突增"),
    text=(
        "{failed_share:.0%} of the latest payment attempts failed; usually {usual_share:.1%} do.",
        "该渠道近期缴费失败率{failed_share:.0%},平时{usual_share:.1%}。",
    ),
    curve=payments_of_channel,
    explained_by=(),
)
def payment_failure_burst(
    failed_share: Column,
    attempts: Column,
    usual_share: Column,
    usual_spread: Column,
    *,
    limit: float = 0.05,
    widths: float = 3.0,
    least: float = 40.0,
    failures: float = 5.0,
) -> Column:
    """A channel fails above 5 % and 3 sigma of its hour of the week, for 10 min. Defaults of this project.

    The share fades over 50 attempts; `least` counts them as faded, 40 being reached by the 80th. Five failures at
    least, since two or three of fifty come by chance.
    """
    line = np.maximum(limit, usual_share + widths * usual_spread)
    score = np.minimum(failed_share / line, failed_share * attempts / failures)
    return np.where(attempts >= least, score, np.nan)


@rule(
    Payments,
    severity=2,
    title=("Repeated payment failure of a customer", "客户连续缴费失败"),
    text=(
        "{failures_24h:.0f} payment attempts of this customer failed within 24 hours.",
        "该客户24小时内缴费失败{failures_24h:.0f}次。",
    ),
    curve=payments_of_customer,
    explained_by=(),
)
def payment_failure_repeat(failures_24h: Column, *, times: float = 3.0) -> Column:
    """One customer fails to pay three times within 24 hours, none in between. Default of this project."""
    return between(failures_24h >= times, failures_24h == 0)


@rule(
    Payments,
    severity=4,
    title=("Low prepaid balance", "预付费余额不足"),
    text=(
        "{balance:.2f} yuan are left; {daily_yuan:.2f} yuan a day are used.",
        "预付费余额{balance:.2f}元,日均用电{daily_yuan:.2f}元。",
    ),
    curve=payments_of_customer,
    explained_by=(),
)
def low_balance(
    balance: Column, daily_yuan: Column, *, least: float = 20.0, days: float = 3.0
) -> Column:
    """A prepaid balance is below 20 yuan, or below three days' use. Catalogue 1.6: 20 yuan from a published rule.

    Days are a default of this project; daily use is the fall of balances, half of its weight in the last fortnight.
    """
    return 2 - balance / np.maximum(least, days * daily_yuan)


@rule(
    Invoices,
    severity=4,
    worse=(Level(7.0, 3, 0), Level(15.0, 2, 0), Level(30.0, 1, 0)),
    title=("Arrears", "欠费"),
    text=(
        (
            "{unpaid:.2f} yuan are unpaid {overdue_days:.0f} days after they were due[; the penalty is {penalty:.2f}]"
            "[; supply may be cut off in {cutoff_days:.0f} days, {notice_days:.0f} days after notice]."
        ),
        (
            "欠费{unpaid:.2f}元,已逾期{overdue_days:.0f}天[,违约金已计{penalty:.2f}元]"
            "[,提前{notice_days:.0f}天通知后,最早{cutoff_days:.0f}天后可停电]。"
        ),
    ),
    curve=payments_of_customer,
    explained_by=(),
)
def arrears_tier(
    overdue_days: Column,
    unpaid: Column,
    credit: Column,
    *,
    good: float = 0.5,
    poor: float = 2.2,
) -> Column:
    """A bill is unpaid 1, 7, 15, 30 days after it was due (欠费分级). Tiers: default of this project.

    A day counts half at the best credit level, A, and 2.2 times at the worst, D: a tier later, and from the 7th day on
    a tier sooner. The penalty a day is 1 per mille for homes, 2 for others, 3 for others' debts of past years; supply
    may be cut off after 30 days, homes having had 7 days' notice, others 3: catalogue 1.6, the due date standing for
    the demand. A payment that is taken back makes the bill unpaid again, late from then on or from when it was due.
    """
    weight = np.where(credit > 0, good, np.where(credit < 0, poor, 1.0))
    return np.where(unpaid > 0, overdue_days * weight, 0.0)


@rule(
    Invoices,
    severity=3,
    title=("Bill overpaid", "重复缴费或多缴"),
    text=(
        "{overpaid:.2f} yuan more were paid on the bill than it is for (limit {least:.2f}).",
        "该账单多缴{overpaid:.2f}元(限值{least:.2f}元)。",
    ),
    curve=payments_of_customer,
    explained_by=(),
)
def bill_overpaid(overpaid: Column, *, least: float = 1.0) -> Column:
    """A bill is overpaid by 1 yuan (重复缴费或多缴). Catalogue 1.6, there of `payment_reconcile`.

    Looked for until 30 days after the bill was paid: default of this project.
    """
    return overpaid / least


@rule(
    Transfers,
    severity=3,
    title=("Payment without its counterpart", "缴费对账单边"),
    text=(
        (
            "For {unmatched_hours:.0f} hours one side alone is known:[ {paid:.2f} yuan were paid, and no settlement "
            "followed][ {settled:.2f} yuan were settled, of no payment that went through]."
        ),
        "对账单边已{unmatched_hours:.0f}小时[:已缴{paid:.2f}元,渠道未到账][:渠道结算{settled:.2f}元,无对应成功缴费]。",
    ),
    curve=messages_of_transfer,
    explained_by=(),
)
def payment_reconcile(unmatched_hours: Column, *, hours: float = 24.0) -> Column:
    """A payment not settled by its channel within 24 hours, or a settlement of no payment (对账单边). Catalogue 1.6.

    A channel is expected to settle payments since a day before its first line in the area, and a line to have its
    payment from three days after the channel's first: defaults of this project. Judged at 12, 24, 36, 48, 72, 120 and
    168 hours.
    """
    return unmatched_hours / hours


@rule(
    Transfers,
    severity=3,
    title=("Payment settled otherwise", "缴费对账不符"),
    text=(
        (
            "Under one number of the channel:[ {paid:.2f} yuan paid,][ {settled:.2f} yuan settled,] {difference:+.2f} "
            "off."
        ),
        "同一渠道流水号下[缴费{paid:.2f}元,][结算{settled:.2f}元,]相差{difference:+.2f}元。",
    ),
    curve=messages_of_transfer,
    explained_by=(),
)
def payment_conflict(difference: Column, *, least: float = 0.01) -> Column:
    """A channel's number comes again with other content, or is settled with another amount (对账不符). Catalogue 1.6.

    There it belongs to `payment_reconcile`. The same row again is a duplicate and no conflict. The limit of a cent is a
    default of this project.
    """
    return np.abs(difference) / least
