"""Payments by the channel's own number: those that went through beside the lines in which the channel settles them."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from math import isfinite, nan
from typing import NamedTuple

import msgspec

from models.bills import MISSING_NUMBER
from models.index import Index
from models.state import Schema, State, StateError
from models.timelines import (
    NEVER_TIME,
    Observation,
    Recorded,
    Stay,
    Timelines,
    passed_marks,
)
from schemas.columns import Codes, Payment, Payments, Times, Transfers
from schemas.units import DAY_SECONDS, HOUR_SECONDS

MARK_HOURS = (12.0, 24.0, 36.0, 48.0, 72.0, 120.0, 168.0)  # hours on one side only
SETTLEMENT_LAG_SECONDS = (
    3 * DAY_SECONDS
)  # within which a line follows its payment, a weekend between; default of this project
PAID_SIDE, SETTLED_SIDE = 0, 1
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

    def stays(self) -> list[Stay]:
        """From the first side until both are told, or what was paid is taken back; none before that."""
        both = max(
            side[0].at if side else NEVER_TIME for side in (self.paid, self.settled)
        )
        done = min(both, self.returned)
        return (
            [Stay(self.entries()[0].at, HOUR_SECONDS, done)]
            if done < NEVER_TIME
            else []
        )

    @property
    def returned(self) -> int:
        """When what was paid was taken back, or never."""
        return min(
            (at for at in self.failed if self.paid and at > self.paid[0].at),
            default=NEVER_TIME,
        )

    def entries(self) -> list[Entry]:
        """Both sides, in order of time."""
        return sorted([*self.paid, *self.settled])

    def amounts_at(self, at: int) -> tuple[float, ...]:
        """What is told from difference on, at a time; a side that is missing should come to the first of the other."""
        sides = [
            [entry.amount for entry in side if entry.at <= at]
            for side in (self.paid, self.settled)
        ]
        paid, settled = (
            nan if MISSING_NUMBER in side or not side else sum(side) for side in sides
        )
        due, come = (sum(side or other[:1]) for side, other in (sides, sides[::-1]))
        unsure = MISSING_NUMBER in sides[0] + sides[1] or self.returned <= at
        return nan if unsure else round(come - due, 2), paid, settled


class Ledger(Timelines):
    """Payments until they are settled, and lines until their payments are told."""

    kind, item = Transfers, Transfer
    columns = ("unmatched_hours", "difference", "paid", "settled")
    awaits = ("unmatched_hours",)
    awaits_when_certain = True  # a line may come twice, and the first be lost

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._firsts: dict[
            tuple[str, str], list[int]
        ] = {}  # by area and channel: the first of each side
        self._entered: dict[
            tuple[str, str], list[tuple[int, int]]
        ] = {}  # by area and channel: when, and the slot

    def record(self, batch: Payments, areas: Codes, sealed: Times) -> Recorded:
        """Note payments that went through and lines; a payment is never told to be late or known, others say so."""
        told = Recorded(set(), [], [])
        for n in range(len(batch)):
            kind, reference, at = (
                int(batch.payment[n]),
                batch.references[batch.reference[n]],
                int(batch.at[n]),
            )
            line = kind == Payment.SETTLEMENT
            failed = kind == Payment.REVERSAL or not batch.succeeded[n]
            if not reference or kind not in (
                Payment.PAYMENT,
                Payment.TOPUP,
                Payment.SETTLEMENT,
                Payment.REVERSAL,
            ):
                continue
            area = batch.areas[batch.area[n]]
            slot = self.open(
                area, f"{batch.names[batch.subject[n]]}/{reference}", at, sealed[n]
            )
            if slot < 0:
                told.late.append(n)
                continue
            transfer = self.items.setdefault(slot, Transfer())
            if failed and not line:
                if new := at not in transfer.failed:
                    insort(transfer.failed, at)
                self.record_row(told, n, slot, areas[n], at, new=new)
                continue
            amount = float(batch.amount[n])
            entry = Entry(
                at,
                amount if isfinite(amount) else MISSING_NUMBER,
                batch.bills[batch.bill[n]],
                batch.channels[batch.channel[n]],
            )
            side = transfer.settled if line else transfer.paid
            if new := entry not in side:
                side.append(entry)
                side.sort()
                insort(self._entered.setdefault((area, entry.channel), []), (at, slot))
                told.touched.update(
                    self._note_first(
                        area, entry.channel, SETTLED_SIDE if line else PAID_SIDE, at
                    )
                )
            self.record_row(told, n, slot, areas[n], at, new=new)
        lines = {
            n
            for n in told.duplicates + told.late
            if batch.payment[n] == Payment.SETTLEMENT
        }
        return Recorded(
            told.touched,
            *([n for n in rows if n in lines] for rows in (told.duplicates, told.late)),
        )

    def _note_first(self, area: str, channel: str, side: int, at: int) -> list[int]:
        """The slots of which the other side is expected otherwise, since a row of a time is the first of its side."""
        firsts = self._firsts.setdefault((area, channel), [NEVER_TIME, NEVER_TIME])
        if at >= firsts[side]:
            return []
        then, firsts[side] = firsts[side], at
        apart = SETTLEMENT_LAG_SECONDS if side == PAID_SIDE else -DAY_SECONDS
        entered = self._entered[area, channel]
        first, last = (
            bisect_right(entered, (time + apart, NEVER_TIME)) for time in (at, then)
        )
        return [slot for _, slot in entered[first:last]]

    def _awaited(self, area: str, first: Entry, *, line: bool) -> bool:
        """Whether the other side of a payment or a line is to be expected, by since when its channel tells of it."""
        paid, settled = self._firsts[area, first.channel]
        return (
            paid < first.at - SETTLEMENT_LAG_SECONDS
            if line
            else settled < first.at + DAY_SECONDS
        )

    def observations(self, slot: int) -> Iterator[Observation]:
        """The marks at which it stands on one side only, the moment at which it no longer does, and all that was told.

        NaN where the other side is not to be expected: where the channel did not settle until a day after the payment,
        or the line may be of a payment from before its first.
        """
        transfer, area = self.items[slot], self.index.pairs[slot][0]
        entries = transfer.entries()
        if not entries:
            return
        first = entries[0]
        awaited = self._awaited(area, first, line=first not in transfer.paid)
        visits = transfer.stays() or [Stay(first.at, HOUR_SECONDS, NEVER_TIME)]
        for at, certain, hours in passed_marks(visits[0], MARK_HOURS):
            yield Observation(
                at,
                certain,
                (
                    hours if awaited or not hours else nan,
                    nan,
                    *transfer.amounts_at(at)[1:],
                ),
            )
        for at in sorted({entry.at for entry in entries}):
            yield Observation(at, certain=True, columns=(nan, *transfer.amounts_at(at)))

    def since(self, slot: int, at: int) -> int:
        """From its first side on; a line's payment may have come before it."""
        transfer = self.items[slot]
        if not (entries := transfer.entries()):
            return at
        first = entries[0]
        return first.at if first in transfer.paid else first.at - SETTLEMENT_LAG_SECONDS

    def schema(self) -> Schema:
        """The transfers, and since when each channel tells of both sides."""
        return {**super().schema(), "firsts": list[tuple[tuple[str, str], Firsts]]}

    def state(self) -> State:
        """Everything remembered."""
        return super().state() | {"firsts": list(self._firsts.items())}

    def load(self, state: State) -> None:
        """Replace everything by what `state` gave. Raises StateError."""
        super().load(state)
        self._firsts, self._entered = (
            {pair: list(firsts) for pair, firsts in state.get("firsts", ())},
            {},
        )
        for slot, transfer in self.items.items():
            area, entries = self.index.pairs[slot][0], transfer.entries()
            if not (entries or transfer.failed) or any(
                (area, entry.channel) not in self._firsts for entry in entries
            ):
                raise StateError("a transfer has no entry, or its channel is not known")
            for entry in entries:
                self._entered.setdefault((area, entry.channel), []).append(
                    (entry.at, slot)
                )
        for entered in self._entered.values():
            entered.sort()

    def forget(self, slots: Codes) -> None:
        """Drop some numbers."""
        dropped = set(slots.tolist())
        channels = {
            (self.index.pairs[s][0], entry.channel)
            for s in dropped
            for entry in self.items[s].entries()
        }
        for channel in channels:
            self._entered[channel] = [
                known for known in self._entered[channel] if known[1] not in dropped
            ]
        super().forget(slots)
