"""Golden snapshots: what versions of this project remembered, which every later one goes on from.

A file is never written again. `python -m tests.goldens NAME SEED LEFT` writes another one, of the state as it is now in
the middle of a hostile stream of which a share is left, with the history that it comes of and lines in `SHA256SUMS`.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Collection, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cramjam import zstd

from detectors.causes import EXPLAINED_BY_FAILURE
from detectors.engine import Engine
from detectors.judge import Judge
from detectors.revisable import RevisableJudge
from models.saved import dumps, loads
from schemas.alert import Alert
from schemas.columns import Batch, DeviceEvents, Payments, Readings, Stages
from schemas.master import Area
from tests.adversarial import adversarial_stream

GOLDEN_FOLDER = Path(__file__).parent / "data" / "golden"
CHECKSUM_FILE = GOLDEN_FOLDER / "SHA256SUMS"
BATCH_TYPES: dict[str, type[Batch]] = {
    kind.kind: kind for kind in (Readings, DeviceEvents, Payments, Stages)
}
BATCH_ROWS = 3  # of a batch
QUIET_DAYS = 6  # after the history, in which all days close and are sealed
JUDGED_BY = {  # judges that go by what another owner remembers
    "work": ("overdue", "backlogs"),
    "backlog": ("backlogs",),
    "stage_order": ("disorder",),
    "bills": ("invoices",),
    "ledger": ("transfers",),
    "reports": ("incidents",),
    "peers": ("days",),
    "recent_attempts": ("payments", "attempts"),
}


class History(NamedTuple):
    """Rows before and after a snapshot, and what they are judged with."""

    areas: list[Area]
    zone: str
    interval: int
    before: list[Batch]
    after: list[Batch]

    def engine(self) -> Engine:
        """An engine that knows the areas and has seen nothing."""
        engine = Engine(zone=self.zone, interval=self.interval)
        engine.enroll(self.areas)
        return engine

    def engine_at_snapshot(self) -> Engine:
        """One that has seen what was before."""
        engine = self.engine()
        for batch in self.before:
            engine.step(batch)
        return engine

    def alerts_after(self, engine: Engine) -> list[Alert]:
        """What an engine tells of what comes after, and of quiet days."""
        alerts = [alert for batch in self.after for alert in engine.step(batch)]
        for _ in range(QUIET_DAYS):
            alerts += engine.tick(int(engine.watermarks.max()) + 86_400)
        return alerts


def load_golden(name: str) -> tuple[bytes, History]:
    """A golden snapshot and its history."""
    return read(name), history(loads(read(f"{name}.history")))


def read(name: str) -> bytes:
    """What a file holds."""
    return gzip.decompress((GOLDEN_FOLDER / f"{name}.msgpack.gz").read_bytes())


def names() -> list[str]:
    """The goldens that have a history of their own, as they came."""
    listed = [line.split()[1] for line in CHECKSUM_FILE.read_text().splitlines()]
    return [
        name.removesuffix(".history.msgpack.gz")
        for name in listed
        if name.endswith(".history.msgpack.gz")
    ]


def history(tree: Any) -> History:
    """A history from a file."""
    areas = msgspec.convert(tree["areas"], list[Area])
    before, after = (list(map(batch_of, tree[part])) for part in ("before", "after"))
    return History(areas, tree["zone"], tree["interval"], before, after)


def batch_of(encoded: tuple[str, dict[str, Any]]) -> Batch:
    """A batch from a file."""
    kind, columns = encoded
    return BATCH_TYPES[kind].build(**columns)


def opened(state: bytes) -> Any:
    """The tree of a snapshot."""
    return loads(bytes(zstd.decompress(msgspec.msgpack.decode(state)["body"])))


def schemas(tree: Any) -> dict[str, Any]:
    """Version and schema of every owner in the tree of a snapshot, and of a packed day."""
    owners = {
        name: (owner["version"], owner["schema"])
        for name, owner in tree["owners"].items()
    }
    return owners | {
        "a day": (
            owners["open_days"][0],
            tree["owners"]["open_days"]["columns"]["cells"],
        )
    }


def affected_rules(engine: Engine, afresh: Collection[str]) -> set[str]:
    """The rules that may tell otherwise after some owners have started afresh."""
    rules = {name.rpartition("/")[2] for name in afresh}
    for owner, judges in JUDGED_BY.items():
        if owner in afresh:
            rules |= {
                rule.name for name in judges for rule in judge_of(engine, name).rules
            }
    for name in engine.judges():
        judge = judge_of(engine, name)
        given: set[str] = set()
        for feature in judge.features:
            if f"{name}/{type(feature).__name__}" in afresh or given.intersection(
                (*feature.reads, *feature.takes)
            ):
                given |= set(feature.gives)
        rules |= {
            rule.name
            for rule in judge.rules
            if given.intersection((*rule.reads, *rule.optional_reads, "gap"))
        }
    explained = {
        failure
        for failure, others in EXPLAINED_BY_FAILURE.items()
        if not rules.isdisjoint(others)
    }
    return rules.union(
        explained, *(EXPLAINED_BY_FAILURE.get(rule, ()) for rule in rules)
    )


def before_causes(state: bytes, engine: Engine) -> set[str]:
    """The rules whose episodes ended sooner when a snapshot was made, and whose alerts were told without a notice."""
    owners, crowds = opened(state)["owners"], engine.policy._gatherings
    apart = (
        set()
        if "swept" in owners["policy"]["schema"]
        else {
            crowd.rule
            for crowd, gathering in crowds.items()
            if len(gathering.members) >= crowd.least_subjects
        }
    )
    return apart | {
        rule.name
        for name in engine.judges()
        for rule in judge_of(engine, name).rules
        if rule.chronic
        and "spent" not in owners.get(f"{name}/{rule.name}", {}).get("schema", {})
    }


def judge_of(engine: Engine, name: str) -> Judge:
    """A judge as of the present."""
    judge = engine.judges()[name]
    return judge.live if isinstance(judge, RevisableJudge) else judge


def differing_rules(one: Iterable[Alert], other: Iterable[Alert]) -> set[str]:
    """The rules of which two told otherwise."""
    these, those = (
        {msgspec.json.encode(alert): alert.rule for alert in alerts}
        for alerts in (one, other)
    )
    return {
        rule
        for told, rule in (these | those).items()
        if (told in these) != (told in those)
    }


def write(name: str, seed: int, left: float) -> None:
    """Make a golden of today's state where late rows wait, if any do, and of these where most is open."""
    stream = adversarial_stream(seed)
    batches = list(stream.batches(range(0, len(stream.rows), BATCH_ROWS)))
    engine = Engine(zone=stream.zone, interval=stream.interval)
    engine.enroll(stream.areas)
    best, cut, state = (False, 0), 0, b""
    for n, batch in enumerate(batches[: int(len(batches) * (1 - left))], 1):
        engine.step(batch)
        if (found := (bool(engine.reorder.late), open_episodes(engine))) > best:
            best, cut, state = found, n, engine.snapshot()
    tree = {
        "areas": msgspec.to_builtins(stream.areas),
        "zone": stream.zone,
        "interval": stream.interval,
        "before": [encode_batch(batch) for batch in batches[:cut]],
        "after": [encode_batch(batch) for batch in batches[cut:]],
    }
    for file, data in ((name, state), (f"{name}.history", dumps(tree))):
        path = GOLDEN_FOLDER / f"{file}.msgpack.gz"
        with path.open("xb") as out:
            out.write(gzip.compress(data, mtime=0))
        with CHECKSUM_FILE.open("a") as sums:
            sums.write(
                f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            )


def open_episodes(engine: Engine) -> int:
    """How many rules have an open episode."""
    return sum(
        bool(episodes.open)
        for name in engine.judges()
        for episodes in judge_of(engine, name).episodes
    )


def encode_batch(batch: Batch) -> tuple[str, dict[str, Any]]:
    """A batch as it stands in a file."""
    return batch.kind, {f.name: getattr(batch, f.name) for f in fields(batch)}


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
