"""A utility's curve export: a row per meter, day and phase, a column per moment of the day, Chinese headers.

The current file carries the ratio (综合倍率), the voltage file does not; together they are one history. Values are as
the meter shows them at the moment named (secondary), the ratio goes into the master data.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from replay import inferred, tables
from replay.history import Names, Source, Tally, nothing_read, split_batch
from schemas.columns import PHASE_NAMES, Codes, Readings, Times
from schemas.master import Area, Meter

CHINA_ZONE = "Asia/Shanghai"
HEADER_NAMES = {
    "area": ("台区编号", "台区号", "台区"),
    "customer": ("用户编号", "户号", "用户号"),
    "meter": ("电表局编号", "电表资产号", "资产编号", "表号"),
    "day": ("数据日期", "日期"),
    "phase": ("电压所属相序", "电流所属相序", "相序"),
    "ratio": ("综合倍率", "倍率"),
}
TIME_PATTERN = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


@dataclass(frozen=True)
class _Curves:
    """The rows of one file: whose they are, and a value for each moment of the day."""

    name: str
    voltage: bool
    area: Codes
    customer: Codes
    meter: Codes
    ratio: NDArray[np.float64]  # NaN when not told
    phase: Codes
    day: Times  # its midnight
    seconds: Times  # after midnight, one per moment
    values: NDArray[np.float64]  # (rows, moments)


class _Register:
    """The names met in all files."""

    def __init__(self) -> None:
        self.areas, self.customers, self.meters = Names(), Names(), Names()


def recognises(columns: Collection[str]) -> bool:
    """Whether the columns are a curve's: area, meter, day and phase by their Chinese names, and moments of the day."""
    return {"area", "meter", "day", "phase"} <= _headers(columns).keys() and any(
        map(TIME_PATTERN.fullmatch, columns)
    )


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The curves of several files as one history of readings."""
    register = _Register()
    files = [_read(path, register, tally) for path in paths]
    for file in files:
        meters = (
            register.meters.names[number] for number in np.unique(file.meter).tolist()
        )
        tally.named.add(
            "meters", file.name, "voltages" if file.voltage else "currents", meters
        )
    if not any(np.isfinite(file.values).any() for file in files):
        raise nothing_read(" + ".join(path.name for path in paths), tally)
    home = np.zeros(len(register.meters.names), np.int32)
    for file in files:
        home[file.meter] = file.area
    readings = _joined(files, home, register, tally)
    areas = _areas(files, home, readings, register)
    _note_supplies(areas, tally)
    return Source(
        name=" + ".join(path.name for path in paths),
        areas=areas,
        batches=split_batch(readings),
        rows=len(readings),
        zone=CHINA_ZONE,
        interval=min(meter.interval_s for area in areas for meter in area.meters),
        tally=tally,
    )


def _note_supplies(areas: Sequence[Area], tally: Tally) -> None:
    """Note the meters whose voltages show other than the usual supply."""
    told: dict[inferred.Supply, set[str]] = {}
    for meter in (
        meter
        for area in areas
        for meter in area.meters
        if meter.un_v != inferred.CHINA_VOLTAGES[-1]
    ):
        told.setdefault(inferred.Supply(meter.wiring, meter.un_v), set()).add(
            meter.meter
        )
    for (wiring, un_v), meters in sorted(told.items()):
        who = f"{len(meters):,} meters, such as {min(meters)},"
        tally.notes.append(f"{who} are {wiring} of {un_v:g} V by what they show")


def _headers(columns: Collection[str]) -> dict[str, str]:
    return {
        what: name
        for what, names in HEADER_NAMES.items()
        for name in names
        if name in columns
    }


def _read(path: tables.File, register: _Register, tally: Tally) -> _Curves:
    header = tables.columns(path)
    names = _headers(header)
    moments = {name: TIME_PATTERN.fullmatch(name) for name in header}
    seconds = {
        name: sum(
            int(t or 0) * s for t, s in zip(m.groups(), (3600, 60, 1), strict=True)
        )
        for name, m in moments.items()
        if m
    }
    sheet = tables.read(path, [*names.values(), *seconds], tally)
    midnight, (phases, phase) = (
        sheet.moments(names["day"], ZoneInfo(CHINA_ZONE)),
        sheet.words(names["phase"]),
    )
    initials = [text.strip()[:1].upper() for text in phases]
    letter = np.array(
        [
            *(PHASE_NAMES.index(one) if one in PHASE_NAMES else -1 for one in initials),
            -1,
        ]
    )[phase]
    meter, area = (
        _ids(sheet, names["meter"], register.meters),
        _ids(sheet, names["area"], register.areas),
    )
    nobody = np.full(len(sheet), -1, np.int32)
    customer = (
        _ids(sheet, names["customer"], register.customers)
        if "customer" in names
        else nobody
    )
    told = (meter >= 0) & (letter >= 0) & np.isfinite(midnight)
    _, first = np.unique(
        np.stack([meter, midnight, letter, ~told]), axis=1, return_index=True
    )
    again = np.ones(len(sheet), np.bool_)
    again[first] = False
    keep = sheet.keep(
        *sheet.id_faults(names["meter"], meter),
        *sheet.id_faults(names["area"], area),
        (np.isnan(midnight), sheet.no_time(names["day"]), names["day"]),
        (letter < 0, f"{names['phase']} is not A, B or C", names["phase"]),
        (again, "a second row of the same meter, day and phase", names["day"]),
    )
    ratio = (
        sheet.numbers(names["ratio"])
        if "ratio" in names
        else np.full(len(sheet), np.nan)
    )
    return _Curves(
        name=path.name,
        voltage=any("电压" in name for name in header),
        area=area[keep],
        customer=customer[keep],
        meter=meter[keep],
        ratio=np.where(ratio > 0, ratio, np.nan)[keep],
        phase=letter[keep].astype(np.int32),
        day=midnight[keep].astype(np.int64),
        seconds=np.array(list(seconds.values()), np.int64),
        values=np.stack([sheet.numbers(name) for name in seconds], axis=1)[keep],
    )


def _ids(sheet: tables.Sheet, column: str, register: Names) -> Codes:
    """The number of each id, with the leading zeros that a spreadsheet took: ids of digits are equally long."""
    seen = Names()
    cells = sheet.ids(column, seen)
    width = max((len(text) for text in seen.names if text.isdigit()), default=0)
    whole = [text.zfill(width) if text.isdigit() else text for text in seen.names]
    short = np.array(
        [*(a != b for a, b in zip(whole, seen.names, strict=True)), False, False, False]
    )[cells]
    if short.any():
        place = f"{sheet.name} row {np.argmax(short) + 1}: {seen.names[cells[np.argmax(short)]]}"
        sheet.tally.mend(
            f"{column} had lost its leading zeros", place, int(short.sum())
        )
    return np.append(
        register.numbers(whole),
        np.array([tables.NO_ID, tables.LOST_DIGITS, tables.MISSING_ID], np.int32),
    )[cells]


def _joined(
    files: Sequence[_Curves], home: Codes, register: _Register, tally: Tally
) -> Readings:
    """Currents and voltages of the same meter and time side by side, in time order; the first told counts."""
    start = min(int(file.day.min()) for file in files if len(file.day))
    many = len(register.meters.names)
    found = []
    for file in files:
        row, moment = np.nonzero(np.isfinite(file.values))
        key = (file.day[row] + file.seconds[moment] - start) * many + file.meter[row]
        found.append((key, file.phase[row], file.values[row, moment], file))
    keys = np.unique(np.concatenate([key for key, *_ in found]))
    u, i = np.full((2, 3, len(keys)), np.nan, np.float32)
    for key, phase, value, file in found:
        grid, place = u if file.voltage else i, np.searchsorted(keys, key)
        told = np.isfinite(grid[phase, place])
        tally.reject("an earlier file tells the value too", file.name, int(told.sum()))
        grid[phase[~told], place[~told]] = value[~told]
    at, meter = np.divmod(keys, many)
    return Readings.build(
        register.meters.names,
        meter,
        register.areas.names,
        home[meter],
        at + start,
        u=u,
        i=i,
    )


def _areas(
    files: Sequence[_Curves], home: Codes, readings: Readings, register: _Register
) -> list[Area]:
    """The areas with their meters from their first day on; the only one behind current transformers is the gateway."""
    columns = ("meter", "day", "phase", "ratio", "customer")
    meter, day, phase, ratio, customer = (
        np.concatenate([getattr(f, name) for f in files]) for name in columns
    )
    order = np.lexsort((day, meter))
    groups = np.split(order, np.flatnonzero(np.diff(meter[order])) + 1)
    steps, supplies = inferred.steps(readings), inferred.supplies(readings)
    meters: dict[int, list[Meter]] = {}
    for rows in groups:
        number = int(meter[rows[0]])
        told = rows[np.isfinite(ratio[rows])]
        usual = inferred.Supply(
            "3P4W" if (phase[rows] > 0).any() else "1P2W", inferred.CHINA_VOLTAGES[-1]
        )
        supply = supplies.get(number, usual)
        changed = told[np.flatnonzero(np.diff(ratio[told], prepend=np.nan) != 0)]
        eras = {int(day[row]): float(ratio[row]) for row in changed} or {0: 1.0}
        eras[int(day[rows[0]])] = eras.pop(min(eras))
        meters.setdefault(int(home[number]), []).extend(
            Meter(
                meter=register.meters.names[number],
                customer=register.customers.names[customer[rows[0]]]
                if customer[rows[0]] >= 0
                else "",
                effective=effective,
                wiring=supply.wiring,
                un_v=supply.un_v,
                ib_a=1.5
                if ct > 1
                else 5.0,  # the common meters, 1.5(6) A and 5(60) A: default of this project
                imax_a=6.0 if ct > 1 else 60.0,
                ct=ct,
                interval_s=min(max(steps.get(number, 900), 60), 86_400),
            )
            for effective, ct in sorted(eras.items())
        )
    areas = []
    for number, here in meters.items():
        behind = {m.meter for m in here if m.ct > 1}
        gateway = (
            behind.pop()
            if len(behind) == 1 and len({m.meter for m in here}) > 1
            else ""
        )
        areas.append(
            Area(area=register.areas.names[number], gateway=gateway, meters=here)
        )
    return areas
