"""A work item in a stage: its events, and what follows from them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

from models.timelines.base import Stay
from models.timelines.lateness import Outlook
from schemas.columns import StageProgress
from schemas.units import NEVER_TIME

UNKNOWN_LIMIT = (-1.0, False)
START_KIND = int(StageProgress.STARTED)  # a member costs more to look up, row by row


class WorkItem(msgspec.Struct):
    """The events of a work item in a stage, which it may enter again."""

    # by time: the limit in seconds, and whether only working days count
    starts: dict[int, tuple[float, bool]] = {}
    # in order of time
    ends: list[int] = []
    pauses: list[int] = []
    resumes: list[int] = []
    # by start: seconds within which such stages were usually done before it
    usual: dict[int, float] = {}
    # by start: the end, None while there is none, of the stays that were counted
    counted: dict[int, int | None] = {}
    # by start: the seconds for which such a stay was paused
    waited: dict[int, int] = {}
    outlook: Outlook = msgspec.field(default_factory=Outlook)

    def add_start(self, at: int, limit: tuple[float, bool]) -> bool:
        """Adds a start; False if it is known, with this limit or a longer one."""
        is_new = limit > self.starts.get(at, UNKNOWN_LIMIT)
        if is_new:
            self.starts[at] = limit
        return is_new

    def add(self, kind: int, at: int) -> bool:
        """Adds an end, a pause or a resumption; False if it is known."""
        progress = StageProgress(kind)
        times = self.pauses if progress == StageProgress.PAUSED else self.resumes
        if progress == StageProgress.FINISHED:
            times = self.ends

        is_new = at not in times
        if is_new:
            insort(times, at)
        return is_new

    def stays(self) -> list[Stay]:
        """Each start with the first end after it.

        A start while the stage is open changes nothing.
        """
        stays: list[Stay] = []
        done = 0
        for start in sorted(self.starts):
            if done <= start:
                after = bisect_left(self.ends, start)
                done = self.ends[after] if after < len(self.ends) else NEVER_TIME
                stays.append(Stay(start, self.starts[start][0], done))
        return stays

    def _pause_spans(self) -> Iterator[tuple[int, int]]:
        """The spans in which it does not age: each pause until it is resumed."""
        until = 0
        for since in self.pauses:
            if until <= since:
                after = bisect_left(self.resumes, since)
                until = self.resumes[after] if after < len(self.resumes) else NEVER_TIME
                yield since, until

    def waited_for(self, start: int, done: int | None) -> int:
        """The seconds for which it was paused in an ended stay."""
        seconds = 0
        if done is None or not self.pauses:
            return seconds
        for since, until in self._pause_spans():
            paused = min(until, done) - max(since, start)
            seconds += max(paused, 0)
        return seconds

    def put_off(self, start: int, at: int) -> int:
        """A time after the pauses since a start have moved it; never while it is paused.

        >>> WorkItem(pauses=[20], resumes=[50]).put_off(10, 30)
        60
        >>> WorkItem(pauses=[20]).put_off(10, 30) == NEVER_TIME, WorkItem(pauses=[40]).put_off(10, 30)
        (True, 30)
        """
        for since, until in self._pause_spans():
            if until <= start:
                continue
            if since >= at:
                break
            if until == NEVER_TIME:
                at = NEVER_TIME
            else:
                at += until - max(since, start)
        return at

    def seconds_after(self, start: int, seconds: float) -> int:
        """The time some seconds after a start by the calendar, and the pauses since then."""
        at = start + round(seconds)
        return self.put_off(start, at) if self.pauses else at
