"""What mkdocs calls while it builds the site of docs/, each function by its name; mkdocs.yml has the rest.

A page may link to any file of the project, as on a forge. Linked files outside docs/ are copied into the site's folder
project/, Markdown among them as pages. mkdocs itself warns of a link that still leads nowhere.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

PROJECT_ROOT = Path(__file__).parents[1]
DOCS_FOLDER = PROJECT_ROOT / "docs"
OUTSIDE_FOLDER = PurePosixPath("project")  # of the site
RELATIVE_LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")
CHINESE_PREFIX = "zh/"


def on_config(config: MkDocsConfig) -> None:
    """Each folder in the navigation becomes its pages."""
    config.nav = _filled(config.nav)


def _filled(part: Any) -> Any:
    """A part of the navigation with the pages of its folders, the README first."""
    if isinstance(part, list):
        return [_filled(each) for each in part]
    if isinstance(part, dict):
        return {title: _filled(each) for title, each in part.items()}
    if not part.endswith("/"):
        return part
    pages = sorted(DOCS_FOLDER.glob(f"{part}*.md"))
    pages.sort(key=lambda page: page.stem != "README")
    return [page.relative_to(DOCS_FOLDER).as_posix() for page in pages]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Files outside docs/ that a page links to become files of the site, and so do files that these link to."""
    waiting = [Path(str(file.abs_src_path)) for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        links = RELATIVE_LINK.findall(page.read_text("utf-8"))
        for target in [_linked(page, link) for _, link, _ in links]:
            path = str(_site_path(target))
            if not target.is_file() or files.get_file_from_path(path):
                continue

            # the navigation need not list it
            copied = File.generated(
                config,
                path,
                abs_src_path=str(target),
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
            files.append(copied)
            if target.suffix == ".md":
                waiting.append(target)


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """A link out of docs/, or back, leads to where its target is in the site."""
    source = Path(str(page.file.abs_src_path))

    def rewritten(match: re.Match[str]) -> str:
        text, link, anchor = match.groups(default="")
        target = _linked(source, link)
        if target.is_dir():  # of which the site has no page
            return text
        here = PurePosixPath(page.file.src_uri).parent
        return f"[{text}]({os.path.relpath(_site_path(target), here)}{anchor})"

    return RELATIVE_LINK.sub(rewritten, markdown)


def _linked(page: Path, link: str) -> Path:
    """What a page links to; of a folder its README, if it has one."""
    target = Path(os.path.normpath(page.parent / link))
    readme = target / "README.md"
    return readme if readme.is_file() else target


def _site_path(file: Path) -> PurePosixPath:
    """Where a file of the project is in the site, as mkdocs names sources."""
    if file.is_relative_to(DOCS_FOLDER):
        return PurePosixPath(file.relative_to(DOCS_FOLDER).as_posix())
    return OUTSIDE_FOLDER / os.path.relpath(file, PROJECT_ROOT)


def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation
) -> None:
    """The words around a Chinese page are Chinese, and a change of language leads to the page's twin."""
    uri = page.file.dest_uri
    english = uri.removeprefix(CHINESE_PREFIX)
    config.theme["language"] = "en" if uri == english else "zh"

    pages = {each.file.dest_uri for each in nav.pages}
    for language in config.extra["alternate"]:
        prefix = CHINESE_PREFIX if language["lang"] == "zh" else ""
        twin = prefix + english
        language["link"] = twin if twin in pages else f"{prefix}index.html"
