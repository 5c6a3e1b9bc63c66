"""Mappings: data of others, renamed, in other units and phases, give the rows that the project's own layout gives."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay import layout
from replay.history import Tally
from replay.mapping.areas import AreaLookup
from replay.mapping.expressions import ExpressionError, parsed
from replay.mapping.file import MappingError, mapping_of
from replay.mapping.known_mappings import known_mappings
from replay.mapping.rows import RowMapper
from replay.simulation.town import Town
from replay.sources import SourceError, open_source, open_sources
from replay.tables import Sheet
from schemas.columns import Event, Payments, Readings
from schemas.master import Area, Meter

SMALL_TOWN = Town(60, 1)
TOWN_READINGS = Readings.join(list(SMALL_TOWN.readings()))
TOWN_TABLE = layout.table_of(TOWN_READINGS)
NEEDED_COLUMNS = 'meter = "deviceId"\nat = "ts"\nkwh = "used"\n'  # of a mapping that needs nothing else


def rows(batches):
    """The rows of batches as sorted tuples, whatever their numbering and order."""
    found: list[tuple[str, ...]] = []
    for batch in batches:
        names = batch.encodings()
        columns = []
        for column in fields(batch):
            if column.name in names:
                continue

            values = getattr(batch, column.name)
            words = [words for words, codes in names.items() if codes == column.name]
            if words:
                spelt = getattr(batch, words[0])
                columns.append([spelt[code] for code in values.tolist()])
            else:
                columns += [list(map(str, row)) for row in np.atleast_2d(values)]
        found += zip(*columns, strict=True)
    return sorted(found)


def write(folder, name, table):
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)


def opened(folder, text, *others):
    (folder / "columns.toml").write_text(text)
    return open_sources([folder / "columns.toml", *others])


def test_a_mapping_reads_what_the_reader_of_a_layout_reads(tmp_path):
    path = Path(__file__).parent / "data" / "sgsc_4households_halfhourly.parquet"
    source = opened(
        tmp_path,
        f'files = "{path.as_posix()}"\nzone = "Etc/GMT-10"\n[columns]\n'
        'meter = "customer_id"\narea = { value = "SGSC" }\n'
        'at = "reading_datetime"\nkwh = "general_supply_kwh"\n',
    )
    readings = Readings.join(list(source.batches))
    assert len(readings) > 10_000
    # the reader leaves out rows without energy
    known = readings.select(~np.isnan(readings.kwh))
    assert rows([known]) == rows(open_source(path).batches)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_renamed_and_reunited_town_is_the_same(tmp_path, ending):
    theirs = TOWN_TABLE.rename_columns(
        [f"their {name}" for name in TOWN_TABLE.column_names]
    )
    for name, factor in {
        "their kwh": 1000,
        "their register": 1024,
        "their ua": 0.125,
    }.items():
        place = theirs.column_names.index(name)
        moved = np.asarray(theirs[name], np.float64) * factor
        theirs = theirs.set_column(place, name, pa.array(moved, from_pandas=True))
    write(tmp_path, f"export.{ending}", theirs)

    computed = {
        "kwh": '{ from = "`their kwh`", unit = "Wh" }',
        "register": '"`their register` / 1024"',
        "ua": '"8 * `their ua`"',
    }
    plain = {name: f'"`their {name}`"' for name in TOWN_TABLE.column_names}
    columns = [f"{name} = {source}" for name, source in (plain | computed).items()]
    text = f'files = "*.{ending}"\n[columns]\n' + "\n".join(columns)
    source = opened(tmp_path, text)
    assert rows(source.batches) == rows([TOWN_READINGS])
    assert not source.rejected


def test_a_town_with_a_row_a_phase_is_the_same(tmp_path):
    # a reading that comes twice would become one
    keys = np.stack([TOWN_READINGS.subject, TOWN_READINGS.at])
    once = TOWN_READINGS.select(np.unique(keys, axis=1, return_index=True)[1])
    table = layout.table_of(once)
    tables = []
    for letter, word in zip("abc", ("L1", "L2", "L3"), strict=True):
        columns = {
            name: table[name]
            for name in table.column_names
            if not name.endswith(("a", "b", "c")) or name == "area"
        }
        columns |= {stem: table[f"{stem}{letter}"] for stem in "uipq"}
        columns["phase"] = pa.array([word] * len(table))
        for stem in ("thd", "u_angle"):
            columns[stem] = table[f"{stem}{letter}"]
        tables.append(pa.table(columns))
    theirs = pa.concat_tables(tables)
    write(tmp_path, "export.parquet", theirs)

    names = [name for name in theirs.column_names if name != "phase"]
    mapped = "\n".join(f'{name} = "{name}"' for name in names)
    text = (
        f'files = "export.parquet"\n[columns]\n{mapped}\n'
        '[phases]\ncolumn = "phase"\nA = ["L1"]\nB = ["L2"]\nC = ["L3"]\n'
    )
    source = opened(tmp_path, text)
    assert rows(source.batches) == rows([once])
    assert not source.rejected


def test_a_value_of_a_phase_that_comes_twice_is_counted(tmp_path):
    (tmp_path / "a.csv").write_text(
        "m,area,at,phase,volts\n1,A,2024-03-01 00:15,A,230\n"
        "1,A,2024-03-01 00:15,A,231\n1,A,2024-03-01 00:15,B,232\n1,A,2024-03-01 00:15,X,9\n"
    )
    text = 'files = "a.csv"\n[columns]\nmeter = "m"\narea = "area"\nat = "at"\nu = "volts"\n'
    text += '[phases]\ncolumn = "phase"\n'
    source = opened(tmp_path, text)
    (batch,) = source.batches
    assert batch.u.T.tolist() == [[231, 232, pytest.approx(np.nan, nan_ok=True)]]
    assert source.rejected == {
        "a value of a phase comes twice for one meter and time": 1,
        "the phase is none of the mapping's words": 1,
    }


def test_areas_are_looked_up_by_the_time_of_the_row(tmp_path):
    layout.write_areas(
        tmp_path / "areas.jsonl",
        [
            Area(area="A", meters=[Meter(meter="1"), Meter(meter="2")]),
            Area(area="B", meters=[Meter(meter="2", effective=1_709_290_000)]),
        ],
    )
    (tmp_path / "a.csv").write_text(
        "deviceId,ts,used\n1,1709251200,1\n2,1709251200,2\n2,1709337600,3\n9,1709251200,4\n"
    )
    text = f'files = "a.csv"\narea = "registry"\nregistry = "areas.jsonl"\n[columns]\n{NEEDED_COLUMNS}'
    source = opened(tmp_path, text)
    (batch,) = source.batches
    found = [
        (batch.names[meter], batch.areas[area], float(kwh))
        for meter, area, kwh in zip(batch.subject, batch.area, batch.kwh, strict=True)
    ]
    assert sorted(found) == [("1", "A", 1), ("2", "A", 2), ("2", "B", 3)]
    assert source.rejected == {"no area of the registry has the meter or customer": 1}
    assert [area.area for area in source.areas] == ["A", "B"]

    listed = opened(
        tmp_path,
        text.replace('registry = "areas.jsonl"\n', ""),
        tmp_path / "areas.jsonl",
    )
    assert rows(listed.batches) == rows([batch])


@pytest.mark.parametrize("coded", [False, True])
def test_a_row_whose_subject_is_missing_is_refused_where_the_area_is_looked_up(coded):
    mapping = mapping_of(
        'topic = "t"\nkind = "events"\narea = "registry"\n'
        '[columns]\nmeter = "m"\nat = "t"\nevent = "e"\n',
        "columns.toml",
    )
    texts = pa.array(["m1", "", "  ", None])
    meters = texts.dictionary_encode() if coded else texts
    cells = {"m": meters, "t": [1_709_251_200] * 4, "e": ["cover_open"] * 4}
    sheet = Sheet(pa.table(cells), "", Tally())
    assert len(RowMapper(mapping).rows(sheet)) == 1
    assert sheet.tally.rejected == {"meter is missing": 3}


def test_a_meter_that_comes_back_is_in_its_first_area_again():
    lookup = AreaLookup(
        [
            Area(
                area="A",
                meters=[
                    Meter(meter="m", until=100),
                    Meter(meter="m", effective=200),
                ],
            ),
            Area(
                area="B",
                meters=[
                    Meter(meter="m", effective=100, until=200),
                    Meter(meter="n", until=200),
                ],
            ),
            Area(area="C", meters=[Meter(meter="n", effective=200)]),
        ]
    )

    subjects, at = [1, 0, 1, 0, 1, 0], [50, 50, 150, 150, 250, 250]
    rows = Readings.build(["m", "n", "x"], subjects, ["?"], [0] * 6, at)
    located, is_known = lookup.located(rows)
    assert is_known.all()
    assert "".join(located.areas[code] for code in located.area) == "BABBCA"


def test_a_meter_that_leaves_an_area_is_in_it_no_more():
    lookup = AreaLookup([Area(area="A", meters=[Meter(meter="1")], gateway="G")])
    batch = Readings.build(["1", "G"], [0, 1], ["?"], [0, 0], [1_709_251_200] * 2)
    assert lookup.located(batch)[1].tolist() == [True, True]
    lookup.enroll(Area(area="A", meters=[Meter(meter="2")]))
    assert lookup.located(batch)[1].tolist() == [False, False]


def test_payments_are_looked_up_by_customer_and_words_are_translated(tmp_path):
    layout.write_areas(
        tmp_path / "areas.jsonl",
        [Area(area="A", meters=[Meter(meter="1", customer="C")])],
    )
    (tmp_path / "a.csv").write_text(
        "who,when,what,fen,ok\nC,1.3.2024,入账,1250,Y\nC,2.3.2024,x,1,N\n"
    )
    source = opened(
        tmp_path,
        'files = "a.csv"\nkind = "payments"\narea = "registry"\nregistry = "areas.jsonl"\nzone = "Asia/Shanghai"\n'
        '[columns]\ncustomer = "who"\nat = "when"\npayment = "what"\nsucceeded = "ok"\n'
        'amount = { from = "fen", unit = "fen" }\nchannel = { value = "bank" }\n'
        '[words.payment]\n"入账" = "payment"\n[words.succeeded]\nY = "true"\nN = "0"\n',
    )

    (batch,) = source.batches
    assert isinstance(batch, Payments)
    assert batch.amount.tolist() == [12.5]
    assert batch.at.tolist() == [1_709_222_400]  # midnight of 1 March in Shanghai
    assert batch.channels[batch.channel[0]] == "bank"
    assert batch.succeeded.tolist() == [1]
    assert source.zone == "Asia/Shanghai"
    assert source.rejected == {"payment is no known word": 1}


def test_events_are_mapped_by_the_codes_of_a_system(tmp_path):
    (tmp_path / "a.csv").write_text(
        "who,station,when,code\n1,A,1709251200,301B\n1,A,1709251200,3106\n1,A,1709251200,9999\n"
    )
    source = opened(
        tmp_path,
        'files = "a.csv"\nkind = "events"\n[columns]\nmeter = "who"\narea = "station"\nat = "when"\n'
        'event = { from = "code", system = "dlt698.45" }\n',
    )

    (batch,) = source.batches
    found = [
        (batch.names[who], Event(event))
        for who, event in zip(batch.subject, batch.event, strict=True)
    ]
    assert found == [("1", Event.COVER_OPEN), ("", Event.POWER_OFF)]
    assert source.rejected == {"event is no known word": 1}


def test_nested_fields_of_json_lines_and_parquet(tmp_path):
    nested = [
        {"id": 7, "body": {"ts": 1_709_251_200_000_000_000, "volts": [230.5, 231.5]}},
        {"id": "8", "body": {"ts": "2024-03-01T00:15:00Z", "volts": [229]}},
        {"id": 9, "body": {"ts": None}},
        {"id": 10, "body": {"ts": 1_709_251_200, "volts": [{"deep": 1}]}},
    ]
    lines = "\n".join(map(json.dumps, nested)) + "\n[not json\n[1, 2]\n"
    (tmp_path / "a.jsonl").write_text(lines)
    columns = '[columns]\nmeter = "id"\narea = { value = "A" }\nat = "body.ts"\n'
    columns += 'ua = "body.volts[0]"\nub = "body.volts[1]"\n'
    source = opened(tmp_path, f'files = "a.jsonl"\nformat = "json"\n{columns}')
    batch = Readings.join(list(source.batches))
    found = {
        batch.names[who]: at
        for who, at in zip(batch.subject, batch.at.tolist(), strict=True)
    }
    assert found == {"7": 1_709_251_200, "8": 1_709_252_100, "10": 1_709_251_200}
    assert source.rejected == {
        "at is missing": 1,
        "the line is no JSON": 1,
        "the row is no JSON object": 2,
        "body.volts[0] is no plain value": 1,
    }
    assert source.tally.first["the row is no JSON object"] == "a.jsonl record 5"

    pq.write_table(pa.Table.from_pylist(nested[:1]), tmp_path / "a.parquet")
    source = opened(tmp_path, f'files = "a.parquet"\n{columns}')
    (batch,) = source.batches
    assert batch.u[:2].T.tolist() == [[230.5, 231.5]]


def test_rows_within_a_record_have_the_fields_around_them(tmp_path):
    record = {
        "id": "7",
        "sent": 1,
        "data": {
            "rows": [{"ts": 1_709_251_200, "v": 1}, {"ts": 1_709_252_100, "v": 2}, 3]
        },
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    source = opened(
        tmp_path,
        'files = "a.jsonl"\nformat = "json"\nrows = "data.rows"\n'
        '[columns]\nmeter = "id"\narea = { value = "A" }\nat = "ts"\nkwh = "v"\n',
    )

    (batch,) = source.batches
    assert batch.kwh.tolist() == [1, 2]
    assert source.rejected == {"the row is no JSON object": 1}


def test_a_number_that_cannot_be_computed_is_counted(tmp_path):
    (tmp_path / "a.csv").write_text(
        "deviceId,ts,used,by\n1,1709251200,1,0\n2,1709251200,0,0\n3,1709251200,,1\n4,1709251200,1e11,1e-9\n5,1709251200,x,1\n"
    )
    columns = NEEDED_COLUMNS.replace('"used"', '"used / by"')
    source = opened(
        tmp_path, f'files = "a.csv"\n[columns]\narea = {{ value = "A" }}\n{columns}'
    )
    (batch,) = source.batches
    assert np.isnan(batch.kwh).all()
    assert source.rejected == {
        "kwh is larger than any quantity": 3,
        "used is no number": 1,
    }


def test_a_header_below_other_lines_and_a_column_that_is_missing(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Export of March\n\ndeviceId;ts;used\n1;01.03.2024 00:15;1,5\n2;31.03.2024 00:15;2,5\n"
    )
    text = f'files = "a.csv"\n[columns]\narea = {{ value = "A" }}\n{NEEDED_COLUMNS}'
    (batch,) = opened(tmp_path, text).batches
    assert batch.kwh.tolist() == [1.5, 2.5]

    (tmp_path / "a.csv").write_text("deviceID,ts,used\n1,1709251200,1\n")
    with pytest.raises(SourceError, match="no column deviceId; did you mean deviceID"):
        opened(tmp_path, text)


def test_a_workbook_is_mapped(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    for row in (["Export"], ["deviceId", "ts", "used"], ["1", "2024-03-01 00:15", 1.5]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    text = f'files = "a.xlsx"\n[columns]\narea = {{ value = "A" }}\n{NEEDED_COLUMNS}'
    (batch,) = opened(tmp_path, text).batches
    assert batch.kwh.tolist() == [1.5]


FAULTY_MAPPINGS = {
    'topic = "t"\nfiles = "x"': "line 1: a mapping has either",
    'topik = "t"': r"line 1: there is no entry `topik`; did you mean topic\?",
    'topic = "t"\n\nformat = "arvo"': "line 3: `format` is 'arvo'; known are json, avro, protobuf",
    'topic = "t"\nformat = "avro"': "line 2: avro needs `schema_registry`",
    'topic = "t"\nschema_registry = "file:///x"': "line 2: `schema_registry` is no address",
    'topic = "t"\nkind = "reading"': "line 2: `kind` is 'reading'; did you mean readings",
    'topic = "t"\nzone = "Nowhere"': "line 2: `zone` is 'Nowhere'",
    'topic = "t"\narea = "register"': 'line 2: `area` is "registry" or absent',
    'topic = "t"\nregistry = "x"': "line 2: `registry` is a file",
    "topic = 1": "line 1: `topic` is no text",
    'files = "x"\nrows = "y"': "line 2: `rows` needs",
    'topic = "t"\n[columns]\nmetre = "x"': r"line 3: there is no column of readings `metre`; did you mean meter\?",
    'topic = "t"\n[columns]\nkwh = { from = "x", unit = "wH" }': r"line 3: `kwh` cannot be in 'wH'; did you mean Wh\?",
    'topic = "t"\n[columns]\nmeter = { from = "x", unit = "Wh" }': "line 3: `meter` cannot be in 'Wh'; the column has",
    'topic = "t"\n[columns]\nmeter = "x + 1"': "line 3: `meter` is no number",
    'topic = "t"\n[columns]\nkwh = "x +"': "line 3: `kwh`: 'x \\+' is neither",
    'topic = "t"\n[columns]\nkwh = 1': "line 3: `kwh` is no name, expression",
    'topic = "t"\n[columns]\nkwh = { from = "x", value = "1" }': "line 3: `kwh` has either",
    'topic = "t"\n[columns.kwh]\nform = "x"': r"line 2: `kwh` has `form`; did you mean from\?",
    'topic = "t"\nkind = "events"\n[columns]\nevent = { from = "x", system = "gfx" }': "line 4: .*mean gxf",
    'topic = "t"\n[columns]\nstatus = "x"\n[words.status]\nE = "estimate"': "line 5: there is no word `estimate`",
    'topic = "t"\n[words.status]\nE = "estimated"': "line 2: .words.status.: status is not mapped",
    'topic = "t"\n[columns]\nat = "x"': "line 2: `meter` is not mapped",
    'topic = "t"\n[columns]\nmeter = "m"\narea = "a"\nat = "x"': "line 2: no column with a value",
    'topic = "t"\n[columns]\nua = "m"\n[phases]\ncolumn = "p"': "line 4: .phases. needs a column of a phase",
    'topic = "t"\n[columns]\nu = "m"\n[phases]\ncolumn = "p"\nA = "L1"': "line 6: `A` is no list",
    'topic = "t"\n[phases]\nA = ["L1"]': "line 2: .phases. has no `column`",
    'topic = "t"\n[phases]\ncolumn = "p"': "line 2: .phases. of a topic needs `rows`",
    "topic = ": "Invalid value",
    'topic = "t"\nclock = "Nowhere"': "line 2: `clock` is 'Nowhere'",
    'topic = "t"\ndates = "year"': "line 2: `dates` is 'year'; known are day and month",
    'topic = "t"\nempty = "x"': "line 2: `empty` is no list of texts",
    'topic = "t"\nneeded = ["kwh"]\n[columns]\nkhw = "x"': "line 2: `needed`: kwh is no number that is mapped",
    'files = "x"\n[times]\nvalue = "x"': r"line 3: there is no entry `value`",
    'files = "x"\n[times]\ncell = "a b"': "line 2: .times. has no `cell`",
    'files = "x"\n[columns]\nkwh = "y"\n[times]\ncell = "x"': "line 5: .times.: no column is made of `x`",
    'topic = "t"\n[times]\ncell = "x"': "line 2: .times.: only a table",
    'files = "x"\n[columns]\nat = { day = "d", time = "t" }\n[times]\ncell = "x"': "line 4: .times.: `at` is a day",
    'files = "x"\n[columns]\nat = { day = "d" }': "line 3: `at` has either `from`, or `day` and `time`",
    'files = "x"\n[columns]\nat = { from = "d", plus = "15" }': "line 3: `plus` is '15', which is no duration",
    'files = "x"\n[columns]\nat = { from = "d", unit = "s" }': "line 3: `at` has `unit`",
    'files = "x"\n[columns]\nat = { day = "d", time = "t + 1" }': "line 3: `at`: 't . 1' is no name",
    'files = "x"\n[columns]\nkwh = ["a", 1]': "line 3: `kwh` is no list of names",
    'files = "x"\n[columns]\nkwh = ["a", "b + 1"]': "line 3: `kwh`: 'b . 1' is no name",
    'files = "x"\nformat = "json"\n[columns]\nkwh = ["a", "b"]': "line 4: `kwh`: only a table has a header",
    'files = "x"\narea = "registry"\n[meters]\nun_v = 230': "line 3: .meters. makes records of readings",
    'files = "x"\n[meters]\ninterval_s = 900': "line 2: `un_v` is no number from 1",
    'files = "x"\n[meters]\nun_v = 230\ninterval_s = true': "line 4: `interval_s` is no number from 60",
    'files = "x"\n[meters]\nvolts = 230': "line 3: there is no entry `volts`",
}


@pytest.mark.parametrize(
    ("text", "fault"), FAULTY_MAPPINGS.items(), ids=range(len(FAULTY_MAPPINGS))
)
def test_each_fault_has_its_line(text, fault):
    with pytest.raises(MappingError, match=fault):
        mapping_of(text, "columns.toml")


@pytest.mark.parametrize(
    "text",
    ["", "1", "1 + 2", "a ** 2", "a.b()", "f(a)", "__import__('os')", "a if b else c", "[a]", "a[b]", "a[True]", "'x'",
     "lambda: a", "a := 1",
     "(" * 150 + "a" + ")" * 150, "a + 1e999", "a + 0x" + "f" * 280, "-" * 400 + "a", "a @ b", "a; b",
     "`a", "KWH/hh (per half hour)", "a + True", "a\x00"],
)  # fmt: skip
def test_nothing_but_arithmetic_is_an_expression(text):
    with pytest.raises(ExpressionError):
        parsed(text)


@given(st.text(alphabet="ab12.+-*/()[]` _,:'\"\\\n", max_size=40))
def test_any_text_is_an_expression_or_refused(text):
    try:
        expression = parsed(text)
    except ExpressionError:
        return
    columns = {path: np.array([1.0, 0.0, np.nan, -1e300]) for path in expression.paths}
    assert expression.evaluate(columns).shape == (4,)


KNOWN_FILES = {
    "low_carbon_london.toml": "layouts/london.csv",
    "smart_grid_smart_city.toml": "sgsc_4households_halfhourly.parquet",
    "uci_household_power.toml": "layouts/household_power.txt",
}


@pytest.mark.parametrize("known", known_mappings(), ids=lambda known: known.name)
def test_a_copy_of_a_known_mapping_reads_what_the_project_reads(tmp_path, known):
    path = Path(__file__).parent / "data" / KNOWN_FILES[known.name]
    source, copy = open_source(path), opened(tmp_path, known.text_for(path.as_posix()))
    assert list(source.read_as.values()) == [known.title]
    assert rows(copy.batches) == rows(source.batches)
    assert copy.rejected == source.rejected
    assert (copy.zone, copy.interval) == (source.zone, source.interval)
    assert copy.areas == source.areas != []


def test_a_mapping_of_a_folder_reads_all_its_files(tmp_path):
    half = len(TOWN_TABLE) // 2
    write(tmp_path, "1.parquet", TOWN_TABLE.slice(0, half))
    write(tmp_path, "2.parquet", TOWN_TABLE.slice(half))
    columns = "\n".join(f'{name} = "{name}"' for name in TOWN_TABLE.column_names)
    source = opened(tmp_path, f'files = "*.parquet"\n[columns]\n{columns}')
    assert rows(source.batches) == rows([TOWN_READINGS])
    assert rows(open_source(tmp_path / "1.parquet").batches) == rows(
        [TOWN_READINGS.select(slice(0, half))]
    )

    with pytest.raises(SourceError, match="there is no such file"):
        opened(tmp_path, f'files = "*.csv"\n[columns]\n{columns}')
