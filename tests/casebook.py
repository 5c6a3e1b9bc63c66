"""Cases of a rule, read from tests/cases/<rule>.toml and run through the engine.

A file explains the rule, its false positives and the inspector's task. Its cases are master data and rows in, alerts
out: small tables whose columns are two or more spaces apart.

at        `d1 08:00`, a day of the case and its local time; `d1 24:00` is `d2 00:00`; `d1..d3 08:00` is every day,
          `d1 00:15..24:00` every interval of a day, `d1 10:00..11:00 /5` every five minutes; with both, all of them
values    `-` is missing; `220/0/220` are the phases, `220` all phases of the meter; `100+0.5` grows by 0.5 a row;
          `10~2` spreads evenly from 8 to 12; `M1..M9` is a row for each of nine subjects; flags are one word, or `none`
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
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
MOST_CASES = 100  # kept after they were run
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
TEXT_COLUMNS = ("bill", "channel", "reference", "stage")
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
    known: bool = True  # whether there is master data
    meters: str = "meter  wiring\nM1     3P4W"
    transformer: Transformer | None = None
    tariffs: list[Tariff] = []
    interval: int = 900
    readings: str = ""
    events: str = ""
    payments: str = ""
    stages: str = ""
    now: str = ""  # the wall clock at the end
    alerts: str = ""
    says: str = ""  # a sentence of the first alert, in English or Chinese


class Casebook(Notes, forbid_unknown_fields=True, kw_only=True):
    """A domain expert's notes and cases for a rule."""

    worse: dict[str, str]  # columns in which trouble has a direction: higher or lower
    model: UseClassModel | None = None  # of a rule that judges by a model
    case: list[Case]


def rules_with_a_file() -> list[str]:
    return sorted(path.stem for path in CASES_FOLDER.glob("*.toml"))


@cache
def casebook(rule: str) -> Casebook:
    """The notes and cases of a rule; nobody changes them."""
    with (CASES_FOLDER / f"{rule}.toml").open("rb") as file:
        return msgspec.convert(tomllib.load(file), Casebook)


def rules_with_models() -> list[Rule]:
    """All rules; a rule that judges by a model has the model of its cases and is published."""
    rules: list[Rule] = []
    for name, rule in ALL_RULES.items():
        if rule.modelled:
            model = casebook(name).model
            rules.append(replace(rule, model=model, status="published"))
        else:
            rules.append(rule)
    return rules


def table(text: str) -> Iterator[TableRow]:
    """The rows of a table, by column."""
    lines = [re.split(r" {2,}", line.strip()) for line in text.strip().splitlines()]
    columns = lines[0]
    for cells in lines[1:]:
        assert len(cells) == len(columns), f"{cells} does not fit the columns {columns}"
        yield dict(zip(columns, cells, strict=True))


def epoch_seconds(day: str, time: str) -> int:
    hours, minutes, *seconds = map(int, time.split(":"))
    midnight = START_TIME + (int(day.removeprefix("d")) - 1) * DAY_SECONDS
    return midnight + hours * 3600 + minutes * 60 + sum(seconds)


def parse_time(text: str) -> int:
    """A single time; 0 for none."""
    return 0 if text == "-" else epoch_seconds(*text.split())


def parse_times(text: str, interval: int) -> list[int]:
    """Every time that a cell names."""
    if text == "-":
        return [0]
    days, times, *every = text.split()
    step = round(float(every[0].removeprefix("/")) * 60) if every else interval

    first_day, _, last_day = days.partition("..")
    first_midnight = epoch_seconds(first_day, "00:00")
    last_midnight = epoch_seconds(last_day or first_day, "00:00")
    midnights = range(first_midnight, last_midnight + 1, DAY_SECONDS)

    first, _, last = times.partition("..")
    start = epoch_seconds("d1", first) - START_TIME
    end = epoch_seconds("d1", last or first) - START_TIME
    seconds = range(start, end + 1, step)
    return [midnight + second for midnight in midnights for second in seconds]


def subjects(text: str) -> list[str]:
    """Every subject that a cell names."""
    if (found := re.fullmatch(r"([A-Za-z]+)(\d+)\.\.\1(\d+)", text)) is None:
        return ["" if text == "-" else text]
    return [f"{found[1]}{n}" for n in range(int(found[2]), int(found[3]) + 1)]


def format_time(at: int) -> str:
    day, second = divmod(at - START_TIME, DAY_SECONDS)
    seconds = f":{second % 60:02}" if second % 60 else ""
    return f"d{day + 1} {second // 3600:02}:{second // 60 % 60:02}{seconds}"


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
            share = self.spreads[cell] * GOLDEN_RATIO % 1
            return middle + width * (2 * share - 1)
        start, grows, step = cell.partition("+")
        return float(start) + (n * float(step) if grows else 0.0)

    def phases(self, cell: str, n: int, wiring: str) -> list[float]:
        """A cell's values on the three phases in its n-th row."""
        values = [self.of(phase, n) for phase in cell.split("/")]
        if len(values) == 1:
            return [*values, np.nan, np.nan] if wiring == "1P2W" else values * 3
        return values


def meters(case: Case) -> list[Meter]:
    records: list[Meter] = []
    for row in table(case.meters):
        cells = {
            name: str(parse_time(cell)) if name in TIME_FIELDS else cell
            for name, cell in row.items()
            if cell != "-"
        }
        records += [
            msgspec.convert(cells | {"meter": meter}, Meter, strict=False)
            for meter in subjects(row["meter"])
        ]
    return records


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
    records = meters(case) if case.known else []
    wiring = {meter.meter: meter.wiring for meter in records}
    first_meter = next(iter(wiring), "M1")
    values = Values()
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
            item = cells.pop("item", first_meter)
            customer = cells.pop("customer", item)
            parse = COLUMN_PARSERS[kind]

            # A line for every subject and time of the row.
            for subject in subjects(cells.pop("meter", customer)):
                phases = wiring.get(subject, "3P4W")
                for n, at in enumerate(times):
                    columns = parse(values, cells, n, at, phases)
                    found.append(Line(arrives or at, at, kind, subject, columns))
    return sorted(found, key=lambda line: (line.arrives, line.kind.kind, line.at))


def reading(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, cell in cells.items():
        if name == "status":
            columns[name] = Status[cell.upper()]
        elif name == "flags" and cell != "-":
            columns[name] = 0 if cell == "none" else Flag[cell.upper()]
        elif name == "received":
            columns[name] = parse_time(cell)
        elif name in PHASE_COLUMNS:
            columns[name] = values.phases(cell, n, wiring)
        else:
            columns[name] = values.of(cell, n)
    return columns


def event(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    return {
        "residual": values.of(cells.get("residual", "-"), n),
        "seconds": values.of(cells.get("seconds", "-"), n),
        "event": Event[cells["event"].upper()],
        "until": parse_time(cells.get("until", "-")),
    }


def payment(
    values: Values, cells: TableRow, n: int, at: int, wiring: str
) -> dict[str, Any]:
    columns = {
        "payment": Payment[cells.get("what", "payment").upper()],
        "amount": values.of(cells.get("yuan", "100"), n),
        "bill": cells.get("bill", "-").removeprefix("-"),
        "channel": cells.get("channel", "-").removeprefix("-"),
        "succeeded": {"went": 1, "failed": 0, "-": 0}[cells.get("result", "-")],
        "reference": cells.get("reference", "-").removeprefix("-"),
        "due": parse_time(cells.get("due", "-")),
        "read_at": parse_time(cells.get("read", "-")),
    }
    return columns | {name: values.of(cells.get(name, "-"), n) for name in BILL_COLUMNS}


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
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row.columns):
        default = COLUMN_DEFAULTS.get(name, np.nan)
        cells = [row.columns.get(name, default) for row in rows]
        if name in TEXT_COLUMNS:
            texts = tuple(dict.fromkeys(cells))
            columns[f"{name}s"] = texts
            columns[name] = [texts.index(cell) for cell in cells]
        else:
            columns[name] = np.array(cells).T

    names = tuple(dict.fromkeys(row.subject for row in rows))
    return kind.build(
        names=names,
        subject=[names.index(row.subject) for row in rows],
        areas=(area,),
        area=np.zeros(len(rows)),
        at=[row.at for row in rows],
        **columns,
    )


def batches(case: Case) -> Iterator[Batch]:
    """The rows of a case as they arrive: undisturbed readings by the day, the rest by the moment."""

    def together(row: Line) -> tuple[str, int]:
        if row.kind is Readings:
            return row.kind.kind, row.arrives // DAY_SECONDS
        return row.kind.kind, row.arrives

    for _, group in groupby(lines(case), together):
        rows = list(group)
        yield batch(rows[0].kind, rows, case.area.area)


@dataclass(frozen=True)
class RecordingRule(Rule):
    """A rule that records its columns and scores, and is published even if it is in shadow."""

    recorded: list[tuple[dict[str, Any], Any]] = field(
        default_factory=list, compare=False
    )

    @classmethod
    def of(cls, rule: Rule) -> RecordingRule:
        values = {item.name: getattr(rule, item.name) for item in fields(Rule)}
        return cls(**values | {"status": "published"})

    def score(self, columns: Any, gone: Any) -> Any:
        score = super().score(columns, gone)
        names = (*self.reads, *self.beside, *({"segments"} & columns.keys()))
        record = {name: np.array(columns[name]) for name in names}
        self.recorded.append((record, score))
        return score

    def judged_anything(self) -> bool:
        """Whether any row could be judged."""
        return any(not np.isnan(score).all() for _, score in self.recorded)


def run(case: Case, rule: Rule) -> tuple[list[Alert], RecordingRule]:
    """The alerts of one rule on a case."""
    if rule.modelled:
        rule = replace(rule, model=casebook(rule.name).model)
    recording = RecordingRule.of(rule)
    engine = Engine([recording], interval=case.interval)
    if case.known:
        engine.enroll([master(case)])

    alerts: list[Alert] = []
    for rows in batches(case):
        alerts += engine.step(rows)
    if case.now:
        alerts += engine.tick(parse_time(case.now))
    return alerts, recording


@lru_cache(maxsize=MOST_CASES)
def run_case(rule: str, n: int) -> tuple[list[Alert], RecordingRule]:
    """The alerts of a rule on its n-th case; the cases of the last rules are kept."""
    return run(casebook(rule).case[n], ALL_RULES[rule])


ALERT_COLUMNS = (
    "change",
    "since",
    "at",
    "severity",
    "phase",
    "subject",
    "suppressed_by",
)


def expected(case: Case) -> list[TableRow]:
    return list(table(case.alerts)) if case.alerts else []


def alert_rows(
    alerts: list[Alert], columns: tuple[str, ...] = ALERT_COLUMNS
) -> list[TableRow]:
    """Alerts as the rows of a table."""
    rows = [
        {
            "change": alert.change,
            "since": format_time(alert.since),
            "at": format_time(alert.at),
            "severity": str(alert.severity),
            "phase": alert.phase or "-",
            "subject": alert.subject or "-",
            "suppressed_by": alert.suppressed_by or "-",
        }
        for alert in alerts
    ]
    return [
        dict(zip(columns, map(row.__getitem__, columns), strict=True)) for row in rows
    ]


def format_table(rows: list[TableRow]) -> str:
    """Rows as the text of a table."""
    if not rows:
        return "(none)"
    text_rows = [list(rows[0])]
    text_rows += [list(row.values()) for row in rows]
    widths = [max(map(len, column)) for column in zip(*text_rows, strict=True)]
    text: list[str] = []
    for line in text_rows:
        cells = map(str.ljust, line, widths)
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
