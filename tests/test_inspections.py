"""What was found on site: the topic `inspections`, its way into an archive, and labels out of it."""

from __future__ import annotations

import json
import sys

import msgspec
import pytest

from replay.archive.manifest import read_manifest
from replay.archive.storage import storage_of
from replay.archive.writing import ArchiveCommit, open_writer
from replay.history import Tally
from replay.labels import archived_labels, judged_rules, planted_labels
from replay.simulation.town import Town
from schemas.columns import LATEST_TIME
from schemas.inspection import Inspection
from schemas.topics import INSPECTIONS_TOPIC
from schemas.wire import decode_inspections
from streams.cli import main
from streams.judged_history import LabelFile
from streams.kafka.archiver import Gathered
from streams.kafka.records import FetchedRange
from streams.settings import Settings
from tests.test_archive import COMMIT_TIME
from tests.test_archiver import record

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


def inspections_of(labels):
    """Labels as inspections, with an id each."""
    for number, label in enumerate(labels):
        name = f"case {number}"
        yield (
            name,
            Inspection(
                inspection=name,
                subject=label.subject,
                area=label.area,
                since=label.since,
                until=label.until,
                outcome=label.outcome,
                verdict=label.verdict,
                rules=sorted(label.rules),
                echoes=sorted(label.echoes),
            ),
        )


def test_scores_take_the_inspections_of_an_archive(tmp_path, monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["meterwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    town = Town(60, 2, 4)
    batches = list(town.batches())
    inspections = dict(inspections_of(planted_labels([*town.planted, *town.decoys])))
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
