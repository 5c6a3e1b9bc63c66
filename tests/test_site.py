"""The site of docs/ is built strictly, shows pages as a forge does, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

PROJECT_ROOT = Path(__file__).parents[1]
DOCS_FOLDER = PROJECT_ROOT / "docs"
CHINESE_FOLDER = DOCS_FOLDER / "zh"
PAGE_FILES = sorted(DOCS_FOLDER.glob("**/*.md"))
PART_TAGS = {"ul", "ol", "li", "pre", "td", "th", "h1", "h2", "h3", "h4", "blockquote"}
LINE_TAGS = PART_TAGS | {"p", "br", "img"}  # that end a word
LOADED_FILE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\" >]+)"
    r"|<link\b[^>]*rel=\"(?:stylesheet|icon|preconnect|preload)\"[^>]*href=\"?([^\" >]+)"
)
LOADED_BY_STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(\w+:)?//")


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Builds the site of a project as `make site` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", project / "mkdocs.yml", "--site-dir", site],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    built = build(PROJECT_ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


def site_file(site: Path, page: Path) -> Path:
    """Where a page of docs/ is in the site."""
    path = site / page.relative_to(DOCS_FOLDER).with_suffix(".html")
    return path.with_stem("index") if path.stem == "README" else path


def test_every_page_is_in_the_site(site):
    assert all(site_file(site, page).is_file() for page in PAGE_FILES)


def test_files_outside_docs_that_pages_link_to_are_in_the_site(site):
    schema = Path("schemas") / "json" / "alert.schema.json"
    copied = (site / "project" / schema).read_text("utf-8")
    assert copied == (PROJECT_ROOT / schema).read_text("utf-8")
    assert 'href="../architecture.html"' in (
        site / "project" / "CONTRIBUTING.html"
    ).read_text("utf-8")


# ---- Nothing from elsewhere ----


def foreign_files(text: str) -> list[str]:
    """Whatever a page of HTML would load from elsewhere."""
    loaded = [script or link for script, link in LOADED_FILE.findall(text)]
    return [address for address in loaded if "//" in address]


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert foreign_files(page.read_text("utf-8")) == [], page.name
    for style in site.rglob("*.css"):
        assert not LOADED_BY_STYLE.search(style.read_text("utf-8")), style.name


@pytest.mark.parametrize(
    "text",
    [
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<script async src="//cdn.example/a.js"></script>',
        '<img alt="" src="https://elsewhere.example/a.png">',
    ],
)
def test_what_is_loaded_from_elsewhere_is_noticed(text):
    assert len(foreign_files(text)) == 1


def test_a_site_opened_from_the_disk_has_its_search(site):
    index = (site / "search" / "search_index.js").read_text("utf-8")
    assert index.startswith("var __index = {")
    assert "current_loss" in index
    assert 'src="../iframe-worker.js"' in (site / "zh" / "rules.html").read_text()


# ---- Chinese ----


def test_every_chinese_page_has_its_english_twin(site):
    pages = sorted(CHINESE_FOLDER.glob("**/*.md"))
    assert pages
    for page in pages:
        twin = DOCS_FOLDER / page.relative_to(CHINESE_FOLDER)
        assert twin.is_file()
        text, twin_text = (
            site_file(site, each).read_text("utf-8") for each in (page, twin)
        )
        assert '<html lang="zh"' in text
        assert '<html lang="en"' in twin_text
        other = site_file(site, twin).relative_to(site)
        assert f'href="../{other}" hreflang="en" class="md-select__link"' in text
        assert f'href="zh/{other}" hreflang="zh" class="md-select__link"' in twin_text


def test_a_chinese_word_is_found_as_a_word(site):
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    assert any("\u200b线损\u200b" in entry["text"] for entry in index["docs"])


# ---- As on a forge ----


class Parts(HTMLParser):
    """Every word of a page with the lists, tables and headings that it stands in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self._path: list[str] = []
        self._runs: list[tuple[str, str]] = []
        self._is_anchor = False
        self.feed(html)

    def words(self) -> Iterator[tuple[str, str]]:
        for path, text in self._runs:
            yield from ((path, word) for word in text.split())

    def handle_starttag(self, tag, attrs):
        self._is_anchor = ("class", "headerlink") in attrs
        if tag in LINE_TAGS:
            self._run(" ")
        if tag in PART_TAGS:
            self._path.append(tag)

    def handle_endtag(self, tag):
        self._is_anchor = False
        if tag in LINE_TAGS:
            self._run(" ")
        if tag in PART_TAGS:
            assert self._path.pop() == tag

    def handle_data(self, data):
        if not self._is_anchor:
            self._run(data)

    def _run(self, text):
        path = "/".join(self._path)
        if self._runs and self._runs[-1][0] == path:
            text = self._runs.pop()[1] + text
        self._runs.append((path, text))


@pytest.mark.parametrize(
    "page", PAGE_FILES, ids=lambda page: str(page.relative_to(DOCS_FOLDER))
)
def test_a_page_has_the_same_parts_on_a_forge(site, page):
    on_forge = MarkdownIt("commonmark").enable("table").render(page.read_text("utf-8"))
    html = site_file(site, page).read_text("utf-8")
    (article,) = re.findall(r"<article[^>]*>(.*)</article>", html, re.DOTALL)
    assert list(Parts(article).words()) == list(Parts(on_forge).words())


# ---- Strict ----


@pytest.fixture
def built_with(tmp_path):
    """Builds a site of one page with this line, by the project's settings; gives exit code and messages."""

    def run(line: str, *others: str) -> tuple[int, str]:
        hooks = tmp_path / "tests" / "site_hooks.py"
        hooks.parent.mkdir()
        hooks.write_text((PROJECT_ROOT / "tests" / "site_hooks.py").read_text("utf-8"))
        (tmp_path / "notes.toml").write_text("")
        (tmp_path / "mkdocs.yml").write_text(
            f"INHERIT: {PROJECT_ROOT / 'mkdocs.yml'}\nnav: [README.md]\n"
        )
        docs = tmp_path / "docs"
        docs.mkdir()
        for name in ("README.md", *others):
            (docs / name).write_text(f"# Page\n\n{line}\n")
        built = build(tmp_path, tmp_path / "site")
        return built.returncode, built.stderr

    return run


@pytest.mark.parametrize(
    "line",
    [
        "[gone](gone.md)",
        "[gone](#gone)",
        "[gone](README.md#gone)",
        "[gone](../gone.toml)",
        "![gone](gone.png)",
        "[gone](/gone.md)",
    ],
)
def test_a_wrong_link_ends_the_build(built_with, line):
    code, messages = built_with(line)
    assert code != 0
    assert "gone" in messages


def test_a_page_that_the_navigation_leaves_out_ends_the_build(built_with):
    code, messages = built_with("A line.", "forgotten.md")
    assert code != 0
    assert "forgotten.md" in messages


def test_right_links_do_not(built_with, tmp_path):
    line = "[notes](../notes.toml) [tests](../tests) [page](#page) [it](README.md#page)"
    code, messages = built_with(line)
    assert code == 0, messages
    html = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert '<a href="project/notes.toml">notes</a> tests ' in html
