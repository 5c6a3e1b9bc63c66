"""What was found on site: the topic `inspections`, its way into an archive, and labels out of it."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from replay.archive.manifest import read_manifest
from replay.archive.storage import storage_of
from replay.archive.writing import ArchiveCommit, open_writer
from replay.history import Tally
from replay.inspections import inspections_of, registered_labels
from replay.labels import (
    archived_labels,
    judged_rules,
    planted_labels,
    read_labels,
    write_labels,
)
from replay.simulation.town import Town
from schemas.columns import LATEST_TIME
from schemas.inspection import Inspection
from schemas.master import Area, Meter
from schemas.topics import INSPECTIONS_TOPIC
from schemas.wire import decode_inspections
from streams.judged_history import LabelFile
from streams.kafka.archiver import Gathered
from streams.kafka.records import FetchedRange
from streams.sent_labels import EMPTY_REGISTRY_NOTE
from streams.settings import Settings
from tests.test_archive import COMMIT_TIME
from tests.test_archiver import record
from tests.test_score import command

__all__ = ["command"]  # a fixture

VISIT_TIME = 1_772_323_200
FOUND_BYPASS = Inspection(
    inspection="case 7",
    subject="M1",
    area="A1",
    since=VISIT_TIME,
    outcome="bypass",
    verdict="true",
    source="visit 7",
    inclusion=0.25,
    rules=["zero_usage"],
)


def message(value=FOUND_BYPASS, key=b"case 7"):
    """A message as the brokers give it."""
    if isinstance(value, Inspection):
        value = msgspec.json.encode(value)
    return key, value, "application/json", 0


def fields(**changed):
    """The record as JSON, with other fields."""
    return json.dumps(msgspec.to_builtins(FOUND_BYPASS) | changed).encode()


def test_the_newest_record_counts_and_a_tombstone_withdraws():
    newer = msgspec.structs.replace(
        FOUND_BYPASS, outcome="nothing_found", verdict="false"
    )
    other = msgspec.structs.replace(FOUND_BYPASS, inspection="case 8")
    messages = [
        message(),
        message(other, b"case 8"),
        message(newer),
        message(other, b""),
    ]
    assert decode_inspections(messages) == ({"case 7": newer, "case 8": other}, [])
    assert decode_inspections([message(), message(None)]) == ({"case 7": None}, [])


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"", b"case 7", "empty"),
        (b"{", b"case 7", "truncated"),
        (b'{"subject": "M1"}', b"case 7", "missing_field"),
        (fields(verdict="maybe"), b"case 7", "unknown_value"),
        (fields(outcome="bypas"), b"case 7", "unknown_value"),
        (fields(since=12), b"case 7", "bad_time"),
        (fields(until=VISIT_TIME - 1), b"case 7", "bad_time"),
        (fields(inclusion=0), b"case 7", "out_of_range"),
        (fields(subject=""), b"case 7", "bad_id"),
        (fields(source="a\u0000b"), b"case 7", "bad_id"),
        (fields(crew="Li"), b"case 7", "unknown_field"),
        (fields(), b"case 8", "bad_id"),
        (None, b"", "no_key"),
        (None, None, "no_key"),
    ],
)
def test_a_bad_record_is_rejected_with_its_reason(value, key, reason):
    found, rejections = decode_inspections([message(value, key), message()])
    assert found == {"case 7": FOUND_BYPASS}
    assert [rejection.reason.value for rejection in rejections] == [reason]


def test_inspections_are_gathered_and_kept(tmp_path):
    gathered = Gathered(Settings())
    records = [
        record(5, msgspec.json.encode(FOUND_BYPASS), b"case 7"),
        record(6, b"{", b"case 8"),
    ]
    gathered.add(INSPECTIONS_TOPIC, 0, FetchedRange(5, records, 7))
    commit = gathered.commit()
    assert commit.offsets == {INSPECTIONS_TOPIC: {0: 7}}

    with open_writer(tmp_path, "UTC") as writer:
        writer.commit(commit, COMMIT_TIME)
        kept = writer.manifest.inspections
        writer.commit(ArchiveCommit(inspections={"case 7": FOUND_BYPASS}), COMMIT_TIME)
        assert writer.manifest.inspections == kept
    tally = Tally()
    (label,) = archived_labels(storage_of(tmp_path), tally)
    assert (label.subject, label.since, label.until) == ("M1", VISIT_TIME, LATEST_TIME)
    assert (label.source, label.inclusion) == ("visit 7", 0.25)
    assert label.rules == {"zero_usage"}
    assert label.where == f"{tmp_path} inspection case 7"
    assert tally.notes == [
        f"{tmp_path}: 1 inspections were rejected as truncated when they came: publish them anew"
    ]

    with open_writer(tmp_path, "UTC") as writer:
        writer.commit(ArchiveCommit(inspections={"case 7": None}), COMMIT_TIME)
    assert archived_labels(storage_of(tmp_path), Tally()) == []
    assert read_manifest(storage_of(tmp_path)).inspections


def test_labels_of_inspections_are_checked_as_those_of_files(tmp_path):
    by_outcome = msgspec.structs.replace(
        FOUND_BYPASS, inspection="case 8", subject="M2", rules=[]
    )
    doubled = msgspec.structs.replace(FOUND_BYPASS, inspection="case 9")
    unknown = msgspec.structs.replace(
        FOUND_BYPASS, inspection="case 10", rules=["zero_use"]
    )
    with open_writer(tmp_path, "UTC") as writer:
        found = {
            each.inspection: each
            for each in (FOUND_BYPASS, by_outcome, doubled, unknown)
        }
        writer.commit(ArchiveCommit(inspections=found), COMMIT_TIME)

    tally = Tally()
    labels = archived_labels(storage_of(tmp_path), tally)
    assert [label.rules for label in labels] == [{"zero_usage"}, judged_rules("bypass")]
    assert tally.rejected == {
        "the label overlaps another of its subject (end one before the other begins)": 1,
        "rules has an unknown word": 1,
    }


# ---- Labels as inspections ----

LABEL_HEAD = "inspection,subject,area,since,until,outcome,verdict,rules\n"


def labels_of(folder, *rows):
    """The labels of a CSV file of such rows."""
    path = folder / "visits.csv"
    path.write_text(LABEL_HEAD + "\n".join(rows))
    return read_labels(path, Tally())


def substance(label):
    """A label without its id and its place."""
    return replace(label, where="", inspection="")


def test_labels_come_back_from_inspections_as_they_were(tmp_path):
    labels = labels_of(
        tmp_path,
        "case 7,M1,A1,2026-03-01,2026-03-09,bypass,true,zero_usage",
        ",M2,,2026-03-01,,nothing_found,false,",
    )
    found = inspections_of(labels, Tally())
    assert [each.inspection for each in found] == ["case 7", "M2 2026-03-01T00:00:00Z"]
    assert [each.rules for each in found] == [["zero_usage"], []]
    assert [each.until == 0 for each in found] == [False, True]

    with open_writer(tmp_path / "kept", "UTC") as writer:
        by_name = {each.inspection: each for each in found}
        writer.commit(ArchiveCommit(inspections=by_name), COMMIT_TIME)
    back = archived_labels(storage_of(tmp_path / "kept"), Tally())
    assert inspections_of(back, Tally()) == found  # under the same ids
    assert [*map(substance, back)] == [*map(substance, labels)]


def test_findings_of_one_place_and_time_have_ids_of_their_own(tmp_path):
    labels = labels_of(
        tmp_path,
        ",M1,A1,2026-03-01,,bypass,true,zero_usage",
        ",M1,A1,2026-03-01,,bypass,true,step_drop",
        "case 7,M2,A1,2026-03-01,,bypass,true,",
        "case 7,M3,A1,2026-03-01,,bypass,true,",
        f"{'x' * 300},M4,A1,2026-03-01,,bypass,true,",
    )

    tally = Tally()
    assert [each.inspection for each in inspections_of(labels, tally)] == [
        "A1 M1 2026-03-01T00:00:00Z",
        "A1 M1 2026-03-01T00:00:00Z 2",
        "case 7",
    ]
    reason = "an earlier row has the same inspection (give each its own id)"
    assert tally.rejected.pop(reason) == 1
    assert tally.first[reason] == "visits.csv row 4: 'case 7'"
    assert list(tally.rejected.values()) == [1]  # no reader would take the long id


def test_subjects_that_the_registry_lacks_are_refused(tmp_path):
    labels = labels_of(
        tmp_path,
        ",M1,,2026-03-01,,bypass,true,",
        ",C1/B7,,2026-03-01,,computed_wrongly,true,",
        ",A1,,2026-03-01,,overload,true,",
        ",item 9,,2026-03-01,,stage_late,true,",
        ",M11,,2026-03-01,,bypass,true,",
        ",M2,A2,2026-03-01,,nothing_found,false,",
    )

    area = Area(area="A1", meters=[Meter(meter="M1", customer="C1"), Meter(meter="M2")])
    tally = Tally()
    known = registered_labels(labels, [area], tally)
    assert {label.subject for label in known} == {"M1", "C1/B7", "A1", "item 9"}
    assert tally.first == {
        "the registry has no such subject (correct the id)": "visits.csv row 5: 'M11', did you mean M1?",
        "the registry has the subject in another area (correct the area)": (
            "visits.csv row 6: 'M2' is in 'A1', not in 'A2'"
        ),
    }


def test_nothing_to_send_is_an_error(command):
    code, _, error = command("send")
    assert (code, error) == (2, "error: nothing to send: name a history, or --labels\n")


def test_labels_that_are_sent_are_scored_from_the_archive(
    settings, environment, command, monkeypatch, tmp_path
):
    for name, value in (environment | {"METERWATCH_ARCHIVE_FREE_GIB": "0"}).items():
        monkeypatch.setenv(name, value)
    labels = planted_labels([*(town := Town(60, 2, 4)).planted, *town.decoys])
    write_labels(tmp_path / "visits.csv", labels)
    kept = len(read_labels(tmp_path / "visits.csv", Tally()))
    with (tmp_path / "visits.csv").open("a") as file:
        file.write(",M99,,2026-03-01,,bypass,true,,,,\n")  # unknown
        file.write(",M1,,2026-03-01,,bypass,,,,,\n")  # without a verdict

    code, output, _ = command("send", "--labels", "visits.csv")
    assert (code, output.splitlines()[-1]) == (0, EMPTY_REGISTRY_NOTE)
    for _ in range(2):  # sent again, they replace themselves
        code, output, _ = command("send", "town:60x2:4", "--labels", "visits.csv")
        assert code == 0
    lines = output.splitlines()
    assert f"{kept:12,} to {settings.topic(INSPECTIONS_TOPIC)}" in lines
    assert any("1 left out: the registry has no such subject" in line for line in lines)
    assert any("1 left out: the label has no verdict" in line for line in lines)

    assert command("archive", "kept", "--once")[0] == 0
    code, output, _ = command("score", "kept", "--json")
    scored = json.loads(output)
    assert (code, scored["labels"]["used"]) == (0, kept)
    assert scored["scores"][0]["true"] > 0


# ---- Scores by inspections ----


def numbered(labels):
    """Labels as inspections, by ids."""
    return {each.inspection: each for each in inspections_of(labels, Tally())}


def test_scores_take_the_inspections_of_an_archive(command):
    town = Town(60, 2, 4)
    batches = list(town.batches())
    inspections = numbered(planted_labels([*town.planted, *town.decoys]))
    with open_writer("kept", town.zone) as writer:
        writer.commit(ArchiveCommit(batches, town.areas, inspections), COMMIT_TIME)
    with open_writer("bare", town.zone) as writer:
        writer.commit(ArchiveCommit(batches, town.areas), COMMIT_TIME)

    code, output, _ = command("score", "kept")
    assert code == 0
    assert f"labels: {len(inspections)} inspections of kept" in output

    code, output, _ = command("score", "bare", "--labels", "kept", "--json")
    scored = json.loads(output)
    assert (code, scored["labels"]["file"]) == (0, "kept")
    assert scored["labels"]["used"] == len(inspections)
    assert scored["scores"][0]["true"] > 0

    assert LabelFile.read(None, ["bare"]).labels == []
    code, _, error = command("score", "kept", "--labels", "bare")
    assert (code, error.count("\n")) == (2, 1)
    assert "bare has no label that can be used" in error
