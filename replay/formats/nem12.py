"""NEM12, Australia's file of interval energy: records 200 (a register), 300 (a day of it), 400 (its quality).

A day is a day of market time, ten hours ahead of UTC all year, and its intervals stand in their order. The meter is
the NMI; registers of imported energy (E1, E2 ...) add up, each other register is left out and counted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replay import contents, tables
from replay.delimited import encoding
from replay.formats.readings import KWH_PER_UNIT, NO_FLOW_BACK, MeterRows, history
from replay.history import Names, Source, SourceError, Tally
from schemas.columns import Status

UN_V = 230.0
AREA_NAME = "NEM12"
MARKET_ZONE = "Australia/Brisbane"  # ten hours ahead of UTC without daylight saving
MARKET_TIME = 36_000  # seconds ahead of UTC
DAY_MINUTES = 1440  # minutes
INTERVAL_MINUTES = (5, 15, 30)  # minutes of an interval
NEM12_BEGINNING = re.compile(
    r'\s*(?:"?100"?,"?NEM12\b|200,[^,\n]*(?:,[^,\n]*){6},\d+,[^,\n]*\r?\n300,\d{8},)',
    re.IGNORECASE,
)
NEM13_BEGINNING = re.compile(r'\s*(?:"?100"?,"?NEM13\b|250,)', re.IGNORECASE)
QUALITY_STATUS = {
    "A": Status.MEASURED,
    "V": Status.MEASURED,
    "S": Status.ESTIMATED,
    "F": Status.ESTIMATED,
    "E": Status.ESTIMATED,
}
REJECTED_REGISTERS = {
    "B": NO_FLOW_BACK,
    "Q": "reactive energy has no column per interval",
    "K": "reactive energy has no column per interval",
}

# kWh and quality of each interval, and the text of the day's last update
Day = tuple[NDArray[np.float64], NDArray[np.uint8], str]


class _RegisterRecord:
    """A record 200: the register of the days that follow."""

    def __init__(self, cells: Sequence[str]) -> None:
        self.nmi = cells[1].strip()
        self.suffix = cells[4].strip().upper()
        self.factor = KWH_PER_UNIT.get(cells[7].strip().lower(), np.nan)
        self.minutes = int(cells[8]) if cells[8].strip().isdigit() else 0
        self.reject_reason = self._fault()

    def _fault(self) -> str:
        """The reason why its days are left out, "" if they are not."""
        if not self.nmi:
            return "the NMI is missing"
        if not self.suffix.startswith("E"):
            return REJECTED_REGISTERS.get(
                self.suffix[:1], "a register that is no energy imported"
            )
        if np.isnan(self.factor):
            return "the unit is none of energy"
        if self.minutes not in INTERVAL_MINUTES:
            return "the interval is none of 5, 15 and 30 minutes"
        return ""


def recognises(beginning: str) -> bool:
    """True if a text begins as NEM12 does."""
    return NEM12_BEGINNING.match(beginning) is not None


def is_nem13(beginning: str) -> bool:
    """True if a text begins as NEM13 does, the format of registers read by hand."""
    return NEM13_BEGINNING.match(beginning) is not None


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The NMIs of all files as one history of readings."""
    days: dict[tuple[str, int], dict[str, Day]] = {}  # by NMI and day, of each register
    for path in paths:
        if isinstance(path, tables.EmbeddedTable):
            raise SourceError(
                f"{path} is NEM12 on a sheet: give the CSV file that it came from"
            )
        _read(path, days, tally)

    seen = Names()
    meter_rows = [
        _day_rows(nmi, day, registers, seen) for (nmi, day), registers in days.items()
    ]
    # names the columns if no day has rows
    nothing = MeterRows(
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
        {"kwh": np.zeros(0), "status": np.zeros(0, np.uint8)},
    )
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        MARKET_ZONE,
        [nothing, *meter_rows],
        tally,
        un_v=UN_V,
    )


def _read(
    path: Path, days: dict[tuple[str, int], dict[str, Day]], tally: Tally
) -> None:
    """Adds the days of a file to `days`."""
    register: _RegisterRecord | None = None
    day: Day | None = None
    ended = False
    for number, cells in _records(path):
        record = cells[0]
        where = f"{path.name} line {number}"
        if record == "200":
            day = None
            register = _RegisterRecord(cells) if len(cells) > 8 else None
            if register is None:
                tally.reject("a record 200 of too few fields", where)
        elif record == "300":
            day = _day(register, cells, where, tally)
            if day and register:
                key = (register.nmi, _midnight(cells[1]))
                _keep(days.setdefault(key, {}), register.suffix, day, where, tally)
        elif record == "400" and day:
            _qualify(day, cells, where, tally)
        elif record == "900":
            ended = True
        elif record not in ("100", "400", "500"):
            tally.reject("a record of no known kind", where)

    if not ended:
        tally.notes.append(
            f"{path.name} has no record 900, which ends it: it may have been cut"
        )


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of every line that is not empty."""
    content = contents.whole(path, contents.MOST_UNFOLDED)
    text = content.decode(encoding(content), "replace").lstrip("\ufeff")
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip(" ,\t"):
            yield number, [cell.strip().strip('"') for cell in line.split(",")]


def _day(
    register: _RegisterRecord | None, cells: Sequence[str], where: str, tally: Tally
) -> Day | None:
    """The intervals of a record 300; None where it cannot be read."""
    if register is None:
        tally.reject("a record 300 without its record 200", where)
        return None
    if register.reject_reason:
        count = DAY_MINUTES // register.minutes if register.minutes else 1
        tally.reject(register.reject_reason, where, count)
        return None

    count = DAY_MINUTES // register.minutes
    if _midnight(cells[1] if len(cells) > 1 else "") < 0:
        tally.reject("the day is none", where, count)
        return None
    quality = cells[2 + count][:1].upper() if len(cells) > 2 + count else ""
    if quality not in {*QUALITY_STATUS, "N"}:
        tally.reject(
            "a record 300 of more or fewer values than its day has intervals",
            where,
            count,
        )
        return None

    texts = cells[2 : 2 + count]
    values = np.array([_number(text) for text in texts])
    values[np.abs(values) > 1e9] = np.nan
    is_given = np.array([bool(text) for text in texts])
    wrong = np.isnan(values) & is_given
    tally.reject("a value is no number", where, int(wrong.sum()))
    updated = cells[5 + count] if len(cells) > 5 + count else ""
    day = (values * register.factor, np.zeros(count, np.uint8), updated)
    _mark(day, slice(None), quality)
    return day


def _qualify(day: Day, cells: Sequence[str], where: str, tally: Tally) -> None:
    """Give the intervals of a record 400 their quality."""
    first, last, quality = (*cells[1:4], "", "", "")[:3]
    numbered = first.isdigit() and last.isdigit()
    fits = numbered and 1 <= int(first) <= int(last) <= len(day[0])
    if not fits or quality[:1].upper() not in {*QUALITY_STATUS, "N"}:
        tally.reject("a record 400 of no intervals of its day", where)
        return
    _mark(day, slice(int(first) - 1, int(last)), quality[:1].upper())


def _mark(day: Day, intervals: slice, quality: str) -> None:
    """Give some intervals of a day a quality; N is none, so they have no value."""
    day[1][intervals] = QUALITY_STATUS.get(quality, Status.MEASURED)
    if quality == "N":
        day[0][intervals] = np.nan


def _keep(
    registers: dict[str, Day], suffix: str, day: Day, where: str, tally: Tally
) -> None:
    """Keep a day of a register; of two the one updated last counts, else the later one."""
    before = registers.get(suffix)
    if before:
        tally.mend("a day of a register comes again: the latest counts", where)
    if before is None or day[2] >= before[2]:
        registers[suffix] = day


def _day_rows(nmi: str, day: int, registers: dict[str, Day], seen: Names) -> MeterRows:
    """A day of an NMI: its registers together, by the longest of their intervals."""
    lengths = [len(values) for values, *_ in registers.values()]
    count = min(lengths)
    energies = []
    qualities = []
    for values, quality, _ in registers.values():
        energies.append(values.reshape(count, -1).sum(axis=1))
        qualities.append(quality.reshape(count, -1).max(axis=1))
    kwh = np.sum(energies, axis=0)
    status = np.max(qualities, axis=0)

    known = np.isfinite(kwh)
    who = np.repeat(seen.numbers([nmi]), count)
    seconds = DAY_MINUTES // count * 60
    at = day + (np.arange(count) + 1) * seconds
    return MeterRows(
        who[known], at[known], {"kwh": kwh[known], "status": status[known]}
    )


def _midnight(text: str) -> int:
    """The second at which a day of market time begins, -1 where the text is no day."""
    try:
        day = datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return -1
    return int(day.timestamp()) - MARKET_TIME


def _number(text: str) -> float:
    """The number, NaN where the text is none."""
    try:
        return float(text)
    except ValueError:
        return np.nan
