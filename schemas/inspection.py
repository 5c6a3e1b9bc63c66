"""An inspection: what was found on site, with its outcome, and the verdict on what was suspected."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from schemas.columns import EARLIEST_TIME, LATEST_TIME
from schemas.master import Moment

Verdict = Literal["true", "false", "cannot_tell"]
Group = Literal[
    "theft",
    "breach",
    "fault",
    "file",
    "billing",
    "grid",
    "late",
    "legitimate",
    "nothing",
    "unknown",
]
VERDICT_WORDS: tuple[Verdict, ...] = get_args(Verdict)


class Outcome(NamedTuple):
    """The group and the Chinese name of an outcome code."""

    group: Group
    zh: str


OUTCOME_CODES = {
    "bypass": Outcome("theft", "绕越计量"),
    "meter_tampered": Outcome("theft", "改动电能表"),
    "seal_broken": Outcome("theft", "伪造或破坏封印"),
    "hooked_to_line": Outcome("theft", "私接线路"),
    "class_breach": Outcome("breach", "擅自改变用电类别"),
    "capacity_breach": Outcome("breach", "超容用电"),
    "suspended_plant": Outcome("breach", "擅用已暂停设备"),
    "resale": Outcome("breach", "转供电"),
    "unfiled_generation": Outcome("breach", "未备案发电"),
    "meter_fault": Outcome("fault", "电能表故障"),
    "transformer_fault": Outcome("fault", "互感器故障"),
    "wiring_fault": Outcome("fault", "接线错误"),
    "clock_fault": Outcome("fault", "时钟故障"),
    "communication_fault": Outcome("fault", "通信故障"),
    "file_ratio": Outcome("file", "倍率不符"),
    "file_place": Outcome("file", "相别或台区不符"),
    "file_class": Outcome("file", "类别不符"),
    "file_mix_up": Outcome("file", "串户"),
    "read_wrongly": Outcome("billing", "抄表差错"),
    "computed_wrongly": Outcome("billing", "计费差错"),
    "booked_wrongly": Outcome("billing", "入账差错"),
    "overload": Outcome("grid", "过载"),
    "unbalance": Outcome("grid", "三相不平衡"),
    "quality": Outcome("grid", "电能质量"),
    "stage_late": Outcome("late", "环节超期"),
    "vacant": Outcome("legitimate", "空置"),
    "use_changed": Outcome("legitimate", "用电变化"),
    "own_generation": Outcome("legitimate", "自有发电或储能"),
    "idle_phase": Outcome("legitimate", "空相"),
    "outage": Outcome("legitimate", "停电"),
    "new_tenant": Outcome("legitimate", "更换住户"),
    "nothing_found": Outcome("nothing", "未发现异常"),
    "no_access": Outcome("unknown", "无法入户"),
    "bad_readings": Outcome("unknown", "数据不可用"),
}


class Inspection(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A finding on a meter, customer, area or work item; a newer record of its id replaces it."""

    inspection: str  # id of the finding: the case, or the case and a number
    subject: str
    area: str = ""  # needed only if the subject is in more than one
    # When the trouble began, or from when on nothing was wrong.
    since: Annotated[
        int,
        msgspec.Meta(
            ge=EARLIEST_TIME,
            lt=LATEST_TIME,
            description="Unix seconds",
            extra_json_schema={"x-unit": "s"},
        ),
    ]
    until: Moment = 0  # when it ended
    outcome: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [*OUTCOME_CODES]})]
    verdict: Verdict
    source: str = ""  # such as the number of the visit
    # The chance with which the subject was chosen for the visit.
    inclusion: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    rules: list[str] = msgspec.field(default_factory=list)  # by its outcome if empty
    # Rules that may rightly raise for the consequences.
    echoes: list[str] = msgspec.field(default_factory=list)
