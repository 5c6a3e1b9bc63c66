"""Several jobs judge shards of a history and give what one job gives."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.policy import braked
from detectors.policy.budget import DAILY_BUDGET
from detectors.policy.notices import NOTICE_REASON
from detectors.policy.storm import STORM_LEAST
from detectors.rulebook import EMPTY_RULEBOOK
from replay import layout, parquet
from replay.shards import WHOLE_HISTORY, Division, Shard, sharded
from replay.simulation.town import Town
from schemas.columns import Batch
from schemas.rules import Rulebook
from schemas.units import DAY_SECONDS
from streams.cli import main
from streams.judged_history import HistoryQuestion, joined
from streams.local.progress import Passed
from streams.local.runner import run
from streams.local.store import Store, StoreError
from streams.settings import Settings
from streams.shards import JobError, Jobs, asked
from tests.adversarial import adversarial_stream
from tests.test_rulebook import edition
from tests.test_score import alert

DATA_FOLDER = Path(__file__).parent / "data"
TOWN_NAME = "town:600x1:4"
HISTORY_PATHS = {
    "town": [TOWN_NAME],
    "event log": [str(DATA_FOLDER / "hospital_billing_300cases.parquet")],
    "curves": [str(path) for path in sorted(DATA_FOLDER.glob("garden4_*"))],
    "households": [str(DATA_FOLDER / "sgsc_4households_halfhourly.parquet")],
}
OTHER_BOOK = Rulebook(
    {"meter_current_unbalance": edition(status="retired"), "clock_drift": edition()}
)


def printed(monkeypatch, capsys, *arguments):
    """What a command prints."""
    monkeypatch.setattr(sys, "argv", ["meterwatch", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert ended.value.code == 0, output.err
    return output.out


def timeless(text):
    """A result without the seconds that it took."""
    result = json.loads(text)
    for name in ("seconds", "rows_per_second"):
        result.pop(name, None)
    return json.dumps(result)


def answers(question, count):
    """The answers of all shards."""
    return [question(Shard(k, count), lambda _: None) for k in range(count)]


@dataclass(frozen=True)
class Obedient:
    """A question whose answer is what `acts` says of a shard's number."""

    acts: tuple[str, ...]

    def __call__(self, shard, on_passed):
        on_passed(Passed(10 + shard.number, 40, 100 * shard.number, 1.0, "UTC"))
        act = self.acts[shard.number]
        if act == "refuse":
            raise StoreError("nothing is as it should be")
        if act == "fail":
            raise ZeroDivisionError("a mistake of ours")
        if act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "exit":
            os._exit(3)
        if act == "wait":
            time.sleep(60)
        return shard.number


# ---- What the shards have ----


def test_areas_are_shared_out_by_rows_and_known_ones_stay():
    division = Division(2, {"A1": 9, "A2": 5, "A3": 5, "A4": 1}, {"A4": 0, "B1": 1})
    assert division.places == {"A1": 1, "A2": 0, "A3": 0, "A4": 0, "B1": 1}
    assert {division.shard_of(f"C{n}") for n in range(20)} == {0, 1}


def test_shards_have_every_row_and_area_once_and_in_order():
    town = Town(600, 1, 4)
    found, areas = [], []
    for number in range(3):
        source, known = sharded(town.source(), Shard(number, 3), {})
        batches = list(source.batches)
        assert {known.places[area] for area in areas_with_rows(batches)} <= {number}
        found += times(batches)
        areas += [area.area for area in source.areas]
        assert (known.first, known.began) == _beginning(town)
    whole = times(town.batches())
    assert sorted(found) == sorted(whole)
    assert sorted(areas) == sorted(area.area for area in town.areas)


def times(batches):
    """The kind and the time of every row."""
    return [(batch.kind, at) for batch in batches for at in batch.at.tolist()]


def areas_with_rows(batches):
    """The areas of rows."""
    return {batch.areas[area] for batch in batches for area in np.unique(batch.area)}


def _beginning(town):
    """The arrival and the time of the first row."""
    batch = next(town.batches())
    received = getattr(batch, "received", batch.at)
    return int(received[0]), int(batch.at[0])


def test_shards_without_areas_are_empty():
    question = HistoryQuestion(("town:60x1",), Settings(), (EMPTY_RULEBOOK,))
    parts = answers(question, 5)
    assert any(not part.progress.rows for part in parts)
    assert (
        joined(parts).alerts == joined([question(WHOLE_HISTORY, lambda _: None)]).alerts
    )


# ---- The same result ----


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 3))
def test_shards_of_adversarial_streams_give_what_the_whole_gives(
    tmp_path_factory, seed, count
):
    stream = adversarial_stream(seed)
    folder = tmp_path_factory.mktemp("stream")
    layout.write(folder, stream.areas, stream.batches())
    question = HistoryQuestion(
        (str(folder),), Settings(zone=stream.zone), (EMPTY_RULEBOOK,)
    )
    whole = joined(answers(question, 1))
    shards = joined(answers(question, count))

    assert shards.alerts == whole.alerts
    assert shards.observed.meter_days() == whole.observed.meter_days()
    assert shards.source.tally == whole.source.tally
    for part in (whole, shards):
        part.progress.seconds = part.progress.batches = part.progress.within = 0
        part.progress.meter_ids = []
    assert shards.progress == whole.progress


@pytest.mark.parametrize("paths", HISTORY_PATHS.values(), ids=HISTORY_PATHS)
def test_commands_print_the_same_for_any_number_of_jobs(
    paths, monkeypatch, capsys, tmp_path
):
    rules = tmp_path / "rules.toml"
    rules.write_text("[meter_current_unbalance]\nstatus = 'retired'\nversion = 2\n")
    commands = {"compare": ["compare", *paths, "--rules", rules, "--json"]}
    if paths == [TOWN_NAME]:
        commands["score"] = ["score", *paths, "--json"]
        commands["run"] = ["run", *paths, "--json", "--store"]
    for name, command in commands.items():
        outputs = []
        for jobs in (1, 2, 3):
            store = [tmp_path / f"{jobs}.db"] if name == "run" else []
            text = printed(monkeypatch, capsys, *command, *store, "--jobs", jobs)
            outputs.append(timeless(text))
        assert outputs[0] == outputs[1] == outputs[2]


def test_labels_in_parquet_are_read_before_the_jobs_begin(
    monkeypatch, capsys, tmp_path
):
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = tmp_path / "visits.parquet"
    row = {
        "subject": ["M000001"],
        "since": ["2026-03-02"],
        "until": ["2026-03-04"],
        "outcome": ["bypass"],
        "verdict": ["true"],
    }
    pq.write_table(pa.table(row), labels)
    layout.write(tmp_path / "town", Town(60, 1).areas, Town(60, 1).batches())
    arguments = ["score", tmp_path / "town", "--labels", labels, "--json"]
    one = printed(monkeypatch, capsys, *arguments)
    assert printed(monkeypatch, capsys, *arguments, "--jobs", 2) == one


def test_a_file_that_streams_is_read_on_by_every_job(monkeypatch, capsys, tmp_path):
    """The jobs begin when the file is open and its first rows are read."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(layout, "LOOKED_AT", 5_000)
    monkeypatch.setattr(parquet, "CHUNK_ROWS", 8_000)
    town = Town(600, 1, 4)
    layout.write(tmp_path, town.areas, town.batches())
    path = tmp_path / "readings.parquet"
    order = [("received", "ascending"), ("at", "ascending")]
    pq.write_table(pq.read_table(path).sort_by(order), path)

    arguments = ["score", tmp_path, "--json"]
    one = printed(monkeypatch, capsys, *arguments)
    assert printed(monkeypatch, capsys, *arguments, "--jobs", 2) == one


# ---- What spans areas ----


def many_alerts(count, **changes):
    """Alerts of one rule, that can wait, in areas of their own."""
    return [
        msgspec.structs.replace(alert(f"M{n}", severity=3), area=f"A{n}", **changes)
        for n in range(count)
    ]


def test_budget_counts_the_alerts_of_all_areas_and_passes_the_gravest():
    alerts = many_alerts(DAILY_BUDGET + 2)
    alerts[-1] = msgspec.structs.replace(alerts[-1], score=9.0)
    alerts[-2] = msgspec.structs.replace(alerts[-2], severity=1)
    random.Random(1).shuffle(alerts)

    by_id = {each.id: each.suppressed_by for each in braked(alerts, lambda _: "S1")}
    assert sorted(by_id.values()) == [""] * DAILY_BUDGET + ["budget"] * 2
    assert by_id[many_alerts(DAILY_BUDGET + 2)[-1].id] == ""
    assert not any(each.suppressed_by for each in braked(alerts, lambda area: area))


def test_storm_brake_knows_the_days_before():
    alerts = []
    for day in range(4):
        for each in many_alerts(STORM_LEAST + 5 if day == 3 else 2):
            moved = day * DAY_SECONDS
            alerts.append(
                msgspec.structs.replace(
                    each, id=f"{each.id} {day}", raised=each.raised + moved
                )
            )
    marks = [each.suppressed_by for each in braked(alerts, lambda area: area)]
    assert marks.count("storm") == 5


def test_brakes_are_decided_anew_and_leave_other_reasons():
    alerts = many_alerts(3, suppressed_by="budget")
    alerts += [
        msgspec.structs.replace(alert("M8"), suppressed_by="repeat"),
        msgspec.structs.replace(alert("M9"), suppressed_by=NOTICE_REASON),
    ]
    marks = [each.suppressed_by for each in braked(alerts, lambda area: area)]
    assert sorted(marks) == ["", "", "", NOTICE_REASON, "repeat"]


# ---- Jobs ----


def test_answers_come_in_order_and_progress_is_added_up():
    passed: list[Passed] = []
    assert asked(Obedient(("answer",) * 3), Jobs(3), passed.append) == [0, 1, 2]
    assert max(each.rows for each in passed) == 10 + 11 + 12
    assert passed[-1].last == 200


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        ("refuse", StoreError, "^nothing is as it should be$"),
        ("fail", RuntimeError, "ZeroDivisionError: a mistake of ours"),
        ("die", JobError, r"^the job of shard 2 of 2 was ended by SIGKILL: .*memory"),
        ("exit", JobError, "^the job of shard 2 of 2 ended with exit code 3$"),
    ],
)
def test_a_job_that_fails_ends_the_others(act, error, message):
    began = time.monotonic()
    with pytest.raises(error, match=message):
        asked(Obedient(("wait", act)), Jobs(2), lambda _: None)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 50


def test_an_interrupt_ends_the_jobs():
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(Obedient(("wait", "wait")), Jobs(2), interrupt)
    assert multiprocessing.active_children() == []


def test_jobs_end_when_their_parent_is_killed(tmp_path):
    program = (
        "import os, sys, time; from pathlib import Path; from streams.shards import Jobs, asked\n"
        "def question(shard, on_passed):\n"
        "    Path(sys.argv[1], f'{os.getpid()}').touch(); time.sleep(60)\n"
        "asked(question, Jobs(2), print)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    parent.kill()
    parent.wait()
    pids = [int(file.name) for file in tmp_path.iterdir()]
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    """Whether a process runs."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# ---- A run with a store ----


def watched(path, capsys, jobs, paths=(TOWN_NAME,), **more):
    """The result of a run."""
    run(list(paths), path, Settings(), as_json=True, jobs=Jobs(jobs), **more)
    return timeless(capsys.readouterr().out)


def test_a_killed_run_of_two_jobs_goes_on_and_ends_with_the_same(tmp_path, capsys):
    path = tmp_path / "killed.db"
    program = (
        "import sys; from pathlib import Path; from streams.local.runner import run;"
        "from streams.settings import Settings; from streams.shards import Jobs;"
        f"run([{TOWN_NAME!r}], Path(sys.argv[1]), Settings(), every=0.0, jobs=Jobs(2))"
    )
    for reached in (4, 16):
        process = subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while judged_batches(path) < reached:
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.wait()

    assert watched(path, capsys, 2) == watched(tmp_path / "whole.db", capsys, 1)


def judged_batches(path):
    """How many batches the shards of a store have judged."""
    import sqlite3
    from contextlib import closing

    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            rows = db.execute(
                "SELECT json_extract(CAST(progress AS TEXT), '$.batches') FROM progress"
            )
            return sum(count for (count,) in rows)
    except sqlite3.OperationalError:  # the store does not exist yet
        return 0


def test_a_store_of_another_number_of_jobs_is_refused(tmp_path, capsys):
    watched(tmp_path / "two.db", capsys, 2)
    with pytest.raises(
        StoreError, match=r"two\.db was written with --jobs 2: go on with --jobs 2, or"
    ):
        watched(tmp_path / "two.db", capsys, 3)
    run([TOWN_NAME], tmp_path / "two.db", Settings(), jobs=Jobs(2))
    assert "nothing new to read" in capsys.readouterr().err


def test_areas_stay_in_their_shard_from_source_to_source(tmp_path, capsys):
    """The second half has fewer areas' rows, so it alone would be shared out otherwise."""
    town = Town(600, 1, 4)
    halves: tuple[list[Batch], list[Batch]] = ([], [])
    for batch in town.batches():
        halves[int(batch.at[0]) > town.start + DAY_SECONDS // 2].append(batch)
    layout.write(tmp_path / "one", town.areas, halves[0])
    layout.write(tmp_path / "two", town.areas[1:], halves[1])

    results = []
    for jobs in (1, 2):
        store = tmp_path / f"{jobs}.db"
        watched(store, capsys, jobs, [str(tmp_path / "one")])
        results.append(
            watched(store, capsys, jobs, [str(tmp_path / "two")], rulebook=OTHER_BOOK)
        )
    assert results[0] == results[1]
    with Store(tmp_path / "2.db") as store:
        assert set(store.divided(2).values()) == {0, 1}


def test_jobs_of_one_store_wait_for_each_other(tmp_path):
    with Store(tmp_path / "one.db", Shard(0, 2)) as store:
        store.enroll([], {"A1": 0, "A2": 1})
    with Store(tmp_path / "one.db", Shard(1, 2)) as store:
        store.enroll([], {"A1": 1})
        assert store.divided(2) == {}  # nothing was judged
        assert store.areas(of_all_shards=True) == []


# ---- A cluster ----


def test_a_dask_cluster_gives_the_same(monkeypatch, capsys, tmp_path):
    from distributed import LocalCluster

    arguments = ["score", TOWN_NAME, "--json"]
    one = printed(monkeypatch, capsys, *arguments)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        on_cluster = printed(
            monkeypatch, capsys, *arguments, "--scheduler", address, "--jobs", 3
        )
        assert on_cluster == one
        assert_same_on_cluster(monkeypatch, capsys, address, tmp_path)

        passed: list[Passed] = []
        question = HistoryQuestion((TOWN_NAME,), Settings(), (EMPTY_RULEBOOK,))
        parts = asked(question, Jobs(1, address), passed.append)
        assert len(parts) == 2
        with pytest.raises(StoreError, match="nothing is as"):
            asked(Obedient(("refuse", "answer")), Jobs(1, address), passed.append)


def assert_same_on_cluster(monkeypatch, capsys, address, folder):
    """Other commands on a cluster give what one job gives."""
    rank = ["rank", TOWN_NAME, "--top", "5", "--json", "--scores"]
    one = printed(monkeypatch, capsys, *rank, folder / "one")
    cluster = ["--scheduler", address]
    assert printed(monkeypatch, capsys, *rank, folder / "two", *cluster) == one
    files = sorted((folder / "one").rglob("*.parquet"))
    assert files
    for file in files:
        other = folder / "two" / file.relative_to(folder / "one")
        assert other.read_bytes() == file.read_bytes()

    explain = ["explain", TOWN_NAME, "--rule", "voltage_loss", "--meter", "M000090"]
    explain += ["--at", "2026-03-02T11:45", "--json"]
    one = printed(monkeypatch, capsys, *explain)
    assert printed(monkeypatch, capsys, *explain, *cluster) == one

    # a store goes to the workers and comes back, from source to source
    stores = [(folder / "one.db", []), (folder / "two.db", cluster)]
    for town in (TOWN_NAME, "town:600x1:5"):
        results = []
        for store, options in stores:
            run = ["run", town, "--json", "--store", store, *options]
            results.append(timeless(printed(monkeypatch, capsys, *run)))
        assert results[0] == results[1]
    with Store(folder / "two.db") as store:
        assert set(store.divided(2).values()) == {0, 1}


def test_a_scheduler_that_does_not_answer_is_named():
    with pytest.raises(JobError, match="no dask scheduler answers at tcp://127"):
        asked(Obedient(()), Jobs(1, "tcp://127.0.0.1:9"), print)
