"""`python -m bench.nab FOLDER` scores the generic detector on the Numenta anomaly benchmark.

FOLDER is a checkout of that benchmark: its data in `data/`, its windows in `labels/combined_windows.json`. The detector
runs as `meterwatch series` runs it. The table has the benchmark's three profiles, by its published formula: 0 is a
detector that raises nothing, 100 finds every window at its first row without a false alarm. As there, one threshold
for all files is chosen for each profile. A peer runs beside it: the distance from the mean of the last rows.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from replay.history import SourceError
from replay.series import Series, read_series, scores_of
from schemas.columns import Column

WINDOWS_FILE = Path("labels") / "combined_windows.json"
VALUE_COLUMN, TIME_COLUMN, FILE_ZONE = "value", "timestamp", "UTC"
PROBATION_SHARE, PROBATION_ROWS = 0.15, 750  # of a file that is not scored, and at most
PEER_ROWS = 500
FAR_PAST = 3.0  # window lengths behind a window, from which a false alarm costs all
TABLE_HEADS = ("Profile", "meterwatch series", "distance from the last rows")
Window = tuple[int, int]  # first and last row
Score = Callable[[Series], Column]


class Profile(NamedTuple):
    """What a false alarm and a missed window cost, beside 1 for a window that is found."""

    name: str
    false_alarm: float
    miss: float


COST_PROFILES = (
    Profile("standard", 0.11, 1.0),
    Profile("low FP", 0.22, 1.0),
    Profile("low FN", 0.11, 2.0),
)


class ScoredFile(NamedTuple):
    """The scores of one file, with its windows."""

    scores: Column
    windows: list[Window]


def weight(position: float) -> float:
    """The worth of an alarm by its place: -1 at the window's begin, 0 at its end, above 0 behind it.

    >>> round(weight(-1.0), 3), weight(0.0), weight(FAR_PAST)
    (0.987, 0.0, -1.0)
    """
    if position >= FAR_PAST:
        return -1.0
    return 2 / (1 + math.exp(5 * position)) - 1


def alarm_worths(rows: int, windows: Sequence[Window]) -> tuple[Column, Column]:
    """The worth of an alarm in each row, for a cost of 1, and the row's window or -1."""
    worths = np.full(rows, -1.0)
    number = np.full(rows, -1)
    for k, (first, last) in enumerate(windows):
        length = last - first + 1
        inside = np.arange(first, last + 1)
        number[inside] = k
        worths[inside] = [
            weight(-(last - row + 1) / length) / weight(-1.0) for row in inside
        ]
        following = windows[k + 1][0] if k + 1 < len(windows) else rows
        behind = np.arange(last + 1, following)
        worths[behind] = [weight((row - last) / max(length - 1, 1)) for row in behind]
    return worths, number


def best_score(files: Iterable[ScoredFile], profile: Profile) -> float:
    """The score of the best threshold for all files, 0 to 100, or below 0 if alarms cost more than they find."""
    # every row that may raise an alarm: its score, its worth, and its window of all files
    scores, worths, numbers = [], [], []
    windows = 0
    for file in files:
        probation = min(int(PROBATION_SHARE * len(file.scores)), PROBATION_ROWS)
        worth, number = alarm_worths(len(file.scores), file.windows)
        scores.append(file.scores[probation:])
        worths.append(worth[probation:])
        numbers.append(np.where(number >= 0, number + windows, -1)[probation:])
        windows += len(file.windows)
    score, worth, number = map(np.concatenate, (scores, worths, numbers))

    # from the highest threshold down
    best = total = -profile.miss * windows
    found = np.full(windows, -profile.miss)
    order = np.argsort(-score, kind="stable")
    for row, next_row in zip(order, [*order[1:], -1], strict=True):
        if number[row] < 0:
            total += profile.false_alarm * worth[row]
        elif worth[row] > found[number[row]]:
            total += worth[row] - found[number[row]]
            found[number[row]] = worth[row]
        if next_row < 0 or score[next_row] < score[row]:
            best = max(best, total)

    nothing, perfect = -profile.miss * windows, float(windows)
    return 100 * (best - nothing) / (perfect - nothing)


def read_windows(folder: Path) -> Iterator[tuple[Path, list[tuple[str, str]]]]:
    """Each file of the benchmark with the times of its windows. Raises SourceError."""
    file = folder / WINDOWS_FILE
    if not file.is_file():
        raise SourceError(
            f"{folder} has no {WINDOWS_FILE}; it should be a checkout of the benchmark"
        )
    form = dict[str, list[tuple[str, str]]]
    for name, windows in msgspec.json.decode(file.read_bytes(), type=form).items():
        yield folder / "data" / name, windows


def row_windows(series: Series, windows: Iterable[tuple[str, str]]) -> list[Window]:
    """Windows as rows of the series, in order."""
    found = []
    for limits in windows:
        first, last = (
            int(np.datetime64(limit, "s").astype(np.int64)) for limit in limits
        )
        begin = int(np.searchsorted(series.at, first))
        end = int(np.searchsorted(series.at, last, side="right")) - 1
        found.append((begin, max(begin, end)))
    return sorted(found)


def detector_scores(series: Series) -> Column:
    """The scores of the generic detector; 0 where it has none."""
    return np.nan_to_num(scores_of(series).score)


def peer_scores(series: Series) -> Column:
    """The distance from the mean of the rows before, in their standard deviations."""
    scores = np.zeros(len(series.values))
    for row in range(1, len(scores)):
        before = series.values[max(0, row - PEER_ROWS) : row]
        spread = max(float(before.std()), 1e-9)
        scores[row] = min(abs(series.values[row] - before.mean()) / spread, 1e6)
    return scores


def scored(folder: Path, score: Score) -> list[float]:
    """The scores of a detector by profile. Raises SourceError for a file that cannot be read."""
    files = []
    for path, windows in read_windows(folder):
        series = read_series(path, VALUE_COLUMN, TIME_COLUMN, FILE_ZONE)
        files.append(ScoredFile(score(series), row_windows(series, windows)))
    return [best_score(files, profile) for profile in COST_PROFILES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; exit code 2 if the folder cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a checkout of the benchmark")
    folder = parser.parse_args(arguments).folder
    try:
        columns = [scored(folder, score) for score in (detector_scores, peer_scores)]
    except (OSError, SourceError, msgspec.DecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    print(f"| {' | '.join(TABLE_HEADS)} |\n|---|---|---|")
    for profile, *values in zip(COST_PROFILES, *columns, strict=True):
        print(f"| {profile.name} | {' | '.join(f'{value:.1f}' for value in values)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
