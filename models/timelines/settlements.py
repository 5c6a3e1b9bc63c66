"""Payments by the channel's number, beside the lines in which the channel settles them."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from math import isfinite, nan
from typing import NamedTuple

import msgspec

from models.state.index import Index
from models.state.owners import Schema, State, StateError
from models.timelines.base import (
    Observation,
    Recorded,
    Stay,
    Timelines,
    named_rows,
    passed_marks,
)
from models.timelines.bill import MISSING_NUMBER
from schemas.columns import Codes, Payment, Payments, Times, Transfers
from schemas.units import DAY_SECONDS, HOUR_SECONDS, NEVER_TIME

MARK_HOURS = (12.0, 24.0, 36.0, 48.0, 72.0, 120.0, 168.0)  # hours on one side only
# within which a line follows its payment, a weekend between; default of this project
SETTLEMENT_LAG_SECONDS = 3 * DAY_SECONDS
PAID_SIDE, SETTLED_SIDE = 0, 1
SIDE_KINDS = (Payment.PAYMENT, Payment.TOPUP, Payment.SETTLEMENT, Payment.REVERSAL)
Channel = tuple[str, str]  # area and name
Firsts = tuple[int, int]  # event time of a channel's first entry of each side


class Entry(NamedTuple):
    """A payment, or a line that settles one; an unknown amount is MISSING_NUMBER."""

    at: int
    amount: float
    bill: str
    channel: str


class TransferColumns(NamedTuple):
    """The columns of Transfers at a moment, NaN where they are unknown."""

    unmatched_hours: float
    difference: float
    paid: float
    settled: float


class Transfer(msgspec.Struct):
    """The entries under one number of a customer, each side in order of time."""

    paid: list[Entry] = []
    settled: list[Entry] = []
    failed: list[int] = []  # when it was reported as failed

    def stays(self) -> list[Stay]:
        """From the first side until both are known, or a reversal; none before that."""
        done = self.returned
        if self.paid and self.settled:
            both = max(self.paid[0].at, self.settled[0].at)
            done = min(both, done)
        if done == NEVER_TIME:
            return []
        first = self.entries()[0]
        return [Stay(first.at, HOUR_SECONDS, done)]

    @property
    def returned(self) -> int:
        """The time of the payment's reversal, or NEVER_TIME."""
        if not self.paid:
            return NEVER_TIME
        paid_at = self.paid[0].at
        later = [at for at in self.failed if at > paid_at]
        return min(later, default=NEVER_TIME)

    def entries(self) -> list[Entry]:
        """Both sides, in order of time."""
        return sorted([*self.paid, *self.settled])

    def amounts_at(self, at: int) -> tuple[float, float, float]:
        """The columns from difference on, at a time.

        A missing side should equal the first amount of the other.
        """
        paid = [entry.amount for entry in self.paid if entry.at <= at]
        settled = [entry.amount for entry in self.settled if entry.at <= at]
        difference = nan
        if MISSING_NUMBER not in paid + settled and self.returned > at:
            expected = paid or settled[:1]
            received = settled or paid[:1]
            difference = round(sum(received) - sum(expected), 2)
        return difference, _total(paid), _total(settled)


def _total(amounts: list[float]) -> float:
    """The sum of some amounts; NaN of none, and where one is unknown."""
    if MISSING_NUMBER in amounts or not amounts:
        return nan
    return sum(amounts)


class Ledger(Timelines):
    """Payments until they are settled, and lines until their payments come."""

    kind = Transfers
    item = Transfer
    columns = TransferColumns._fields
    awaits = ("unmatched_hours",)
    awaits_when_certain = True  # a line may come twice, and the first may be lost

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        # event time of the first entry of each side
        self._firsts: dict[Channel, list[int]] = {}
        # event time and slot of each entry
        self._entered: dict[Channel, list[tuple[int, int]]] = {}

    def record(self, batch: Payments, areas: Codes, sealed: Times) -> Recorded:
        """Records successful payments and lines.

        Only lines count as late or duplicate, other rules count payments.
        """
        recorded = Recorded(set(), [], [])
        for n, area, customer, at in named_rows(batch):
            kind = int(batch.payment[n])
            reference = batch.references[batch.reference[n]]
            if not reference or kind not in SIDE_KINDS:
                continue
            slot = self.open(area, f"{customer}/{reference}", at, sealed[n])
            if slot < 0:
                recorded.late.append(n)
                continue

            transfer = self.items.setdefault(slot, Transfer())
            failed = kind == Payment.REVERSAL or not batch.succeeded[n]
            if failed and kind != Payment.SETTLEMENT:
                new = at not in transfer.failed
                if new:
                    insort(transfer.failed, at)
            else:
                side = SETTLED_SIDE if kind == Payment.SETTLEMENT else PAID_SIDE
                entry = _entry_of(batch, n)
                new = self._add_entry(recorded, slot, side, entry)
            self.record_row(recorded, n, slot, areas[n], at, new=new)

        is_line = batch.payment == Payment.SETTLEMENT
        return Recorded(
            recorded.touched,
            duplicates=[n for n in recorded.duplicates if is_line[n]],
            late=[n for n in recorded.late if is_line[n]],
        )

    def _add_entry(
        self, recorded: Recorded, slot: int, side: int, entry: Entry
    ) -> bool:
        """Adds an entry to a side of a transfer; False where it is known."""
        transfer = self.items[slot]
        entries = transfer.settled if side == SETTLED_SIDE else transfer.paid
        if entry in entries:
            return False
        insort(entries, entry)
        area = self.index.pairs[slot][0]
        entered = self._entered.setdefault((area, entry.channel), [])
        insort(entered, (entry.at, slot))
        recorded.touched.update(self._note_first(area, entry.channel, side, entry.at))
        return True

    def _note_first(self, area: str, channel: str, side: int, at: int) -> list[int]:
        """The slots whose expectation changes because an entry is the first of its side."""
        never = [NEVER_TIME, NEVER_TIME]
        firsts = self._firsts.setdefault((area, channel), never)
        if at >= firsts[side]:
            return []
        former = firsts[side]
        firsts[side] = at

        apart = SETTLEMENT_LAG_SECONDS if side == PAID_SIDE else -DAY_SECONDS
        entered = self._entered[area, channel]
        begin = bisect_right(entered, (at + apart, NEVER_TIME))
        end = bisect_right(entered, (former + apart, NEVER_TIME))
        changed = entered[begin:end]
        return [slot for _, slot in changed]

    def _awaited(self, area: str, first: Entry, *, line: bool) -> bool:
        """True where the other side of an entry is expected, by the channel's first entries."""
        paid, settled = self._firsts[area, first.channel]
        if line:
            return paid < first.at - SETTLEMENT_LAG_SECONDS
        return settled < first.at + DAY_SECONDS

    def observations(self, slot: int, now: int) -> Iterator[Observation]:
        """The marks while it stands on one side only, the end of that, and every entry.

        NaN where the other side is not to be expected: where the channel did not settle until a day
        after the payment, or the line may belong to a payment before the channel's first.
        """
        transfer = self.items[slot]
        area = self.index.pairs[slot][0]
        entries = transfer.entries()
        if not entries:
            return
        first = entries[0]
        awaited = self._awaited(area, first, line=first not in transfer.paid)
        stays = transfer.stays() or [Stay(first.at, HOUR_SECONDS, NEVER_TIME)]

        for at, certain, hours in passed_marks(stays[0], MARK_HOURS, now):
            unmatched = hours if awaited or not hours else nan
            _, paid, settled = transfer.amounts_at(at)
            columns = TransferColumns(unmatched, nan, paid, settled)
            yield Observation(at, certain, columns)

        moments = {entry.at for entry in entries}
        for at in sorted(moments):
            amounts = transfer.amounts_at(at)
            columns = TransferColumns(nan, *amounts)
            yield Observation(at, certain=True, columns=columns)

    def since(self, slot: int, at: int) -> int:
        """The time of its first side, or the earliest of the payment of a line."""
        transfer = self.items[slot]
        entries = transfer.entries()
        if not entries:
            return at
        first = entries[0]
        if first in transfer.paid:
            return first.at
        return first.at - SETTLEMENT_LAG_SECONDS

    def schema(self) -> Schema:
        """The transfers, and the first entry of each side of each channel."""
        return {**super().schema(), "firsts": list[tuple[Channel, Firsts]]}

    def state(self) -> State:
        """Everything remembered."""
        return super().state() | {"firsts": list(self._firsts.items())}

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError."""
        super().load(state)
        self._firsts = {
            channel: list(firsts) for channel, firsts in state.get("firsts", ())
        }
        self._entered = {}

        for slot, transfer in self.items.items():
            area = self.index.pairs[slot][0]
            entries = transfer.entries()
            channels = {(area, entry.channel) for entry in entries}
            if not (entries or transfer.failed) or channels - self._firsts.keys():
                raise StateError("a transfer has no entry, or its channel is not known")
            for entry in entries:
                entered = self._entered.setdefault((area, entry.channel), [])
                entered.append((entry.at, slot))
        for entered in self._entered.values():
            entered.sort()

    def forget(self, slots: Codes) -> None:
        """Drops some numbers."""
        dropped = set(slots.tolist())
        channels: set[Channel] = set()
        for slot in dropped:
            area = self.index.pairs[slot][0]
            transfer = self.items[slot]
            channels.update((area, entry.channel) for entry in transfer.entries())
        for channel in channels:
            self._entered[channel] = [
                entered
                for entered in self._entered[channel]
                if entered[1] not in dropped
            ]
        super().forget(slots)


def _entry_of(batch: Payments, row: int) -> Entry:
    """The payment or line of a row."""
    amount = float(batch.amount[row])
    return Entry(
        at=int(batch.at[row]),
        amount=amount if isfinite(amount) else MISSING_NUMBER,
        bill=batch.bills[batch.bill[row]],
        channel=batch.channels[batch.channel[row]],
    )
