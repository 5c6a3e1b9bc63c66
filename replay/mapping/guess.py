"""A mapping guessed from the names of columns; ids from the registry too, an energy from whether it ever falls."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from replay.history import Tally
from replay.ids import clean
from replay.mapping.expressions import ColumnPath, can_be_named
from replay.mapping.row_shape import NO_SHAPE, RowShape
from replay.mapping.targets import phase_stems, targets, words_of
from replay.mapping.units import units_for
from replay.tables import Sheet, meant
from schemas.columns import KIND_COLUMNS, Batch, Readings

DEEPEST_PATH = 6  # names within one another
KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    "meter": (
        "meter", "meterid", "meterno", "meternumber", "metercode", "meterserial", "device", "deviceid", "serial",
        "serialnumber", "nmi", "mpan", "prm", "pod", "sn", "devicesn", "devsn", "metersn", "deviceserial", "endpoint",
        "endpointid", "asset", "assetno", "电表局编号", "电能表编号", "表号",
    ),
    "customer": ("customer", "customerid", "account", "accountid", "consumer", "用户编号", "户号"),
    "item": ("item", "caseid", "ticket", "ticketid", "orderid", "workorder", "工单编号"),
    "area": ("area", "areaid", "transformer", "transformerid", "transformercode", "台区编号", "台区"),
    "section": ("section", "team", "department", "部门"),
    "at": (
        "at", "ts", "time", "timestamp", "datetime", "date", "readat", "readtime", "readingtime", "readingdatetime",
        "eventtime", "intervalend", "endtime", "measuredat", "day", "readdate", "when", "occurredat", "raisedat",
        "时间", "数据时间", "数据日期", "日期",
    ),
    "received": ("received", "receivedat", "receivetime", "ingestedat", "arrivedat", "uploadtime", "rx", "rxtime"),
    "until": ("until", "clearedat", "endedat"),
    "event": ("event", "eventcode", "eventtype", "alarm", "alarmcode", "code", "事件代码"),
    "payment": ("payment", "transactiontype", "txtype", "paymenttype", "type"),
    "amount": ("amount", "sum", "金额"),
    "bill": ("bill", "billno", "billid", "invoice", "invoiceno", "invoiceid"),
    "channel": ("channel", "paymentchannel", "via"),
    "reference": ("reference", "ref", "transactionid", "txid"),
    "succeeded": ("succeeded", "success", "result"),
    "due": ("due", "dueon", "duedate", "dueat"),
    "stage": ("stage", "activity", "step", "环节"),
    "progress": ("progress", "transition", "lifecycle"),
    "kwh": ("kwh", "energy", "usage", "consumption", "used", "interval", "intervalenergy", "用电量", "电量"),
    "register": (
        "register", "index", "reading", "total", "totalenergy", "cumulative", "energyimport", "importenergy",
        "energydelivered", "delivered", "importregister", "activeimport", "示值", "正向有功总",
    ),
    "export_register": (
        "exportregister", "energyexport", "exportenergy", "energyreceived", "export", "反向有功总",
    ),
    "neutral": ("neutral", "neutralcurrent", "零线电流"),
    "frequency": ("frequency", "freq", "频率"),
    "temperature": ("temperature", "temp", "ambient", "温度"),
    "demand": ("demand", "maxdemand", "peakdemand"),
    "status": ("status", "quality"),
}  # fmt: skip
PHASE_NAMES_BY_STEM: Mapping[str, tuple[str, ...]] = {
    "u": ("u", "v", "volt", "volts", "voltage", "电压"),
    "i": ("i", "amp", "amps", "current", "电流"),
    "p": ("p", "kw", "power", "activepower", "watt", "watts", "有功功率"),
    "q": ("q", "kvar", "reactivepower", "var", "vars", "无功功率"),
}
PHASE_MARKS = (("a", "1", "l1"), ("b", "2", "l2"), ("c", "3", "l3"))
# of a name that is a unit itself
UNIT_NAMES: Mapping[str, str] = {"watt": "W", "watts": "W", "var": "var", "vars": "var"}
COLUMNS_BY_UNIT: Mapping[str, str] = {"Hz": "frequency", "CNY": "amount"}
PLACE_IN_LIST = re.compile(r"\[(\d+)\]$")  # of a phase, in a list with a value for each
MOST_EXAMPLES, LONGEST_EXAMPLE = 3, 24
MOST_WORDS, SEE_WORDS = 20, "the words are in docs/data-layout.md"
# of an interval, or of a register
AMBIGUOUS_ENERGY = frozenset(
    {"energy", "kwh", "wh", "activeenergy", "energykwh", "energywh"}
)
CURRENT_HEADER = re.compile("电流|current|amp", re.IGNORECASE)
UNIT_AT_END = re.compile(
    r"(?:[\s_(\[]+|(?<=[a-z])(?=[A-Z]))(?P<unit>[a-zA-Z%]+)[)\]]?\s*$"
)


class GuessedColumn(NamedTuple):
    """A column of others, and the column of the project that it is taken for."""

    theirs: str  # the text of its path
    ours: str  # "" if it is not known
    unit: str = ""  # where it is not that of the column
    nearest: str = ""  # the question for what is not known
    examples: tuple[str, ...] = ()  # of its values
    hour: str = ""  # the column of the hour, if this is only the day


def guessed_columns(
    theirs: Sheet,
    kind: type[Batch] = Readings,
    shape: RowShape = NO_SHAPE,
    known_ids: Collection[str] = (),
) -> list[GuessedColumn]:
    """What each column of a sheet is taken for; of several that could be one column, the first.

    Of ids the column that holds the known ones comes before one that is named so.
    """
    known = targets(kind)
    names = _names(kind)
    laid_out = {*shape.clocks, shape.phase, shape.hour}
    matches = {
        text: ("at", "") if text == shape.day else _match(text, names, known)
        for text in sorted(
            theirs.table.column_names, key=lambda name: name != shape.day
        )
        if text not in laid_out and text.strip("`") not in laid_out
    }
    if held := _column_of_ids(theirs, known_ids):
        subject = KIND_COLUMNS[kind]["subject"].outside_name
        for text, (match, _) in matches.items():
            matches[text] = ("", "") if match == subject else matches[text]
        matches[held] = (subject, "")
    columns = {match: text for text, (match, _) in reversed(matches.items())}
    ids, times = columns.get("meter", ""), columns.get("at", "")

    found: dict[str, GuessedColumn] = {}
    unknown = []
    for text, (match, unit) in matches.items():
        ours = match
        if ours == "kwh" and ids and times and _bare(text) in AMBIGUOUS_ENERGY:
            ours = "register" if _never_falls(theirs, ids, times, text) else ours
        if shape.phase and ours.endswith("a") and f"{ours[:-1]}b" in known:
            ours = ours[:-1]
        if ours and ours not in found:
            examples = _examples(theirs, text, MOST_WORDS)
            hour = shape.hour if text == shape.day else ""
            found[ours] = GuessedColumn(text, ours, unit, "", examples, hour)
        else:
            nearest = meant(text, known)
            examples = _examples(theirs, text, MOST_EXAMPLES)
            unknown.append(GuessedColumn(text, "", "", nearest, examples))
    if shape.clocks:
        ours = _of_cells(theirs.table.column_names, shape)
        found.setdefault(ours, GuessedColumn(shape.cell, ours))
    return [*found.values(), *unknown]


def recognises(columns: Collection[str], kind: type[Batch] = Readings) -> bool:
    """True if names mean a subject and a time."""
    known, names = targets(kind), _names(kind)
    found = {_match(name, names, known)[0] for name in columns}
    return {KIND_COLUMNS[kind]["subject"].outside_name, "at"} <= found


def mapping_text(
    columns: Sequence[GuessedColumn],
    place: Mapping[str, str],
    kind: type[Batch],
    shape: RowShape = NO_SHAPE,
    *,
    either_dates: bool = False,
) -> str:
    """The file of a mapping of guessed columns; a place is the entries that say where the data is.

    Of dates that may have the day or the month first, a line asks which.
    """
    entries = dict(place)
    if kind is not Readings:
        entries["kind"] = kind.kind
    mapped = {column.ours: column for column in columns if column.ours}
    if "area" not in mapped and "area" in targets(kind):
        entries["area"] = "registry"
    lines = [f"{name} = {quoted(value)}" for name, value in entries.items()]
    if shape.empty:
        lines.append(f"empty = {quoted(shape.empty)}")
    if either_dates:
        lines.append('# dates = "day"  # or "month": which comes first')

    lines += ["", "[columns]"]
    for name in {**targets(kind), **phase_stems(kind)}:
        if column := mapped.get(name):
            lines.append(f"{name} = {_source(column)}")
    for column in columns:
        if not column.ours:
            shown = ", ".join(map(quoted, column.examples))
            such = f", such as {shown}" if shown else ""
            lines.append(f"# not known: {quoted(column.theirs)}{column.nearest}{such}")
    return "\n".join([*lines, *_shape_lines(shape), *_word_lines(mapped, kind)]) + "\n"


def _source(column: GuessedColumn) -> str:
    """What a column is made of, as a mapping says it."""
    source = quoted(column.theirs)
    if column.hour:
        return f"{{ day = {source}, time = {quoted(column.hour)} }}"
    if column.unit:
        return f"{{ from = {source}, unit = {quoted(column.unit)} }}"
    return source


def _shape_lines(shape: RowShape) -> Iterator[str]:
    """The tables of rows that are no meter and time with all values."""
    if shape.clocks:
        what = "# [columns] says what it is: here a guess"
        yield from ("", "[times]", f"cell = {quoted(shape.cell)}  {what}")
    if shape.phase:
        yield from ("", "[phases]", f"column = {quoted(shape.phase)}")
        for letter, words in shape.words.items():
            yield f"{letter} = {quoted(words)}"


def _word_lines(
    mapped: Mapping[str, GuessedColumn], kind: type[Batch]
) -> Iterator[str]:
    """A table for the words of each column that may hold only some; theirs are to be translated."""
    for name, target in targets(kind).items():
        if name in mapped and (words := words_of(target)):
            shown = ", ".join(words) if len(words) <= MOST_WORDS else SEE_WORDS
            yield from ("", f"[words.{name}]  # {shown}")
            for text in mapped[name].examples:
                yield f'# {quoted(text)} = ""'


def _column_of_ids(theirs: Sheet, known_ids: Collection[str]) -> str:
    """The column with the most known ids, "" if none has one in every second row."""
    most, found = len(theirs) // 2, ""
    for text in theirs.table.column_names if known_ids else ():
        words, numbers = theirs.words(text)
        is_known = np.array([*(clean(word) in known_ids for word in words), False])
        count = int(np.count_nonzero(is_known[numbers]))
        if count > most:
            most, found = count, text
    return found


def _examples(theirs: Sheet, text: str, most: int) -> tuple[str, ...]:
    """Some values of a column."""
    words, _ = theirs.words(text)
    return tuple(word[:LONGEST_EXAMPLE] for word in words[:most])


def leaf_paths(record: Any, path: ColumnPath = ()) -> Iterator[ColumnPath]:
    """The paths to the plain values of a decoded record that an expression can name."""
    if isinstance(record, dict) and len(path) < DEEPEST_PATH:
        for name, value in record.items():
            if can_be_named(name):
                yield from leaf_paths(value, (*path, name))
    elif isinstance(record, list) and len(path) < DEEPEST_PATH:
        for place, value in enumerate(record[:3]):
            yield from leaf_paths(value, (*path, place))
    elif path:
        yield path


def list_of_rows(record: Any, path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The path of the first list of objects within a record; () without one."""
    if not isinstance(record, dict) or len(path) >= DEEPEST_PATH:
        return ()
    for name, value in record.items():
        if not can_be_named(name):
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return (*path, name)
        if found := list_of_rows(value, (*path, name)):
            return found
    return ()


def _of_cells(header: Sequence[str], shape: RowShape) -> str:
    """The column that the cells of times are taken for."""
    if not shape.phase:
        return "kwh"
    return "i" if any(map(CURRENT_HEADER.search, header)) else "u"


def _names(kind: type[Batch]) -> dict[str, tuple[str, str]]:
    """The columns of a kind, and the unit that is meant, by each name that they may have elsewhere."""
    known = targets(kind)
    names = {
        spelling: (ours, "")
        for ours, spellings in KNOWN_NAMES.items()
        if ours in known
        for spelling in spellings
    }
    for stem, spellings in PHASE_NAMES_BY_STEM.items():
        for letter, marks in zip("abc", PHASE_MARKS, strict=True):
            if f"{stem}{letter}" in known:
                names |= _phase_names(f"{stem}{letter}", spellings, marks)
    return names | {name.replace("_", ""): (name, "") for name in known}


def _phase_names(
    ours: str, spellings: Sequence[str], marks: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """The names of a phase: the quantity before the mark or behind it; without a mark phase A."""
    names = {}
    for spelling in spellings:
        meaning = ours, UNIT_NAMES.get(spelling, "")
        for mark in marks:
            names[f"{spelling}{mark}"] = meaning
            names[f"{spelling}phase{mark}"] = meaning
            names[f"{mark}{spelling}"] = meaning
        if marks[0] == "a":
            names[spelling] = meaning
    return names


def _match(
    text: str, names: Mapping[str, tuple[str, str]], known: Mapping[str, Any]
) -> tuple[str, str]:
    """The column that a name means, and its unit if it names one that differs; "" without one."""
    plain = text.replace("`", "")
    plain = PLACE_IN_LIST.sub(lambda place: "abc"[int(place[1]) :][:1] or "more", plain)
    unit = UNIT_AT_END.search(plain)
    spellings: list[tuple[str, str]] = [(plain, "")]
    if unit:
        spellings.append((plain[: unit.start()], unit["unit"]))

    for spelling, named in spellings:
        parts = re.split(r"[.\[]", spelling)
        for count in (1, 2, len(parts)):
            ours, own = names.get(_bare("".join(parts[-count:])), ("", ""))
            if ours:
                return ours, _unit(named or own, known[ours].unit)
    return _by_unit(plain, known) or _by_words(plain, known)


def _by_unit(plain: str, known: Mapping[str, Any]) -> tuple[str, str] | None:
    """The column of a name that is a unit itself: `mHz`, `body.fen`."""
    name = plain.rpartition(".")[2]
    for own, ours in COLUMNS_BY_UNIT.items():
        if ours in known and name in units_for(own):
            return ours, _unit(name, own)
    return None


def _by_words(plain: str, known: Mapping[str, Any]) -> tuple[str, str]:
    """An energy by the words of its name: `kWhDelivered`, `active_energy_wh`."""
    words = _bare(plain)
    if not re.search(r"wh|energy|delivered", words):
        return "", ""
    unit = next((unit for unit in ("mwh", "kwh", "wh") if unit in words), "")
    if re.search(r"export|received|reverse|generat", words):
        ours = "export_register"
    elif re.search(r"total|register|index|cumul|delivered|import", words):
        ours = "register"
    else:
        ours = "kwh"
    if ours not in known:
        return "", ""
    return ours, _unit(unit, known[ours].unit)


def _unit(named: str, own: str) -> str:
    """The unit that a name names, "" if it is the column's own or none."""
    units = units_for(own)
    by_case = {unit.lower(): unit for unit in units if unit[:1] != "m"}
    unit = named if named in units else by_case.get(named.lower(), "")
    return "" if unit == own else unit


def _bare(name: str) -> str:
    """A name in small letters without what stands between words."""
    return re.sub(r"[\W_]", "", name).lower()


def _never_falls(theirs: Sheet, ids: str, times: str, text: str) -> bool:
    """True if a column rises over time and never falls, as a register does and no energy of intervals."""
    sheet = Sheet(theirs.table.select([ids, times, text]), theirs.name, Tally())
    values = sheet.numbers(text).astype(np.float64)
    _, who = sheet.words(ids)
    order = np.lexsort((sheet.times(times)[0], who))
    order = order[~np.isnan(values[order])]
    steps = np.diff(values[order])[np.diff(who[order]) == 0]
    return len(steps) > 0 and bool((steps >= 0).all() and (steps > 0).any())


def quoted(text: str | Sequence[str]) -> str:
    """A text in TOML, or a list of texts."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
