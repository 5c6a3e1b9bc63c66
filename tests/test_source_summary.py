"""The summary of a source that `inspect` shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detectors.rule import ALL_RULES
from replay.history import SourceError
from streams.cli import main
from streams.settings import Settings
from streams.source_summary import source_summary

DATA_FOLDER = Path(__file__).parent / "data"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "reads.csv"
    path.write_text(
        "meter,area,at,kwh,ua,foo\nM1,A1,2026-03-02T01:00:00Z,1.5,220,x\nM1,A1,2026-03-02T02:00:00Z,bad,230,x\n"
        "M22,A1,2026-03-02T01:00:00Z,2.5,,x\n,A1,2026-03-02T01:00:00Z,1,1,x\n",
        "utf-8",
    )
    return path


def test_columns_ids_times_and_omissions_are_listed(file):
    summary = source_summary([str(file)], Settings(zone="UTC", interval=3600))
    readings = summary["kinds"]["readings"]
    assert (readings["rows"], readings["meters"], readings["areas"]) == (3, 2, 1)
    assert (readings["from"], readings["to"]) == (
        "2026-03-02 01:00",
        "2026-03-02 02:00",
    )

    assert readings["ids"] == "A9 (1), A99 (1)"
    assert readings["columns"]["kwh"] == {
        "unit": "kWh",
        "known": 2,
        "lowest": 1.5,
        "highest": 2.5,
    }
    assert readings["columns"]["u"] == {
        "unit": "V",
        "known": 2,
        "lowest": 220,
        "highest": 230,
    }
    assert sum(summary["refused"].values()) == 2
    assert any("foo" in note for note in summary["notes"])


@pytest.fixture
def inspected(file, monkeypatch, capsys):
    def run(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["meterwatch", "inspect", str(file), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_no_row_is_repeated(inspected):
    lines = inspected()
    assert "M22" not in lines
    assert f"of {len(ALL_RULES)} rules can judge this" in lines.replace("\n", " ")


def test_json_output_is_only_json(inspected):
    assert json.loads(inspected("--json"))["kinds"]["readings"]["rows"] == 3


def test_subjects_of_events_are_devices(tmp_path):
    (tmp_path / "events.csv").write_text(
        "meter,area,at,event\nM1,A1,2026-03-02T01:00:00Z,cover_open\n", "utf-8"
    )
    summary = source_summary([str(tmp_path)], Settings(zone="UTC", interval=3600))
    assert summary["kinds"]["events"]["devices"] == 1


def test_curve_exports_and_households_are_summarised():
    files = sorted(map(str, DATA_FOLDER.glob("garden4_*")))
    summary = source_summary(files, Settings())
    assert "voltage_loss" in summary["rules"]["judge"]
    assert summary["rules"]["lack"]["arrears_tier"] == ["bills"]


def test_nothing_to_read_is_an_error(tmp_path):
    empty = tmp_path / "empty.csv"
    empty.write_text("meter,area,at,kwh\n", "utf-8")
    with pytest.raises(SourceError):
        source_summary([str(empty)], Settings())
