"""The registry follows a utility's own database: rows to areas, the diff, what is sent, and what is gone."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from replay.history import Tally
from replay.master_data.changes import changes
from replay.master_data.checking import problems
from replay.master_data.merging import merged, standing_meters
from replay.master_data.queries import KNOWN_COLUMNS, QueriesError, load
from replay.master_data.rows import selected
from schemas.master import Area, Meter, Tariff, Tier, Transformer
from streams.cli import main
from streams.kafka.registry_topic import held_areas
from streams.settings import Settings
from tests.postgres import postgres

CHINA_ZONE = "Asia/Shanghai"
START_OF_DAY = 1_772_380_800  # 2026-03-02 00:00 there
NEXT_DAY = START_OF_DAY + 86_400

UTILITY_TABLES = """
CREATE TABLE tq (tq_no TEXT, org TEXT, line TEXT, gw TEXT, kva NUMERIC);
CREATE TABLE meter (tq_no TEXT, asset TEXT, cons TEXT, ratio NUMERIC, wiring TEXT, put_in DATE, out_at DATE);
CREATE TABLE cons (cons_no TEXT, class TEXT, kva NUMERIC, price TEXT);
CREATE TABLE price (code TEXT, flat NUMERIC, steps TEXT);
INSERT INTO tq VALUES ('T1', 'S1', 'L1', 'G1', 400), ('T2', 'S1', 'L2', NULL, 250);
INSERT INTO meter VALUES
 ('T1', 'G1', NULL, 80, '3P4W', '2020-01-01', NULL),
 ('T1', 'M1', 'C1', 1, '1P2W', '2020-01-01', NULL),
 ('T1', 'M2', 'C2', 20, '3P4W', '2021-06-01', NULL),
 ('T2', 'M3', 'C3', 1, '1P2W', '2020-01-01', NULL);
INSERT INTO cons VALUES ('C1', 'residential', NULL, 'res'), ('C2', 'commercial', 100, 'biz'),
 ('C3', 'residential', 8, 'res');
INSERT INTO price VALUES ('res', 0.5283, '[{"above_kwh": 2760, "extra": 0.05}]'), ('biz', 0.72, NULL);
"""
QUERIES_FILE = '''
url = "{url}"
areas = "SELECT tq_no AS area, org AS section, line AS feeder, gw AS gateway, kva AS rating_kva FROM tq ORDER BY 1"
meters = """
SELECT tq_no AS area, asset AS meter, cons AS customer, ratio AS ct, wiring, put_in AS effective, out_at AS until
FROM meter WHERE asset LIKE '%%' OR asset <> ':no' ORDER BY asset"""
customers = "SELECT cons_no AS customer, class AS segment, kva AS contract_kva, price AS tariff FROM cons"
tariffs = "SELECT code AS tariff, flat, steps AS tiers FROM price"
'''


def at(day: date) -> int:
    return int(
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(CHINA_ZONE)).timestamp()
    )


def tables(tally=None, **rows):
    """What rows of tables give."""
    columns = {
        table: frozenset(name for row in found for name in row)
        for table, found in rows.items()
    }
    return selected(rows, columns, CHINA_ZONE, tally or Tally())


def test_rows_become_areas_with_what_stands_in_the_files_of_customers():
    found = tables(
        areas=[
            {
                "area": "T1",
                "section": "S",
                "rating_kva": Decimal(400),
                "effective": None,
            },
            {"area": "T1", "rating_kva": 630, "effective": date(2026, 3, 2)},
        ],
        meters=[
            {
                "area": "T1",
                "meter": 7,
                "customer": "C",
                "ct": "20",
                "effective": "2020-01-01",
            },
            {
                "area": "T3",
                "meter": "0008",
                "until": datetime(2026, 3, 1, 16, tzinfo=UTC),
            },
        ],
        customers=[{"customer": "C", "segment": " commercial ", "tariff": "biz"}],
        tariffs=[
            {"tariff": "biz", "flat": 0.7, "tiers": '[{"above_kwh": 9, "extra": 1}]'}
        ],
    )
    assert found.areas == {
        "T1": Area(
            area="T1",
            section="S",
            transformers=[
                Transformer(rating_kva=400),
                Transformer(rating_kva=630, effective=START_OF_DAY),
            ],
            meters=[
                Meter(
                    meter="7",
                    customer="C",
                    ct=20,
                    effective=at(date(2020, 1, 1)),
                    segment="commercial",
                    tariff="biz",
                )
            ],
            tariffs=[
                Tariff(tariff="biz", flat=0.7, tiers=[Tier(above_kwh=9, extra=1)])
            ],
        ),
        "T3": Area(area="T3", meters=[Meter(meter="0008", until=START_OF_DAY)]),
    }


def test_dates_that_mean_always_and_never_are_open():
    rows = [
        {
            "area": "A",
            "meter": "M",
            "effective": date(1900, 1, 1),
            "until": date(9999, 12, 31),
        }
    ]
    assert tables(meters=rows).areas["A"].meters == [Meter(meter="M")]


def test_bad_rows_are_counted_by_reason_with_the_first_place():
    tally = Tally()

    found = tables(
        tally,
        areas=[{"area": None}, {"area": "A", "rating_kva": -1}],
        meters=[
            {"area": "A", "meter": "M1", "segment": "居民"},
            {"area": "A", "meter": "M2", "segment": "商业"},
            {"area": "A", "meter": "M3", "ct": "many"},
            {"area": "A", "meter": ""},
            {"area": "", "meter": "M4"},
            {"area": "A", "meter": "M5"},
            {"area": "A", "meter": "M5"},
            {"area": "A", "meter": "M6", "effective": "soon"},
            {"area": "A", "meter": "M7\x00"},
            {"area": "A", "meter": "1.23E+11"},
        ],
        customers=[{"customer": ""}, {"customer": "C"}, {"customer": "C"}],
        tariffs=[
            {"tariff": "t", "flat": "cheap"},
            {"tariff": "t", "flat": 1, "tiers": "{"},
        ],
    )
    assert [meter.meter for meter in found.areas["A"].meters] == ["M5", "M7"]
    assert tally.rejected == {
        "areas: area is missing": 1,
        "areas: rating_kva: Expected `float` > 0.0": 1,
        "meters: segment: no known word": 2,
        "meters: ct: no number": 1,
        "meters: meter is missing": 2,
        "meters: area is missing": 1,
        "meters: a second row of the same meter and time": 1,
        "meters: effective is no time": 1,
        "customers: customer is missing": 1,
        "customers: a second row of a customer": 1,
        "tariffs: flat: no number": 1,
        "tariffs: Input data was truncated": 1,
    }
    assert tally.first["meters: segment: no known word"] == "row 1: '居民'"
    assert ("A", "M3") in found.refused
    assert ("", "M4") in found.refused


@pytest.mark.parametrize(
    "cell",
    [
        b"M",
        memoryview(b"M"),
        [1],
        {"a": 1},
        timedelta(1),
        Decimal("Infinity"),
        Decimal("sNaN"),
    ],
)
@pytest.mark.parametrize("column", ["area", "meter", "until", "ct", "customer"])
def test_a_cell_that_is_no_plain_value_refuses_its_row(cell, column):
    tally = Tally()
    found = tables(tally, meters=[{"area": "A", "meter": "M"} | {column: cell}])
    meters = [meter for area in found.areas.values() for meter in area.meters]
    if column == "customer" and isinstance(cell, Decimal):
        assert meters == [Meter(meter="M")]
    else:
        assert meters == []
        assert tally.rejected.total() == 1


ANY_CELLS = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.booleans(),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(st.data())
def test_any_cell_is_taken_or_refuses_its_row(data):
    """Whatever a driver gives as a value, the areas that come of it can be published and read."""
    rows = {
        table: data.draw(
            st.lists(st.dictionaries(st.sampled_from(known), ANY_CELLS), max_size=4)
        )
        for table, known in KNOWN_COLUMNS.items()
    }
    found = tables(**rows)
    after = merged({}, found, START_OF_DAY)
    assert changes({}, after) is not None
    for area in after.values():
        assert msgspec.json.decode(msgspec.json.encode(area), type=Area) == area


def test_a_meter_in_two_areas_at_once_is_refused_in_both_and_stays_as_it_is():
    tally = Tally()
    rows = [
        {"area": "A", "meter": "M1"},
        {"area": "B", "meter": "M1"},
        {"area": "A", "meter": "M2", "until": date(2026, 1, 1)},
        {"area": "B", "meter": "M2"},
    ]
    found = tables(tally, meters=rows)
    assert tally.rejected == {"meters: stands in several areas at once": 2}
    held = {"B": Area(area="B", meters=[Meter(meter="M1", ct=2)])}
    after = merged(held, found, START_OF_DAY)
    assert [meter.meter for meter in after["A"].meters] == ["M2"]
    assert [meter.meter for meter in after["B"].meters] == ["M1", "M2"]
    assert after["B"].meters[0] == Meter(meter="M1", ct=2)


def test_a_meter_whose_customer_has_no_row_stays_as_it_is():
    tally = Tally()
    held = {"A": Area(area="A", meters=[Meter(meter="M", customer="C", credit="B")])}
    found = tables(
        tally,
        meters=[{"area": "A", "meter": "M", "customer": "C"}],
        customers=[{"customer": "D", "credit": "A"}],
    )
    assert merged(held, found, START_OF_DAY) == held
    assert tally.rejected == {"meters: no row of customers has its customer": 1}


def held_after(rows, held, today=START_OF_DAY, **others):
    return merged(held, tables(meters=rows, **others), today)


def meter_changes(held, after):
    return {
        change.subject: (change.change, change.since, change.fields)
        for change in changes(held, after)
    }


def test_a_change_without_a_date_is_a_further_record_from_today_on():
    held = {"A": Area(area="A", meters=[Meter(meter="M", credit="B")])}
    after = held_after([{"area": "A", "meter": "M", "ct": 20}], held)
    assert after["A"].meters == [
        Meter(meter="M", credit="B"),
        Meter(meter="M", credit="B", ct=20, effective=START_OF_DAY),
    ]
    assert meter_changes(held, after) == {
        "meter M": ("changed", START_OF_DAY, {"ct": (1.0, 20.0)})
    }
    assert held_after([{"area": "A", "meter": "M", "ct": 20}], after, NEXT_DAY) == after

    again = held_after([{"area": "A", "meter": "M", "ct": 30}], after)
    assert [meter.ct for meter in again["A"].meters] == [1, 30]


def test_records_with_dates_are_taken_as_given_and_earlier_ones_stay():
    first, second = at(date(2020, 1, 1)), at(date(2024, 1, 1))
    held = {
        "A": Area(
            area="A",
            meters=[
                Meter(meter="M", effective=first),
                Meter(meter="M", effective=second, ct=5),
            ],
        )
    }

    rows = [{"area": "A", "meter": "M", "effective": date(2024, 1, 1), "ct": 20}]
    after = held_after(rows, held)
    assert [(meter.effective, meter.ct) for meter in after["A"].meters] == [
        (first, 1),
        (second, 20),
    ]
    assert held_after(rows, after, NEXT_DAY) == after


def test_a_meter_that_is_gone_is_ended_once_and_one_that_is_back_stands_again():
    held = {
        "A": Area(area="A", meters=[Meter(meter="M1"), Meter(meter="M2")]),
        "B": Area(area="B", meters=[Meter(meter="M3")]),
    }
    rows = [{"area": "A", "meter": "M1"}]
    after = held_after(rows, held)
    assert after["A"].meters == [
        Meter(meter="M1"),
        Meter(meter="M2", until=START_OF_DAY),
    ]
    assert after["B"].meters == [Meter(meter="M3", until=START_OF_DAY)]
    assert meter_changes(held, after) == {
        "meter M2": ("ended", START_OF_DAY, {"until": (0, START_OF_DAY)}),
        "meter M3": ("ended", START_OF_DAY, {"until": (0, START_OF_DAY)}),
    }
    assert held_after(rows, after, NEXT_DAY) == after

    back = held_after([*rows, {"area": "A", "meter": "M2"}], after, NEXT_DAY)
    assert back["A"].meters[1:] == [
        Meter(meter="M2", until=START_OF_DAY),
        Meter(meter="M2", effective=NEXT_DAY),
    ]


def test_a_meter_stands_by_its_latest_record_in_an_area():
    areas = [
        Area(
            area="A",
            meters=[
                Meter(meter="ended", effective=100, until=START_OF_DAY),
                Meter(meter="ended"),
                Meter(meter="moved", until=200),
                Meter(meter="back", until=200),
                Meter(meter="back", effective=300),
                Meter(meter="ending", until=NEXT_DAY),
            ],
        ),
        Area(area="B", meters=[Meter(meter="moved", effective=200)]),
    ]
    assert standing_meters(areas, START_OF_DAY) == {"moved", "back", "ending"}


def test_a_meter_that_moves_is_ended_in_one_area_and_begins_in_the_other():
    held = {"A": Area(area="A", meters=[Meter(meter="M")])}
    after = held_after([{"area": "B", "meter": "M"}], held)
    assert after["A"].meters == [Meter(meter="M", until=START_OF_DAY)]
    assert after["B"].meters == [Meter(meter="M", effective=START_OF_DAY)]


def test_an_end_that_the_database_gives_is_no_further_record():
    held = {"A": Area(area="A", meters=[Meter(meter="M")])}
    after = held_after([{"area": "A", "meter": "M", "until": date(2026, 2, 1)}], held)
    assert after["A"].meters == [Meter(meter="M", until=at(date(2026, 2, 1)))]


@pytest.mark.parametrize(
    ("refused", "ended"),
    [
        ({"area": "A", "meter": "M1", "segment": "?"}, {"M2", "M3"}),
        ({"area": "A", "meter": ""}, {"M3"}),
        ({"area": "", "meter": ""}, set()),
        ({"area": "", "meter": "M3"}, {"M1", "M2"}),
    ],
)
def test_a_refused_row_ends_no_meter_that_it_may_be_about(refused, ended):
    held = {
        "A": Area(area="A", meters=[Meter(meter="M1"), Meter(meter="M2")]),
        "B": Area(area="B", meters=[Meter(meter="M3")]),
    }
    after = held_after([refused], held)
    gone = {
        meter.meter for area in after.values() for meter in area.meters if meter.until
    }
    assert gone == ended


def test_what_no_table_gives_stays_as_it_is():
    held = {
        "A": Area(
            area="A",
            section="S",
            gateway="G",
            transformers=[Transformer(rating_kva=400)],
            tariffs=[Tariff(tariff="t", flat=1)],
            meters=[Meter(meter="M", until=NEXT_DAY)],
        ),
        "work": Area(area="work"),
    }
    assert (
        merged(held, tables(areas=[{"area": "A", "section": "S"}]), START_OF_DAY)
        == held
    )
    assert held_after([{"area": "A", "meter": "M"}], held) == held

    after = merged(
        held,
        tables(areas=[{"area": "A", "feeder": "F", "rating_kva": 630}]),
        START_OF_DAY,
    )
    transformers = [
        *held["A"].transformers,
        Transformer(rating_kva=630, effective=START_OF_DAY),
    ]
    assert after["A"] == replace(held["A"], feeder="F", transformers=transformers)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            "url = 'x'\nmeter = 'SELECT'\n",
            [
                " line 2: there is no `meter`; did you mean `meters`?",
                "neither `areas` nor",
            ],
        ),
        ("areas = 'SELECT'", ["`url` names no database"]),
        (
            "url='x'\nareas='S'\ntariffs=3",
            [" line 3: `tariffs` is no text", " line 3: `tariffs` needs `meters`"],
        ),
        ("url = \nareas = 1", ["line 1"]),
    ],
)
def test_every_fault_of_a_file_of_queries_is_named_with_its_line(
    text, faults, tmp_path
):
    file = tmp_path / "queries.toml"
    file.write_text(text)
    with pytest.raises(QueriesError) as raised:
        load(file)
    assert all(fault in str(raised.value) for fault in faults), raised.value


def test_problems_of_a_file_of_areas_are_found_line_by_line(tmp_path):
    file = tmp_path / "areas.jsonl"
    file.write_text(
        '{"area": "A", "gateway": "G", "meters": [{"meter": "M", "tariff": "t", "ct": 20}, {"meter": "M"}]}\n'
        "\n"
        '{"area": "B", "meters": [{"meter": "M"}, {"meter": "N", "effective": 9, "until": 8, "wiring": "3P4W", '
        '"phase": "A", "ib_a": 90}]}\n'
        '{"area": "A"}\n'
        '{"area": 3}\n'
        '{"area": "fine", "meters": [{"meter": "M9"}]}\n'
    )
    assert [(problem.line, problem.text) for problem in problems(file)] == [
        (1, "A: the gateway meter G has no record"),
        (1, "A: meter M has 2 records that are effective at 0"),
        (1, "A: tariff t has no prices"),
        (1, "A: meter M: a single-phase meter has a current transformer of 20"),
        (3, "B: meter N: it ends at 8, before it is effective at 9"),
        (3, "B: meter N: a 3P4W meter hangs on phase A alone"),
        (3, "B: meter N: its basic current 90 A is above its largest, 60 A"),
        (3, "B: meter M stands in A too, line 1"),
        (4, "A stands in line 1 already"),
        (5, "the line is no area: Expected `str`, got `int` - at `$.area`"),
    ]


def test_an_area_that_no_topic_takes_is_a_problem(tmp_path):
    meters = [Meter(meter=f"m{number}") for number in range(40_000)]
    file = tmp_path / "areas.jsonl"
    file.write_bytes(msgspec.json.encode(Area(area="A", meters=meters)))
    assert [found.text for found in problems(file)] == [
        f"A: its record has {file.stat().st_size:,} bytes, and a topic takes 16 MiB"
    ]


def test_a_registry_without_a_topic_is_named(command):
    code, _, errors = command("registry", "dump")
    assert code == 2
    assert "`meterwatch topics` creates it" in errors


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The URL of a database with the tables, and a function that changes it."""
    if request.param == "postgresql":
        with postgres() as server:
            server.execute(UTILITY_TABLES)
            yield server.sqlalchemy_url, server.execute
        return
    file = tmp_path / "utility.db"

    def execute(statements):
        with sqlite3.connect(file) as connection:
            connection.executescript(statements)
        connection.close()

    execute(UTILITY_TABLES)
    yield f"sqlite:///{file}", execute


@pytest.fixture
def command(monkeypatch, capfdbinary, tmp_path, environment):
    """Runs a command; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meterwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        output, errors = capfdbinary.readouterr()
        return int(ended.value.code or 0), output.decode(), errors.decode()

    return run


def test_the_registry_follows_a_database(
    command, database, settings: Settings, tmp_path
):
    url, execute = database
    (tmp_path / "queries.toml").write_text(QUERIES_FILE.format(url=url))

    def sync(*options):
        code, output, errors = command("registry", "sync", "queries.toml", *options)
        assert code == 0, errors
        return output

    def held():
        return asyncio.run(held_areas(settings))[0]

    dry = sync()
    assert "+ T1: new, 3 meters" in dry
    assert "2 added in 2 areas; nothing is sent without --send" in dry
    assert held() == {}
    assert "2 added in 2 areas; sent" in sync("--send")
    assert sync("--send") == "nothing differs from the registry\n"

    first = held()
    assert first["T1"].gateway == "G1"
    assert first["T1"].transformers == [Transformer(rating_kva=400)]
    assert first["T1"].tariffs[0].tiers == [Tier(above_kwh=2760, extra=0.05)]
    assert first["T1"].meters[2] == Meter(
        meter="M2",
        customer="C2",
        ct=20,
        wiring="3P4W",
        effective=at(date(2021, 6, 1)),
        segment="commercial",
        contract_kva=100,
        tariff="biz",
    )

    execute(
        "UPDATE cons SET kva = 160 WHERE cons_no = 'C2';"
        "DELETE FROM meter WHERE asset = 'M3';"
        "INSERT INTO meter VALUES ('T2', 'M4', 'C1', 1, '2P2W', '2026-01-01', NULL)"
    )
    code, output, errors = command(
        "registry", "sync", "queries.toml", "--send", "--json"
    )
    assert code == 0, errors
    found = json.loads(output)
    subjects = {change["subject"]: change["change"] for change in found["changes"]}
    assert subjects == {"meter M2": "changed", "meter M3": "ended"}
    assert found["refused"] == [
        "meters: wiring: no known word 1, first at row 4: '2P2W'"
    ]
    assert held()["T2"].meters[0].until > 0
    assert "M4" not in {meter.meter for meter in held()["T2"].meters}
    assert sync("--send") == "nothing differs from the registry\n"

    code, output, _ = command("registry", "show", "M3")
    assert code == 0
    assert output.startswith("area T2: section S1, feeder L2\n")
    assert "  meter M3: customer C3, effective 2020-01-01 00:00, until " in output
    code, output, _ = command("registry", "dump")
    assert len(output.splitlines()) == 2
    assert command("registry", "show", "M9")[0] == 2

    execute("DELETE FROM meter")
    code, _, errors = command("registry", "sync", "queries.toml", "--send")
    assert code == 2
    assert "queries.toml: no rows of meters, which would end them" in errors
    assert "3 ended in 1 areas" in sync("--allow-ends")


def test_a_select_that_would_end_most_meters_is_sent_only_if_allowed(
    command, database, settings: Settings, tmp_path
):
    url, execute = database
    rows = ", ".join(
        f"('T2', 'N{number}', NULL, 1, '1P2W', NULL, NULL)" for number in range(21)
    )
    execute(f"INSERT INTO meter VALUES {rows}")  # noqa: S608 - numbers
    (tmp_path / "queries.toml").write_text(QUERIES_FILE.format(url=url))
    sync = ("registry", "sync", "queries.toml")
    assert command(*sync, "--send")[0] == 0

    execute("UPDATE meter SET tq_no = 'T1' WHERE asset LIKE 'N%'")
    code, output, errors = command(*sync, "--send")
    assert (code, errors) == (0, "")  # meters that move are not ended
    assert "21 added, 21 ended in 2 areas; sent" in output

    execute("DELETE FROM meter WHERE asset LIKE 'N%'")
    fault = "21 of the 25 meters would be ended; --allow-ends if that is so"
    code, output, errors = command(*sync)
    assert (code, errors) == (0, f"{fault}\n")
    assert "21 ended in 1 areas; nothing is sent without --send" in output
    code, _, errors = command(*sync, "--send")
    assert code == 2
    assert fault in errors
    held = asyncio.run(held_areas(settings))[0]
    assert [meter for meter in held["T1"].meters if meter.until] == []
    assert "21 ended in 1 areas; sent" in command(*sync, "--send", "--allow-ends")[1]


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (
            "kva AS contract_kva",
            "kva AS contract_kw",
            "line 7: `customers` has no column `contract_kw`; did you mean `contract_kva`?",
        ),
        ("asset AS meter, ", "", "line 4: `meters` lacks the column `meter`"),
        ("FROM price", "FROM prices", "line 8: `tariffs`: no such table: prices"),
        ("sqlite:", "sqlight:", "line 2: `url`: "),
    ],
)
def test_a_select_that_cannot_be_used_is_named_with_its_line(
    before, after, fault, command, tmp_path
):
    file = tmp_path / "utility.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(UTILITY_TABLES)
    connection.close()
    text = QUERIES_FILE.format(url=f"sqlite:///{file}").replace(before, after)
    (tmp_path / "queries.toml").write_text(text)
    code, _, errors = command("registry", "sync", "queries.toml")
    assert code == 2
    assert fault in errors


def test_what_readers_infer_can_be_written_as_areas(command, tmp_path):
    (tmp_path / "reads.csv").write_text(
        "LCLid,DateTime,KWH/hh (per half hour)\nM1,2013-01-01 00:30:00,0.5\n"
    )
    code, output, _ = command("registry", "dump", "reads.csv")
    assert code == 0
    (tmp_path / "areas.jsonl").write_text(output)
    assert json.loads(output)["area"] == "LCL"
    assert command("registry", "check", "areas.jsonl")[0] == 0
    (tmp_path / "areas.jsonl").write_text(output * 2)
    code, output, _ = command("registry", "check", "areas.jsonl")
    assert code == 1
    assert "areas.jsonl line 2: LCL stands in line 1 already" in output
