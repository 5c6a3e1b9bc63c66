"""The extras of the package: the modules that a base installation leaves out."""

from __future__ import annotations

EXTRA_MODULES = {
    "bridge": ("fastavro", "google"),
    "dask": ("distributed",),
    "kafka": (
        "aiohttp",
        "aiokafka",
        "crc32c",
        "faust",
        "kafka",
        "prometheus_client",
    ),
    "models": ("sklearn", "threadpoolctl"),
    "otel": ("opentelemetry",),
    "s3": ("fsspec", "s3fs"),
    "sql": ("psycopg", "sqlalchemy"),
    "xlsx": ("openpyxl",),
}


def missing_extra(error: BaseException) -> str | None:
    """The extra to install for a module that is not there; None if the error is another.

    >>> missing_extra(ModuleNotFoundError(name="faust.types"))
    "this needs the extra kafka: pip install 'meterwatch[kafka]' (there is no module faust.types)"
    >>> missing_extra(ModuleNotFoundError(name="numpy"))
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None

    package = error.name.partition(".")[0]
    for extra, modules in EXTRA_MODULES.items():
        if package in modules:
            way = f"pip install 'meterwatch[{extra}]'"
            return (
                f"this needs the extra {extra}: {way} (there is no module {error.name})"
            )
    return None
