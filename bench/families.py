"""What each family of rules takes of the engine's time, over a day of the load with its midnight."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any
from unittest.mock import patch

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.engine import GROWTH_ROWS, MORNING_SLOT, in_fresh_process, split_slot
from bench.load import LOAD_ZONE, Load
from detectors import judge
from detectors.engine import Engine
from detectors.judge import Judge
from models import feature

FEATURES_FAMILY = "features"  # what rules read beside the batch
REST_FAMILY = "all else"  # clocks, validation, windows, policy


def measure(*, meters: int, slots: int) -> dict[str, float]:
    """The share of an engine's time by family, of features and of all else, largest first."""
    return in_fresh_process(shares, meters, slots)


def shares(meters: int, slots: int) -> dict[str, float]:
    """Times every rule with its episodes, and every feature, while an engine takes a morning on."""
    spent: defaultdict[str, float] = defaultdict(float)

    def timed(name: Callable[..., str], work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            shares = work(*given, **named)
            shares = list(shares) if isinstance(shares, Iterator) else shares
            spent[name(*given)] += time.process_time() - began
            return shares

        return run

    def family(_: Judge, alike: Any, *__: Any) -> str:
        return str(alike[0].rule.family)

    load, engine, whole = Load(meters, MORNING_SLOT), Engine(zone=LOAD_ZONE), 0.0
    engine.enroll(load.areas())
    with (
        patch.object(Judge, "judge_alike", timed(family, Judge.judge_alike)),
        patch.object(
            judge,
            "feature_columns_of",
            timed(lambda *_: FEATURES_FAMILY, feature.feature_columns_of),
        ),
    ):
        for slot in load.slots(slots):
            for piece in split_slot(slot, GROWTH_ROWS):
                began = time.process_time()
                engine.step(piece)
                whole += time.process_time() - began
    spent[REST_FAMILY] = whole - sum(spent.values())
    return {
        name: seconds / whole
        for name, seconds in sorted(spent.items(), key=itemgetter(1), reverse=True)
    }


def show(found: dict[str, float], console: Console) -> None:
    """Prints a row for every family."""
    table = Table("", "of the engine's time", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[1].justify = "right"
    for name, share in found.items():
        table.add_row(name, f"{share:.1%}")
    console.print(table)
