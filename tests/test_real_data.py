"""docs/real-data.md matches the output of its command on the real data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.real import (
    ON_USE,
    PAGE_FILE,
    THEFT_RULES,
    Judged,
    filled,
    half,
    listed,
    rates,
    tables,
)
from detectors.rule import ALL_RULES
from schemas.alert import Alert
from schemas.units import DAY_SECONDS

WHOLE_DATA_FOLDER = Path(__file__).parents[2] / "shared" / "data"


def alert(rule: str, subject: str, day: int) -> Alert:
    """An alert at the beginning of a day."""
    at = day * DAY_SECONDS

    return Alert(
        id=f"{rule} {subject} {day}",
        rule=rule,
        version=1,
        kind="days",
        area="A1",
        subject=subject,
        state="raised",
        change="raised",
        revision=0,
        severity=3,
        since=at,
        raised=at,
        at=at,
        score=1.0,
        phase="",
        evidence={},
        suppressed_by="",
        en="",
        zh="",
    )


@pytest.mark.skipif(
    not WHOLE_DATA_FOLDER.exists(),
    reason="the whole data sets do not lie beside this checkout",
)
def test_page_matches_the_output_of_the_command():
    page = PAGE_FILE.read_text("utf-8")
    assert filled(page, tables(WHOLE_DATA_FOLDER)) == page


def test_rates_are_over_each_meters_own_days_in_all_halves_and_without_any_one():
    left_out, also_out = next(
        (first, second)
        for first in map(str, range(9))
        for second in map(str, range(9))
        if (half(first), half(second)) == (0, 1)
    )
    history = Judged(
        "UTC",
        [alert("step_drop", left_out, 3), alert("zero_usage", left_out, 9)],
        {left_out: 500.0, also_out: 1500.0},
    )
    rows = {line.split("|")[1].strip(): line for line in rates(history)}

    assert rows["`step_drop`"].endswith("| 1 | 0.50 | 2.00 | 0.00 | 0.00 to 2.00 |")
    assert rows["a fall or a form that may be theft"].endswith(
        "| 1 | 0.50 | 2.00 | 0.00 | 0.00 to 2.00 |"
    )
    assert rows["all on use"].endswith("| 2 | 1.00 | 4.00 | 0.00 | 0.00 to 4.00 |")


def test_unchecked_alert_is_shown_as_unchecked():
    history = Judged("UTC", [alert("step_drop", "M1", 3)], {"M1": 9.0})
    assert [*listed(history, ON_USE, [])][2:] == [
        "| `step_drop` | 3 | M1 | 1970-01-04, not cleared | not read |",
        "",
        "Of 0 that were read in the raw data 0 were worth a visit.",
    ]


def test_family_names_existing_rules():
    assert ALL_RULES.keys() >= ON_USE > THEFT_RULES


def test_page_without_a_marker_for_a_table_is_refused():
    with pytest.raises(ValueError, match="no place for garden4"):
        filled("nothing here", {"garden4": []})
