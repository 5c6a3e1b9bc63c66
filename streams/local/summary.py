"""The result of a run: as plain data, and as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from detectors.rule import SHADOW_STATUS
from replay.history import Source
from schemas.alert import Alert
from schemas.columns import Readings
from streams.local.progress import Progress
from streams.times import local_time

# Outcomes of rows; the last is of single values.
ROW_OUTCOMES = ("in", "judged", "rejected", "duplicate", "late", "implausible")
REASONED_OUTCOMES = ("rejected", "implausible")


def summarise(
    progress: Progress, alerts: Sequence[Alert], source: Source
) -> dict[str, Any]:
    """The result of a run as plain data."""
    rules: dict[str, Counter[str]] = {}
    for alert in alerts:
        count = rules.setdefault(alert.rule, Counter())
        if not alert.suppressed_by:
            count.update(["shown", alert.state])
        elif alert.suppressed_by == SHADOW_STATUS:
            count[SHADOW_STATUS] += 1
        else:
            count["suppressed"] += 1

    return {
        "source": source.name,
        "meters": progress.meters,
        "rows": progress.rows,
        "seconds": round(progress.seconds, 3),
        "rows_per_second": round(progress.rows / max(progress.seconds, 1e-9)),
        "from": local_time(progress.first, source.zone),
        "to": local_time(progress.last, source.zone),
        "days": round(progress.days, 2),
        "meter_days": round(progress.meter_days, 2),
        "counts": {
            kind: _outcome_counts(progress.counts[kind])
            for kind in sorted(progress.counts, key=_place_of_kind)
        },
        "refused": dict(source.rejected),
        "mended": dict(source.tally.mended),
        "first": source.tally.first,
        "notes": [*source.tally.notes, *_notes_of(progress)],
        "alerts": {
            rule: _rule_counts(count, progress.meter_days)
            for rule, count in sorted(rules.items())
        },
    }


def _place_of_kind(kind: str) -> tuple[bool, str]:
    """Readings first, then the others by name."""
    return kind != Readings.kind, kind


def _notes_of(progress: Progress) -> list[str]:
    """Notes on the meters for a reader of the result."""
    if not progress.shared:
        return progress.strangers
    shared = (
        f"ids of meters that stand in more than one area: {progress.shared:,}; "
        "each is judged there as another meter"
    )
    return [*progress.strangers, shared]


def _outcome_counts(outcomes: Mapping[str, dict[str, int]]) -> dict[str, Any]:
    """Rows by outcome, and by reason as well for REASONED_OUTCOMES."""
    counts: dict[str, Any] = {}
    for outcome in ROW_OUTCOMES:
        reasons = outcomes.get(outcome, {})
        has_reasons = outcome in REASONED_OUTCOMES
        by_reason = dict(sorted(reasons.items()))
        counts[outcome] = by_reason if has_reasons else sum(reasons.values())
    return counts


def _rule_counts(count: Counter[str], meter_days: float) -> dict[str, Any]:
    """The alerts of one rule; the rate is None if no meter was watched."""
    rate = round(1000 * count["shown"] / meter_days, 3) if meter_days else None
    return {
        "shown": count["shown"],
        "suppressed": count["suppressed"],
        "shadow": count[SHADOW_STATUS],
        "open": count["raised"],
        "shown_per_1000_meters_per_day": rate,
    }


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """Prints a summary for people."""
    console.print(
        f"[bold]{summary['source']}[/]: {summary['meters']:,} meters, {summary['rows']:,} rows,"
        f" {summary['from']} to {summary['to']}, in {summary['seconds']:.1f} s ({summary['rows_per_second']:,} rows/s)",
        soft_wrap=True,
    )
    console.print(_rows_table(summary))
    for outcome in REASONED_OUTCOMES:
        reasons: Counter[str] = Counter()
        for outcomes in summary["counts"].values():
            reasons.update(outcomes[outcome])
        if reasons:
            each = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
            console.print(f"{outcome}: {each}", soft_wrap=True)

    _show_reading(summary, console)
    _show_alerts(summary, console)


def _rows_table(summary: dict[str, Any]) -> Table:
    """The rows of each kind by outcome."""
    table = Table(
        "rows", *ROW_OUTCOMES[1:-1], "implausible values", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, outcomes in summary["counts"].items():
        cells = [kind]
        for outcome in ROW_OUTCOMES[1:]:
            count = outcomes[outcome]
            total = sum(count.values()) if isinstance(count, dict) else count
            cells.append(f"{total:,}")
        table.add_row(*cells)
    return table


def _show_alerts(summary: dict[str, Any], console: Console) -> None:
    """Prints the alerts of each rule that has any, the most frequent first."""
    table = Table(
        "alerts",
        "shown",
        "still open",
        "suppressed",
        "per 1,000 meters and day",
        box=None,
        pad_edge=False,
    )
    for column in table.columns[1:]:
        column.justify = "right"

    shown = {
        rule: count
        for rule, count in summary["alerts"].items()
        if count["shown"] or count["suppressed"]
    }
    for rule, count in sorted(shown.items(), key=lambda item: -item[1]["shown"]):
        rate = count["shown_per_1000_meters_per_day"]
        cells = [f"{count[state]:,}" for state in ("shown", "open", "suppressed")]
        table.add_row(rule, *cells, "" if rate is None else f"{rate:.2f}")
    console.print(table if shown else "no alerts")


def _show_reading(summary: dict[str, Any], console: Console) -> None:
    """Prints the rows that the reader left out, the values that it mended and the notes that it made."""
    rows = summary["rows"] + sum(summary["refused"].values())
    for reason, count in summary["refused"].items():
        place = f"{count / rows:.1%} of the rows, first at {summary['first'][reason]}"
        console.print(
            f"refused by the reader: {reason} {count:,}, {place}",
            soft_wrap=True,
            markup=False,
        )

    for reason, count in summary["mended"].items():
        place = f"first at {summary['first'][reason]}"
        console.print(
            f"mended by the reader: {reason} {count:,}, {place}",
            soft_wrap=True,
            markup=False,
        )

    for note in summary["notes"]:
        console.print(note, soft_wrap=True, markup=False)
