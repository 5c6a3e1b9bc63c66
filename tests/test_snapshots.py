"""State outlives a version; state that cannot be restored is named; damaged state is never used."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from cramjam import zstd

from detectors.engine import Engine
from detectors.policy.notices import is_notice
from detectors.snapshots import SNAPSHOT_LAYOUT, SnapshotError, pack_snapshot
from models.state.codec import loads
from replay.history import Source
from schemas.alert import Alert
from schemas.columns import Readings, Stages
from schemas.master import Area, Meter
from streams.kafka import checkpoints
from streams.local.follow import follow
from streams.local.progress import Progress
from streams.local.store import Store, StoreError
from tests import goldens
from tests.chaos import adversarial_areas, portions

START_TIME = 1_772_380_800
DATA_FOLDER = Path(__file__).parent / "data"
REFUSED_LAYOUTS = (1, 6)  # layouts of the first two days
OLDER_SNAPSHOTS = sorted(
    path.name
    for path in (
        *DATA_FOLDER.glob("state_layout[78].*"),
        *goldens.GOLDEN_FOLDER.glob("layout8_*"),
    )
)


def engine() -> Engine:
    engine = Engine()
    engine.enroll([Area(area="A1", meters=[Meter(meter="M0"), Meter(meter="M1")])])
    return engine


def readings(first: int, last: int) -> Readings:
    """Readings of two meters that draw 1 kW each; both registers fall after the first day."""
    numbers = range(first, last)
    at = [START_TIME + 900 * (n // 2 + 1) for n in numbers]
    register = [100 + n / 8 - 50 * (n > 250) for n in numbers]
    return Readings.build(
        ["M0", "M1"],
        [n % 2 for n in numbers],
        ["A1"],
        [0] * len(at),
        at,
        register=register,
        kwh=[0.25] * len(at),
    )


def before() -> Engine:
    """An engine after the first day, with open work."""
    watch = engine()
    watch.step(readings(0, 200))
    watch.step(
        Stages.build(
            ["W1"],
            [0],
            ["S1"],
            [0],
            [START_TIME],
            stages=["review"],
            stage=[0],
            limit=[3600.0],
        )
    )

    return watch


def after(watch: Engine) -> list[Alert]:
    """The alerts of the days that follow."""
    return watch.step(readings(200, 800)) + watch.tick(START_TIME + 6 * 86_400)


@pytest.mark.parametrize("name", OLDER_SNAPSHOTS)
def test_snapshot_from_before_owners_had_versions_is_restored(name):
    path = (
        DATA_FOLDER / name if name.startswith("state") else goldens.GOLDEN_FOLDER / name
    )
    restored = engine()
    afresh = restored.restore(gzip.decompress(path.read_bytes()))
    alerts = after(restored)

    assert {alert.rule for alert in alerts} >= {"register_decrease", "stage_overdue"}
    assert alerts == after(before())
    assert {
        "index/meters",
        "open_days",
        "work",
        "policy",
        "days/DayRuns",
        "days/Routine",
    }.isdisjoint(afresh)
    assert ("ledger" in afresh) == (
        "firsts" not in str(goldens.opened(gzip.decompress(path.read_bytes()))["state"])
    )


def test_state_that_a_golden_lacks_is_named():
    restored = engine()
    afresh = restored.restore(goldens.read("layout8_8f1eafc"))
    assert {*afresh} >= {
        "backlog",
        "days/Coupling",
        "days/near_zero_usage",
        "days/voltage_current_decoupling",
        "area_days/ReadDays",
        "area_days/read_success_rate",
        "backlogs/stage_batch_stuck",
    }


@cache
def alerts_of_history(file: bytes) -> list[Alert]:
    """The alerts of an engine that lived through the history of a golden; several goldens share one."""
    history = goldens.history(loads(file))
    return history.alerts_after(history.engine_at_snapshot())


@pytest.mark.parametrize("name", goldens.names())
def test_every_golden_snapshot_goes_on_as_an_engine_that_lived_through_it(name):
    state, history = goldens.load_golden(name)
    restored = history.engine()
    afresh = restored.restore(state)
    expected = alerts_of_history(goldens.read(f"{name}.history"))
    assert len({alert.rule for alert in expected}) > 5
    otherwise = goldens.affected_rules(restored, afresh) | goldens.before_causes(
        state, restored
    )
    assert (
        goldens.differing_rules(expected, history.alerts_after(restored)) <= otherwise
    )


class LivedThrough(NamedTuple):
    """Of an engine that lived through a golden: its state at the snapshot, then its alerts and its last state."""

    state: bytes
    alerts: list[Alert]
    last_state: bytes


@cache
def lived_through() -> LivedThrough:
    """What an engine makes of the history of the last golden."""
    _, history = goldens.last_golden()
    lived = history.engine_at_snapshot()
    state = lived.snapshot()
    return LivedThrough(state, history.alerts_after(lived), lived.snapshot())


def test_the_last_golden_is_the_state_of_an_engine_that_lived_through_it():
    state, history = goldens.last_golden()
    lived, restored = lived_through(), history.engine()
    assert restored.restore(state) == []
    assert history.alerts_after(restored) == lived.alerts
    assert restored.snapshot() == lived.last_state


def golden_and_current() -> tuple[dict[str, Any], dict[str, Any]]:
    """The schemas of all owners in the last golden, and today."""
    state, history = goldens.load_golden(goldens.names()[-1])
    golden = goldens.schemas(goldens.opened(state))
    current = goldens.schemas(goldens.opened(history.engine().snapshot()))
    return msgspec.to_builtins(golden), current


def test_a_new_state_needs_a_new_golden_file():
    changed = goldens.changed_owners(*golden_and_current())
    assert changed == set(), (
        "what is remembered has changed: `python -m tests.goldens NAME` writes a file"
    )


def test_a_rule_whose_state_has_the_form_of_anothers_needs_no_golden():
    golden, current = golden_and_current()
    for name in ("readings/voltage_loss", "readings/voltage_loss/final"):
        del golden[name]
    assert goldens.changed_owners(golden, current) == set()


@pytest.mark.parametrize(
    "name",
    ["readings/voltage_loss", "days/Routine", "days/published", "work", "a day"],
)
def test_other_new_and_changed_and_removed_state_needs_a_golden(name):
    golden, current = golden_and_current()
    version, schema = current[name]
    assert goldens.changed_owners(golden, current | {name: (version + 1, schema)})

    del current[name]
    assert goldens.changed_owners(golden, current)
    if name != "readings/voltage_loss":
        assert goldens.changed_owners(current, golden)


def test_a_new_rule_with_a_state_of_its_own_needs_a_golden():
    golden, current = golden_and_current()
    del golden["readings/voltage_loss"]
    version, schema = current["readings/voltage_loss"]
    current["readings/voltage_loss"] = (version, {**schema, "moon": "float64"})
    assert goldens.changed_owners(golden, current)


def test_the_goldens_are_made_with_alerts_open():
    engines = []
    for name in goldens.names():
        state, history = goldens.load_golden(name)
        engines.append(history.engine())
        engines[-1].restore(state)
    opened = {
        name
        for engine in engines
        for name in engine.judges.by_name
        if any(tracked.open for tracked in goldens.judge_of(engine, name).episodes)
    }

    assert opened >= {
        "readings",
        "payments",
        "days",
        "intervals",
        "overdue",
        "invoices",
        "transfers",
        "incidents",
    }
    assert any(engine.reorder.late for engine in engines)
    assert all(
        len(engine.indexes.areas) > 2 and engine.reorder.buffered_readings.log.size
        for engine in engines
    )


def test_golden_files_are_never_written_again():
    sums = dict(
        line.split()[::-1] for line in goldens.CHECKSUM_FILE.read_text().splitlines()
    )
    assert {
        name: hashlib.sha256((goldens.GOLDEN_FOLDER / name).read_bytes()).hexdigest()
        for name in sums
    } == sums

    files = {path.name for path in goldens.GOLDEN_FOLDER.glob("*.gz")}
    files |= {f"../{path.name}" for path in DATA_FOLDER.glob("state_*.gz")}
    assert files == sums.keys()


def test_no_golden_file_of_the_history_is_missing():
    listed = set(goldens.CHECKSUM_FILE.read_text().splitlines())
    for commit in git("log", "--format=%h", "--", str(goldens.CHECKSUM_FILE)).split():
        path = goldens.CHECKSUM_FILE.relative_to(Path(__file__).parents[1])
        assert set(git("show", f"{commit}:{path}").splitlines()) <= listed, (
            f"{commit} had other golden files"
        )


def git(*words: str) -> str:
    """The output of git on this checkout."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout: there is no history to compare with")
    return subprocess.run(
        ["git", *words], cwd=root, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("layout", REFUSED_LAYOUTS)
def test_snapshot_of_the_first_layouts_is_refused_with_advice(layout, tmp_path):
    state = gzip.decompress(
        (DATA_FOLDER / f"state_layout{layout}.msgpack.gz").read_bytes()
    )
    untouched, before = engine(), engine().snapshot()
    advice = (
        f"has layout {layout}, this version reads layouts 7 to {SNAPSHOT_LAYOUT}: "
        "run the version that wrote it, or remove"
    )

    with pytest.raises(SnapshotError, match=advice):
        untouched.restore(state)
    assert untouched.snapshot() == before

    with Store(tmp_path / "old.db") as store:
        store.save(Progress("yesterday", batches=3), state, [])
        with pytest.raises(
            StoreError,
            match=f"old.db: .*{advice}.* or choose another file with --store",
        ):
            follow(
                Source("today", [], iter(()), 0, "Asia/Shanghai", 900), store, "today"
            )


def test_a_flipped_bit_anywhere_is_noticed():
    snapshot = before().snapshot()
    body = len(snapshot) - len(msgspec.msgpack.decode(snapshot)["body"])
    untouched, fresh = engine(), engine().snapshot()
    for at in [
        *range(body + 8),
        *range(body + 8, len(snapshot), 97),
        len(snapshot) - 1,
    ]:
        for bit in range(8):
            spoilt = (
                snapshot[:at] + bytes([snapshot[at] ^ 1 << bit]) + snapshot[at + 1 :]
            )
            with pytest.raises(
                SnapshotError,
                match="run the version that wrote it|remove the checkpoint",
            ):
                untouched.restore(spoilt)

    assert untouched.snapshot() == fresh


def test_captured_state_does_not_change_with_later_steps():
    stream = adversarial_areas(4, 11)
    watch = Engine(interval=900)
    watch.enroll(stream.areas)
    changed = 0
    for portion in portions(stream, 12):
        captured, state = watch.capture(), watch.snapshot()
        for batch in portion:
            watch.step(batch)
        assert pack_snapshot(captured) == state
        changed += watch.snapshot() != state
    assert changed >= 10


def test_checksum_covers_all_restored_state():
    fields = msgspec.msgpack.decode(before().snapshot())
    assert fields.keys() == {"layout", "checksum", "body"}
    assert loads(bytes(zstd.decompress(fields["body"]))).keys() == {
        "settings",
        "owners",
    }


def test_refused_snapshot_leaves_the_engine_unchanged():
    state, history = goldens.last_golden()
    unbroken, lived = lived_through(), history.engine()
    assert lived.restore(unbroken.state) == []

    for name in ("open_days", "index/meters", "policy", "work"):
        tree = goldens.opened(state)
        tree["owners"][name]["columns"] = dict.fromkeys(
            tree["owners"][name]["columns"], "spoilt"
        )
        with pytest.raises(
            SnapshotError,
            match=f"{name}: .*run the version that wrote it, or remove the checkpoint",
        ):
            lived.restore(pack_snapshot(tree))
        assert lived.snapshot() == unbroken.state
    assert history.alerts_after(lived) == unbroken.alerts


def test_missing_column_is_empty_and_unknown_column_is_dropped():
    state, history = goldens.last_golden()
    tree = goldens.opened(state)
    routine = tree["owners"]["days/Routine"]["columns"]
    del routine["degrees"], tree["owners"]["open_days"]["columns"]["cells"]["warmth"]
    routine["moon"] = np.zeros(3)
    tree["owners"]["work"]["columns"]["tides"] = "unknown"
    tree["owners"]["days/Tides"] = {
        "version": 1,
        "schema": {},
        "columns": {"high": np.zeros(3)},
    }
    restored = history.engine()

    assert restored.restore(pack_snapshot(tree)) == []

    [feature] = [
        feature
        for feature in restored.judges.revisable["days"].live.features
        if type(feature).__name__ == "Routine"
    ]

    assert np.isnan(feature.cells["degrees"]).all()
    assert history.alerts_after(restored)


def test_a_snapshot_of_a_later_version_of_an_owner_is_refused():
    tree = goldens.opened(before().snapshot())
    tree["owners"]["open_days"]["version"] = 2
    with pytest.raises(
        SnapshotError,
        match="open_days: has version 2, this program reads up to version 1; run the version",
    ):
        engine().restore(pack_snapshot(tree))


def test_a_changed_meaning_goes_through_the_upgrade_of_its_owner(monkeypatch):
    state, history = goldens.last_golden()
    lived = history.engine()
    restored = history.engine()
    lost = history.engine()
    feature = type(lived.judges.revisable["days"].live.features[0])
    monkeypatch.setattr(feature, "version", 2)

    assert lost.restore(state) == [f"days/{feature.__name__}"]

    monkeypatch.setattr(
        feature,
        "upgrade",
        lambda _, version, columns: columns if version == 1 else None,
    )

    assert restored.restore(state) == []
    assert history.alerts_after(restored) == lived_through().alerts


def judges_with_features() -> list[str]:
    """The judges that have a feature with a state."""
    fresh = engine()
    return [
        name
        for name in fresh.judges.by_name
        if any(feature.schema() for feature in goldens.judge_of(fresh, name).features)
    ]


@pytest.mark.parametrize("judge", judges_with_features())
def test_fresh_state_is_named_and_clears_no_unknown_alert(judge):
    state, history = goldens.last_golden()
    tree = goldens.opened(state)
    features = {
        type(feature).__name__
        for feature in goldens.judge_of(history.engine(), judge).features
        if feature.schema()
    }
    names = [f"{judge}/{name}" for name in features]
    for name in names:
        del tree["owners"][name]
        tree["owners"].pop(f"{name}/final", None)

    restored = history.engine()
    assert set(restored.restore(pack_snapshot(tree))) == set(names)

    restarted = history.engine()
    assert restarted.restore(restored.snapshot()) == []

    alerts, expected = history.alerts_after(restored), lived_through().alerts
    assert goldens.differing_rules(expected, alerts) <= goldens.affected_rules(
        restored, names
    )

    cleared = {alert.id for alert in alerts if alert.state == "cleared"}
    assert cleared <= {alert.id for alert in expected if alert.state == "cleared"}
    assert history.alerts_after(restarted) == alerts


def test_alerts_of_dropped_episodes_are_withdrawn():
    state, history = goldens.last_golden()
    tree = goldens.opened(state)
    for owner in tree["owners"].values():
        if "since" in owner["columns"] and "open" in owner["columns"]:
            owner["columns"]["since"] = owner["columns"]["since"].astype(np.float64)

    restored, lived = history.engine(), history.engine()
    lived.restore(lived_through().state)
    open_before = [
        alert.id
        for name in lived.judges.by_name
        for episodes in goldens.judge_of(lived, name).episodes
        for alert in episodes.open.values()
    ]

    assert open_before
    rules = {rule.name for rule in lived.rules}
    fresh = restored.restore(pack_snapshot(tree))
    assert rules <= {name.rpartition("/")[2] for name in fresh}

    saved, restarted = restored.snapshot(), history.engine()
    assert restarted.restore(saved) == []

    alerts = restarted.tick(int(restarted.areas.watermarks.max()))
    withdrawn = [alert for alert in alerts if alert.change == "withdrawn"]
    assert sorted(alert.id for alert in withdrawn if not is_notice(alert)) == sorted(
        open_before
    )


def test_episodes_continue_when_their_rules_have_other_levels():
    state, history = goldens.last_golden()
    tree = goldens.opened(state)
    for owner in tree["owners"].values():
        if "since" in owner["columns"] and "open" in owner["columns"]:
            since = owner["columns"]["since"]
            owner["columns"]["since"] = np.concatenate([since, np.zeros_like(since)])
    restored = history.engine()
    assert restored.restore(pack_snapshot(tree)) == []
    assert history.alerts_after(restored) == lived_through().alerts


def test_checkpoint_contains_the_layout_of_its_manifest():
    """The fields of layout 1; a manifest with other fields needs another number."""
    chunks, manifest = checkpoints.encode(
        checkpoints.CheckpointContents(b"state", {"meter.reads": 7}, 4),
        checkpoints.WrittenCheckpoint(8),
    )
    fields = msgspec.msgpack.decode(manifest.value)

    assert [message.key for message in (*chunks, manifest)] == [b"1/0", b"1/manifest"]
    assert (checkpoints.MANIFEST_LAYOUT, fields.keys()) == (
        1,
        {"layout", "set", "sequence", "partitions", "offsets", "checksums", "taken"},
    )

    record = SimpleNamespace(
        key=manifest.key,
        value=manifest.value,
        headers=manifest.headers,
        partition=0,
        topic="t",
    )

    assert checkpoints._manifest(record, 4).offsets == {"meter.reads": 7}
