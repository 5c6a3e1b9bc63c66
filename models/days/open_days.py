"""The open days of every transformer area: readings by interval, and windows that close or change.

An area's watermark is the second-highest event time among its meters, so no single meter's clock
moves it. If only one meter has reported for two days of its time, its previous reading sets the
watermark. An interval closes one interval after its end, a day one to five hours after midnight,
both by the area's watermark. Later rows amend a closed window: it is judged again at the area's
next full hour, until the grace period of its day is over. Areas take turns at closing days and at
sealing days that can no longer change, so that readings of other areas need not wait long. All
sums are of integers or in a fixed order, so that the order of arrival cannot change them.

An area is named by its slot. Rows carry their area in `areas`; `slots` are distinct areas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from models.days.day_rows import (
    DayRows,
    StoredDays,
    balances,
    mean_degrees,
    member_columns,
    read_shares,
)
from models.days.end_of_day import (
    EndOfDayValues,
    end_of_day_cells,
    end_of_day_values,
    keep_end_of_day,
)
from models.days.hourly_voltages import hours_of, in_steps
from models.days.peaks import (
    EVEN_UNBALANCE,
    LOST_PHASE_VOLTAGE,
    keep_highest,
    peak_cells,
    spread_of,
    unbalance_factor,
)
from models.master.calendar import day_of, midnights
from models.master.registry import Registry
from models.state.cells import Array, Cells
from models.state.gaps import total, unknown, zeroed
from models.state.owners import Owner, Schema, State, StateError, described, within
from models.state.packing import check_day, packed_days, unpacked_days
from models.state.passes import unique_passes
from models.state.runs import ascending, runs, sizes_of, spread, whole_sums
from schemas.columns import (
    LATEST_TIME,
    Codes,
    Column,
    Mask,
    Readings,
    Status,
    Times,
    picked,
)
from schemas.units import DAY_SECONDS, HOUR_SECONDS

STAGGER_SECONDS = 900  # seconds from one turn of areas to the next
# Seconds after midnight of the first turn of areas, and how many turns there are.
CLOSE_SCHEDULE = HOUR_SECONDS, 16
SEAL_SCHEDULE = 5 * HOUR_SECONDS, 32  # after the grace period
# Days of an area that are closed at once, and sealed at once: few enough that each is
# scored by the peers' days before it.
DAYS_AT_ONCE = 3
PEER_AGE_SECONDS = 4 * DAY_SECONDS  # age of the newest peers' day that scores a day
SKIPPED_DAYS = 31  # silent days in a row that close as unread; older ones are skipped
AHEAD_DAYS = 3  # open days beyond tomorrow that one area may have
# Seconds of one meter's time without a reading of another meter, after which it moves
# its area's watermark alone.
LONE_METER_SECONDS = 2 * DAY_SECONDS
TENTH_MILLI = 10_000  # 0.1 mA in an ampere
INTERVAL_SUMS = (
    "gateway",
    "amps",
    "milli_va",
    "counted",
    "high_hz",
    "low_hz",
    "warmth",
)
DAY_SUMS = ("gateway_volts", "warmth")  # sums that make a day's rows
HUNDREDTHS_PER_DEGREE = 100  # of a degree
FREQUENCY_METERS = 3  # meters of an area that must agree on frequency: catalogue 1.5
NOMINAL_HZ = 50.0
# Marks of a member's interval; an unread interval has 0.
READ_ONCE, READ_AGAIN, ONLY_ESTIMATED = 1, 2, 3
PORTION_ROWS = 8192  # meters' days that are closed, amended or sealed together
PACKED_AREAS = 64  # areas packed together, few enough for the processor's cache
CAPACITY_STEP = 16  # larger areas get multiples of so many rows
CACHED_DAYS = 4  # days of an area whose positions are found without a look-up


class AreaIntervals(NamedTuple):
    """Rows of Intervals, of each area in order of time."""

    areas: Codes
    at: Times
    columns: dict[str, Column]


NO_VALUES = np.zeros(0)
NO_INTERVALS = AreaIntervals(
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    {
        "current": np.zeros((3, 0)),
        "kva": NO_VALUES,
        "neutral": NO_VALUES,
        "gateway": NO_VALUES,
        "coverage": NO_VALUES,
        "hz_above": NO_VALUES,
        "hz_below": NO_VALUES,
        "temperature": NO_VALUES,
    },
)


class DueWindow(NamedTuple):
    """Windows of some areas that fall due together, with their rows as they stand now."""

    action: str  # interval, day, amend or seal
    areas: Codes
    intervals: AreaIntervals
    # A day of each area, or as many passes over the areas as the most open days need.
    days: list[DayRows]


class WatermarkUpdate(NamedTuple):
    """A batch by area, with the watermark of each row's area before and after the row."""

    order: Codes  # rows by area, in order of arrival
    starts: Codes  # of each area's rows in `order`
    before: Times
    after: Times
    late: Mask  # its day is sealed, or older than the area's history
    lone_meter: Mask  # the row's own meter alone sets the watermark


class Facts(NamedTuple):
    """The values that open days keep of every row of a batch; phase columns are (3, rows)."""

    kwh: Column  # secondary
    amps: Column  # primary
    neutral: Column  # A, primary
    kva: Column  # primary
    unbalance: Column  # of the voltages
    by_magnitude: Mask  # the unbalance comes from magnitudes alone
    frequency: Column | None  # Hz; None without any
    temperature: Column | None  # deg C; None without any
    returned: Times  # energy that flowed back in the interval, micro kWh secondary
    read: Mask  # was read, not estimated
    volts: Column  # (3, rows) V
    has_voltage: Mask  # any phase has a voltage
    energised: Mask  # any phase has a voltage above half of nominal
    gateway: Mask
    stale: Mask  # repeats the reading before it; found when it is judged
    end_of_day: EndOfDayValues


class OpenDay:
    """One area's local day: its members' rows and its sums, in the pools or packed."""

    def __init__(
        self, start: int, end: int, *, closed: bool, packed: bytes = b""
    ) -> None:
        self.start = start
        self.end = end
        self.closed = closed
        self.packed = packed  # empty while the day stands in the pools
        # Its rows' place in the pool of rows, and its sums' slot in the pool of sums.
        self.base = self.size = self.sums_slot = 0


# Columns of an open day in its area's positions; closed_end is 0 while it is not closed.
POSITION_COLUMNS = ("day", "base", "size", "sums_slot", "start", "closed_end")


class _AreaState:
    """The members and open days of one area."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self.open_days: dict[int, OpenDay] = {}
        self.dirty: set[int] = set()  # days with a closed window to amend


class _AreaRuns:
    """Rows sorted by area, for running values that begin anew with each area."""

    def __init__(self, areas: Codes) -> None:
        self.starts = runs(areas)
        self.slots = areas[self.starts]
        self.sizes = sizes_of(self.starts, len(areas))
        self.ends = self.starts + self.sizes - 1
        self.first = np.repeat(self.starts, self.sizes)  # the first row of a row's area
        # Added to times, it lets one running maximum serve all areas.
        self._apart = np.repeat(np.arange(len(self.starts)) << 40, self.sizes)

    def highest(self, times: Times, least: Times) -> Times:
        """The highest time up to each row of its area, and at least the area's `least`."""
        floored = np.maximum(times, np.repeat(least, self.sizes))
        return np.maximum.accumulate(floored + self._apart) - self._apart

    def before(self, after: Array, first: Array) -> Array:
        """The value of the row before each row; of an area's first row, the area's `first`."""
        shifted = np.concatenate([after[:1], after[:-1]])
        shifted[self.starts] = first
        return shifted


class _UniqueRows(NamedTuple):
    """Rows to store, sorted by area, of which no two have the same meter and interval."""

    rows: Codes  # their numbers in the batch
    areas: Codes
    meters: Codes
    days: Codes
    at: Times
    watermarks: Times  # of the row's area before it
    in_order: Mask

    def select(self, mask: Mask) -> _UniqueRows:
        """The rows of a mask."""
        return _UniqueRows._make(column[mask] for column in self)


class _Targets(NamedTuple):
    """The cells of the pools to which rows are added."""

    rows: Codes  # their numbers in the batch
    members: Codes  # in the pool of members' rows
    steps: Codes  # intervals of the day
    sums_slots: Codes  # in the pool of areas' sums
    since: Times  # seconds after midnight
    first: Mask  # the first reading of its member's interval
    read: Mask  # was read, not estimated

    def select(self, mask: Mask) -> _Targets:
        """The targets of a mask."""
        return _Targets._make(column[mask] for column in self)


class _DaySource(NamedTuple):
    """The cells of some of the days asked for, in the pools or unpacked."""

    which: list[int]  # days, as numbers among the days asked for
    rows: dict[str, Array]
    sums: dict[str, Array]
    bases: Codes  # of each day's rows
    sizes: Codes  # rows that each day has
    sums_slots: Codes


class _DaySums(NamedTuple):
    """The sums of some days of areas."""

    which: Codes  # areas, as numbers among the areas asked for
    days: Codes
    sums: dict[str, Array]
    slots: Codes  # of each day in `sums`


class OpenDays(Owner):
    """The watermarks and open days of all areas."""

    def __init__(
        self, registry: Registry, zone: str, interval: int, grace: int
    ) -> None:
        self._registry = registry
        self._zone = zone
        self._interval = interval
        self._grace = grace
        peers_are_sealed = grace <= PEER_AGE_SECONDS - DAY_SECONDS
        self._days_at_once = DAYS_AT_ONCE if peers_are_sealed else 1
        self._midnights = midnights(zone)
        self.areas: dict[int, _AreaState] = {}
        self._name_hashes = np.zeros(0, np.int64)  # by area, for its turn

        self.watermarks = Cells(  # of an area
            highest=np.int64(0),  # highest event time
            holder=np.int32(-1),  # the meter with the highest event time
            watermark=np.int64(0),
            latest=np.int32(-1),  # the meter that read last
            since=np.int64(0),  # since when only that meter has read
            closed_to=np.int64(0),  # intervals that end by then are closed
            first_day=np.int32(0),  # the watermark's first day, 0 before
            last_day=np.int32(0),  # the last closed day
            sealed_day=np.int32(0),  # the last sealed day
        )
        self._member_numbers = Cells(number=np.int32(-1))  # of a meter slot in its area

        steps = max(-(-25 * HOUR_SECONDS // interval), 3)  # a spike needs three
        self._hour_of_step = hours_of(steps, interval)  # whose voltage a step keeps
        hours = max(self._hour_of_step.max() + 1, 2)
        hourly = np.zeros(hours, np.uint16)  # in steps of voltage, 0 unknown
        self.member_rows = Cells(  # of a member's day
            kwh=np.full(steps, np.nan, np.float32),
            seen=np.zeros(steps, np.uint8),  # marks of intervals
            reads=np.int32(0),
            volted=np.int32(0),  # readings with a voltage
            live=np.int32(0),  # readings above half of the nominal voltage
            back=np.int64(0),  # returned energy, micro kWh
            volts=hourly,
            **peak_cells(interval),
            **end_of_day_cells(),
        )
        self._area_sums = Cells(  # of an area's day, over its users
            amps=np.zeros((3, steps), np.int64),  # 0.1 mA primary
            milli_va=np.zeros(steps, np.int64),
            counted=np.zeros(steps, np.int32),
            gateway_volts=np.stack([hourly] * 3),
            gateway=np.full((5, steps), np.nan),  # A, B, C, kVA, neutral; A primary
            # The highest frequencies, and twice the nominal less the lowest, ascending.
            high_hz=np.zeros((FREQUENCY_METERS, steps), np.float32),
            low_hz=np.zeros((FREQUENCY_METERS, steps), np.float32),
            warmth=np.zeros((2, steps), np.int64),  # 0.01 deg C, and readings in it
        )
        self._free_rows: dict[int, list[int]] = {}  # bases by size
        self._free_sums: list[int] = []
        # Areas with something to amend, or with a closed day that is not packed.
        self._areas_to_amend: set[int] = set()
        self._positions = Cells(  # of an area's latest days in the pools
            day=np.full(CACHED_DAYS, -1, np.int32),
            base=np.zeros(CACHED_DAYS, np.int32),
            size=np.zeros(CACHED_DAYS, np.int32),
            sums_slot=np.zeros(CACHED_DAYS, np.int32),
            start=np.zeros(CACHED_DAYS, np.int64),
            closed_end=np.zeros(CACHED_DAYS, np.int64),
            members=np.int32(0),  # members that are numbered
        )

    # ---- Watermarks ----

    def advance_watermarks(
        self, areas: Codes, meters: Codes, at: Times, moves: Mask
    ) -> WatermarkUpdate:
        """Advances the areas' watermarks by the rows of `moves`."""
        sorted_by_area = (areas[1:] >= areas[:-1]).all()
        order = np.arange(len(at))
        if not sorted_by_area:
            order = np.argsort(areas, kind="stable")
        sorted_areas = areas[order]
        starts = runs(sorted_areas)
        self._begin_areas(sorted_areas[starts])

        before = self.watermarks["watermark"][areas]
        first_days = self.watermarks["first_day"][areas]
        after = before.copy()
        lone_meter = np.zeros(len(at), bool)
        if moves.any():
            moving = moves[order]
            movers = order if moves.all() else order[moving]
            before[movers], after[movers], lone_meter[movers] = self._move_watermarks(
                areas[movers], meters[movers], at[movers]
            )
            if len(movers) < len(at):
                _follow_movers(order, starts, moving, before, after)
            self._restart_histories(areas, order, before, after, first_days)

        days = day_of(at if moves.all() else np.where(moves, at, 0), self._zone)
        sealed = self._midnights[days + 1] + self._grace <= before
        late = (before > 0) & (sealed | (days < first_days))
        return WatermarkUpdate(order, starts, before, after, moves & late, lone_meter)

    def _begin_areas(self, slots: Codes) -> None:
        """Makes room for areas that are new."""
        for slot in slots.tolist():
            if slot not in self.areas:
                self.areas[slot] = _AreaState()
                self.watermarks.reserve(slot + 1)
                self._positions.reserve(slot + 1)

    def _move_watermarks(
        self, areas: Codes, meters: Codes, at: Times
    ) -> tuple[Times, Times, Mask]:
        """Moves watermarks by rows sorted by area: before and after each row, and lone meters."""
        cells = self.watermarks
        by_area = _AreaRuns(areas)
        slots = by_area.slots
        first_highest = cells["highest"][slots]
        first_holder = cells["holder"][slots]
        first_watermark = cells["watermark"][slots]

        # The highest event time of the area, and the meter that holds it.
        highest = by_area.highest(at, first_highest)
        highest_before = by_area.before(highest, first_highest)
        rises = np.where(at > highest_before, np.arange(len(at)), -1)
        latest_rise = np.maximum.accumulate(rises)
        holders = np.where(
            latest_rise >= by_area.first,
            meters[latest_rise],
            np.repeat(first_holder, by_area.sizes),
        )

        # A row of another meter than the holder raises the second-highest event time.
        lone_meter = self._lone_meters(by_area, areas, meters, at)
        raises = (by_area.before(holders, first_holder) != meters) | lone_meter
        second = np.where(raises, np.minimum(at, highest_before), 0)
        watermark = by_area.highest(second, first_watermark)

        cells["highest"][slots] = highest[by_area.ends]
        cells["holder"][slots] = holders[by_area.ends]
        cells["watermark"][slots] = watermark[by_area.ends]
        return by_area.before(watermark, first_watermark), watermark, lone_meter

    def _lone_meters(
        self, by_area: _AreaRuns, areas: Codes, meters: Codes, at: Times
    ) -> Mask:
        """True for rows whose meter is its area's only one, or alone for LONE_METER_SECONDS."""
        cells = self.watermarks
        slots = by_area.slots
        begins = runs(areas, meters)
        run = np.repeat(begins, sizes_of(begins, len(at)))
        since = at[run]

        # The meter that read last in the batch before goes on.
        goes_on = meters[by_area.starts] == cells["latest"][slots]
        if goes_on.any():
            since = np.where(
                np.repeat(goes_on, by_area.sizes) & (run == by_area.first),
                np.repeat(cells["since"][slots], by_area.sizes),
                since,
            )

        cells["latest"][slots] = meters[by_area.ends]
        cells["since"][slots] = since[by_area.ends]
        only_meter = np.repeat(self._registry.size(slots) == 1, by_area.sizes)
        return (at - since > LONE_METER_SECONDS) | only_meter

    def _restart_histories(
        self,
        areas: Codes,
        order: Codes,
        before: Times,
        after: Times,
        first_days: Codes,
    ) -> None:
        """Restarts the history of areas whose watermarks leap; later rows get the new first day."""
        for place in np.flatnonzero((after - before > self._grace)[order]).tolist():
            row = order[place]
            began = self._restart_history(
                int(areas[row]), int(before[row]), int(after[row])
            )
            if began:
                later = order[place + 1 :]
                first_days[later[areas[later] == areas[row]]] = began

    def _restart_history(self, slot: int, before: int, after: int) -> int:
        """The new first day of an area whose watermark leaps; 0 if its first day has closed.

        So a clock that is far behind, among the first two to report, does not stretch the history.
        """
        cells = self.watermarks
        first = cells["first_day"][slot]
        if first:
            close_delay = self._delay_after_midnight(slot, CLOSE_SCHEDULE)
            if before >= self._midnights[first + 1] + close_delay:
                return 0

        first = int(day_of(np.array([after]), self._zone)[0])
        cells["first_day"][slot] = first
        cells["last_day"][slot] = first - 1
        cells["sealed_day"][slot] = first - 1
        return first

    # ---- Storing rows ----

    def store_rows(
        self,
        areas: Codes,
        at: Times,
        watermarks: Times,
        meters: Codes,
        facts: Facts,
        rows: Codes,
        in_order: Mask,
    ) -> Mask:
        """Writes some rows of a batch into their days; returns which of them are duplicates."""
        duplicates = np.zeros(len(rows), bool)
        self._member_numbers.reserve(len(self._registry.meter_index))

        order = np.arange(len(rows))
        row_areas = areas[rows]
        if (row_areas[1:] < row_areas[:-1]).any():
            order = np.argsort(row_areas, kind="stable")
            rows = rows[order]

        days = day_of(at[rows], self._zone)
        steps = days * 128 + (at[rows] - self._midnights[days] - 1) // self._interval
        for one_pass in unique_passes(meters[rows].astype(np.int64) << 32 | steps):
            chosen = rows[one_pass]
            unique_rows = _UniqueRows(
                rows=chosen,
                areas=areas[chosen],
                meters=meters[chosen],
                days=days[one_pass],
                at=at[chosen],
                watermarks=watermarks[chosen],
                in_order=in_order[chosen],
            )
            duplicates[order[one_pass]] = self._write_unique(unique_rows, facts)
        return duplicates

    def _write_unique(self, stored: _UniqueRows, facts: Facts) -> Mask:
        """Writes rows into their days; returns which of them are duplicates."""
        self._number_members(stored.areas, stored.meters)
        base, sums_slots, start, closed_end = self._positions_by_row(stored)

        # A day may be given up for nearer days of the same rows: its rows are dropped.
        kept = base >= 0
        if not kept.all():
            duplicates = np.zeros(len(kept), bool)
            duplicates[kept] = self._write_unique(stored.select(kept), facts)
            return duplicates

        members = base + self._member_numbers["number"][stored.meters]
        since = stored.at - start
        steps = (since - 1) // self._interval
        read = facts.read[stored.rows]
        duplicates, seen = self._write_energy(
            members, steps, facts.kwh[stored.rows], read, stored.in_order
        )
        self._mark_amended(stored, ~duplicates, closed_end)

        targets = _Targets(stored.rows, members, steps, sums_slots, since, ~seen, read)
        added = targets.first | stored.in_order
        if not added.all():
            targets = targets.select(added)
        self._add_rows(targets, facts)
        return duplicates

    def _positions_by_row(self, stored: _UniqueRows) -> Codes:
        """Base, sums' slot, start and closed end of each row's day; base -1 if it is given up."""
        begins = runs(stored.areas, stored.days)
        sizes = sizes_of(begins, len(stored.rows))
        positions = self._positions_of(
            stored.areas[begins], stored.days[begins], stored.watermarks[begins]
        )
        return np.repeat(positions, sizes, axis=1)

    def _mark_amended(self, stored: _UniqueRows, new: Mask, closed_end: Times) -> None:
        """Notes the days in which a new row lies in a closed window."""
        closed_to = self.watermarks["closed_to"][stored.areas]
        amends = new & (stored.at <= np.maximum(closed_end, closed_to))
        slots, days = stored.areas[amends], stored.days[amends]
        for slot, day in set(zip(slots.tolist(), days.tolist(), strict=True)):
            self._mark_dirty(slot, day)

    def _write_energy(
        self, members: Codes, steps: Codes, kwh: Column, read: Mask, in_order: Mask
    ) -> tuple[Mask, Mask]:
        """Writes the energy of rows; returns duplicates, and rows of intervals seen before.

        The first reading replaces an estimate. Energy of the next row in order adds up, other
        energy of an interval that was read once replaces it.
        """
        cells = self.member_rows
        old_marks = cells["seen"][steps, members]
        seen: Mask = (old_marks > 0) & ~(read & (old_marks == ONLY_ESTIMATED))
        duplicates = seen
        marks = np.where(read, READ_ONCE, ONLY_ESTIMATED)
        if seen.any():
            before = cells["kwh"][steps, members]
            revised = (
                (old_marks == READ_ONCE)
                & ~in_order
                & ~np.isnan(kwh)
                & ~np.isnan(before)
                & (kwh != before)
            )
            duplicates = seen & ~in_order & ~revised
            kwh = np.where(
                seen & in_order & ~np.isnan(before),
                before + zeroed(kwh),
                np.where(duplicates, before, kwh),
            )
            read_again = in_order & (old_marks != ONLY_ESTIMATED)
            marks = np.where(seen, np.where(read_again, READ_AGAIN, old_marks), marks)

        cells["kwh"][steps, members] = kwh
        cells["seen"][steps, members] = marks
        return duplicates, seen

    def _add_rows(self, targets: _Targets, facts: Facts) -> None:
        """Adds everything but energy to the members' days and the areas' sums."""
        rows, members = targets.rows, targets.members
        cells = self.member_rows
        _add(cells["reads"], members, targets.read)
        _add(cells["volted"], members, facts.has_voltage[rows])
        _add(cells["live"], members, facts.energised[rows])
        returned = facts.returned[rows]
        if returned.any():
            _add(cells["back"], members, returned)

        self._keep_peaks(rows[targets.first], members[targets.first], facts)
        self._keep_hourly_volts(targets, facts)
        sound: Codes | slice = slice(None)
        if facts.stale.any():
            sound = np.flatnonzero(~facts.stale[rows])
        keep_end_of_day(
            cells,
            facts.end_of_day,
            rows[sound],
            members[sound],
            targets.since[sound],
            targets.first[sound],
        )
        self._add_to_sums(targets, facts)

    def _keep_peaks(self, rows: Codes, members: Codes, facts: Facts) -> None:
        """Keeps the highest loads and unbalances of each day."""
        for name, column, least in (
            ("loads", facts.kva, 0),
            ("unbalances", facts.unbalance, EVEN_UNBALANCE),
        ):
            values = column[rows]
            known = ~np.isnan(values)
            if known.any():
                _add(self.member_rows[f"{name}_count"], members, known)
                high = values > least
                keep_highest(self.member_rows[name], members[high], values[high])

        by_magnitude = facts.by_magnitude[rows]
        if by_magnitude.any():
            _add(self.member_rows["by_magnitude"], members, by_magnitude)

    def _keep_hourly_volts(self, targets: _Targets, facts: Facts) -> None:
        """Keeps the highest voltage of each hour's last interval: phase A's, all of the gateway."""
        ends_hour = self._hour_of_step[targets.steps] >= 0
        kept = np.flatnonzero(ends_hour & ~facts.stale[targets.rows])
        if not kept.size:
            return

        rows = targets.rows[kept]
        members = targets.members[kept]
        hours = self._hour_of_step[targets.steps[kept]]
        volts = in_steps(facts.volts[:, rows])
        highest = self.member_rows["volts"]
        highest[hours, members] = np.maximum(highest[hours, members], volts[0])

        gateway = facts.gateway[rows]
        if gateway.any():
            highest = self._area_sums["gateway_volts"]
            hours = hours[gateway]
            slots = targets.sums_slots[kept][gateway]
            highest[:, hours, slots] = np.maximum(
                highest[:, hours, slots], volts[:, gateway]
            )

    def _add_to_sums(self, targets: _Targets, facts: Facts) -> None:
        """Adds rows to the sums of their intervals."""
        rows = targets.rows
        gateway = facts.gateway[rows]
        kva = facts.kva[rows]
        amps = facts.amps[:, rows]
        if gateway.any():
            sums = self._area_sums["gateway"]
            steps = targets.steps[gateway]
            slots = targets.sums_slots[gateway]
            sums[:3, steps, slots] = amps[:, gateway]
            sums[3, steps, slots] = kva[gateway]
            sums[4, steps, slots] = facts.neutral[rows][gateway]

        if facts.frequency is not None:
            self._keep_frequencies(targets, facts.frequency[rows], facts.stale[rows])
        if facts.temperature is not None:
            self._add_temperatures(targets, facts.temperature[rows], facts.stale[rows])

        # The first reading of a user counts for the interval.
        users = ~gateway & ~np.isnan(kva) & targets.first
        if users.any():
            self._add_users(targets, users, kva[users], amps[:, users])

    def _keep_frequencies(self, targets: _Targets, hertz: Column, stale: Mask) -> None:
        """Keeps the highest and lowest frequencies of each interval."""
        known = np.flatnonzero(~np.isnan(hertz) & targets.first & ~stale)
        count = self._area_sums["high_hz"].shape[-1]
        places = targets.steps[known] * count + targets.sums_slots[known]
        keep_highest(_flat(self._area_sums["high_hz"]), places, hertz[known])
        keep_highest(
            _flat(self._area_sums["low_hz"]),
            places,
            np.float32(2 * NOMINAL_HZ) - hertz[known],
        )

    def _add_temperatures(
        self, targets: _Targets, degrees: Column, stale: Mask
    ) -> None:
        """Adds temperatures to the sums of their intervals."""
        known = np.flatnonzero(~np.isnan(degrees) & targets.first & ~stale)
        hundredths = degrees[known].astype(np.float64) * HUNDREDTHS_PER_DEGREE
        cells = targets.steps[known], targets.sums_slots[known]
        sums, counts = self._area_sums["warmth"]
        np.add.at(sums, cells, np.rint(hundredths).astype(np.int64))
        np.add.at(counts, cells, 1)

    def _add_users(
        self, targets: _Targets, users: Mask, kva: Column, amps: Column
    ) -> None:
        """Adds the load of users, the rows of a mask, to the sums of their intervals."""
        sums = self._area_sums
        step_count = sums["counted"].shape[0]
        places = (targets.sums_slots * step_count + targets.steps)[users]
        begins = runs(places)
        slots, steps = divmod(places[begins], step_count)

        counts = sizes_of(begins, len(places)).astype(np.int32)
        np.add.at(sums["counted"], (steps, slots), counts)
        milli_va = np.rint(kva * 1e6).astype(np.int64)
        load = np.add.reduceat(milli_va, begins)
        np.add.at(sums["milli_va"], (steps, slots), load)
        tenths = np.rint(zeroed(amps) * TENTH_MILLI).astype(np.int64)
        currents = np.add.reduceat(tenths, begins, axis=1)
        for phase_sums, current in zip(sums["amps"], currents, strict=True):
            np.add.at(phase_sums, (steps, slots), current)

    def correct(
        self, areas: Codes, meters: Codes, at: Times, stored: Column, kwh: Column
    ) -> None:
        """Replaces energy that was stored, unless another row has changed it since."""
        cells = self.member_rows
        days = day_of(at, self._zone)
        rows = (areas.tolist(), days.tolist(), meters.tolist(), at.tolist())
        for slot, day, meter, end, old, new in zip(*rows, stored, kwh, strict=True):
            open_days = self.areas[slot].open_days
            if day <= self.watermarks["sealed_day"][slot] or day not in open_days:
                continue

            open_day = self._open_day(slot, day, 0)
            cell = (
                (end - open_day.start - 1) // self._interval,
                open_day.base + self._member_numbers["number"][meter],
            )
            unchanged = np.array_equal(cells["kwh"][cell], old, equal_nan=True)
            if unchanged and cells["seen"][cell] == READ_ONCE:
                cells["kwh"][cell] = new
                if open_day.closed:
                    self._mark_dirty(slot, day)

    def _mark_dirty(self, slot: int, day: int) -> None:
        """Notes that a closed window of an area's day is to be amended."""
        self.areas[slot].dirty.add(day)
        self._areas_to_amend.add(slot)

    # ---- Places of open days in the pools ----

    def unpacking_rows(self, slots: Codes, at: Times) -> tuple[Codes, Codes]:
        """The first row of each packed day, and how many members the day has."""
        days = day_of(at, self._zone)
        known = np.flatnonzero(slots < self._positions["day"].shape[1])
        cached_days = self._positions["day"][days[known] % CACHED_DAYS, slots[known]]
        uncached = known[cached_days != days[known]]

        areas_and_days = slots[uncached].astype(np.int64) << 32 | days[uncached]
        _, first = np.unique(areas_and_days, return_index=True)
        firsts = uncached[np.sort(first)]
        packed = [
            self._is_packed(slot, day)
            for slot, day in zip(
                slots[firsts].tolist(), days[firsts].tolist(), strict=True
            )
        ]
        rows = firsts[np.array(packed, np.bool_)]
        return rows, self._positions["members"][slots[rows]]

    def _is_packed(self, slot: int, day: int) -> bool:
        """True if the area has the day open and packed."""
        state = self.areas.get(slot)
        open_day = state.open_days.get(day) if state else None
        return open_day is not None and bool(open_day.packed)

    def _number_members(self, areas: Codes, meters: Codes) -> None:
        """Numbers the meters, sorted by area, that have no number in their area yet."""
        unnumbered = np.flatnonzero(self._member_numbers["number"][meters] < 0)
        if not len(unnumbered):
            return
        _, firsts = np.unique(meters[unnumbered], return_index=True)
        fresh = unnumbered[np.sort(firsts)]
        areas, meters = areas[fresh], meters[fresh]

        begins = runs(areas)
        sizes = sizes_of(begins, len(areas))
        slots = areas[begins]
        counts = self._positions["members"]
        offsets = np.repeat(counts[slots] - begins, sizes)
        self._member_numbers["number"][meters] = np.arange(len(meters)) + offsets
        counts[slots] += sizes

        numbered = meters.tolist()
        for slot, begin, size in zip(
            slots.tolist(), begins.tolist(), sizes.tolist(), strict=True
        ):
            self.areas[slot].members += numbered[begin : begin + size]

    def _positions_of(self, slots: Codes, days: Codes, watermarks: Times) -> Codes:
        """Base, sums' slot, start and closed end of days of areas; base -1 if a day is given up."""
        cells = self._positions
        way = days % CACHED_DAYS
        cached = (cells["day"][way, slots] == days) & (
            cells["size"][way, slots] >= cells["members"][slots]
        )
        positions = np.array(
            [
                cells[name][way, slots]
                for name in ("base", "sums_slot", "start", "closed_end")
            ]
        )
        if cached.all():
            return positions

        # Opening a day ahead of the watermark may give up another one: look up all.
        ahead = (watermarks > 0) & (self._midnights[days - 1] >= watermarks)
        if (ahead & ~cached).any():
            cached[:] = False
        others = np.flatnonzero(~cached)
        owners = list(zip(slots[others].tolist(), days[others].tolist(), strict=True))
        opened = [
            self._open_day(*owner, watermark)
            for owner, watermark in zip(
                owners, watermarks[others].tolist(), strict=True
            )
        ]
        for n, (slot, day), open_day in zip(
            others.tolist(), owners, opened, strict=True
        ):
            kept = self.areas[slot].open_days.get(day) is open_day
            positions[:, n] = (
                open_day.base if kept else -1,
                open_day.sums_slot,
                open_day.start,
                open_day.end if open_day.closed else 0,
            )
        return positions

    def _open_day(self, slot: int, day: int, watermark: int) -> OpenDay:
        """The open day of an area, in the pools with room for all members, new if need be."""
        state = self.areas[slot]
        open_day = state.open_days.get(day)
        if open_day is None:
            if watermark and self._midnights[day - 1] >= watermark:
                self._drop_far_days(slot, day, watermark)
            start, end = self._midnights[day : day + 2].tolist()
            closed = bool(day <= self.watermarks["last_day"][slot])
            open_day = state.open_days[day] = OpenDay(start, end, closed=closed)

        if open_day.packed or not open_day.size:
            self._allocate(open_day)
        if open_day.size < len(state.members):
            self._grow(open_day, len(state.members))
        if open_day.closed:
            self._areas_to_amend.add(slot)

        position = (
            day,
            open_day.base,
            open_day.size,
            open_day.sums_slot,
            open_day.start,
            open_day.end if open_day.closed else 0,
        )
        for name, value in zip(POSITION_COLUMNS, position, strict=True):
            self._positions[name][day % CACHED_DAYS, slot] = value
        return open_day

    def _drop_far_days(self, slot: int, day: int, watermark: int) -> None:
        """Drops open days so that, with a new day, at most AHEAD_DAYS lie beyond tomorrow."""
        days = {*self.areas[slot].open_days, day}
        ahead = sorted(day for day in days if self._midnights[day - 1] >= watermark)
        for far in ahead[AHEAD_DAYS:]:
            if far in self.areas[slot].open_days:
                self._drop_days(slot, [far])

    def _allocate(self, open_day: OpenDay) -> None:
        """Gives an open day, new or packed, its place in the pools."""
        if self._free_sums:
            open_day.sums_slot = self._free_sums.pop()
        else:
            open_day.sums_slot = self._area_sums.used
        self._area_sums.reserve(open_day.sums_slot + 1)

        if open_day.packed:
            unpacked = unpacked_days(
                [open_day.packed], self.member_rows.empty, self._area_sums.empty
            )
            size = int(unpacked.sizes[0])
            self._grow(open_day, size)
            for name, array in self.member_rows.arrays.items():
                array[..., open_day.base : open_day.base + size] = unpacked.members[
                    name
                ]
            for name, array in self._area_sums.arrays.items():
                array[..., open_day.sums_slot] = unpacked.areas[name][..., 0]
            open_day.packed = b""

    def _grow(self, open_day: OpenDay, members: int) -> None:
        """Moves an open day's rows to where there is room for so many members."""
        size = _capacity_for(members)
        spare = self._free_rows.get(size)
        base = spare.pop() if spare else self.member_rows.used
        self.member_rows.reserve(base + size)
        if open_day.size:
            old = slice(open_day.base, open_day.base + open_day.size)
            for array in self.member_rows.arrays.values():
                array[..., base : base + open_day.size] = array[..., old]
            self._release_rows([open_day])
        open_day.base, open_day.size = base, size

    def _release_rows(self, open_days: Sequence[OpenDay]) -> None:
        """Gives the rows of open days back to the pool."""
        bases, sizes = np.array([(day.base, day.size) for day in open_days]).T
        self.member_rows.clear(spread(bases, sizes))
        for day in open_days:
            self._free_rows.setdefault(day.size, []).append(day.base)

    def _release_positions(self, open_days: Sequence[OpenDay]) -> None:
        """Gives the rows and sums of open days back to the pools."""
        if not open_days:
            return
        self._release_rows(open_days)
        sums_slots = [day.sums_slot for day in open_days]
        self._area_sums.clear(np.array(sums_slots))
        self._free_sums += sums_slots
        for day in open_days:
            day.base = day.size = day.sums_slot = 0

    def _drop_days(self, slot: int, days: Sequence[int]) -> None:
        """Drops open days of an area."""
        cached_days = self._positions["day"]
        for day in days:
            if cached_days[day % CACHED_DAYS, slot] == day:
                cached_days[day % CACHED_DAYS, slot] = -1
        dropped = [self.areas[slot].open_days.pop(day) for day in days]
        self._release_positions([day for day in dropped if not day.packed])

    def _pack(self, areas_and_days: Sequence[tuple[int, int]]) -> None:
        """Packs open days of areas and takes them out of the pools."""
        if not areas_and_days:
            return
        open_days = [self.areas[slot].open_days[day] for slot, day in areas_and_days]
        packed = self._as_packed(areas_and_days)
        for open_day, as_bytes in zip(open_days, packed, strict=True):
            open_day.packed = as_bytes

        slots, days = np.array(areas_and_days).T
        cached_days = self._positions["day"]
        cached = cached_days[days % CACHED_DAYS, slots] == days
        cached_days[days[cached] % CACHED_DAYS, slots[cached]] = -1
        self._release_positions(open_days)

    def _as_packed(self, areas_and_days: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of open days of areas."""
        open_days = [self.areas[slot].open_days[day] for slot, day in areas_and_days]
        members = [len(self.areas[slot].members) for slot, _ in areas_and_days]
        sizes = np.array(
            [
                min(open_day.size, count)
                for open_day, count in zip(open_days, members, strict=True)
            ],
            np.int64,
        )

        packed: list[bytes] = []
        for start in range(0, len(open_days), PACKED_AREAS):
            group = slice(start, start + PACKED_AREAS)
            days = self._stored_days(
                open_days[group], sizes[group], self._area_sums.empty
            )
            packed += packed_days(days.rows, days.sums, days.sizes)
        return packed

    def _stored_days(
        self, open_days: Sequence[OpenDay | None], sizes: Codes, sums: Iterable[str]
    ) -> StoredDays:
        """The rows of areas' days, of so many members each, and the named sums; else fresh."""
        empty = {name: self._area_sums.empty[name] for name in sums}
        pooled = [n for n, day in enumerate(open_days) if day and not day.packed]
        packed = [n for n, day in enumerate(open_days) if day and day.packed]
        sources: list[_DaySource] = []
        if pooled:
            source = self._pooled_source(open_days, pooled)
            if len(pooled) == len(open_days) and (source.sizes >= sizes).all():
                day_sums = {
                    name: np.take(source.sums[name], source.sums_slots, axis=-1)
                    for name in empty
                }
                rows = self.member_rows.read(spread(source.bases, sizes))
                return StoredDays(rows, day_sums, sizes, blank=False)
            sources.append(source)

        if packed:
            source = self._packed_source(open_days, packed, empty)
            if len(packed) == len(open_days) and np.array_equal(source.sizes, sizes):
                return StoredDays(source.rows, source.sums, sizes, blank=False)
            sources.append(source)
        return self._gathered_days(sources, sizes, empty)

    def _pooled_source(
        self, open_days: Sequence[OpenDay | None], which: list[int]
    ) -> _DaySource:
        """The days that stand in the pools."""
        pooled = [day for day in open_days if day and not day.packed]
        places = [(day.base, day.size, day.sums_slot) for day in pooled]
        bases, sizes, sums_slots = np.array(places).T
        return _DaySource(
            which,
            self.member_rows.arrays,
            self._area_sums.arrays,
            bases,
            sizes,
            sums_slots,
        )

    def _packed_source(
        self,
        open_days: Sequence[OpenDay | None],
        which: list[int],
        sums: dict[str, Array],
    ) -> _DaySource:
        """The days that are packed, with these sums."""
        unpacked = unpacked_days(
            [day.packed for day in open_days if day and day.packed],
            self.member_rows.empty,
            sums,
        )
        bases = np.cumsum(unpacked.sizes) - unpacked.sizes
        return _DaySource(
            which,
            unpacked.members,
            unpacked.areas,
            bases,
            unpacked.sizes,
            np.arange(len(which)),
        )

    def _gathered_days(
        self, sources: Sequence[_DaySource], sizes: Codes, empty: dict[str, Array]
    ) -> StoredDays:
        """Fresh cells of days of so many members each, with the cells of the sources in them."""
        members = int(sizes.sum())
        begins = np.cumsum(sizes) - sizes
        rows = _fresh_cells(self.member_rows.empty, members if sources else 1)
        day_sums = _fresh_cells(empty, len(sizes) if sources else 1)
        for source in sources:
            copied = np.minimum(source.sizes, sizes[source.which])
            target_rows = spread(begins[source.which], copied)
            source_rows = spread(source.bases, copied)
            for name, array in rows.items():
                array[..., target_rows] = source.rows[name][..., source_rows]
            for name, array in day_sums.items():
                array[..., source.which] = source.sums[name][..., source.sums_slots]
        return StoredDays(rows, day_sums, sizes, blank=not sources)

    # ---- Falling due ----

    def rows_until_due(
        self,
        update: WatermarkUpdate,
        areas: Codes,
        at: Times,
        unsettled: Collection[int],
    ) -> Iterator[tuple[Codes, dict[int, int]]]:
        """Rows of a batch to judge and store together, and the watermarks areas reach after them.

        A window closes on exactly the rows that came before it was due. If a row of an area comes
        after its window closed, or the area is unsettled, its rows come round by round, else all
        at once.
        """
        order, starts, before, after, _, _ = update
        slow = self._slow_rows(areas, at, before, unsettled)
        moves = order[(before // self._interval != after // self._interval)[order]]
        if not slow.all():
            urgent = self._urgent_moves(areas[moves], before[moves], after[moves])
            moves = moves[slow[moves] | urgent]

        # A row's round is how often its area's watermark has moved before it.
        moved = np.zeros(len(at), np.int64)
        moved[moves] = 1
        moved = moved[order]
        rounds_by_area = np.cumsum(moved) - moved
        rounds_by_area -= np.repeat(rounds_by_area[starts], sizes_of(starts, len(at)))
        rounds = np.empty(len(at), np.int64)
        rounds[order] = rounds_by_area

        due = _watermarks_by_round(rounds[moves], areas[moves], after[moves])
        if slow.any():
            rounds[~slow] = 0
            yield from _rows_by_round(rounds, due)
            return
        yield np.arange(len(at)), due[0] if due else {}
        for watermarks in due[1:]:
            yield order[:0], watermarks

    def _slow_rows(
        self, areas: Codes, at: Times, before: Times, unsettled: Collection[int]
    ) -> Mask:
        """True for rows of areas that are unsettled or have a row after its window closed."""
        closed_to = (before // self._interval - 1) * self._interval
        out_of_order = np.unique(areas[at <= closed_to])
        if len(out_of_order) or unsettled:
            return np.isin(areas, [*out_of_order.tolist(), *unsettled])
        return np.zeros(len(at), bool)

    def _urgent_moves(self, areas: Codes, before: Times, after: Times) -> Mask:
        """The moves of watermarks whose windows cannot wait for a later move of the same rows.

        These are an area's first and last move, its first move to another hour, in which rows that
        amend are judged again, and moves that close the last of a few days.
        """
        begins = runs(areas)
        urgent = np.zeros(len(areas), bool)
        urgent[begins] = urgent[begins[1:] - 1] = urgent[-1:] = True

        hours_before = self._closed_until(before) // HOUR_SECONDS
        hours_after = self._closed_until(after) // HOUR_SECONDS
        changes = np.flatnonzero(hours_after != hours_before)
        urgent[changes[runs(areas[changes])]] = True

        closed_days, _ = self._closed_and_sealed_days(areas, after)
        groups = closed_days // self._days_at_once
        urgent[1:] |= groups[1:] != groups[:-1]
        return urgent

    def _closed_until(self, watermarks: Times) -> Times:
        """The ends of the last intervals that are closed at these watermarks."""
        return (watermarks - self._interval) // self._interval * self._interval

    def _delay_after_midnight(self, slots: Any, schedule: tuple[int, int]) -> Any:
        """Seconds after midnight of areas' turns, drawn from their names: alike in any engine."""
        pairs = self._registry.area_index.pairs[len(self._name_hashes) :]
        if pairs:
            hashes = [crc32(area.encode()) for area, _ in pairs]
            self._name_hashes = np.concatenate([self._name_hashes, hashes])
        first, count = schedule
        return first + self._name_hashes[slots] % count * STAGGER_SECONDS

    def _closed_and_sealed_days(
        self, slots: Codes, watermarks: Times
    ) -> tuple[Codes, Codes]:
        """The newest days of areas that are closed, and that are sealed, at these watermarks."""
        close_delay = self._delay_after_midnight(slots, CLOSE_SCHEDULE)
        seal_delay = self._delay_after_midnight(slots, SEAL_SCHEDULE)
        closing = watermarks - close_delay
        sealing = watermarks - self._grace - seal_delay
        closed_days = np.searchsorted(self._midnights, closing, side="right") - 2
        sealed_days = np.searchsorted(self._midnights, sealing, side="right") - 2
        return closed_days, sealed_days

    def tick(self, now: int, until: int = 0) -> Iterator[DueWindow]:
        """Advances watermarks to `now` on their way to `until`; yields the windows that fall due."""
        watermarks = self.watermarks["watermark"]
        slots = np.flatnonzero((watermarks > 0) & (watermarks < now))
        watermarks[slots] = now
        return self.due(dict.fromkeys(slots.tolist(), now), max(now, until))

    def portion(self, now: int) -> int:
        """How far watermarks may advance towards `now` with at most PORTION_ROWS days due."""
        cells = self.watermarks
        watermarks = cells["watermark"]
        slots = np.flatnonzero((watermarks > 0) & (watermarks < now))
        if not len(slots):
            return now

        # The times at which each area's next day closes and seals.
        sizes = self._positions["members"][slots]
        closed, sealed = self._closed_and_sealed_days(slots, np.full(len(slots), now))
        closing = np.maximum(cells["last_day"][slots], closed - SKIPPED_DAYS) + 2
        sealing = np.maximum(cells["sealed_day"][slots], sealed - SKIPPED_DAYS) + 2
        close_delay = self._delay_after_midnight(slots, CLOSE_SCHEDULE)
        seal_delay = self._delay_after_midnight(slots, SEAL_SCHEDULE)
        due = np.concatenate(
            [
                self._midnights[closing] + close_delay,
                self._midnights[sealing] + self._grace + seal_delay,
            ]
        )

        if days := PORTION_ROWS // max(2 * int(sizes.sum()), 1):
            until = int(due.min()) + days * DAY_SECONDS
        else:
            order = np.argsort(due, kind="stable")
            rows = np.cumsum(np.tile(sizes, 2)[order])
            until = int(due[order[np.searchsorted(rows, PORTION_ROWS, side="right")]])
        # A day closes when an interval has passed.
        return min(-(-until // self._interval) * self._interval, now)

    def due(self, watermarks: dict[int, int], until: int = 0) -> Iterator[DueWindow]:
        """The windows due as areas reach `watermarks`: intervals, days, amendments, seals.

        Days that would be skipped as the watermarks go on to `until` are skipped now.
        """
        if not watermarks:
            return
        cells = self.watermarks
        slots = np.array(list(watermarks))
        reached = np.array(list(watermarks.values()))
        before = cells["closed_to"][slots]
        closed = self._closed_until(reached)
        advanced = closed > before
        if not advanced.all():
            slots, reached = slots[advanced], reached[advanced]
            before, closed = before[advanced], closed[advanced]

        cells["closed_to"][slots] = closed
        intervals = self._interval_rows(slots, before, closed)
        if len(intervals.at):
            yield DueWindow("interval", slots, intervals, [])

        closed_days, sealed_days = self._closed_and_sealed_days(slots, reached)
        skipped_closed, skipped_sealed = closed_days, sealed_days
        if until:
            skipped_closed, skipped_sealed = self._closed_and_sealed_days(
                slots, np.maximum(reached, until)
            )

        # Areas with nothing to amend seal first, so that their peers' days are known.
        ready = np.flatnonzero(closed_days > cells["last_day"][slots])
        if len(ready):
            ready = ready[~self._to_amend(slots[ready])]
            yield from self._seal(
                slots[ready], sealed_days[ready], skipped_sealed[ready]
            )
        yield from self._close(slots, closed_days, skipped_closed)
        hourly = slots[before // HOUR_SECONDS != closed // HOUR_SECONDS]
        yield from self._amend(hourly[self._to_amend(hourly)])
        yield from self._seal(slots, sealed_days, skipped_sealed)

    def _to_amend(self, slots: Codes) -> Mask:
        """True for areas with something to amend or pack."""
        found = [slot in self._areas_to_amend for slot in slots.tolist()]
        return np.array(found, np.bool_)

    def _day_portions(
        self, slots: Codes, first: Codes, last: Codes, days_at_once: int = 1
    ) -> Iterator[tuple[Codes, Codes]]:
        """Areas and their days from the first to the last, so many of each and a portion at once."""
        count = int((last - first).max(initial=-1)) + 1
        for start in range(0, count, days_at_once):
            steps = np.arange(start, min(start + days_at_once, count))[:, None]
            step, area = np.nonzero(first + steps <= last)
            days = first[area] + steps[step, 0]
            for portion in _portions(self._positions["members"][slots[area]]):
                yield slots[area[portion]], days[portion]

    def _close(
        self, slots: Codes, newest: Codes, skipped: Codes
    ) -> Iterator[DueWindow]:
        """Closes the days of areas up to the newest; days too far before `skipped` are skipped."""
        last = self.watermarks["last_day"]
        first = np.maximum(last[slots] + 1, skipped - SKIPPED_DAYS + 1)
        for areas, days in self._day_portions(slots, first, newest, self._days_at_once):
            yield DueWindow("day", areas, NO_INTERVALS, [self._day_rows(areas, days)])

            to_pack: list[tuple[int, int]] = []
            for slot, day in zip(areas.tolist(), days.tolist(), strict=True):
                open_day = self.areas[slot].open_days.get(day)
                if open_day is not None:
                    open_day.closed = True
                    if not open_day.packed:
                        to_pack.append((slot, day))
            self._pack(to_pack)
        last[slots] = np.maximum(last[slots], newest)

    def _amend(self, slots: Codes) -> Iterator[DueWindow]:
        """Judges the open windows of changed areas again; packs closed days again."""
        cells = self.watermarks
        days_open = np.clip(
            cells["last_day"][slots] - cells["sealed_day"][slots], 1, SKIPPED_DAYS
        )
        for portion in _portions(self._positions["members"][slots] * days_open):
            areas = slots[portion]
            changed = areas[[bool(self.areas[slot].dirty) for slot in areas.tolist()]]
            if len(changed):
                yield self._amended_windows(changed)

            to_pack: list[tuple[int, int]] = []
            for slot in areas.tolist():
                self.areas[slot].dirty.clear()
                self._areas_to_amend.discard(slot)
                to_pack += [
                    (slot, day)
                    for day, open_day in self.areas[slot].open_days.items()
                    if open_day.closed and not open_day.packed
                ]
            self._pack(to_pack)

    def _amended_windows(self, slots: Codes) -> DueWindow:
        """The windows of areas that are closed and not sealed, as they stand now."""
        cells = self.watermarks
        last = cells["last_day"][slots].astype(np.int64)
        first = np.maximum(cells["sealed_day"][slots] + 1, last - SKIPPED_DAYS + 1)
        intervals = self._interval_rows(
            slots, np.zeros(len(slots), np.int64), cells["closed_to"][slots]
        )
        day_rows = [
            self._day_rows(areas, days)
            for areas, days in self._day_portions(slots, first, last)
        ]
        return DueWindow("amend", slots, intervals, day_rows)

    def _seal(self, slots: Codes, newest: Codes, skipped: Codes) -> Iterator[DueWindow]:
        """Seals the closed days of areas up to the newest that can no longer change."""
        cells = self.watermarks
        sealed = cells["sealed_day"]
        last = np.minimum(newest, cells["last_day"][slots])
        first = np.maximum(sealed[slots] + 1, skipped - SKIPPED_DAYS + 1)
        for areas, days in self._day_portions(slots, first, last, self._days_at_once):
            intervals, day_rows = self._sealed_rows(areas, days)
            yield DueWindow("seal", areas, intervals, [day_rows])
            sealed[areas] = days

        for slot in slots[first <= last].tolist():
            over = [day for day in self.areas[slot].open_days if day <= sealed[slot]]
            if over:
                self._drop_days(slot, over)

    # ---- Rows of intervals and days ----

    def _interval_rows(self, slots: Codes, after: Times, until: Times) -> AreaIntervals:
        """The intervals with data of distinct areas that end in (after, until]."""
        first = day_of(after + 1, self._zone)
        last = day_of(until, self._zone)
        sealed = self.watermarks["sealed_day"][slots]

        # Most areas want one day, whose position is known.
        way = first % CACHED_DAYS
        cached = (
            (first == last)
            & (self._positions["day"][way, slots] == first)
            & (first > sealed)
        )
        known = np.flatnonzero(cached)
        sums_slots = self._positions["sums_slot"][way[known], slots[known]]
        found = [_DaySums(known, first[known], self._area_sums.arrays, sums_slots)]

        others: list[tuple[int, int, OpenDay]] = []
        for n in np.flatnonzero(~cached).tolist():
            open_days = sorted(self.areas[int(slots[n])].open_days.items())
            wanted_from = max(first[n], sealed[n] + 1)
            others += [
                (n, day, open_day)
                for day, open_day in open_days
                if wanted_from <= day <= last[n]
            ]
        found += self._sums_of(others)
        return self._measured_intervals(slots, after, until, found)

    def _sums_of(self, days: Sequence[tuple[int, int, OpenDay]]) -> Iterator[_DaySums]:
        """The interval sums of open days, each given with its area's number and its day."""
        pooled = [
            (n, day, open_day.sums_slot)
            for n, day, open_day in days
            if not open_day.packed
        ]
        if pooled:
            which, pooled_days, sums_slots = np.array(pooled).T
            yield _DaySums(which, pooled_days, self._area_sums.arrays, sums_slots)

        packed = [
            (n, day, open_day.packed) for n, day, open_day in days if open_day.packed
        ]
        empty = {name: self._area_sums.empty[name] for name in INTERVAL_SUMS}
        for start in range(0, len(packed), PORTION_ROWS):
            numbers, packed_days, as_bytes = zip(
                *packed[start : start + PORTION_ROWS], strict=True
            )
            sums = unpacked_days(as_bytes, {}, empty).areas
            slots = np.arange(len(as_bytes))
            yield _DaySums(np.array(numbers), np.array(packed_days), sums, slots)

    def _measured_intervals(
        self,
        slots: Codes,
        after: Times,
        until: Times,
        days_of_areas: Sequence[_DaySums],
    ) -> AreaIntervals:
        """The intervals with data of areas that end in (after, until], from their days' sums."""
        # For each of days_of_areas: numbers of areas, ends, and INTERVAL_SUMS.
        sources = [
            self._intervals_of_days(after, until, day_sums)
            for day_sums in days_of_areas
        ]
        columns = sources[0]
        if len(sources) > 1:
            columns = tuple(
                np.concatenate(arrays, axis=-1) for arrays in zip(*sources, strict=True)
            )

        which, ends, gateway, _, _, counted, high, _, _ = columns
        has_data = ~np.isnan(gateway[3]) | (counted > 0) | (high[0] > 0)
        rows = np.flatnonzero(has_data)
        if len(days_of_areas) > 1:
            rows = rows[np.lexsort((ends[rows], which[rows]))]
        which, at, *sums = (column[..., rows] for column in columns)
        named_sums = dict(zip(INTERVAL_SUMS, sums, strict=True))
        return self._as_intervals(slots[which], at, named_sums)

    def _intervals_of_days(
        self, after: Times, until: Times, day_sums: _DaySums
    ) -> tuple[Array, ...]:
        """The areas' numbers, ends and INTERVAL_SUMS of intervals that end in (after, until]."""
        which, days, sums, sums_slots = day_sums
        start = self._midnights[days]
        end = np.minimum(until[which], self._midnights[days + 1])
        first = np.maximum((after[which] - start) // self._interval, 0)
        counts = np.maximum((end - start) // self._interval - first, 0)

        steps = spread(first, counts)
        slots = np.repeat(sums_slots, counts)
        ends = np.repeat(start, counts) + (steps + 1) * self._interval
        columns = (sums[name][..., steps, slots] for name in INTERVAL_SUMS)
        return np.repeat(which, counts), ends, *columns

    def _as_intervals(
        self, slots: Codes, at: Times, sums: dict[str, Array]
    ) -> AreaIntervals:
        """Rows of Intervals from areas' sums."""
        gateway, counted = sums["gateway"], sums["counted"]
        measured = ~np.isnan(gateway[3])
        agreed = sums["high_hz"][0] > 0

        coverage = np.ones(len(at))
        if not measured.all():
            summed = np.flatnonzero(~measured)
            users = self._registry.users(slots[summed], at[summed])
            coverage[summed] = counted[summed] / np.maximum(users, 1)

        columns: dict[str, Column] = {
            "current": np.where(measured, gateway[:3], sums["amps"] / TENTH_MILLI),
            "kva": np.where(measured, gateway[3], sums["milli_va"] / 1e6),
            "neutral": np.where(measured, gateway[4], np.nan),
            "gateway": measured.astype(float),
            "coverage": coverage,
            "hz_above": np.where(agreed, sums["high_hz"][0] - NOMINAL_HZ, np.nan),
            "hz_below": np.where(agreed, sums["low_hz"][0] - NOMINAL_HZ, np.nan),
            "temperature": mean_degrees(sums["warmth"]),
        }
        return AreaIntervals(slots, at, columns)

    def _members_with_days(
        self, slots: Codes, days: Codes, sums: Iterable[str]
    ) -> tuple[Codes, StoredDays]:
        """The members of distinct areas, and a stored day of each area with these sums."""
        names = [self._registry.area_index.pairs[slot][0] for slot in slots.tolist()]
        enrolled = [self._registry.members.get(name, []) for name in names]
        owners = np.repeat(slots, [len(meters) for meters in enrolled])
        self._member_numbers.reserve(len(self._registry.meter_index))
        self._number_members(
            owners, np.fromiter(chain.from_iterable(enrolled), np.int64, len(owners))
        )

        states = [self.areas[slot] for slot in slots.tolist()]
        sizes = self._positions["members"][slots].astype(np.int64)
        members = chain.from_iterable(state.members for state in states)
        meters = np.fromiter(members, np.int32, sizes.sum())
        open_days = [
            state.open_days.get(day)
            for state, day in zip(states, days.tolist(), strict=True)
        ]
        return meters, self._stored_days(open_days, sizes, sums)

    def _day_rows(self, slots: Codes, days: Codes) -> DayRows:
        """A day of each area as it stands now."""
        meters, stored = self._members_with_days(slots, days, DAY_SUMS)
        return self.as_days(slots, days, meters, stored)

    def _sealed_rows(self, slots: Codes, days: Codes) -> tuple[AreaIntervals, DayRows]:
        """The intervals of a day of each area, and the day."""
        all_sums = (*DAY_SUMS, *INTERVAL_SUMS)
        meters, stored = self._members_with_days(slots, days, all_sums)
        intervals = NO_INTERVALS
        if not stored.blank:
            every = np.arange(len(slots))
            start, end = self._midnights[days], self._midnights[days + 1]
            day_sums = _DaySums(every, days, stored.sums, every)
            intervals = self._measured_intervals(slots, start, end, [day_sums])
        return intervals, self.as_days(slots, days, meters, stored)

    def as_days(
        self, slots: Codes, days: Codes, meters: Codes, stored: StoredDays
    ) -> DayRows:
        """Rows of Days and AreaDays from a stored day of each area."""
        start, end = self._midnights[days], self._midnights[days + 1]
        until = np.repeat(end, stored.sizes)
        records = self._registry.meters.rows_in_force(meters, until - 1)
        master = self._registry.meters.columns_of(records)
        in_force = (records > 0) & (until <= master["member_until"])
        present = in_force | (stored.rows["reads"] > 0)

        columns, expected = member_columns(stored, master, end - start, self._interval)
        spikes = int(np.count_nonzero(columns.pop("spike")[present]))
        totals = balances(columns, master, stored.rows["back"], present, stored.sizes)
        sizes = whole_sums(present, stored.sizes)
        if not present.all():
            meters, expected = meters[present], expected[present]
            columns = {
                name: picked(column, present) for name, column in columns.items()
            }
        totals["read_share"], totals["others_share"] = read_shares(
            columns["reads"], expected, sizes
        )
        return DayRows(slots, days, end, sizes, meters, columns, totals, spikes)

    # ---- State ----

    def schema(self) -> Schema:
        """The cells of areas and meters, and every open day, packed."""
        return {
            **self.watermarks.schema(),
            **self._member_numbers.schema(),
            "areas": list[tuple[int, Array, list[int]]],
            "days": list[tuple[int, int, int, int, bool, bytes]],
            "checksums": list[int],
            "cells": dict[str, str],
        }

    def state(self) -> State:
        """Everything remembered, every open day packed."""
        every_day = [
            (slot, day, open_day)
            for slot, state in self.areas.items()
            for day, open_day in state.open_days.items()
        ]
        pooled = [(slot, day) for slot, day, found in every_day if not found.packed]
        packed = dict(zip(pooled, self._as_packed(pooled), strict=True))

        days = []
        for slot, day, found in every_day:
            as_bytes = found.packed or packed[slot, day]
            days.append((slot, day, found.start, found.end, found.closed, as_bytes))
        areas = [
            (slot, np.array(state.members, np.int32), sorted(state.dirty))
            for slot, state in self.areas.items()
        ]
        own_columns = {
            "areas": areas,
            "days": days,
            "checksums": [crc32(day[-1]) for day in days],
            "cells": self._day_schema(),
        }
        return self.watermarks.state() | self._member_numbers.state() | own_columns

    def load(self, state: State) -> None:
        """Replaces everything by `state`. Raises StateError if areas, members and days disagree."""
        self.watermarks.load(state)
        self._member_numbers.load(state)
        for pool in (self.member_rows, self._area_sums):
            pool.load({name: array[..., :0] for name, array in pool.arrays.items()})
        self._free_rows = {}
        self._free_sums = []
        self.areas = {}
        self._name_hashes = self._name_hashes[:0]

        for slot, members, dirty in state.get("areas", ()):
            self.areas[slot] = area = _AreaState()
            area.members = members.tolist()
            area.dirty = set(dirty)
        self._check()
        self._load_days(state)
        self._rebuild_positions()

    def _load_days(self, state: State) -> None:
        """Takes the open days of `state`, packed. Raises StateError if one is damaged."""
        days = state.get("days", ())
        same_schema = state.get("cells") == self._day_schema()
        checksums = [crc32(day[-1]) for day in days]
        if same_schema and state.get("checksums") != checksums:
            raise StateError("a packed day is damaged")

        for slot, day, start, end, closed, packed in days:
            if (
                slot not in self.areas
                or day < 0
                or [start, end] != self._midnights[day : day + 2].tolist()
            ):
                raise StateError("a day has no area, or does not begin at midnight")
            if not same_schema:
                check_day(packed, self.member_rows.empty, self._area_sums.empty)
            self.areas[slot].open_days[day] = OpenDay(
                start, end, closed=closed, packed=packed
            )

    def _day_schema(self) -> dict[str, str]:
        """The schema of a packed day."""
        rows = described(self.member_rows.schema())
        return rows | described(self._area_sums.schema())

    def _check(self) -> None:
        """Raises StateError if areas and meters disagree with the registry or each other."""
        cells, numbers = self.watermarks, self._member_numbers
        known_areas = len(self._registry.area_index)
        known_meters = len(self._registry.meter_index)
        within("the number of areas", cells.used, 0, known_areas)
        within("the number of meters", numbers.used, 0, known_meters)
        within("an area", list(self.areas), 0, cells.used - 1)
        for name in ("highest", "watermark", "since", "closed_to"):
            within(f"a time of {name}", cells[name], 0, 2 * LATEST_TIME)
        for name in ("first_day", "last_day", "sealed_day"):
            within(f"a day of {name}", cells[name], -1, len(self._midnights) - 3)

        expected = np.full(numbers.used, -1, np.int32)
        for state in self.areas.values():
            within("a member", state.members, 0, numbers.used - 1)
            expected[state.members] = np.arange(len(state.members))
        if not np.array_equal(expected, numbers["number"]):
            raise StateError("the numbers of its meters are not their places in areas")

    def _rebuild_positions(self) -> None:
        """Derives from the areas which of them to amend, and how many members are numbered."""
        self._areas_to_amend = {
            slot for slot, state in self.areas.items() if state.dirty
        }
        self._positions = Cells(**self._positions.empty)
        self._positions.reserve(max(self.areas, default=-1) + 1)
        for slot, state in self.areas.items():
            self._positions["members"][slot] = len(state.members)


def _follow_movers(
    order: Codes, starts: Codes, moving: Mask, before: Times, after: Times
) -> None:
    """Gives rows that do not move a watermark where the last mover of their area left it.

    `moving` and `starts` are in `order`; watermarks `before` and `after` are by row.
    """
    last = np.maximum.accumulate(np.where(moving, np.arange(len(order)), -1))
    follows = ~moving & (last >= np.repeat(starts, sizes_of(starts, len(order))))
    rows = order[follows]
    before[rows] = after[rows] = after[order[last[follows]]]


def _watermarks_by_round(
    rounds: Codes, areas: Codes, watermarks: Times
) -> list[dict[int, int]]:
    """The watermarks that areas reach in each round."""
    due: list[dict[int, int]] = [{} for _ in range(int(rounds.max(initial=-1)) + 1)]
    moves = zip(rounds.tolist(), areas.tolist(), watermarks.tolist(), strict=True)
    for number, slot, watermark in moves:
        due[number][slot] = watermark
    return due


def _rows_by_round(
    rounds: Codes, due: Sequence[dict[int, int]]
) -> Iterator[tuple[Codes, dict[int, int]]]:
    """The rows of each round, and the watermarks that areas reach in it."""
    order = np.argsort(rounds, kind="stable")
    count = max(int(rounds[order[-1]]) + 1, len(due))
    ends = np.searchsorted(rounds[order], np.arange(1, count))
    for n, rows in enumerate(np.split(order, ends)):
        yield rows, due[n] if n < len(due) else {}


def _flat(cells: Array) -> Array:
    """A view of cells of the shape (n, steps, slots) with one axis for steps and slots."""
    view = cells.view()
    view.shape = (len(cells), -1)
    return view


def _fresh_cells(empty: Mapping[str, Array], count: int) -> dict[str, Array]:
    """So many fresh cells."""
    return {
        name: np.repeat(value[..., None], count, axis=-1)
        for name, value in empty.items()
    }


def _capacity_for(members: int) -> int:
    """The rows that so many members get; a few sizes serve all, so that rows are used again."""
    if members <= CAPACITY_STEP:
        return 1 << (members - 1).bit_length()
    return -(-members // CAPACITY_STEP) * CAPACITY_STEP


def _portions(sizes: Codes) -> Iterator[slice]:
    """Slices of areas with so many meters each; several areas hold at most PORTION_ROWS together.

    >>> list(_portions(np.array([PORTION_ROWS - 1, 1, 1])))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    start, ends = 0, np.cumsum(sizes)
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        reached = int(np.searchsorted(ends, before + PORTION_ROWS, side="right"))
        end = max(reached, start + 1)
        yield slice(start, end)
        start = end


def _add(cells: Array, where: Codes, values: Array) -> None:
    """Adds values to cells; a cell may occur more than once."""
    if ascending(where):
        cells[where] += values
    else:
        np.add.at(cells, where, values.astype(cells.dtype))


def apparent_power(
    readings: Readings, master: dict[str, Column], whole_p: Column, whole_q: Column
) -> Column:
    """Secondary kVA per row from whole P and Q, else from U and I, else from I at nominal voltage.

    NaN without any. A three-wire meter's two elements measure line voltages: U and I of both make
    2/sqrt(3) of the apparent power.
    """
    U, I, P, Q, un = readings.u, readings.i, readings.p, readings.q, master["un"]
    no_current = np.isnan(I)
    by_power: Mask = np.zeros(I.shape[1], bool)
    if not (unknown(P) or unknown(Q)):
        no_power = np.isnan(P)
        by_power = np.logical_not(
            (no_power & ~no_current).any(axis=0)
            | no_power.all(axis=0)
            | np.isnan(Q).all(axis=0)
        )

    kva = np.full(I.shape[1], np.nan)
    if by_power.any():
        kva = np.hypot(whole_p, whole_q)
    if by_power.all():
        return kva
    if unknown(I):
        return np.where(by_power, kva, np.nan)

    volts = np.broadcast_to(un, I.shape) if unknown(U) else np.where(np.isnan(U), un, U)
    product = volts * np.abs(I)
    cannot_tell = no_current.all(axis=0) | (np.isnan(product) & ~no_current).any(axis=0)
    wires = np.where(master["three_wire"] == 1, np.sqrt(3) / 2, 1)
    by_current = np.where(cannot_tell, np.nan, total(product) / 1000 * wires)
    return np.where(by_power, kva, by_current)


def facts_of(readings: Readings, master: dict[str, Column], interval: int) -> Facts:
    """The facts of readings; the master columns are as of each row's time."""
    rows = len(readings)
    P, Q = total(readings.p), total(readings.q)
    kva = apparent_power(readings, master, P, Q) * master["ratio"]

    has_voltage = energised = np.zeros(rows, bool)
    if not unknown(readings.u):
        has_voltage = np.logical_not(np.isnan(readings.u).all(axis=0))
        energised = np.logical_or.reduce(readings.u > 0.5 * master["un"])

    returned = np.zeros(rows, np.int64)
    if P.min(initial=0) < 0:
        energy = P * np.fmax(master["interval_s"], interval) / HOUR_SECONDS
        returned = np.rint(np.maximum(-energy, 0) * 1e6).astype(np.int64)

    unbalance, by_magnitude = _unbalance_of(readings, master)
    frequency, temperature = readings.frequency, readings.temperature
    return Facts(
        kwh=readings.kwh,
        amps=readings.i * master["ratio"],
        neutral=readings.neutral * master["ratio"],
        kva=kva,
        unbalance=unbalance,
        by_magnitude=by_magnitude,
        frequency=None if unknown(frequency) else frequency,
        temperature=None if unknown(temperature) else temperature,
        returned=returned,
        read=readings.status != Status.ESTIMATED,
        volts=readings.u,
        has_voltage=has_voltage,
        energised=energised,
        gateway=master["is_gateway"] == 1,
        stale=np.zeros(rows, bool),
        end_of_day=end_of_day_values(readings, P, Q),
    )


def _unbalance_of(readings: Readings, master: dict[str, Column]) -> tuple[Column, Mask]:
    """The unbalance of voltages if no phase is lost, and where it comes from magnitudes alone."""
    unbalance = np.full(len(readings), np.nan)
    by_magnitude = np.zeros(len(readings), bool)
    rows = np.flatnonzero(master["phases"] == 3)
    if not len(rows) or unknown(readings.u):
        return unbalance, by_magnitude

    U = readings.u if len(rows) == len(readings) else readings.u[:, rows]
    known = np.fmin.reduce(U) >= LOST_PHASE_VOLTAGE * master["un"][rows]
    by_angle = np.full(len(rows), np.nan)
    if not unknown(readings.u_angle):
        by_angle = unbalance_factor(
            U, readings.u_angle[:, rows], master["three_wire"][rows]
        )
    no_angle = np.isnan(by_angle)
    value = np.where(known, np.where(no_angle, spread_of(U), by_angle), np.nan)
    unbalance[rows] = value
    by_magnitude[rows] = no_angle & ~np.isnan(value)
    return unbalance, by_magnitude
