"""Green Button's feed, North America's XML of a customer's energy (ESPI).

It has seconds since 1970, and its links lead from a block of readings to its reading type and its usage point.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from replay import contents, tables
from replay.formats.green_button import AREA_NAME, UN_V
from replay.formats.readings import NO_FLOW_BACK, MeterRows, history
from replay.history import Names, Source, SourceError, Tally
from replay.moments import within
from schemas.columns import Status

DEEPEST_NESTING = 64  # elements within one another
MOST_ENTRIES = 200_000
LEAF_ELEMENTS = {
    "tzOffset",
    "uom",
    "powerOfTenMultiplier",
    "flowDirection",
    "accumulationBehaviour",
    "intervalLength",
    "start",
    "duration",
    "value",
    "quality",
}
READING_FIELDS = ("start", "duration", "value", "quality")  # of a reading
WATT_HOURS = "72"  # uom
FORWARD_FLOW, REVERSE_FLOW = "1", "19"  # flowDirection
BULK_QUANTITY = "1"  # accumulationBehaviour of a register
DELTA_DATA = ("4", "0", "")  # accumulationBehaviour of intervals
ESTIMATED_QUALITIES, EDITED_QUALITY = (8, 9, 12), 7  # qualities of a reading


def recognises(beginning: str) -> bool:
    """True if a text begins as an ESPI feed does."""
    return beginning.lstrip().startswith("<") and "naesb.org/espi" in beginning


@dataclass
class _FeedEntry:
    """An entry of a feed: its kind, its links and its content."""

    kind: str = ""
    link: str = ""  # its own
    up: str = ""  # the link of the entry above it
    related: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    # the numbers of each reading, by READING_FIELDS
    rows: array[float] = field(default_factory=lambda: array("d"))


def open_files(paths: Sequence[tables.File], tally: Tally) -> Source:
    """The feeds as one history of readings."""
    seen = Names()
    meter_rows: list[MeterRows] = []
    offsets: set[str] = set()
    for path in paths:
        if isinstance(path, tables.EmbeddedTable):
            raise SourceError(
                f"{path} is a feed on a sheet: give the XML file that it came from"
            )
        entries = _FeedParser(path).entries
        offsets |= {entry.texts.get("tzOffset", "") for entry in entries} - {""}
        meter_rows += _feed_rows(entries, path, seen, tally)

    # names the columns if no block has rows
    empty = np.zeros(0)
    nothing = MeterRows(
        empty.astype(np.int32),
        empty.astype(np.int64),
        {"kwh": empty, "register": empty, "status": empty.astype(np.uint8)},
    )
    return history(
        " + ".join(path.name for path in paths),
        seen.names,
        AREA_NAME,
        _zone(offsets),
        [nothing, *meter_rows],
        tally,
        un_v=UN_V,
    )


class _FeedParser:
    """The entries of a feed. XML with entities or a document type is refused before it unfolds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = [_FeedEntry()]
        self._stack: list[str] = []
        self._text: list[str] = []

        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._character

        content = contents.whole(path, contents.MOST_UNFOLDED)
        try:
            for place in range(0, len(content), contents.CHUNK_BYTES):
                end = place + contents.CHUNK_BYTES
                parser.Parse(content[place:end], end >= len(content))
        except expat.ExpatError as error:
            why = f"line {error.lineno}, {expat.ErrorString(error.code)}"
            raise SourceError(f"{path} is no whole XML: {why}") from error

    def _refuse(self, *_: object) -> None:
        raise SourceError(
            f"{self.path} has a document type (DTD), which no Green Button file has: it is not read"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2]
        self._stack.append(tag)
        if len(self._stack) > DEEPEST_NESTING or len(self.entries) > MOST_ENTRIES:
            too_much = f"more than {DEEPEST_NESTING} elements within one another, or {MOST_ENTRIES:,} entries"
            raise SourceError(f"{self.path} has {too_much}: it is no Green Button file")

        entry = self.entries[-1]
        if tag == "entry":
            self.entries.append(_FeedEntry())
        elif tag == "link":
            self._link(entry, attributes.get("rel", ""), attributes.get("href", ""))
        elif tag == "IntervalReading":
            entry.rows.extend([np.nan] * len(READING_FIELDS))
        elif not entry.kind and self._stack[-2:-1] == ["content"]:
            entry.kind = tag
        self._text = []

    def _link(self, entry: _FeedEntry, relation: str, href: str) -> None:
        if relation == "self":
            entry.link = href
        elif relation == "up":
            entry.up = href
        elif relation == "related":
            entry.related.append(href)

    def _character(self, text: str) -> None:
        if self._stack[-1] in LEAF_ELEMENTS:
            self._text.append(text)

    def _end(self, name: str) -> None:
        tag = self._stack.pop()
        if tag not in LEAF_ELEMENTS:
            return

        entry = self.entries[-1]
        text = "".join(self._text).strip()
        if "IntervalReading" in self._stack:
            if tag in READING_FIELDS:
                place = READING_FIELDS.index(tag) - len(READING_FIELDS)
                entry.rows[place] = _number(text)
        elif "interval" not in self._stack:
            entry.texts[tag] = text


def _feed_rows(
    entries: Sequence[_FeedEntry], path: Path, seen: Names, tally: Tally
) -> Iterator[MeterRows]:
    """The readings of each block whose reading type is known and counts energy."""
    types = {entry.link: entry for entry in entries if entry.kind == "ReadingType"}
    series = _by_link(entry for entry in entries if entry.kind == "MeterReading")
    points = _by_link(entry for entry in entries if entry.kind == "UsagePoint")

    for block in entries:
        if not block.rows:
            continue
        reading = _leading(series, block.up) or _FeedEntry()
        related = (types[link] for link in reading.related if link in types)
        kind = next(related, None) or _only(types)
        fault = "no reading type leads to the block" if kind is None else _fault(kind)
        if kind is None or fault:
            tally.reject(fault, path.name, len(block.rows) // len(READING_FIELDS))
            continue

        point = _leading(points, reading.up) or _only(points)
        meter = _meter(point.link if point else "") or path.stem
        who = int(seen.numbers([meter])[0])
        yield _block_rows(block, kind, who, path, tally)


def _by_link(entries: Iterable[_FeedEntry]) -> dict[str, _FeedEntry]:
    """The entries by their own link and by every related one."""
    by_link = {}
    for entry in entries:
        for link in filter(None, (entry.link, *entry.related)):
            by_link[link] = entry
    return by_link


def _leading(entries: Mapping[str, _FeedEntry], up: str) -> _FeedEntry | None:
    """The entry that a link leads up to: the link is its own or a related one, or stands below."""
    return entries.get(up) or entries.get(up.rpartition("/")[0])


def _only(entries: Mapping[str, _FeedEntry]) -> _FeedEntry | None:
    """The only entry; None if there are none or several."""
    distinct = {id(entry): entry for entry in entries.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    return None


def _fault(kind: _FeedEntry) -> str:
    """The reason why the readings of a type are left out, "" if they are not."""
    if kind.texts.get("uom", "") != WATT_HOURS:
        return "the unit is none of energy (uom 72)"
    flow = kind.texts.get("flowDirection", FORWARD_FLOW)
    if flow == REVERSE_FLOW:
        return NO_FLOW_BACK
    if flow not in (FORWARD_FLOW, "0", ""):
        return "the energy is net, or of no direction"
    if kind.texts.get("accumulationBehaviour", "") not in (BULK_QUANTITY, *DELTA_DATA):
        return "the readings are neither of intervals nor of a register"
    return ""


def _block_rows(
    block: _FeedEntry, kind: _FeedEntry, who: int, path: Path, tally: Tally
) -> MeterRows:
    """The readings of a block that have a time and a value."""
    start, duration, value, quality = (
        np.array(block.rows).reshape(-1, len(READING_FIELDS)).T
    )
    usual = _number(kind.texts.get("intervalLength", ""))
    duration = np.where(np.isnan(duration), usual, duration)
    ended = start + np.where(duration > 0, duration, np.nan)
    power_of_ten = _number(kind.texts.get("powerOfTenMultiplier", "0") or "0")
    power_of_ten = np.clip(power_of_ten, -12, 12)
    kwh = value * 10.0 ** (power_of_ten - 3)

    at, timed = within(ended)
    tally.reject(
        "the time or the duration of a reading is none", path.name, int((~timed).sum())
    )
    valueless = timed & np.isnan(kwh)
    tally.reject("a value is no number", path.name, int(valueless.sum()))
    keep = timed & np.isfinite(kwh)

    none = np.full(len(kwh), np.nan)
    bulk = kind.texts.get("accumulationBehaviour") == BULK_QUANTITY
    columns = {
        "kwh": none if bulk else kwh,
        "register": kwh if bulk else none,
        "status": _status(quality),
    }
    return MeterRows(
        np.full(keep.sum(), who, np.int32),
        at[keep],
        {name: column[keep] for name, column in columns.items()},
    )


def _status(quality: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The status of each reading, by its quality."""
    estimated = np.where(
        np.isin(quality, ESTIMATED_QUALITIES), Status.ESTIMATED, Status.MEASURED
    )
    edited = quality == EDITED_QUALITY
    return np.where(edited, Status.EDITED, estimated).astype(np.uint8)


def _meter(link: str) -> str:
    """The customer and the usage point of a link, as one id.

    >>> _meter("https://x.org/RetailCustomer/9b6c/UsagePoint/01")
    '9b6c-01'
    >>> _meter("UsagePoint/01")
    '01'
    """
    words = link.strip("/").split("/")
    found = [
        words[k + 1]
        for k in range(len(words) - 1)
        if words[k] in ("RetailCustomer", "UsagePoint")
    ]
    return "-".join(found)


def _zone(offsets: Collection[str]) -> str:
    """The zone so many seconds ahead of UTC, all year; "" if the feeds name none, or several."""
    hours = [
        int(offset) / 3600 for offset in offsets if re.fullmatch(r"-?\d{1,5}", offset)
    ]
    if len(hours) != 1 or hours[0] % 1 or not -12 <= hours[0] <= 14:
        return ""
    if not hours[0]:
        return "UTC"
    return f"Etc/GMT{-int(hours[0]):+d}"


def _number(text: str) -> float:
    """The number, NaN where the text is none."""
    try:
        return float(text)
    except ValueError:
        return np.nan
