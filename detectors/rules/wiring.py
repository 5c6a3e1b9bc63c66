"""Whether the meter is wired as it should be, and agrees with the measurements beside it."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import (
    meter_and_terminal,
    phase_and_neutral,
    phase_angles,
    phase_sequence,
    relay_current,
    transformer_neutral,
)
from detectors.rule import Level, between, rule
from schemas.columns import Column, Intervals, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS


@rule(
    Readings,
    severity=2,
    hold=15 * MINUTE_SECONDS,
    release=15 * MINUTE_SECONDS,
    title=("Reversed phase sequence", "逆相序"),
    text=(
        "Suspected reversed phase sequence: the meter says so, every phase is live ({lowest_u:.1f} V or more).",
        "疑似逆相序:电表状态字报逆相序,各相有压(不低于{lowest_u:.1f}V)。",
    ),
    curve=phase_sequence,
    explained_by=(),
)
def reverse_sequence(
    reversed_sequence: Column,
    lowest_u: Column,
    un: Column,
    elements: Column,
    *,
    lacking: float = 0.60,
) -> Column:
    """The meter sees its phases in the wrong order, none of them dead (逆相序). 15 min: terminal default.

    A phase below 60 % counts as dead, as for phase_break: Q/GDW 1354-2013.
    """
    trouble = (reversed_sequence == 1) & (lowest_u > lacking * un) & (elements > 1)
    return between(trouble, reversed_sequence == 0)


@rule(
    Readings,
    severity=1,
    hold=DAY_SECONDS,
    release=DAY_SECONDS,
    title=("Wrong wiring", "错接线"),
    text=(
        "Suspected wrong wiring: currents lag {lag_a:.0f}, {lag_b:.0f}, {lag_c:.0f} deg, over {sector:.0f}.",
        "疑似错接线:三相电流滞后{lag_a:.0f}/{lag_b:.0f}/{lag_c:.0f}度,负荷不超过±{sector:.0f}度。",
    ),
    curve=phase_angles,
    explained_by=(),
)
def wrong_wiring_vector(
    lag: Column,
    i: Column,
    ib: Column,
    pv_kva: Column,
    *,
    limit: float = 50.0,
    sector: float = 90.0,
    all_back: float = 92.0,
    load: float = 0.05,
) -> Column:
    """A loaded four-wire meter's angles show crossed or reversed currents (错接线), for a day. Catalogue 1.2.

    One phase 50 degrees from both others while some current flows back, as one of three crossed currents must and no
    capacitive load does; or all flow back. The lines of 90 and 92 degrees are defaults of this project.
    """
    lag = np.where((np.abs(i) > load * ib) & (pv_kva == 0), lag, np.nan)
    apart = np.abs(lag - lag[[2, 0, 1]])
    apart = np.minimum(apart, 360 - apart)
    odd = np.minimum(
        np.minimum(apart, apart[[1, 2, 0]]) / limit, np.abs(lag).max(axis=0) / sector
    )
    return np.maximum(odd, np.abs(lag).min(axis=0) / all_back)


@rule(
    Readings,
    severity=2,
    release=7 * DAY_SECONDS,
    worse=(Level(2.5, 1, HOUR_SECONDS // 2),),
    title=("Phase and neutral currents differ", "零火线电流不一致"),
    text=(
        "Suspected wrong wiring: phase {most_i:.2f} A, neutral {neutral:.2f} A, repeatedly over {limit:.0%} apart.",
        "疑似接线异常:火线{most_i:.2f}A、零线{neutral:.2f}A,多次相差超过{limit:.0%}。",
    ),
    curve=phase_and_neutral,
    explained_by=(),
)
def neutral_phase_mismatch(
    most_i: Column, neutral: Column, mismatch_third: Column, *, limit: float = 0.20
) -> Column:
    """A single-phase meter's neutral carries another current than its phase (零火不一致): 20 %, worse 50 %.

    Above 20 % of the basic current, three times in a day, clear after 7 days: catalogue 1.3.
    """
    line, back = np.abs(most_i), np.abs(neutral)
    return (
        np.minimum(np.abs(line - back) / np.maximum(line, back), mismatch_third) / limit
    )


@rule(
    Intervals,
    severity=2,
    hold=HOUR_SECONDS // 2,
    chronic=True,
    segments={"dyn11": {"limit": 0.40}},
    title=("Neutral overload", "中性线过流"),
    text=(
        "The neutral carries {neutral:.0f} A, over {limit:.0%} of the rated current of {rating_kva:.0f} kVA.",
        "变压器中性线电流{neutral:.0f}A,超过{rating_kva:.0f}kVA额定电流的{limit:.0%}。",
    ),
    curve=transformer_neutral,
    explained_by=(),
)
def neutral_current_high(
    neutral: Column,
    rating_kva: Column,
    *,
    limit: float = 0.25,
    line_volts: float = 400.0,
) -> Column:
    """The neutral carries over 25 % (Yyn0) or 40 % (Dyn11) of rated current (中性线过流). DL/T 572, Q/GDW 1519.

    30 min, clear 10 % lower: catalogue. Rated current at 400 V between lines, the low side of distribution.
    """
    rated = rating_kva * 1000 / (np.sqrt(3) * line_volts)
    return np.abs(neutral) / rated / limit


@rule(
    Readings,
    severity=2,
    hold=HOUR_SECONDS // 2,
    release=DAY_SECONDS,
    worse=(Level(2.0, 1, HOUR_SECONDS // 2),),
    title=("Power differential", "功率差动"),
    text=(
        "Suspected wrong metering: meter {whole_p:.3f} kW, terminal {terminal_p:.3f} kW, over {limit:.0%} apart.",
        "疑似计量异常:电表有功{whole_p:.3f}kW,终端交采{terminal_p:.3f}kW,相差超过{limit:.0%}。",
    ),
    curve=meter_and_terminal,
    explained_by=(),
)
def power_differential(
    whole_p: Column,
    terminal_p: Column,
    un: Column,
    ib: Column,
    phases: Column,
    *,
    limit: float = 0.10,
    load: float = 0.05,
) -> Column:
    """Meter and terminal differ about the power at one place (功率差动): 10 %, worse 20 %, above 5 % of basic power.

    30 min, clear after a day: catalogue 1.3. Limits: defaults of this project.
    """
    loaded = np.abs(terminal_p) > load * un * ib * phases / 1000
    return np.where(
        loaded, np.abs(whole_p - terminal_p) / np.abs(terminal_p) / limit, np.nan
    )


@rule(
    Readings,
    severity=2,
    hold=5 * MINUTE_SECONDS,
    title=("Relay does not break", "费控开关拒动"),
    text=(
        "Suspected relay fault: it says open, yet {most_i:.2f} A flow (limit {load:.1%} of {ib:.1f} A).",
        "疑似费控继电器拒动:状态为断开,仍有电流{most_i:.2f}A(限值为{ib:.1f}A的{load:.1%})。",
    ),
    curve=relay_current,
    explained_by=(),
)
def relay_mismatch(
    relay_open: Column,
    most_i: Column,
    ib: Column,
    *,
    load: float = 0.005,
    off: float = 0.004,
) -> Column:
    """Current flows although the relay is open (费控异常): over 0.5 % of Ib, 5 min. Defaults of this project."""
    return between(
        (relay_open == 1) & (most_i > load * ib),
        (relay_open == 0) | (most_i < off * ib),
    )
