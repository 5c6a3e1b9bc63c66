"""The town's grid: every transformer's meters, and how much each customer uses."""

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
# reactive over active power of homes, shops and works, from and to
TAN_SPANS = ((0.14, 0.3, 0.35), (0.3, 0.46, 0.48))
AREA_RATINGS = np.array(  # kVA
    [100, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500.0]
)
# kVA of customers' transformers
CUSTOMER_RATINGS = np.concatenate([[30, 50, 63, 80], AREA_RATINGS])
CURRENT_TRANSFORMER_RATIOS = np.array(  # of primary amperes to 5 A
    [10, 15, 20, 30, 40, 60, 80, 100, 120, 160, 200, 250, 300, 400, 500, 600, 800.0]
)

TOWN_ZONE = "Asia/Shanghai"
START_TIME = 1_772_380_800  # Monday 2026-03-02, midnight in Shanghai
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
    distance = (hour - middle) / width
    return np.exp(-0.5 * distance**2)


def _step(
    hour: NDArray[np.float64], middle: float, steepness: float
) -> NDArray[np.float64]:
    return 1 + np.exp((hour - middle) * steepness)


def daily_shapes() -> Values:
    """Load by (segment, weekend, slot) over its weekday mean.

    >>> daily_shapes().shape, round(float(daily_shapes()[0, 0].mean()), 3)
    ((3, 2, 96), 1.0)
    """
    # a business's day and a factory's shift rise and fall as logistic steps
    hour = (np.arange(DAY_SLOTS) + 0.5) / 4
    day = 1 / _step(hour, 8.5, -2.5) / _step(hour, 21, 2)
    shift = 1 / _step(hour, 7.5, -3) / _step(hour, 19.5, 2)
    home = (
        0.5
        + 0.5 * _bell(hour, 7.5, 1)
        + 0.4 * _bell(hour, 12.3, 1.3)
        + 1.5 * _bell(hour, 20, 2)
    )
    idle = (
        0.6
        + 0.4 * _bell(hour, 9, 1.5)
        + 0.7 * _bell(hour, 13, 2.5)
        + 1.5 * _bell(hour, 20, 2.2)
    )

    shapes = np.array(
        [
            [home, idle],
            [0.3 + day, 0.32 + 1.1 * day],
            [0.35 + shift, 0.33 + 0.35 * shift],
        ]
    )
    weekdays = shapes[:, :1]
    mean = weekdays.mean(axis=2, keepdims=True)
    return np.asarray(shapes / mean, np.float32)


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
    phase: Codes  # of a single-phase meter
    share: Values  # (3, rows) of a three-phase user's load on each phase
    mean_kw: Values
    cap_kw: Values  # most that the supply lets through
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
        segment = self.segment[rows]
        shift = self.shift[rows]
        loads = [
            self.mean_kw[rows]
            * self.shapes[segment, weekend, (slot - shift) % DAY_SLOTS]
            for slot in np.arange(DAY_SLOTS)
        ]
        return np.array([load.sum() for load in loads])

    def master(self, start: int) -> list[Area]:
        """The master data of all areas when the town begins."""
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
            meters=[self.meter(int(row), start) for row in rows],
        )

    def meter(self, row: int, start: int) -> Meter:
        """The record of a meter: calibrated within six years, its contract for some years more."""
        user = not self.gateway[row]
        through_ct = self.ratio[row] > 1
        three_phase = self.three[row] or self.gateway[row]
        contract = float(self.contract_kva[row])
        segment = SEGMENT_NAMES[self.segment[row]]

        # only industry declares its demand and owns a transformer
        declared_kw, transformer_kva = None, 0.0
        if user and segment == "industrial":
            declared_kw = float(np.ceil(self.cap_kw[row]))
            needed = np.array([1.3 * contract])
            transformer_kva = float(_next_step(CUSTOMER_RATINGS, needed)[0])

        return Meter(
            meter=self.names[row],
            customer=self.customer(row) if user else "",
            wiring="3P4W" if three_phase else "1P2W",
            un_v=NOMINAL_VOLTS,
            phase="" if three_phase else PHASE_NAMES[self.phase[row]],
            ib_a=1.5 if through_ct else 5.0,
            imax_a=6.0 if through_ct else 60.0,
            ct=float(self.ratio[row]),
            contract_kva=None if np.isnan(contract) else contract,
            pv_kva=float(self.pv_kw[row]),
            segment=segment,
            calibration_due=start + (200 + 37 * row % 1800) * DAY_SECONDS,
            contract_until=start + (200 + 53 * row % 1000) * DAY_SECONDS if user else 0,
            signed_kva=contract if user else None,
            tariff=SEGMENT_TARIFFS[segment].tariff if user else "",
            read_day=1 if user else 0,
            declared_kw=declared_kw,
            own_transformer_kva=transformer_kva,
        )


def _next_step(steps: NDArray[np.float64], least: NDArray[Any]) -> Values:
    """The smallest step that is enough, or the largest there is.

    >>> _next_step(AREA_RATINGS, np.array([161.0, 9e9])).tolist()
    [200.0, 2500.0]
    """
    enough = np.searchsorted(steps, least)
    found = np.minimum(enough, len(steps) - 1)
    return np.asarray(steps[found], np.float32)


def _sizes(meters: int, rng: np.random.Generator) -> list[int]:
    """The number of users' meters of each area: 100 to 300, the last one up to 400."""
    sizes: list[int] = []
    while (left := meters - sum(sizes)) > 0:
        size = int(rng.integers(100, 301))
        sizes.append(left if left < size + 100 else size)
    return sizes


def build_grid(meters: int, seed: int) -> Grid:
    """So many users' meters and a gateway meter per area. The same arguments give the same town."""
    rng = np.random.default_rng([seed, 1])
    sizes = np.array(_sizes(meters, rng)) + 1
    area = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    # each area begins with its gateway meter, a factory and four shops
    first = np.flatnonzero(np.r_[True, np.diff(area) > 0])
    place = np.arange(len(area)) - np.repeat(first, sizes)
    segment = _segments(area, place, len(sizes), rng)
    three = _three_phase(segment, place, rng)

    mean_kw = _mean_loads(segment, place, three, rng)
    highest = mean_kw * np.array([3.5, 2.2, 2.0])[segment]
    tan = rng.uniform(*np.array(TAN_SPANS)[:, segment])
    contract = np.where(
        segment == RESIDENTIAL_SEGMENT, 8, np.ceil(highest * np.hypot(1, tan) * 1.05)
    )
    amps = highest / 3 * 1000 / NOMINAL_VOLTS
    ratio = np.where(
        three & (mean_kw >= 6), _next_step(CURRENT_TRANSFORMER_RATIOS, amps / 3), 1
    )

    grid = _drawn_grid(
        area, place == 0, segment, three, mean_kw, tan, contract, ratio, rng
    )
    return _with_transformers(grid, ratio)


def _segments(
    area: Codes, place: NDArray[np.intp], count: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Every row's segment; an area has 8 or 18 % of businesses."""
    is_usual = rng.random(count) < 0.7
    business = np.where(is_usual, 0.08, 0.18)[area]
    draw = rng.random(len(area))
    segment = np.where(draw < business, COMMERCIAL_SEGMENT, RESIDENTIAL_SEGMENT).astype(
        np.int8
    )
    segment[draw < 0.006] = INDUSTRIAL_SEGMENT
    segment[place == 1] = INDUSTRIAL_SEGMENT
    segment[(place > 1) & (place < 6)] = COMMERCIAL_SEGMENT
    return segment


def _three_phase(
    segment: NDArray[np.int8], place: NDArray[np.intp], rng: np.random.Generator
) -> Mask:
    """Users of three phases: all of industry, a fifth of the shops, each area's first five."""
    three = (
        (segment == INDUSTRIAL_SEGMENT)
        | ((segment == COMMERCIAL_SEGMENT) & (rng.random(len(segment)) < 0.2))
        | ((place > 0) & (place < 6))
    )
    return three & (place != 0)


def _mean_loads(
    segment: NDArray[np.int8],
    place: NDArray[np.intp],
    three: Mask,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Every row's mean load in kW, log-normal by kind of user; a gateway meter has none."""
    normal = rng.standard_normal(len(segment))
    industrial = _log_normal(normal, 22, 0.35, (12, 40))
    middle = np.where(place < 6, 9, 4)
    polyphase = _log_normal(normal, middle, 0.3, (2, 18))
    shop = _log_normal(normal, 0.9, 0.4, (0.3, 2))
    home = _log_normal(normal, 0.33, 0.45, (0.1, 1.2))

    return np.select(
        [
            place == 0,
            segment == INDUSTRIAL_SEGMENT,
            three,
            segment == COMMERCIAL_SEGMENT,
        ],
        [0, industrial, polyphase, shop],
        home,
    )


def _log_normal(
    normal: NDArray[np.float64],
    middle: float | NDArray[np.float64],
    spread: float,
    span: tuple[float, float],
) -> NDArray[np.float64]:
    """Log-normal draws about a middle, in a span, by standard normal ones."""
    least, most = span
    return np.clip(middle * np.exp(spread * normal), least, most)


def _drawn_grid(
    area: Codes,
    gateway: Mask,
    segment: NDArray[np.int8],
    three: Mask,
    mean_kw: NDArray[np.float64],
    tan: NDArray[np.float64],
    contract: NDArray[np.float64],
    ratio: NDArray[np.float64],
    rng: np.random.Generator,
) -> Grid:
    """The grid with everything that is drawn at random, before its transformers are chosen."""
    rows = len(area)
    count = int(area[-1]) + 1
    share = rng.uniform(0.94, 1.06, (3, rows))
    homes = (segment == RESIDENTIAL_SEGMENT) & ~gateway

    # the order of the draws makes the town: do not reorder the arguments
    return Grid(
        names=tuple(
            f"{'G' if is_gateway else 'M'}{k:06d}"
            for k, is_gateway in enumerate(gateway)
        ),
        areas=tuple(f"A{k + 1:03d}" for k in range(count)),
        sections=tuple(f"S{k // 5 + 1:02d}" for k in range(count)),
        area=area,
        segment=segment,
        gateway=gateway,
        three=three,
        phase=_balanced(area, np.where(three | gateway, 0, mean_kw)),
        share=_float32(share / share.sum(axis=0)),
        mean_kw=_float32(mean_kw),
        cap_kw=_float32(np.where(gateway, np.inf, 0.9 * contract)),
        shift=rng.integers(-3, 4, rows, np.int32),
        tan=_float32(tan),
        line_v=_float32(np.where(gateway, 0, rng.uniform(1, 7, rows))),
        service_ohm=_float32(
            np.where(three | gateway, 0, rng.uniform(0.03, 0.1, rows))
        ),
        pv_kw=_float32(np.where(homes & (rng.random(rows) < 0.01), 2, 0)),
        contract_kva=_float32(np.where(gateway, np.nan, contract)),
        ratio=_float32(ratio),
        rating=_float32(np.ones(count)),
        loss=_float32(rng.uniform(0.02, 0.035, count)),
        busbar=_float32(rng.uniform(227, 230, count)),
        dyn=rng.random(count) < 0.5,
    )


def _with_transformers(grid: Grid, ratio: NDArray[np.float64]) -> Grid:
    """The grid with transformers for each area's peak, and current transformers at the gateway."""
    count = len(grid.areas)
    loads = [grid.expected_kw(grid.area == k) for k in range(count)]
    peaks = [load.max() for load in loads]
    least = 1.05 * np.array(peaks) / 0.55
    rating = _next_step(AREA_RATINGS, least)
    ratio[grid.gateway] = _next_step(
        CURRENT_TRANSFORMER_RATIOS, rating * 1000 / 3 / NOMINAL_VOLTS / 5
    )
    return replace(grid, rating=rating, ratio=_float32(ratio))


def _float32(values: Any) -> Values:
    """The values as single floats."""
    return np.asarray(values, np.float32)


def _balanced(area: Codes, load: NDArray[np.float64]) -> Codes:
    """Each row's phase, dealt out back and forth by load, so that each area is even."""
    phase = np.zeros(len(area), np.int32)
    deal = np.array([0, 1, 2, 2, 1, 0], np.int32)
    for k in range(int(area[-1]) + 1):
        rows = np.flatnonzero((area == k) & (load > 0))
        by_load = np.argsort(-load[rows], kind="stable")
        phase[rows[by_load]] = np.resize(deal, len(rows))
    return phase
