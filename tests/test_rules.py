"""Properties of every rule, checked on the rows of its cases; and for every check a bad rule that fails it.

Nothing here names a rule. The rules come from the registry, and their columns are sampled from their own cases as the
engine computes them.
"""

from __future__ import annotations

import ast
import inspect
import re
import string
import textwrap
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import detectors
import replay
import streams
from detectors.curves.measured import voltages
from detectors.episode_alerts import evidence_of
from detectors.rule import (
    ALL_RULES,
    OPTIONAL_TEXT,
    Explanation,
    Level,
    Rule,
    fields_of,
    rule,
    sentence,
)
from models.master.records import AREA_COLUMNS, METER_COLUMNS
from schemas.columns import AreaDays, Backlogs, Intervals, Readings
from schemas.inspection import OUTCOME_CODES
from schemas.master import Meter
from schemas.units import DAY_SECONDS
from tests.casebook import casebook, run_case

# given, not measured, so they do not fluctuate
MASTER_COLUMNS = {
    *METER_COLUMNS,
    *AREA_COLUMNS,
    "gateway",
}
SOURCE_WORDS = re.compile(
    r"Q/GDW|GB/T|DL/T|IEC|ERC|(meter|event|terminal) defaults?|firmware|catalogue|case\b|"
    r"defaults? of this project",
    re.IGNORECASE,
)
ACCUSING_WORDS = re.compile(
    r"thie|theft|steal|stole|fraud|guilt|illegal|culprit|窃|偷|盗|作弊|违法|嫌犯",
    re.IGNORECASE,
)
BODY_LINES = 15
RELATIVE_STEP = 0.005  # relative; smaller than any band between raise and clear
ROW_COUNT = 400


@cache
def samples(name):
    """Columns of the rows that a rule judges in its cases, then of rows mixed from them."""
    rows: dict[str, list[Any]] = {}
    for n in range(len(casebook(name).case)):
        for columns, _ in run_case(name, n)[1].recorded:
            for column, values in columns.items():
                rows.setdefault(column, []).append(values)

    judged_columns = {
        column: np.concatenate(slices, axis=-1) for column, slices in rows.items()
    }
    rng = np.random.default_rng(1)
    count = next(iter(judged_columns.values())).shape[-1]
    chosen = rng.permutation(count)[:ROW_COUNT]
    hot = np.flatnonzero(worst(scored(ALL_RULES[name], judged_columns)) >= 1)
    rows_kept = np.concatenate([hot[:: max(len(hot) // ROW_COUNT, 1)], chosen])
    return {
        column: np.concatenate(
            [cells[..., rows_kept], cells[..., rng.integers(0, count, ROW_COUNT)]],
            axis=-1,
        )
        for column, cells in judged_columns.items()
    }


def scored(judged, columns):
    """The scores of rows."""
    missing = {
        name: np.isnan(column) if np.isnan(column).any() else None
        for name, column in columns.items()
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        return judged.score(columns, missing)


def worst(score):
    """The highest score of every row over its phases."""
    return score if score.ndim == 1 else np.fmax(np.fmax(score[0], score[1]), score[2])


def same(first, second):
    return np.array_equal(first, second, equal_nan=True)


def picked(columns, rows):
    return {name: np.array(column[..., rows]) for name, column in columns.items()}


def troubled(judged, columns, count):
    """Several rows with trouble."""
    hot = np.flatnonzero(worst(scored(judged, columns)) >= 1)
    assert len(hot), f"{judged.name} has no row of trouble"
    return [picked(columns, [row]) for row in hot[:: max(len(hot) // count, 1)][:count]]


def repeated(row, name, factors):
    """A row repeated with one column scaled: all phases of the column together, then each alone."""
    wide = {n: np.repeat(column, len(factors), axis=-1) for n, column in row.items()}
    yield wide | {name: wide[name] * factors}
    for phase in range(3 if wide[name].ndim == 2 else 0):
        scaled = np.array(wide[name])
        scaled[phase] *= factors
        yield wide | {name: scaled}


def is_pure(judged, columns):
    before = picked(columns, slice(None))
    first, second = scored(judged, columns), scored(judged, columns)
    assert same(first, second), "twice the same rows, two answers"
    assert all(same(before[name], columns[name]) for name in columns), (
        "it writes into what it reads"
    )


def is_row_by_row(judged, columns):
    together = scored(judged, columns)
    alone = np.concatenate(
        [scored(judged, picked(columns, [row])) for row in range(together.shape[-1])],
        axis=-1,
    )
    assert together.shape[-1] == next(iter(columns.values())).shape[-1], (
        "it does not answer row by row"
    )
    assert same(together, alone), "a row's score depends on its neighbours"


def cannot_tell_without_a_column(judged, columns):
    for name in judged.reads:
        holed = picked(columns, slice(None))
        holed[name][..., ::2] = np.nan
        assert np.isnan(scored(judged, holed)[..., ::2]).all(), (
            f"it has an answer without {name}"
        )


def takes_settings_as_columns(judged, columns):
    count = next(iter(columns.values())).shape[-1]
    alone = replace(judged, segments={})
    for name, setting in judged.settings.items():
        as_number = scored(alone, columns)
        as_column = scored(alone.tuned(**{name: np.full(count, setting)}), columns)
        assert np.allclose(as_number, as_column, rtol=1e-5, equal_nan=True), (
            f"{name} as a column gives another answer"
        )


def is_documented(judged, columns):
    doc = inspect.getdoc(judged.judge) or ""
    assert doc.split("\n", maxsplit=1)[0].endswith("."), (
        "no sentence says what it means"
    )
    assert SOURCE_WORDS.search(doc), "it does not say where its limits come from"


def has_text_in_both_languages(judged, columns):
    (english, chinese), (en, zh) = judged.title, judged.text
    assert english.isascii()
    assert en.isascii()
    assert all(re.search("[\u4e00-\u9fff]", text) for text in (chinese, zh))

    fields, chinese_fields = fields_of(en), fields_of(zh)
    names = {
        field.removesuffix("_a").removesuffix("_b").removesuffix("_c")
        for field in fields
    }
    assert names & {*judged.reads}, "no value"
    assert fields - {"phase"} <= chinese_fields | {*judged.settings}, (
        "the Chinese sentence says less than the English"
    )

    score = scored(judged, columns)
    for row in np.flatnonzero(worst(score) >= 1)[:20]:
        phase = int(np.nanargmax(score[:, row])) if score.ndim == 2 else -1
        shown = evidence_of(judged, columns, row, phase)[1]
        for text in judged.text:
            missing = fields_of(OPTIONAL_TEXT.sub("", text)) - shown.keys()
            assert not missing, f"the sentence names {missing}, which it does not read"
            assert "nan" not in sentence(text, shown)


def limits_of(judged):
    """The settings of a rule and of its segments."""
    yield from judged.settings.items()
    for settings in judged.segments.values():
        yield from settings.items()


def names_no_number_but_evidence(judged, columns):
    """A number in a sentence is evidence or a limit; a fixed number is explained in the rule's text."""
    limits = {
        name: [float(limit) for other, limit in limits_of(judged) if other == name]
        for name, _ in limits_of(judged)
    }
    score = scored(judged, columns)
    for row in np.flatnonzero(worst(score) >= 1)[:20]:
        phase = int(np.nanargmax(score[:, row])) if score.ndim == 2 else -1
        evidence, shown = evidence_of(judged, columns, row, phase)
        assert all(np.isfinite(value) for value in evidence.values())

        named = {name for text in judged.text for name in fields_of(text)}
        for name in named & shown.keys() - {"phase"}:
            keys = (name, f"{name}_a", f"{name}_b", f"{name}_c")
            numbers = [value for key, value in evidence.items() if key in keys]
            assert shown[name] in numbers + limits.get(name, []), (
                f"the sentence names {name}, which is no evidence"
            )

    for text in judged.text:
        literal = "".join(
            literal_text for literal_text, *_ in string.Formatter().parse(text)
        )
        source = inspect.getsource(judged.judge)
        for number in re.findall(r"\d+", literal):
            assert number in re.findall(r"\d+", source), (
                f"{number} stands in the sentence, and nowhere in the rule"
            )


def does_not_accuse(judged, columns):
    for text in (*judged.title, *judged.text):
        assert not ACCUSING_WORDS.search(text), f"{text!r} accuses; a person decides"


def has_sane_levels(judged, columns):
    scores = [level.score for level in judged.levels]
    severities = [level.severity for level in judged.levels]
    assert scores[0] == 1

    # a level may take longer at the same score
    reached = [(level.score, level.hold) for level in judged.levels]
    assert all(lower < higher for lower, higher in pairwise(reached)), (
        "levels do not rise"
    )
    assert all(lower > higher for lower, higher in pairwise(severities)), (
        "more trouble is not more severe"
    )
    assert {*severities} <= {1, 2, 3, 4}
    assert 0 < judged.clear < 1, "it clears at or above the line at which it raises"
    assert judged.release >= 0
    assert all(level.hold >= 0 for level in judged.levels)


def is_short(judged, columns):
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(judged.judge))).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
    assert lines <= BODY_LINES, f"{lines} lines"


def says_what_shows_it(judged, columns):
    """Only rows that count over a whole area or section may be without a picture."""
    assert judged.curve or judged.kind in {AreaDays, Backlogs}, "nothing shows it"


def is_monotone(judged, columns, worse):
    more = np.linspace(0, 3, 200)
    for name, direction in worse.items():
        for row in troubled(judged, columns, 20):
            sign = {"higher": 1, "lower": -1}[direction] * np.sign(
                np.nan_to_num(row[name])
            )
            wide = {
                n: np.repeat(column, len(more), axis=-1) for n, column in row.items()
            }
            score = worst(scored(judged, wide | {name: wide[name] * (1 + sign * more)}))
            assert (score >= judged.clear).all(), (
                f"it is well again although {name} is {direction} than in trouble"
            )


def does_not_chatter(judged, columns):
    """A value that fluctuates by less than 1 % raises and clears no alert, by a band or a day of calm."""
    if judged.release >= DAY_SECONDS:
        return
    factors = (1 + RELATIVE_STEP) ** np.arange(-240, 241)
    for name in sorted({*judged.reads} - MASTER_COLUMNS):
        for row in troubled(judged, columns, 20):
            for wide in repeated(row, name, factors):
                score = worst(scored(judged, wide))
                trouble, well = score >= 1, score < judged.clear
                jump = (trouble[1:] & well[:-1]) | (well[1:] & trouble[:-1])
                assert not jump.any(), (
                    f"between trouble and well lies nothing: {name} wavers"
                )


def says_what_explains_it(judged, columns):
    """A rule of a whole area has no customer and no meter, so what explains their trouble does not explain its own."""
    assert all(isinstance(each, Explanation) for each in judged.explained_by)
    assert len({*judged.explained_by}) == len(judged.explained_by), "said twice"
    in_order = [each for each in Explanation if each in judged.explained_by]
    assert [*judged.explained_by] == in_order, "not in the order of explanations"
    assert judged.explains not in judged.explained_by, "it explains itself"

    of_area = judged.kind in (Intervals, AreaDays)
    assert not of_area or {*judged.explained_by} <= {Explanation.OUTAGE}
    assert of_area or judged.explains is None, "a meter explains no other"


RULE_CHECKS = (
    is_pure,
    is_row_by_row,
    cannot_tell_without_a_column,
    takes_settings_as_columns,
    is_documented,
    has_text_in_both_languages,
    names_no_number_but_evidence,
    does_not_accuse,
    has_sane_levels,
    is_short,
    says_what_shows_it,
    does_not_chatter,
    says_what_explains_it,
)


@pytest.mark.parametrize("check", RULE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ALL_RULES)
def test_every_rule(name, check):
    check(ALL_RULES[name], picked(samples(name), slice(None)))


@pytest.mark.parametrize("name", ALL_RULES)
def test_more_trouble_never_clears(name):
    book = casebook(name)
    is_monotone(ALL_RULES[name], picked(samples(name), slice(0, ROW_COUNT)), book.worse)


def test_titles_are_unique():
    for language in (0, 1):
        assert len({rule.title[language] for rule in ALL_RULES.values()}) == len(
            ALL_RULES
        )


FINE_RULE: dict[str, Any] = {
    "title": ("Voltage loss", "失压"),
    "text": ("Phase {phase}: {u:.0f} V.", "{phase}相{u:.0f}V。"),
    "curve": voltages,
    "severity": 2,
    "release": 60,
    "explained_by": (Explanation.OUTAGE,),
}


def unregistered(judge, **how):
    """A rule made from a function and not kept in the registry."""
    rule(Readings, **(FINE_RULE | how))(judge)
    return ALL_RULES.pop(judge.__name__)


def fine(u, i, un, ib, *, lost=0.78, back=0.85):
    """A phase has lost its voltage. Default of this project."""
    return np.where(u < lost * un, 1.0, np.where(u > back * un, 0.0, 0.95))


def writing(u, i, un, ib, *, lost=0.78):
    """A phase has lost its voltage. Default of this project."""
    u /= un
    return np.where(u < lost, 1.0, 0.95)


def mixing(u, i, un, ib, *, lost=0.78):
    """A phase has lost its voltage. Default of this project."""
    return np.where(u < lost * np.nanmean(u), 1.0, 0.95)


def branching(u, i, un, ib, *, lost=0.78):
    """A phase has lost its voltage. Default of this project."""
    return np.where(u < un * (0.78 if np.size(lost) == 1 else 0.5), 1.0, 0.95)


def silent(u, i, un, ib, *, lost=0.78):
    return fine(u, i, un, ib, lost=lost)


def sourceless(u, i, un, ib, *, lost=0.78):
    """A phase has lost its voltage."""
    return fine(u, i, un, ib, lost=lost)


def wavering(u, i, un, ib, *, lost=0.78):
    """A phase has lost its voltage. Default of this project."""
    return np.where(u < lost * un, 1.0, 0.0)


def gated_off(u, i, un, ib, *, lost=0.78, load=0.005):
    """A phase has lost its voltage and carries current. Default of this project."""
    return np.where(np.abs(i) > load * ib, fine(u, i, un, ib, lost=lost), 0.0)


def forgiving(u, i, un, ib, *, lost=0.78, dead=0.3):
    """A phase has lost some of its voltage. Default of this project."""
    return np.where(u < dead * un, 0.0, fine(u, i, un, ib, lost=lost))


def long(u, i, un, ib, *, lost=0.78):
    """A phase has lost its voltage. Default of this project."""
    low = np.zeros(u.shape)
    low[0] = np.where(
        u[0] < lost * un,
        1.0,
        0.95,
    )
    low[1] = np.where(
        u[1] < lost * un,
        1.0,
        0.95,
    )
    low[2] = np.where(
        u[2] < lost * un,
        1.0,
        0.95,
    )

    return low


class Unguarded(Rule):
    """A rule whose comparisons treat NaN as no trouble."""

    def score(self, columns, missing):
        return np.asarray(
            self.judge(*(columns[name] for name in self.reads), **self.settings),
            np.float64,
        )


BAD_RULES = [
    (is_pure, unregistered(writing)),
    (is_row_by_row, unregistered(mixing)),
    (cannot_tell_without_a_column, Unguarded(**vars(unregistered(fine)))),
    (takes_settings_as_columns, unregistered(branching)),
    (is_documented, unregistered(silent)),
    (is_documented, unregistered(sourceless)),
    (
        has_text_in_both_languages,
        unregistered(fine, text=("Phase {phase}: {watts} W.", "{phase}相{watts}W。")),
    ),
    (
        has_text_in_both_languages,
        unregistered(
            fine, text=("Phase {phase}: {u:.0f} V.", "Phase {phase}: {u:.0f} V.")
        ),
    ),
    (
        has_text_in_both_languages,
        unregistered(fine, text=("Phase {phase}: {u:.0f} V.", "{phase}相失压。")),
    ),
    (
        has_text_in_both_languages,
        unregistered(fine, text=("Phase {phase} is low.", "{phase}相失压。")),
    ),
    (
        names_no_number_but_evidence,
        unregistered(
            fine, text=("Phase {phase}: {u:.0f} V, 17 %.", "{phase}相{u:.0f}V。")
        ),
    ),
    (
        does_not_accuse,
        unregistered(
            fine, text=("Theft on phase {phase}: {u:.0f} V.", "{phase}相{u:.0f}V。")
        ),
    ),
    (
        does_not_accuse,
        unregistered(
            fine, text=("Phase {phase}: {u:.0f} V.", "用户窃电:{phase}相{u:.0f}V。")
        ),
    ),
    (has_sane_levels, unregistered(fine, worse=(Level(2.0, 3, 0),))),
    (has_sane_levels, unregistered(fine, worse=(Level(0.5, 1, 0),))),
    (has_sane_levels, unregistered(fine, clear=1.1)),
    (is_short, unregistered(long)),
    (says_what_shows_it, unregistered(fine, curve=None)),
    (does_not_chatter, unregistered(wavering)),
    (does_not_chatter, unregistered(gated_off)),
    (says_what_explains_it, unregistered(fine, explained_by=("an outage",))),
    (says_what_explains_it, unregistered(fine, explained_by=[Explanation.OUTAGE] * 2)),
    (
        says_what_explains_it,
        unregistered(fine, explained_by=(Explanation.VACANCY, Explanation.OUTAGE)),
    ),
    (says_what_explains_it, unregistered(fine, explains=Explanation.OUTAGE)),
    (says_what_explains_it, unregistered(fine, explains=Explanation.UNREAD_AREA)),
    (
        says_what_explains_it,
        replace(unregistered(fine), kind=AreaDays, explained_by=(Explanation.VACANCY,)),
    ),
]


@pytest.mark.parametrize(
    ("check", "judged"),
    BAD_RULES,
    ids=[f"{check.__name__}: {bad.name}" for check, bad in BAD_RULES],
)
def test_a_bad_rule_fails(check, judged):
    columns = {name: samples("voltage_loss")[name] for name in judged.reads}
    with pytest.raises(AssertionError):
        check(judged, picked(columns, slice(None)))


def test_a_rule_that_forgives_the_worst_fails():
    columns = {name: samples("voltage_loss")[name] for name in ("u", "i", "un", "ib")}
    with pytest.raises(AssertionError, match="well again"):
        is_monotone(unregistered(forgiving), columns, {"u": "lower"})


@pytest.mark.parametrize("check", RULE_CHECKS, ids=lambda check: check.__name__)
def test_a_fine_rule_passes(check):
    columns = {name: samples("voltage_loss")[name] for name in ("u", "i", "un", "ib")}
    check(unregistered(fine), picked(columns, slice(None)))


def test_a_rule_must_say_what_shows_it():
    how = {name: value for name, value in FINE_RULE.items() if name != "curve"}
    with pytest.raises(TypeError, match="curve"):
        rule(Readings, **how)(fine)


def test_a_rule_that_does_not_say_what_explains_it_is_refused():
    without = {name: how for name, how in FINE_RULE.items() if name != "explained_by"}
    with pytest.raises(TypeError, match="explained_by"):
        rule(Readings, **without)(fine)


# `calibration_due` is also a field of a meter
RULE_NAMES = ALL_RULES.keys() - {*Meter.__struct_fields__}


def rule_collections(source):
    """The lists, sets and dictionaries of a module that name rules; what is known of a rule stands beside it."""
    displays = (ast.List, ast.Tuple, ast.Set, ast.Dict)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, displays):
            members = node.keys if isinstance(node, ast.Dict) else node.elts
            names = {each.value for each in members if isinstance(each, ast.Constant)}
            if names & RULE_NAMES:
                yield ast.unparse(node)


@pytest.mark.parametrize("package", [detectors, replay, streams])
def test_no_table_names_rules(package):
    [folder] = package.__path__
    for path in Path(folder).rglob("*.py"):
        # a planted fault says which rules shall find it
        if "simulation" not in path.relative_to(folder).parts:
            assert [*rule_collections(path.read_text("utf-8"))] == [], path


@pytest.mark.parametrize(
    "table", ['{"voltage_loss": 1}', '{"voltage_loss"}', '("x", "voltage_loss")']
)
def test_a_table_that_names_rules_is_found(table):
    assert [*rule_collections(f"TABLE = f({table})")] != []


def test_the_outcome_of_a_rule_is_one_that_a_visit_may_have():
    outcomes = {rule.outcome for rule in ALL_RULES.values()}
    assert {"", "clock_fault", "communication_fault"} <= outcomes
    assert outcomes <= {"", *OUTCOME_CODES}


def test_two_rules_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two rules are called voltage_loss"):
        rule(Readings, **FINE_RULE)(detectors.rules.voltage.voltage_loss)
