"""Validation of readings before rules: an implausible value becomes NaN, counted by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from models.state.cells import Cells
from models.state.gaps import unknown
from models.state.passes import unique_passes
from models.state.runs import ascending
from schemas.columns import Codes, Column, Mask, Readings, Status, Times
from schemas.units import DAY_SECONDS

# Words that a meter sends for "no value", with any number of decimals.
FULL_WORDS = 0xFFFFFFFF, 0x7FFFFFFF, -0x80000000
SENTINEL_NUMBERS = np.array(
    [0xEEEE, 0xFFFF, *(word / 10**places for word in FULL_WORDS for places in range(5))]
)
# Defaults of this project:
SPAN_OF_NOMINAL = 2.0  # times Un, beyond which a voltage is implausible
SPAN_OF_RATING = 2.0  # times the meter's rating, beyond which current and power are
LUMP_INTERVALS = 4  # missing intervals before one that has all their energy, a lump
LUMP_KWH = 0.5
# Beyond the energy that the meter's rating could carry since, a higher register waits
# for a second one.
JUMP_KWH = 1.0
STEADY_SECONDS = 300  # s by which two delays of the same wrong clock may differ
# Within this time a register that is back on its path shows that it never left it.
RETURN_SECONDS = 30 * DAY_SECONDS
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
# Columns that a repeated snapshot repeats.
REPEATED_COLUMNS = tuple(
    name
    for name in (*REGISTER_COLUMNS, *MEASUREMENT_COLUMNS)
    if name != "export_register"
)
COLUMN_BOUNDS = {  # Hz, deg C either way, %, degrees: defaults of this project
    "frequency": np.array([100.0]),
    "temperature": np.array([70.0]),
    "thd": np.array([100.0]),
    "u_angle": np.array([360.0]),
}
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
        self.order = Cells(
            last=np.int64(0),  # event time of the last reading in order
            clock_then=np.int64(0),  # its area's watermark at its last reading
            # The delay of its last late row behind its receipt, and that receipt.
            lag=np.int64(0),
            lag_received=np.int64(0),
        )
        self.implausible: Counter[str] = Counter()

    def _replace_implausible(self, column: Column, where: Mask, reason: str) -> Column:
        """The column with NaN for implausible values, which are counted by reason."""
        where = where & ~np.isnan(column)
        if not (found := int(np.count_nonzero(where))):
            return column
        self.implausible[reason] += found
        return np.where(where, np.array(np.nan, column.dtype), column)

    def bounds(
        self, readings: Readings, master: dict[str, Column], interval: int
    ) -> Readings:
        """The rows with NaN for values that no meter can measure; each row alone, in any order."""
        limits = _limits_of(master, interval)
        estimated = readings.status == Status.ESTIMATED
        any_estimated = bool(estimated.any())
        replaced: dict[str, Column] = {}
        for name in (*REGISTER_COLUMNS, *MEASUREMENT_COLUMNS):
            column = getattr(readings, name)
            limit = limits.get(name)
            signed = name in SIGNED_COLUMNS
            if unknown(column) or not (
                any_estimated or _may_be_implausible(column, limit, signed=signed)
            ):
                continue

            column = self._without_sentinels(column)
            if any_estimated:
                everywhere = np.broadcast_to(estimated, column.shape)
                column = self._replace_implausible(column, everywhere, "estimated")
            if not signed:
                column = self._replace_implausible(column, column < 0, "negative")
            if limit is not None:
                beyond = np.abs(column) > limit
                column = self._replace_implausible(column, beyond, "beyond_bound")
            replaced[name] = column

        # A three-wire meter has no second element.
        three_wire = master["three_wire"] == 1
        if three_wire.any():
            for name in ("u", "i"):
                column = np.array(replaced.get(name, getattr(readings, name)))
                column[1, three_wire] = np.nan
                replaced[name] = column
        return _replaced(readings, **replaced)

    def _without_sentinels(self, column: Column) -> Column:
        """The column with NaN for numbers that mean no value, and for infinity."""
        huge = np.abs(column) >= 0xEEEE
        if not huge.any():
            return column
        sentinels = huge & np.isin(column, SENTINEL_NUMBERS.astype(column.dtype))
        column = self._replace_implausible(column, sentinels, "sentinel")
        return self._replace_implausible(column, np.isinf(column), "not_finite")

    def sequence(
        self, slots: Codes, at: Times, accepted: Mask, watermarks: Times
    ) -> tuple[Mask, Times, Mask]:
        """The rows in order of their meter's time, the meter's time before each row, and strays.

        A row strays if it is more than a day ahead of its area's watermark, the row before it was
        ahead too, and the watermark has moved in between. Then a meter whose last event time was a
        day ahead may go back, too.
        """
        last = self.order["last"]
        before, watermarks_then, ordered, newest = self._times_before(
            slots, at, accepted, watermarks
        )
        moved = accepted & (watermarks > watermarks_then) & (watermarks_then > 0)
        strayed = moved & (at > watermarks + DAY_SECONDS) & (before > watermarks)
        if not (moved & (before > watermarks + DAY_SECONDS)).any():
            last[ordered] = newest
            return accepted & (at > before), before, strayed

        # Some meter may go back: the rows of each meter come one by one.
        forward = np.zeros(len(at), bool)
        for rows in unique_passes(slots):
            meters, times = slots[rows], at[rows]
            before[rows] = last[meters]
            day_ahead = watermarks[rows] + DAY_SECONDS
            strayed[rows] = (
                moved[rows] & (times > day_ahead) & (before[rows] > watermarks[rows])
            )
            goes_back = moved[rows] & (last[meters] > day_ahead)
            goes_back &= times < last[meters]
            forward[rows] = accepted[rows] & ((times > last[meters]) | goes_back)
            last[meters[forward[rows]]] = times[forward[rows]]
        return forward, before, strayed

    def _times_before(
        self, slots: Codes, at: Times, accepted: Mask, watermarks: Times
    ) -> tuple[Times, Times, Codes, Times]:
        """Each row's newest time and watermark before it, the slots in order, and their new times.

        Remembers the watermarks.
        """
        last, then = self.order["last"], self.order["clock_then"]
        if ascending(slots):
            before, watermarks_then = last[slots], then[slots]
            newest = np.maximum(before, np.where(accepted, at, 0))
            then[slots] = watermarks
            return before, watermarks_then, slots, newest

        # Rows by slot; the offset lets one running maximum serve all slots.
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        starts = np.diff(ordered, prepend=-1) != 0
        offset = np.cumsum(starts) << 40
        times = np.maximum(np.where(accepted, at, 0)[order], last[ordered])
        newest = np.maximum.accumulate(times + offset) - offset

        before = np.empty(len(at), np.int64)
        shifted = np.concatenate([[0], newest[:-1]])
        before[order] = np.where(starts, last[ordered], shifted)
        watermarks_then = np.empty(len(at), np.int64)
        shifted = np.concatenate([[0], watermarks[order][:-1]])
        watermarks_then[order] = np.where(starts, then[ordered], shifted)
        then[ordered] = watermarks[order]
        return before, watermarks_then, ordered, newest

    def slow_clocks(self, slots: Codes, readings: Readings, late: Mask) -> Mask:
        """The late rows that show a clock behind: as late as the row before, received after it.

        Rows that were kept back and sent on come at once, or less and less late: they show nothing.
        """
        slow = np.zeros(len(readings), bool)
        if not late.any():
            return slow
        lags = readings.received - readings.at
        rows = np.flatnonzero(late & (readings.received > 0) & (lags > DAY_SECONDS))
        for one_pass in unique_passes(slots[rows]):
            chosen, meters = rows[one_pass], slots[rows[one_pass]]
            lag, received = lags[chosen], readings.received[chosen]
            before = self.order["lag_received"][meters]
            steady = np.abs(lag - self.order["lag"][meters]) <= STEADY_SECONDS
            slow[chosen] = steady & (before > 0) & (received > before)
            self.order["lag"][meters] = lag
            self.order["lag_received"][meters] = received
        return slow

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
            rated_kw=_rated_kw(master),
        )
        found = self._validate_rows(slots, columns)

        replaced: dict[str, Column] = {}
        if found.stale.any():
            for name in REPEATED_COLUMNS:
                replaced[name] = self._replace_implausible(
                    getattr(readings, name), found.stale, "repeated_snapshot"
                )
        if found.zero.any():
            replaced["register"] = self._replace_implausible(
                replaced.get("register", readings.register), found.zero, "register_zero"
            )
        if found.lump.any():
            replaced["kwh"] = self._replace_implausible(
                replaced.get("kwh", readings.kwh), found.lump, "backfill_lump"
            )
        registers = Registers(found.delta, found.drop, found.stale)
        return _replaced(readings, **replaced), registers

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
        rolled = (
            (rows.register < last.register)
            & (last.register > ROLLOVER_SHARE * rows.span)
            & (rows.register < (1 - ROLLOVER_SHARE) * rows.span)
        )
        known = ~np.isnan(rows.register)
        stale = known & (rows.register == last.register)
        stale &= rows.clock <= self.cells["clock"][slots]
        zero = known & (rows.register == 0) & (last.register > 0) & ~rolled
        known &= ~(stale | zero)

        # A register out of line fell, or leapt by more than the rating could carry.
        seconds = np.where(np.isnan(last.register), np.nan, rows.at - last.read)
        delta = rows.register - last.register
        delta = np.where(rolled, delta + rows.span, delta)
        most = rows.rated_kw * seconds / 3600 + JUMP_KWH
        most = np.where(np.isnan(most), np.inf, most)
        fell, leapt = known & (delta < 0), known & (delta > most)
        back = _back_on_path(rows, last, known, fell | leapt)
        fell, leapt = fell & ~back, leapt & ~back

        # A second register out of line on the same side confirms the first.
        confirmed = fell & (last.odd < last.register) & (rows.register >= last.odd)
        settled = leapt & (last.odd > last.register) & (rows.register >= last.odd)
        settled &= rows.register - last.odd <= most
        self._count_transients(known & ~fell & ~leapt, last)

        jumped = confirmed | settled
        good = known & ((~fell & ~leapt) | jumped)
        self._remember(slots, rows, last, good, (known, back, confirmed, settled))
        return _RegisterFindings(
            delta=np.where(good & ~jumped & ~back, delta, np.nan),
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


def _rated_kw(master: dict[str, Column]) -> Column:
    """The kW beyond which a meter's power is implausible."""
    return SPAN_OF_RATING * master["un"] * master["imax"] * master["phases"] / 1000


def _limits_of(master: dict[str, Column], interval: int) -> dict[str, Column]:
    """The limits of columns beyond which a value is implausible."""
    contract_kw = SPAN_OF_RATING * master["contract_kva"] / master["ratio"]
    limit_kw = np.fmax(_rated_kw(master), contract_kw)
    limit_amps = SPAN_OF_RATING * master["imax"]
    hours = np.fmax(master["interval_s"], interval) / 3600

    return {
        "kwh": limit_kw * hours,
        "u": SPAN_OF_NOMINAL * master["un"],
        "p": limit_kw,
        "q": limit_kw,
        "demand": limit_kw,
        "terminal_p": limit_kw,
        **COLUMN_BOUNDS,
        "i": limit_amps,
        "neutral": limit_amps,
    }


def _back_on_path(
    rows: _RegisterRows, last: _LastRegisters, known: Mask, out_of_line: Mask
) -> Mask:
    """True for registers that are back where they would be without the last fall or leap."""
    since = rows.at - last.before_read
    # A register that runs on gets there step by step, a return comes at once.
    at_once = (last.dip >= JUMP_KWH) & (last.before - last.register >= last.dip / 2)
    back = (
        known
        & (out_of_line | at_once)
        & (rows.register >= last.before)
        & (since <= RETURN_SECONDS)
    )
    most = rows.rated_kw * since / 3600 + JUMP_KWH
    back &= ~(rows.register - last.before > most)
    return back


def _drops(
    last: _LastRegisters, known: Mask, fell: Mask, confirmed: Mask, back: Mask
) -> Column:
    """The drops of rows as Registers has them."""
    in_line = np.where(known, 0.0, np.nan)
    drop = np.where(
        confirmed, last.register - last.odd, np.where(fell, np.nan, in_line)
    )
    return np.where(back & (last.dip > 0), -np.inf, drop)


def _lumps(rows: _RegisterRows, seconds: Column, delta: Column) -> Mask:
    """True for energy that makes up most of what the register rose by over missing intervals."""
    return (
        (seconds > LUMP_INTERVALS * rows.interval)
        & (rows.kwh >= 0.95 * delta)
        & (rows.kwh > LUMP_KWH)
    )


def _may_be_implausible(column: Column, bound: Column | None, *, signed: bool) -> bool:
    """True if a value is too high or too low to pass without a closer look."""
    low, high = np.fmin.reduce(column, axis=None), np.fmax.reduce(column, axis=None)
    most = 0xEEEE if bound is None else min(0xEEEE, np.fmin.reduce(bound))
    return bool(high >= most or low < (-most if signed else 0))


def _replaced(readings: Readings, **columns: Any) -> Readings:
    """The readings with some columns replaced."""
    return replace(readings, **columns) if columns else readings
