"""`meterwatch map`: the mapping it guesses, what it shows, and what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from replay.mapping.file import KINDS_BY_NAME, MappingError, mapping_of
from replay.sources import SourceError, open_source
from schemas.columns import Readings
from streams.cli import app
from streams.local.runner import identity
from streams.map_command import guess

FIRST_TIME = 1_709_251_200


def run(*arguments):
    return CliRunner().invoke(app, ["map", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_csv(folder):
    """Two meters by the quarter-hour; the third row has no time."""
    lines = [
        "deviceId;when read;Voltage L1 (V);I1;kWhDelivered;used (Wh);energy;phaseAngel"
    ]
    for k in range(50):
        at = "?" if k == 2 else FIRST_TIME + k // 2 * 900
        lines.append(f"m{k % 2};{at};230,5;{k};{100 + k};{k % 7};{k};1")
    (folder / "ami.csv").write_text("\n".join(lines).replace("when read", "read_time"))


def test_a_table_is_guessed_checked_and_read(folder):
    write_csv(folder)
    shown = run("ami.csv")
    assert shown.exit_code == 0, shown.output
    mapping = mapping_of((folder / "columns.toml").read_text(), "columns.toml")
    guessed = {
        name: (next(iter(column.expression.paths.values())), str(column.factor))
        for name, column in mapping.columns.items()
        if column.expression
    }
    assert guessed == {
        "meter": (("deviceId",), "1"),
        "at": (("read_time",), "1"),
        "ua": (("Voltage L1 (V)",), "1"),
        "ia": (("I1",), "1"),
        "register": (("kWhDelivered",), "1"),
        "kwh": (("used (Wh)",), "1/1000"),
    }
    assert mapping.area_from_registry
    assert "50 rows, 49 accepted by columns.toml" in shown.output
    assert "refused: at is no time 1" in shown.output
    assert "2 ids are in no area of the registry" in shown.output
    assert "phaseAngel" in shown.output
    assert "rules can judge this" in shown.output

    again = run("ami.csv")
    assert "columns.toml exists" in str(again.exception)
    checked = run("columns.toml", "--check", 10, "--json")
    found = json.loads(checked.output)
    assert (found["checked"], found["accepted"]) == (10, 9)

    text = (folder / "columns.toml").read_text().replace('area = "registry"\n', "")
    (folder / "columns.toml").write_text(text + 'area = { value = "A" }\n')
    rows = sum(map(len, open_source(folder / "columns.toml").batches))
    assert rows == 49


def test_nested_rows_of_json_lines_are_found(folder):
    record = {
        "head": {"station": "S"},
        "deviceId": "m1",
        "values": [
            {
                "ts": FIRST_TIME + 900 * k,
                "volts": {"l1": 230},
                "active_energy_wh": k * 10,
            }
            for k in range(3)
        ],
    }
    (folder / "ami.jsonl").write_text(json.dumps(record) + "\n{broken\n")
    shown = run("ami.jsonl", "--out", "new.toml")

    assert shown.exit_code == 0, shown.output
    mapping = mapping_of((folder / "new.toml").read_text(), "new.toml")
    assert (mapping.rows, mapping.format) == (("values",), "json")
    assert mapping.paths["volts.l1"] == ("volts", "l1")
    assert mapping.columns["kwh"].factor.denominator == 1000
    assert "3 rows, 3 accepted" in shown.output
    assert "the line is no JSON 1" in shown.output


@pytest.mark.parametrize(
    ("header", "ours", "unit"),
    [
        ("V1", "ua", ""),
        ("voltage_b", "ub", ""),
        ("U L3 (kV)", "uc", "kV"),
        ("Current Phase 2", "ib", ""),
        ("active_power_w", "pa", "W"),
        ("kWh", "kwh", ""),
        ("importKwhTotal", "register", ""),
        ("energy_export_wh", "export_register", "Wh"),
        ("电表局编号", "meter", ""),
        ("frequency", "frequency", ""),
        ("phase", "", ""),
        ("comment", "", ""),
        ("load.volts[0]", "ua", ""),
        ("load.volts[1]", "ub", ""),
        ("watts[2]", "pc", "W"),
        ("vars[0]", "qa", "var"),
        ("volts[3]", "", ""),
        ("tsMs", "at", ""),
        ("neutralAmps", "neutral", ""),
        ("mHz", "frequency", "mHz"),
    ],
)
def test_a_name_means_a_column(header, ours, unit):
    import pyarrow as pa

    from replay.history import Tally
    from replay.mapping.guess import guessed_columns
    from replay.tables import Sheet

    (found,) = guessed_columns(Sheet(pa.table({header: ["1"]}), "", Tally()))
    assert (found.ours, found.unit) == (ours, unit)


def test_a_column_of_known_ids_comes_before_one_that_is_named_so(folder):
    import pyarrow as pa

    from replay.history import Tally
    from replay.mapping.guess import guessed_columns
    from replay.tables import Sheet

    columns = {"device": ["EM340", "EM340", "EM24"], "no": [" m1", "m2", "other"]}
    sheet = Sheet(pa.table(columns), "", Tally())
    guessed = {found.theirs: found.ours for found in guessed_columns(sheet)}
    assert guessed == {"device": "meter", "no": ""}
    found = guessed_columns(sheet, known_ids={"m1", "m2", "m3"})
    assert {column.theirs: column.ours for column in found} == {
        "no": "meter",
        "device": "",
    }
    assert guessed_columns(sheet, known_ids={"m1"})[0].theirs == "device"


def test_a_guess_says_how_to_go_on_and_shows_values_and_words(folder):
    lines = ["account,txType,when,fen,note"]
    lines += [f"c{k},INV,2026-03-0{k + 1}T00:00:00,100,n{k}" for k in range(3)]
    (folder / "pay.csv").write_text("\n".join(lines))
    shown = run("pay.csv", "--kind", "payments")
    text = (folder / "columns.toml").read_text()
    assert 'amount = { from = "fen", unit = "fen" }' in text
    assert '# not known: "note", such as "n0", "n1", "n2"' in text
    assert "[words.payment]  # bill, payment, topup, balance, settlement" in text
    assert '# "INV" = ""' in text
    assert "payment is no known word 3" in str(run("columns.toml").exception)

    (folder / "columns.toml").write_text(text.replace('# "INV" = ""', '"INV" = ""'))
    fault = str(run("columns.toml").exception)
    assert "there is no word ``; known are bill, payment, topup" in fault
    (folder / "columns.toml").write_text(text.replace('# "INV" = ""', 'INV = "bill"'))
    shown = run("columns.toml")
    assert "3 rows, 3 accepted" in shown.output, shown.exception
    assert "times name no zone" not in shown.output
    worded = (folder / "columns.toml").read_text()
    zone = 'zone = "Asia/Shanghai"\n'  # of the settings
    assert zone in worded
    (folder / "columns.toml").write_text(worded.replace(zone, ""))
    assert "times name no zone and are read as UTC" in run("columns.toml").output


def test_a_mapped_number_that_no_row_has_is_named(folder):
    lines = ["m,t,area,x,y"] + [f"m1,{FIRST_TIME + 900 * k},A,1," for k in range(5)]
    (folder / "a.csv").write_text("\n".join(lines))
    (folder / "columns.toml").write_text(
        'files = "a.csv"\n[columns]\nmeter = "m"\nat = "t"\narea = "area"\n'
        'kwh = "x"\nub = "y"\nneutral = { from = "y", unit = "mA" }\n'
    )
    shown = run("columns.toml").output
    assert "`ub` has no value in any row: is `y` right?" in shown
    assert "`neutral` has no value in any row" in shown
    assert "`kwh` has no value" not in shown


def test_energy_that_never_falls_is_a_register(folder):
    lines = ["meter,at,energy"] + [f"m{k % 2},{FIRST_TIME + k},{k}" for k in range(9)]
    (folder / "a.csv").write_text("\n".join(lines))
    run("a.csv")
    assert "zone" not in (folder / "columns.toml").read_text()
    assert 'register = "energy"' in (folder / "columns.toml").read_text()
    (folder / "columns.toml").unlink()
    (folder / "a.csv").write_text("\n".join([*lines, f"m1,{FIRST_TIME + 99},3"]))
    run("a.csv")
    assert 'kwh = "energy"' in (folder / "columns.toml").read_text()


def test_what_cannot_be_guessed_is_refused(folder):
    assert "does not exist" in str(run("no/such.csv").exception)
    (folder / "odd.csv").write_text("a,b\n1,2\n")
    shown = run("odd.csv")
    assert "`meter` is not mapped" in str(shown.exception)
    assert "`meterwatch map columns.toml` checks it" in str(shown.exception)
    assert '# not known: "a"' in (folder / "columns.toml").read_text()
    assert "did you mean readings?" in str(
        run("odd.csv", "--kind", "reading").exception
    )


def test_a_mapping_of_files_is_no_bridge_and_of_a_topic_no_history(folder):
    columns = '[columns]\nmeter = "m"\nat = "t"\nkwh = "e"\narea = "a"\n'
    (folder / "files.toml").write_text(f'files = "a.csv"\n{columns}')
    (folder / "topic.toml").write_text(f'topic = "ami"\n{columns}')
    refused = CliRunner().invoke(app, ["bridge", "files.toml"])
    assert "`meterwatch send files.toml` publishes them" in str(refused.exception)
    with pytest.raises(SourceError, match="`meterwatch bridge` reads it"):
        open_source("topic.toml")


def test_a_run_knows_that_a_mapped_file_has_changed(folder):
    write_csv(folder)
    run("ami.csv")
    before = identity(["columns.toml"])
    assert identity(["columns.toml"]) == before
    with (folder / "ami.csv").open("a") as file:
        file.write("\n")
    assert identity(["columns.toml"]) != before


def test_a_known_layout_gives_the_mapping_that_reads_it(folder):
    rows = "MAC000002,Std,2013-03-31 00:30:00.0000000, 0.5 \nMAC000002,Std,2013-03-31 01:30:00.0000000,Null\n"
    path = folder / "l.csv"
    path.write_text(f"LCLid,stdorToU,DateTime,KWH/hh (per half hour) \n{rows}")
    shown = run("l.csv")
    assert shown.exit_code == 0, shown.output
    assert "known without a mapping: Low Carbon London (LCLid, " in shown.output
    assert "mapped by low_carbon_london.toml" in shown.output
    assert "2 rows, 1 accepted by columns.toml" in shown.output
    known = json.loads(run("l.csv", "--out", "other.toml", "--json").output)
    assert known["known"] == "low_carbon_london.toml"
    copied, direct = open_source("columns.toml"), open_source("l.csv")
    assert copied.areas == direct.areas != []


def test_a_day_and_its_hour_are_guessed(folder):
    rows = "".join(f"7;A;0{k}/03/2024;{k}:15;{k},5;N/A\n" for k in range(1, 9))
    (folder / "a.csv").write_text(f"meter;area;date;time;kWh;note\n{rows}")
    shown = run("a.csv")
    text = (folder / "columns.toml").read_text()
    assert 'at = { day = "date", time = "time" }' in text
    assert 'empty = ["N/A"]' in text
    assert 'zone = "Asia/Shanghai"' in text  # of the settings
    assert "8 rows, 8 accepted" in shown.output
    for output in (shown.output, run("columns.toml").output):
        assert "date + time  ->  at" in output


def test_a_guess_of_dates_that_may_be_either_is_to_be_mended(folder):
    rows = "".join(f"7,A,01/03/2024 {k}:15,{k}\n" for k in range(8))
    (folder / "ami[1].csv").write_text(f"meter,area,date,kWh\n{rows}")
    shown = str(run("ami[1].csv").exception)
    assert "date may have the day or the month first 8" in shown
    assert "columns.toml is written: mend it" in shown
    text = (folder / "columns.toml").read_text()
    assert 'zone = "Asia/Shanghai"' in text  # of the settings

    (folder / "columns.toml").write_text(text.replace("# dates", "dates"))
    assert "8 rows, 8 accepted" in run("columns.toml").output


def test_a_guess_asks_for_the_order_of_dates_that_a_record_alone_does_not_show():
    records = [{"meter": "7", "ts": f"{day}/03/2024", "kwh": day} for day in (1, 30)]
    _, text = guess(records, {"topic": "t"}, "readings", (), "UTC")
    assert '# dates = "day"  # or "month"' in text
    _, text = guess(records[1:], {"topic": "t"}, "readings", (), "UTC")
    assert "dates" not in text


def test_a_time_with_its_day_is_no_hour(folder):
    rows = "".join(f"7,A,2024-03-0{k},2024-03-0{k} 00:15,{k}\n" for k in range(1, 9))
    (folder / "a.csv").write_text(f"meter,area,billing day,time,kWh\n{rows}")
    run("a.csv")
    assert 'at = "time"' in (folder / "columns.toml").read_text()


@pytest.mark.parametrize(
    ("header", "ours"), [("相序", "u"), ("电流所属相序", "i"), ("unit", "kwh")]
)
def test_hours_as_columns_and_phases_as_rows_are_guessed(folder, header, ours):
    clocks = [f"{k // 4:02d}:{k % 4 * 15:02d}" for k in range(1, 96)]
    rows = "".join(f"7,T,2024-03-01,{mark}相{',1' * 95}\n" for mark in "ABC")
    (folder / "a.csv").write_text(
        f"电表局编号,台区编号,数据日期,{header},{','.join(clocks)}\n{rows}"
    )
    shown = run("a.csv")
    assert shown.exit_code == 0, shown.output
    mapping = mapping_of((folder / "columns.toml").read_text("utf-8"), "")
    assert mapping.cell == "cell"
    assert ours in mapping.columns
    assert (mapping.phases is None) == (ours == "kwh")
    if mapping.phases:
        assert mapping.phases.places == {"A相": 0, "B相": 1, "C相": 2}


def test_phases_as_rows_are_guessed_for_all_columns(folder):
    rows = "".join(f"7,A,{FIRST_TIME},{name},230,1\n" for name in ("L1", "L2", "L3"))
    (folder / "a.csv").write_text(f"meter,area,ts,phase,volts,amps\n{rows}")
    assert "3 rows, 1 accepted" in run("a.csv").output
    (batch,) = open_source("columns.toml").batches
    assert isinstance(batch, Readings)
    assert batch.u.T.tolist() == [[230, 230, 230]]
    assert batch.i.T.tolist() == [[1, 1, 1]]


FIELD_NAMES = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["meter", "volts", "ts", "fen", "mHz", "type", "event", "import"]),
    st.sampled_from(["a.b", "x y", "`", '"', "\n", "[0]", "ﬁ", "class"]),
)
FIELD_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda values: st.one_of(
        st.lists(values, max_size=4), st.dictionaries(FIELD_NAMES, values, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.lists(st.dictionaries(FIELD_NAMES, FIELD_VALUES, max_size=5), max_size=4),
    st.sampled_from(sorted(KINDS_BY_NAME)),
    st.sets(st.text(max_size=3)),
)
def test_any_record_gives_a_mapping_that_lacks_columns_at_most(records, kind, ids):
    """A field named `import` made a mapping that could not be read."""
    try:
        _, text = guess(records, {"topic": "t", "format": "json"}, kind, ids, "UTC")
    except SourceError:
        return  # no row, and it is said
    try:
        mapping_of(text, "columns.toml")
    except MappingError as error:
        for fault in str(error).splitlines():
            assert "is not mapped" in fault or "no column" in fault, text
