"""Validation of readings before any rule sees them: a doubtful value becomes NaN, and its reason is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from models.cells import Cells
from models.gaps import unknown
from models.runs import ascending
from models.turns import unique_passes
from schemas.columns import Codes, Column, Mask, Readings, Status, Times
from schemas.units import DAY_SECONDS

FULL_WORDS = (
    0xFFFFFFFF,
    0x7FFFFFFF,
    -0x80000000,
)  # what a meter sends for "no value", with any number of decimals
SENTINEL_NUMBERS = np.array(
    [0xEEEE, 0xFFFF, *(word / 10**places for word in FULL_WORDS for places in range(5))]
)
SPAN_OF_NOMINAL = (
    2.0  # voltages beyond this times Un are no voltages; default of this project
)
SPAN_OF_RATING = 2.0  # currents and powers beyond this times the meter's rating are none; default of this project
LUMP_INTERVALS = 4  # intervals missing before one that holds all their energy is a lump; default of this project
LUMP_KWH = 0.5
JUMP_KWH = 1.0  # beyond what the meter's rating could have carried since, a higher register waits for a second one
STEADY_SECONDS = 300  # seconds by which two delays may differ and still be the same clock's; default of this project
RETURN_SECONDS = (
    30 * DAY_SECONDS
)  # within which a register that is back on its path shows that it never left it
REGISTER_COLUMNS = (
    "register",
    "export_register",
    "register_sharp",
    "register_peak",
    "register_flat",
    "register_valley",
)
MEASUREMENT_COLUMNS = (
    "kwh",
    "u",
    "i",
    "p",
    "q",
    "neutral",
    "frequency",
    "temperature",
    "thd",
    "u_angle",
    "demand",
    "terminal_p",
)
SIGNED_COLUMNS = frozenset(
    {"i", "p", "q", "neutral", "terminal_p", "u_angle", "temperature"}
)
REPEATED_COLUMNS = tuple(
    name
    for name in (*REGISTER_COLUMNS, *MEASUREMENT_COLUMNS)
    if name != "export_register"
)  # that a repeated snapshot repeats
COLUMN_BOUNDS = {  # Hz, deg C either way, %, degrees: defaults of this project
    "frequency": np.array([100.0]),
    "temperature": np.array([70.0]),
    "thd": np.array([100.0]),
    "u_angle": np.array([360.0]),
}
ROLLOVER_SHARE = (
    0.9  # of the register's span that must have been passed, catalogue section 4
)


class Registers(NamedTuple):
    """What the registers say of the rows of a wave."""

    delta: (
        Column  # kWh since the last good register, rollover unwrapped, NaN when unknown
    )
    drop: Column  # kWh a confirmed decrease took away, NaN while it may be transient, -inf where it proved to be none
    stale: Mask  # the row repeats the reading before it


class Validation:
    """Remembers each meter's last good register and clock."""

    def __init__(self) -> None:
        self.cells = Cells(
            register=np.float64(np.nan),
            read=np.int64(0),  # the last good register and when it was read
            odd=np.float64(
                np.nan
            ),  # a register out of line that a second one has not confirmed yet
            before=np.float64(np.nan),
            before_read=np.int64(
                0
            ),  # the good one before a fall or leap that was confirmed
            dip=np.float64(0),  # by how much that fell; 0 where it leapt
            clock=np.float64(np.nan),  # the meter's own time at its last reading
            version=np.float64(-1),  # since when its master data are in force
        )
        self.order = Cells(
            last=np.int64(0),  # event time of the last reading in order
            clock_then=np.int64(0),  # its area's clock at its last reading
            lag=np.int64(0),
            lag_received=np.int64(
                0
            ),  # by how much its last late reading was behind its receipt
        )
        self.implausible: Counter[str] = Counter()

    def _replace_implausible(self, column: Column, where: Mask, reason: str) -> Column:
        """The column with NaN where a value is doubtful, counted by reason."""
        where = where & ~np.isnan(column)
        if not (found := int(np.count_nonzero(where))):
            return column
        self.implausible[reason] += found
        return np.where(where, np.array(np.nan, column.dtype), column)

    def bounds(self, r: Readings, master: dict[str, Column], interval: int) -> Readings:
        """The rows with values no meter can measure made NaN; looks at each row alone, so any order will do."""
        un, imax = master["un"], master["imax"]
        rated_kw = SPAN_OF_RATING * un * imax * master["phases"] / 1000
        limit_kw = np.fmax(
            rated_kw, SPAN_OF_RATING * master["contract_kva"] / master["ratio"]
        )
        hours = np.fmax(master["interval_s"], interval) / 3600
        told = {}
        guess = r.status == Status.ESTIMATED
        guessed = bool(guess.any())
        most = {
            "kwh": limit_kw * hours,
            "u": SPAN_OF_NOMINAL * un,
            "p": limit_kw,
            "q": limit_kw,
            "demand": limit_kw,
            "terminal_p": limit_kw,
            **COLUMN_BOUNDS,
        }
        most["i"] = most["neutral"] = SPAN_OF_RATING * imax
        for name in (*REGISTER_COLUMNS, *MEASUREMENT_COLUMNS):
            column, bound, signed = (
                getattr(r, name),
                most.get(name),
                name in SIGNED_COLUMNS,
            )
            if unknown(column) or not (
                guessed or _may_be_implausible(column, bound, signed=signed)
            ):
                continue
            if (huge := np.abs(column) >= 0xEEEE).any():
                column = self._replace_implausible(
                    column,
                    huge & np.isin(column, SENTINEL_NUMBERS.astype(column.dtype)),
                    "sentinel",
                )
                column = self._replace_implausible(
                    column, np.isinf(column), "not_finite"
                )
            if guessed:
                column = self._replace_implausible(
                    column, np.broadcast_to(guess, column.shape), "estimated"
                )
            if not signed:
                column = self._replace_implausible(column, column < 0, "negative")
            if bound is not None:
                column = self._replace_implausible(
                    column, np.abs(column) > bound, "beyond_bound"
                )
            told[name] = column
        if (three_wire := master["three_wire"] == 1).any():
            for name in ("u", "i"):
                column = np.array(told.get(name, getattr(r, name)))
                column[1, three_wire] = np.nan
                told[name] = column
        return _replaced(r, **told)

    def sequence(
        self, slots: Codes, at: Times, accepted: Mask, watermarks: Times
    ) -> tuple[Mask, Times, Mask]:
        """Which rows go forward in their meter's time, the meter's time before each row, and which rows have strayed.

        A row has strayed when it is more than a day ahead of its area's clock `now`, the one before it was ahead too,
        and the clock has moved in between. Then too a meter whose last stamp was a day ahead may go back.
        """
        last, then = self.order["last"], self.order["clock_then"]
        if ascending(slots):
            before, clock_then = last[slots], then[slots]
            newest, ordered = np.maximum(before, np.where(accepted, at, 0)), slots
            then[slots] = watermarks
        else:
            before, clock_then = (
                np.empty(len(at), np.int64),
                np.empty(len(at), np.int64),
            )
            order = np.argsort(slots, kind="stable")
            ordered = slots[order]
            starts = np.diff(ordered, prepend=-1) != 0
            offset = np.cumsum(starts) << 40
            newest = (
                np.maximum.accumulate(
                    np.maximum(np.where(accepted, at, 0)[order], last[ordered]) + offset
                )
                - offset
            )
            before[order] = np.where(
                starts, last[ordered], np.concatenate([[0], newest[:-1]])
            )
            clock_then[order] = np.where(
                starts, then[ordered], np.concatenate([[0], watermarks[order][:-1]])
            )
            then[ordered] = watermarks[order]
        moved = accepted & (watermarks > clock_then) & (clock_then > 0)
        strayed = moved & (at > watermarks + DAY_SECONDS) & (before > watermarks)
        if not (moved & (before > watermarks + DAY_SECONDS)).any():
            last[ordered] = newest
            return accepted & (at > before), before, strayed
        forward = np.zeros(len(at), bool)
        for rows in unique_passes(slots):
            here = slots[rows]
            before[rows] = last[here]
            strayed[rows] = (
                moved[rows]
                & (at[rows] > watermarks[rows] + DAY_SECONDS)
                & (before[rows] > watermarks[rows])
            )
            astray = moved[rows] & (last[here] > watermarks[rows] + DAY_SECONDS)
            go = accepted[rows] & (
                (at[rows] > last[here]) | (astray & (at[rows] < last[here]))
            )
            forward[rows] = go
            last[here[go]] = at[rows][go]
        return forward, before, strayed

    def slow_clocks(self, slots: Codes, r: Readings, late: Mask) -> Mask:
        """Which late rows tell that their meter's clock is behind: as far as the one before, though received later.

        What was held back and sent on comes at once, or ever less late; so it tells nothing.
        """
        told = np.zeros(len(r), bool)
        if not late.any():
            return told
        rows = np.flatnonzero(
            late & (r.received > 0) & (r.received - r.at > DAY_SECONDS)
        )
        for part in unique_passes(slots[rows]):
            here, where = rows[part], slots[rows[part]]
            lag, received = r.received[here] - r.at[here], r.received[here]
            before = self.order["lag_received"][where]
            steady = np.abs(lag - self.order["lag"][where]) <= STEADY_SECONDS
            told[here] = steady & (before > 0) & (received > before)
            self.order["lag"][where], self.order["lag_received"][where] = lag, received
        return told

    def validate(
        self, slots: Codes, r: Readings, master: dict[str, Column]
    ) -> tuple[Readings, Registers]:
        """Repeats, lumps and decreases of registers, found by what came before; rows in order of arrival."""
        rows = len(r)
        if unknown(r.register):
            none = np.broadcast_to(np.nan, rows)
            return r, Registers(none, none, np.zeros(rows, bool))
        clock = r.at + r.clock_offset.astype(np.float64)
        rated_kw = (
            SPAN_OF_RATING * master["un"] * master["imax"] * master["phases"] / 1000
        )
        known = (master[name] for name in ("effective", "register_span", "interval_s"))
        taken: tuple[Any, ...] = (r.at, r.register, clock, r.kwh, *known, rated_kw)
        turns = list(unique_passes(slots))
        if len(turns) == 1:
            delta, drop, stale, lump, zero = self._validate_pass(slots, *taken)
        else:
            delta, drop = np.empty(rows), np.empty(rows)
            stale, lump, zero = (
                np.empty(rows, bool),
                np.empty(rows, bool),
                np.empty(rows, bool),
            )
            for turn in turns:
                found = self._validate_pass(
                    slots[turn], *(column[turn] for column in taken)
                )
                delta[turn], drop[turn], stale[turn], lump[turn], zero[turn] = found
        told: dict[str, Column] = {}
        if stale.any():
            told = {
                name: self._replace_implausible(
                    getattr(r, name), stale, "repeated_snapshot"
                )
                for name in REPEATED_COLUMNS
            }
        if zero.any():
            told["register"] = self._replace_implausible(
                told.get("register", r.register), zero, "register_zero"
            )
        if lump.any():
            told["kwh"] = self._replace_implausible(
                told.get("kwh", r.kwh), lump, "backfill_lump"
            )
        return _replaced(r, **told), Registers(delta, drop, stale)

    def _validate_pass(
        self,
        slots: Codes,
        at: Times,
        register: Column,
        clock: Column,
        kwh: Column,
        version: Column,
        span: Column,
        interval: Column,
        rated_kw: Column,
    ) -> tuple[Column, Column, Mask, Mask, Mask]:
        """Delta, drop, which rows repeat the one before, are lumps, and fell to nothing, for one row per meter."""
        c = self.cells
        have = ~np.isnan(register)
        changed = c["version"][slots] != version
        last = np.where(changed, np.nan, c["register"][slots])
        odd = c["odd"][slots]
        stale = have & (register == last) & (clock <= c["clock"][slots])
        rolled = (
            (register < last)
            & (last > ROLLOVER_SHARE * span)
            & (register < (1 - ROLLOVER_SHARE) * span)
        )
        zero = have & (register == 0) & (last > 0) & ~rolled
        have &= ~(stale | zero)
        read = c["read"][slots]
        seconds = np.where(np.isnan(last), np.nan, at - read)
        delta = register - last
        delta = np.where(rolled, delta + span, delta)
        most = rated_kw * seconds / 3600 + JUMP_KWH
        most = np.where(np.isnan(most), np.inf, most)
        fell, leapt = have & (delta < 0), have & (delta > most)
        before = np.where(changed, np.nan, c["before"][slots])
        since = at - c["before_read"][slots]
        dip = c["dip"][slots]
        at_once = (dip >= JUMP_KWH) & (
            before - last >= dip / 2
        )  # what runs on comes there step by step
        back = (
            have
            & (fell | leapt | at_once)
            & (register >= before)
            & (since <= RETURN_SECONDS)
        )
        back &= ~(register - before > rated_kw * since / 3600 + JUMP_KWH)
        fell, leapt = fell & ~back, leapt & ~back
        confirmed = fell & (odd < last) & (register >= odd)
        settled = leapt & (odd > last) & (register >= odd) & (register - odd <= most)
        for reason, found in (
            ("transient_low", odd < last),
            ("transient_high", odd > last),
        ):
            if count := int(np.count_nonzero(have & ~fell & ~leapt & found)):
                self.implausible[reason] += count
        drop = np.where(
            confirmed, last - odd, np.where(fell, np.nan, np.where(have, 0.0, np.nan))
        )
        drop = np.where(back & (dip > 0), -np.inf, drop)
        good = have & ((~fell & ~leapt) | confirmed | settled)
        lump = (
            (seconds > LUMP_INTERVALS * interval)
            & (kwh >= 0.95 * delta)
            & (kwh > LUMP_KWH)
            & good
            & ~back
        )
        c["register"][slots] = np.where(good, register, last)
        c["read"][slots] = np.where(good, at, read)
        c["odd"][slots] = np.where(have, np.where(good, np.nan, register), odd)
        jumped = confirmed | settled
        c["before"][slots] = np.where(jumped, last, np.where(back, np.nan, before))
        c["before_read"][slots] = np.where(jumped, read, c["before_read"][slots])
        c["dip"][slots] = np.where(jumped, np.where(confirmed, last - odd, 0.0), dip)
        c["clock"][slots] = np.where(np.isnan(clock), c["clock"][slots], clock)
        c["version"][slots] = version
        return np.where(good & ~jumped & ~back, delta, np.nan), drop, stale, lump, zero


def _may_be_implausible(column: Column, bound: Column | None, *, signed: bool) -> bool:
    """Whether any value is too high or too low to go without a closer look."""
    low, high = np.fmin.reduce(column, axis=None), np.fmax.reduce(column, axis=None)
    most = 0xEEEE if bound is None else min(0xEEEE, np.fmin.reduce(bound))
    return bool(high >= most or low < (-most if signed else 0))


def _replaced(r: Readings, **columns: Any) -> Readings:
    """The readings with some columns replaced."""
    return replace(r, **columns) if columns else r
