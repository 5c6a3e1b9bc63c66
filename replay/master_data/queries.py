"""QUERIES.toml: a database, and a SELECT for each table of master data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from schemas.master import Meter, Tariff, Transformer

CUSTOMER_FIELDS = (
    "segment",
    "trade",
    "contract_kva",
    "suspended_kva",
    "stopped",
    "own_transformer_kva",
    "pv_kva",
    "contract_until",
    "signed_kva",
    "tariff",
    "valley_from",
    "valley_until",
    "credit",
    "declared_kw",
    "read_day",
)
"""The fields of a meter's record that stand in the files of its customer."""
AREA_FIELDS = ("section", "feeder", "gateway")
KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "areas": ("area", *AREA_FIELDS, *Transformer.__struct_fields__),
        "meters": ("area", *Meter.__struct_fields__),
        "customers": ("customer", *CUSTOMER_FIELDS),
        "tariffs": Tariff.__struct_fields__,
    }
)
"""The columns that a row of each table may have."""
NEEDED_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "areas": ("area",),
        "meters": ("area", "meter"),
        "customers": ("customer",),
        "tariffs": ("tariff", "flat"),
    }
)


class QueriesError(ValueError):
    """A file of queries that cannot be used; a line for each fault."""


class Queries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A database, and the SELECTs for the tables of master data; "" leaves a table as the registry has it."""

    url: str
    areas: str = ""
    meters: str = ""
    customers: str = ""
    tariffs: str = ""

    @property
    def selects(self) -> dict[str, str]:
        """The SELECT of each table that has one."""
        given = {table: getattr(self, table) for table in KNOWN_COLUMNS}
        return {table: select for table, select in given.items() if select.strip()}


def load(path: Path) -> Queries:
    """The queries of a file. Raises QueriesError with every fault and its line."""
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise QueriesError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise QueriesError(f"{path}: {error}") from None

    if faults := list(_faults(values)):
        raise QueriesError(
            "\n".join(f"{path}{at_line(text, name)}: {fault}" for name, fault in faults)
        )
    return msgspec.convert(values, Queries)


def _faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The faults of a file's values, each with the name that it is about."""
    for name, value in values.items():
        if name not in Queries.__struct_fields__:
            known = ", ".join(Queries.__struct_fields__)
            meant = _meant(name, Queries.__struct_fields__) or f"; known are {known}"
            yield name, f"there is no `{name}`{meant}"
        elif not isinstance(value, str):
            yield name, f"`{name}` is no text"
    if not values.get("url"):
        yield "", "`url` names no database, such as postgresql+psycopg://HOST/DATABASE"
    if not (values.get("areas") or values.get("meters")):
        yield "", "neither `areas` nor `meters` has a SELECT"
    for table in ("customers", "tariffs"):
        if values.get(table) and not values.get("meters"):
            yield table, f"`{table}` needs `meters`, whose rows name them"


def column_faults(table: str, columns: Collection[str]) -> Iterator[str]:
    """The faults in the names of a table's columns."""
    for column in columns:
        if column not in KNOWN_COLUMNS[table]:
            meant = _meant(column, KNOWN_COLUMNS[table])
            yield f"`{table}` has no column `{column}`{meant}"
    for column in NEEDED_COLUMNS[table]:
        if column not in columns:
            yield f"`{table}` lacks the column `{column}`"


def at_line(text: str, name: str) -> str:
    """Where a file sets a name, for behind the file's name; "" if it does not."""
    for number, line in enumerate(text.splitlines(), 1):
        if name and re.match(rf"\s*\[?{re.escape(name)}\b", line):
            return f" line {number}"
    return ""


def _meant(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name.lower(), known, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
