"""Files in foreign layouts: each is read by its meaning, or refused by name with advice on mapping it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from replay.sources import SourceError, open_source, open_sources
from schemas.columns import Readings, Status

CUSTOMER_NAME = "Mrs Ada Jones"  # stands in files, and must not appear in messages


def written(tmp_path, text, name="file.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def readings_of(*paths):
    """Readings by meter, as pairs of time and kWh, and the source."""
    source = open_sources(paths)
    by_meter: dict[str, list[tuple[str, float]]] = {}
    for batch in source.batches:
        assert isinstance(batch, Readings)
        for n in range(len(batch)):
            when = f"{datetime.fromtimestamp(int(batch.at[n]), UTC):%Y-%m-%dT%H:%M}"
            by_meter.setdefault(batch.names[batch.subject[n]], []).append(
                (when, round(float(batch.kwh[n]), 6))
            )
    return by_meter, source


def whole(path):
    return Readings.join(
        [batch for batch in open_source(path).batches if isinstance(batch, Readings)]
    )


# NEM12


def nem12(*records):
    return "\n".join(["100,NEM12,200506081149,MDP,RETAILER", *records, "900"]) + "\n"


def register(suffix="E1", unit="kWh", minutes=30, nmi="6102009999"):
    return f"200,{nmi},E1B1Q1,1,{suffix},N1,{CUSTOMER_NAME},{unit},{minutes},20050610"


def day(values, quality="A", date="20050301", updated="20050310121004"):
    return f"300,{date},{','.join(map(str, values))},{quality},,,{updated},{updated}"


@pytest.mark.parametrize(("minutes", "count"), [(5, 288), (15, 96), (30, 48)])
@pytest.mark.parametrize(
    ("unit", "factor"), [("kWh", 1.0), ("Wh", 0.001), ("MWH", 1000.0)]
)
def test_nem12_is_energy_per_interval_of_market_time(
    tmp_path, minutes, count, unit, factor
):
    values = np.arange(count) / 4
    by_meter, source = readings_of(
        written(tmp_path, nem12(register(unit=unit, minutes=minutes), day(values)))
    )

    assert list(by_meter) == ["6102009999"]

    at, kwh = zip(*by_meter["6102009999"], strict=True)
    # ten hours ahead, ends at midnight
    assert (at[0], at[-1]) == (
        f"2005-02-28T14:{minutes:02d}",
        "2005-03-01T14:00",
    )

    np.testing.assert_allclose(kwh, values * factor, rtol=1e-5)
    assert (source.zone, source.interval, source.read_as) == (
        "Australia/Brisbane",
        minutes * 60,
        {"file.csv": "NEM12"},
    )
    assert not source.rejected


def test_market_time_knows_no_daylight_saving(tmp_path):
    days = [day(range(48), date=date) for date in ("20051029", "20051030", "20051031")]
    at = whole(written(tmp_path, nem12(register(), *days))).at
    assert set(np.diff(at)) == {1800}


def test_registers_of_import_add_up_and_others_are_counted(tmp_path):
    records = [
        register("E1"),
        day([1] * 48),
        register("E2"),
        day([2] * 48),
        register("B1"),
        day([9] * 48),
        register("Q1", "kvarh"),
        day([5] * 48),
        register("E1", "m3", nmi="7"),
        day([1] * 48),
    ]
    by_meter, source = readings_of(written(tmp_path, nem12(*records)))

    assert {kwh for _, kwh in by_meter["6102009999"]} == {3}
    assert source.rejected == {
        "energy that flows back has no column of its own per interval": 48,
        "reactive energy has no column per interval": 48,
        "the unit is none of energy": 48,
    }
    assert CUSTOMER_NAME not in str(source.tally)


def test_registers_of_two_lengths_add_up_by_the_longer(tmp_path):
    by_meter, _ = readings_of(
        written(
            tmp_path,
            nem12(
                register("E1"), day([1] * 48), register("E2", minutes=5), day([1] * 288)
            ),
        )
    )
    assert [kwh for _, kwh in by_meter["6102009999"]] == [7] * 48


@pytest.mark.parametrize(
    ("quality", "records", "known", "status"),
    [
        ("A", [], 48, Status.MEASURED),
        ("S14", [], 48, Status.ESTIMATED),
        ("F16", [], 48, Status.ESTIMATED),
        ("E52", [], 48, Status.ESTIMATED),
        ("N", [], 0, Status.MEASURED),
        ("V", ["400,1,48,E52,,"], 48, Status.ESTIMATED),
        ("V", ["400,1,10,N,,", "400,11,48,S14,,"], 38, Status.ESTIMATED),
    ],
)
def test_quality_flag_sets_the_status(tmp_path, quality, records, known, status):
    path = written(
        tmp_path,
        nem12(
            register(),
            day([1] * 48, quality),
            *records,
            register(nmi="2"),
            day([1] * 48),
        ),
    )
    readings = whole(path)
    own_rows = readings.select(
        np.array(readings.names)[readings.subject] == "6102009999"
    )

    assert len(own_rows) == known
    assert set(own_rows.status) <= {status}


def test_ranges_of_quality_hold_for_their_intervals_alone(tmp_path):
    records = [day([1] * 48, "V"), "400,1,20,A,,", "400,21,30,S14,,", "400,31,48,A,,"]
    readings = whole(written(tmp_path, nem12(register(), *records)))
    assert np.flatnonzero(readings.status == Status.ESTIMATED).tolist() == list(
        range(20, 30)
    )


def test_later_update_of_a_day_counts(tmp_path):
    late = day([2] * 48, updated="20050401000000")
    early = day([1] * 48, updated="20050310000000")
    for records in ((late, early), (early, late)):
        by_meter, source = readings_of(written(tmp_path, nem12(register(), *records)))
        assert {kwh for _, kwh in by_meter["6102009999"]} == {2}
        assert source.tally.mended == {
            "a day of a register comes again: the latest counts": 1
        }


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            day([1] * 47),
            "a record 300 of more or fewer values than its day has intervals",
        ),
        (
            day([1] * 49),
            "a record 300 of more or fewer values than its day has intervals",
        ),
        (day([1] * 48, date="20050231"), "the day is none"),
        (f"250,{CUSTOMER_NAME}", "a record of no known kind"),
        ("400,1,49,A,,", "a record 400 of no intervals of its day"),
        (day(["x", *[1] * 47]), "a value is no number"),
    ],
)
def test_invalid_record_is_counted_with_its_line(tmp_path, record, reason):
    _, source = readings_of(
        written(tmp_path, nem12(register(), day([1] * 48, date="20050302"), record))
    )
    assert reason in source.rejected
    assert source.tally.first[reason] == "file.csv line 4"


def test_truncated_nem12_is_noted_and_nem13_is_refused_by_name(tmp_path):
    content = nem12(register(), day([1] * 48)).replace("900\n", "")
    assert "no record 900" in str(
        readings_of(written(tmp_path, content))[1].tally.notes
    )

    headless = content.partition("\n")[2]
    assert readings_of(written(tmp_path, headless, "headless.txt"))[1].read_as == {
        "headless.txt": "NEM12"
    }
    with pytest.raises(
        SourceError, match="NEM13.* meter, area, at and register"
    ) as error:
        open_source(
            written(
                tmp_path,
                f"100,NEM13,200401011234,A,B\n250,1234567890,{CUSTOMER_NAME}\n",
            )
        )
    assert CUSTOMER_NAME not in str(error.value)


# Green Button


GREEN_BUTTON_PREAMBLE = (
    f"Name,{CUSTOMER_NAME}\n"
    'Address,"12 Harbour Road, rear"\n'
    "Account Number,7712345\n"
    "Service,Service 1\n\n"
)
GREEN_BUTTON_HEADER = "TYPE,DATE,START TIME,END TIME,USAGE,UNITS,COST,NOTES\n"


@pytest.mark.parametrize(
    "preamble",
    [GREEN_BUTTON_PREAMBLE, "", GREEN_BUTTON_PREAMBLE.replace("\n", "\r\n")],
    ids=["above", "bare", "crlf"],
)
def test_green_button_csv_is_energy_until_the_end_of_its_minutes(tmp_path, preamble):
    rows = (
        f"Electric usage,2024-03-01,00:00,00:14,0.25,kWh,$0.05,{CUSTOMER_NAME}\n"
        "Electric usage,2024-03-01,23:45,23:59,250,Wh,$0.05,\n"
        "Natural gas usage,2024-03-01,23:45,23:59,1,therms,$0.05,\n"
    )
    by_meter, source = readings_of(
        written(tmp_path, preamble + GREEN_BUTTON_HEADER + rows, "download.csv")
    )

    assert by_meter == {
        "7712345" if preamble else "download": [
            ("2024-03-01T00:15", 0.25),
            ("2024-03-02T00:00", 0.25),
        ]
    }
    assert source.rejected == {"TYPE is no electric usage": 1}
    assert CUSTOMER_NAME not in str(source.tally)


@pytest.mark.parametrize(
    ("start", "end", "at"),
    [
        ("00:00", "01:00", "01T01:00"),
        ("23:00", "00:00", "02T00:00"),
        ("11:00 PM", "11:59 PM", "02T00:00"),
    ],
)
def test_green_button_csv_ends_at_its_hour(tmp_path, start, end, at):
    row = f"Electric usage,2024-03-01,{start},{end},1.5,$0.05,\n"
    by_meter, _ = readings_of(
        written(
            tmp_path, "TYPE,DATE,START TIME,END TIME,USAGE (kWh),COST,NOTES\n" + row
        )
    )
    assert by_meter == {"file": [(f"2024-03-{at}", 1.5)]}


def entry(kind, links, content=""):
    link_tags = "".join(
        f'<link rel="{relation}" href="{address}"/>' for relation, address in links
    )
    inner = f'<{kind} xmlns="http://naesb.org/espi">{content}</{kind}>'
    return f"<entry>{link_tags}<title>{CUSTOMER_NAME}</title><content>{inner}</content></entry>"


def feed(
    *,
    uom=72,
    power=0,
    flow=1,
    behaviour=4,
    readings=((1_700_000_000, 900, 250),),
    block="/espi/R/1/B",
):
    rows = "".join(
        f"<IntervalReading><cost>5</cost><ReadingQuality><quality>8</quality></ReadingQuality><timePeriod>"
        f"<duration>{duration}</duration><start>{start}</start></timePeriod><value>{value}</value></IntervalReading>"
        for start, duration, value in readings
    )

    return (
        '<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom">'
        + entry(
            "UsagePoint",
            [
                ("self", "/espi/RetailCustomer/9b6c/UsagePoint/01"),
                ("related", "/espi/R"),
            ],
        )
        + entry(
            "LocalTimeParameters", [("self", "/L/1")], "<tzOffset>-28800</tzOffset>"
        )
        + entry(
            "MeterReading",
            [
                ("self", "/espi/R/1"),
                ("up", "/espi/R"),
                ("related", "/espi/R/1/B"),
                ("related", "/T/1"),
            ],
        )
        + entry(
            "ReadingType",
            [("self", "/T/1")],
            f"<accumulationBehaviour>{behaviour}</accumulationBehaviour>"
            f"<flowDirection>{flow}</flowDirection><powerOfTenMultiplier>{power}</powerOfTenMultiplier>"
            f"<uom>{uom}</uom>",
        )
        + entry(
            "IntervalBlock",
            [("self", "/espi/R/1/B/7"), ("up", block)],
            f"<interval><duration>86400</duration><start>1700000000</start></interval>{rows}",
        )
        + "</feed>"
    )


@pytest.mark.parametrize(
    ("power", "value", "kwh"),
    [(0, 250, 0.25), (3, 2, 2.0), (-3, 250_000, 0.25), (6, 1, 1000.0)],
)
def test_a_feed_is_energy_by_its_power_of_ten(tmp_path, power, value, kwh):
    path = written(
        tmp_path, feed(power=power, readings=[(1_700_000_000, 900, value)]), "feed.xml"
    )
    by_meter, source = readings_of(path)
    assert by_meter == {"9b6c-01": [("2023-11-14T22:28", kwh)]}
    assert (source.zone, source.read_as) == (
        "Etc/GMT+8",
        {"feed.xml": "Green Button XML"},
    )
    assert whole(path).status.tolist() == [Status.ESTIMATED]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uom": 169}, "the unit is none of energy"),
        ({"flow": 19}, "energy that flows back"),
        ({"flow": 4}, "the energy is net"),
        ({"behaviour": 12}, "neither of intervals nor of a register"),
        (
            {"readings": [("noon", 900, 1)]},
            "the time or the duration of a reading is none",
        ),
        (
            {"readings": [(1_700_000_000, 0, 1)]},
            "the time or the duration of a reading is none",
        ),
        ({"readings": [(1_700_000_000, 900, CUSTOMER_NAME)]}, "a value is no number"),
    ],
)
def test_feed_without_imported_energy_is_counted(tmp_path, changes, reason):
    with pytest.raises(
        SourceError, match=f"nothing could be read of feed.xml: .*{reason}"
    ) as error:
        open_source(written(tmp_path, feed(**changes), "feed.xml"))
    assert CUSTOMER_NAME not in str(error.value)


def test_block_finds_its_type_by_links_and_may_be_a_register(tmp_path):
    gas = entry("ReadingType", [("self", "/T/2")], "<uom>169</uom>")
    content = feed(behaviour=1, block="/espi/R/1/B").replace("</feed>", f"{gas}</feed>")
    readings = whole(written(tmp_path, content, "feed.xml"))
    assert np.isnan(readings.kwh).all()
    assert readings.register.tolist() == [0.25]
    lost = feed(block="/nowhere/at/all").replace("</feed>", f"{gas}</feed>")
    with pytest.raises(SourceError, match="no reading type leads to the block"):
        open_source(written(tmp_path, lost, "lost.xml"))


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE feed [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE feed [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE feed SYSTEM "http://localhost/espi.dtd">',
        '<!DOCTYPE feed [<!ENTITY % p "x"> %p;]>',
    ],
)
def test_document_type_is_refused_before_it_expands(tmp_path, doctype):
    content = feed().replace("?><feed", f"?>{doctype}<feed")
    with pytest.raises(SourceError, match="document type"):
        open_source(written(tmp_path, content, "feed.xml"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (feed().replace("</feed>", ""), "no whole XML: line 1"),
        (feed().replace("<title>", "<title>" + "<x>" * 100), "within one another"),
        (f"<html><body>{CUSTOMER_NAME}</body></html>", "XML of no known kind"),
    ],
)
def test_broken_feed_is_a_one_line_error(tmp_path, content, reason):
    with pytest.raises(SourceError, match=reason) as error:
        open_source(written(tmp_path, content, "feed.xml"))
    assert CUSTOMER_NAME not in str(error.value)


def test_exported_energy_of_green_button_csv_is_noted_as_left_out(tmp_path):
    row = "Electric usage,2024-03-01,00:00,00:59,1.5,0.5,$0.05,\n"
    header = "TYPE,DATE,START TIME,END TIME,IMPORT (kWh),EXPORT (kWh),COST,NOTES\n"
    by_meter, source = readings_of(written(tmp_path, header + row))
    assert by_meter == {"file": [("2024-03-01T01:00", 1.5)]}
    assert "EXPORT (kWh) is left out" in str(source.tally.notes)


# the others


LONDON_HEADER = "LCLid,stdorToU,DateTime,KWH/hh (per half hour) \n"


def test_london_readings_are_half_hours_that_end_in_utc(tmp_path):
    rows = (
        "MAC000002,Std,2013-03-31 00:30:00.0000000, 0.5 \nMAC000002,Std,2013-03-31 01:30:00.0000000,Null\n"
        "MAC000002,Std,2013-04-01 00:00:00.0000000,1\nMAC000003,ToU,2013-07-01 00:30:00.0000000,2\n"
    )
    by_meter, source = readings_of(written(tmp_path, LONDON_HEADER + rows))

    assert by_meter == {
        "MAC000002": [("2013-03-31T00:30", 0.5), ("2013-04-01T00:00", 1.0)],
        "MAC000003": [("2013-07-01T00:30", 2.0)],
    }
    assert (source.zone, source.interval, [area.area for area in source.areas]) == (
        "Europe/London",
        1800,
        ["LCL"],
    )
    assert list(source.rejected) == ["KWH/hh (per half hour) is missing"]

    blocks = "LCLid,tstp,energy(kWh/hh)\nMAC000002,2013-03-31 00:30:00.0000000, 0.5 \n"
    assert readings_of(written(tmp_path, blocks, "block_0.csv"))[0] == {
        "MAC000002": [("2013-03-31T00:30", 0.5)]
    }


HOUSEHOLD_HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3\n"
)


def test_uci_household_power_is_read_by_the_minute(tmp_path):
    rows = (
        "16/12/2006;17:24:00;4.216;0.418;234.840;18.400;0.000;1.000;17.000\n16/12/2006;17:25:00;?;?;?;?;?;?;\n"
        "17/12/2006;00:00:00;6.000;0.400;233.000;18.000;0.000;1.000;17.000\n"
    )
    path = written(tmp_path, HOUSEHOLD_HEADER + rows, "household_power_consumption.txt")
    by_meter, source = readings_of(path)

    assert by_meter == {
        "household": [("2006-12-16T17:24", 0.070267), ("2006-12-17T00:00", 0.1)]
    }
    assert source.rejected == {"each of Global_active_power, Voltage is missing": 1}

    readings = whole(path)
    assert (round(float(readings.u[0, 0]), 2), round(float(readings.i[0, 0]), 1)) == (
        234.84,
        18.4,
    )
    assert np.isnan(readings.u[1:]).all()


def test_dates_with_slashes_follow_the_order_of_their_layout(tmp_path):
    power = written(
        tmp_path,
        HOUSEHOLD_HEADER + "1/2/2007;00:01:00;6.0;0.4;233.0;18.0;0;1;17\n",
        "power.txt",
    )
    assert readings_of(power)[0]["household"][0][0] == "2007-02-01T00:01"
    button = written(
        tmp_path,
        GREEN_BUTTON_HEADER + "Electric usage,1/2/2007,00:00,00:59,1,kWh,,\n",
        "button.csv",
    )
    assert readings_of(button)[0]["button"][0][0] == "2007-01-02T01:00"


def diagrams(*rows):
    return '"";"MT_001";"MT_002"\n' + "".join(
        f'"{at}";{first};{second}\n' for at, first, second in rows
    )


def test_uci_loads_of_clients_are_kw_of_quarters_on_portugals_clock(tmp_path):
    rows = [
        ("2013-07-01 00:15:00", "2,53807106598985", "0"),
        ("2013-07-01 00:30:00", "4", "8,5"),
    ]
    by_meter, source = readings_of(
        written(tmp_path, diagrams(*rows), "LD2011_2014.txt")
    )
    # no client before its first use
    assert by_meter == {
        "MT_001": [("2013-06-30T23:15", 0.634518), ("2013-06-30T23:30", 1.0)],
        "MT_002": [("2013-06-30T23:30", 2.125)],
    }
    assert source.zone == "Europe/Lisbon"


@pytest.mark.parametrize(
    ("day", "around"),
    [("2013-03-31", ["01:00", "01:15"]), ("2013-10-27", ["00:00", "02:15"])],
)
def test_hours_that_the_clocks_skip_or_repeat_are_left_out(tmp_path, day, around):
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    clocks = [
        (begin + timedelta(minutes=15 * k)).strftime("%H:%M:%S") for k in range(4, 10)
    ]
    by_meter, source = readings_of(
        written(
            tmp_path, diagrams(*((f"{day} {clock}", "4,5", "1") for clock in clocks))
        )
    )
    assert [at[11:] for at, _ in by_meter["MT_001"]] == around
    assert source.rejected == {
        "an hour that the change of the clocks skips or repeats": 4
    }


ENEDIS_HEADER = (
    "Identifiant PRM;Type de donnees;Date de debut;Date de fin;Grandeur physique;Grandeur metier;Etape metier;"
    "Unite;Pas en minutes\n"
    "30001610071843;Courbe de charge;01/09/2021;30/09/2021;Energie active;Consommation;Comptage Brut;W;\n"
    "Horodate;Valeur\n"
)
R63_HEADER = (
    "Identifiant PRM;Date de début;Date de fin;Grandeur physique;Grandeur métier;Etape métier;Unité;Horodate;"
    "Valeur;Nature;Pas\n"
)


@pytest.mark.parametrize("code", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize(("minutes", "kwh"), [(30, 0.5), (10, 1 / 6), (60, 1.0)])
def test_an_enedis_curve_is_power_until_its_time(tmp_path, minutes, kwh, code):
    begin = datetime(2021, 9, 2, tzinfo=UTC)
    rows = "".join(
        f"{begin + timedelta(minutes=minutes * k):%Y-%m-%dT%H:%M:%S}+02:00;1000\n"
        for k in range(1, 7)
    )
    by_meter, source = readings_of(
        written(tmp_path, (ENEDIS_HEADER + rows).encode(code))
    )
    at, energy = zip(*by_meter["30001610071843"], strict=True)
    assert at[0] == f"{begin + timedelta(minutes=minutes - 120):%Y-%m-%dT%H:%M}"
    np.testing.assert_allclose(energy, kwh, rtol=1e-5)
    assert (source.zone, source.interval) == ("Europe/Paris", minutes * 60)


@pytest.mark.parametrize(
    ("minutes", "kwh"),
    [
        ([30, 60, 90, 180, 210], [0.5, 0.5, 0.5, 0.5, 0.5]),  # a hole
        # another interval from then on
        (
            [30, 60, 120, 180, 240],
            [0.5, 0.5, 1.0, 1.0, 1.0],
        ),
        ([30, -60, 90, 120], [0.5, 0.5, 0.5]),  # a row without a value
    ],
)
def test_a_power_does_not_hold_over_a_hole(tmp_path, minutes, kwh):
    begin = datetime(2021, 9, 2, tzinfo=UTC)
    rows = "".join(
        f"{begin + timedelta(minutes=abs(one)):%Y-%m-%dT%H:%M:%S}+02:00;{1000 if one > 0 else ''}\n"
        for one in minutes
    )
    by_meter, _ = readings_of(written(tmp_path, ENEDIS_HEADER + rows))
    assert [energy for _, energy in by_meter["30001610071843"]] == kwh


def test_enedis_curve_with_all_fields_in_each_row_is_read(tmp_path):
    begin = "30001610071843;2023-10-29 00:00:00;2023-10-30 00:00:00;PA"
    clocks = ["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    rows = [
        f"{begin};CONS;BRUT;W;2023-10-29 {clock}:00;1000;B;PT30M" for clock in clocks
    ]
    rows.append(f"{begin};PROD;BRUT;W;2023-10-29 01:30:00;77;B;PT30M")
    rows += [f"{begin};CONS;BRUT;W;9999-12-31 23:59:59;1;B;PT30M"] * 2
    by_meter, source = readings_of(
        written(tmp_path, R63_HEADER + "\n".join(rows) + "\n")
    )

    assert [at[11:] for at, _ in by_meter["30001610071843"]] == [
        "23:30",
        "00:00",
        "00:30",
        "01:00",
        "01:30",
        "02:00",
    ]
    assert {kwh for _, kwh in by_meter["30001610071843"]} == {0.5}
    assert source.rejected == {
        "energy that flows back has no column of its own per interval": 1,
        "Horodate is no time": 2,
    }


HALF_HOUR_TIMES = [f"{k // 2:02d}:{k % 2 * 30:02d}" for k in range(1, 48)]


@pytest.mark.parametrize(
    ("clocks", "first"),
    [
        ([*HALF_HOUR_TIMES, "24:00"], "00:30"),
        ([*HALF_HOUR_TIMES, "00:00"], "00:30"),
        (["00:00", *HALF_HOUR_TIMES], "00:30"),
    ],
    ids=["until 24:00", "until 00:00", "from 00:00"],
)
@pytest.mark.parametrize(
    ("unit", "kwh"), [("kWh", 1.0), ("Wh", 0.001), ("kW", 0.5), ("W", 0.0005)]
)
def test_a_row_per_day_with_its_unit_is_read(tmp_path, clocks, first, unit, kwh):
    content = f"Meter ID,Date,Unit,{','.join(clocks)}\n007,2024-03-13,{unit},{','.join('1' * 48)}\n"
    by_meter, _ = readings_of(written(tmp_path, content))
    assert len(by_meter["007"]) == 48
    assert (by_meter["007"][0], by_meter["007"][-1][0]) == (
        (f"2024-03-13T{first}", kwh),
        "2024-03-14T00:00",
    )


def test_a_column_per_meter_with_its_unit_is_read(tmp_path):
    content = (
        "time;M1 (kWh);M2 [W]\n2024-03-13 00:30;0,5;100\n2024-03-13 01:00;0,25;200\n"
    )
    by_meter, _ = readings_of(written(tmp_path, content))
    assert by_meter == {
        "M1": [("2024-03-13T00:30", 0.5), ("2024-03-13T01:00", 0.25)],
        "M2": [("2024-03-13T00:30", 0.05), ("2024-03-13T01:00", 0.1)],
    }


@pytest.mark.parametrize(
    ("content", "compression"),
    [
        (
            f"meter,date,{','.join(HALF_HOUR_TIMES)}\n7,2024-03-13,{','.join('1' * 47)}\n",
            "lacks a column `unit`",
        ),
        (
            f"customer,date,unit,{','.join(HALF_HOUR_TIMES)}\n{CUSTOMER_NAME},2024-03-13,kWh{',1' * 47}\n",
            "lacks a column `meter`",
        ),
        (
            "time,M1,M2\n2024-03-13 00:30,1,2\n",
            "has the columns time, M1, M2; known are .* meter, area, at and kwh",
        ),
        (
            "Horodate;Valeur\n2021-09-02T00:30:00+02:00;1138\n",
            "does not name the delivery point: add a column",
        ),
        (
            "TYPE,DATE,START TIME,END TIME,USAGE\nElectric usage,2024-03-01,00:00,00:59,1\n",
            "call its column USAGE",
        ),
        (
            f"{CUSTOMER_NAME},Harbour Road,0.5\n{CUSTOMER_NAME},Harbour Road,0.7\n",
            "has no line that names the columns",
        ),
        (f"7,{CUSTOMER_NAME}\n", "has no line that names the columns"),
        (f"UNA:+.? 'UNB+UNOC:3+{CUSTOMER_NAME}'", "EDIFACT .* meter, area, at and kwh"),
        (
            f'{{"customer": "{CUSTOMER_NAME}", "kwh": 1}}\n',
            "JSON: .* meter, area, at and kwh",
        ),
        (b"PK\x03\x04 and no zip", "cannot be read"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "save it as xlsx or CSV"),
        (b"%PDF-1.7", "ask for the same as CSV"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_unknown_layout_is_refused_by_name_with_advice_and_not_quoted(
    tmp_path, content, compression
):
    with pytest.raises(SourceError, match=compression) as error:
        open_source(written(tmp_path, content, "other.csv"))
    assert CUSTOMER_NAME not in str(error.value)


# workbooks


def workbook(tmp_path, sheets, formats=()):
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
        for cell, shown in formats:
            sheet[cell].number_format = shown
    book.save(tmp_path / "book.xlsx")
    return tmp_path / "book.xlsx"


READING_TIME = datetime(2024, 3, 1, 0, 15)  # noqa: DTZ001 - a workbook knows no zones


@pytest.mark.parametrize(
    ("meter", "at", "kwh", "known"),
    [
        ("0012", READING_TIME, 0.5, "0012"),
        (231282, READING_TIME, 0.5, "231282"),
        (231282.0, "2024-03-01 00:15", "0.5", "231282"),
        ("'0012", READING_TIME + timedelta(microseconds=-40), 0.5, "0012"),
        ("M1", 45352.0104166667, 0.5, "M1"),
    ],
)
def test_a_sheet_is_a_table_of_text_ids_dates_and_numbers(
    tmp_path, meter, at, kwh, known
):
    rows = [
        ["Reads of March"],
        [],
        ["meter", "area", "at", "kwh", None],
        [meter, "A1", at, kwh],
        [],
        [meter, "A1", at, None],
    ]
    by_meter, source = readings_of(
        workbook(
            tmp_path, {"Reads": rows, "Notes": [["who", "what"], [CUSTOMER_NAME, "x"]]}
        )
    )

    assert by_meter[known][0] == ("2024-03-01T00:15", 0.5)
    assert list(source.read_as) == ["book.xlsx Reads"]
    assert "sheet 'Notes' is of no known layout" in str(source.tally.notes)
    assert CUSTOMER_NAME not in str(source.tally)


def test_sheets_of_several_layouts_are_one_history(tmp_path):
    rows = [["meter", "area", "at", "kwh"], ["M1", "A1", READING_TIME, 0.5]]
    more = [
        ["meter", "area", "at", "kwh"],
        ["M1", "A1", READING_TIME + timedelta(minutes=15), 0.5],
    ]
    bills = [
        ["customer", "area", "at", "payment", "amount", "bill", "due"],
        ["C1", "A1", READING_TIME, "bill", 99, "B1", READING_TIME],
    ]
    source = open_source(workbook(tmp_path, {"one": rows, "two": more, "bills": bills}))

    assert sorted(type(batch).__name__ for batch in source.batches) == [
        "Payments",
        "Readings",
        "Readings",
    ]
    assert len(source.read_as) == 3


def test_numbers_that_are_shown_with_leading_zeros_have_them_and_long_ones_are_no_ids(
    tmp_path,
):
    rows = [
        ["meter", "area", "at", "kwh"],
        [42, "A1", READING_TIME, 0.5],
        [123456789012345678, "A1", READING_TIME, 1.5],
    ]
    by_meter, source = readings_of(
        workbook(tmp_path, {"one": rows}, [("A2", "0000000000")])
    )
    assert by_meter == {"0000000042": [("2024-03-01T00:15", 0.5)]}
    assert source.rejected == {
        "meter has lost digits, as numbers do in a spreadsheet": 1
    }


def test_workbook_without_a_known_sheet_is_refused(tmp_path):
    with pytest.raises(
        SourceError, match="no sheet with the columns of a known layout"
    ) as error:
        open_source(workbook(tmp_path, {"one": [[CUSTOMER_NAME, "x"], [1, 2]]}))
    assert CUSTOMER_NAME not in str(error.value)


def test_workbook_without_the_extra_is_refused_with_advice(tmp_path, monkeypatch):
    path = workbook(
        tmp_path,
        {"one": [["meter", "area", "at", "kwh"], ["M1", "A1", READING_TIME, 0.5]]},
    )
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        SourceError,
        match=r"pip install 'meterwatch\[xlsx\]' .*; or save each sheet as CSV",
    ):
        open_source(path)


def test_inferred_meter_has_a_maximum_current_above_its_readings(tmp_path):
    path = written(
        tmp_path,
        nem12(register(nmi="1"), day([200] * 48), register(nmi="2"), day([0.5] * 48)),
    )
    (area,) = open_source(path).areas
    assert [
        (meter.meter, meter.un_v, meter.ct, meter.imax_a, meter.interval_s)
        for meter in area.meters
    ] == [
        ("1", 230, 1, 1740, 1800),
        ("2", 230, 1, 60, 1800),
    ]
    assert {meter.effective for meter in area.meters} == {int(whole(path).at[0]) - 1800}


def test_the_page_shows_what_inspect_prints():
    from tests.examples import INSPECT_PAGE, page

    assert INSPECT_PAGE.read_text("utf-8") == page(), (
        "`python -m tests.examples` writes it anew"
    )
