"""The scores of a meter's day: how far each rule was from an alert, in shadow or not."""

from __future__ import annotations

from typing import Annotated

import msgspec


class MeterScores(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A day of a meter that no row can change any more; a repeated row of it is the same."""

    area: str
    meter: str
    day: Annotated[str, msgspec.Meta(description="Local date; a midnight ends its day")]
    scores: Annotated[
        dict[str, float],
        msgspec.Meta(
            description="By rule the highest of the day, to four decimals; a rule that cannot tell is left out"
        ),
    ]
