"""What the pages show is what the project holds: files, code and an alert."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.house import files_per_addition
from streams.cli import app

PROJECT_ROOT = Path(__file__).parents[1]
DATA_FOLDER = Path(__file__).parent / "data"
PAGE_FILES = [*PROJECT_ROOT.glob("*.md"), *PROJECT_ROOT.glob("docs/**/*.md")]
CONTRIBUTING_TEXT = (PROJECT_ROOT / "CONTRIBUTING.md").read_text("utf-8")
README_TEXT = (PROJECT_ROOT / "README.md").read_text("utf-8")
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


def blocks(language: str) -> list[str]:
    """The README's blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README_TEXT, re.DOTALL)


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


def test_the_alert_in_the_readme_is_what_run_prints(tmp_path):
    files = sorted(map(str, DATA_FOLDER.glob("garden4_*")))
    store = str(tmp_path / "alerts.db")
    printed = CliRunner().invoke(app, ["run", *files, "--store", store]).output
    (alert,) = blocks("text")
    assert alert in printed


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
