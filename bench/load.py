"""The load that is measured: quarter-hours of three-phase meters, a few of them in trouble, the same each time.

Every area has 499 users and a gateway meter. One reading carries voltage, current, active and reactive power of three
phases, register and interval energy. Per 100,000 meters and quarter-hour ten begin an hour of voltage loss; 200 are
unbalanced and 100 beyond their contract throughout. Times lie in the past and go as fast as they are asked for.
What the other topics carry is in `bench.others`.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from schemas.columns import Readings
from schemas.master import Area, Meter, Transformer

ZONE = "Asia/Shanghai"
MIDNIGHT = 1_735_747_200  # 2025-01-02 in Shanghai
SLOT, SLOTS = 900, 96
AREA = 500  # meters, the gateway's included
RATIO = 400.0  # of a gateway's current transformers
LOSS = 1.03  # what an area takes in over what its users do
BEGIN = 0.0001  # of the meters begin a voltage loss in a quarter-hour
LASTS = 4  # quarter-hours of a voltage loss
UNBALANCED, BEYOND = 0.002, 0.001  # of the meters, throughout
LOST_VOLTS = 110.0  # too low for a deviation: one alert each
Values = NDArray[np.float32]


class Load:
    """So many meters, from a quarter-hour of a day on; goes on where it was last asked."""

    def __init__(self, meters: int = 100_000, slot: int = 64, seed: int = 1, area: int = AREA) -> None:
        if meters % area:
            raise ValueError(f"{meters} meters do not fill areas of {area}")
        self.count, self.next, self.size = meters, slot, area
        self.rng = rng = np.random.default_rng([seed, meters])
        self.area_names = tuple(f"A{number:05}" for number in range(meters // area))
        self.names = tuple(f"{'G' if number % area == 0 else 'M'}{number:07}" for number in range(meters))
        self.subject = np.arange(meters, dtype=np.int32)
        self.area = self.subject // area
        self.gateway = self.subject % area == 0
        self.mean_kw = np.clip(rng.lognormal(0.2, 0.5, meters), 0.3, 6).astype(np.float32)
        self.share = (1 / 3 + rng.normal(0, 0.008, (3, meters))).astype(np.float32)
        self.share[:, self._some(UNBALANCED)] = np.array([[0.7], [0.2], [0.1]], np.float32)
        self.beyond = self._some(BEYOND)
        self.register = np.floor(rng.uniform(200, 60_000, meters) * 100) / 100
        self.losing = np.zeros(meters, np.int8)  # quarter-hours of voltage loss to come
        self.phase = rng.integers(0, 3, meters)

    def areas(self) -> list[Area]:
        """The master data."""
        return [self._master(number) for number in range(len(self.area_names))]

    def slots(self, count: int) -> Iterator[Readings]:
        """The readings of the next quarter-hours, a batch each, area by area."""
        for _ in range(count):
            yield self.slot()

    def slot(self) -> Readings:
        """The readings of the next quarter-hour, area by area."""
        rng, rows = self.rng, self.count
        at = MIDNIGHT + self.next * SLOT
        shape = np.float32(1 + 0.5 * np.sin(2 * np.pi * (self.next / SLOTS - 0.35)))
        self.next += 1
        noise = rng.standard_normal((4, rows), np.float32)
        kw = self.mean_kw * shape * np.exp(np.float32(0.25) * noise[3])
        p = kw * self.share * (1 + np.float32(0.02) * noise[:3])
        p[:, self.gateway] = 0
        p[:, self.gateway] = p.reshape(3, -1, self.size).sum(axis=2) * np.float32(LOSS / RATIO)
        q = p * np.float32(0.3)
        u = 226 + np.float32(1.2) * noise[[1, 2, 0]]
        lost = self._lose()
        u[self.phase[lost], lost] = LOST_VOLTS
        i = p * np.float32(1000 * np.hypot(1, 0.3)) / u
        kwh = p.sum(axis=0) * np.float32(SLOT / 3600)
        self.register += kwh
        return Readings.build(
            self.names, self.subject, self.area_names, self.area, np.full(rows, at),
            register=np.floor(self.register * 100) / 100, kwh=shown(kwh, 4), u=shown(u, 1), i=shown(i, 3),
            p=shown(p, 4), q=shown(q, 4),
        )  # fmt: skip

    def _lose(self) -> NDArray[np.intp]:
        """The meters that have no voltage on a phase now."""
        chosen = self.rng.integers(0, self.count, self.rng.binomial(self.count, BEGIN))
        self.losing[chosen[~self.gateway[chosen]]] = LASTS + 1
        self.losing[self.losing > 0] -= 1
        return np.flatnonzero(self.losing)

    def _some(self, share: float) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = (self.rng.random(self.count) < share) & ~self.gateway
        return chosen

    def _master(self, number: int) -> Area:
        numbers = range(number * self.size, (number + 1) * self.size)
        return Area(
            area=self.area_names[number], section=section_of(number), gateway=self.names[numbers[0]],
            transformers=[Transformer(rating_kva=2000.0)],
            meters=[
                Meter(meter=self.names[n], wiring="3P4W", ct=RATIO, segment="commercial") if n == numbers[0] else
                Meter(meter=self.names[n], customer=customer_of(n), wiring="3P4W",
                      contract_kva=0.5 if self.beyond[n] else 50.0)
                for n in numbers
            ],
        )  # fmt: skip


def section_of(area: int) -> str:
    """The name of the section that works on an area."""
    return f"S{area // 20:03}"


def customer_of(meter: int) -> str:
    """The name of a meter's customer."""
    return f"C{meter:07}"


def shown(values: Values, decimals: int) -> Values:
    """As a meter shows them."""
    out: Values = np.rint(values * np.float32(10**decimals))
    out /= np.float32(10**decimals)
    return out
