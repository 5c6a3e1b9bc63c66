"""The rows that the SELECTs of a file of queries give, from any database that SQLAlchemy knows."""

from __future__ import annotations

from pathlib import Path

from replay.master_data.queries import (
    Queries,
    QueriesError,
    at_line,
    column_faults,
)
from replay.master_data.rows import Row


def read_tables(
    queries: Queries, file: Path
) -> tuple[dict[str, list[Row]], dict[str, frozenset[str]]]:
    """The rows of each table, and its columns. Raises QueriesError with the line of the SELECT."""
    from sqlalchemy import create_engine  # noqa: PLC0415 - an extra
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - the same

    rows: dict[str, list[Row]] = {}
    columns: dict[str, frozenset[str]] = {}
    faults: list[str] = []
    text = file.read_text("utf-8")
    name = "url"
    try:
        engine = create_engine(queries.url)
        with engine.connect() as connection:
            for name, select in queries.selects.items():
                # a colon or a percent sign in a SELECT stays as it is
                options = {"no_parameters": True}
                result = connection.exec_driver_sql(select, execution_options=options)
                columns[name] = frozenset(result.keys())
                rows[name] = [dict(row) for row in result.mappings()]
                place = f"{file}{at_line(text, name)}"
                found = column_faults(name, list(result.keys()))
                faults += [f"{place}: {fault}" for fault in found]
        engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise QueriesError(f"{file}{at_line(text, name)}: `{name}`: {cause}") from None
    if faults:
        raise QueriesError("\n".join(faults))
    return rows, columns
