"""Device events by the codes of other systems."""

from __future__ import annotations

import msgspec
import pytest

from schemas.columns import DeviceEvents, Event
from schemas.events import EVENT_TABLES, IEC_CODES, event_of
from schemas.wire import Reason, decode

EVENT_TIME = 1_772_380_800


def decoded(*records):
    """The decoded records, and the reasons of the rejected ones."""
    values = [
        msgspec.json.encode({"at": EVENT_TIME, "meter": "M1"} | record)
        for record in records
    ]
    batch, refusals = decode(DeviceEvents, [(b"A1", value, "", 0) for value in values])
    words = [] if batch is None else [Event(code).name.lower() for code in batch.event]
    return words, [refusal.reason for refusal in refusals]


@pytest.mark.parametrize(
    ("system", "code", "word"),
    [
        ("dlt698.45", "301B", "cover_open"),
        ("dlt698.45", "310d", "meter_runaway"),
        ("376.1", "ERC38", "terminal_open"),
        ("376.1", "37", "cover_open"),
        ("dlt698.45", "300C", "low_power_factor"),
        ("dlt698.45", "3015", "param_change"),
        ("dlt698.45", "3106", "power_off"),
        ("dlt645-2007", "03300D01", "cover_open"),
        ("dlt645-2007", "10-02-FF-0A", "voltage_loss"),
        ("376.1", "ERC34", "current_loss"),
        ("gxf", "STRONG_DC_FIELD_DETECTED", "magnetic_field"),
        ("gxf", "PHASE_OUTAGE_DETECTED_L_1", "phase_break"),
        ("iec61968-9", "3.26.0.85", "power_off"),
        ("iec61968-9", "26.26.0.216", "power_on"),
    ],
)
def test_a_code_stands_for_a_word(system, code, word):
    assert decoded({"system": system, "code": code}) == ([word], [])
    assert decoded({"system": system, "code": code, "event": word}) == ([word], [])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"system": "gxf", "code": "RAM_ERROR"}, Reason.UNKNOWN_CODE),
        ({"system": "376.1", "code": "ERC99"}, Reason.UNKNOWN_CODE),
        (
            {"system": "dlt698.45", "code": "301B", "event": "magnetic_field"},
            Reason.UNKNOWN_VALUE,
        ),
        ({"system": "ansi", "code": "1"}, Reason.UNKNOWN_VALUE),
        ({"code": "301B"}, Reason.MISSING_FIELD),
        ({"system": "gxf"}, Reason.MISSING_FIELD),
        ({}, Reason.MISSING_FIELD),
    ],
)
def test_only_the_meaningless_record_is_rejected(record, reason):
    assert decoded({"event": "vacancy"}, record, {"event": "cover_open"}) == (
        ["vacancy", "cover_open"],
        [reason],
    )


def as_written(system, code):
    """A code of a table as a head-end writes it."""
    return {"iec61968-9": f"3.{code}", "dlt645-2007": f"{code}01"}.get(system, code)


def test_every_code_is_found_as_it_is_written():
    for system, table in EVENT_TABLES.items():
        for code, event in table.items():
            assert event_of(system, as_written(system, code)) is event


def test_the_code_of_a_word_means_that_word():
    assert all(
        event_of("iec61968-9", code) is event for event, code in IEC_CODES.items()
    )


@pytest.mark.parametrize(
    ("system", "code"), [("dlt698.45", "3106"), ("376.1", "ERC14"), ("376.1", "14")]
)
def test_terminal_without_power_is_an_outage_of_its_area(system, code):
    record = {
        "at": EVENT_TIME,
        "until": EVENT_TIME + 3600,
        "meter": "T1",
        "system": system,
        "code": code,
    }
    batch, refusals = decode(
        DeviceEvents, [(b"A1", msgspec.json.encode(record), "", 0)]
    )

    assert batch is not None
    assert not refusals
    assert batch.names == ("",)
    assert (Event(batch.event[0]), int(batch.until[0])) == (
        Event.POWER_OFF,
        EVENT_TIME + 3600,
    )


def test_count_of_records_is_no_event():
    assert decoded({"system": "dlt645-2007", "code": "03300D00"}) == (
        [],
        [Reason.UNKNOWN_CODE],
    )
    assert decoded({"system": "dlt645-2007", "code": "03300D0B"}) == (
        [],
        [Reason.UNKNOWN_CODE],
    )
