"""A single series of a file: read, scored by the generic detector, and its alerts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from detectors.series import SERIES_STATISTICS, SeriesDetector, SeriesScores
from models.master.calendar import midnights
from replay import tables
from replay.history import SourceError, Tally, nothing_read
from schemas.alert import Alert, alert_id
from schemas.columns import EARLIEST_TIME, LATEST_TIME, Column, Times
from schemas.units import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS

TIME_COLUMNS = ("at", "time", "timestamp", "datetime", "date_time", "date", "时间")
SLOT_SECONDS = (MINUTE_SECONDS, 5 * MINUTE_SECONDS, 15 * MINUTE_SECONDS, HOUR_SECONDS)
RELEASE_INTERVALS = 6  # usual rows below 1 that end an alert
REPEATED_TIME = "a time occurs again, and its first row counts"
SERIES_RULE = "series"
SERIES_SEVERITY = 4
STATISTIC_SENTENCES = {  # English and Chinese, by the statistic
    "value": (
        "{column} is {value:.4g}, which is unusual for this series.",
        "{column}为{value:.4g},对该序列异常。",
    ),
    "rate": (
        "{column} changed to {value:.4g} at once, faster than it usually does.",
        "{column}突变为{value:.4g},快于通常变化。",
    ),
    "season": (
        "{column} is {value:.4g}; at this hour it is usually {expected:.4g}.",
        "{column}为{value:.4g},该时段通常为{expected:.4g}。",
    ),
}


@dataclass(frozen=True)
class Series:
    """The values of a column, in order of time."""

    name: str  # of the file
    column: str
    zone: str  # in which its days begin
    at: Times
    values: Column
    tally: Tally

    @property
    def interval(self) -> int:
        """The usual seconds between two rows."""
        if len(self.at) > 1:
            return int(np.median(np.diff(self.at)))
        return HOUR_SECONDS


def read_series(path: Path, column: str, time_column: str, zone: str) -> Series:
    """The series of a file of delimited text or Parquet. Rows without a time or value are counted.

    Without `time_column`, the first column that is usually named so has the times; times that name no zone are in
    `zone`. Raises SourceError if a column is missing or no row can be read.
    """
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    names = tables.columns(path)
    time_column = (
        _existing(time_column, names, path) if time_column else _time(names, path)
    )
    column = _existing(column, names, path)
    tally = Tally()
    sheet = tables.read(path, {time_column, column}, tally)

    # rows that have a time and a value
    at = sheet.moments(time_column, ZoneInfo(zone))
    values = sheet.numbers(column).astype(np.float64)
    timed = (at >= EARLIEST_TIME) & (at < LATEST_TIME)
    empty = sheet.table[column].is_null().to_numpy()
    kept = sheet.keep(
        (~timed, sheet.no_time(time_column), time_column),
        (empty, f"{column} is missing", ""),
    )
    kept &= np.isfinite(values)
    at = at[kept]
    values = values[kept]

    # in order of time, one row a time
    order = np.argsort(at, kind="stable")
    times = at[order].astype(np.int64)
    repeated = np.diff(times, prepend=-1) == 0
    tally.reject(REPEATED_TIME, path.name, int(repeated.sum()))
    if not len(times):
        raise nothing_read(path.name, tally)
    return Series(
        path.name, column, zone, times[~repeated], values[order][~repeated], tally
    )


def _existing(name: str, names: tuple[str, ...], path: Path) -> str:
    """A column's name. Raises SourceError, with the nearest name, if the file lacks it."""
    if name in names:
        return name
    near = get_close_matches(name, names, 1)
    advice = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
    raise SourceError(f"{path} has no column {name}; {advice}")


def _time(names: tuple[str, ...], path: Path) -> str:
    """The column that holds the times. Raises SourceError if none is named so."""
    for name in names:
        if name.strip().lower() in TIME_COLUMNS:
            return name
    raise SourceError(
        f"{path}: which column has the times? It has {', '.join(names)}; say it with --time"
    )


def scores_of(series: Series) -> SeriesScores:
    """The scores of every row, by local time."""
    slot = next((slot for slot in SLOT_SECONDS if slot >= series.interval), DAY_SECONDS)
    return SeriesDetector(slot).score(_local(series.at, series.zone), series.values)


def _local(at: Times, zone: str) -> Times:
    """Seconds since some local midnight, of days of 24 hours: a second hour before a midnight counts as its end."""
    nights = midnights(zone)
    days = np.searchsorted(nights, at, side="right") - 1
    return days * DAY_SECONDS + np.minimum(at - nights[days], DAY_SECONDS - 1)


def series_alerts(series: Series, scores: SeriesScores) -> Iterator[Alert]:
    """An alert for every stretch of rows with a score of 1 or more, in its last state."""
    unusual = np.flatnonzero(scores.score >= 1)
    if not len(unusual):
        return
    quiet = RELEASE_INTERVALS * series.interval
    begins = np.flatnonzero(np.diff(series.at[unusual], prepend=-quiet - 1) > quiet)
    for rows in np.split(unusual, begins[1:]):
        yield _alert(series, scores, rows, quiet)


def _alert(
    series: Series, scores: SeriesScores, rows: NDArray[Any], quiet: int
) -> Alert:
    """The alert of a stretch: it began with the first row, and its sentence is of the highest score."""
    since = int(series.at[rows[0]])
    last = int(series.at[rows[-1]])
    is_over = int(series.at[-1]) - last > quiet
    top = int(rows[np.argmax(scores.score[rows])])
    facts = {
        "value": float(series.values[top]),
        "expected": float(scores.expected[top]),
        **{
            f"{name}_score": float(getattr(scores, name)[top])
            for name in SERIES_STATISTICS
        },
    }

    english, chinese = STATISTIC_SENTENCES[scores.statistic(top)]
    return Alert(
        id=alert_id(SERIES_RULE, series.name, series.column, since),
        rule=SERIES_RULE,
        version=1,
        kind="series",
        area=series.name,
        subject=series.column,
        state="cleared" if is_over else "raised",
        change="cleared" if is_over else "raised",
        revision=1 if is_over else 0,
        severity=SERIES_SEVERITY,
        since=since,
        raised=since,
        at=last + quiet if is_over else since,
        score=float(scores.score[top]),
        phase="",
        evidence={name: fact for name, fact in facts.items() if np.isfinite(fact)},
        suppressed_by="",
        en=english.format(column=series.column, **facts),
        zh=chinese.format(column=series.column, **facts),
    )
