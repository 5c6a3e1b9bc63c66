"""What the pages show is what the project holds: files, code and an alert."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from bench.house import files_per_addition
from detectors.policy.decisions import BRAKE_REASONS
from detectors.policy.notices import NOTICE_REASON
from detectors.policy.repeat import REPEAT_REASON
from detectors.rule import Explanation
from schemas.alert import Change
from schemas.inspection import OUTCOME_CODES
from streams.cli import app

PROJECT_ROOT = Path(__file__).parents[1]
DATA_FOLDER = Path(__file__).parent / "data"
PAGE_FILES = [*PROJECT_ROOT.glob("*.md"), *PROJECT_ROOT.glob("docs/**/*.md")]
CONTRIBUTING_TEXT = (PROJECT_ROOT / "CONTRIBUTING.md").read_text("utf-8")
README_TEXT = (PROJECT_ROOT / "README.md").read_text("utf-8")
ALERTS_PAGE = PROJECT_ROOT / "docs" / "alerts.md"
CHINESE_ALERTS_PAGE = PROJECT_ROOT / "docs" / "zh" / "alerts.md"
TOP_FOLDERS = "schemas|models|detectors|replay|streams|tests|bench|deploy|docs"
PATH_IN_CODE = re.compile(rf"`((?:{TOP_FOLDERS})/[\w./-]*)`")
WRITTEN_BY_COMMANDS = (PROJECT_ROOT / ".gitignore").read_text("utf-8").split()
LINK_TARGET = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def named_paths(page: Path) -> Iterator[Path]:
    """Every file or folder of the project that a page links to or names in code."""
    text = page.read_text("utf-8")
    for link in LINK_TARGET.findall(text):
        yield page.parent / link
    for name in PATH_IN_CODE.findall(text):
        if name not in WRITTEN_BY_COMMANDS:
            yield PROJECT_ROOT / name


def blocks(language: str, text: str = README_TEXT) -> list[str]:
    """The blocks of a language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGE_FILES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page):
    missing = [str(path) for path in named_paths(page) if not path.exists()]
    assert missing == []


def test_a_missing_path_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[gone](gone.md) and `models/gone.py`")
    assert [path.name for path in named_paths(page)] == ["gone.md", "gone.py"]


def test_the_rule_in_the_readme_is_the_code():
    sources = [
        path.read_text("utf-8") for path in PROJECT_ROOT.glob("detectors/rules/**/*.py")
    ]
    (rule,) = blocks("python")
    assert any(rule in source for source in sources)


def run(*options: str) -> str:
    """What `run` prints of a real area."""
    files = sorted(map(str, DATA_FOLDER.glob("garden4_*")))
    return CliRunner().invoke(app, ["run", *files, *options]).output


def test_the_alert_on_the_pages_is_what_run_prints(tmp_path):
    printed = run("--store", str(tmp_path / "alerts.db"))
    for text in (README_TEXT, ALERTS_PAGE.read_text("utf-8")):
        (alert,) = blocks("text", text)
        assert alert in printed


def test_the_chinese_alert_on_the_page_is_the_same_in_chinese(tmp_path):
    (alert,) = blocks("text", ALERTS_PAGE.read_text("utf-8"))
    (chinese,) = blocks("text", CHINESE_ALERTS_PAGE.read_text("utf-8"))
    *place, sentence = chinese.split()
    assert alert.split()[: len(place)] == place
    assert f'"zh": "{sentence}"' in run(
        "--json", "--store", str(tmp_path / "alerts.db")
    )


@pytest.mark.parametrize("page", [ALERTS_PAGE, CHINESE_ALERTS_PAGE])
def test_the_pages_on_alerts_explain_each_change_and_each_reason(page):
    text = page.read_text("utf-8")
    events = [reason for each in Explanation for reason in each.reasons]
    for reason in (*events, *BRAKE_REASONS, REPEAT_REASON, NOTICE_REASON):
        assert f"`{reason}`" in text
    assert all(f"| {change} " in text for change in get_args(Change))


def test_the_chinese_page_on_alerts_has_every_outcome():
    text = CHINESE_ALERTS_PAGE.read_text("utf-8")
    for code, outcome in OUTCOME_CODES.items():
        assert f"`{code}` {outcome.zh}" in text


def hunks(page: str) -> Iterator[tuple[str, list[str]]]:
    """Every part of a worked example: the file that it changes, and its lines."""
    for path, diff in re.findall(r"```diff\n\+\+\+ (\S+)\n(.*?)```", page, re.DOTALL):
        for hunk in diff.split("...\n"):
            yield path, hunk.splitlines()


def misplaced(page: str) -> Iterator[str]:
    """The files in which a worked example does not find its place."""
    for path, lines in hunks(page):
        assert {line[0] for line in lines} <= {*" +-"}, f"no line of a diff: {path}"
        before = "\n".join(line[1:] for line in lines if line[0] in " -")
        file = PROJECT_ROOT / path
        text = file.read_text("utf-8") if file.exists() else ""
        if before and f"\n{text}".count(f"\n{before}\n") != 1:
            yield path


def test_every_example_takes_as_many_files_as_it_says():
    examples = files_per_addition(CONTRIBUTING_TEXT)
    assert len(examples) == 5
    for title, files in examples.items():
        assert f": {len(files)} file" in title


def test_every_example_finds_its_place():
    assert [*misplaced(CONTRIBUTING_TEXT)] == []


def test_an_example_without_a_place_is_noticed():
    page = "```diff\n+++ schemas/units.py\n-GONE_SECONDS = 1\n+LEFT_SECONDS = 2\n```"
    assert [*misplaced(page)] == ["schemas/units.py"]
