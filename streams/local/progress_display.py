"""The progress of a run on a terminal or in a log."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from replay.history import Source
from streams.local.progress import Progress
from streams.times import local_time


class ProgressDisplay:
    """Shows the progress of a run: a moving bar on a terminal, else a line for every tenth."""

    def __init__(self, console: Console, source: Source, *, quiet: bool) -> None:
        self._source = source
        self._console = console
        self._quiet = quiet
        self._tenth = 0

        self._bar = ProgressBar(
            TextColumn("{task.fields[day]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=source.rows or None, day="", rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Shows the progress."""
        day = local_time(progress.last, self._source.zone)
        rate = f"{progress.rows / max(progress.seconds, 1e-9):,.0f} rows/s"
        self._bar.update(self._task, completed=progress.rows, day=day, rate=rate)
        tenth = 10 * progress.rows // self._source.rows if self._source.rows else 0
        if tenth > self._tenth and self._bar.disable and not self._quiet:
            self._console.print(
                f"{min(tenth, 10) * 10:3d} %  {day}  {progress.rows:,} rows  {rate}"
            )
        self._tenth = max(self._tenth, tenth)
