"""Payments by the channel's own number: those that went through beside the lines in which the channel settles them."""
from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from math import isfinite, nan
from typing import NamedTuple

import msgspec

from models.bills import UNTOLD
from models.deadlines import DAY, HOUR, NEVER, Deadlines, Moment, Told, Visit, passing
from models.index import Index
from models.state import Schema, State, StateError
from schemas.columns import Codes, Payment, Payments, Times, Transfers

MARKS = (12.0, 24.0, 36.0, 48.0, 72.0, 120.0, 168.0)  # hours on one side only
LAG = 3 * DAY  # within which a line follows its payment, a weekend between; default of this project
PAID, SETTLED = 0, 1
Firsts = tuple[int, int]  # when a channel first told of each side


class Entry(NamedTuple):
    """A payment, or a line that settles one; an amount that was not told is UNTOLD."""

    at: int
    amount: float
    bill: str
    channel: str


class Transfer(msgspec.Struct):
    """What was told under one number of a customer's, each side in order of time."""

    paid: list[Entry] = []
    settled: list[Entry] = []
    failed: list[int] = []  # when it was told to have failed

    def visits(self) -> list[Visit]:
        """From the first side until both are told, or what was paid is taken back; none before that."""
        both = max(side[0].at if side else NEVER for side in (self.paid, self.settled))
        done = min(both, self.returned)
        return [Visit(self.entries()[0].at, HOUR, done)] if done < NEVER else []

    @property
    def returned(self) -> int:
        """When what was paid was taken back, or never."""
        return min((at for at in self.failed if self.paid and at > self.paid[0].at), default=NEVER)

    def entries(self) -> list[Entry]:
        """Both sides, in order of time."""
        return sorted([*self.paid, *self.settled])

    def told(self, at: int) -> tuple[float, ...]:
        """What is told from difference on, at a time; a side that is missing should come to the first of the other."""
        sides = [[entry.amount for entry in side if entry.at <= at] for side in (self.paid, self.settled)]
        paid, settled = (nan if UNTOLD in side or not side else sum(side) for side in sides)
        due, come = (sum(side or other[:1]) for side, other in (sides, sides[::-1]))
        unsure = UNTOLD in sides[0] + sides[1] or self.returned <= at
        return nan if unsure else round(come - due, 2), paid, settled


class Ledger(Deadlines):
    """Payments until they are settled, and lines until their payments are told."""

    kind, item = Transfers, Transfer
    columns = ("unmatched_hours", "difference", "paid", "settled")
    awaits = ("unmatched_hours",)
    ever = True  # a line may come twice, and the first be lost

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self.firsts: dict[tuple[str, str], list[int]] = {}  # by area and channel: the first of each side
        self.entered: dict[tuple[str, str], list[tuple[int, int]]] = {}  # by area and channel: when, and the slot

    def fold(self, batch: Payments, areas: Codes, sealed: Times) -> Told:
        """Note payments that went through and lines; a payment is never told to be late or known, others say so."""
        told = Told(set(), [], [])
        for n in range(len(batch)):
            kind, reference, at = int(batch.payment[n]), batch.references[batch.reference[n]], int(batch.at[n])
            line = kind == Payment.SETTLEMENT
            failed = kind == Payment.REVERSAL or not batch.succeeded[n]
            if not reference or kind not in (Payment.PAYMENT, Payment.TOPUP, Payment.SETTLEMENT, Payment.REVERSAL):
                continue
            area = batch.areas[batch.area[n]]
            slot = self.open(area, f"{batch.names[batch.subject[n]]}/{reference}", at, sealed[n])
            if slot < 0:
                told.late.append(n)
                continue
            transfer = self.items.setdefault(slot, Transfer())
            if failed and not line:
                if new := at not in transfer.failed:
                    insort(transfer.failed, at)
                self.note(told, n, slot, areas[n], at, new=new)
                continue
            amount = float(batch.amount[n])
            entry = Entry(at, amount if isfinite(amount) else UNTOLD, batch.bills[batch.bill[n]],
                          batch.channels[batch.channel[n]])  # fmt: skip
            side = transfer.settled if line else transfer.paid
            if new := entry not in side:
                side.append(entry)
                side.sort()
                insort(self.entered.setdefault((area, entry.channel), []), (at, slot))
                told.touched.update(self.begun(area, entry.channel, SETTLED if line else PAID, at))
            self.note(told, n, slot, areas[n], at, new=new)
        lines = {n for n in told.again + told.late if batch.payment[n] == Payment.SETTLEMENT}
        return Told(told.touched, *([n for n in rows if n in lines] for rows in (told.again, told.late)))

    def begun(self, area: str, channel: str, side: int, at: int) -> list[int]:
        """The slots of which the other side is expected otherwise, since a row of a time is the first of its side."""
        firsts = self.firsts.setdefault((area, channel), [NEVER, NEVER])
        if at >= firsts[side]:
            return []
        then, firsts[side] = firsts[side], at
        apart = LAG if side == PAID else -DAY
        entered = self.entered[area, channel]
        first, last = (bisect_right(entered, (time + apart, NEVER)) for time in (at, then))
        return [slot for _, slot in entered[first:last]]

    def awaited(self, area: str, first: Entry, *, line: bool) -> bool:
        """Whether the other side of a payment or a line is to be expected, by since when its channel tells of it."""
        paid, settled = self.firsts[area, first.channel]
        return paid < first.at - LAG if line else settled < first.at + DAY

    def moments(self, slot: int) -> Iterator[Moment]:
        """The marks at which it stands on one side only, the moment at which it no longer does, and all that was told.

        NaN where the other side is not to be expected: where the channel did not settle until a day after the payment,
        or the line may be of a payment from before its first.
        """
        transfer, area = self.items[slot], self.index.pairs[slot][0]
        entries = transfer.entries()
        if not entries:
            return
        first = entries[0]
        awaited = self.awaited(area, first, line=first not in transfer.paid)
        visits = transfer.visits() or [Visit(first.at, HOUR, NEVER)]
        for at, certain, hours in passing(visits[0], MARKS):
            yield Moment(at, certain, (hours if awaited or not hours else nan, nan, *transfer.told(at)[1:]))
        for at in sorted({entry.at for entry in entries}):
            yield Moment(at, certain=True, columns=(nan, *transfer.told(at)))

    def since(self, slot: int, at: int) -> int:
        """From its first side on; a line's payment may have come before it."""
        transfer = self.items[slot]
        if not (entries := transfer.entries()):
            return at
        first = entries[0]
        return first.at if first in transfer.paid else first.at - LAG

    def schema(self) -> Schema:
        """The transfers, and since when each channel tells of both sides."""
        return {**super().schema(), "firsts": list[tuple[tuple[str, str], Firsts]]}

    def state(self) -> State:
        """Everything remembered."""
        return super().state() | {"firsts": list(self.firsts.items())}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError."""
        super().load(state)
        self.firsts, self.entered = {pair: list(firsts) for pair, firsts in state.get("firsts", ())}, {}
        for slot, transfer in self.items.items():
            area, entries = self.index.pairs[slot][0], transfer.entries()
            if not (entries or transfer.failed) or any((area, entry.channel) not in self.firsts for entry in entries):
                raise StateError("a transfer has no entry, or its channel is not known")
            for entry in entries:
                self.entered.setdefault((area, entry.channel), []).append((entry.at, slot))
        for entered in self.entered.values():
            entered.sort()

    def forget(self, slots: Codes) -> None:
        """Drop some numbers."""
        dropped = set(slots.tolist())
        channels = {(self.index.pairs[s][0], entry.channel) for s in dropped for entry in self.items[s].entries()}
        for channel in channels:
            self.entered[channel] = [known for known in self.entered[channel] if known[1] not in dropped]
        super().forget(slots)
