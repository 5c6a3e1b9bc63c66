"""Open days: the contents of an area's windows, whatever its meters' intervals and wiring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detectors.engine import Engine
from detectors.rule import Level, Rule
from models.master.registry import Registry
from models.state.index import Index
from models.state.packing import packed, unpacked
from schemas.columns import AreaDays, Intervals, Readings, Status
from schemas.master import Area, Meter, Transformer

START_TIME = 1_761_926_400  # a midnight in Shanghai
STEP_SECONDS = 300


class Probe(Rule):
    """A rule that records its columns and raises nothing."""

    seen: list[dict[str, np.ndarray]]

    def score(self, columns, missing):
        self.seen.append({name: np.array(column) for name, column in columns.items()})
        return np.zeros(len(columns["at"]))


def windows(kind, area, readings, **settings):
    """The closed windows of one kind that an engine judges."""
    probe = Probe(
        "probe", kind, (Level(1, 4, 0),), 0, 0.9, len, (), {}, ("", ""), ("", ""), ()
    )
    object.__setattr__(probe, "seen", [])
    engine = Engine([probe], **settings)
    engine.enroll([area])
    for batch in readings:
        engine.step(batch)
    return {
        name: np.concatenate([days[name] for days in probe.seen], axis=-1)
        for name in probe.seen[0]
    }


def area(*meters: Meter, gateway: str = "") -> Area:
    return Area(
        area="A1",
        gateway=gateway,
        transformers=[Transformer(rating_kva=100)],
        meters=list(meters),
    )


def slots(names, step, count, **columns):
    """One reading of every meter per step; a column is a number or one per meter, and a register grows."""
    for k in range(1, count + 1):
        step_columns = {}
        for name, value in columns.items():
            flat = np.broadcast_to(np.asarray(value, float), (len(names),))
            step_columns[name] = (
                np.broadcast_to(flat, (3, len(names)))
                if name in ("u", "i", "p", "q")
                else flat * k ** (name == "register")
            )

        rows = len(names)
        yield Readings.build(
            names,
            range(rows),
            ["A1"],
            [0] * rows,
            [START_TIME + k * step] * rows,
            **step_columns,
        )


def test_a_user_counts_once_an_interval_however_often_it_is_read():
    four = [
        Meter(meter=f"M{n}", wiring="3P4W", interval_s=STEP_SECONDS) for n in range(4)
    ]
    columns = windows(
        Intervals,
        area(*four),
        slots([meter.meter for meter in four], STEP_SECONDS, 12, u=220.0, i=10.0),
    )
    assert columns["kva"] == pytest.approx(np.full(len(columns["kva"]), 4 * 3 * 2.2))
    assert (columns["coverage"] == 1).all()


def test_exported_energy_belongs_to_the_meters_interval():
    meters = [
        Meter(meter="G", wiring="3P4W", interval_s=3600),
        Meter(meter="M", interval_s=3600, pv_kva=5.0),
    ]
    readings = slots(["G", "M"], 3600, 30, kwh=[4.0, 4.0], p=[1.0, -1.0])
    columns = windows(AreaDays, area(*meters, gateway="G"), readings)
    # the energy in and the user's export
    assert columns["energy_in"].tolist() == [24 * (4.0 + 3 * 1.0)]
    assert columns["energy_out"].tolist() == [96.0]


def test_a_meter_of_registers_alone_has_a_day_of_energy():
    meters = [Meter(meter="G"), Meter(meter="M")]
    readings = slots(["G", "M"], 900, 110, register=[2.0, 1.9])
    columns = windows(AreaDays, area(*meters, gateway="G"), readings)
    # there is no register before the first
    assert columns["energy_in"] == pytest.approx([95 * 2.0])
    assert columns["energy_out"] == pytest.approx([95 * 1.9])
    assert columns["coverage"] == pytest.approx([95 / 96])


# while the day is open, and when it has closed
@pytest.mark.parametrize("after", [40, 104])
def test_late_register_adds_the_energy_on_both_sides_to_its_day(after):
    steps = list(slots(["G", "M"], 900, 130, register=[2.0, 1.9]))
    late, steps[9] = steps[9].select([1]), steps[9].select([0])
    steps.insert(after, late)
    columns = windows(
        AreaDays, area(Meter(meter="G"), Meter(meter="M"), gateway="G"), steps
    )
    assert columns["energy_out"][-1] == pytest.approx(95 * 1.9)
    assert columns["coverage"][-1] == pytest.approx(95 / 96)


# while the day is open, and when it has closed
@pytest.mark.parametrize("after", [40, 120])
def test_a_measured_reading_replaces_an_estimate(after):
    both = [Meter(meter="G"), Meter(meter="M")]
    steps = list(slots(["G", "M"], 900, 130, kwh=[2.0, 1.0]))
    steps[9] = replace(
        steps[9], status=np.array([Status.MEASURED, Status.ESTIMATED], np.uint8)
    )
    measured = replace(steps[9].select([1]), status=np.zeros(1, np.uint8))
    steps.insert(after, measured)
    columns = windows(AreaDays, area(*both, gateway="G"), steps)
    assert columns["energy_out"][-1] == 96.0
    assert columns["coverage"][-1] == 1


@pytest.mark.parametrize("decimals", [0, 1, 2, 3, 4, 5, 9])
def test_packed_day_unpacks_exactly(decimals):
    rng = np.random.default_rng(decimals)
    kwh = np.round(rng.exponential(2, (100, 30)), decimals).astype(np.float32)
    kwh[rng.random(kwh.shape) < 0.1] = np.nan
    kwh[:, 0] = np.nan
    kwh[3, 1] = 60_000.125
    kwh[4, 2:5] = [-0.5, -0.01, -0.001]
    reads = rng.integers(0, 97, 30).astype(np.int32)
    cells: dict[str, Any] = {
        "kwh": kwh,
        "reads": reads,
        "gateway": rng.normal(0, 9, (4, 100)),
    }
    restored = unpacked(packed(cells))
    for name, array in cells.items():
        assert restored[name].dtype == array.dtype
        assert np.array_equal(restored[name], array, equal_nan=name != "reads")

    assert len(packed({"kwh": kwh})) < kwh.nbytes


def test_newest_master_data_replaces_earlier():
    registry, first = Registry(Index(), Index()), np.array([0])
    for contract in (3.0, 5.0):
        registry.enroll([area(Meter(meter="M", contract_kva=contract))])
        rows = registry.meters.rows_in_force(first, np.array([START_TIME]))
        assert registry.meters.columns_of(rows)["contract_kva"].tolist() == [contract]


def test_last_of_several_records_of_an_area_counts():
    """As on a topic that is not compacted yet."""
    first = Area(area="A1", meters=[Meter(meter="M1"), Meter(meter="M2")])
    last = Area(
        area="A1", meters=[Meter(meter="M2"), Meter(meter="M3"), Meter(meter="M4")]
    )
    second_area = Area(area="A2", meters=[Meter(meter="M5")])
    together, separate = Engine(), Engine()
    together.enroll([first, second_area, last])
    for area in (first, second_area, last):
        separate.enroll([area])
    for name in ("sizes", "_area_of", "_connected"):
        np.testing.assert_array_equal(
            getattr(together.registry, name), getattr(separate.registry, name)
        )

    assert together.registry.members == separate.registry.members
    assert together.registry.sizes.tolist() == [3, 1]
