"""A simulated town: physically consistent readings of thousands of meters, the office's work, and planted faults.

What is assumed: interval means; every area is fed by one transformer and its customers are spread evenly over the
phases; voltage falls with the phase's load on the way from the transformer; lines lose 2 to 3.5 % of an area's energy,
more in proportion when the load is high; registers show two decimals; one reading in two hundred is lost, of the
gateways' one in two thousand; one in five thousand comes twice. A neutral carries the vector sum of its phases; the
voltage's distortion grows with the transformer's load; a terminal measures beside every meter behind transformers,
and such a user's meter shows tariffs' registers, the highest demand of the month, and the ratio it is set to. It is
early spring: the colder a day, the more homes and shops use; the gateways' terminals tell how cold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.calendar import day_of, month_of
from replay.happenings import Block, Happening, Planted
from replay.history import Source, SourceError
from replay.network import (
    DAY_SLOTS,
    NOMINAL_VOLTS,
    SLOT_SECONDS,
    TOWN_ZONE,
    Values,
    build_grid,
)
from replay.office import open_office
from replay.planted import USUAL_FAULTS, Kinds, Plan
from schemas.columns import Batch, Codes, DeviceEvents, Readings
from schemas.master import Area
from schemas.units import DAY_SECONDS

START_TIME = 1_772_380_800  # Monday 2026-03-02, midnight in Shanghai
BLOCK_SLOTS = 4  # slots
LOST_SHARE, REPEATED_SHARE = 0.005, 0.0002
ASKED_AGAIN = 0.9  # of the gateways' lost readings come in after all
LOAD_SPREAD = np.array(
    [0.55, 0.2, 0.1], np.float32
)  # spread of a segment's interval load, as its logarithm
LOAD_PERSISTENCE = np.float32(
    0.7
)  # of a customer's deviation from one slot to the next
SLOT_HOURS = np.float32(SLOT_SECONDS / 3600)
TERMINAL_ERROR = 0.003  # spread of the terminals' errors of ratio
TARIFF_REGISTERS = ("register_peak", "register_flat", "register_valley")
REGISTER_OF_HOUR = np.repeat(
    [2, 1, 0, 1, 0, 1, 2], [7, 1, 4, 5, 4, 2, 1]
)  # the register of each hour
TARIFF_SHARES = np.array([0.4, 0.4, 0.2])  # of what registers show at first
MEAN_AIR, COLD_DROP, DAILY_SWING = (
    8.0,
    3.0,
    4.0,
)  # deg C: a usual day's mean, less on a cold day, more in the afternoon
PHASE_ROTATIONS = np.exp(-2j * np.pi * np.arange(3) / 3).astype(
    np.complex64
)  # of the phases' voltages


class Town:
    """So many users' meters for so many days. The same arguments give the same town, to the last bit."""

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
        self.days, self.seed = days, seed
        self.start, self.end = start, start + days * DAY_SECONDS
        self.grid = build_grid(meters, seed)
        self._office = open_office(
            self.grid, start, days, seed, faults and kinds.office
        )
        plan = Plan(self.grid, start, days, seed)
        self.happenings: list[Happening] = [*plan.ordinary()]
        if faults:
            self.happenings += [*plan.faults(kinds), *plan.decoys()]
        planted = [
            *(h.planted for h in self.happenings if h.planted),
            *self._office.planted,
        ]
        self.planted: list[Planted] = [p for p in planted if p.rules]
        self.decoys: list[Planted] = [p for p in planted if not p.rules]
        self.rows = round(len(self.grid) * days * DAY_SLOTS * (1 - LOST_SHARE))
        self.name = f"{'' if faults else 'quiet-'}town:{meters}x{days}:{seed}"

    @cached_property
    def areas(self) -> list[Area]:
        """The master data, with the records that what happens adds to it."""
        areas = {area.area: area for area in self.grid.master(self.start)}
        for filed, end in (
            (h.record_change, h.end) for h in self.happenings if h.record_change
        ):
            area = areas[filed.area]
            (usual,) = (m for m in area.meters if m.meter == filed.meter)
            others = [m for m in area.meters if m is not usual or not filed.new]
            records = [replace(filed.change(usual), effective=filed.since)]
            records += [replace(usual, effective=end)] * (end < self.end)
            areas[filed.area] = replace(area, meters=[*others, *records])
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
        for readings, start in zip(
            self.readings(),
            range(self.start, self.end, BLOCK_SLOTS * SLOT_SECONDS),
            strict=True,
        ):
            for batch in others:
                first, last = np.searchsorted(
                    batch.at, (start, start + BLOCK_SLOTS * SLOT_SECONDS)
                )
                if last > first:
                    yield batch.select(slice(first, last))
            if len(readings):
                yield readings

    def readings(self) -> Iterator[Readings]:
        """The readings of an hour after another."""
        rng = np.random.default_rng([self.seed, 4])
        physics = _Physics(self, rng)
        for start in range(self.start, self.end, BLOCK_SLOTS * SLOT_SECONDS):
            block = physics.block(start)
            now = [h for h in self.happenings if h.during(block)]
            for happening in now:
                if happening.before:
                    happening.before(block)
            physics.run(block)
            for happening in now:
                if happening.after:
                    happening.after(block)
            yield physics.read(block)

    def _events(self) -> DeviceEvents:
        told = sorted(
            (n for h in self.happenings for n in h.notices), key=lambda n: n.at
        )
        names, areas = ("", *self.grid.names), self.grid.areas
        subjects = {name: k for k, name in enumerate(names)}
        return DeviceEvents.build(
            names,
            [subjects[n.subject] for n in told],
            areas,
            [areas.index(n.area) for n in told],
            [n.at for n in told],
            event=[n.event for n in told],
            until=[n.until for n in told],
            residual=[n.residual for n in told],
            seconds=[n.seconds for n in told],
        )


TOWN_NAME = re.compile(r"(quiet-)?town(?::(\d+)x(\d+)(?::(\d+))?)?")


def named_town(name: str) -> Town | None:
    """The town called `town`, `town:METERSxDAYS` or `town:METERSxDAYS:SEED`, without faults when `quiet-` goes before.

    None for another name. Raises SourceError for a town without meters or days.

    >>> named_town("quiet-town:300x2").name
    'quiet-town:300x2:1'
    """
    if not (told := TOWN_NAME.fullmatch(name)):
        return None
    quiet, meters, days, seed = told.groups()
    try:
        return Town(
            int(meters or 5000), int(days or 14), int(seed or 1), faults=not quiet
        )
    except ValueError as error:
        raise SourceError(f"{name}: {error}") from error


class _Physics:
    """From loads to what the meters show, block by block; remembers registers and how each load deviates."""

    def __init__(self, town: Town, rng: np.random.Generator) -> None:
        grid = self.grid = town.grid
        self.town, self.rng = town, rng
        rows = len(grid)
        self.single_phase = np.flatnonzero(~grid.three & ~grid.gateway)
        self.three_phase, self.gateway = (
            np.flatnonzero(grid.three),
            np.flatnonzero(grid.gateway),
        )
        self.polyphase, self.through_ct = (
            np.flatnonzero(grid.three | grid.gateway),
            np.flatnonzero(grid.three & (grid.ratio > 1)),
        )
        self.sway = LOAD_SPREAD[grid.segment]
        self.shape_of = grid.segment.astype(np.intp) * 2 * DAY_SLOTS
        self.deviation = rng.standard_normal(rows, np.float32)
        self.voltage = np.zeros(3 * len(grid.areas), np.float32)
        self.usual = np.repeat(
            [grid.mean_kw[grid.area == k].sum() / 3 for k in range(len(grid.areas))], 3
        )
        self.register = np.floor(rng.uniform(200, 60_000, rows) * 100) / 100
        self.register[np.flatnonzero(grid.mean_kw > 0.3)[0]] = (
            999_990.0  # rolls over in the first days
        )
        self.exported = np.where(grid.pv_kw > 0, rng.uniform(10, 5000, rows), 0)
        self.by_tariff = np.outer(TARIFF_SHARES, self.register[self.through_ct])
        self.demand, self.month, self.resets = np.zeros(len(self.through_ct)), -1, 0
        self.clock = np.round(rng.normal(0, 15, rows)).astype(np.float32)
        self.delay = rng.integers(20, 240, len(grid.areas))[grid.area]
        self.wave_rng = np.random.default_rng(
            [town.seed, 5]
        )  # draws apart, so that the loads are what they were without
        self.distortion = self.wave_rng.uniform(1.0, 1.8, 3 * len(grid.areas)).astype(
            np.float32
        )
        self.terminal = np.where(
            grid.ratio > 1, self.wave_rng.normal(1, TERMINAL_ERROR, rows), np.nan
        ).astype(np.float32)
        self.hertz = 0.0  # off 50
        cold = np.clip(rng.standard_normal(town.days), -1.5, 1.5)
        self.weather = 1 + np.outer(cold, (0.1, 0.05, 0.0)).astype(np.float32)
        swing = -DAILY_SWING * np.cos(
            2 * np.pi * (np.arange(DAY_SLOTS) - DAY_SLOTS // 12) / DAY_SLOTS
        )  # coldest at two in the morning
        self.air = (MEAN_AIR - COLD_DROP * cold[:, None] + swing).reshape(-1)
        self.clear = rng.uniform(0.25, 1, town.days).astype(np.float32)

    def block(self, start: int) -> Block:
        """The next block as it would be if nothing happened."""
        grid, rows = self.grid, len(self.grid)
        u, i, p, q, thd = (
            np.full((3, BLOCK_SLOTS, rows), np.nan, np.float32) for _ in range(5)
        )
        neutral, terminal = (
            np.full((BLOCK_SLOTS, rows), np.nan, np.float32) for _ in range(2)
        )
        read = np.ones((BLOCK_SLOTS, rows), bool)
        read.reshape(-1)[
            self.rng.integers(0, read.size, self.rng.binomial(read.size, LOST_SHARE))
        ] = False
        read[:, self.gateway] |= (
            self.rng.random((BLOCK_SLOTS, len(self.gateway))) < ASKED_AGAIN
        )
        one = np.ones(rows, np.float32)
        return Block(
            start=start,
            scale=one.copy(),
            cap_kw=grid.cap_kw.copy(),
            fed=grid.area.copy(),
            phase=grid.phase.copy(),
            share=grid.share.copy(),
            tan=grid.tan.copy(),
            pv_kw=grid.pv_kw.copy(),
            register=self.register.copy(),
            counts=one.copy(),
            curve=one.copy(),
            by_tariff=one.copy(),
            demand=one.copy(),
            set_ratio=grid.ratio.copy(),
            hertz=np.zeros(rows, np.float32),
            clock=self.clock.copy(),
            read=read,
            u=u,
            i=i,
            p=p,
            q=q,
            neutral=neutral,
            thd=thd,
            terminal=terminal,
            flags=np.zeros(rows, np.uint8),
        )

    def run(self, block: Block) -> None:
        """Fills u, i, p, q, neutral, thd and terminal from the loads."""
        grid = self.grid
        day, slot = divmod((block.start - self.town.start) // SLOT_SECONDS, DAY_SLOTS)
        load = self._load(block, day, slot + np.arange(BLOCK_SLOTS)[:, None])
        reactive = load * block.tan
        sun = np.flatnonzero(block.pv_kw > 0)
        light = np.sin(
            np.pi * np.clip((slot + np.arange(BLOCK_SLOTS) - 26) / 44, 0, 1)
        ).astype(np.float32)
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

        line = block.fed * 3 + block.phase
        block.u[0] = (
            busbar[:, line]
            - grid.line_v * stress[:, line]
            - apparent * (grid.service_ohm * 1000 / NOMINAL_VOLTS)
        )
        block.p[0], block.q[0] = load, reactive
        block.i[0] = apparent * np.float32(1000) / block.u[0]
        three, gateway = self.three_phase, self.gateway
        for k in range(3):
            lines, share = grid.area[three] * 3 + k, block.share[k, three]
            block.u[k][:, three] = (
                busbar[:, lines] - grid.line_v[three] * stress[:, lines]
            )
            block.p[k][:, three], block.q[k][:, three] = (
                load[:, three] * share,
                reactive[:, three] * share,
            )
            block.u[k][:, gateway] = busbar[:, k::3]
            lost = 0.75 * grid.loss * active[:, k::3] ** 2 / self.usual[k::3]
            block.p[k][:, gateway], block.q[k][:, gateway] = (
                active[:, k::3] + lost,
                passive[:, k::3] + 0.3 * lost,
            )
            for rows in (three, gateway):
                kva = np.hypot(block.p[k][:, rows], block.q[k][:, rows])
                block.i[k][:, rows] = kva * np.float32(1000) / block.u[k][:, rows]
        for column in (block.i, block.p, block.q):
            column[:, :, self.polyphase] /= grid.ratio[self.polyphase]
        self._fill_extras(block, stress, line)

    def _fill_extras(self, block: Block, stress: Values, line: Codes) -> None:
        """Fills what is measured beside voltage, current and power."""
        many = self.polyphase
        amps = (block.p[..., many] - 1j * block.q[..., many]) / block.u[
            ..., many
        ]  # kA, each beside its own voltage
        block.neutral[:] = block.i[0]
        block.neutral[:, many] = 1000 * np.abs(
            np.einsum("ksr,k->sr", amps, PHASE_ROTATIONS)
        )
        block.terminal[:, many] = block.p[..., many].sum(axis=0) * self.terminal[many]
        distortion = (
            self.distortion
            + np.float32(1.2) * stress
            + self.wave_rng.normal(0, 0.1, stress.shape)
        )
        block.thd[0] = distortion[:, line]
        for k in range(3):
            block.thd[k][:, many] = distortion[:, self.grid.area[many] * 3 + k]

    def _frequency(self) -> NDArray[np.float64]:
        """The town's, in each slot of a block."""
        hertz = np.empty(BLOCK_SLOTS)
        for t in range(BLOCK_SLOTS):
            self.hertz = hertz[t] = 0.8 * self.hertz + self.wave_rng.normal(0, 0.012)
        return 50 + hertz

    def read(self, block: Block) -> Readings:
        """What arrives of the block; the registers move on."""
        power = block.p[0].copy()
        power[:, self.polyphase] = block.p[:, :, self.polyphase].sum(axis=0)
        kwh = np.maximum(power, 0) * SLOT_HOURS * block.counts
        register = block.register + np.cumsum(kwh, axis=0, dtype=np.float64)
        self.register = register[-1].copy()
        sun, exported = (
            np.flatnonzero((block.pv_kw > 0) | (self.exported > 0)),
            np.zeros_like(register),
        )
        exported[:, sun] = (
            np.cumsum(np.maximum(-power[:, sun], 0) * SLOT_HOURS, axis=0)
            + self.exported[sun]
        )
        self.exported = exported[-1].copy()
        kept = self._extra_registers(block, kwh)
        kwh *= block.curve

        once = np.flatnonzero(block.read)
        again = once[
            self.rng.integers(
                0, len(once), self.rng.binomial(len(once), REPEATED_SHARE)
            )
        ]
        rows = np.sort(np.concatenate([once, again]))
        slot, row = np.divmod(rows, len(self.grid))
        at = block.start + SLOT_SECONDS * (slot + 1)
        return Readings.build(
            self.grid.names,
            row.astype(np.int32),
            self.grid.areas,
            self.grid.area[row],
            at,
            register=_floor(register.reshape(-1)[rows] % 1e6),
            export_register=_floor(exported.reshape(-1)[rows]),
            kwh=_shown(kwh, rows, 4),
            u=_shown(block.u, rows, 1),
            i=_shown(block.i, rows, 3),
            p=_shown(block.p, rows, 4),
            q=_shown(block.q, rows, 4),
            clock_offset=block.clock[row],
            neutral=_shown(block.neutral, rows, 3),
            thd=_shown(block.thd, rows, 2),
            terminal_p=_shown(block.terminal, rows, 4),
            flags=block.flags[row].astype(np.float32),
            frequency=np.round(self._frequency()[slot] + block.hertz[row], 2),
            temperature=np.where(
                self.grid.gateway[row],
                self.air[(at - self.town.start) // SLOT_SECONDS - 1].round(1),
                np.nan,
            ),
            **{name: values.reshape(-1)[rows] for name, values in kept.items()},
            received=at + self.delay[row],
            status=np.zeros(len(rows), np.uint8),
        )

    def _extra_registers(self, block: Block, kwh: Values) -> dict[str, NDArray[Any]]:
        """What the meters behind transformers keep beside their register: energy by tariff, and demand."""
        rich, slots = self.through_ct, np.arange(BLOCK_SLOTS)
        hours = ((block.start - START_TIME) // SLOT_SECONDS + slots) % DAY_SLOTS // 4
        month = int(
            month_of(day_of(np.array([block.start + SLOT_SECONDS]), TOWN_ZONE))[0][0]
        )
        if month != self.month:
            self.demand, self.month, self.resets = (
                np.zeros(len(rich)),
                month,
                self.resets + 1,
            )
        moved = kwh[:, rich] * block.by_tariff[rich]
        moved = np.where(
            (REGISTER_OF_HOUR[hours] == np.arange(3)[:, None])[..., None], moved, 0
        )
        by_tariff = self.by_tariff[:, None] + np.cumsum(moved, axis=1)
        demand = np.maximum.accumulate(
            np.concatenate([self.demand[None], kwh[:, rich] / SLOT_HOURS]), axis=0
        )[1:]
        self.by_tariff, self.demand = by_tariff[:, -1], demand[-1]
        kept = {
            name: np.full(kwh.shape, np.nan)
            for name in (*TARIFF_REGISTERS, "demand", "demand_resets", "meter_ratio")
        }
        for name, values in zip(TARIFF_REGISTERS, by_tariff, strict=True):
            kept[name][:, rich] = _floor(values)
        kept["demand"][:, rich] = np.round(demand * block.demand[rich], 4)
        kept["demand_resets"][:, rich], kept["meter_ratio"][:, rich] = (
            self.resets,
            block.set_ratio[rich],
        )
        return kept

    def _load(self, block: Block, day: int, slots: NDArray[Any]) -> Values:
        grid = self.grid
        deviation = self.rng.standard_normal((BLOCK_SLOTS, len(grid)), np.float32)
        deviation *= np.sqrt(1 - LOAD_PERSISTENCE**2)
        for t in range(BLOCK_SLOTS):
            self.deviation = deviation[t] = (
                deviation[t] + LOAD_PERSISTENCE * self.deviation
            )
        usual = (
            grid.mean_kw
            * block.scale
            * self.weather[day][grid.segment]
            * np.exp(-(self.sway**2) / 2)
        )
        weekend = (day % 7 >= 5) * DAY_SLOTS
        shape = grid.shapes.reshape(-1)[
            self.shape_of + weekend + (slots - grid.shift) % DAY_SLOTS
        ]
        deviation *= self.sway
        np.exp(deviation, out=deviation)
        load = deviation * shape
        load *= usual
        return np.minimum(load, block.cap_kw, out=load)

    def _sums(self, block: Block, load: Values) -> NDArray[np.float64]:
        """Sums by slot and line: three lines an area, one a phase."""
        grid, lines = self.grid, 3 * len(self.grid.areas)
        one, three = self.single_phase, self.three_phase
        keys = np.concatenate(
            [
                block.fed[one] * 3 + block.phase[one],
                *(grid.area[three] * 3 + k for k in range(3)),
            ]
        )
        loads = np.concatenate(
            [load[:, one], *(load[:, three] * block.share[k, three] for k in range(3))],
            axis=1,
        )
        return np.array([np.bincount(keys, slot, lines) for slot in loads])

    def _sway_of_voltage(self) -> Values:
        swayed = self.rng.normal(0, 0.35, (BLOCK_SLOTS, len(self.voltage))).astype(
            np.float32
        )
        for t in range(BLOCK_SLOTS):
            self.voltage = swayed[t] = swayed[t] + np.float32(0.95) * self.voltage
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
