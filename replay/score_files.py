"""Daily scores as Parquet: a file a day, a row per area, subject and rule.

Each shard writes parts while it judges. In the end the parts of each day become one file, sorted, the same for any
number of shards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replay.archive.day_files import GROUP_ROWS, day_name
from replay.day_scores import RuleDay
from schemas.columns import Mask

SCORES_NAME = "scores"
RANKING_NAME = "ranking"
KEY_COLUMNS = ("area", "subject", "rule")


class ScoreParts:
    """Writes the scores that a shard has settled."""

    def __init__(self, folder: Path, shard: int) -> None:
        self._folder = folder
        self._shard = shard
        self._serial = 0

    def write(self, of_days: Iterable[RuleDay]) -> None:
        """Writes a part of each day."""
        tables: dict[int, list[pa.Table]] = defaultdict(list)
        for of_day in of_days:
            tables[of_day.day].append(_table(of_day))
        for day, found in tables.items():
            path = self._folder / day_name(day)
            path.mkdir(parents=True, exist_ok=True)
            self._serial += 1
            name = f"{self._shard:05}-{self._serial:08}.parquet"
            _write(path / name, pa.concat_tables(found))


def claim(folder: Path) -> None:
    """Makes a folder for scores. Raises ValueError unless it is new or empty."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: name another folder for --scores")
    folder.mkdir(parents=True, exist_ok=True)


def packed_parts(folder: Path) -> dict[str, bytes]:
    """The parts in a folder, by their names in it."""
    files = sorted(folder.rglob("*.parquet"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def unpack_parts(parts: Mapping[str, bytes], folder: Path) -> None:
    """Writes parts into a folder."""
    for name, content in parts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def join_parts(parts: Path, folder: Path) -> None:
    """Joins the parts of each day; the highest score of a rule and subject counts."""
    (folder / SCORES_NAME).mkdir(exist_ok=True)
    for day in sorted(parts.iterdir()):
        files = sorted(day.iterdir())
        tables = [pq.read_table(file) for file in files]
        table = pa.concat_tables(tables)
        order = [(name, "ascending") for name in KEY_COLUMNS]
        order += [("score", "descending"), ("at", "ascending")]
        ordered = table.take(pc.sort_indices(table, order))

        is_first = np.zeros(len(ordered), np.bool_)
        is_first[:1] = True
        for name in KEY_COLUMNS:
            is_first[1:] |= _changes(ordered[name])
        path = folder / SCORES_NAME / f"{day.name}.parquet"
        _write(path, ordered.filter(is_first))


def score_days(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """Each day with its scores, in order; words are dictionaries."""
    for file in sorted((folder / SCORES_NAME).iterdir()):
        words = ["area", "subject", "kind", "rule"]
        yield file.stem, pq.read_table(file, read_dictionary=words)


def write_ranking(folder: Path, day: str, table: pa.Table) -> None:
    """Writes the ranking of a day, a row per subject."""
    (folder / RANKING_NAME).mkdir(exist_ok=True)
    _write(folder / RANKING_NAME / f"{day}.parquet", table)


def _table(of_day: RuleDay) -> pa.Table:
    """The scores of a rule on a day."""
    areas, subjects = zip(*of_day.subjects, strict=True)
    count = len(areas)
    rule = of_day.rule
    return pa.table(
        {
            "area": pa.array(areas, "string"),
            "subject": pa.array(subjects, "string"),
            "kind": pa.array([rule.kind.kind] * count, "string"),
            "rule": pa.array([rule.name] * count, "string"),
            "at": pa.array(of_day.at, "int64"),
            "score": pa.array(of_day.score, "float64"),
        }
    )


def _changes(column: pa.ChunkedArray) -> Mask:
    """Where a row differs from the row before."""
    plain = column.combine_chunks()
    changes: Mask = pc.not_equal(plain[1:], plain[:-1]).to_numpy(zero_copy_only=False)
    return changes


def _write(path: Path, table: pa.Table) -> None:
    """Writes a table as the archive writes its files."""
    pq.write_table(table, path, compression="zstd", row_group_size=GROUP_ROWS)
