"""Judging a source from its progress in the store to its end, with a checkpoint every few seconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np

from detectors.engine import Engine
from detectors.rule import ALL_RULES, Rule
from detectors.rulebook import EMPTY_RULEBOOK, applied
from detectors.snapshots import SnapshotError
from replay.history import Source, arrival_groups, arrivals
from replay.shards import WholeHistory
from schemas.alert import Alert
from schemas.columns import Batch, Readings, Times
from schemas.rules import Rulebook
from streams.local.progress import Progress
from streams.local.store import STORE_ADVICE, Store, StoreError

CHECKPOINT_SECONDS = 2.0
STEP_SECONDS = 1.0  # of a step, so that progress is saved and shown by time
FIRST_ROWS = 500  # rows of the first step, from which the pace is learned
Judged = TypeVar("Judged")


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
    has_brakes: bool = True,
    whole: WholeHistory | None = None,
) -> Progress:
    """Judges a source, of a known zone and interval, from its progress in the store to its end. Raises StoreError.

    Calls `on_progress` after every step, and `notify` with news of the store. The rest of the source is judged by
    `rulebook`. A shard comes with what it knows of the `whole` history.
    """
    progress = store.progress(name)
    if progress.done:
        return progress
    before = store.rulebook()
    engine = Engine(
        applied(before, rules),
        zone=source.zone,
        interval=source.interval,
        has_brakes=has_brakes,
    )
    places = whole.places if whole else {}
    engine.enroll(store.enroll(source.areas, places))
    _restore(engine, store, notify)

    changed: dict[str, Alert] = {}  # since the last checkpoint, by id
    if rulebook != before:
        changed = {alert.id: alert for alert in engine.adopt(applied(rulebook, rules))}

    def judge(batch: Batch) -> list[Alert]:
        return [*engine.step(batch), *engine.shadowed]

    saved = time.monotonic()
    for alerts in judged_steps(source, judge, engine, progress, whole):
        changed.update((alert.id, alert) for alert in alerts)
        on_progress(progress)
        if time.monotonic() - saved >= every:
            store.save(progress, engine.snapshot(), changed.values(), rulebook)
            saved = time.monotonic()
            changed = {}

    store.save(progress, engine.snapshot(), changed.values(), rulebook)
    return progress


def judged_steps(
    source: Source,
    judge: Callable[[Batch], Judged],
    engine: Engine,
    progress: Progress,
    whole: WholeHistory | None = None,
) -> Iterator[Judged]:
    """What `judge` makes of a source from the progress on, a portion at a time; updates the progress of `engine`."""
    counted = Counter(engine.counts)
    progress.began = progress.began or progress.first
    if whole and not progress.first:
        progress.first, progress.began = whole.first, whole.began
    began = time.monotonic()
    pace = Pace()
    for batch, ends in portions(source.batches, progress, pace):
        last_read = engine.reorder.last_read.copy()
        progress.began = progress.began or int(batch.at[0])
        judged = judge(batch)
        _note_rows(progress, batch, ends=ends)
        progress.watched(_observed_seconds(engine, batch, last_read, progress.began))
        progress.meters = len(engine.indexes.meters)

        now = time.monotonic()
        pace.learn(batch, now - began)
        progress.seconds += now - began
        began = now
        progress.count(Counter(engine.counts) - counted)
        counted = Counter(engine.counts)
        yield judged

    progress.done = True
    progress.shared = engine.indexes.meters.shared()
    if whole:
        known = engine.indexes.meters.known.values()
        progress.meter_ids = [meter for meters in known for meter in meters]
    progress.strangers = source.tally.named.strangers()


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
    """How many rows of each kind a step judges: a few payments say nothing of readings."""

    first: int = FIRST_ROWS
    by_kind: dict[str, int] = field(default_factory=dict)

    def learn(self, batch: Batch, seconds: float) -> None:
        """Learns from rows that were judged in so many seconds."""
        rows = int(len(batch) / max(seconds, 1e-6) * STEP_SECONDS)
        self.by_kind[batch.kind] = max(rows, 1)

    def rows(self, batch: Batch) -> int:
        """How many rows of a batch a step judges."""
        return self.by_kind.get(batch.kind, self.first)


def portions(
    batches: Iterable[Batch], progress: Progress, pace: Pace
) -> Iterator[tuple[Batch, bool]]:
    """The portions from the progress on, as large as the pace says; True with the last of its batch."""
    for batch in islice(batches, progress.batches, None):
        done = progress.within
        while True:
            end = len(batch)
            if pace.rows(batch) < end - done:
                # Rows that arrived together stay together.
                groups = arrival_groups(batch)
                last_group = groups[done + pace.rows(batch) - 1]
                end = int(np.searchsorted(groups, last_group, "right"))
            is_whole = end - done == len(batch)
            portion = batch if is_whole else batch.select(slice(done, end))
            yield portion, end == len(batch)
            done = end
            if done >= len(batch):
                break


def _observed_seconds(
    engine: Engine, batch: Batch, last_read: Times, began: int
) -> int:
    """Seconds of meters that a batch adds: for each meter, from its last reading before the batch to its last in it.

    A new meter counts from its first row, and a meter of earlier sources from the beginning of this one. The sum is
    the same for any cut into batches.
    """
    if not isinstance(batch, Readings):
        return 0
    after = engine.reorder.last_read
    before = np.zeros(len(after), np.int64)
    before[: len(last_read)] = last_read

    slots, first_rows = np.unique(engine.indexes.meters.slots(batch), return_index=True)
    is_new = before[slots] == 0
    before[slots[is_new]] = batch.at[first_rows[is_new]]
    gained = after[slots] - np.maximum(before[slots], began)
    return int(np.maximum(gained, 0).sum())
