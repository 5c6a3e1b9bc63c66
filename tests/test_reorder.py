"""Late readings of one meter: which of them join its reorder buffer, and which end it, does not depend on the cut."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from schemas.columns import Readings
from schemas.master import Area, Meter
from tests.adversarial import Row, Stream, reading_columns
from tests.test_promises import exactly, judge_stream

QUARTER_SECONDS = 900
LEAP_QUARTERS = 192  # two days
START_TIME = 1_772_380_800
METER_NAMES = ("M0", "M1", "M2")
THREE_METER_AREA = Area(
    area="A1", meters=[Meter(meter=name, wiring="3P4W") for name in METER_NAMES]
)


def row(name: str, at: float, volts: float = 230.0) -> Row:
    """A reading `quarters` quarter-hours after the start."""
    phase_volts = np.array([[volts], [230.0], [230.0]])
    [columns] = reading_columns(
        np.full((3, 1), 2.0), phase_volts, phase_volts / 500, QUARTER_SECONDS
    )
    return Row(
        Readings,
        "A1",
        name,
        START_TIME + round(QUARTER_SECONDS * at),
        columns | {"register": np.nan},
    )


def others(at: float) -> list[Row]:
    return [row("M1", at), row("M2", at)]


def alerts_however_cut(rows: Iterable[Row]) -> list[tuple[str, int, int]]:
    """The alerts of a stream over days, the same row by row and all at once."""
    stream = Stream([THREE_METER_AREA], tuple(rows), "Asia/Shanghai", QUARTER_SECONDS)
    unbroken, alerts = judge_stream(stream)
    single, singly = judge_stream(stream, range(len(stream.rows)))
    assert exactly(singly) == exactly(alerts)
    assert single.counts == unbroken.counts
    return [
        (alert.change, alert.since, alert.at)
        for alert in alerts
        if alert.rule == "voltage_loss"
    ]


def test_late_reading_joins_only_where_one_is_missing():
    """The gap is one interval between close readings, days after a gap that is given up."""

    def rows(*gap: int) -> Iterable[Row]:
        for k in range(1, 150):
            yield from others(k)
            if k == 135:
                yield row("M0", k + 0.001, 100)
            elif k not in gap:
                yield row("M0", k)
            if k == 140:
                yield row("M0", 134.5, 100)

    assert alerts_however_cut(rows(20)) == []
    assert len(alerts_however_cut(rows(20, 134))) == 2  # raised and cleared


def test_second_late_reading_finds_the_gap_filled_by_the_first():
    def rows(*late: float) -> Iterable[Row]:
        for k in range(1, 40):
            yield from others(k)
            if k not in (20, 21):
                yield row("M0", 22.002 if k == 22 else k, 100 if k == 22 else 230)
            if k == 25:
                yield from (row("M0", at, 100) for at in late)

    [(_, since, _), _] = alerts_however_cut(rows(19.9, 20.4))
    assert since == START_TIME + round(19.9 * QUARTER_SECONDS)
    [(_, since, _), _] = alerts_however_cut(rows(20.4, 19.9))
    assert since == START_TIME + round(20.4 * QUARTER_SECONDS)


def test_clock_that_is_set_back_ends_the_reorder_buffer_of_its_leap():
    def rows() -> Iterable[Row]:
        for k in range(1, 60):
            if k == 10:
                yield from [row("M0", k), *others(k), *others(k + 0.1)]
                yield from [
                    row("M0", k + LEAP_QUARTERS),
                    row("M0", k + LEAP_QUARTERS + 0.1),
                    *others(k + 0.2),
                    row("M0", k + 0.3),
                ]
                continue

            yield from others(k)
            if k not in (30, 31, 32):
                yield row("M0", k, 100 if k > 35 else 230)
            if k == 50:
                yield from (row("M0", at, 100) for at in (30, 31, 32))

    assert START_TIME + 36 * QUARTER_SECONDS in {
        since for change, since, _ in alerts_however_cut(rows()) if change == "raised"
    }
