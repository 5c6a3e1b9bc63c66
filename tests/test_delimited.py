"""Delimited text as people save it, with numbers in the notation of any country."""

from __future__ import annotations

import csv
import io
from math import isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay import delimited
from replay.history import SourceError, Tally
from replay.sources import open_source
from replay.tables import read
from schemas.columns import Readings

SAMPLE_ROWS = [("M1", "A1", "1700000000", "0.5"), ("M2", "A1", "1700000000", "1.25")]
SAMPLE_HEADER = ("meter", "area", "at", "kwh")


def written(tmp_path, content, name="readings.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_usage(path):
    """Meters and their kWh, as the reader reads them."""
    source = open_source(path)
    batches = [batch for batch in source.batches if isinstance(batch, Readings)]
    return [
        (batch.names[batch.subject[n]], float(batch.kwh[n]))
        for batch in batches
        for n in range(len(batch))
    ], source.tally


def text(delimiter=",", header=SAMPLE_HEADER, rows=SAMPLE_ROWS, end="\n", decimal="."):
    lines = [
        delimiter.join(header),
        *(delimiter.join(row).replace(".", decimal) for row in rows),
    ]
    return end.join(lines) + end


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(end="\r\n"),
        text(end="\r"),
        text(";"),
        text("\t"),
        text("|"),
        text(";", decimal=","),
        "sep=;\n" + text(";", decimal=","),
        text().replace("meter,", '"meter",').replace("M1", '"M1"'),
        text(
            header=(*SAMPLE_HEADER, '"site, as billed"'),
            rows=[(*row, '"Harbour Road 1, rear"') for row in SAMPLE_ROWS],
        ),
        text(
            header=(*SAMPLE_HEADER, '"site\nas billed"'),
            rows=[(*row, '"two\nlines"') for row in SAMPLE_ROWS],
        ),
        text(
            header=(*SAMPLE_HEADER, '="note"'), rows=[(*row, "") for row in SAMPLE_ROWS]
        ),
        text(rows=[(*row, "") for row in SAMPLE_ROWS]),  # rows that end with a comma
        text(header=(*SAMPLE_HEADER, ""), rows=[(*row, "") for row in SAMPLE_ROWS]),
        text(
            header=(*SAMPLE_HEADER, "", ""),
            rows=[(*row, "x", "y") for row in SAMPLE_ROWS],
        ),
        text().encode("utf-8-sig"),
        text("\t").encode("utf-16"),
        text(
            header=(*SAMPLE_HEADER, "备注"),
            rows=[(*row, "正常") for row in SAMPLE_ROWS],
        ).encode("gb18030"),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_rows_are_the_same_in_every_way_of_saving(tmp_path, content):
    usage, tally = read_usage(written(tmp_path, content))
    assert usage == [("M1", 0.5), ("M2", 1.25)]
    assert not tally.rejected


def test_duplicate_column_is_a_one_line_error(tmp_path):
    with pytest.raises(SourceError, match="more than one column kwh"):
        read_usage(
            written(
                tmp_path,
                text(
                    header=(*SAMPLE_HEADER, "kwh"),
                    rows=[(*row, "1") for row in SAMPLE_ROWS],
                ),
            )
        )


def test_every_row_swallowed_by_an_open_quote_is_counted(tmp_path):
    rows = [SAMPLE_ROWS[0], ('"M3', "A1", "1700000000", "1"), *[SAMPLE_ROWS[1]] * 7]
    usage, tally = read_usage(written(tmp_path, text(rows=rows)))
    assert usage == [("M1", 0.5)]
    assert tally.rejected == {delimited.SWALLOWED_ROWS: 8}
    assert tally.first[delimited.SWALLOWED_ROWS] == "readings.csv row 2"


def test_rejection_names_the_position_and_repeats_no_row(tmp_path):
    rows = [SAMPLE_ROWS[0], ("Mrs Jones", "A1", "1700000000", "1", "5"), SAMPLE_ROWS[1]]
    _, tally = read_usage(written(tmp_path, text(rows=rows)))
    assert tally.first == {delimited.RAGGED_ROW: "readings.csv row 2"}


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "1.234,5", "2.345", "7", "-0,25"], [1.5, 1234.5, 2345.0, 7.0, -0.25]),
        (["1.5", "1,234.5", "2,345", "7", "-0.25"], [1.5, 1234.5, 2345.0, 7.0, -0.25]),
        (
            ["1 234,5", "1\u00a0234,5", "1\u202f234,5", "12,5"],
            [1234.5, 1234.5, 1234.5, 12.5],
        ),
        (["1'234.5", "1e3", " 2 ", "nan", "2,5e3"], [1234.5, 1000.0, 2.0, None, None]),
        (["1,234", "2"], [None, 2.0]),  # a thousand, or one
        (["1,5", "2.5", "3"], [None, 2.5, 3.0]),
        (["0,123", "1,234"], [0.123, 1.234]),
    ],
)
def test_the_decimal_mark_is_decided_over_the_file(tmp_path, cells, values):
    tally = Tally()
    content = "meter;kwh\n" + "".join(f"M;{cell}\n" for cell in cells)
    numbers = read(written(tmp_path, content), ["kwh"], tally).numbers("kwh").tolist()
    assert [None if isnan(value) else value for value in numbers] == values
    assert tally.rejected.total() == values.count(None) - cells.count("nan")


def test_decimal_mark_of_one_column_holds_for_the_others(tmp_path):
    sheet = read(written(tmp_path, "u;kwh\n230,4;1.234\n"), ["u", "kwh"], Tally())
    assert sheet.numbers("kwh").tolist() == [1234.0]


CELL_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8
)


def or_null(cell: str) -> str | None:
    """An empty cell is null."""
    return cell or None


@settings(max_examples=200)
@given(st.data())
def test_whatever_a_program_writes_is_read_as_it_was(tmp_path_factory, data):
    names = data.draw(
        st.lists(
            CELL_TEXT.filter(lambda name: name == delimited.clean(name) != ""),
            min_size=2,
            unique=True,
        )
    )
    rows = data.draw(
        st.lists(
            st.lists(CELL_TEXT, min_size=len(names), max_size=len(names)),
            min_size=1,
            max_size=5,
        )
    )

    delimiter = data.draw(st.sampled_from(delimited.KNOWN_DELIMITERS))
    written_text = io.StringIO()
    csv.writer(written_text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(
        [names, *rows]
    )
    path = written(tmp_path_factory.mktemp("csv"), written_text.getvalue())

    assert delimited.head(path).names == tuple(names)

    tally = Tally()
    table = delimited.read(path, names, tally)
    nullable = [tuple(map(or_null, row)) for row in rows]
    columns = [list(column) for column in zip(*nullable, strict=True)]
    assert [table[name].to_pylist() for name in names] == columns
    assert not tally.rejected
