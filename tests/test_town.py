"""The simulated town: the same for the same arguments, physically consistent, and quiet without planted faults."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from msgspec.structs import replace

from replay.history import SourceError
from replay.simulation.attacks import ALL_ATTACKS, attacked
from replay.simulation.decoys import decoys
from replay.simulation.faults import ALL_FAULTS
from replay.simulation.happenings import BLOCK_SLOTS, Happening, RecordChange
from replay.simulation.network import SLOT_SECONDS, START_TIME
from replay.simulation.physics import REPEATED_SHARE
from replay.simulation.town import Town, named_town
from schemas.columns import Readings
from schemas.units import DAY_SECONDS


@pytest.fixture(scope="module")
def quiet():
    return Town(400, 3, seed=5, faults=False)


@pytest.fixture(scope="module")
def table(quiet):
    """All readings as columns of the shape (slots, rows) or (3, slots, rows)."""
    return laid_out(quiet)


def laid_out(town):
    slots, rows = town.days * 96, len(town.grid)
    table = {}
    for name, shape in (
        ("register", (slots, rows)),
        ("kwh", (slots, rows)),
        ("export_register", (slots, rows)),
        *(
            (name, (slots, rows))
            for name in ("neutral", "terminal_p", "flags", "frequency", "demand")
        ),
        *((f"register_{name}", (slots, rows)) for name in ("peak", "flat", "valley")),
        *((name, (3, slots, rows)) for name in ("u", "i", "p", "q", "thd")),
    ):
        table[name] = np.full(shape, np.nan)

    for batch in town.readings():
        slot = (batch.at - town.start) // SLOT_SECONDS - 1
        for name, column in table.items():
            column[..., slot, batch.subject] = getattr(batch, name)

    return table


def test_same_arguments_give_the_same_town_to_the_last_bit():
    first, second = (list(Town(150, 2, seed=3).batches()) for _ in range(2))
    assert len(first) == len(second)
    for earlier, later in zip(first, second, strict=True):
        assert type(earlier) is type(later)
        for field in fields(earlier):
            np.testing.assert_array_equal(
                getattr(earlier, field.name), getattr(later, field.name)
            )
    assert (
        Town(150, 2, seed=4).grid.mean_kw.tolist()
        != Town(150, 2, seed=3).grid.mean_kw.tolist()
    )


def test_batches_come_in_event_time_order_across_kinds():
    batches = list(Town(400, 2).batches())
    hours = [
        np.unique(
            (batch.at - (batch.kind == "readings")) // (SLOT_SECONDS * BLOCK_SLOTS)
        ).tolist()
        for batch in batches
    ]

    assert all(len(hours_of_batch) == 1 for hours_of_batch in hours)
    assert hours == sorted(hours)
    assert {batch.kind for batch in batches} == {
        "readings",
        "events",
        "payments",
        "stages",
    }


def test_number_of_rows_is_about_the_announced_one(quiet):
    rows = sum(len(batch) for batch in quiet.readings())
    assert abs(rows - quiet.rows) < 0.02 * quiet.rows
    assert rows < len(quiet.grid) * 96 * 3


def test_some_readings_are_duplicates():
    town = Town(400, 3)
    keys = [
        (batch.subject.astype(np.int64) << 32) + batch.at % 2**32
        for batch in town.readings()
    ]
    every = np.concatenate(keys)
    repeated = len(every) - len(np.unique(every))
    assert 0 < repeated < 4 * REPEATED_SHARE * len(every)


def test_apparent_power_is_voltage_times_current(table):
    apparent_kva, ui = np.hypot(table["p"], table["q"]), table["u"] * table["i"] / 1000
    big = ui > 0.2
    assert np.nanmax(np.abs(apparent_kva - ui)[big] / ui[big]) < 0.02


def test_a_neutral_carries_the_vector_sum_of_its_phases(quiet, table):
    grid = quiet.grid
    single_phase = ~(grid.three | grid.gateway)
    np.testing.assert_allclose(
        table["neutral"][:, single_phase], table["i"][0][:, single_phase]
    )

    lag = (
        np.arctan2(table["q"], table["p"]) + 2 * np.pi / 3 * np.arange(3)[:, None, None]
    )
    amps = np.abs((table["i"] * np.exp(-1j * lag)).sum(axis=0))
    np.testing.assert_allclose(
        table["neutral"][:, ~single_phase],
        amps[:, ~single_phase],
        atol=0.006,
        rtol=0.02,
    )


def test_a_terminal_measures_what_its_meter_measures(quiet, table):
    through = quiet.grid.ratio > 1
    assert np.isnan(table["terminal_p"][:, ~through]).all()
    power = table["p"].sum(axis=0)[:, through]
    assert np.nanmax(np.abs(table["terminal_p"][:, through] / power - 1)) < 0.02


def test_supply_is_within_normal_limits(table):
    present = ~np.isnan(table["kwh"])
    assert (table["flags"][present] == 0).all()
    assert np.nanmax(np.abs(table["frequency"] - 50)) < 0.15
    assert 0.5 < np.nanmin(table["thd"]) < np.nanmax(table["thd"]) < 4
    assert (np.isnan(table["thd"]) == np.isnan(table["u"])).all()


def test_interval_energy_is_power_times_time_and_registers_follow(quiet, table):
    power = np.nansum(table["p"], axis=0)
    read = ~np.isnan(table["kwh"])
    np.testing.assert_allclose(
        table["kwh"][read], np.maximum(power, 0)[read] / 4, atol=2e-4
    )
    steps = np.diff(table["register"], axis=0)
    falls = np.argwhere(steps < 0)
    changed = {
        happening.notices[0].subject
        for happening in quiet.happenings
        if happening.before and happening.notices
    }
    names = {
        quiet.grid.names[row]
        for slot, row in falls
        if table["register"][slot, row] < 999_000
    }

    assert names <= changed

    both = ~np.isnan(steps) & (steps >= 0)
    np.testing.assert_allclose(steps[both], table["kwh"][1:][both], atol=0.0102)


def test_the_gateway_counts_the_users_and_the_lines_losses(quiet, table):
    grid = quiet.grid
    energy = table["p"] * grid.ratio / 4
    energy[np.isnan(energy)] = 0
    read = ~np.isnan(table["kwh"])
    for k in range(len(grid.areas)):
        rows = grid.area == k
        complete = read[:, rows].mean(axis=1) == 1
        got = energy[:, complete][:, :, rows & grid.gateway].sum()
        used = energy[:, complete][:, :, rows & ~grid.gateway].sum()
        assert 0.01 < (got - used) / got < 0.045


def test_quiet_town_stays_within_normal_limits(quiet, table):
    grid = quiet.grid
    assert quiet.planted == []
    assert np.nanmin(table["u"]) > 205
    assert np.nanmax(table["u"]) < 235
    contract = (
        np.hypot(np.nansum(table["p"], axis=0), np.nansum(table["q"], axis=0))
        * grid.ratio
        / grid.contract_kva
    )
    assert np.nanmax(contract) < 1
    three = table["i"][:, :, grid.three]
    assert np.nanmax(np.abs(three / three.mean(axis=0) - 1)) < 0.2
    assert np.nanmin(table["p"][0][:, grid.pv_kw == 0]) >= 0


def test_every_kind_of_fault_is_planted_and_shows_in_the_meters():
    town = Town(3000, 12)
    kinds = {fault.kind for fault in town.planted}
    assert kinds >= {
        "voltage_loss",
        "phase_break",
        "current_loss",
        "reverse_polarity",
        "meter_current_unbalance",
        "area_load_unbalance",
        "voltage_deviation",
        "transformer_overload",
        "over_contract_capacity",
        "meter_stopped",
        "register_decrease",
        "zero_usage",
        "theft",
        "card_refused",
        "channel_fails",
        "arrears",
        "stalled_stage",
        "read_failure",
        "clock_drift",
        "all_voltage_loss",
        "reverse_sequence",
        "wrong_wiring_vector",
        "neutral_phase_mismatch",
        "neutral_current_high",
        "meter_voltage_unbalance",
        "power_differential",
        "relay_mismatch",
        "energy_ratio_error",
    }
    assert all(
        town.start < fault.start < fault.end <= town.end for fault in town.planted
    )

    subjects = [fault.subject for fault in town.planted if fault.subject]
    assert len(subjects) == len(set(subjects))


def test_crossed_currents_lag_by_a_third_of_a_turn_more_and_less():
    town = Town(800, 5)
    (fault,) = [fault for fault in town.planted if fault.kind == "wrong_wiring_vector"]
    row, table = town.grid.names.index(fault.subject), laid_out(town)
    slots = slice(
        (fault.start - town.start) // SLOT_SECONDS,
        (fault.end - town.start) // SLOT_SECONDS,
    )

    lag = np.degrees(np.arctan2(table["q"], table["p"]))[:, slots, row]
    load = np.degrees(np.arctan(town.grid.tan[row]))
    np.testing.assert_allclose(
        np.nanmean(lag, axis=1), [load + 120, load - 120, load], atol=0.5
    )

    power = np.hypot(table["p"], table["q"])[:, slots, row] * 1000
    np.testing.assert_allclose(
        power, (table["u"] * table["i"])[:, slots, row], rtol=0.02
    )


def test_theft_is_missing_at_the_users_and_present_at_the_gateway():
    town = Town(300, 8)
    (theft,) = [fault for fault in town.planted if fault.kind == "theft"]
    grid, kwh = town.grid, laid_out(town)["kwh"]
    share = np.nan_to_num(kwh * grid.ratio)
    rows = grid.area == grid.areas.index(theft.area)
    first = (theft.start - town.start) // SLOT_SECONDS

    def loss(slots):
        got, used = (
            share[slots][:, rows & chosen].sum()
            for chosen in (grid.gateway, ~grid.gateway)
        )
        return (got - used) / got

    assert loss(slice(0, first)) < 0.05
    assert loss(slice(first, None)) > 0.1


def test_town_is_made_from_its_name():
    town = named_town("town:60x1:9")
    assert town is not None
    assert town.name == "town:60x1:9"
    quiet = named_town("quiet-town:60x1")
    assert quiet is not None
    assert not quiet.planted
    assert named_town("readings.parquet") is None
    with pytest.raises(SourceError, match="at least 50 meters"):
        named_town("town:3x1")


def test_tariffs_registers_add_up_to_the_total_and_demand_is_the_highest_power(
    quiet, table
):
    rich = quiet.grid.three & (quiet.grid.ratio > 1)
    tariffs = sum(table[f"register_{name}"] for name in ("peak", "flat", "valley"))
    assert np.isnan(tariffs[:, ~rich]).all()
    difference = np.abs(table["register"] - tariffs)[:, rich] % 1e6
    assert np.nanmax(np.minimum(difference, 1e6 - difference)) < 0.04
    valley = table["register_valley"][:, rich]
    moved = np.nanmax(valley, axis=0) - np.nanmin(valley, axis=0)
    night = np.array([(slot // 4) % 24 % 23 < 7 for slot in range(len(table["kwh"]))])
    np.testing.assert_allclose(
        moved, np.nansum(table["kwh"][night][:, rich], axis=0), rtol=0.05
    )
    highest = np.fmax.accumulate(4 * table["kwh"], axis=0)[-1]
    assert (np.nanmax(table["demand"][:, rich], axis=0) >= highest[rich] - 1e-3).all()


def test_gateways_measure_the_temperature_and_homes_use_more_on_colder_days():
    town = Town(600, 12, seed=2, faults=False)
    homes = (town.grid.segment == 0) & ~town.grid.gateway
    degrees, used = np.full((2, 12), 0.0)
    for batch in town.readings():
        day = (int(batch.at[0]) - 1 - town.start) // DAY_SECONDS
        present = ~np.isnan(batch.temperature)
        assert (present == town.grid.gateway[batch.subject]).all()
        degrees[day] += batch.temperature[present].mean() / 24
        used[day] += batch.kwh[homes[batch.subject]].sum()
    assert np.all((degrees > 3) & (degrees < 13))
    weekdays = np.arange(12) % 7 < 5
    assert np.corrcoef(degrees[weekdays], used[weekdays])[0, 1] < -0.9


def test_changed_master_data_has_a_further_record():
    filed = RecordChange(
        "A001",
        "M000001",
        START_TIME + 3600,
        lambda meter: replace(meter, ct=2 * meter.ct),
    )
    town = Town(60, 2, faults=False)
    town.happenings.append(
        Happening(START_TIME, START_TIME + 7200, record_change=filed)
    )
    records = [
        (meter.effective - town.start, meter.ct)
        for meter in town.areas[0].meters
        if meter.meter == "M000001"
    ]

    (_, usual), *later = records
    assert later == [(3600, 2 * usual), (7200, usual)]


def test_every_kind_of_fault_occurs_and_no_decoy_is_a_fault():
    town = Town(2000, 21, kinds=ALL_FAULTS)
    kinds = {planted.kind for planted in town.planted}
    assert kinds >= {fault.kind for fault in ALL_FAULTS.meters}
    stepped = {fault.subject for fault in town.planted if fault.kind == "ct_ratio_step"}
    changed = {
        meter.meter
        for area in town.areas
        for meter in area.meters
        if meter.effective > town.start
    }
    assert stepped <= changed

    tricky = Town(400, 45, kinds=decoys(town.grid))
    assert not tricky.planted
    kinds = {fault.kind for fault in decoys(town.grid).meters}
    assert {decoy.kind for decoy in tricky.decoys} >= kinds


def test_master_data_matches_the_readings(quiet):
    meters = {meter.meter for area in quiet.areas for meter in area.meters}
    assert meters == set(quiet.grid.names)
    assert all(
        area.gateway in {meter.meter for meter in area.meters} for area in quiet.areas
    )

    for batch in quiet.batches():
        if isinstance(batch, Readings):
            records = [meter for area in quiet.areas for meter in area.meters]
            three = np.array([meter.wiring == "3P4W" for meter in records])
            assert (np.isnan(batch.u[1]) == ~three[batch.subject]).all()
            break


@pytest.mark.parametrize("kind", ALL_ATTACKS)
def test_an_attack_takes_energy_from_the_meter_and_none_from_the_gateway(kind):
    honest, town = (Town(60, 2, seed=2, faults=False) for _ in range(2))
    grid = town.grid
    row = int(np.argmax(np.where(grid.three | grid.gateway, 0, grid.mean_kw)))
    happening = attacked(grid, kind, row, (town.start, town.end), 1)
    town.happenings.append(happening)
    honest_kwh, attacked_kwh = (
        np.nansum(laid_out(each)["kwh"], axis=0) for each in (honest, town)
    )
    untouched = np.arange(len(grid)) != row
    np.testing.assert_array_equal(honest_kwh[untouched], attacked_kwh[untouched])

    assert happening.planted
    assert happening.planted.subject == grid.names[row]

    # h5 and h6 keep the amount and change the curve
    least, most = (0.8, 1.2) if kind in ("h5", "h6") else (0.05, 0.95)
    assert least < attacked_kwh[row] / honest_kwh[row] < most
