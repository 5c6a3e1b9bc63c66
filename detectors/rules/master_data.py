"""Whether master data and contracts are whole, consistent and in date."""

from __future__ import annotations

import numpy as np

from detectors.curves.measured import daily_energy
from detectors.rule import Level, rule
from schemas.columns import Column, Days, MasterRecords
from schemas.units import DAY_SECONDS


@rule(
    MasterRecords,
    severity=4,
    worse=(Level(31.0, 3, 0), Level(91.0, 2, 0)),
    title=("Calibration due", "周期轮换超期"),
    text=(
        "The meter has been due for calibration for {calibration_days:.0f} days.",
        "电表周期轮换已超期{calibration_days:.0f}天。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def calibration_due(calibration_days: Column, *, grace: float = 0.0) -> Column:
    """A meter past the date of its calibration or exchange (周期轮换), worse after 30 and 90 days. Dates: DL/T 448.

    The tiers are defaults of this project.
    """
    late = calibration_days - grace
    return np.where(late > 0, 1 + late, np.where(late < 0, 0.0, 0.95))


@rule(
    MasterRecords,
    severity=4,
    title=("File does not agree", "档案异常"),
    text=(
        (
            "Faults in the file: customer {no_customer:.0f}, doubled {doubled:.0f}, capacity {bad_capacity:.0f}, "
            "ratio {bad_ratio:.0f}, class {bad_class:.0f}, gateway {no_gateway:.0f}."
        ),
        (
            "档案异常:缺户号{no_customer:.0f}、重复{doubled:.0f}、容量{bad_capacity:.0f}、倍率{bad_ratio:.0f}、"
            "类别{bad_class:.0f}、关口{no_gateway:.0f}。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def file_inconsistency(
    no_customer: Column,
    doubled: Column,
    bad_capacity: Column,
    bad_ratio: Column,
    bad_class: Column,
    no_gateway: Column,
    *,
    least: float = 1.0,
) -> Column:
    """Ids missing or doubled, capacity absent or 0, an absurd ratio, class against trade, no gateway (档案异常).

    Trades by GB/T 4754; a missing customer counts if other files of the area name theirs. Defaults of this project.
    """
    return (
        no_customer + doubled + bad_capacity + bad_ratio + bad_class + no_gateway
    ) / least


@rule(
    MasterRecords,
    severity=4,
    title=("Contract incomplete", "合同缺项"),
    text=(
        (
            "The contract lacks {gaps:.0f} fields[; its capacity is {signed_off:.0%} off the file's "
            "(limit {limit:.0%})]."
        ),
        "供用电合同缺{gaps:.0f}项[,签约容量与档案相差{signed_off:.0%}(限值{limit:.0%})]。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def contract_gap(gaps: Column, signed_off: Column, *, limit: float = 0.01) -> Column:
    """Tariff, term or signed capacity missing though the area's other contracts have it, or not the file's (合同缺项).

    Catalogue 1.7; the limit is a default of this project.
    """
    return np.maximum(gaps, signed_off / limit)


@rule(
    MasterRecords,
    severity=4,
    worse=(Level(2.0, 3, 0), Level(3.0, 2, 0)),
    title=("Contract expires", "合同到期"),
    text=(
        "{contract_days:.0f} days are left of the contract (notice {first:.0f} days before).",
        "合同距到期{contract_days:.0f}天(提前{first:.0f}天提示)。",
    ),
    curve=daily_energy,
    explained_by=(),
)
def contract_expiry(
    contract_days: Column, *, first: float = 60.0, second: float = 30.0
) -> Column:
    """A contract that ends within 60 or 30 days, or has ended (合同到期). Days: default of this project."""
    near = np.where(
        contract_days > second, 2 - (contract_days - second) / (first - second), 2.0
    )
    return np.where(contract_days <= 0, 3.0, np.maximum(near, 0.0))


@rule(
    Days,
    severity=4,
    hold=2 * DAY_SECONDS,
    release=7 * DAY_SECONDS,
    title=("Filed on another phase", "相位档案不符"),
    text=(
        (
            "The file has the meter on phase {filed_phase:phase}, its voltage follows {found_phase:phase}: its hourly "
            "changes are {found_apart:.2f} V off that phase's, {filed_apart:.2f} V off the filed one's."
        ),
        (
            "档案为{filed_phase:phase}相,电压却跟随{found_phase:phase}相:逐时变化与该相相差{found_apart:.2f}V,"
            "与档案相相差{filed_apart:.2f}V。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def phase_mismatch(
    filed_phase: Column,
    found_phase: Column,
    filed_apart: Column,
    found_apart: Column,
    next_apart: Column,
    *,
    limit: float = 1.4,
    clearly: float = 1.2,
) -> Column:
    """A single-phase meter's voltage follows another phase of the transformer than its file says (相位不符).

    Catalogue section 5; the limits, ratios of volts, and the two days are defaults of this project.
    """
    clear = next_apart / found_apart / clearly
    off = np.maximum(np.minimum(filed_apart / found_apart / limit, clear), 0.95)
    return np.where(filed_phase == found_phase, np.where(clear >= 1, 0.0, 0.95), off)


@rule(
    Days,
    severity=4,
    hold=7 * DAY_SECONDS,
    release=7 * DAY_SECONDS,
    title=("Filed in another area", "台区档案不符"),
    text=(
        (
            "The voltage follows no phase of this transformer: its hourly changes are {found_apart:.2f} V off the "
            "nearest, the area's others {area_apart:.2f} V. Is it fed from elsewhere?"
        ),
        (
            "电压不跟随本台区变压器任何一相:逐时变化与最近一相相差{found_apart:.2f}V,本台区其他电表为{area_apart:.2f}V,"
            "疑由其他变压器供电。"
        ),
    ),
    curve=daily_energy,
    explained_by=(),
)
def area_mismatch(
    found_apart: Column,
    next_apart: Column,
    area_apart: Column,
    *,
    limit: float = 2.5,
    alike: float = 1.2,
) -> Column:
    """A meter's voltage goes with no phase of its area's transformer, though the others' do (台区不符).

    For a week, since a meter that was moved to another phase is near to no phase at first. Catalogue section 5; 2.5
    times the area's median, and no phase 1.2 times as near as another: defaults of this project.
    """
    return np.minimum(
        found_apart / area_apart / limit, found_apart / next_apart * alike
    )
