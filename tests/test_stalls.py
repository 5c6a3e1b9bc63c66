"""The printed comparison of stalled stages."""

from __future__ import annotations

import sys

import pytest

from streams.cli import main


def test_stalls_prints_names_of_any_length_and_characters(
    tmp_path, monkeypatch, capsys
):
    stage = "checks the invoice / asks the customer, by letter and telephone"
    rows = "".join(
        f"c{n},{name},2026-03-{n % 27 + 1:02d}T0{k}:00:00Z\n"
        for n in range(60)
        for k, name in enumerate((f'"{stage}"', "b/c", "done"))
    )
    (tmp_path / "log.csv").write_text("case_id,activity,timestamp\n" + rows)
    monkeypatch.setattr(
        sys, "argv", ["meterwatch", "stalls", str(tmp_path / "log.csv")]
    )

    with pytest.raises(SystemExit):
        main()

    header, *lines = capsys.readouterr().out.splitlines()
    assert {line.split("  ")[0] for line in lines} == {stage, "b/c"}
    assert {len(line) for line in lines} == {len(header)}
