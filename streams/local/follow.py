"""Judging a source from its progress in the store to its end, with a checkpoint every few seconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from detectors.rulebook import EMPTY_RULEBOOK, applied
from detectors.snapshots import SnapshotError
from replay.history import Source, arrival_groups, arrivals
from schemas.alert import Alert
from schemas.columns import LATEST_TIME, Batch, Readings, Times
from schemas.rules import Rulebook
from schemas.units import DAY_SECONDS
from streams.local.progress import Progress
from streams.local.store import STORE_ADVICE, Store, StoreError

CHECKPOINT_SECONDS = 2.0
STEP_SECONDS = 1.0  # of a step, so that progress is saved and shown by time
FIRST_ROWS = 500  # rows of the first step, from which the pace is learned


def follow(
    source: Source,
    store: Store,
    name: str,
    *,
    every: float = CHECKPOINT_SECONDS,
    on_progress: Callable[[Progress], None] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
    rulebook: Rulebook = EMPTY_RULEBOOK,
    rules: Mapping[str, Rule] = ALL_RULES,
) -> Progress:
    """Judges a source, of a known zone and interval, from its progress in the store to its end. Raises StoreError.

    Calls `on_progress` after every step, and `notify` with news of the store. The rest of the source is judged by
    `rulebook`.
    """
    progress = store.progress(name)
    if progress.done:
        return progress
    before = store.rulebook()
    engine = Engine(applied(before, rules), zone=source.zone, interval=source.interval)
    engine.enroll(store.enroll(source.areas))
    _restore(engine, store, notify)

    counted = Counter(engine.counts)
    changed: dict[str, Alert] = {}  # since the last checkpoint, by id
    if rulebook != before:
        changed = {alert.id: alert for alert in engine.adopt(applied(rulebook, rules))}

    began = saved = time.monotonic()
    pace = Pace()
    for batch, ends in portions(source.batches, progress, pace):
        last_receipts = engine.reorder.last_read.copy()
        alerts = [*engine.step(batch), *engine.shadowed]
        changed.update((alert.id, alert) for alert in alerts)
        _note_rows(progress, batch, ends=ends)
        progress.meter_days += _observed_days(
            engine, batch, last_receipts, progress.first
        )
        progress.meters = len(engine.indexes.meters)

        now = time.monotonic()
        pace.rows = max(int(len(batch) / max(now - began, 1e-6) * STEP_SECONDS), 1)
        progress.seconds += now - began
        began = now
        progress.count(Counter(engine.counts) - counted)
        counted = Counter(engine.counts)
        on_progress(progress)

        if now - saved >= every:
            store.save(progress, engine.snapshot(), changed.values(), rulebook)
            saved = time.monotonic()
            changed = {}

    progress.done = True
    progress.shared = engine.indexes.meters.shared()
    progress.strangers = source.tally.named.strangers()
    store.save(progress, engine.snapshot(), changed.values(), rulebook)
    return progress


def _restore(engine: Engine, store: Store, notify: Callable[[str], None]) -> None:
    """Restores the engine from a store's state, if it has one. Raises StoreError."""
    state = store.state()
    if state is None:
        return
    try:
        afresh = engine.restore(state)
    except SnapshotError as error:
        raise StoreError(f"{store.path}: {error}; or {STORE_ADVICE}") from error
    if afresh:
        notify(
            f"{store.path} was written by another version, in which these are otherwise; they start afresh: "
            f"{', '.join(afresh)}"
        )


def _note_rows(progress: Progress, batch: Batch, *, ends: bool) -> None:
    """Notes that a portion of a batch is judged; `ends` if it is the last of its batch."""
    if ends:
        progress.batches += 1
        progress.within = 0
    else:
        progress.within += len(batch)
    arrived = arrivals(batch)
    first = int(arrived.min(initial=1 << 62))
    progress.first = min(progress.first or 1 << 62, first)
    progress.last = max(progress.last, int(arrived.max(initial=0)))


@dataclass
class Pace:
    """How many rows a step judges."""

    rows: int = FIRST_ROWS


def portions(
    batches: Iterable[Batch], progress: Progress, pace: Pace
) -> Iterator[tuple[Batch, bool]]:
    """The portions from the progress on, as large as the pace says; True with the last of its batch."""
    for batch in islice(batches, progress.batches, None):
        done = progress.within
        while True:
            end = len(batch)
            if pace.rows < end - done:
                # Rows that arrived together stay together.
                groups = arrival_groups(batch)
                last_group = groups[done + pace.rows - 1]
                end = int(np.searchsorted(groups, last_group, "right"))
            is_whole = end - done == len(batch)
            portion = batch if is_whole else batch.select(slice(done, end))
            yield portion, end == len(batch)
            done = end
            if done >= len(batch):
                break


def _observed_days(
    engine: Engine, batch: Batch, last_receipts: Times, first: int
) -> float:
    """Meter days that a batch adds: for each meter, from its receipt before the batch to its last in it.

    A new meter counts from its first row, and a meter of earlier sources from the first row of this source.
    """
    if not isinstance(batch, Readings):
        return 0.0
    after = engine.reorder.last_read
    before = np.zeros(len(after), np.int64)
    before[: len(last_receipts)] = np.where(
        last_receipts > 0, np.maximum(last_receipts, first), 0
    )

    slots = engine.indexes.meters.slots(batch)
    is_new = before[slots] == 0
    if is_new.any():
        first_rows = np.full(len(after), LATEST_TIME)
        np.minimum.at(first_rows, slots[is_new], arrivals(batch)[is_new])
        before = np.where(before == 0, first_rows, before)
    return float(np.maximum(after - before, 0).sum()) / DAY_SECONDS
