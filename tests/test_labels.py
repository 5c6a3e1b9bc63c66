"""Labels are read from any file; a bad row is refused with its reason and place, none in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replay.history import SourceError, Tally
from replay.labels import (
    GROUP_FAMILIES,
    LABEL_COLUMNS,
    Label,
    judged_rules,
    known_labels,
    planted_labels,
    read_labels,
    write_labels,
)
from replay.observed import Observed
from replay.simulation.town import Town
from schemas.columns import LATEST_TIME
from schemas.inspection import OUTCOME_CODES
from schemas.master import Area, Meter

CSV_HEADER = "subject,area,since,until,outcome,verdict,source,inclusion,rules"
BYPASS_LABEL = Label(
    subject="M1",
    area="A1",
    since=1772323200,
    until=1772928000,
    outcome="bypass",
    verdict="true",
    source="visit 7",
    inclusion=0.25,
    rules=judged_rules("bypass"),
    where="row 1",
)


def labels_of(tmp_path, *rows, header=CSV_HEADER):
    """The labels of rows of CSV, and what was refused."""
    path = tmp_path / "visits.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    tally = Tally()
    return read_labels(path, tally), tally


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_labels_are_read_from_any_file(tmp_path, ending):
    path = tmp_path / f"visits{ending}"
    if ending == ".csv":
        path.write_text(
            f"{CSV_HEADER}\nM1,A1,2026-03-01,2026-03-08T00:00:00Z,bypass,true,visit 7,0.25,\n"
        )
    elif ending == ".jsonl":
        path.write_text(
            '{"subject": "M1", "area": "A1", "since": 1772323200, "until": "2026-03-08", "outcome": "bypass",'
            ' "verdict": true, "source": "visit 7", "inclusion": 0.25}\n'
        )
    else:
        row = {
            "subject": "M1",
            "area": "A1",
            "since": 1772323200,
            "until": 1772928000,
            "outcome": "bypass",
            "verdict": "true",
            "source": "visit 7",
            "inclusion": 0.25,
        }
        pq.write_table(pa.Table.from_pylist([row]), path)

    tally = Tally()
    assert read_labels(path, tally) == [
        replace(BYPASS_LABEL, where=f"{path.name} row 1")
    ]
    assert not tally.rejected


def test_an_open_end_and_named_rules_are_taken(tmp_path):
    row = "M1,,2026-03-01,,vacant,false,,,zero_usage low_usage"
    (label,), tally = labels_of(tmp_path, row)
    assert label.until == LATEST_TIME
    assert label.rules == {"zero_usage", "low_usage"}
    assert (label.inclusion, tally.rejected) == (1, {})


@pytest.mark.parametrize(
    ("row", "reason", "place"),
    [
        (",A1,2026-03-01,,bypass,true,,,", "subject is missing", ""),
        (
            "M1,A1,2026-03-01,,bypass,,,,",
            "the label has no verdict (write true, false or cannot_tell)",
            "",
        ),
        (
            "M1,A1,2026-03-01,,,true,,,",
            "the label has no outcome (write a code, such as bypass)",
            "",
        ),
        (
            "M1,A1,2026-03-01,,bypass,flase,,,",
            "verdict has an unknown word",
            ": 'flase', did you mean false?",
        ),
        (
            "M1,A1,2026-03-01,,bypas,true,,,",
            "outcome has an unknown word",
            ": 'bypas', did you mean bypass?",
        ),
        (
            "M1,A1,2026-03-01,,bypass,true,,,zero_use",
            "rules has an unknown word",
            ": 'zero_use', did you mean zero_usage?",
        ),
        ("M1,A1,soon,,bypass,true,,,", "since is no time", ": 'soon'"),
        ("M1,A1,12,,bypass,true,,,", "since is no time", ": '12'"),
        ("M1,A1,,,bypass,true,,,", "since is no time", ": ''"),
        (
            "M1,A1,2026-03-08,2026-03-01,bypass,true,,,",
            "until is before since",
            "",
        ),
        (
            "M1,A1,2026-03-01,,bypass,true,,2,",
            "inclusion is no number above 0 and up to 1",
            ": '2'",
        ),
    ],
)
def test_a_bad_row_is_refused_with_its_place(tmp_path, row, reason, place):
    good = "M9,A1,2026-03-01,,bypass,true,,,"
    labels, tally = labels_of(tmp_path, good, row)
    assert [label.subject for label in labels] == ["M9"]
    assert tally.rejected == {reason: 1}
    assert tally.first[reason] == f"visits.csv row 2{place}"


def test_labels_that_overlap_are_refused(tmp_path):
    labels, tally = labels_of(
        tmp_path,
        "M1,A1,2026-03-01,2026-03-08,bypass,true,,,",
        "M1,A1,2026-03-05,,nothing_found,false,,,",
        "M1,A1,2026-03-08,,nothing_found,false,,,",
        "M1,A1,2026-03-05,,stage_late,true,,,",
        "M1,A1,2026-03-01,,no_access,cannot_tell,,,",
        "M1,,2026-03-01,,meter_tampered,true,,,",
        "M1,A2,2026-03-01,,meter_tampered,true,,,",
    )
    assert [label.where[-1] for label in labels] == ["1", "3", "5", "7"]
    reason = (
        "the label overlaps another of its subject (end one before the other begins)"
    )
    assert tally.rejected == {reason: 3}
    assert tally.first[reason] == "visits.csv row 2: 'M1', visits.csv row 1"


def test_unknown_subjects_are_refused():
    observed = Observed([Area(area="A1", meters=[Meter(meter="M1", customer="C1")])])
    labels = [
        BYPASS_LABEL,
        replace(BYPASS_LABEL, subject="C1", area=""),
        replace(BYPASS_LABEL, subject="C1/2026-02"),
        replace(BYPASS_LABEL, subject="A1"),
        replace(BYPASS_LABEL, subject="M17", where="row 5"),
        replace(BYPASS_LABEL, area="A2", where="row 6"),
    ]
    tally = Tally()
    assert known_labels(labels, observed, tally) == labels[:4]
    assert tally.first == {
        "the history has no such subject (correct the id)": "row 5: 'M17', did you mean M1?",
        "the history has the subject in another area (correct the area)": "row 6: 'M1' is in 'A1', not in 'A2'",
    }


def test_a_file_that_holds_no_labels_is_an_error(tmp_path):
    with pytest.raises(
        SourceError, match="no column subject, outcome: .*did you mean subject"
    ):
        labels_of(tmp_path, "M1,2026-03-01,true", header="subjct,since,verdict")
    path = tmp_path / "visits.jsonl"
    path.write_text('{"subject": "M1"}\n{"subject": \n')
    with pytest.raises(SourceError, match="visits.jsonl line 2 is no label"):
        read_labels(path, Tally())


def test_planted_faults_are_written_as_labels(tmp_path):
    town = Town(300, 12, 2)
    labels = planted_labels([*town.planted, *town.decoys])
    path = tmp_path / "planted.csv"
    write_labels(path, labels)

    tally = Tally()
    read = [replace(label, where="") for label in read_labels(path, tally)]
    assert not tally.rejected
    assert len(read) == len(labels)
    assert all(label in labels for label in read)
    assert {label.verdict for label in labels} == {"true", "false"}


def test_outcomes_judge_families():
    groups = {outcome.group for outcome in OUTCOME_CODES.values()}
    assert set(GROUP_FAMILIES) < groups
    assert "zero_usage" in judged_rules("bypass")
    assert "clock_drift" in judged_rules("clock_fault")
    assert {"stage_overdue", "clock_drift"}.isdisjoint(judged_rules("bypass"))
    everything = judged_rules("nothing_found")
    assert all(judged_rules(code) <= everything for code in OUTCOME_CODES)


def test_the_page_names_every_outcome_and_column():
    page = (Path(__file__).parents[1] / "docs" / "data-layout.md").read_text("utf-8")
    assert all(
        f"`{code}` {outcome.zh}" in page for code, outcome in OUTCOME_CODES.items()
    )
    assert all(f"| `{column}` |" in page for column in LABEL_COLUMNS)
