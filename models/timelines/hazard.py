"""How likely an item stays in its stage until the limit has passed, learned as stays go on and end.

The time from a quarter of the limit on falls into three parts. A logistic model gives the chance that an
item lasts through a part, from facts that are known when it begins: a discrete-time hazard. The examples
of a day are learned at once and in a fixed order, so that no cut of the rows changes a weight.

Before a day is learned, its examples show how far the chances were off, too low or too high. After a drift
the section begins with a new model: a weight starts at 0, where its steps are safest. Old weights under new
steps would overshoot, and under old curvature would take months.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import exp, nan
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from models.drift import PageHinkley
from models.state.cells import Array
from models.state.missing_values import only
from models.state.owners import Schema, State, StateError
from schemas.columns import Codes, Mask
from schemas.units import DAY_SECONDS

PART_MARKS = (0.25, 0.5, 0.75)  # shares of the limit, at which the parts begin
WEIGHTS_WIDTH = 2048  # weights of a part, shared by the facts whose hash is the same
LEAST_STAYS = 50  # of a stage, that have been learned
STEP_SIZE = 0.3  # of a Newton step by each weight alone, as six facts share a step
FIRST_CURVATURE = 1.0  # holds the first steps back
CURVATURE_KEPT = 0.999  # a day with examples, so that the model follows a change
HOURS_TOGETHER = 3  # that share a weight with their weekday
FIRST_DAY = 0  # before which nothing is learned
ERROR_EXAMPLES = 10  # of a part whose chances were known, at least, that make one error
# of the mean of outcomes less their chances, or of chances less their outcomes
DRIFT_TEST = PageHinkley(tolerance=0.1, most=0.5, limit=2.0)
NO_WEIGHTS = np.zeros((len(PART_MARKS), WEIGHTS_WIDTH))
NO_ERRORS = np.zeros((7, 2 * len(PART_MARKS)))


class StayFacts(NamedTuple):
    """What is known of a stay at a mark."""

    stage: str
    previous: str  # stage, "" where it is not known
    came_after: int  # binary digits of the minutes since the item entered it
    weekday: int  # on which the limit passes, as it looks at the mark
    hour: int  # of that day


class Example(NamedTuple):
    """Whether an item lasted through a part of its limit, and when that was known."""

    at: int
    part: int
    lasted: bool
    facts: StayFacts


class Learned(NamedTuple):
    """A section's model: weight and curvature by part and fact, learned stays by stage, and its errors."""

    weights: Array
    curvature: Array
    stays: Counter[str]
    # (7, 6), by part of chances that were too low, then of those too high: the memory of the test in four rows,
    # sum and number of what makes the next error, and how often the errors have drifted
    errors: Array

    @property
    def drifted(self) -> bool:
        """True from a drift until a stage is known anew."""
        is_known = max(self.stays.values(), default=0) >= LEAST_STAYS
        return bool(self.errors[-1].any()) and not is_known


Examples = Counter[Example]


class _Day(NamedTuple):
    """The examples of a day, by column."""

    parts: Codes
    cells: Codes  # (examples, 6), of their weights
    lasted: Mask
    counts: Codes
    stages: list[str]


class Hazard:
    """The models of sections, and the examples of the days that may still change.

    Examples add up in any order; a model of a day is learned from the days before it.
    """

    def __init__(self) -> None:
        self._examples: dict[str, dict[int, Examples]] = {}
        # by the day before which they were learned; the first is what was kept
        self._models: dict[str, dict[int, Learned]] = {}

    def count(self, section: str, examples: Iterable[Example], sign: int) -> None:
        """Adds (sign 1) or removes (sign -1) some examples."""
        for example in examples:
            days = self._examples.setdefault(section, {})
            day = example.at // DAY_SECONDS
            if day not in days:
                days[day] = Counter()
            of_day = days[day]

            count = of_day.get(example, 0) + sign
            if count:
                of_day[example] = count
                continue
            del of_day[example]
            if not of_day:
                del days[day]

    def chance(self, section: str, day: int, part: int, facts: StayFacts) -> float:
        """The chance that an item lasts from a part on, as known before a day.

        NaN where too few stays of its stage were learned, or the model of that day was dropped.
        """
        model = self._model_before(section, day)
        if model is None or model.stays[facts.stage] < LEAST_STAYS:
            return nan
        columns = weight_columns(facts)
        chance = 1.0
        for later in range(part, len(PART_MARKS)):
            weights = model.weights[later, columns].tolist()
            chance /= 1 + exp(-sum(weights))
        return chance

    def _model_before(self, section: str, day: int) -> Learned | None:
        """The model learned from the days before a day; None if it was dropped."""
        models = self._models.get(section)
        if models is None:
            models = self._models[section] = {FIRST_DAY: new_model()}
        if day in models:
            return models[day]

        latest = max((before for before in models if before <= day), default=None)
        if latest is None:
            return None
        model = models[latest]
        days = self._examples.get(section, {})
        for learned in sorted(known for known in days if latest <= known < day):
            model = learn_day(model, days[learned])
        models[day] = model
        return model

    def forget(self, first_days: Mapping[str, int]) -> None:
        """Keeps of some sections the model as of a first day, and drops what it was learned from."""
        for section in first_days.keys() & self._examples.keys():
            first = first_days[section]
            model = self._model_before(section, first)
            if model is None:
                continue
            later = self._models[section]
            self._models[section] = {
                day: model for day, model in later.items() if day >= first
            }
            days = self._examples[section]
            for day in [day for day in days if day < first]:
                del days[day]

    @property
    def drifted(self) -> int:
        """How many sections are learned anew since the error of their model drifted."""
        latest = [models[max(models)] for models in self._models.values()]
        return sum(model.drifted for model in latest)

    def schema(self) -> Schema:
        """Examples by section and day; the kept models, one behind the other."""
        return {
            "hazard_examples": list[tuple[str, int, list[tuple[Example, int]]]],
            "hazard_sections": list[tuple[str, int, dict[str, int]]],
            "hazard_weights": NO_WEIGHTS,
            "hazard_curvature": NO_WEIGHTS,
            "hazard_errors": NO_ERRORS,
        }

    def state(self) -> State:
        """Everything remembered."""
        examples = [
            (section, day, list(found.items()))
            for section, days in self._examples.items()
            for day, found in days.items()
        ]
        kept = {
            section: min(models.items()) for section, models in self._models.items()
        }
        models = [model for _, model in kept.values()]
        return {
            "hazard_examples": examples,
            "hazard_sections": [
                (section, day, dict(model.stays))
                for section, (day, model) in kept.items()
            ],
            "hazard_weights": _stacked([model.weights for model in models], NO_WEIGHTS),
            "hazard_curvature": _stacked(
                [model.curvature for model in models], NO_WEIGHTS
            ),
            "hazard_errors": _stacked([model.errors for model in models], NO_ERRORS),
        }

    def load(self, state: State) -> None:
        """Replaces everything by a state. Raises StateError if a section has no weights."""
        self._examples = {}
        self._models = {}
        for section, day, found in state.get("hazard_examples", ()):
            self._examples.setdefault(section, {})[day] = Counter(dict(found))

        sections = state.get("hazard_sections", ())
        nothing = _stacked([], NO_WEIGHTS)
        arrays = [
            state.get("hazard_weights", nothing),
            state.get("hazard_curvature", nothing),
            state.get(
                "hazard_errors", _stacked([NO_ERRORS] * len(sections), NO_ERRORS)
            ),
        ]
        for n, (section, day, stays) in enumerate(sections):
            if any(n >= array.shape[-1] for array in arrays):
                raise StateError("a section has no weights")
            weights, curvature, errors = (np.array(array[..., n]) for array in arrays)
            model = Learned(weights, curvature, Counter(stays), errors)
            self._models[section] = {day: model}


def new_model() -> Learned:
    """A model that has learned nothing."""
    return Learned(NO_WEIGHTS, NO_WEIGHTS, Counter(), NO_ERRORS)


def learn_day(model: Learned, examples: Examples) -> Learned:
    """A model after the examples of a day, whose order does not matter.

    After a drift it is a new model that has learned this day alone.
    """
    day = _day_of(examples)
    weights = model.weights.ravel()[day.cells].sum(axis=1)
    expected = 1 / (1 + np.exp(-weights))
    off = day.counts * (day.lasted - expected)

    errors = _errors_after(model, day, off)
    if (errors[-1] > model.errors[-1]).any():
        return learn_day(new_model()._replace(errors=errors), examples)

    curvature = CURVATURE_KEPT * model.curvature
    curvature += _summed(day.cells, day.counts * expected * (1 - expected))
    steps = STEP_SIZE * _summed(day.cells, off) / (curvature + FIRST_CURVATURE)
    stays = Counter(model.stays)
    for example, count in examples.items():
        if example.part == 0:
            stays[example.facts.stage] += count
    return Learned(model.weights + steps, curvature, stays, errors)


def _day_of(examples: Examples) -> _Day:
    """The examples of a day in an order that is always the same."""
    ordered = sorted(examples.items())
    columns = np.array([weight_columns(example.facts) for example, _ in ordered])
    parts = np.array([example.part for example, _ in ordered])
    return _Day(
        parts=parts,
        cells=parts[:, None] * WEIGHTS_WIDTH + columns,
        lasted=np.array([example.lasted for example, _ in ordered]),
        counts=np.array([count for _, count in ordered]),
        stages=[example.facts.stage for example, _ in ordered],
    )


def _errors_after(model: Learned, day: _Day, off: Array) -> Array:
    """The errors of a model after a day, by what each example's outcomes are above their chances.

    After a drift they are empty but for the number of drifts.
    """
    known = np.array([model.stays[stage] >= LEAST_STAYS for stage in day.stages])
    above, number = (
        np.bincount(day.parts, np.where(known, amounts, 0), len(PART_MARKS))
        for amounts in (off, day.counts)
    )
    memory, (total, count, drifts) = model.errors[:4], model.errors[4:]
    total = total + np.concatenate([above, -above])
    count = count + np.tile(number, 2)

    enough = count >= ERROR_EXAMPLES
    watched = DRIFT_TEST.watch(memory, only(enough, total / np.maximum(count, 1)))
    total, count = np.where(enough, 0, [total, count])
    after = np.vstack([watched.memory, total, count, drifts + watched.drifted])

    if watched.drifted.any():
        after[:-1] = 0
    return after


@lru_cache(maxsize=2 * WEIGHTS_WIDTH)
def _column_of(name: str) -> int:
    """The weight that a fact has."""
    return crc32(name.encode()) % WEIGHTS_WIDTH


def weight_columns(facts: StayFacts) -> list[int]:
    """The weights that an item's facts have, all of them beside its stage."""
    stage, previous, came_after, weekday, hour = facts
    together = hour // HOURS_TOGETHER
    names = (
        stage,
        f"{stage}\tfrom {previous}",
        f"{stage}\tafter {came_after}",
        f"{stage}\tday {weekday}",
        f"{stage}\thour {hour}",
        f"{stage}\ttime {weekday} {together}",
    )
    return [_column_of(name) for name in names]


def _summed(cells: Codes, amounts: Array) -> Array:
    """Amounts by example, added to every weight that it has."""
    spread = np.repeat(amounts, cells.shape[1])
    sums = np.bincount(cells.ravel(), spread, len(PART_MARKS) * WEIGHTS_WIDTH)
    return sums.reshape(len(PART_MARKS), WEIGHTS_WIDTH)


def _stacked(arrays: list[Array], empty: Array) -> Any:
    """Arrays of the shape of an empty one, as the columns of one."""
    nothing = np.zeros((*empty.shape, 0))
    return np.stack(arrays, axis=-1) if arrays else nothing
