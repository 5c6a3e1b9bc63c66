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
from schemas.columns import Codes, Mask, Readings

LOST_SHARE = 0.005  # of the readings
REPEATED_SHARE = 0.0002  # of the readings that arrive
ASKED_AGAIN = 0.9  # of the gateways' lost readings come in after all
# standard deviation of the logarithm of a segment's interval load
LOAD_SPREAD = np.array([0.55, 0.2, 0.1], np.float32)
# share of a customer's deviation that lasts from a slot to the next
LOAD_PERSISTENCE = np.float32(0.7)
TERMINAL_ERROR = 0.003  # spread of the terminals' errors of ratio
MEAN_AIR = 8.0  # deg C, a usual day's mean
COLD_DROP = 3.0  # deg C less on a cold day
DAILY_SWING = 4.0  # deg C more in the afternoon
# of the phases' voltages
PHASE_ROTATIONS = np.exp(-2j * np.pi * np.arange(3) / 3).astype(np.complex64)


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
        through_ct = np.flatnonzero(grid.three & (grid.ratio > 1))
        self.further = FurtherRegisters(through_ct, self.register)
        self.clock = np.round(rng.normal(0, 15, rows)).astype(np.float32)
        self.delay = rng.integers(20, 240, len(grid.areas))[grid.area]

        # a second generator, whose draws leave the loads as they are
        self.wave_rng = np.random.default_rng([seed, 5])
        distortion = self.wave_rng.uniform(1.0, 1.8, lines)
        self.distortion = distortion.astype(np.float32)
        ratio_error = self.wave_rng.normal(1, TERMINAL_ERROR, rows)
        terminal = np.where(grid.ratio > 1, ratio_error, np.nan)
        self.terminal = terminal.astype(np.float32)
        self.hertz = 0.0  # Hz off 50

        # the air is coldest at two in the morning
        cold = np.clip(rng.standard_normal(days), -1.5, 1.5)
        self.weather = 1 + np.outer(cold, (0.1, 0.05, 0.0)).astype(np.float32)
        hours = 2 * np.pi * (np.arange(DAY_SLOTS) - DAY_SLOTS // 12) / DAY_SLOTS
        swing = -DAILY_SWING * np.cos(hours)
        self.air = (MEAN_AIR - COLD_DROP * cold[:, None] + swing).reshape(-1)
        self.clear = rng.uniform(0.25, 1, days).astype(np.float32)

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
        day, slot = divmod((block.start - self.start) // SLOT_SECONDS, DAY_SLOTS)
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
        further = self.further.read(block, kwh)
        kwh *= block.curve

        rows = self._arrived_rows(block)
        slot, row = np.divmod(rows, len(self.grid))
        at = block.start + SLOT_SECONDS * (slot + 1)
        air = self.air[(at - self.start) // SLOT_SECONDS - 1].round(1)

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
            frequency=np.round(self._frequency()[slot] + block.hertz[row], 2),
            temperature=np.where(self.grid.gateway[row], air, np.nan),
            **{name: values.reshape(-1)[rows] for name, values in further.items()},
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


def _shown(values: Values, rows: NDArray[np.intp], decimals: int) -> Values:
    """The rows as a meter shows them."""
    flat = values.reshape(*values.shape[:-2], -1)
    out: Values = np.take(flat, rows, axis=-1)
    out *= np.float32(10**decimals)
    np.rint(out, out=out)
    out /= np.float32(10**decimals)
    return out
