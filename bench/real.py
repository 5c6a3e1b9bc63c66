"""`python -m bench.real DATA` judges the real data sets of a folder and writes the tables of docs/real-data.md.

With `--check` it writes nothing and fails where a table is no longer true. What was read in the raw data of an alert
stands in bench/verdicts.toml; an alert that nobody has read so is shown as such.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zlib import crc32
from zoneinfo import ZoneInfo

import msgspec

from detectors.engine import Engine
from replay.sources import open_sources
from replay.stalls import compare
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.units import DAY_SECONDS

CHECKOUT_FOLDER = Path(__file__).parents[1]
PAGE_FILE, VERDICTS_FILE = (
    CHECKOUT_FOLDER / "docs" / "real-data.md",
    Path(__file__).with_name("verdicts.toml"),
)
THEFT_RULES = frozenset(
    {
        "step_drop",
        "near_zero_usage",
        "low_usage",
        "peer_shortfall",
        "timed_zero_block",
        "clipped_profile",
        "flat_profile",
        "tou_inversion",
        "model_score",
    }
)
ON_USE = THEFT_RULES | {"usage_fluctuation", "zero_usage"}
FEW_STAYS = 1000  # stays of a stage that share a line with others


class Verdict(msgspec.Struct, forbid_unknown_fields=True):
    """What a person found in the raw data of an alert."""

    rule: str
    subject: str
    day: str  # of the alert, as it was raised
    worth: bool  # a visit
    found: str


@dataclass(frozen=True)
class Judged:
    """A history after it was judged: its alerts, and on how many days each meter was read."""

    zone: str
    alerts: list[Alert]  # neither withdrawn nor suppressed, in order of time
    days: dict[str, float]  # by meter

    def day(self, at: int) -> str:
        """The local date of a moment."""
        return datetime.fromtimestamp(at, ZoneInfo(self.zone)).date().isoformat()

    def rate(self, alerts: Iterable[Alert], meters: Collection[str]) -> float:
        """Those of some alerts that are about some meters, or about the area, per 1,000 meters and day."""
        count = sum(alert.subject in meters or not alert.subject for alert in alerts)
        return 1000 * count / sum(self.days[meter] for meter in meters)


def _judged(paths: Sequence[Path], zone: str) -> Judged:
    """Judge a history by the rules as the code sets them."""
    source = open_sources(paths)
    source = replace(source, zone=source.zone or zone, interval=source.interval or 900)
    engine = Engine(zone=source.zone, interval=source.interval)
    engine.enroll(source.areas)

    alerts: dict[str, Alert] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for batch in source.batches:
        alerts |= {alert.id: alert for alert in engine.step(batch)}
        if isinstance(batch, Readings):
            for code, at in zip(batch.subject.tolist(), batch.at.tolist(), strict=True):
                meter = batch.names[code]
                first.setdefault(meter, at)
                last[meter] = at

    shown = [
        alert
        for alert in alerts.values()
        if alert.state != "withdrawn" and not alert.suppressed_by
    ]
    days = {meter: (last[meter] - at) / DAY_SECONDS for meter, at in first.items()}
    return Judged(
        source.zone,
        sorted(shown, key=lambda alert: (alert.raised, alert.rule, alert.subject)),
        days,
    )


def _suspects_theft(alert: Alert) -> bool:
    """True if an alert suspects theft: a fall of use, or a form of use that should not be."""
    fell = alert.rule == "usage_fluctuation" and alert.evidence["excess"] < 0
    return fell or alert.rule in THEFT_RULES


def half(meter: str) -> int:
    """The half of the homes that an id falls into, drawn from the id alone."""
    return crc32(meter.encode()) & 1


def _meters_of_half(meters: Sequence[str], n: int) -> list[str]:
    """The meters of one half of the homes."""
    return [meter for meter in meters if half(meter) == n]


def rates(history: Judged) -> Iterator[str]:
    """How often each rule raised an alert, in all, in either half of the homes, and with any one home left out."""
    meters = sorted(history.days)
    halves = [_meters_of_half(meters, n) for n in (0, 1)]
    others = [[*meters[:n], *meters[n + 1 :]] for n in range(len(meters))]
    by_rule: dict[str, list[Alert]] = {}
    for alert in history.alerts:
        by_rule.setdefault(f"`{alert.rule}`", []).append(alert)
    groups = sorted(by_rule.items(), key=lambda group: -len(group[1]))
    groups.append(
        (
            "a fall or a form that may be theft",
            [alert for alert in history.alerts if _suspects_theft(alert)],
        )
    )
    groups.append(
        ("all on use", [alert for alert in history.alerts if alert.rule in ON_USE])
    )
    groups.append(("all", history.alerts))

    yield "| Rule | Alerts | Per 1,000 meters and day | First half | Second half | One home left out |"
    yield "|---|---|---|---|---|---|"
    for name, alerts in groups:
        without = [history.rate(alerts, some) for some in others]
        parts = " | ".join(
            f"{history.rate(alerts, some):.2f}" for some in (meters, *halves)
        )
        yield f"| {name} | {len(alerts)} | {parts} | {min(without):.2f} to {max(without):.2f} |"


def listed(
    history: Judged, rules: Collection[str], verdicts: Iterable[Verdict]
) -> Iterator[str]:
    """Every alert of some rules, with what was found in the raw data."""
    known = {
        (verdict.rule, verdict.subject, verdict.day): verdict for verdict in verdicts
    }
    worth: list[bool] = []
    yield "| Alert | Severity | Meter | From, to | Worth a visit? |"
    yield "|---|---|---|---|---|"

    for alert in history.alerts:
        if alert.rule not in rules:
            continue
        until = history.day(alert.at) if alert.state == "cleared" else "not cleared"
        verdict = known.get((alert.rule, alert.subject, history.day(alert.raised)))
        found = (
            f"{'Yes' if verdict.worth else 'No'}: {verdict.found}"
            if verdict
            else "not read"
        )
        span = f"{history.day(alert.since)}, {until}"
        yield f"| `{alert.rule}` | {alert.severity} | {alert.subject or 'the area'} | {span} | {found} |"
        worth += [verdict.worth] if verdict else []

    yield ""
    yield f"Of {len(worth)} that were read in the raw data {sum(worth)} were worth a visit."


def _stays(path: Path) -> Iterator[str]:
    """How many of each stage's stays raised an alert, and of the longest."""
    source = open_sources([path])
    yield "| Stage | Stays | Raised | Longest 5 % | Of them raised | Days before the end (median) |"
    yield "|---|---|---|---|---|---|"
    stages = compare(source.areas, source.batches, source.zone)

    for stage in stages:
        if stage.stays >= FEW_STAYS:
            days = f"{stage.days:.0f}" if stage.found else ""
            yield (
                f"| {stage.stage} | {stage.stays:,} | {stage.alerted:,} | {stage.longest:,} | {stage.found:,} | "
                f"{days} |"
            )

    rare = [stage for stage in stages if stage.stays < FEW_STAYS]
    alerts, found = (
        sum(stage.alerted for stage in stages),
        sum(stage.found for stage in stages),
    )
    columns = zip(*(stage[1:5] for stage in rare), strict=True)
    sums = [sum(counts) for counts in columns]
    yield f"| {len(rare)} rarer ones | {' | '.join(f'{count:,}' for count in sums)} | |"
    yield ""

    yield f"Of {alerts:,} alerts {found:,} ({found / alerts:.0%}) are about the longest 5 % of their stage."


def tables(data: Path) -> dict[str, list[str]]:
    """Every table of the page, by the mark at which it stands."""
    verdicts = msgspec.convert(
        tomllib.loads(VERDICTS_FILE.read_text("utf-8"))["verdict"], list[Verdict]
    )
    area = _judged(sorted(data.glob("garden4_*")), "Asia/Shanghai")
    homes = _judged([data / "sgsc_25households_halfhourly.parquet"], "Australia/Sydney")
    return {
        "garden4": [*listed(area, {alert.rule for alert in area.alerts}, verdicts)],
        "households": [*rates(homes)],
        "household alerts": [*listed(homes, ON_USE, verdicts)],
        "hospital": [*_stays(data / "hospital_billing_stages.parquet")],
    }


def filled(page: str, made: dict[str, list[str]], maker: str = "bench.real") -> str:
    """The page with a command's tables replaced. Raises ValueError for one that has no place in it."""
    for name, lines in made.items():
        begin, end = (
            f"<!-- {name}: made by python -m {maker} -->\n",
            f"<!-- end of {name} -->",
        )
        if begin not in page or end not in page:
            raise ValueError(f"the page has no place for {name}")
        head, rest = page.split(begin)
        page = head + begin + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1]
    return page


def main() -> int:
    """Writes or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with the data sets")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing, and fail where a table is no longer true",
    )
    options = parser.parse_args()
    page = PAGE_FILE.read_text("utf-8")
    made = filled(page, tables(options.data))

    if not options.check:
        PAGE_FILE.write_text(made, "utf-8")
        return 0

    for old, new in zip(page.splitlines(), made.splitlines(), strict=False):
        if old != new:
            print(f"is   {old}\nmade {new}", file=sys.stderr)
            return 1

    return int(page != made)


if __name__ == "__main__":
    sys.exit(main())
