"""Golden snapshots: the states of older versions of this project, from which every later one must go on.

A file is never written again. `python -m tests.goldens NAME` writes a new one: today's state in the middle of an
adversarial stream, its history, and lines in `SHA256SUMS`. SEED and LEFT may follow: the seed of another stream, and
the share of it that is still to come.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Collection, Iterable
from dataclasses import fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cramjam import zstd

from detectors.engine import Engine
from detectors.judge import Judge
from detectors.revisable import FINAL_SUFFIX, RevisableJudge
from detectors.rule import ALL_RULES, Rule
from models.state.codec import dumps, loads
from schemas.alert import Alert
from schemas.columns import ALL_KINDS, Batch
from schemas.master import Area
from tests.adversarial import adversarial_stream

GOLDEN_FOLDER = Path(__file__).parent / "data" / "golden"
CHECKSUM_FILE = GOLDEN_FOLDER / "SHA256SUMS"
BATCH_ROWS = 3  # rows of a batch
QUIET_DAYS = 6  # after the history, so that all days close and are sealed
JUDGED_BY = {  # judges that read the state of another owner
    "work": ("overdue", "backlogs"),
    "backlog": ("backlogs",),
    "stage_order": ("disorder",),
    "bills": ("invoices",),
    "ledger": ("transfers",),
    "reports": ("incidents",),
    "recent_attempts": ("payments", "attempts"),
}


class History(NamedTuple):
    """Rows before and after a snapshot, and the master data and settings for judging them."""

    areas: list[Area]
    zone: str
    interval: int
    before: list[Batch]
    after: list[Batch]
    rules: list[Rule] | None = None  # that judge; None for all

    def engine(self) -> Engine:
        """An engine that knows the areas and has seen nothing."""
        engine = Engine(self.rules, zone=self.zone, interval=self.interval)
        engine.enroll(self.areas)
        return engine

    def engine_at_snapshot(self) -> Engine:
        """An engine that has seen the rows before the snapshot."""
        engine = self.engine()
        for batch in self.before:
            engine.step(batch)
        return engine

    def alerts_after(self, engine: Engine) -> list[Alert]:
        """The alerts of an engine on the rows after the snapshot, and on quiet days."""
        alerts = [alert for batch in self.after for alert in engine.step(batch)]
        for _ in range(QUIET_DAYS):
            alerts += engine.tick(int(engine.areas.watermarks.max()) + 86_400)
        return alerts


def load_golden(name: str) -> tuple[bytes, History]:
    """A golden snapshot and its history."""
    return read(name), history(loads(read(f"{name}.history")))


def last_golden() -> tuple[bytes, History]:
    """The newest golden snapshot, and its history as the rules judge it whose episodes it has."""
    state, history = load_golden(names()[-1])
    owners = opened(state)["owners"]
    known = {name.partition("/")[2] for name in owners}
    rules = [rule for rule in ALL_RULES.values() if rule.name in known]
    return state, history._replace(rules=rules)


def read(name: str) -> bytes:
    """The content of a file."""
    return gzip.decompress((GOLDEN_FOLDER / f"{name}.msgpack.gz").read_bytes())


def names() -> list[str]:
    """The goldens that have a history of their own, oldest first."""
    listed = [line.split()[1] for line in CHECKSUM_FILE.read_text().splitlines()]
    return [
        name.removesuffix(".history.msgpack.gz")
        for name in listed
        if name.endswith(".history.msgpack.gz")
    ]


def history(tree: Any) -> History:
    """A history from a file."""
    areas = msgspec.convert(tree["areas"], list[Area])
    before = [batch_of(encoded) for encoded in tree["before"]]
    # any cut gives the same alerts, and few batches take less time
    after = [
        ALL_KINDS[kind].join([*map(batch_of, of_kind)])
        for kind, of_kind in groupby(tree["after"], itemgetter(0))
    ]
    return History(areas, tree["zone"], tree["interval"], before, after)


def batch_of(encoded: tuple[str, dict[str, Any]]) -> Batch:
    """A batch from a file."""
    kind, columns = encoded
    return ALL_KINDS[kind].build(**columns)


def opened(state: bytes) -> Any:
    """The tree of a snapshot."""
    return loads(bytes(zstd.decompress(msgspec.msgpack.decode(state)["body"])))


def schemas(tree: Any) -> dict[str, Any]:
    """Version and schema of every owner in the tree of a snapshot, and of a packed day."""
    owners = {
        name: (owner["version"], owner["schema"])
        for name, owner in tree["owners"].items()
    }
    day_cells = tree["owners"]["open_days"]["columns"]["cells"]
    return owners | {"a day": (owners["open_days"][0], day_cells)}


def changed_owners(golden: dict[str, Any], current: dict[str, Any]) -> set[str]:
    """The owners whose state no golden has: all that differ, but new rules whose state has the form of another's."""
    rules = {
        name
        for name in current
        if name.partition("/")[2].removesuffix(FINAL_SUFFIX) in ALL_RULES
    }
    forms = [golden[name] for name in rules & golden.keys()]
    common = {name for name in rules - golden.keys() if current[name] in forms}
    differing = {
        name
        for name in current.keys() | golden.keys()
        if current.get(name) != golden.get(name)
    }
    return differing - common


def affected_rules(engine: Engine, afresh: Collection[str]) -> set[str]:
    """The rules that may judge otherwise after owners of state have started afresh."""
    rules = {name.rpartition("/")[2] for name in afresh}
    for owner, judges in JUDGED_BY.items():
        if owner in afresh:
            for name in judges:
                rules |= {rule.name for rule in judge_of(engine, name).rules}

    # Rules that read a column of a feature that started afresh, or of another that reads such a column.
    for name in engine.judges.by_name:
        judge = judge_of(engine, name)
        columns: set[str] = set()
        for feature in judge.features:
            is_afresh = f"{name}/{type(feature).__name__}" in afresh
            if is_afresh or columns.intersection(feature.uses):
                columns |= set(feature.gives)
        for rule in judge.rules:
            if columns.intersection((*rule.reads, *rule.optional_reads, "gap")):
                rules.add(rule.name)

    # Rules whose alerts they explain, or that explain theirs.
    related: set[str] = set()
    for failure in ALL_RULES.values():
        explained = {
            rule.name
            for rule in ALL_RULES.values()
            if failure.explains in rule.explained_by
        }
        if failure.name in rules:
            related |= explained
        if not rules.isdisjoint(explained):
            related.add(failure.name)
    return rules | related


def before_causes(state: bytes, engine: Engine) -> set[str]:
    """The rules whose episodes ended sooner in an older version, and those whose alerts had no notice."""
    owners = opened(state)["owners"]
    rules: set[str] = set()
    if "swept" not in owners["policy"]["schema"]:
        for crowd, gathering in engine.policy.notices.groups.items():
            if len(gathering.members) >= crowd.least_subjects:
                rules.add(crowd.rule)

    for name in engine.judges.by_name:
        for rule in judge_of(engine, name).rules:
            schema = owners.get(f"{name}/{rule.name}", {}).get("schema", {})
            if rule.chronic and "spent" not in schema:
                rules.add(rule.name)
    return rules


def judge_of(engine: Engine, name: str) -> Judge:
    """A judge; of a revisable one the live judge."""
    judge = engine.judges.by_name[name]
    return judge.live if isinstance(judge, RevisableJudge) else judge


def differing_rules(first: Iterable[Alert], second: Iterable[Alert]) -> set[str]:
    """The rules with an alert that only one of two engines has published."""
    alerts, others = (
        {msgspec.json.encode(alert): alert.rule for alert in published}
        for published in (first, second)
    )
    return {(alerts | others)[alert] for alert in alerts.keys() ^ others.keys()}


def write(name: str, seed: int, left: float) -> None:
    """Write a golden of today's state, where late rows wait if any do, and where most rules have an open episode."""
    stream = adversarial_stream(seed)
    batches = list(stream.batches(range(0, len(stream.rows), BATCH_ROWS)))
    engine = Engine(zone=stream.zone, interval=stream.interval)
    engine.enroll(stream.areas)

    best, cut, state = (False, 0), 0, b""
    for n, batch in enumerate(batches[: int(len(batches) * (1 - left))], 1):
        engine.step(batch)
        found = bool(engine.reorder.late), open_episodes(engine)
        if found > best:
            best, cut, state = found, n, engine.snapshot()

    tree = {
        "areas": msgspec.to_builtins(stream.areas),
        "zone": stream.zone,
        "interval": stream.interval,
        "before": [encode_batch(batch) for batch in batches[:cut]],
        "after": [encode_batch(batch) for batch in batches[cut:]],
    }
    write_file(name, state)
    write_file(f"{name}.history", dumps(tree))


def write_file(name: str, content: bytes) -> None:
    """Write a new golden file and its line in `SHA256SUMS`."""
    path = GOLDEN_FOLDER / f"{name}.msgpack.gz"
    with path.open("xb") as out:
        out.write(gzip.compress(content, mtime=0))
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    with CHECKSUM_FILE.open("a") as sums:
        sums.write(f"{checksum}  {path.name}\n")


def open_episodes(engine: Engine) -> int:
    """The number of rules with an open episode."""
    return sum(
        bool(episodes.open)
        for name in engine.judges.by_name
        for episodes in judge_of(engine, name).episodes
    )


def encode_batch(batch: Batch) -> tuple[str, dict[str, Any]]:
    """A batch as it stands in a file."""
    return batch.kind, {item.name: getattr(batch, item.name) for item in fields(batch)}


if __name__ == "__main__":
    golden_name, *stream_choice = sys.argv[1:]
    seed, left = stream_choice or ("7", "0.4")
    write(golden_name, int(seed), float(left))
