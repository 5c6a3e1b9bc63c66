"""From loads to readings: what flows in the town, and what its meters show of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.simulation.happenings import BLOCK_SLOTS, SLOT_HOURS, Block
from replay.simulation.network import (
    DAY_SLOTS,
    NOMINAL_VOLTS,
    SLOT_SECONDS,
    Grid,
    Values,
)
from replay.simulation.registers import FurtherRegisters, floored
from replay.simulation.weather import Weather
from schemas.columns import Codes, Mask, Readings

LOST_SHARE = 0.005  # of the readings
REPEATED_SHARE = 0.0002  # of the readings that arrive
ASKED_AGAIN = 0.9  # of the gateways' lost readings come in after all
# standard deviation of the logarithm of a segment's interval load
LOAD_SPREAD = np.array([0.55, 0.2, 0.1], np.float32)
# share of a customer's deviation that lasts from a slot to the next
LOAD_PERSISTENCE = np.float32(0.7)
TERMINAL_ERROR = 0.003  # spread of the terminals' errors of ratio
# of the phases' voltages
PHASE_ANGLES = 2 * np.pi * np.arange(3) / 3
PHASE_ROTATIONS = np.exp(-1j * PHASE_ANGLES).astype(np.complex64)


class Physics:
    """From loads to readings, block by block; remembers registers and the loads' deviations."""

    def __init__(
        self, grid: Grid, start: int, days: int, seed: int, rng: np.random.Generator
    ) -> None:
        self.grid = grid
        self.start = start
        self.rng = rng
        rows = len(grid)
        lines = 3 * len(grid.areas)  # a line is a phase of an area's transformer
        self.single_phase = np.flatnonzero(~grid.three & ~grid.gateway)
        self.three_phase = np.flatnonzero(grid.three)
        self.gateway = np.flatnonzero(grid.gateway)
        self.polyphase = np.flatnonzero(grid.three | grid.gateway)

        # how loads and voltages deviate from their means
        self.sway = LOAD_SPREAD[grid.segment]
        shape_number = 2 * grid.segment.astype(np.intp)
        self.shape_of = shape_number * DAY_SLOTS
        self.deviation = rng.standard_normal(rows, np.float32)
        self.voltage = np.zeros(lines, np.float32)
        phase_loads = [
            grid.mean_kw[grid.area == k].sum() / 3 for k in range(len(grid.areas))
        ]
        self.usual = np.repeat(phase_loads, 3)

        # registers as the town begins; one rolls over in the first days
        self.register = floored(rng.uniform(200, 60_000, rows))
        used = np.flatnonzero(grid.mean_kw > 0.3)
        self.register[used[0]] = 999_990.0
        exported = rng.uniform(10, 5000, rows)
        self.exported = np.where(grid.pv_kw > 0, exported, 0)
        through_ct = np.flatnonzero(grid.three & (grid.ratio > 1))
        self.further = FurtherRegisters(through_ct, self.register)
        clock = rng.normal(0, 15, rows)
        self.clock = np.round(clock).astype(np.float32)
        delay = rng.integers(20, 240, len(grid.areas))
        self.delay = delay[grid.area]

        # a second generator, whose draws leave the loads as they are
        self.wave_rng = np.random.default_rng([seed, 5])
        distortion = self.wave_rng.uniform(1.0, 1.8, lines)
        self.distortion = distortion.astype(np.float32)
        ratio_error = self.wave_rng.normal(1, TERMINAL_ERROR, rows)
        terminal = np.where(grid.ratio > 1, ratio_error, np.nan)
        self.terminal = terminal.astype(np.float32)
        self.hertz = 0.0  # Hz off 50

        self.weather = Weather(days, rng)

    def block(self, start: int) -> Block:
        """The next block as it would be if nothing happened."""
        grid = self.grid
        rows = len(self.grid)
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
        lost = self.rng.integers(0, read.size, count)
        read.reshape(-1)[lost] = False
        drawn = self.rng.random((BLOCK_SLOTS, len(self.gateway)))
        read[:, self.gateway] |= drawn < ASKED_AGAIN
        return read

    def run(self, block: Block) -> None:
        """Fills U, I, P, Q, neutral, thd and terminal from the loads."""
        grid = self.grid
        first_slot = (block.start - self.start) // SLOT_SECONDS
        day, slot = divmod(first_slot, DAY_SLOTS)
        slots = slot + np.arange(BLOCK_SLOTS)
        load = self._load(block, day, slots[:, None])
        reactive = load * block.tan
        apparent = self._shine(block, load, reactive, self.weather.light(day, slots))

        active = self._sums(block, load)
        passive = self._sums(block, reactive)
        phase_rating = np.repeat(grid.rating / 3, 3)
        stress = (active / phase_rating).astype(np.float32)
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
        block.I[0] = _amps(apparent, block.U[0])

        for k in range(3):
            self._fill_users(block, k, load, reactive, busbar, stress)
            self._fill_gateways(block, k, active, passive, busbar)
            self._fill_currents(block, k)
        for column in (block.I, block.P, block.Q):
            column[:, :, self.polyphase] /= grid.ratio[self.polyphase]
        self._fill_extras(block, stress, line)

    def _shine(
        self, block: Block, load: Values, reactive: Values, light: Values
    ) -> Values:
        """Takes the sun from the load of the roofs; the apparent power."""
        sun = np.flatnonzero(block.pv_kw > 0)
        load[:, sun] -= np.outer(light, block.pv_kw[sun])
        over_active = np.hypot(np.float32(1), block.tan)
        apparent = np.abs(load) * over_active
        apparent[:, sun] = np.hypot(load[:, sun], reactive[:, sun])
        return apparent

    def _fill_currents(self, block: Block, k: int) -> None:
        """Fills the current of a phase of the polyphase meters."""
        for rows in (self.three_phase, self.gateway):
            columns = (block.U, block.P, block.Q)
            U, P, Q = (column[k][:, rows] for column in columns)
            block.I[k][:, rows] = _amps(np.hypot(P, Q), U)

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
        grid = self.grid
        three = self.three_phase
        lines = grid.area[three] * 3 + k
        share = block.share[k, three]
        drop = grid.line_v[three] * stress[:, lines]
        block.U[k][:, three] = busbar[:, lines] - drop
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
        lines = slice(k, None, 3)  # of the phase, in every area
        load = active[:, lines]
        usual_share = 0.75 * self.grid.loss
        lost = usual_share * load**2 / self.usual[lines]
        block.U[k][:, gateway] = busbar[:, lines]
        block.P[k][:, gateway] = load + lost
        block.Q[k][:, gateway] = passive[:, lines] + 0.3 * lost

    def _fill_extras(self, block: Block, stress: Values, line: Codes) -> None:
        """Fills what is measured beside voltage, current and power."""
        rows = self.polyphase
        active = block.P[..., rows]
        reactive = block.Q[..., rows]
        power = active - 1j * reactive
        amps = power / block.U[..., rows]  # kA, each beside its own voltage
        vector_sum = np.einsum("ksr,k->sr", amps, PHASE_ROTATIONS)
        block.neutral[:] = block.I[0]
        block.neutral[:, rows] = 1000 * np.abs(vector_sum)
        total = active.sum(axis=0)
        block.terminal[:, rows] = total * self.terminal[rows]

        distortion = (
            self.distortion
            + np.float32(1.2) * stress
            + self.wave_rng.normal(0, 0.1, stress.shape)
        )
        block.thd[0] = distortion[:, line]
        first_line = 3 * self.grid.area[rows]
        for k in range(3):
            block.thd[k][:, rows] = distortion[:, first_line + k]

    def _frequency(self) -> NDArray[np.float64]:
        """The town's frequency in each slot of a block."""
        hertz = np.empty(BLOCK_SLOTS)
        for k in range(BLOCK_SLOTS):
            drawn = self.wave_rng.normal(0, 0.012)
            self.hertz = hertz[k] = 0.8 * self.hertz + drawn
        return 50 + hertz

    def read(self, block: Block) -> Readings:
        """The readings that arrive of the block; the registers move on."""
        power = block.P[0].copy()
        by_phase = block.P[:, :, self.polyphase]
        power[:, self.polyphase] = by_phase.sum(axis=0)
        kwh = np.maximum(power, 0) * SLOT_HOURS * block.counts
        register = block.register + np.cumsum(kwh, axis=0, dtype=np.float64)
        self.register = register[-1].copy()
        exported = self._export(block, power, np.zeros_like(register))
        further = self.further.read(block, kwh)
        kwh *= block.curve

        rows = self._arrived_rows(block)
        slot, row = np.divmod(rows, len(self.grid))
        at = block.start + SLOT_SECONDS * (slot + 1)
        town_slots = (at - self.start) // SLOT_SECONDS - 1
        air = self.weather.air[town_slots].round(1)
        hertz = self._frequency()[slot] + block.hertz[row]

        return Readings.build(
            self.grid.names,
            row.astype(np.int32),
            self.grid.areas,
            self.grid.area[row],
            at,
            register=floored(register.reshape(-1)[rows] % 1e6),
            export_register=floored(exported.reshape(-1)[rows]),
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
            frequency=np.round(hertz, 2),
            temperature=np.where(self.grid.gateway[row], air, np.nan),
            **{name: values.reshape(-1)[rows] for name, values in further.items()},
            received=at + self.delay[row],
            status=np.zeros(len(rows), np.uint8),
        )

    def _export(
        self, block: Block, power: Values, exported: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fills the export registers by slot and row; they move on."""
        feeds_in = (block.pv_kw > 0) | (self.exported > 0)
        sun = np.flatnonzero(feeds_in)
        fed_in = np.maximum(-power[:, sun], 0)
        kwh = fed_in * SLOT_HOURS
        more = np.cumsum(kwh, axis=0)
        exported[:, sun] = more + self.exported[sun]
        self.exported = exported[-1].copy()
        return exported

    def _arrived_rows(self, block: Block) -> NDArray[np.intp]:
        """The cells of the block whose readings arrive, in order; a few come twice."""
        once = np.flatnonzero(block.read)
        count = self.rng.binomial(len(once), REPEATED_SHARE)
        again = once[self.rng.integers(0, len(once), count)]
        return np.sort(np.concatenate([once, again]))

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
            * self.weather.load_times[day][grid.segment]
            * np.exp(-(self.sway**2) / 2)
        )
        weekend = (day % 7 >= 5) * DAY_SLOTS
        own_slots = (slots - grid.shift) % DAY_SLOTS
        cells = self.shape_of + weekend + own_slots
        shape = grid.shapes.reshape(-1)[cells]

        # in place: these are the block's largest arrays
        deviation *= self.sway
        np.exp(deviation, out=deviation)
        load = deviation * shape
        load *= usual
        return np.minimum(load, block.cap_kw, out=load)

    def _sums(self, block: Block, load: Values) -> NDArray[np.float64]:
        """Sums by slot and line: three lines an area, one a phase."""
        grid = self.grid
        one = self.single_phase
        three = self.three_phase
        first_line = 3 * block.fed[one]
        keys: list[Codes] = [first_line + block.phase[one]]
        loads = [load[:, one]]
        for k in range(3):
            share = block.share[k, three]
            keys.append(3 * grid.area[three] + k)
            loads.append(load[:, three] * share)

        line_of = np.concatenate(keys)
        lines = 3 * len(grid.areas)
        by_slot = np.concatenate(loads, axis=1)
        return np.array([np.bincount(line_of, slot, lines) for slot in by_slot])

    def _sway_of_voltage(self) -> Values:
        """Each line's voltage off its mean by slot, V."""
        drawn = self.rng.normal(0, 0.35, (BLOCK_SLOTS, len(self.voltage)))
        swayed = drawn.astype(np.float32)
        for k in range(BLOCK_SLOTS):
            lasting = np.float32(0.95) * self.voltage
            self.voltage = swayed[k] = swayed[k] + lasting
        return swayed


def _amps(kva: Values, volts: Values) -> Values:
    """The current of a power at a voltage."""
    return kva * np.float32(1000) / volts


def _shown(values: Values, rows: NDArray[np.intp], decimals: int) -> Values:
    """The rows as a meter shows them."""
    lead = values.shape[:-2]
    flat = values.reshape(*lead, -1)
    out: Values = np.take(flat, rows, axis=-1)
    out *= np.float32(10**decimals)
    np.rint(out, out=out)
    out /= np.float32(10**decimals)
    return out
