"""Records of meters and transformers as rows of numbers, and the segments they belong to."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from schemas.columns import PHASE_NAMES, SEGMENT_NAMES
from schemas.master import Meter, Segment, Transformer, Wiring

METER_COLUMNS = (
    "un",
    "ib",
    "imax",
    "ct",
    "ratio",
    "contract_kva",
    "suspended_kva",
    "pv_kva",
    "phases",
    "three_wire",
    "residential",
    "is_gateway",
    "interval_s",
    "elements",
    "effective",
    "register_span",
    "member_until",
    "own_kva",
    "declared_kw",
    "stopped",
    "valley_from",
    "valley_until",
    "filed_phase",
    "segments",
)
AREA_COLUMNS = ("rating_kva", "segments")
WIRING_ELEMENTS = {"1P2W": 1, "3P3W": 2, "3P4W": 3}
WIRING_SEGMENTS = {"1P2W": "single_phase", "3P3W": "three_wire", "3P4W": "four_wire"}
VOLTAGE_SEGMENTS = (  # kV: above, and at most
    ("medium_voltage", 1, 30),
    ("high_voltage", 30, 100),
    ("highest_voltage", 100, np.inf),
)


def segments_code(*segments: str) -> int:
    """A bit for each segment, in their order."""
    return sum(1 << SEGMENT_NAMES.index(segment) for segment in segments)


@lru_cache(maxsize=1024)
def _segments_of(
    segment: Segment, wiring: Wiring, un_v: float, pt: float, pv: bool
) -> int:
    """A bit for each segment of a meter, with that of the supply's line voltage above 1 kV."""
    to_line_voltage = 1 if wiring == "3P3W" else math.sqrt(3)
    kv = un_v * pt / 1000 * to_line_voltage
    voltages = [name for name, above, most in VOLTAGE_SEGMENTS if above < kv <= most]
    if pv:
        voltages.append("pv")
    return segments_code(segment, WIRING_SEGMENTS[wiring], *voltages)


def meter_row(meter: Meter, gateway: bool) -> list[float]:
    """The METER_COLUMNS of one record."""
    contract = np.nan if meter.contract_kva is None else meter.contract_kva
    single_phase = meter.wiring == "1P2W"
    filed_phase = np.nan
    if meter.phase and single_phase:
        filed_phase = PHASE_NAMES.index(meter.phase)
    segments = _segments_of(
        meter.segment, meter.wiring, meter.un_v, meter.pt, meter.pv_kva > 0
    )

    return [
        meter.un_v,
        meter.ib_a,
        meter.imax_a,
        meter.ct,
        meter.ct * meter.pt,
        contract,
        meter.suspended_kva,
        meter.pv_kva,
        1 if single_phase else 3,
        meter.wiring == "3P3W",
        meter.segment == "residential",
        gateway,
        meter.interval_s,
        WIRING_ELEMENTS[meter.wiring],
        meter.effective,
        10.0**meter.register_digits,
        meter.until or np.inf,
        meter.own_transformer_kva or np.nan,
        meter.declared_kw or np.nan,
        meter.stopped or np.inf,
        meter.valley_from,
        meter.valley_until,
        filed_phase,
        segments,
    ]


def transformer_row(transformer: Transformer) -> list[float]:
    """The AREA_COLUMNS of one record."""
    return [transformer.rating_kva, segments_code(transformer.vector_group.lower())]
