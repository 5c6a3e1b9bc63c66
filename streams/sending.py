"""Publishing a history to the topics, with a progress bar and the counts for people or machines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from replay.history import Source, Tally
from replay.send import send as publish
from schemas.columns import Batch, Stages
from schemas.wire import Shape
from streams.json_output import show_json
from streams.kafka.rights import SEND_RIGHTS
from streams.kafka.topics import ensure
from streams.settings import Settings
from streams.terminal import plain_output

out = plain_output()
err = Console(stderr=True, highlight=False)


def send_source(
    settings: Settings, source: Source, shape: Shape, speed: float | None, *, json: bool
) -> None:
    """Publishes a history with a progress bar, then shows the counts. Raises SendError, TopicError."""
    asyncio.run(ensure(settings, SEND_RIGHTS))
    seen: set[str] = set()
    source = replace(source, batches=_collecting_areas(source.batches, seen))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=err, transient=True, disable=json or not err.is_terminal
    ) as bar:
        task = bar.add_task(source.name, total=source.rows or None)
        sent = publish(
            source,
            settings.servers,
            shape,
            speed,
            settings.security(),
            prefix=settings.prefix,
            progress=lambda rows, _: bar.update(task, completed=rows),
        )

    if json:
        show_json(
            {
                "sent": dict(sent),
                "refused": dict(source.rejected),
                "mended": dict(source.tally.mended),
            }
        )
        return
    show_sent(sent, source.tally)
    unknown = sorted(seen.difference(area.area for area in source.areas))
    if unknown:
        out.print(
            f"{len(unknown)} areas came without a record, such as {unknown[0]}: "
            "workers reject what the registry does not know, see `unknown_area`"
        )


def show_sent(sent: Mapping[str, int], tally: Tally) -> None:
    """Prints the rows sent, left out and mended, and the notes of the reader."""
    for topic, rows in sent.items():
        out.print(f"{rows:12,} to {topic}")
    first = tally.first
    for reason, count in tally.rejected.items():
        out.print(f"{count:12,} left out: {reason}, first at {first[reason]}")
    for reason, count in tally.mended.items():
        out.print(f"{count:12,} mended: {reason}, first at {first[reason]}")
    for note in tally.notes:
        out.print(note)


def _collecting_areas(batches: Iterator[Batch], areas: set[str]) -> Iterator[Batch]:
    """The same batches; notes the areas that need a record of the registry."""
    for batch in batches:
        if not isinstance(batch, Stages):
            areas.update(batch.areas)
        yield batch
