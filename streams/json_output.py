"""Results as JSON, for machines."""

from __future__ import annotations

from typing import Any

import msgspec


def show_json(value: Any) -> None:
    """Prints a value as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())  # noqa: T201 - for machines
