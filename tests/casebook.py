"""Cases of a rule, read from tests/cases/<rule>.toml and run through the engine.

A file says what the rule means, what looks like it and is not, what the inspector should do, and holds cases: master
data and rows in, alerts out, as small tables whose columns are two or more spaces apart.

at        `d1 08:00`, a day of the case and its local time; `d1 24:00` is `d2 00:00`; `d1..d3 08:00` is every day,
          `d1 00:15..24:00` every interval of a day, `d1 10:00..11:00 /5` every five minutes; with both, all of them
values    `-` is missing; `220/0/220` are the phases, `220` all that the meter has; `100+0.5` grows by 0.5 a row;
          `10~2` spreads evenly from 8 to 12; `M1..M9` is a row for each of nine subjects; flags are one word, or `none`
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from detectors.catalogue import CASES_FOLDER, Notes
from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from schemas.alert import Alert
from schemas.columns import (
    PHASE_COLUMNS,
    Batch,
    DeviceEvents,
    Event,
    Flag,
    Payment,
    Payments,
    Readings,
    StageProgress,
    Stages,
    Status,
)
from schemas.master import Area, Meter, Tariff, Transformer
from schemas.units import DAY_SECONDS
from schemas.use_class import UseClassModel

START_TIME = 1_772_380_800  # Monday 2026-03-02 in Shanghai, d1 of every case
GOLDEN_RATIO = (5**0.5 - 1) / 2
CASE_KINDS = ("fires", "near miss", "cannot tell", "clears", "false positive")
COLUMN_DEFAULTS: dict[str, Any] = {"status": 0, "received": 0} | dict.fromkeys(
    PHASE_COLUMNS, [np.nan] * 3
)
BILL_COLUMNS = (
    "read_register",
    "frozen_register",
    "billed_kwh",
    "billed_sharp",
    "billed_peak",
    "billed_valley",
    "billed_kvarh",
    "billed_demand",
    "year_kwh",
    "billed_deep_valley",
)
TIME_FIELDS = (
    "effective",
    "until",
    "stopped",
    "calibration_due",
    "contract_until",
)  # in master data
TableRow = dict[str, str]


class Case(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Rows in, alerts out."""

    name: str
    shows: str
    area: Area = Area(area="A1", section="S1")
    known: bool = True  # whether the master data is
    meters: str = "meter  wiring\nM1     3P4W"
    transformer: Transformer | None = None
    tariffs: list[Tariff] = []
    interval: int = 900
    readings: str = ""
    events: str = ""
    payments: str = ""
    stages: str = ""
    now: str = ""  # the wall's clock at the end
    alerts: str = ""
    says: str = ""  # in English or Chinese, by the first alert


class Casebook(Notes, forbid_unknown_fields=True, kw_only=True):
    """All that a domain expert says of a rule."""

    worse: dict[
        str, str
    ]  # columns in which more trouble has one direction: higher or lower
    model: UseClassModel | None = None  # of a rule that is judged by one
    case: list[Case]


def rules_with_a_file() -> list[str]:
    return sorted(path.stem for path in CASES_FOLDER.glob("*.toml"))


def casebook(rule: str) -> Casebook:
    with (CASES_FOLDER / f"{rule}.toml").open("rb") as file:
        return msgspec.convert(tomllib.load(file), Casebook)


def rules_with_models() -> list[Rule]:
    """All rules, one that is judged by a model by that of its cases, and told of."""
    return [
        replace(rule, model=casebook(name).model, status="published")
        if rule.modelled
        else rule
        for name, rule in ALL_RULES.items()
    ]


def table(text: str) -> Iterator[TableRow]:
    """The rows of a table, by column."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.strip().splitlines()]
    for line in lines[1:]:
        assert len(line) == len(lines[0]), f"{line} does not fit the columns {lines[0]}"
        yield dict(zip(lines[0], line, strict=True))


def epoch_seconds(day: str, time: str) -> int:
    hours, minutes, *seconds = map(int, time.split(":"))
    return (
        START_TIME
        + (int(day.removeprefix("d")) - 1) * DAY_SECONDS
        + hours * 3600
        + minutes * 60
        + sum(seconds)
    )


def parse_time(text: str) -> int:
    """A single time; 0 for none."""
    return 0 if text == "-" else epoch_seconds(*text.split())


def parse_times(text: str, interval: int) -> list[int]:
    """Every time that a cell names."""
    if text == "-":
        return [0]
    days, times, *every = text.split()
    first_day, _, last_day = days.partition("..")
    first, _, last = times.partition("..")
    step = round(float(every[0].removeprefix("/")) * 60) if every else interval
    starts = range(
        epoch_seconds(first_day, "00:00"),
        epoch_seconds(last_day or first_day, "00:00") + 1,
        DAY_SECONDS,
    )
    span = range(
        epoch_seconds("d1", first), epoch_seconds("d1", last or first) + 1, step
    )
    return [start + at - START_TIME for start in starts for at in span]


def subjects(text: str) -> list[str]:
    """Every subject that a cell names."""
    if (found := re.fullmatch(r"([A-Za-z]+)(\d+)\.\.\1(\d+)", text)) is None:
        return ["" if text == "-" else text]
    return [f"{found[1]}{n}" for n in range(int(found[2]), int(found[3]) + 1)]


def format_time(at: int) -> str:
    day, second = divmod(at - START_TIME, DAY_SECONDS)
    return f"d{day + 1} {second // 3600:02}:{second // 60 % 60:02}" + (
        f":{second % 60:02}" if second % 60 else ""
    )


class Values:
    """The numbers of a table's cells."""

    def __init__(self) -> None:
        self.spreads: Counter[str] = Counter()

    def of(self, cell: str, n: int) -> float:
        """A cell's value in its n-th row."""
        if cell == "-":
            return np.nan
        if "~" in cell:
            middle, width = map(float, cell.split("~"))
            self.spreads[cell] += 1
            return middle + width * (2 * (self.spreads[cell] * GOLDEN_RATIO % 1) - 1)
        start, grows, step = cell.partition("+")
        return float(start) + (n * float(step) if grows else 0.0)

    def phases(self, cell: str, n: int, wiring: str) -> list[float]:
        """A cell's values on the three phases in its n-th row."""
        parts = [self.of(part, n) for part in cell.split("/")]
        if len(parts) == 1:
            parts = parts * 3 if wiring != "1P2W" else [*parts, np.nan, np.nan]
        return parts


def meters(case: Case) -> list[Meter]:
    found = []
    for row in table(case.meters):
        cells = {
            name: str(parse_time(cell)) if name in TIME_FIELDS else cell
            for name, cell in row.items()
            if cell != "-"
        }
        found += [
            msgspec.convert(cells | {"meter": meter}, Meter, strict=False)
            for meter in subjects(row["meter"])
        ]
    return found


def master(case: Case) -> Area:
    transformers = [case.transformer] if case.transformer else []
    return msgspec.structs.replace(
        case.area, transformers=transformers, meters=meters(case), tariffs=case.tariffs
    )


@dataclass
class Line:
    """A row of a batch, and when it arrives."""

    arrives: int
    at: int
    kind: type[Batch]
    subject: str
    columns: dict[str, Any]


def lines(case: Case) -> list[Line]:
    """Every row of a case, in order of arrival."""
    wiring = {m.meter: m.wiring for m in meters(case)} if case.known else {}
    only, values = next(iter(wiring), "M1"), Values()
    found: list[Line] = []
    for kind, text in (
        (Readings, case.readings),
        (DeviceEvents, case.events),
        (Payments, case.payments),
        (Stages, case.stages),
    ):
        for row in table(text) if text else ():
            cells = dict(row)
            times = parse_times(cells.pop("at"), case.interval)
            arrives = parse_time(cells.pop("arrives", "-"))
            who = cells.pop("meter", cells.pop("customer", cells.pop("item", only)))
            for subject in subjects(who):
                for n, at in enumerate(times):
                    columns = COLUMN_PARSERS[kind](
                        values, cells, n, at, wiring.get(subject, "3P4W")
                    )
                    found.append(Line(arrives or at, at, kind, subject, columns))
    return sorted(found, key=lambda row: (row.arrives, row.kind.kind, row.at))


def reading(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, cell in cells.items():
        if name == "status":
            told[name] = Status[cell.upper()]
        elif name == "flags" and cell != "-":
            told[name] = 0 if cell == "none" else Flag[cell.upper()]
        elif name == "received":
            told[name] = parse_time(cell)
        elif name in PHASE_COLUMNS:
            told[name] = values.phases(cell, n, wiring)
        else:
            told[name] = values.of(cell, n)
    return told


def event(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    told = {
        name: values.of(cells.get(name, "-"), n) for name in ("residual", "seconds")
    }
    return told | {
        "event": Event[cells["event"].upper()],
        "until": parse_time(cells.get("until", "-")),
    }


def payment(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    return {
        "payment": Payment[cells.get("what", "payment").upper()],
        "amount": values.of(cells.get("yuan", "100"), n),
        "bill": cells.get("bill", "-").removeprefix("-"),
        "channel": cells.get("channel", "-").removeprefix("-"),
        "succeeded": {"went": 1, "failed": 0, "-": 0}[cells.get("result", "-")],
        "reference": cells.get("reference", "-").removeprefix("-"),
        "due": parse_time(cells.get("due", "-")),
        "read_at": parse_time(cells.get("read", "-")),
    } | {name: values.of(cells.get(name, "-"), n) for name in BILL_COLUMNS}


def stage(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    return {
        "stage": cells["stage"],
        "progress": StageProgress[cells["progress"].upper()],
        "limit": 3600 * values.of(cells.get("hours", "-"), n),
    }


COLUMN_PARSERS: dict[type[Batch], Any] = {
    Readings: reading,
    DeviceEvents: event,
    Payments: payment,
    Stages: stage,
}


def batch(kind: type[Batch], rows: list[Line], area: str) -> Batch:
    """Rows of one kind as columns."""
    names = tuple(dict.fromkeys(row.subject for row in rows))
    told: dict[str, Any] = {}
    for name in {name: None for row in rows for name in row.columns}:
        cells = [
            row.columns.get(name, COLUMN_DEFAULTS.get(name, np.nan)) for row in rows
        ]
        if name in ("bill", "channel", "reference", "stage"):
            told[f"{name}s"] = tuple(dict.fromkeys(cells))
            told[name] = [told[f"{name}s"].index(cell) for cell in cells]
        else:
            told[name] = np.array(cells).T
    subject = [names.index(row.subject) for row in rows]
    return kind.build(
        names, subject, (area,), np.zeros(len(rows)), [row.at for row in rows], **told
    )


def batches(case: Case) -> Iterator[Batch]:
    """The rows of a case as they arrive: readings by the day, where nothing comes between, the rest by the moment."""

    def together(row: Line) -> tuple[str, int]:
        return (
            row.kind.kind,
            row.arrives // DAY_SECONDS if row.kind is Readings else row.arrives,
        )

    for _, same in groupby(lines(case), together):
        rows = list(same)
        yield batch(rows[0].kind, rows, case.area.area)


@dataclass(frozen=True)
class RecordingRule(Rule):
    """A rule that remembers what it was given and what it said; one in shadow speaks."""

    recorded: list[tuple[dict[str, Any], Any]] = field(
        default_factory=list, compare=False
    )

    @classmethod
    def of(cls, rule: Rule) -> RecordingRule:
        return cls(
            **{f.name: getattr(rule, f.name) for f in fields(Rule)}
            | {"status": "published"}
        )

    def score(self, columns: Any, gone: Any) -> Any:
        score = super().score(columns, gone)
        kept = (*self.reads, *self.beside, *({"segments"} & columns.keys()))
        self.recorded.append(({name: np.array(columns[name]) for name in kept}, score))
        return score

    def judged_anything(self) -> bool:
        """Whether any row could be judged."""
        return any(not np.isnan(score).all() for _, score in self.recorded)


def run(case: Case, rule: Rule) -> tuple[list[Alert], RecordingRule]:
    """The alerts of one rule on a case."""
    watched = RecordingRule.of(
        replace(rule, model=casebook(rule.name).model) if rule.modelled else rule
    )
    engine = Engine([watched], interval=case.interval)
    if case.known:
        engine.enroll([master(case)])
    alerts = [alert for part in batches(case) for alert in engine.step(part)]
    if case.now:
        alerts += engine.tick(parse_time(case.now))
    return alerts, watched


ALERT_COLUMNS = ("change", "since", "at", "severity", "phase", "subject", "held")


def expected(case: Case) -> list[TableRow]:
    return list(table(case.alerts)) if case.alerts else []


def alert_rows(
    alerts: list[Alert], columns: tuple[str, ...] = ALERT_COLUMNS
) -> list[TableRow]:
    """Alerts as the rows of a table."""
    rows = [
        {
            "change": a.change,
            "since": format_time(a.since),
            "at": format_time(a.at),
            "severity": str(a.severity),
            "phase": a.phase or "-",
            "subject": a.subject or "-",
            "held": a.suppressed_by or "-",
        }
        for a in alerts
    ]
    return [{name: row[name] for name in columns} for row in rows]


def format_table(rows: list[TableRow]) -> str:
    """Rows as the text of a table."""
    if not rows:
        return "(none)"
    grid = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in grid
    )
