"""Master data: the transformer area with its transformer, meters and customers, effective-dated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from schemas.columns import LATEST_TIME

Segment = Literal["residential", "commercial", "industrial", "agricultural"]
Wiring = Literal["1P2W", "3P3W", "3P4W"]
Phase = Literal["", "A", "B", "C"]
VectorGroup = Literal["Yyn0", "Dyn11"]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Power = Annotated[float, msgspec.Meta(ge=0, le=1e6)]  # kVA
# Of the day.
Hour = Annotated[int, msgspec.Meta(ge=0, le=24, extra_json_schema={"x-unit": "h"})]
Moment = Annotated[
    int,
    msgspec.Meta(
        ge=0,
        lt=LATEST_TIME,
        description="Unix seconds; 0 is open",
        extra_json_schema={"x-unit": "s"},
    ),
]


class Transformer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A transformer from its effective time on."""

    effective: Moment = 0
    rating_kva: Positive
    vector_group: VectorGroup = "Yyn0"


def _quantity(unit: str) -> msgspec.Meta:
    """The unit of a number in the JSON Schema."""
    return msgspec.Meta(extra_json_schema={"x-unit": unit})


PerKwh = Annotated[Positive | None, _quantity("CNY/kWh")]


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The extra price of a kWh above a number of kWh in the period."""

    above_kwh: Annotated[Positive, _quantity("kWh")]
    extra: Annotated[Positive, _quantity("CNY/kWh")]  # on top of every lower tier


class Tariff(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """The prices of energy and demand from its effective time on; None is not part of the tariff.

    Defaults are not written, so an older program can read a tariff that uses no newer field.
    """

    tariff: str
    effective: Moment = 0
    # Of every hour without its own price (平).
    flat: Annotated[Positive, _quantity("CNY/kWh")]
    sharp: PerKwh = None  # 尖
    peak: PerKwh = None  # 峰
    valley: PerKwh = None  # 谷
    deep_valley: PerKwh = None  # 深谷
    surcharge: PerKwh = (
        None  # for funds (政府性基金及附加), not adjusted by the power factor
    )
    tiers: list[Tier] = msgspec.field(default_factory=list)  # residential (阶梯)
    tiers_of: Literal["month", "year"] = "year"
    # For a month's demand.
    demand: Annotated[Positive | None, _quantity("CNY/kW")] = None
    # For the contract's capacity, a month.
    capacity: Annotated[Positive | None, _quantity("CNY/kVA")] = None
    # The share off `demand`, from 260 kWh a kVA and month on.
    demand_rebate: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1
    # The standard that adjusts bills.
    power_factor: Annotated[float, msgspec.Meta(ge=0.8, le=0.9)] | None = None


class Meter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A meter with its customer and contract from its effective time on; a change is a further record."""

    meter: str
    customer: str = ""
    effective: Moment = 0
    until: Moment = 0  # when it was taken away, 0 while it stands
    wiring: Wiring = "1P2W"
    # The phase of a single-phase meter, "" if the master data do not say.
    phase: Phase = ""
    un_v: Positive = 220.0  # nominal phase voltage, secondary
    ib_a: Positive = 5.0  # basic current, secondary
    imax_a: Positive = 60.0
    ct: Positive = 1.0  # current transformer ratio
    pt: Positive = 1.0  # voltage transformer ratio
    register_digits: Annotated[int, msgspec.Meta(ge=1, le=12)] = 6  # before the point
    interval_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 900
    contract_kva: Power | None = None
    suspended_kva: Power = 0.0
    stopped: Moment = 0  # when supply ended or the account closed, 0 while supplied
    # Rating of the customer's own transformers, 0 without one.
    own_transformer_kva: Power = 0.0
    pv_kva: Power = 0.0  # registered generation
    segment: Segment = "residential"
    # Section of GB/T 4754 (行业门类).
    trade: Annotated[str, msgspec.Meta(pattern="^[A-T]?$")] = ""
    # The date by which it is to be calibrated or exchanged (周期轮换).
    calibration_due: Moment = 0
    contract_until: Moment = 0  # when the supply contract ends
    signed_kva: Power | None = None  # as the contract says, beside what the file says
    tariff: str = ""
    valley_from: Hour = 23  # of the tariff's valley (谷), local time
    valley_until: Hour = 7
    # Level of the customer (信用等级), A the best.
    credit: Annotated[str, msgspec.Meta(pattern="^[A-D]?$")] = ""
    # For a customer billed by demand, primary.
    declared_kw: Annotated[Power | None, _quantity("kW")] = None
    # The day of the month on which bills are read (抄表例日).
    read_day: Annotated[int, msgspec.Meta(ge=0, le=31)] = 0


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage of a section's work from its effective time on."""

    stage: str
    effective: Moment = 0
    # Hours that it may take; None sets no limit.
    hours: Annotated[Positive | None, _quantity("h")] = None
    # True if weekends and China's public holidays do not count.
    working_days: bool = False


class Area(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer area (台区) with its transformers, meters, tariffs and stages."""

    area: str
    section: str = ""
    feeder: str = ""
    gateway: str = ""  # the meter on the transformer's low side, "" when there is none
    transformers: list[Transformer] = msgspec.field(default_factory=list)
    meters: list[Meter] = msgspec.field(default_factory=list)
    # The tariffs that its meters name.
    tariffs: list[Tariff] = msgspec.field(default_factory=list)
    # Of the work of a section of this name, in their order.
    stages: list[Stage] = msgspec.field(default_factory=list)


def texts(area: Area) -> Iterator[str]:
    """The texts of a record that people choose, without the ids of area and meters; some are ""."""
    yield from (area.section, area.feeder, area.gateway)
    yield from (tariff.tariff for tariff in area.tariffs)
    yield from (stage.stage for stage in area.stages)
    for meter in area.meters:
        yield from (meter.customer, meter.tariff)
