"""`python -m bench.walk` prints how many lines a reader passes from a reading to its alert.

The engine judges by one rule. After five hours of three meters, a reading in trouble raises an alert. Every function
of the project that runs in the step of that reading counts once, with its code lines: signature and body without
docstring, comments and blank lines. The figure without storing leaves out the functions that run only to keep the
reading in its open day.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from bench.house import PACKAGE_NAMES, SourceModule
from detectors.engine import Engine
from detectors.rule import ALL_RULES
from models.days.open_days import OpenDays
from schemas.columns import Readings
from schemas.master import Area, Meter

PROJECT_ROOT = Path(__file__).parents[1]
START_TIME = 1_772_380_800
QUARTER_SECONDS = 900
SOUND_QUARTERS = 20  # quarter-hours before the trouble
METER_NAMES = ("M1", "M2", "M3")
Function = tuple[str, int]  # file, first line


class _FunctionTrace:
    """The functions of the project that run, and the ones among them that run beside storing."""

    def __init__(self) -> None:
        self.found: set[Function] = set()
        self.beside_storing: set[Function] = set()
        self._storing = 0
        self._folders = tuple(str(PROJECT_ROOT / name) for name in PACKAGE_NAMES)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call."""
        code = frame.f_code
        is_storing = code is OpenDays.store_rows.__code__
        if event == "return" and is_storing:
            self._storing -= 1
        if event != "call":
            return
        self._storing += is_storing
        if code.co_filename.startswith(self._folders):
            function = code.co_filename, code.co_firstlineno
            self.found.add(function)
            if not self._storing:
                self.beside_storing.add(function)


def _readings() -> Iterator[Readings]:
    """Single readings of meters whose voltage is sound, and at last of one that loses its voltage."""
    for quarter in range(SOUND_QUARTERS + 3):
        for meter in range(len(METER_NAMES)):
            is_lost = meter == 0 and quarter > SOUND_QUARTERS
            yield Readings.build(
                METER_NAMES,
                np.array([meter]),
                ("A1",),
                np.zeros(1),
                np.array([START_TIME + quarter * QUARTER_SECONDS]),
                u=np.full((3, 1), 130.0 if is_lost else 220.0),
                i=np.full((3, 1), 5.0),
                p=np.full((3, 1), 1.0),
                kwh=np.full(1, 0.25),
            )


def walked() -> _FunctionTrace:
    """The functions that run in the step that raises the alert."""
    engine = Engine([ALL_RULES["voltage_loss"]])
    meters = [Meter(meter=name, wiring="3P4W") for name in METER_NAMES]
    engine.enroll([Area(area="A1", meters=meters)])
    for batch in _readings():
        trace = _FunctionTrace()
        sys.setprofile(trace)
        alerts = engine.step(batch)
        sys.setprofile(None)
        if alerts:
            return trace
    raise AssertionError("no reading raises an alert")


def lines_by_file(functions: set[Function]) -> dict[str, int]:
    """The code lines of functions, by file."""
    lines: dict[str, int] = {}
    for file in sorted({file for file, _ in functions}):
        source = SourceModule(Path(file))
        walked: set[int] = set()
        for node in source.functions():
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            if (file, first) in functions:
                walked.update(range(first, (node.end_lineno or 0) + 1))
        lines[file] = len(source.code & walked)
    return lines


def main() -> None:
    """Prints the lines by file, most first, and their sum."""
    trace = walked()
    lines = lines_by_file(trace.found)
    for file, count in sorted(lines.items(), key=itemgetter(1), reverse=True):
        print(f"{count:5} {Path(file).relative_to(PROJECT_ROOT)}")

    beside_storing = sum(lines_by_file(trace.beside_storing).values())
    print(
        f"{sum(lines.values()):,} lines in {len(lines)} files from a reading to its alert, "
        f"{beside_storing:,} without storing it"
    )


if __name__ == "__main__":
    main()
