"""The progress of a run on a terminal or in a log."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from streams.local.progress import Passed
from streams.times import local_time


class ProgressDisplay:
    """Shows the progress of a run: a moving bar on a terminal, else a line for every tenth."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
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
        self._task = self._bar.add_task("", total=None, day="", rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, passed: Passed) -> None:
        """Shows the progress."""
        day = local_time(passed.last, passed.zone)
        rate = f"{passed.rows / max(passed.seconds, 1e-9):,.0f} rows/s"
        self._bar.update(
            self._task,
            total=passed.expected or None,
            completed=passed.rows,
            day=day,
            rate=rate,
        )

        tenth = 10 * passed.rows // passed.expected if passed.expected else 0
        if tenth > self._tenth and self._bar.disable and not self._quiet:
            self._console.print(
                f"{min(tenth, 10) * 10:3d} %  {day}  {passed.rows:,} rows  {rate}"
            )
        self._tenth = max(self._tenth, tenth)
