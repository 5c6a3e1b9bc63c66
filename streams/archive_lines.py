"""What `meterwatch archive` prints after each commit."""

from __future__ import annotations

from collections import Counter
from typing import Any

from replay.archive.manifest import ArchiveManifest


def committed(manifest: ArchiveManifest) -> dict[str, Any]:
    """An archive in figures: rows by kind, rejected rows by topic and reason, rows past their retention."""
    rows: Counter[str] = Counter()
    for file in manifest.files:
        rows[file.kind] += file.rows
    return {
        "commits": manifest.commits,
        "rows": dict(rows),
        "days": len({file.day for file in manifest.files}),
        "files": len(manifest.files),
        "rejected": manifest.rejected,
        "expired": manifest.expired,
    }


def committed_line(manifest: ArchiveManifest) -> str:
    """The same as a line."""
    shown = committed(manifest)
    parts = [f"{count:,} {kind}" for kind, count in shown["rows"].items()]
    parts += [f"{shown['days']:,} days", f"{shown['files']:,} files"]
    for topic, reasons in manifest.rejected.items():
        parts += [
            f"rejected of {topic}: {rows:,} {reason}"
            for reason, rows in reasons.items()
        ]
    if manifest.expired:
        parts.append(f"{manifest.expired:,} past their retention")
    return ", ".join(parts)
