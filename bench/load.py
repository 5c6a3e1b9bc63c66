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

LOAD_ZONE = "Asia/Shanghai"
FIRST_MIDNIGHT = 1_735_747_200  # 2025-01-02 in Shanghai
SLOT_SECONDS, SLOTS_PER_DAY = 900, 96
AREA_METERS = 500  # meters, the gateway's included
GATEWAY_RATIO = 400.0  # of a gateway's current transformers
LOSS_FACTOR = 1.03  # what an area takes in over what its users do
VOLTAGE_LOSS_SHARE = 0.0001  # of the meters begin a voltage loss in a quarter-hour
VOLTAGE_LOSS_SLOTS = 4  # quarter-hours of a voltage loss
UNBALANCED_SHARE, BEYOND_CONTRACT_SHARE = 0.002, 0.001  # of the meters, throughout
LOST_VOLTS = 110.0  # too low for a deviation: one alert each
Values = NDArray[np.float32]


class Load:
    """So many meters, from a quarter-hour of a day on; goes on where it was last asked."""

    def __init__(
        self,
        meters: int = 100_000,
        slot: int = 64,
        seed: int = 1,
        area: int = AREA_METERS,
    ) -> None:
        if meters % area:
            raise ValueError(f"{meters} meters do not fill areas of {area}")
        self.count, self.next, self.size = meters, slot, area
        self._rng = rng = np.random.default_rng([seed, meters])
        self.area_names = tuple(f"A{number:05}" for number in range(meters // area))
        self.names = tuple(
            f"{'G' if number % area == 0 else 'M'}{number:07}"
            for number in range(meters)
        )
        self._subject = np.arange(meters, dtype=np.int32)

        self.area = self._subject // area
        self._gateway = self._subject % area == 0
        self._mean_kw = np.clip(rng.lognormal(0.2, 0.5, meters), 0.3, 6).astype(
            np.float32
        )
        self._share = (1 / 3 + rng.normal(0, 0.008, (3, meters))).astype(np.float32)
        self._share[:, self._some(UNBALANCED_SHARE)] = np.array(
            [[0.7], [0.2], [0.1]], np.float32
        )
        self.beyond = self._some(BEYOND_CONTRACT_SHARE)

        self.register = np.floor(rng.uniform(200, 60_000, meters) * 100) / 100
        self._losing = np.zeros(
            meters, np.int8
        )  # quarter-hours of voltage loss to come
        self._phase = rng.integers(0, 3, meters)

    def areas(self) -> list[Area]:
        """The master data."""
        return [self._master(number) for number in range(len(self.area_names))]

    def slots(self, count: int) -> Iterator[Readings]:
        """The readings of the next quarter-hours, a batch each, area by area."""
        for _ in range(count):
            yield self.slot()

    def slot(self) -> Readings:
        """The readings of the next quarter-hour, area by area."""
        rng, rows = self._rng, self.count
        at = FIRST_MIDNIGHT + self.next * SLOT_SECONDS
        shape = np.float32(
            1 + 0.5 * np.sin(2 * np.pi * (self.next / SLOTS_PER_DAY - 0.35))
        )
        self.next += 1
        noise = rng.standard_normal((4, rows), np.float32)
        kw = self._mean_kw * shape * np.exp(np.float32(0.25) * noise[3])

        p = kw * self._share * (1 + np.float32(0.02) * noise[:3])
        p[:, self._gateway] = 0
        p[:, self._gateway] = p.reshape(3, -1, self.size).sum(axis=2) * np.float32(
            LOSS_FACTOR / GATEWAY_RATIO
        )
        q = p * np.float32(0.3)
        u = 226 + np.float32(1.2) * noise[[1, 2, 0]]
        lost = self._lose()

        u[self._phase[lost], lost] = LOST_VOLTS
        i = p * np.float32(1000 * np.hypot(1, 0.3)) / u
        kwh = p.sum(axis=0) * np.float32(SLOT_SECONDS / 3600)
        self.register += kwh

        return Readings.build(
            self.names,
            self._subject,
            self.area_names,
            self.area,
            np.full(rows, at),
            register=np.floor(self.register * 100) / 100,
            kwh=_rounded(kwh, 4),
            u=_rounded(u, 1),
            i=_rounded(i, 3),
            p=_rounded(p, 4),
            q=_rounded(q, 4),
        )

    def _lose(self) -> NDArray[np.intp]:
        """The meters that have no voltage on a phase now."""
        chosen = self._rng.integers(
            0, self.count, self._rng.binomial(self.count, VOLTAGE_LOSS_SHARE)
        )
        self._losing[chosen[~self._gateway[chosen]]] = VOLTAGE_LOSS_SLOTS + 1
        self._losing[self._losing > 0] -= 1
        return np.flatnonzero(self._losing)

    def _some(self, share: float) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = (
            self._rng.random(self.count) < share
        ) & ~self._gateway
        return chosen

    def _master(self, number: int) -> Area:
        numbers = range(number * self.size, (number + 1) * self.size)
        return Area(
            area=self.area_names[number],
            section=section_of(number),
            gateway=self.names[numbers[0]],
            transformers=[Transformer(rating_kva=2000.0)],
            meters=[
                Meter(
                    meter=self.names[n],
                    wiring="3P4W",
                    ct=GATEWAY_RATIO,
                    segment="commercial",
                )
                if n == numbers[0]
                else Meter(
                    meter=self.names[n],
                    customer=customer_of(n),
                    wiring="3P4W",
                    contract_kva=0.5 if self.beyond[n] else 50.0,
                )
                for n in numbers
            ],
        )


def section_of(area: int) -> str:
    """The name of the section that works on an area."""
    return f"S{area // 20:03}"


def customer_of(meter: int) -> str:
    """The name of a meter's customer."""
    return f"C{meter:07}"


def _rounded(values: Values, decimals: int) -> Values:
    """As a meter shows them."""
    out: Values = np.rint(values * np.float32(10**decimals))
    out /= np.float32(10**decimals)
    return out
