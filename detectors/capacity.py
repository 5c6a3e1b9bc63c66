"""Whether a customer or a transformer is loaded beyond what it may carry."""
from __future__ import annotations

import numpy as np

from detectors.rule import DAY, HOUR, MINUTE, Level, gated, rule
from schemas.columns import Column, Intervals, Readings


@rule(
    Readings, severity=3, hold=2 * HOUR, release=DAY, clear=1 / 1.05, worse=(Level(1.2 / 1.05, 2, 2 * HOUR),),
    title=("Over contract capacity", "超合同容量"),
    text=("{kva:.1f} kVA exceed the contract's {contract_kva:.0f} kVA less {suspended_kva:.0f} kVA suspended.",
          "用电{kva:.1f}kVA超过合同容量{contract_kva:.0f}kVA(暂停{suspended_kva:.0f}kVA)。"),
)  # fmt: skip
def over_contract_capacity(
    kva: Column, contract_kva: Column, suspended_kva: Column, *, warn: float = 1.05, least: float = 1.0
) -> Column:
    """Apparent power above the contract less what is suspended (超容). 1.05 warn, 1.2 alarm: terminal defaults; 2 h."""
    return kva / np.maximum(contract_kva - suspended_kva, least) / warn


@rule(
    Intervals, severity=3, hold=2 * HOUR, release=HOUR, clear=0.75 / 0.80,
    worse=(Level(1.0 / 0.8, 2, 2 * HOUR), Level(1.5 / 0.8, 1, 15 * MINUTE)),
    title=("Transformer overload", "变压器重过载"),
    text=("The transformer carries {kva:.0f} kVA of its {rating_kva:.0f} kVA (heavy from {heavy:.0%}).",
          "变压器负载{kva:.0f}kVA,额定{rating_kva:.0f}kVA(重载线{heavy:.0%})。"),
)  # fmt: skip
def transformer_overload(
    kva: Column, rating_kva: Column, coverage: Column, *, heavy: float = 0.80, least: float = 0.90
) -> Column:
    """A transformer above 80 % (重载), 100 % (过载), 150 % of its rating; clear below 75 %. Limits: catalogue 1.4."""
    return np.where(coverage >= least, kva / rating_kva / heavy, np.nan)


@rule(
    Intervals, severity=3, hold=2 * HOUR, release=HOUR, segments={"dyn11": {"limit": 0.25}},
    title=("Transformer load unbalance", "台区三相不平衡"),
    text=("Phase loads {current_a:.0f}, {current_b:.0f}, {current_c:.0f} A differ over {limit:.0%} at {kva:.0f} kVA.",
          "台区三相负荷不平衡超过{limit:.0%}:{current_a:.0f}/{current_b:.0f}/{current_c:.0f}A,负载{kva:.0f}kVA。"),
)  # fmt: skip
def area_load_unbalance(
    current: Column, kva: Column, rating_kva: Column, gateway: Column, *, limit: float = 0.15, loaded: float = 0.50,
    band: float = 0.05,
) -> Column:  # fmt: skip
    """(Imax - Imin) / Imax above 15 % (Yyn0) or 25 % (Dyn11), at half load or more. Q/GDW 1519; gate, band: catalogue.

    The gateway meter alone can tell: a single-phase meter does not say on which phase of the feeder it hangs.
    """
    amps = np.abs(current)
    spread = 1 - amps.min(axis=0) / amps.max(axis=0)
    score = np.where(spread > limit, spread / limit, np.where(spread < limit - band, 0.0, 0.95))
    return np.where(gateway == 1, gated(score, kva > loaded * rating_kva), np.nan)
