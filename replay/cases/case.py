"""Case files, and the master data and batches of a case."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from replay.cases.tables import (
    MISSING_CELL,
    CaseError,
    CellValues,
    TableRow,
    code,
    parse_time,
    parse_times,
    subjects,
    table_rows,
    unknown,
)
from schemas.columns import (
    KIND_COLUMNS,
    Batch,
    DeviceEvents,
    Flag,
    Payments,
    Readings,
    Stages,
)
from schemas.declarations import Declaration
from schemas.master import Area, Meter, Tariff, Transformer
from schemas.units import DAY_SECONDS, HOUR_SECONDS
from schemas.use_class import UseClassModel

MASTER_TIME_COLUMNS = (
    "effective",
    "until",
    "stopped",
    "calibration_due",
    "contract_until",
)
DEFAULT_METERS = "meter  wiring\nM1     3P4W"
CASE_COLUMN_NAMES = {  # short names of columns in the tables of cases
    "what": "payment",
    "yuan": "amount",
    "result": "succeeded",
    "read": "read_at",
    "hours": "limit",
}
PAYMENT_DEFAULTS = {"what": "payment", "yuan": "100"}
RESULT_CODES = {"went": 1, "failed": 0, MISSING_CELL: 0}
FLAG_CODES = {
    "none": 0,
    **{flag.name.lower(): flag.value for flag in Flag if flag.name},
}


class Case(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Rows in, alerts out."""

    name: str
    shows: str = ""  # one of CASE_KINDS; empty if only the alerts count
    area: Area = Area(area="A1", section="S1")
    known: bool = True  # whether there is master data
    meters: str = DEFAULT_METERS
    transformer: Transformer | None = None
    tariffs: list[Tariff] = []
    interval: Annotated[int, msgspec.Meta(ge=60, le=DAY_SECONDS)] = 900  # s
    readings: str = ""
    events: str = ""
    payments: str = ""
    stages: str = ""
    now: str = ""  # the wall clock at the end
    alerts: str = ""
    says: str = ""  # a sentence of the first alert, in English or Chinese


class CaseFile(msgspec.Struct, kw_only=True):
    """The cases of a rule. The file may hold an expert's notes too, which the cases do not need."""

    rule: str = ""  # empty: the file has the name of the rule
    model: UseClassModel | None = None  # of a rule that judges by a model
    case: list[Case]


def load_cases(path: Path) -> CaseFile:
    """The cases of a file, with the name of their rule. Raises CaseError, which names the file."""
    try:
        loaded = msgspec.convert(tomllib.loads(path.read_text("utf-8")), CaseFile)
    except FileNotFoundError:
        raise CaseError(f"{path}: there is no such file") from None
    except (
        OSError,
        UnicodeDecodeError,
        tomllib.TOMLDecodeError,
        msgspec.ValidationError,
    ) as error:
        raise CaseError(f"{path}: {error}") from None

    if not loaded.case:
        raise CaseError(f"{path}: there is no [[case]]")
    loaded.rule = loaded.rule or path.stem
    return loaded


# ---- Master data ----


def master_data(case: Case) -> Area:
    """The area of a case with its meters. Raises CaseError."""
    transformers = [case.transformer] if case.transformer else []
    return msgspec.structs.replace(
        case.area, transformers=transformers, meters=_meters(case), tariffs=case.tariffs
    )


def _meters(case: Case) -> list[Meter]:
    records: list[Meter] = []
    for row in table_rows(case.meters):
        cells = {
            name: str(parse_time(cell)) if name in MASTER_TIME_COLUMNS else cell
            for name, cell in row.items()
            if cell != MISSING_CELL
        }
        if unknown_names := cells.keys() - set(Meter.__struct_fields__):
            name = min(unknown_names)
            raise CaseError(
                f"meters: {unknown('column', name, Meter.__struct_fields__)}"
            )

        for meter in subjects(row.get("meter", MISSING_CELL)):
            try:
                record = msgspec.convert(cells | {"meter": meter}, Meter, strict=False)
            except msgspec.ValidationError as error:
                raise CaseError(f"meters: {error}") from None
            records.append(record)
    return records


# ---- Rows ----


@dataclass
class CaseRow:
    """A row of a batch, and when it arrives."""

    arrives: int
    at: int
    kind: type[Batch]
    subject: str
    columns: dict[str, Any]


def batches(case: Case) -> Iterator[Batch]:
    """The rows of a case as they arrive: undisturbed readings by the day, the rest by the moment. Raises CaseError."""

    def together(row: CaseRow) -> tuple[str, int]:
        if row.kind is Readings:
            return row.kind.kind, row.arrives // DAY_SECONDS
        return row.kind.kind, row.arrives

    for _, group in groupby(_rows(case), together):
        rows = list(group)
        yield _batch(rows[0].kind, rows, case.area.area)


def _rows(case: Case) -> list[CaseRow]:
    """Every row of a case, in order of arrival."""
    records = _meters(case) if case.known else []
    wiring = {meter.meter: meter.wiring for meter in records}
    first_meter = next(iter(wiring), "M1")
    values = CellValues()

    rows: list[CaseRow] = []
    for kind, text in (
        (Readings, case.readings),
        (DeviceEvents, case.events),
        (Payments, case.payments),
        (Stages, case.stages),
    ):
        try:
            for cells in table_rows(text):
                rows += _rows_of(
                    kind, cells, case.interval, first_meter, wiring, values
                )
        except CaseError as error:
            raise CaseError(f"{kind.kind}: {error}") from None
    return sorted(rows, key=lambda row: (row.arrives, row.kind.kind, row.at))


def _rows_of(
    kind: type[Batch],
    cells: TableRow,
    interval: int,
    first_meter: str,
    wiring: Mapping[str, str],
    values: CellValues,
) -> Iterator[CaseRow]:
    """A row of the batch for every subject and time that a row of the table names."""
    cells = dict(cells)
    if "at" not in cells:
        raise CaseError("there is no column at")
    times = parse_times(cells.pop("at"), interval)
    arrives = parse_time(cells.pop("arrives", MISSING_CELL))
    named = KIND_COLUMNS[kind]["subject"].outside_name
    subject_cell = cells.pop(named, first_meter)

    if kind is Payments:
        cells = PAYMENT_DEFAULTS | cells
    for subject in subjects(subject_cell):
        phases = wiring.get(subject, "3P4W")
        for n, at in enumerate(times):
            columns = _columns(kind, cells, n, phases, values)
            yield CaseRow(arrives or at, at, kind, subject, columns)


def _columns(
    kind: type[Batch], cells: TableRow, n: int, wiring: str, values: CellValues
) -> dict[str, Any]:
    """The columns of the n-th row that the cells of a table make."""
    columns: dict[str, Any] = {}
    for cell_name, cell in cells.items():
        name = CASE_COLUMN_NAMES.get(cell_name, cell_name)
        column = KIND_COLUMNS[kind].get(name)
        if column is None or column.form.dtype is str:
            raise CaseError(unknown("column", cell_name, KIND_COLUMNS[kind]))

        if name == "flags" and cell == MISSING_CELL:
            continue
        try:
            columns[name] = _column_value(column, cell, n, wiring, values)
        except CaseError as error:
            raise CaseError(f"{cell_name}: {error}") from None
        if cell_name == "hours":
            columns[name] *= HOUR_SECONDS
    return columns


def _column_value(
    column: Declaration, cell: str, n: int, wiring: str, values: CellValues
) -> Any:
    """The value of a cell in its n-th row, as the column is declared."""
    if codes := _codes_of(column):
        return code(cell, codes)
    if column.form.dtype is np.int64:
        return parse_time(cell)
    if column.form.dtype is np.int32:
        return "" if cell == MISSING_CELL else cell
    if column.form.axis == "phases":
        return values.phases(cell, n, wiring)
    return values.value(cell, n)


def _codes_of(column: Declaration) -> dict[str, int]:
    """The words of a column by which cells name its codes; none if cells are numbers, times or names."""
    if column.name == "flags":
        return FLAG_CODES
    if column.is_truth:
        return RESULT_CODES
    return {word: n for n, word in enumerate(column.words)}


def _batch(kind: type[Batch], rows: list[CaseRow], area: str) -> Batch:
    """Rows of one kind as columns."""
    names_of = {codes: names for names, codes in kind.encodings().items()}
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row.columns):
        absent = _absent_value(KIND_COLUMNS[kind][name])
        cells = [row.columns.get(name, absent) for row in rows]
        if name in names_of:
            texts = tuple(dict.fromkeys(cells))
            columns[names_of[name]] = texts
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


def _absent_value(column: Declaration) -> Any:
    """The value of a row whose table does not have the column."""
    if column.form.dtype is np.int32:
        return ""
    if np.dtype(column.form.dtype).kind != "f":
        return 0
    if column.form.axis == "phases":
        return [np.nan] * 3
    return np.nan
