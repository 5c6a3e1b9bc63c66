"""What the pages show is what the project holds: files, code and an alert."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app

PROJECT_ROOT = Path(__file__).parents[1]
DATA_FOLDER = Path(__file__).parent / "data"
PAGE_FILES = [*PROJECT_ROOT.glob("*.md"), *PROJECT_ROOT.glob("docs/**/*.md")]
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
        path.read_text("utf-8") for path in PROJECT_ROOT.glob("detectors/rules/*.py")
    ]
    (rule,) = blocks("python")
    assert any(rule in source for source in sources)


def test_the_alert_in_the_readme_is_what_run_prints(tmp_path):
    files = sorted(map(str, DATA_FOLDER.glob("garden4_*")))
    store = str(tmp_path / "alerts.db")
    printed = CliRunner().invoke(app, ["run", *files, "--store", store]).output
    (alert,) = blocks("text")
    assert alert in printed
