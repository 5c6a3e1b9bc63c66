"""`meterwatch rules test` runs a utility's own cases, and says what is wrong with a file in a line."""

from __future__ import annotations

import sys

import msgspec
import pytest

from detectors.rule_notes import CASES_FOLDER
from streams.cli import main

PASSING_CASE = '''
[[case]]
name = "phase B at 150 V"
readings = """
at                 u            i
d1 00:15..01:00    220          4
d1 01:15..02:00    220/150/220  4
"""
alerts = """
change  since     at        severity  phase
raised  d1 01:15  d1 01:30  1         B
"""
says = "150.0 V"
'''
LOWER_LIMIT = """
[voltage_loss]
status = "published"
version = 2
settings = { lost = 0.5 }
"""
OTHER_EXPECTATIONS = {
    "another time": (("d1 01:30", "d1 01:45"), "raised  d1 01:15  d1 01:45"),
    "no such alert": (
        ("severity  phase\nraised  d1 01:15  d1 01:30  1         B", "severity"),
        "(none)",
    ),
    "another sentence": (("150.0 V", "151.0 V"), "expected the sentence: 151.0 V"),
    "cannot tell": (
        ("\nreadings", '\nshows = "cannot tell"\nreadings'),
        "has an answer",
    ),
    "near miss": (
        ("\nreadings", '\nshows = "near miss"\nreadings'),
        "there are alerts",
    ),
    "clears": (("\nreadings", '\nshows = "clears"\nreadings'), "none is cleared"),
}
BAD_FILES = {
    "no TOML": ("[[case", "Expected"),
    "no cases": ('rule = "voltage_loss"\ncase = []', "there is no [[case]]"),
    "unknown key": (PASSING_CASE + 'hapens = ""\n', "hapens"),
    "unknown rule": (
        'rule = "voltage_los"\n' + PASSING_CASE,
        "did you mean voltage_loss?",
    ),
    "unknown column": (
        PASSING_CASE.replace("u            i", "u            ib"),
        "no column ib",
    ),
    "unknown column of alerts": (
        PASSING_CASE.replace("severity", "gravity"),
        "no column gravity",
    ),
    "unknown kind": (PASSING_CASE + 'shows = "fire"\n', "did you mean fires?"),
    "unknown column of meters": (
        PASSING_CASE + 'meters = """\nmeter  wirng\nM1     3P4W"""\n',
        "did you mean wiring?",
    ),
    "unknown wiring": (
        PASSING_CASE + 'meters = """\nmeter  wiring\nM1     4P4W"""\n',
        "4P4W",
    ),
    "a cell too few": (
        PASSING_CASE.replace("220/150/220  4", "220/150/220"),
        "2 cells",
    ),
    "no number": (PASSING_CASE.replace("220/150/220", "220/x/220"), "'x' is no number"),
    "two phases": (PASSING_CASE.replace("220/150/220", "220/150"), "2 phases"),
    "no time": (
        PASSING_CASE.replace("d1 00:15..01:00", "0 00:15..01:00"),
        "is no time",
    ),
    "no column at": (
        PASSING_CASE.replace("at                 u", "time               u"),
        "no column at",
    ),
    "no step": (PASSING_CASE + "interval = 0\n", ">= 60"),
    "unknown event": (
        PASSING_CASE + 'events = """\nat        event\nd1 01:00  cover_opn\n"""\n',
        "did you mean cover_open?",
    ),
}


@pytest.fixture
def rules_test(tmp_path, monkeypatch, capsys):
    """Runs the command on a file of this text; gives its exit code and what it printed."""

    def run(text, *options):
        file = tmp_path / "voltage_loss.toml"
        file.write_text(text, "utf-8")
        monkeypatch.setattr(
            sys, "argv", ["meterwatch", "rules", "test", str(file), *options]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run


def test_case_passes(rules_test):
    code, out, err = rules_test(PASSING_CASE)
    assert code == 0, err
    assert "passed  phase B at 150 V" in out
    assert out.endswith("1 passed, 0 failed\n")


@pytest.mark.parametrize(
    ("change", "fault"), OTHER_EXPECTATIONS.values(), ids=OTHER_EXPECTATIONS
)
def test_case_fails_and_says_why(rules_test, change, fault):
    code, out, _ = rules_test(PASSING_CASE.replace(*change))
    assert code == 1
    assert fault in out
    assert out.endswith("0 passed, 1 failed\n")


def test_cases_are_judged_by_the_rulebook(rules_test, tmp_path):
    rulebook = tmp_path / "rules_of_ours" / "rules.toml"
    rulebook.parent.mkdir()
    rulebook.write_text(LOWER_LIMIT, "utf-8")
    code, out, _ = rules_test(PASSING_CASE, "--rules", str(rulebook), "--json")
    assert code == 1

    [result] = msgspec.json.decode(out)
    assert result["rule"] == "voltage_loss"
    assert result["case"] == "phase B at 150 V"
    assert "got:\n(none)" in result["faults"][0]


@pytest.mark.parametrize(("text", "fault"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_one_line(rules_test, text, fault):
    code, _, err = rules_test(text)
    assert code == 2
    assert "voltage_loss.toml" in err
    assert fault in err
    assert len(err.splitlines()) == 1


def test_folder_is_run_whole(rules_test, tmp_path, monkeypatch, capsys):
    (tmp_path / "cover.toml").write_text(
        'rule = "voltage_loss"\n' + PASSING_CASE, "utf-8"
    )
    (tmp_path / "voltage_loss.toml").write_text(PASSING_CASE, "utf-8")
    monkeypatch.setattr(sys, "argv", ["meterwatch", "rules", "test", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith("2 passed, 0 failed\n")


def test_files_of_the_project_are_read_with_their_notes(rules_test):
    text = (CASES_FOLDER / "voltage_loss.toml").read_text("utf-8")
    code, out, _ = rules_test(text)
    assert code == 0, out
