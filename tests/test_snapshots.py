"""What is remembered outlives a version or is refused; what is damaged is never used.

`python -m tests.test_snapshots` writes the file of a new layout.
"""
from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from cramjam import zstd

from detectors.engine import LAYOUT, Engine, SnapshotError
from models.saved import loads
from replay.history import Source
from schemas.alert import Alert
from schemas.columns import Readings, Stages
from schemas.master import Area, Meter
from streams import checkpoints
from streams.local import Place, Store, StoreError, follow

START = 1_772_380_800
DATA = Path(__file__).parent / "data"
FILE = DATA / f"state_layout{LAYOUT}.msgpack.gz"
OLDER = [n for n in range(1, LAYOUT) if (DATA / f"state_layout{n}.msgpack.gz").exists()]


def engine() -> Engine:
    engine = Engine()
    engine.enroll([Area(area="A1", meters=[Meter(meter="M0"), Meter(meter="M1")])])
    return engine


def readings(first: int, last: int) -> Readings:
    """Of two meters that draw a kilowatt each; the registers of both fall after the first day."""
    numbers = range(first, last)
    at = [START + 900 * (n // 2 + 1) for n in numbers]
    register = [100 + n / 8 - 50 * (n > 250) for n in numbers]
    return Readings.build(["M0", "M1"], [n % 2 for n in numbers], ["A1"], [0] * len(at), at, register=register,
                          kwh=[0.25] * len(at))  # fmt: skip


def before() -> Engine:
    """An engine that has seen the first day, and work begun."""
    seen = engine()
    seen.step(readings(0, 200))
    seen.step(Stages.build(["W1"], [0], ["S1"], [0], [START], stages=["review"], stage=[0], limit=[3600.0]))
    return seen


def after(seen: Engine) -> list[Alert]:
    """What is told of the days that follow."""
    return seen.step(readings(200, 800)) + seen.tick(START + 6 * 86_400)


def test_a_snapshot_of_this_layout_from_the_day_it_came_is_gone_on_from():
    assert FILE.exists(), "a new layout: `python -m tests.test_snapshots` writes what stands for it"
    restored = engine()
    restored.restore(gzip.decompress(FILE.read_bytes()))
    told = after(restored)
    assert {alert.rule for alert in told} >= {"register_decrease", "stage_overdue"}
    assert told == after(before()), "what is remembered has changed: give LAYOUT another number"


@pytest.mark.parametrize("layout", OLDER)
def test_a_snapshot_of_an_older_layout_is_refused_with_what_to_do(layout, tmp_path):
    state = gzip.decompress((DATA / f"state_layout{layout}.msgpack.gz").read_bytes())
    untouched, before = engine(), engine().snapshot()
    what = f"has layout {layout}, this version reads layout {LAYOUT}: run the version that wrote it, or remove"
    with pytest.raises(SnapshotError, match=what):
        untouched.restore(state)
    assert untouched.snapshot() == before
    with Store(tmp_path / "old.db") as store:
        store.save(Place("yesterday", batches=3), state, [])
        with pytest.raises(StoreError, match=f"old.db: .*{what}.* or choose another file with --store"):
            follow(Source("today", [], iter(()), 0, "Asia/Shanghai", 900), store, "today")


def test_a_flipped_bit_anywhere_is_noticed():
    whole = before().snapshot()
    body = len(whole) - len(msgspec.msgpack.decode(whole)["body"])
    untouched, fresh = engine(), engine().snapshot()
    for at in [*range(body + 8), *range(body + 8, len(whole), 97), len(whole) - 1]:
        for bit in range(8):
            spoilt = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            with pytest.raises(SnapshotError, match="run the version that wrote it|remove the checkpoint"):
                untouched.restore(spoilt)
    assert untouched.snapshot() == fresh


def test_the_checksum_is_over_everything_that_is_restored():
    told = msgspec.msgpack.decode(before().snapshot())
    assert told.keys() == {"layout", "checksum", "body"}
    assert loads(bytes(zstd.decompress(told["body"]))).keys() == {"settings", "state"}


def test_a_checkpoint_says_the_layout_of_its_manifest():
    """What layout 1 wrote, field by field: a manifest that reads otherwise needs another number."""
    chunks, manifest = checkpoints.encode(b"state", {"meter.reads": 7}, 4, checkpoints.Written(8))
    told = msgspec.msgpack.decode(manifest.value)
    assert [m.key for m in (*chunks, manifest)] == [b"1/0", b"1/manifest"]
    assert (checkpoints.LAYOUT, told.keys()) == (
        1, {"layout", "set", "sequence", "partitions", "offsets", "checksums", "taken"})  # fmt: skip
    record = SimpleNamespace(key=manifest.key, value=manifest.value, headers=manifest.headers, partition=0, topic="t")
    assert checkpoints._manifest(record, 4).offsets == {"meter.reads": 7}


if __name__ == "__main__":
    FILE.write_bytes(gzip.compress(before().snapshot(), mtime=0))
