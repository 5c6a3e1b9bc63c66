"""Validation of readings before rules: an implausible value becomes NaN, counted by reason."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from models.meters.bounds import (
    VALIDATED_COLUMNS,
    rated_kw,
)
from models.meters.implausible import replace_implausible, with_columns
from models.meters.row_order import RowOrder
from models.state.cells import Cells
from models.state.missing_values import unknown
from models.state.passes import unique_passes
from schemas.columns import Codes, Column, Mask, Readings, Times
from schemas.units import DAY_SECONDS

LUMP_INTERVALS = 4  # missing intervals before one that has all their energy, a lump
LUMP_KWH = 0.5
# Beyond the energy that the meter's rating could carry since, a higher register waits
# for a second one.
JUMP_KWH = 1.0
# Within this time a register that is back on its path shows that it never left it.
RETURN_SECONDS = 30 * DAY_SECONDS
# Columns that a repeated snapshot repeats.
REPEATED_COLUMNS = tuple(
    name for name in VALIDATED_COLUMNS if name != "export_register"
)
# Share of a register's span that a rollover must have passed: catalogue section 4.
ROLLOVER_SHARE = 0.9


class Registers(NamedTuple):
    """Changes of the registers of rows."""

    # kWh since the last good register, rollover unwrapped, NaN if unknown.
    delta: Column
    # kWh that a confirmed decrease took away, NaN while it may be transient, -inf where
    # it proved to be none.
    drop: Column
    stale: Mask  # the row repeats the reading before it


class _RegisterRows(NamedTuple):
    """Columns of readings, at most one reading of a meter."""

    at: Times
    register: Column
    clock: Column  # the meter's own time
    kwh: Column
    version: Column  # since when its master data are in force
    span: Column  # of the register
    interval: Column
    rated_kw: Column

    def select(self, rows: Codes) -> _RegisterRows:
        """Some of the rows."""
        return _RegisterRows._make(column[rows] for column in self)


class _LastRegisters(NamedTuple):
    """The cells of each row's meter before the row."""

    register: Column  # NaN after new master data
    read: Times
    odd: Column
    before: Column  # NaN after new master data
    before_read: Times
    dip: Column


class _RegisterFindings(NamedTuple):
    """The findings of a pass, by row."""

    delta: Column
    drop: Column
    stale: Mask  # repeats the row before
    lump: Mask
    zero: Mask  # fell to nothing


class Validation:
    """The last good register and the clock of each meter."""

    def __init__(self) -> None:
        self.cells = Cells(
            register=np.float64(np.nan),  # the last good register
            read=np.int64(0),  # when it was read
            odd=np.float64(np.nan),  # out of line, and not confirmed by a second one
            # The good register before a fall or leap that was confirmed.
            before=np.float64(np.nan),
            before_read=np.int64(0),
            dip=np.float64(0),  # by how much that one fell; 0 where it leapt
            clock=np.float64(np.nan),  # the meter's own time at its last reading
            version=np.float64(-1),  # since when its master data are in force
        )
        self.order = RowOrder()
        self.implausible: Counter[str] = Counter()

    def validate(
        self, slots: Codes, readings: Readings, master: dict[str, Column]
    ) -> tuple[Readings, Registers]:
        """Finds repeats, lumps and decreases of registers; rows in order of arrival."""
        if unknown(readings.register):
            none = np.broadcast_to(np.nan, len(readings))
            return readings, Registers(none, none, np.zeros(len(readings), bool))

        clock = readings.clock_offset.astype(np.float64) + readings.at
        columns = _RegisterRows(
            at=readings.at,
            register=readings.register,
            clock=clock,
            kwh=readings.kwh,
            version=master["effective"],
            span=master["register_span"],
            interval=master["interval_s"],
            rated_kw=rated_kw(master),
        )
        found = self._validate_rows(slots, columns)

        replaced: dict[str, Column] = {}
        counts = self.implausible
        if found.stale.any():
            for name in REPEATED_COLUMNS:
                column = getattr(readings, name)
                replaced[name] = replace_implausible(
                    counts, column, found.stale, "repeated_snapshot"
                )
        if found.zero.any():
            column = replaced.get("register", readings.register)
            replaced["register"] = replace_implausible(
                counts, column, found.zero, "register_zero"
            )
        if found.lump.any():
            column = replaced.get("kwh", readings.kwh)
            replaced["kwh"] = replace_implausible(
                counts, column, found.lump, "backfill_lump"
            )
        registers = Registers(found.delta, found.drop, found.stale)
        return with_columns(readings, **replaced), registers

    def _validate_rows(self, slots: Codes, rows: _RegisterRows) -> _RegisterFindings:
        """The findings of rows in order of arrival."""
        passes = list(unique_passes(slots))
        if len(passes) == 1:
            return self._validate_pass(slots, rows)

        count = len(slots)
        found = _RegisterFindings(
            delta=np.empty(count),
            drop=np.empty(count),
            stale=np.empty(count, bool),
            lump=np.empty(count, bool),
            zero=np.empty(count, bool),
        )
        for one_pass in passes:
            of_pass = self._validate_pass(slots[one_pass], rows.select(one_pass))
            for whole, column in zip(found, of_pass, strict=True):
                whole[one_pass] = column
        return found

    def _validate_pass(self, slots: Codes, rows: _RegisterRows) -> _RegisterFindings:
        """The findings of at most one row per meter; remembers their registers."""
        last = self._last_registers(slots, rows.version)

        # A row without a new register: none, a repeat, or nothing after something.
        rolled = _rolled_over(rows, last)
        stale = rows.register == last.register
        stale &= rows.clock <= self.cells["clock"][slots]
        zero = (rows.register == 0) & (last.register > 0) & ~rolled
        known = ~(np.isnan(rows.register) | stale | zero)

        # A register out of line fell, or leapt by more than the rating could carry.
        seconds = np.where(np.isnan(last.register), np.nan, rows.at - last.read)
        delta = rows.register - last.register
        delta = np.where(rolled, delta + rows.span, delta)
        most = rows.rated_kw * seconds / 3600 + JUMP_KWH
        most = np.where(np.isnan(most), np.inf, most)
        fell = known & (delta < 0)
        leapt = known & (delta > most)
        back = _back_on_path(rows, last, known, fell | leapt)
        fell &= ~back
        leapt &= ~back

        confirmed, settled = _confirmed(rows, last, fell, leapt, most)
        in_line = known & ~(fell | leapt)
        self._count_transients(in_line, last)

        good = in_line | confirmed | settled
        self._remember(slots, rows, last, good, (known, back, confirmed, settled))
        return _RegisterFindings(
            delta=np.where(in_line & ~back, delta, np.nan),
            drop=_drops(last, known, fell, confirmed, back),
            stale=stale,
            lump=_lumps(rows, seconds, delta) & good & ~back,
            zero=zero,
        )

    def _last_registers(self, slots: Codes, version: Column) -> _LastRegisters:
        """The cells of meters; without registers where their master data are new."""
        cells = self.cells
        changed = cells["version"][slots] != version
        return _LastRegisters(
            register=np.where(changed, np.nan, cells["register"][slots]),
            read=cells["read"][slots],
            odd=cells["odd"][slots],
            before=np.where(changed, np.nan, cells["before"][slots]),
            before_read=cells["before_read"][slots],
            dip=cells["dip"][slots],
        )

    def _count_transients(self, in_line: Mask, last: _LastRegisters) -> None:
        """Counts registers out of line that a row in line after them shows to be transient."""
        for reason, found in (
            ("transient_low", last.odd < last.register),
            ("transient_high", last.odd > last.register),
        ):
            if count := int(np.count_nonzero(in_line & found)):
                self.implausible[reason] += count

    def _remember(
        self,
        slots: Codes,
        rows: _RegisterRows,
        last: _LastRegisters,
        good: Mask,
        masks: tuple[Mask, Mask, Mask, Mask],
    ) -> None:
        """Writes the cells of meters; `masks` are the rows known, back, confirmed and settled."""
        cells = self.cells
        known, back, confirmed, settled = masks
        cells["register"][slots] = np.where(good, rows.register, last.register)
        cells["read"][slots] = np.where(good, rows.at, last.read)
        odd = np.where(good, np.nan, rows.register)
        cells["odd"][slots] = np.where(known, odd, last.odd)

        jumped = confirmed | settled
        before = np.where(back, np.nan, last.before)
        cells["before"][slots] = np.where(jumped, last.register, before)
        cells["before_read"][slots] = np.where(jumped, last.read, last.before_read)
        dip = np.where(confirmed, last.register - last.odd, 0.0)
        cells["dip"][slots] = np.where(jumped, dip, last.dip)

        clock = cells["clock"][slots]
        cells["clock"][slots] = np.where(np.isnan(rows.clock), clock, rows.clock)
        cells["version"][slots] = rows.version


def _rolled_over(rows: _RegisterRows, last: _LastRegisters) -> Mask:
    """True for registers that have passed the end of their span."""
    fell = rows.register < last.register
    was_high = last.register > ROLLOVER_SHARE * rows.span
    is_low = rows.register < (1 - ROLLOVER_SHARE) * rows.span
    return fell & was_high & is_low


def _confirmed(
    rows: _RegisterRows, last: _LastRegisters, fell: Mask, leapt: Mask, most: Column
) -> tuple[Mask, Mask]:
    """The falls and the leaps that a second register out of line on the same side confirms."""
    beyond = rows.register >= last.odd
    confirmed = fell & beyond & (last.odd < last.register)
    settled = leapt & beyond & (last.odd > last.register)
    settled &= rows.register - last.odd <= most
    return confirmed, settled


def _back_on_path(
    rows: _RegisterRows, last: _LastRegisters, known: Mask, out_of_line: Mask
) -> Mask:
    """True for registers that are back where they would be without the last fall or leap."""
    since = rows.at - last.before_read
    most = rows.rated_kw * since / 3600 + JUMP_KWH
    beyond = rows.register - last.before
    in_reach = (beyond >= 0) & ~(beyond > most)
    in_reach &= since <= RETURN_SECONDS

    # A register that runs on gets there step by step, a return comes at once.
    missing = last.before - last.register
    at_once = (last.dip >= JUMP_KWH) & (missing >= last.dip / 2)
    return known & in_reach & (out_of_line | at_once)


def _drops(
    last: _LastRegisters, known: Mask, fell: Mask, confirmed: Mask, back: Mask
) -> Column:
    """The drops of rows as Registers has them."""
    drop = np.where(known & ~fell, 0.0, np.nan)
    drop = np.where(confirmed, last.register - last.odd, drop)
    disproved = back & (last.dip > 0)
    return np.where(disproved, -np.inf, drop)


def _lumps(rows: _RegisterRows, seconds: Column, delta: Column) -> Mask:
    """True for energy that makes up most of what the register rose by over missing intervals."""
    return (
        (seconds > LUMP_INTERVALS * rows.interval)
        & (rows.kwh >= 0.95 * delta)
        & (rows.kwh > LUMP_KWH)
    )
