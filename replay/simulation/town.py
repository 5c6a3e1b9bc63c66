"""A simulated town: physically consistent readings of thousands of meters, the office's work, and planted faults.

Assumptions: values are interval means. One transformer feeds an area, and its customers are spread evenly over the
phases. Voltage falls with the phase's load on the way from the transformer. Lines lose 2 to 3.5 % of an area's energy,
more in proportion when the load is high. Registers show two decimals. One reading in two hundred is lost, of the
gateways' one in two thousand; one in five thousand comes twice. A neutral carries the vector sum of its phases. The
voltage's distortion grows with the transformer's load. A terminal measures beside every meter behind transformers,
and such a user's meter shows tariffs' registers, the highest demand of the month, and its own ratio setting. It is
early spring: the colder a day, the more homes and shops use; the gateways' terminals measure the temperature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.master.calendar import day_of, month_of
from replay.history import Source, SourceError
from replay.simulation.happenings import Block, Happening, Planted
from replay.simulation.network import (
    DAY_SLOTS,
    NOMINAL_VOLTS,
    SLOT_SECONDS,
    TOWN_ZONE,
    Values,
    build_grid,
)
from replay.simulation.office import open_office
from replay.simulation.planted import USUAL_FAULTS, Kinds, Plan
from schemas.columns import Batch, Codes, DeviceEvents, Mask, Readings
from schemas.master import Area
from schemas.units import DAY_SECONDS

START_TIME = 1_772_380_800  # Monday 2026-03-02, midnight in Shanghai
BLOCK_SLOTS = 4  # slots
BLOCK_SECONDS = BLOCK_SLOTS * SLOT_SECONDS
LOST_SHARE = 0.005  # of the readings
REPEATED_SHARE = 0.0002  # of the readings that arrive
ASKED_AGAIN = 0.9  # of the gateways' lost readings come in after all
# standard deviation of the logarithm of a segment's interval load
LOAD_SPREAD = np.array([0.55, 0.2, 0.1], np.float32)
# share of a customer's deviation that lasts from a slot to the next
LOAD_PERSISTENCE = np.float32(0.7)
SLOT_HOURS = np.float32(SLOT_SECONDS / 3600)
TERMINAL_ERROR = 0.003  # spread of the terminals' errors of ratio
TARIFF_REGISTERS = ("register_peak", "register_flat", "register_valley")
# the tariff register that counts in each hour of the day
REGISTER_OF_HOUR = np.repeat([2, 1, 0, 1, 0, 1, 2], [7, 1, 4, 5, 4, 2, 1])
TARIFF_SHARES = np.array([0.4, 0.4, 0.2])  # of the register at the town's start
MEAN_AIR = 8.0  # deg C, a usual day's mean
COLD_DROP = 3.0  # deg C less on a cold day
DAILY_SWING = 4.0  # deg C more in the afternoon
# of the phases' voltages
PHASE_ROTATIONS = np.exp(-2j * np.pi * np.arange(3) / 3).astype(np.complex64)


class Town:
    """So many users' meters for so many days. The same arguments give the same town to the bit."""

    zone = TOWN_ZONE
    interval = SLOT_SECONDS

    def __init__(
        self,
        meters: int = 5000,
        days: int = 14,
        seed: int = 1,
        *,
        faults: bool = True,
        kinds: Kinds = USUAL_FAULTS,
        start: int = START_TIME,
    ) -> None:
        if meters < 50 or days < 1:
            raise ValueError("a town has at least 50 meters and one day")

        self.days = days
        self.seed = seed
        self.start = start
        self.end = start + days * DAY_SECONDS
        self.grid = build_grid(meters, seed)
        self._office = open_office(
            self.grid, start, days, seed, faults and kinds.office
        )

        plan = Plan(self.grid, start, days, seed)
        self.happenings: list[Happening] = [*plan.ordinary()]
        if faults:
            self.happenings += [*plan.faults(kinds), *plan.decoys()]
        planted = [change.planted for change in self.happenings if change.planted]
        planted += self._office.planted
        self.planted: list[Planted] = [fault for fault in planted if fault.rules]
        self.decoys: list[Planted] = [fault for fault in planted if not fault.rules]

        self.rows = round(len(self.grid) * days * DAY_SLOTS * (1 - LOST_SHARE))
        self.name = f"{'' if faults else 'quiet-'}town:{meters}x{days}:{seed}"

    @cached_property
    def areas(self) -> list[Area]:
        """The master data, with the records that happenings add to it."""
        areas = {area.area: area for area in self.grid.master(self.start)}
        for happening in self.happenings:
            change = happening.record_change
            if not change:
                continue

            area = areas[change.area]
            (usual,) = (meter for meter in area.meters if meter.meter == change.meter)
            others = [
                meter for meter in area.meters if meter is not usual or not change.new
            ]
            records = [replace(change.change(usual), effective=change.since)]
            if happening.end < self.end:
                records.append(replace(usual, effective=happening.end))
            areas[change.area] = replace(area, meters=[*others, *records])
        return list(areas.values())

    def source(self) -> Source:
        """The town as a history."""
        return Source(
            self.name, self.areas, self.batches(), self.rows, self.zone, self.interval
        )

    def batches(self) -> Iterator[Batch]:
        """An hour after another: its events, payments and stages, then its readings."""
        others: tuple[Batch, ...] = (
            self._events(),
            self._office.payments,
            self._office.stages,
        )
        starts = range(self.start, self.end, BLOCK_SECONDS)

        for readings, start in zip(self.readings(), starts, strict=True):
            for batch in others:
                first, last = np.searchsorted(batch.at, (start, start + BLOCK_SECONDS))
                if last > first:
                    yield batch.select(slice(first, last))
            if len(readings):
                yield readings

    def readings(self) -> Iterator[Readings]:
        """The readings of an hour after another."""
        rng = np.random.default_rng([self.seed, 4])
        physics = _Physics(self, rng)
        for start in range(self.start, self.end, BLOCK_SECONDS):
            block = physics.block(start)
            current = [change for change in self.happenings if change.during(block)]
            for happening in current:
                if happening.before:
                    happening.before(block)

            physics.run(block)
            for happening in current:
                if happening.after:
                    happening.after(block)
            yield physics.read(block)

    def _events(self) -> DeviceEvents:
        """The device events that report the happenings, in order of time."""
        notices = [
            notice for happening in self.happenings for notice in happening.notices
        ]
        notices.sort(key=lambda notice: notice.at)
        names, areas = ("", *self.grid.names), self.grid.areas
        subjects = {name: k for k, name in enumerate(names)}

        return DeviceEvents.build(
            names,
            [subjects[notice.subject] for notice in notices],
            areas,
            [areas.index(notice.area) for notice in notices],
            [notice.at for notice in notices],
            event=[notice.event for notice in notices],
            until=[notice.until for notice in notices],
            residual=[notice.residual for notice in notices],
            seconds=[notice.seconds for notice in notices],
        )


TOWN_NAME = re.compile(r"(quiet-)?town(?::(\d+)x(\d+)(?::(\d+))?)?")


def named_town(name: str) -> Town | None:
    """The town called `town`, `town:METERSxDAYS` or `town:METERSxDAYS:SEED`, without faults when `quiet-` goes before.

    None for another name. Raises SourceError for a town without meters or days.

    >>> named_town("quiet-town:300x2").name
    'quiet-town:300x2:1'
    """
    if not (found := TOWN_NAME.fullmatch(name)):
        return None
    quiet, meters, days, seed = found.groups()
    try:
        return Town(
            int(meters or 5000), int(days or 14), int(seed or 1), faults=not quiet
        )
    except ValueError as error:
        raise SourceError(f"{name}: {error}") from error


class _Physics:
    """From loads to readings, block by block; remembers registers and the loads' deviations."""

    def __init__(self, town: Town, rng: np.random.Generator) -> None:
        grid = self.grid = town.grid
        self.town = town
        self.rng = rng
        rows = len(grid)
        lines = 3 * len(grid.areas)  # a line is a phase of an area's transformer
        self.single_phase = np.flatnonzero(~grid.three & ~grid.gateway)
        self.three_phase = np.flatnonzero(grid.three)
        self.gateway = np.flatnonzero(grid.gateway)
        self.polyphase = np.flatnonzero(grid.three | grid.gateway)
        self.through_ct = np.flatnonzero(grid.three & (grid.ratio > 1))

        # how loads and voltages deviate from their means
        self.sway = LOAD_SPREAD[grid.segment]
        self.shape_of = grid.segment.astype(np.intp) * 2 * DAY_SLOTS
        self.deviation = rng.standard_normal(rows, np.float32)
        self.voltage = np.zeros(lines, np.float32)
        phase_loads = [
            grid.mean_kw[grid.area == k].sum() / 3 for k in range(len(grid.areas))
        ]
        self.usual = np.repeat(phase_loads, 3)

        # registers as the town begins; one rolls over in the first days
        self.register = np.floor(rng.uniform(200, 60_000, rows) * 100) / 100
        self.register[np.flatnonzero(grid.mean_kw > 0.3)[0]] = 999_990.0
        self.exported = np.where(grid.pv_kw > 0, rng.uniform(10, 5000, rows), 0)
        self.by_tariff = np.outer(TARIFF_SHARES, self.register[self.through_ct])
        self.demand = np.zeros(len(self.through_ct))
        self.month = -1
        self.resets = 0
        self.clock = np.round(rng.normal(0, 15, rows)).astype(np.float32)
        self.delay = rng.integers(20, 240, len(grid.areas))[grid.area]

        # a second generator, whose draws leave the loads as they are
        self.wave_rng = np.random.default_rng([town.seed, 5])
        distortion = self.wave_rng.uniform(1.0, 1.8, lines)
        self.distortion = distortion.astype(np.float32)
        ratio_error = self.wave_rng.normal(1, TERMINAL_ERROR, rows)
        terminal = np.where(grid.ratio > 1, ratio_error, np.nan)
        self.terminal = terminal.astype(np.float32)
        self.hertz = 0.0  # Hz off 50

        # the air is coldest at two in the morning
        cold = np.clip(rng.standard_normal(town.days), -1.5, 1.5)
        self.weather = 1 + np.outer(cold, (0.1, 0.05, 0.0)).astype(np.float32)
        hours = 2 * np.pi * (np.arange(DAY_SLOTS) - DAY_SLOTS // 12) / DAY_SLOTS
        swing = -DAILY_SWING * np.cos(hours)
        self.air = (MEAN_AIR - COLD_DROP * cold[:, None] + swing).reshape(-1)
        self.clear = rng.uniform(0.25, 1, town.days).astype(np.float32)

    def block(self, start: int) -> Block:
        """The next block as it would be if nothing happened."""
        grid, rows = self.grid, len(self.grid)
        ones = np.ones(rows, np.float32)
        unknown = np.full((BLOCK_SLOTS, rows), np.nan, np.float32)
        unknown_phases = np.full((3, BLOCK_SLOTS, rows), np.nan, np.float32)

        return Block(
            start=start,
            scale=ones.copy(),
            cap_kw=grid.cap_kw.copy(),
            fed=grid.area.copy(),
            phase=grid.phase.copy(),
            share=grid.share.copy(),
            tan=grid.tan.copy(),
            pv_kw=grid.pv_kw.copy(),
            register=self.register.copy(),
            counts=ones.copy(),
            curve=ones.copy(),
            by_tariff=ones.copy(),
            demand=ones.copy(),
            set_ratio=grid.ratio.copy(),
            hertz=np.zeros(rows, np.float32),
            clock=self.clock.copy(),
            read=self._arrivals(),
            U=unknown_phases.copy(),
            I=unknown_phases.copy(),
            P=unknown_phases.copy(),
            Q=unknown_phases.copy(),
            neutral=unknown.copy(),
            thd=unknown_phases,
            terminal=unknown,
            flags=np.zeros(rows, np.uint8),
        )

    def _arrivals(self) -> Mask:
        """True for each reading of a block that arrives; most gateways' are asked for again."""
        read = np.ones((BLOCK_SLOTS, len(self.grid)), bool)
        count = self.rng.binomial(read.size, LOST_SHARE)
        read.reshape(-1)[self.rng.integers(0, read.size, count)] = False
        asked = self.rng.random((BLOCK_SLOTS, len(self.gateway))) < ASKED_AGAIN
        read[:, self.gateway] |= asked
        return read

    def run(self, block: Block) -> None:
        """Fills U, I, P, Q, neutral, thd and terminal from the loads."""
        grid = self.grid
        day, slot = divmod((block.start - self.town.start) // SLOT_SECONDS, DAY_SLOTS)
        load = self._load(block, day, slot + np.arange(BLOCK_SLOTS)[:, None])
        reactive = load * block.tan

        # the sun takes from the load of the roofs
        sun = np.flatnonzero(block.pv_kw > 0)
        height = np.clip((slot + np.arange(BLOCK_SLOTS) - 26) / 44, 0, 1)
        light = np.sin(np.pi * height).astype(np.float32)
        load[:, sun] -= light[:, None] * self.clear[day] * block.pv_kw[sun]
        apparent = np.abs(load) * np.hypot(np.float32(1), block.tan)
        apparent[:, sun] = np.hypot(load[:, sun], reactive[:, sun])

        active, passive = self._sums(block, load), self._sums(block, reactive)
        stress = (active / np.repeat(grid.rating / 3, 3)).astype(np.float32)
        busbar = (
            np.repeat(grid.busbar, 3)
            - np.float32(0.035 * NOMINAL_VOLTS) * stress
            + self._sway_of_voltage()
        )

        # phase A holds every row first; polyphase meters are overwritten below
        line = block.fed * 3 + block.phase
        block.U[0] = (
            busbar[:, line]
            - grid.line_v * stress[:, line]
            - apparent * (grid.service_ohm * 1000 / NOMINAL_VOLTS)
        )
        block.P[0] = load
        block.Q[0] = reactive
        block.I[0] = apparent * np.float32(1000) / block.U[0]

        for k in range(3):
            self._fill_users(block, k, load, reactive, busbar, stress)
            self._fill_gateways(block, k, active, passive, busbar)
            for rows in (self.three_phase, self.gateway):
                kva = np.hypot(block.P[k][:, rows], block.Q[k][:, rows])
                block.I[k][:, rows] = kva * np.float32(1000) / block.U[k][:, rows]

        for column in (block.I, block.P, block.Q):
            column[:, :, self.polyphase] /= grid.ratio[self.polyphase]
        self._fill_extras(block, stress, line)

    def _fill_users(
        self,
        block: Block,
        k: int,
        load: Values,
        reactive: Values,
        busbar: Values,
        stress: Values,
    ) -> None:
        """Fills voltage and power of a phase of the three-phase users."""
        grid, three = self.grid, self.three_phase
        lines = grid.area[three] * 3 + k
        share = block.share[k, three]
        block.U[k][:, three] = busbar[:, lines] - grid.line_v[three] * stress[:, lines]
        block.P[k][:, three] = load[:, three] * share
        block.Q[k][:, three] = reactive[:, three] * share

    def _fill_gateways(
        self,
        block: Block,
        k: int,
        active: NDArray[np.float64],
        passive: NDArray[np.float64],
        busbar: Values,
    ) -> None:
        """Fills voltage and power of a phase of the gateway meters: loads and lines' losses."""
        gateway = self.gateway
        lost = 0.75 * self.grid.loss * active[:, k::3] ** 2 / self.usual[k::3]
        block.U[k][:, gateway] = busbar[:, k::3]
        block.P[k][:, gateway] = active[:, k::3] + lost
        block.Q[k][:, gateway] = passive[:, k::3] + 0.3 * lost

    def _fill_extras(self, block: Block, stress: Values, line: Codes) -> None:
        """Fills what is measured beside voltage, current and power."""
        rows = self.polyphase
        power = block.P[..., rows] - 1j * block.Q[..., rows]
        amps = power / block.U[..., rows]  # kA, each beside its own voltage
        block.neutral[:] = block.I[0]
        block.neutral[:, rows] = 1000 * np.abs(
            np.einsum("ksr,k->sr", amps, PHASE_ROTATIONS)
        )
        block.terminal[:, rows] = block.P[..., rows].sum(axis=0) * self.terminal[rows]

        distortion = (
            self.distortion
            + np.float32(1.2) * stress
            + self.wave_rng.normal(0, 0.1, stress.shape)
        )
        block.thd[0] = distortion[:, line]
        for k in range(3):
            block.thd[k][:, rows] = distortion[:, self.grid.area[rows] * 3 + k]

    def _frequency(self) -> NDArray[np.float64]:
        """The town's frequency in each slot of a block."""
        hertz = np.empty(BLOCK_SLOTS)
        for k in range(BLOCK_SLOTS):
            self.hertz = hertz[k] = 0.8 * self.hertz + self.wave_rng.normal(0, 0.012)
        return 50 + hertz

    def read(self, block: Block) -> Readings:
        """The readings that arrive of the block; the registers move on."""
        power = block.P[0].copy()
        power[:, self.polyphase] = block.P[:, :, self.polyphase].sum(axis=0)
        kwh = np.maximum(power, 0) * SLOT_HOURS * block.counts
        register = block.register + np.cumsum(kwh, axis=0, dtype=np.float64)
        self.register = register[-1].copy()
        exported = self._export(block, power, np.zeros_like(register))
        extra = self._extra_registers(block, kwh)
        kwh *= block.curve

        rows = self._arrived_rows(block)
        slot, row = np.divmod(rows, len(self.grid))
        at = block.start + SLOT_SECONDS * (slot + 1)
        air = self.air[(at - self.town.start) // SLOT_SECONDS - 1].round(1)

        return Readings.build(
            self.grid.names,
            row.astype(np.int32),
            self.grid.areas,
            self.grid.area[row],
            at,
            register=_floor(register.reshape(-1)[rows] % 1e6),
            export_register=_floor(exported.reshape(-1)[rows]),
            kwh=_shown(kwh, rows, 4),
            u=_shown(block.U, rows, 1),
            i=_shown(block.I, rows, 3),
            p=_shown(block.P, rows, 4),
            q=_shown(block.Q, rows, 4),
            clock_offset=block.clock[row],
            neutral=_shown(block.neutral, rows, 3),
            thd=_shown(block.thd, rows, 2),
            terminal_p=_shown(block.terminal, rows, 4),
            flags=block.flags[row].astype(np.float32),
            frequency=np.round(self._frequency()[slot] + block.hertz[row], 2),
            temperature=np.where(self.grid.gateway[row], air, np.nan),
            **{name: values.reshape(-1)[rows] for name, values in extra.items()},
            received=at + self.delay[row],
            status=np.zeros(len(rows), np.uint8),
        )

    def _export(
        self, block: Block, power: Values, exported: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fills the export registers by slot and row; they move on."""
        sun = np.flatnonzero((block.pv_kw > 0) | (self.exported > 0))
        kwh = np.maximum(-power[:, sun], 0) * SLOT_HOURS
        exported[:, sun] = np.cumsum(kwh, axis=0) + self.exported[sun]
        self.exported = exported[-1].copy()
        return exported

    def _arrived_rows(self, block: Block) -> NDArray[np.intp]:
        """The cells of the block whose readings arrive, in order; a few come twice."""
        once = np.flatnonzero(block.read)
        count = self.rng.binomial(len(once), REPEATED_SHARE)
        again = once[self.rng.integers(0, len(once), count)]
        return np.sort(np.concatenate([once, again]))

    def _extra_registers(self, block: Block, kwh: Values) -> dict[str, NDArray[Any]]:
        """The further registers of meters behind transformers: energy by tariff, and demand."""
        rows, slots = self.through_ct, np.arange(BLOCK_SLOTS)
        hours = ((block.start - START_TIME) // SLOT_SECONDS + slots) % DAY_SLOTS // 4
        days = day_of(np.array([block.start + SLOT_SECONDS]), TOWN_ZONE)
        month = int(month_of(days)[0][0])
        if month != self.month:
            self.demand = np.zeros(len(rows))
            self.month = month
            self.resets += 1

        moved = kwh[:, rows] * block.by_tariff[rows]
        counting = REGISTER_OF_HOUR[hours] == np.arange(3)[:, None]
        moved = np.where(counting[..., None], moved, 0)
        by_tariff = self.by_tariff[:, None] + np.cumsum(moved, axis=1)
        self.by_tariff = by_tariff[:, -1]

        powers = np.concatenate([self.demand[None], kwh[:, rows] / SLOT_HOURS])
        demand = np.maximum.accumulate(powers, axis=0)[1:]
        self.demand = demand[-1]

        extra = {
            name: np.full(kwh.shape, np.nan)
            for name in (*TARIFF_REGISTERS, "demand", "demand_resets", "meter_ratio")
        }
        for name, values in zip(TARIFF_REGISTERS, by_tariff, strict=True):
            extra[name][:, rows] = _floor(values)
        extra["demand"][:, rows] = np.round(demand * block.demand[rows], 4)
        extra["demand_resets"][:, rows] = self.resets
        extra["meter_ratio"][:, rows] = block.set_ratio[rows]
        return extra

    def _load(self, block: Block, day: int, slots: NDArray[Any]) -> Values:
        """Every customer's load by slot, kW."""
        grid = self.grid
        deviation = self.rng.standard_normal((BLOCK_SLOTS, len(grid)), np.float32)
        deviation *= np.sqrt(1 - LOAD_PERSISTENCE**2)
        for k in range(BLOCK_SLOTS):
            self.deviation = deviation[k] = (
                deviation[k] + LOAD_PERSISTENCE * self.deviation
            )

        # the mean of a log-normal deviation is taken off
        usual = (
            grid.mean_kw
            * block.scale
            * self.weather[day][grid.segment]
            * np.exp(-(self.sway**2) / 2)
        )
        weekend = (day % 7 >= 5) * DAY_SLOTS
        cells = self.shape_of + weekend + (slots - grid.shift) % DAY_SLOTS
        shape = grid.shapes.reshape(-1)[cells]

        # in place: these are the block's largest arrays
        deviation *= self.sway
        np.exp(deviation, out=deviation)
        load = deviation * shape
        load *= usual
        return np.minimum(load, block.cap_kw, out=load)

    def _sums(self, block: Block, load: Values) -> NDArray[np.float64]:
        """Sums by slot and line: three lines an area, one a phase."""
        grid, one, three = self.grid, self.single_phase, self.three_phase
        keys: list[Codes] = [block.fed[one] * 3 + block.phase[one]]
        loads = [load[:, one]]
        for k in range(3):
            keys.append(grid.area[three] * 3 + k)
            loads.append(load[:, three] * block.share[k, three])

        line_of, lines = np.concatenate(keys), 3 * len(grid.areas)
        by_slot = np.concatenate(loads, axis=1)
        return np.array([np.bincount(line_of, slot, lines) for slot in by_slot])

    def _sway_of_voltage(self) -> Values:
        """Each line's voltage off its mean by slot, V."""
        drawn = self.rng.normal(0, 0.35, (BLOCK_SLOTS, len(self.voltage)))
        swayed = drawn.astype(np.float32)
        for k in range(BLOCK_SLOTS):
            self.voltage = swayed[k] = swayed[k] + np.float32(0.95) * self.voltage
        return swayed


def _floor(kwh: NDArray[Any]) -> NDArray[np.float64]:
    return np.floor(kwh * 100) / 100


def _shown(values: Values, rows: NDArray[np.intp], decimals: int) -> Values:
    """The rows as a meter shows them."""
    flat = values.reshape(*values.shape[:-2], -1)
    out: Values = np.take(flat, rows, axis=-1)
    out *= np.float32(10**decimals)
    np.rint(out, out=out)
    out /= np.float32(10**decimals)
    return out
