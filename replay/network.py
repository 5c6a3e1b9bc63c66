"""The town's grid: who hangs on which transformer, with which meter, and how much each uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.columns import Codes, Mask
from schemas.master import Area, Meter, Phase, Segment, Tariff, Tier, Transformer
from schemas.units import DAY_SECONDS

PHASE_NAMES: tuple[Phase, ...] = ("A", "B", "C")
SEGMENT_NAMES: tuple[Segment, ...] = ("residential", "commercial", "industrial")
RESIDENTIAL_SEGMENT, COMMERCIAL_SEGMENT, INDUSTRIAL_SEGMENT = range(3)
SLOT_SECONDS = 900
DAY_SLOTS = 96
NOMINAL_VOLTS = 220.0
AREA_RATINGS = np.array(
    [100, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500.0]
)  # kVA
CUSTOMER_RATINGS = np.concatenate(
    [[30, 50, 63, 80], AREA_RATINGS]
)  # kVA of customers' transformers
CURRENT_TRANSFORMER_RATIOS = np.array(
    [10, 15, 20, 30, 40, 60, 80, 100, 120, 160, 200, 250, 300, 400, 500, 600, 800.0]
)  # to 5 A

TOWN_ZONE = "Asia/Shanghai"
SEGMENT_TARIFFS = {  # by segment
    "residential": Tariff(
        tariff="residential",
        flat=0.56,
        tiers_of="month",
        tiers=[Tier(above_kwh=230, extra=0.05), Tier(above_kwh=400, extra=0.25)],
    ),
    "commercial": Tariff(tariff="commercial", flat=0.66, peak=0.98, valley=0.35),
    "industrial": Tariff(
        tariff="two-part",
        flat=0.6,
        peak=0.9,
        valley=0.32,
        demand=38.0,
        power_factor=0.9,
    ),
}

Values = NDArray[np.float32]
Rows = NDArray[np.intp]


def _bell(
    hour: NDArray[np.float64], middle: float, width: float
) -> NDArray[np.float64]:
    return np.exp(-0.5 * ((hour - middle) / width) ** 2)


def daily_shapes() -> Values:
    """Load by (segment, weekend, slot) over its weekday mean.

    >>> daily_shapes().shape, round(float(daily_shapes()[0, 0].mean()), 3)
    ((3, 2, 96), 1.0)
    """
    h = (np.arange(DAY_SLOTS) + 0.5) / 4
    day = 1 / (1 + np.exp(-(h - 8.5) * 2.5)) / (1 + np.exp((h - 21) * 2))
    shift = 1 / (1 + np.exp(-(h - 7.5) * 3)) / (1 + np.exp((h - 19.5) * 2))
    home = (
        0.5 + 0.5 * _bell(h, 7.5, 1) + 0.4 * _bell(h, 12.3, 1.3) + 1.5 * _bell(h, 20, 2)
    )
    idle = (
        0.6 + 0.4 * _bell(h, 9, 1.5) + 0.7 * _bell(h, 13, 2.5) + 1.5 * _bell(h, 20, 2.2)
    )
    shapes = np.array(
        [
            [home, idle],
            [0.3 + day, 0.32 + 1.1 * day],
            [0.35 + shift, 0.33 + 0.35 * shift],
        ]
    )
    return np.asarray(shapes / shapes[:, :1].mean(axis=2, keepdims=True), np.float32)


@dataclass(frozen=True)
class Grid:
    """Row i of every column is one meter: area after area, each area's gateway meter first."""

    names: tuple[str, ...]
    areas: tuple[str, ...]
    sections: tuple[str, ...]  # of each area
    area: Codes
    segment: NDArray[np.int8]  # into SEGMENT_NAMES
    gateway: Mask
    three: Mask  # three-phase users
    phase: Codes  # the phase a single-phase meter hangs on
    share: Values  # (3, rows) of a three-phase user's load on each phase
    mean_kw: Values
    cap_kw: Values  # what the supply lets through
    shift: Codes  # slots by which the day begins later
    tan: Values  # reactive over active power
    line_v: Values  # V lost on the way from the transformer when it is fully loaded
    service_ohm: Values
    pv_kw: Values
    contract_kva: Values  # NaN where there is none
    ratio: Values  # of the current transformers
    rating: Values  # kVA of each area's transformer
    loss: Values  # share of each area's energy lost in its lines
    busbar: Values  # V at each area's unloaded transformer
    dyn: Mask  # transformers of the vector group Dyn11
    shapes: Values = field(default_factory=daily_shapes)

    def __len__(self) -> int:
        return len(self.names)

    def customer(self, row: int) -> str:
        """The customer behind a meter."""
        return self.names[row].replace("M", "C", 1)

    def expected_kw(self, rows: Any, weekend: int = 0) -> NDArray[np.float64]:
        """Mean load of the rows together in each slot of a day."""
        rows = np.arange(len(self))[rows]
        slots = np.arange(DAY_SLOTS)
        return np.array(
            [
                (
                    self.mean_kw[rows]
                    * self.shapes[
                        self.segment[rows], weekend, (s - self.shift[rows]) % DAY_SLOTS
                    ]
                ).sum()
                for s in slots
            ]
        )

    def master(self, start: int) -> list[Area]:
        """The master data of all areas, as the utility's files hold it when the town begins."""
        return [self._area(k, start) for k in range(len(self.areas))]

    def _area(self, k: int, start: int) -> Area:
        rows = np.flatnonzero(self.area == k)
        transformer = Transformer(
            rating_kva=float(self.rating[k]),
            vector_group="Dyn11" if self.dyn[k] else "Yyn0",
        )
        return Area(
            area=self.areas[k],
            section=self.sections[k],
            feeder=f"F{k // 8 + 1:02d}",
            gateway=self.names[rows[0]],
            transformers=[transformer],
            tariffs=list(SEGMENT_TARIFFS.values()),
            meters=[self.meter(int(r), start) for r in rows],
        )

    def meter(self, row: int, start: int) -> Meter:
        """The file of a meter: calibrated within six years, its contract for some years more."""
        through, user = self.ratio[row] > 1, not self.gateway[row]
        contract, segment = (
            float(self.contract_kva[row]),
            SEGMENT_NAMES[self.segment[row]],
        )
        industrial = user and segment == "industrial"
        return Meter(
            meter=self.names[row],
            customer="" if self.gateway[row] else self.customer(row),
            wiring="3P4W" if self.three[row] or self.gateway[row] else "1P2W",
            un_v=NOMINAL_VOLTS,
            phase=""
            if self.three[row] or self.gateway[row]
            else PHASE_NAMES[self.phase[row]],
            ib_a=1.5 if through else 5.0,
            imax_a=6.0 if through else 60.0,
            ct=float(self.ratio[row]),
            contract_kva=None if np.isnan(contract) else contract,
            pv_kva=float(self.pv_kw[row]),
            segment=segment,
            calibration_due=start + (200 + 37 * row % 1800) * DAY_SECONDS,
            contract_until=start + (200 + 53 * row % 1000) * DAY_SECONDS if user else 0,
            signed_kva=contract if user else None,
            tariff=SEGMENT_TARIFFS[segment].tariff if user else "",
            read_day=1 if user else 0,
            declared_kw=float(np.ceil(self.cap_kw[row])) if industrial else None,
            own_transformer_kva=float(
                _next_step(CUSTOMER_RATINGS, np.array([1.3 * contract]))[0]
            )
            if industrial
            else 0.0,
        )


def _next_step(steps: NDArray[np.float64], least: NDArray[Any]) -> Values:
    """The smallest step that is enough, or the largest there is.

    >>> _next_step(AREA_RATINGS, np.array([161.0, 9e9])).tolist()
    [200.0, 2500.0]
    """
    return np.asarray(
        steps[np.minimum(np.searchsorted(steps, least), len(steps) - 1)], np.float32
    )


def _sizes(meters: int, rng: np.random.Generator) -> list[int]:
    sizes: list[int] = []
    while (left := meters - sum(sizes)) > 0:
        size = int(rng.integers(100, 301))
        sizes.append(left if left < size + 100 else size)
    return sizes


def build_grid(meters: int, seed: int) -> Grid:
    """A town of so many users' meters and one gateway meter per area. The same arguments give the same town."""
    rng = np.random.default_rng([seed, 1])
    sizes = _sizes(meters, rng)
    count = len(sizes)
    area = np.repeat(np.arange(count, dtype=np.int32), np.array(sizes) + 1)
    rows = len(area)
    place = np.arange(rows) - np.repeat(
        np.flatnonzero(np.r_[True, np.diff(area) > 0]), np.array(sizes) + 1
    )
    gateway = place == 0

    business = np.where(rng.random(count) < 0.7, 0.08, 0.18)[area]
    draw = rng.random(rows)
    segment = np.where(draw < business, COMMERCIAL_SEGMENT, RESIDENTIAL_SEGMENT).astype(
        np.int8
    )
    segment[draw < 0.006] = INDUSTRIAL_SEGMENT
    segment[place == 1], segment[(place > 1) & (place < 6)] = (
        INDUSTRIAL_SEGMENT,
        COMMERCIAL_SEGMENT,
    )
    three = (
        (segment == INDUSTRIAL_SEGMENT)
        | ((segment == COMMERCIAL_SEGMENT) & (rng.random(rows) < 0.2))
        | ((place > 0) & (place < 6))
    )
    three &= ~gateway

    normal = rng.standard_normal(rows)
    mean_kw = np.select(
        [gateway, segment == INDUSTRIAL_SEGMENT, three, segment == COMMERCIAL_SEGMENT],
        [
            0,
            np.clip(22 * np.exp(0.35 * normal), 12, 40),
            np.clip(np.where(place < 6, 9, 4) * np.exp(0.3 * normal), 2, 18),
            np.clip(0.9 * np.exp(0.4 * normal), 0.3, 2),
        ],
        np.clip(0.33 * np.exp(0.45 * normal), 0.1, 1.2),
    )
    highest = mean_kw * np.array([3.5, 2.2, 2.0])[segment]
    tan = rng.uniform(*np.array([[0.14, 0.3, 0.35], [0.3, 0.46, 0.48]])[:, segment])
    contract = np.where(
        segment == RESIDENTIAL_SEGMENT, 8, np.ceil(highest * np.hypot(1, tan) * 1.05)
    )
    through = three & (mean_kw >= 6)
    ratio = np.where(
        through,
        _next_step(CURRENT_TRANSFORMER_RATIOS, highest / 3 * 1000 / NOMINAL_VOLTS / 3),
        1,
    )

    share = rng.uniform(0.94, 1.06, (3, rows))
    grid = Grid(
        names=tuple(f"{'G' if g else 'M'}{k:06d}" for k, g in enumerate(gateway)),
        areas=tuple(f"A{k + 1:03d}" for k in range(count)),
        sections=tuple(f"S{k // 5 + 1:02d}" for k in range(count)),
        area=area,
        segment=segment,
        gateway=gateway,
        three=three,
        phase=_balanced(area, np.where(three | gateway, 0, mean_kw)),
        share=_f(share / share.sum(axis=0)),
        mean_kw=_f(mean_kw),
        cap_kw=_f(np.where(gateway, np.inf, 0.9 * contract)),
        shift=rng.integers(-3, 4, rows, np.int32),
        tan=_f(tan),
        line_v=_f(np.where(gateway, 0, rng.uniform(1, 7, rows))),
        service_ohm=_f(np.where(three | gateway, 0, rng.uniform(0.03, 0.1, rows))),
        pv_kw=_f(
            np.where(
                (segment == RESIDENTIAL_SEGMENT) & ~gateway & (rng.random(rows) < 0.01),
                2,
                0,
            )
        ),
        contract_kva=_f(np.where(gateway, np.nan, contract)),
        ratio=_f(ratio),
        rating=_f(np.ones(count)),
        loss=_f(rng.uniform(0.02, 0.035, count)),
        busbar=_f(rng.uniform(227, 230, count)),
        dyn=rng.random(count) < 0.5,
    )
    peaks = np.array([grid.expected_kw(area == k).max() for k in range(count)])
    rating = _next_step(AREA_RATINGS, 1.05 * peaks / 0.55)
    ratio[gateway] = _next_step(
        CURRENT_TRANSFORMER_RATIOS, rating * 1000 / 3 / NOMINAL_VOLTS / 5
    )
    return replace(grid, rating=rating, ratio=_f(ratio))


def _f(values: Any) -> Values:
    return np.asarray(values, np.float32)


def _balanced(area: Codes, load: NDArray[np.float64]) -> Codes:
    """Phases dealt out back and forth by size, so that every area's single-phase load is even."""
    phase = np.zeros(len(area), np.int32)
    deal = np.array([0, 1, 2, 2, 1, 0], np.int32)
    for k in range(int(area[-1]) + 1):
        rows = np.flatnonzero((area == k) & (load > 0))
        phase[rows[np.argsort(-load[rows], kind="stable")]] = np.resize(deal, len(rows))
    return phase
