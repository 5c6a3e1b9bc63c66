"""Rows of a utility's tables to areas with their meters; a row that does not fit is refused by its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import fields, replace

from replay.history import Tally
from replay.ids import clean, has_lost_digits
from replay.moments import seconds_of
from schemas.columns import LATEST_TIME
from schemas.master import Area, Meter, Moment, Tariff, Transformer
from schemas.wire import RejectedError, check_texts

Row = Mapping[str, Any]
CELL_TYPES = (str, bool, int, float, Decimal, date, UUID)  # a datetime is a date
Record = TypeVar("Record", bound=msgspec.Struct)
MISSING_PATTERN = re.compile(r"missing required field `(\w+)`")
PLACE_PATTERN = re.compile(r" - at `\$\.?(\w*).*`$")


class Selected(NamedTuple):
    """The areas that tables give, the columns of each table, and the meters of refused rows."""

    areas: dict[str, Area]
    listed: frozenset[str]  # the areas that have a row of their own
    columns: Mapping[str, frozenset[str]]
    # Area and meter of refused rows, "" where the row does not say.
    refused: frozenset[tuple[str, str]]

    @property
    def meter_fields(self) -> frozenset[str]:
        """The fields of a meter's record that the tables give."""
        given = self.columns.get("meters", frozenset())
        customers = self.columns.get("customers", frozenset())
        return (given | customers) & set(Meter.__struct_fields__)


def selected(
    tables: Mapping[str, Iterable[Row]],
    columns: Mapping[str, frozenset[str]],
    zone: str,
    tally: Tally,
    name: str = "",
) -> Selected:
    """The areas that the rows of tables make up; a time without a zone is in the given one.

    The places of refused rows begin with the name of their file.
    """
    reader = _RowReader(zone, tally, name)
    areas = reader.areas(tables.get("areas", ()))
    tariffs = reader.tariffs(tables.get("tariffs", ()))
    contracts = None
    if "customers" in tables:
        contracts = reader.contracts(tables["customers"])
    meters = reader.meters(tables.get("meters", ()), contracts)
    listed = frozenset(areas)

    for place, here in meters.items():
        named = dict.fromkeys(meter.tariff for meter in here)
        prices = [price for tariff in named for price in tariffs.get(tariff, [])]
        area = areas.get(place, Area(area=place))
        areas[place] = replace(area, meters=here, tariffs=prices)
    return Selected(areas, listed, columns, frozenset(reader.refused))


class _RowReader:
    """Reads rows; counts the refused ones and remembers their meters."""

    def __init__(self, zone: str, tally: Tally, name: str) -> None:
        self._zone = ZoneInfo(zone)
        self._tally = tally
        self._name = name
        self.refused: set[tuple[str, str]] = set()

    def areas(self, rows: Iterable[Row]) -> dict[str, Area]:
        """The areas of rows, with a transformer from each row that has a rating."""
        found: dict[str, Area] = {}
        for number, row in enumerate(rows, 1):
            area = self._record("areas", number, row, Area)
            if area is None:
                continue
            known = found.setdefault(area.area, area)
            if row.get("rating_kva") is None:
                continue
            if transformer := self._record("areas", number, row, Transformer):
                transformers = [*known.transformers, transformer]
                found[area.area] = replace(known, transformers=transformers)
        return found

    def tariffs(self, rows: Iterable[Row]) -> dict[str, list[Tariff]]:
        """The prices of each tariff."""
        found: dict[str, list[Tariff]] = {}
        for number, row in enumerate(rows, 1):
            if tariff := self._record("tariffs", number, row, Tariff):
                found.setdefault(tariff.tariff, []).append(tariff)
        return found

    def contracts(self, rows: Iterable[Row]) -> dict[str, Row]:
        """What the file of each customer says, for the records of the customer's meters."""
        found: dict[str, Row] = {}
        for number, row in enumerate(rows, 1):
            customer = id_of(row.get("customer"))
            if not customer or customer in found:
                fault = (
                    "a second row of a customer" if customer else "customer is missing"
                )
                self._tally.reject(f"customers: {fault}", self._place(number))
                continue
            found[customer] = {
                name: value for name, value in row.items() if value is not None
            }
        return found

    def meters(
        self, rows: Iterable[Row], contracts: Mapping[str, Row] | None
    ) -> dict[str, list[Meter]]:
        """The meters of each area; the contract of its customer fills what a meter's own row leaves open."""
        found: dict[str, list[Meter]] = {}
        seen: set[tuple[str, str, int]] = set()
        for number, row in enumerate(rows, 1):
            own = {name: value for name, value in row.items() if value is not None}
            customer = id_of(own.get("customer"))
            contract = (contracts or {}).get(customer, {})
            area = id_of(own.get("area"))
            meter = self._record("meters", number, {**contract, **own}, Meter)

            fault = "" if area else "area is missing"
            if customer and contracts is not None and not contract:
                fault = "no row of customers has its customer"
            if meter and (area, meter.meter, meter.effective) in seen:
                fault = "a second row of the same meter and time"
            if meter and fault:
                self._tally.reject(
                    f"meters: {fault}", f"{self._place(number)}: {meter.meter}"
                )
            if meter is None or fault:
                self.refused.add((area, id_of(own.get("meter"))))
                continue
            seen.add((area, meter.meter, meter.effective))
            found.setdefault(area, []).append(meter)
        self._refuse_doubled(found)
        return found

    def _refuse_doubled(self, found: dict[str, list[Meter]]) -> None:
        """Takes out meters that stand in several areas since the same time: nobody knows which is right."""
        places: dict[tuple[str, int], list[str]] = {}
        doubled: set[tuple[str, str]] = set()
        for area, meters in found.items():
            for meter in meters:
                if not meter.until:
                    places.setdefault((meter.meter, meter.effective), []).append(area)

        for (name, _), areas in places.items():
            if len(areas) == 1:
                continue
            place = f"{self._name} {name}: {', '.join(areas[:3])}".strip()
            self._tally.reject(
                "meters: stands in several areas at once", place, len(areas)
            )
            self.refused |= {(area, name) for area in areas}
            doubled |= {(area, name) for area in areas}

        for area in {area for area, _ in doubled}:
            found[area] = [
                meter for meter in found[area] if (area, meter.meter) not in doubled
            ]

    def _place(self, number: int) -> str:
        """The place of a row, from 1."""
        return f"{self._name} row {number}".strip()

    def _record(
        self, table: str, number: int, row: Row, kind: type[Record]
    ) -> Record | None:
        """The record of a row; None, counted with its reason, if the row does not fit."""
        try:
            values: dict[str, Any] = {}
            for column, value in row.items():
                if column in kind.__struct_fields__:
                    values |= self._field(kind, column, value)
            record = msgspec.convert(values, kind, strict=False)
            _check_texts(record)
        except (ValueError, ArithmeticError, RejectedError) as error:
            self._tally.reject(*_refusal(table, self._place(number), row, error))
            return None
        return record

    def _field(self, kind: type[Record], column: str, value: Any) -> dict[str, Any]:
        """A cell as its field takes it; nothing for an empty cell. Raises ValueError."""
        if value is None or value == "":
            return {}
        types = _types(kind)
        if not isinstance(value, CELL_TYPES) and column != "tiers":
            raise ValueError(f"{column} is a {type(value).__name__}, no plain value")
        if types[column] is str:
            return {column: id_of(value)} if id_of(value) else {}
        if types[column] == Moment:
            return {column: self._moment(column, value)}
        if isinstance(value, Decimal):
            return {column: float(value)}
        if isinstance(value, str) and column == "tiers":
            return {column: msgspec.json.decode(value)}
        return {column: value.strip() if isinstance(value, str) else value}

    def _moment(self, column: str, value: Any) -> int:
        """A date or time in Unix seconds, 0 stays 0. Raises ValueError."""
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=self._zone)
            return _within(int(aware.timestamp()))
        if not _is_finite(value):
            raise ValueError(f"{column} is no time")
        if value in {0, "0"}:
            return 0

        [seconds], _ = seconds_of([str(value)], self._zone)
        if math.isnan(seconds):
            raise ValueError(f"{column} is no time")
        return _within(int(seconds))


def _within(at: int) -> int:
    """Unix seconds; 0 for the dates by which databases mean that a time is unknown or open."""
    return at if 0 <= at < LATEST_TIME else 0


def _is_finite(value: Any) -> bool:
    """False for a number that is none; a signaling NaN is neither hashed nor made a float."""
    if isinstance(value, Decimal):
        return value.is_finite()
    return not isinstance(value, float) or math.isfinite(value)


def id_of(value: Any) -> str:
    """A cell as an id, "" if it is empty, no plain value, or has lost digits."""
    if not isinstance(value, CELL_TYPES):
        return ""
    if not _is_finite(value):
        return ""
    if isinstance(value, float | Decimal):
        value = int(value) if value % 1 == 0 else value
    text = clean(str(value))
    return "" if has_lost_digits(text) else text


@cache
def _types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The type of each field; texts without their patterns."""
    hints = {field.name: field.type for field in fields(kind)}
    return {
        name: str if getattr(hint, "__origin__", hint) is str else hint
        for name, hint in hints.items()
    }


def _check_texts(record: msgspec.Struct) -> None:
    """Raises RejectedError if a text of a record cannot be an id."""
    if isinstance(record, Area):
        check_texts(record)
    elif isinstance(record, Meter):
        check_texts(Area(area=record.meter, meters=[record]))
    elif isinstance(record, Tariff):
        check_texts(Area(area=record.tariff, tariffs=[record]))


def _refusal(table: str, place: str, row: Row, error: Exception) -> tuple[str, str]:
    """Why a row is refused, and where, with the cell."""
    fault = str(error)
    if missing := MISSING_PATTERN.search(fault):
        return f"{table}: {missing[1]} is missing", place
    found = PLACE_PATTERN.search(fault)
    if not found:
        return f"{table}: {fault}", place
    what = PLACE_PATTERN.sub("", fault)
    if what.startswith("Invalid enum value"):
        what = "no known word"
    elif ", got `" in what:
        what = "no number"
    return f"{table}: {found[1]}: {what}", f"{place}: {str(row.get(found[1]))[:40]!r}"
