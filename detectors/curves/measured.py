"""The curves of the rules on readings, days and areas. A curve that several rules share names what it shows."""

from __future__ import annotations

import numpy as np

from detectors.curves.contract import ALL_DAYS, NEAR_DAYS, Drawn, Near, curve
from schemas.columns import PHASE_NAMES, AreaDays, Column, Days, Flag, Readings
from schemas.units import DAY_SECONDS, HOUR_SECONDS

OVERLOAD_SCORE = 1.25  # of 100 % of the rating, beside heavy load, which is 80 %


def _by_phase(values: Column) -> dict[str, Column]:
    """A phase column by the names of phases with values; without a name if it is one at most."""
    measured = {
        phase: values[k]
        for k, phase in enumerate(PHASE_NAMES)
        if not np.isnan(values[k]).all()
    }
    return measured if len(measured) > 1 else {"": values[0]}


def _total(power: Column) -> Column:
    """Active or reactive power of all phases, NaN where the first has none."""
    return np.where(np.isnan(power[0]), np.nan, np.nansum(power, axis=0))


def _kva(p: Column, q: Column, ratio: float) -> Column:
    """Apparent power in kVA, primary; without reactive power it is the active power."""
    return np.hypot(_total(p), np.nansum(q, axis=0)) * ratio


@curve(Readings, "V")
def voltages(u: Column) -> Drawn:
    """The phase voltages."""
    return Drawn(_by_phase(u))


@curve(Readings, "V")
def lost_voltage(u: Column, un: float, *, lost: float, back: float) -> Drawn:
    """The phase voltages, with the levels at which one is lost and is back."""
    return Drawn(_by_phase(u), {"lost": lost * un, "back": back * un})


@curve(Readings, "V")
def broken_phase(u: Column, un: float, *, broken: float, back: float) -> Drawn:
    """The phase voltages, with the levels at which a phase is broken and is back."""
    return Drawn(_by_phase(u), {"broken": broken * un, "back": back * un})


@curve(Readings, "V")
def supply_band(u: Column, un: float, *, over: float, under: float) -> Drawn:
    """The phase voltages, with the band in which they should stay."""
    return Drawn(_by_phase(u), {"highest": over * un, "lowest": under * un})


@curve(Readings, "A")
def currents(i: Column) -> Drawn:
    """The phase currents."""
    return Drawn(_by_phase(i))


@curve(Readings, "A")
def lost_current(i: Column, ib: float, *, some: float) -> Drawn:
    """The phase currents, with the level from which a phase is loaded."""
    return Drawn(_by_phase(i), {"load": some * ib})


@curve(Readings, "A")
def relay_current(i: Column, ib: float, *, load: float) -> Drawn:
    """The phase currents, with the level that counts as none."""
    return Drawn(_by_phase(i), {"none": load * ib})


@curve(Readings, "% off the mean current")
def current_unbalance(i: Column, *, limit: float) -> Drawn:
    """The distance of each phase current from the mean of the phases."""
    phases = _by_phase(i)
    mean = np.mean(list(phases.values()), axis=0)
    off = {phase: 100 * np.abs(I - mean) / mean for phase, I in phases.items()}
    return Drawn(off, {"limit": 100 * limit})


@curve(Readings, "A")
def area_currents(
    i: Column, ct: float, ratio: float, un: float, rating_kva: float, *, loaded: float
) -> Drawn:
    """The transformer's phase currents, with the load from which they are judged."""
    rated = rating_kva * 1000 / 3 / (un * ratio / ct)  # A
    return Drawn(_by_phase(i * ct), {"half load": loaded * rated})


@curve(Readings, "kW")
def phase_powers(p: Column) -> Drawn:
    """The power of each phase, with 0, below which it flows back."""
    return Drawn(_by_phase(p), {"turned round": 0.0})


@curve(Readings, "degrees of lag", near=Near(DAY_SECONDS, 12 * HOUR_SECONDS))
def phase_angles(p: Column, q: Column, *, sector: float) -> Drawn:
    """How far each phase current lags its voltage, with the angles that a load stays between."""
    lags = np.degrees(np.arctan2(q, p))
    series = dict(zip(PHASE_NAMES, lags, strict=True))
    return Drawn(series, {"lagging": sector, "leading": -sector})


@curve(Readings, "sequence reversed")
def phase_sequence(flags: Column) -> Drawn:
    """1 while the meter says that its phases are in the wrong order, else 0."""
    known = np.isfinite(flags)
    is_reversed = np.where(known, flags, 0).astype(int) & Flag.REVERSED_SEQUENCE
    return Drawn({"": np.where(known, is_reversed, np.nan)})


@curve(Readings, "A")
def phase_and_neutral(i: Column, neutral: Column) -> Drawn:
    """The current of a single-phase meter's phase beside that of its neutral."""
    return Drawn({"phase": np.abs(i[0]), "neutral": np.abs(neutral)})


@curve(Readings, "% of the rated current")
def transformer_neutral(
    neutral: Column, ct: float, rating_kva: float, *, limit: float, line_volts: float
) -> Drawn:
    """The current of the transformer's neutral as a share of the rated."""
    rated = rating_kva * 1000 / np.sqrt(3) / line_volts  # A
    share = 100 * np.abs(neutral) * ct / rated
    return Drawn({"neutral": share}, {"limit": 100 * limit})


@curve(Readings, "kW")
def meter_and_terminal(p: Column, terminal_p: Column) -> Drawn:
    """The power by the meter beside that by the terminal."""
    return Drawn({"meter": _total(p), "terminal": terminal_p})


@curve(Readings, "kW")
def power_and_register(p: Column, kwh: Column, interval_s: float) -> Drawn:
    """The power that flows beside the power that the register counts."""
    counted = kwh * (HOUR_SECONDS / interval_s)
    return Drawn({"flows": _total(p), "counted": counted})


@curve(Readings, "% of the contract")
def contract_load(
    p: Column,
    q: Column,
    ratio: float,
    contract_kva: float,
    suspended_kva: float,
    *,
    warn: float,
    least: float,
) -> Drawn:
    """The load as a share of the contract less what is suspended."""
    share = _kva(p, q, ratio) / np.maximum(contract_kva - suspended_kva, least)
    return Drawn({"": 100 * share}, {"warning": 100 * warn})


@curve(Readings, "% of the contract")
def expanded_load(
    p: Column,
    q: Column,
    ratio: float,
    contract_kva: float,
    suspended_kva: float,
    *,
    share: float,
    times: float,
    least: float,
) -> Drawn:
    """The load as a share of the contract, with the shares of five days and of two hours."""
    load = _kva(p, q, ratio) / np.maximum(contract_kva - suspended_kva, least)
    lines = {"on five days": 100 * share, "for two hours": 100 * times}
    return Drawn({"": 100 * load}, lines)


@curve(Readings, "% of the contract")
def suspended_load(
    p: Column,
    q: Column,
    ratio: float,
    contract_kva: float,
    suspended_kva: float,
    *,
    margin: float,
    sealed: float,
    least: float,
) -> Drawn:
    """The load as a share of what the suspension leaves of the contract."""
    left = np.maximum(contract_kva - suspended_kva, least)
    limit = max(margin * (contract_kva - suspended_kva), sealed * contract_kva, least)
    share = _kva(p, q, ratio) / left
    return Drawn({"": 100 * share}, {"limit": 100 * limit / left})


@curve(Readings, "% of the rating")
def transformer_load(
    p: Column, q: Column, ratio: float, rating_kva: float, *, heavy: float
) -> Drawn:
    """The load as a share of the transformer's rating."""
    lines = {"heavy": 100 * heavy, "overload": 100 * heavy * OVERLOAD_SCORE}
    return Drawn({"": 100 * _kva(p, q, ratio) / rating_kva}, lines)


@curve(Readings, "s ahead")
def clock_offset(clock_offset: Column, *, warn: float) -> Drawn:
    """How far the meter's clock is ahead; twice the warning is the alarm."""
    return Drawn({"": clock_offset}, {"warning": warn, "alarm": 2 * warn})


@curve(
    Readings,
    "kWh on the register",
    near=Near(12 * HOUR_SECONDS, 12 * HOUR_SECONDS),
)
def register(register: Column) -> Drawn:
    """The register."""
    return Drawn({"": register})


@curve(Days, "kWh a day", near=NEAR_DAYS)
def daily_energy(kwh: Column, ratio: float) -> Drawn:
    """The energy of each day, primary."""
    return Drawn({"": kwh * ratio})


@curve(Days, "readings a day", near=NEAR_DAYS)
def daily_readings(reads: Column) -> Drawn:
    """The number of readings of each day."""
    return Drawn({"": reads})


@curve(AreaDays, "% of the energy lost", near=ALL_DAYS)
def area_loss(
    energy_in: Column, energy_out: Column, *, limit: float, hard: float
) -> Drawn:
    """The share of the area's energy that is lost each day."""
    lost = 100 * (energy_in - energy_out) / energy_in
    return Drawn({"": lost}, {"limit": 100 * limit, "hard limit": 100 * hard})
