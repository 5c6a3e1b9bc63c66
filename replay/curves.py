"""A utility's curve export: a row per meter, day and phase, a column per moment of the day, Chinese headers.

The current file carries the ratio (综合倍率), the voltage file does not; together they are one history. Values are as
the meter shows them at the moment named (secondary), the ratio goes into the master data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from replay import inferred, tables
from replay.clocks import header_clocks
from replay.history import Names, Source, Tally, nothing_read, split_batch
from replay.ids import LOST_DIGITS, MISSING_ID, NO_ID
from schemas.columns import PHASE_NAMES, Codes, Readings, Times
from schemas.master import Area, Meter, Wiring

CHINA_ZONE = "Asia/Shanghai"
HEADER_NAMES = {
    "area": ("台区编号", "台区号", "台区"),
    "customer": ("用户编号", "户号", "用户号"),
    "meter": ("电表局编号", "电表资产号", "资产编号", "表号"),
    "day": ("数据日期", "日期"),
    "phase": ("电压所属相序", "电流所属相序", "相序"),
    "ratio": ("综合倍率", "倍率"),
}


@dataclass(frozen=True)
class _Curves:
    """The rows of one file: ids, and a value for each moment of the day."""

    name: str
    voltage: bool
    area: Codes
    customer: Codes
    meter: Codes
    ratio: NDArray[np.float64]  # NaN where the file has none
    phase: Codes
    day: Times  # its midnight
    seconds: Times  # after midnight, one per moment
    values: NDArray[np.float64]  # (rows, moments)


class _Register:
    """The names met in all files."""

    def __init__(self) -> None:
        self.areas, self.customers, self.meters = Names(), Names(), Names()


def recognises(columns: Collection[str]) -> bool:
    """True if area, meter, day and phase stand under Chinese names, beside moments of the day."""
    known = _headers(columns).keys()
    return {"area", "meter", "day", "phase"} <= known and bool(header_clocks(columns))


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
    unusual: dict[inferred.Supply, set[str]] = {}
    for area in areas:
        for meter in area.meters:
            if meter.un_v != inferred.CHINA_VOLTAGES[-1]:
                supply = inferred.Supply(meter.wiring, meter.un_v)
                unusual.setdefault(supply, set()).add(meter.meter)

    for (wiring, un_v), meters in sorted(unusual.items()):
        who = f"{len(meters):,} meters, such as {min(meters)},"
        tally.notes.append(f"{who} are {wiring} of {un_v:g} V by what they show")


def _headers(columns: Collection[str]) -> dict[str, str]:
    """The column of the file for each key of HEADER_NAMES that it has."""
    return {
        what: name
        for what, names in HEADER_NAMES.items()
        for name in names
        if name in columns
    }


def _read(path: tables.File, register: _Register, tally: Tally) -> _Curves:
    """The rows of a file that have a meter, an area, a day and a phase."""
    header = tables.columns(path)
    names = _headers(header)
    seconds = header_clocks(header)
    sheet = tables.read(path, [*names.values(), *seconds], tally)
    midnight = sheet.moments(names["day"], ZoneInfo(CHINA_ZONE))
    phase = _phases(sheet, names["phase"])
    meter = padded_ids(sheet, names["meter"], register.meters)
    area = padded_ids(sheet, names["area"], register.areas)
    customer: Codes = np.full(len(sheet), -1, np.int32)
    if "customer" in names:
        customer = padded_ids(sheet, names["customer"], register.customers)

    # rows with a fault of their own count for no repeat
    faultless = (meter >= 0) & (phase >= 0) & np.isfinite(midnight)
    _, first = np.unique(
        np.stack([meter, midnight, phase, ~faultless]), axis=1, return_index=True
    )
    repeated = np.ones(len(sheet), np.bool_)
    repeated[first] = False
    keep = sheet.keep(
        *sheet.id_faults(names["meter"], meter),
        *sheet.id_faults(names["area"], area),
        (np.isnan(midnight), sheet.no_time(names["day"]), names["day"]),
        (phase < 0, f"{names['phase']} is not A, B or C", names["phase"]),
        (repeated, "a second row of the same meter, day and phase", names["day"]),
    )

    ratio = np.full(len(sheet), np.nan)
    if "ratio" in names:
        ratio = sheet.numbers(names["ratio"])
    return _Curves(
        name=path.name,
        voltage=any("电压" in name for name in header),
        area=area[keep],
        customer=customer[keep],
        meter=meter[keep],
        ratio=np.where(ratio > 0, ratio, np.nan)[keep],
        phase=phase[keep].astype(np.int32),
        day=midnight[keep].astype(np.int64),
        seconds=np.array(list(seconds.values()), np.int64),
        values=np.stack([sheet.numbers(name) for name in seconds], axis=1)[keep],
    )


def _phases(sheet: tables.Sheet, column: str) -> NDArray[np.intp]:
    """The phase of each row, by number; -1 where the cell is no phase."""
    words, cells = sheet.words(column)
    initials = [word.strip()[:1].upper() for word in words]
    numbers = [
        PHASE_NAMES.index(letter) if letter in PHASE_NAMES else -1
        for letter in initials
    ]
    return np.array([*numbers, -1])[cells]


def padded_ids(sheet: tables.Sheet, column: str, register: Names) -> Codes:
    """The number of each id; digits that lost leading zeros in a spreadsheet get them back.

    Ids of digits are equally long.
    """
    seen = Names()
    cells = sheet.ids(column, seen)
    width = max((len(text) for text in seen.names if text.isdigit()), default=0)
    whole = [text.zfill(width) if text.isdigit() else text for text in seen.names]

    differs = [long != short for long, short in zip(whole, seen.names, strict=True)]
    mended = np.array([*differs, False, False, False])[cells]
    if mended.any():
        row = np.argmax(mended)
        text = seen.names[cells[row]]
        place = f"{sheet.name} row {row + 1}: {text}"
        sheet.tally.mend(
            f"{column} had lost its leading zeros", place, int(mended.sum())
        )

    # the last three stand for cells without an id, whose numbers are negative
    absent = np.array([NO_ID, LOST_DIGITS, MISSING_ID], np.int32)
    return np.append(register.numbers(whole), absent)[cells]


def _joined(
    files: Sequence[_Curves], home: Codes, register: _Register, tally: Tally
) -> Readings:
    """Currents and voltages of a meter side by side, in time order; the first file counts."""
    start = min(int(file.day.min()) for file in files if len(file.day))
    meters = len(register.meters.names)
    found = []
    for file in files:
        row, moment = np.nonzero(np.isfinite(file.values))
        at = file.day[row] + file.seconds[moment]
        key = (at - start) * meters + file.meter[row]
        value = file.values[row, moment]
        found.append((key, file.phase[row], value, file))

    all_keys = [key for key, *_ in found]
    keys = np.unique(np.concatenate(all_keys))
    volts, amps = np.full((2, 3, len(keys)), np.nan, np.float32)
    for key, phase, value, file in found:
        column = volts if file.voltage else amps
        place = np.searchsorted(keys, key)
        taken = np.isfinite(column[phase, place])
        tally.reject("an earlier file has the value too", file.name, int(taken.sum()))
        free = ~taken
        column[phase[free], place[free]] = value[free]

    at, meter = np.divmod(keys, meters)
    return Readings.build(
        register.meters.names,
        meter,
        register.areas.names,
        home[meter],
        at + start,
        u=volts,
        i=amps,
    )


def _areas(
    files: Sequence[_Curves], home: Codes, readings: Readings, register: _Register
) -> list[Area]:
    """The areas with their meters from their first day on.

    The gateway is the only meter behind current transformers.
    """
    columns = {
        name: np.concatenate([getattr(file, name) for file in files])
        for name in ("meter", "day", "phase", "ratio", "customer")
    }
    meter = columns["meter"]
    order = np.lexsort((columns["day"], meter))
    changes = np.flatnonzero(np.diff(meter[order]))
    groups = np.split(order, changes + 1)
    steps = inferred.steps(readings)
    supplies = inferred.supplies(readings)

    meters: dict[int, list[Meter]] = {}
    for rows in groups:
        number = int(meter[rows[0]])
        supply = supplies.get(number) or _usual_supply(columns["phase"][rows])
        meters.setdefault(int(home[number]), []).extend(
            _meter_records(columns, rows, register, supply, steps.get(number, 900))
        )

    areas = []
    for number, here in meters.items():
        through_ct = {record.meter for record in here if record.ct > 1}
        gateway = ""
        if len(through_ct) == 1 and len({record.meter for record in here}) > 1:
            gateway = through_ct.pop()
        areas.append(
            Area(area=register.areas.names[number], gateway=gateway, meters=here)
        )
    return areas


def _usual_supply(phases: Codes) -> inferred.Supply:
    """The usual supply of a meter with rows of these phases."""
    wiring: Wiring = "3P4W" if (phases > 0).any() else "1P2W"
    return inferred.Supply(wiring, inferred.CHINA_VOLTAGES[-1])


def _meter_records(
    columns: Mapping[str, NDArray[Any]],
    rows: NDArray[np.intp],
    register: _Register,
    supply: inferred.Supply,
    step: int,
) -> Iterator[Meter]:
    """A meter's records, one for each of its ratios; its rows are in order of days."""
    days = columns["day"][rows]
    ratios = columns["ratio"][rows]
    known = np.isfinite(ratios)
    days_known = days[known]
    ratios_known = ratios[known]
    differs = np.diff(ratios_known, prepend=np.nan) != 0
    changed = np.flatnonzero(differs)
    by_day = {int(days_known[k]): float(ratios_known[k]) for k in changed}
    by_day = by_day or {0: 1.0}
    by_day[int(days[0])] = by_day.pop(min(by_day))  # the first holds from the start

    customer = columns["customer"][rows[0]]
    for effective, ct in sorted(by_day.items()):
        # the common meters, 1.5(6) A and 5(60) A: default of this project
        yield Meter(
            meter=register.meters.names[columns["meter"][rows[0]]],
            customer=register.customers.names[customer] if customer >= 0 else "",
            effective=effective,
            wiring=supply.wiring,
            un_v=supply.un_v,
            ib_a=1.5 if ct > 1 else 5.0,
            imax_a=6.0 if ct > 1 else 60.0,
            ct=ct,
            interval_s=min(max(step, 60), 86_400),
        )
