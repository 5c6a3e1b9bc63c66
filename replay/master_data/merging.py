"""What the registry holds brought up to what the tables give: changes take effect by date, what is gone is ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

from msgspec.structs import replace

from replay.master_data.queries import AREA_FIELDS
from replay.master_data.rows import Selected
from schemas.master import Area, Meter, Tariff, Transformer

DatedRecord = TypeVar("DatedRecord", bound=Meter | Tariff | Transformer)


def merged(held: Mapping[str, Area], tables: Selected, today: int) -> dict[str, Area]:
    """Every area as the registry should hold it; a change without a date of its own holds from `today` on."""
    known = {meter.meter for area in held.values() for meter in area.meters}
    everywhere = {meter for area, meter in tables.refused if not area}

    result: dict[str, Area] = {}
    for name in dict.fromkeys([*held, *tables.areas]):
        before = held.get(name, Area(area=name))
        given = tables.areas.get(name, Area(area=name))
        after = _with_own_fields(before, given, tables, today)
        if "meters" in tables.columns:
            refused = {meter for area, meter in tables.refused if area == name}
            after = replace(
                after,
                meters=_meters(before, given, tables.meter_fields, known, today),
                tariffs=_tariffs(before, given, tables.columns, today),
            )
            after = _ended(after, given, refused | everywhere, today)
        result[name] = after
    return result


def standing_meters(areas: Iterable[Area], today: int) -> set[str]:
    """The meters whose latest record in some area does not end by today."""
    standing: set[str] = set()
    for area in areas:
        latest = {meter.meter: meter for meter in _in_order(area.meters)}
        standing |= {
            name for name, meter in latest.items() if not 0 < meter.until <= today
        }
    return standing


def _with_own_fields(before: Area, given: Area, tables: Selected, today: int) -> Area:
    """The area with its own fields and its transformers as its row says."""
    if before.area not in tables.listed:
        return before
    columns = tables.columns["areas"]
    own = {name: getattr(given, name) for name in AREA_FIELDS if name in columns}
    transformers = _records(before.transformers, given.transformers, columns, today)
    return replace(before, **own, transformers=transformers)


def _meters(
    before: Area, given: Area, columns: Collection[str], known: set[str], today: int
) -> list[Meter]:
    """The records of an area's meters; a meter that another area had before is here from today on."""
    held_by = _grouped(before.meters, "meter")
    given_by = _grouped(given.meters, "meter")
    result: list[Meter] = []
    for name in dict.fromkeys([*held_by, *given_by]):
        held = held_by.get(name, [])
        start = today if name in known else 0
        result += _records(held, given_by.get(name, []), columns, today, start)
    return result


def _tariffs(
    before: Area, given: Area, columns: Mapping[str, Collection[str]], today: int
) -> list[Tariff]:
    """The prices of an area's tariffs."""
    held_by = _grouped(before.tariffs, "tariff")
    given_by = _grouped(given.tariffs, "tariff")
    result: list[Tariff] = []
    for name in dict.fromkeys([*held_by, *given_by]):
        new = given_by.get(name, [])
        result += _records(
            held_by.get(name, []), new, columns.get("tariffs", ()), today
        )
    return result


def _records(
    held: Sequence[DatedRecord],
    given: Sequence[DatedRecord],
    columns: Collection[str],
    today: int,
    start: int = 0,
) -> list[DatedRecord]:
    """The records of one subject. Records before the first that is given stay."""
    known, new = _in_order(held), _in_order(given)
    if not new:
        return known
    if "effective" in columns:
        of_time = {record.effective: record for record in known}
        result = [record for record in known if record.effective < new[0].effective]
        for record in new:
            base = of_time.get(record.effective, result[-1] if result else record)
            result.append(_overlaid(base, record, columns, today))
        return result

    # without a date the one record says how things stand now
    if not known:
        return [replace(new[-1], effective=start)]
    latest = known[-1]
    now = replace(new[-1], effective=latest.effective)
    now = _overlaid(latest, now, columns, today)
    if now == latest:
        return known
    if latest.effective >= today or _is_end(latest, now):
        return [*known[:-1], now]
    return [*known, replace(now, effective=today)]


def _overlaid(
    base: DatedRecord, given: DatedRecord, columns: Collection[str], today: int
) -> DatedRecord:
    """A record with the fields that tables give; what no table gives stays as it is held."""
    names = {"effective", *columns} & set(base.__struct_fields__)
    # a meter that is given stands, unless it is known to go later
    if isinstance(base, Meter) and base.until <= today:
        names.add("until")
    return replace(base, **{name: getattr(given, name) for name in names})


def _is_end(before: DatedRecord, after: DatedRecord) -> bool:
    """True if the one change is that a meter is taken away."""
    if not (isinstance(before, Meter) and isinstance(after, Meter)):
        return False
    return after.until > 0 and replace(after, until=before.until) == before


def _ended(after: Area, given: Area, kept: Collection[str], today: int) -> Area:
    """The area with an end to the meters that no row names; "" among the kept keeps all."""
    standing = {meter.meter for meter in given.meters} | set(kept)
    if "" in standing:
        return after

    latest = {meter.meter: meter for meter in _in_order(after.meters)}
    meters = []
    for meter in after.meters:
        gone = meter.meter not in standing and meter is latest[meter.meter]
        if gone and not 0 < meter.until <= today:
            meter = replace(meter, until=max(today, meter.effective + 1))  # noqa: PLW2901 - the same meter
        meters.append(meter)
    return replace(after, meters=meters)


def _grouped(records: Iterable[DatedRecord], name: str) -> dict[str, list[DatedRecord]]:
    """The records of each subject."""
    found: dict[str, list[DatedRecord]] = {}
    for record in records:
        found.setdefault(getattr(record, name), []).append(record)
    return found


def _in_order(records: Iterable[DatedRecord]) -> list[DatedRecord]:
    return sorted(records, key=attrgetter("effective"))
