"""An alert is an episode: raised, perhaps escalated or revised, cleared; all under one id."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec

State = Literal["raised", "cleared", "withdrawn"]
Change = Literal["raised", "escalated", "revised", "cleared", "withdrawn"]
Seconds = Annotated[
    int, msgspec.Meta(description="Unix seconds", extra_json_schema={"x-unit": "s"})
]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An episode after its latest change. It suspects; a person decides."""

    id: str
    rule: str
    version: int  # of the rule's settings
    kind: str  # of the batch it was judged on
    area: str
    subject: str
    state: State
    change: Change  # what this message adds
    revision: int  # counts the changes, from 0
    severity: int  # 1 same day, 2 within 3 days, 3 batch, 4 information
    since: Seconds  # when the trouble began
    raised: Seconds  # event time of the evidence that raised it
    at: Seconds  # event time of the latest change
    score: float  # 1 or more is trouble
    phase: str  # the worst phase, "" without phases
    # The columns it was judged on, when it was raised or last escalated.
    evidence: dict[str, float]
    suppressed_by: str  # why policy suppresses it, "" if it does not
    en: str  # a plain sentence for an inspector
    zh: str
    code: Annotated[
        str,
        msgspec.Meta(
            description="IEC 61968-9 code of the device event it stems from, if any"
        ),
    ] = ""


def alert_id(rule: str, area: str, subject: str, since: int) -> str:
    """Sixteen hex digits, a pure function of rule, area, subject and time.

    >>> alert_id("voltage_loss", "A1", "M1", 900)
    '7ad575ad524a9181'
    """
    key = "\0".join((rule, area, subject, str(since)))
    return blake2b(key.encode(), digest_size=8).hexdigest()


RENAMED_KINDS = {"files": "master_records", "journeys": "traces"}


def renamed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an older alert, by their present names."""
    others = {name: value for name, value in fields.items() if name != "held"}
    kind = fields["kind"]
    return others | {
        "kind": RENAMED_KINDS.get(kind, kind),
        "suppressed_by": fields["held"],
    }
