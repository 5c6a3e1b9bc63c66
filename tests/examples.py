"""The output of `inspect` for files in tests/data/layouts: `python -m tests.examples` writes docs/inspect.md."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from streams.settings import Settings
from streams.source_summary import show_source_summary, source_summary

LAYOUTS_FOLDER = Path(__file__).parent / "data" / "layouts"
INSPECT_PAGE = Path(__file__).parent.parent / "docs" / "inspect.md"
EXAMPLE_FILES = {
    "nem12.csv": "NEM12",
    "green_button.xml": "Green Button XML",
    "london.csv": "Low Carbon London",
}
PAGE_OPENING = """# What `inspect` prints

Three small made files in layouts of others, which [data-layout.md](data-layout.md) describes. The page is written by
`python -m tests.examples`, and a test holds it against what is printed.
"""


def printed(name: str) -> str:
    """The output for one of the files."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=160,
        highlight=False,
        markup=False,
        soft_wrap=True,
        no_color=True,
    )
    show_source_summary(
        source_summary([str(LAYOUTS_FOLDER / name)], Settings()), console
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def page() -> str:
    """The whole page."""
    sections = [
        f"\n## {title}\n\n`meterwatch inspect {name}`:\n\n```text\n{printed(name)}\n```\n"
        for name, title in EXAMPLE_FILES.items()
    ]
    return PAGE_OPENING + "".join(sections)


if __name__ == "__main__":
    INSPECT_PAGE.write_text(page(), "utf-8")
