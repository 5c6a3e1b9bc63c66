"""Master data: the transformer area with its transformer, meters and customers, effective-dated."""
from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from schemas.columns import LATEST

Segment = Literal["residential", "commercial", "industrial", "agricultural"]
Wiring = Literal["1P2W", "3P3W", "3P4W"]
VectorGroup = Literal["Yyn0", "Dyn11"]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Power = Annotated[float, msgspec.Meta(ge=0, le=1e6)]  # kVA
Hour = Annotated[int, msgspec.Meta(ge=0, le=24)]  # of the day
Moment = Annotated[
    int, msgspec.Meta(ge=0, lt=LATEST, description="Unix seconds; 0 is open", extra_json_schema={"x-unit": "s"})
]


class Transformer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer from its effective time on."""

    effective: Moment = 0
    rating_kva: Positive
    vector_group: VectorGroup = "Yyn0"


class Meter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A meter with its customer and contract from its effective time on; a change is a further record."""

    meter: str
    customer: str = ""
    effective: Moment = 0
    until: Moment = 0  # when it was taken away, 0 while it stands
    wiring: Wiring = "1P2W"
    un_v: Positive = 220.0  # nominal phase voltage, secondary
    ib_a: Positive = 5.0  # basic current, secondary
    imax_a: Positive = 60.0
    ct: Positive = 1.0  # current transformer ratio
    pt: Positive = 1.0  # voltage transformer ratio
    register_digits: Annotated[int, msgspec.Meta(ge=1, le=12)] = 6  # before the point
    interval_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 900
    contract_kva: Power | None = None
    suspended_kva: Power = 0.0
    own_transformer_kva: Power = 0.0  # rating of the customer's own transformers, 0 where it has none
    pv_kva: Power = 0.0  # registered generation
    segment: Segment = "residential"
    tariff: str = ""
    valley_from: Hour = 23  # of the tariff's valley (谷), local time
    valley_until: Hour = 7


class Area(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer area (台区) and all that hangs on it."""

    area: str
    section: str = ""
    feeder: str = ""
    gateway: str = ""  # the meter on the transformer's low side, "" when there is none
    transformers: list[Transformer] = msgspec.field(default_factory=list)
    meters: list[Meter] = msgspec.field(default_factory=list)
