"""What commands print on."""

from __future__ import annotations

from rich.console import Console


def plain_output() -> Console:
    """Standard output for text as it is: no colours, no markup, no wrapping."""
    return Console(highlight=False, markup=False, soft_wrap=True)
