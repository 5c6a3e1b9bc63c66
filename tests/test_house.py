"""The law of the house holds here, and each of its checks finds a breach."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench import walk
from bench.house import SourceModule
from tests import house

CROWDED_CODE = "pairs = [[n for n in range(k)] for k in range(3)]"
DENSE_CODE = "def judge(rows):\n" + "".join(f"    rows[{n}] = {n}\n" for n in range(20))


def test_house_keeps_its_law():
    assert list(house.breaches(house.PROJECT_ROOT)) == []


@pytest.mark.parametrize(
    "text",
    [
        "what is told",
        "def told_of(rows):",
        "It tells of it.",
        "the area's stamps",
        "setWaves = waves",
    ],
)
def test_retired_word_is_found(text):
    assert len(list(house.retired_words(text))) >= 1


@pytest.mark.parametrize(
    "text", ["a rule that cannot tell", "cannot_tell = nan", "a hotel of 1,000 rooms"]
)
def test_word_that_is_ours_is_not_found(text):
    assert list(house.retired_words(text)) == []


@pytest.mark.parametrize(
    "code", ["KEPT = 3", "_NEW = 1", "FIRST, LAST_DAY = 1, 2", "ROWS: int = 5"]
)
def test_constant_of_one_word_is_found(code):
    assert len(list(house.one_word_constants(ast.parse(code)))) == 1


def test_constant_of_two_words_is_not_found():
    assert (
        list(house.one_word_constants(ast.parse("GRACE_DAYS = 3\nname = 'town'"))) == []
    )


@pytest.mark.parametrize(
    "code", ["def of(r): ...", "x = 3", "for a in (): ...", "f = lambda t: t"]
)
def test_name_of_one_letter_is_found(code):
    assert len(list(house.one_letter_names(ast.parse(code)))) >= 1


def test_quantity_and_index_may_have_one_letter():
    assert (
        list(house.one_letter_names(ast.parse("U = i = n = 0\nfor k in (): ..."))) == []
    )


def test_two_comprehensions_on_a_line_are_found():
    assert len(list(house.crowded_lines(ast.parse(CROWDED_CODE)))) == 1


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (DENSE_CODE, 1),
        (DENSE_CODE.replace("    rows[9]", "\n    rows[9]"), 0),
        (DENSE_CODE.replace("    rows[9]", "    # then\n    rows[9]"), 0),
    ],
)
def test_long_function_without_a_paragraph_is_found(
    tmp_path: Path, code: str, found: int
):
    path = tmp_path / "dense.py"
    path.write_text(code)
    assert len(list(house.dense_functions(SourceModule(path)))) == found


def test_class_name_that_two_modules_have_is_found(tmp_path: Path):
    modules = {}
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("class Grid: ...\n")
        modules[name] = SourceModule(tmp_path / name)
    assert len(list(house.class_names_twice(modules))) == 1


def test_walk_passes_the_core_from_a_reading_to_its_alert():
    trace = walk.walked()
    lines = walk.lines_by_file(trace.found)
    names = {str(Path(file).relative_to(house.PROJECT_ROOT)) for file in lines}

    assert names.issuperset(
        {
            "detectors/engine.py",
            "detectors/reading_watch.py",
            "detectors/judge.py",
            "detectors/rules/voltage.py",
            "detectors/episodes.py",
            "detectors/policy/policy.py",
        }
    )
    assert sum(lines.values()) > sum(walk.lines_by_file(trace.beside_storing).values())
