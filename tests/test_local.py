"""The local runner: one file holds all, and a process that is killed changes nothing."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import msgspec
import pytest

from detectors.engine import Engine
from detectors.rulebook import applied
from replay import layout
from replay.history import Source, SourceError
from replay.simulation.town import Town
from replay.sources import open_sources
from schemas.alert import Alert
from schemas.columns import Readings
from schemas.master import Area, Meter
from schemas.rules import Rulebook
from streams.local.follow import Pace, follow, portions
from streams.local.progress import Progress
from streams.local.runner import identity, run
from streams.local.store import Store, StoreError
from streams.local.summary import summarise
from streams.settings import Settings
from tests.test_rulebook import edition

TOWN_NAME = "town:220x3:4"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The alerts and the progress of a run that nothing disturbed."""
    with Store(tmp_path_factory.mktemp("store") / "whole.db") as store:
        progress = follow(Town(220, 3, 4).source(), store, TOWN_NAME, every=1e9)
        return store.alerts(), progress


def test_killed_and_restarted_run_ends_with_the_same_alerts(tmp_path, undisturbed):
    path = tmp_path / "killed.db"
    program = (
        "import sys; from streams.local.runner import run; from streams.settings import Settings;"
        f"run([{TOWN_NAME!r}], sys.argv[1], Settings(), every=0.0)"
    )

    def batches():
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                row = db.execute(
                    "SELECT json_extract(CAST(progress AS TEXT), '$.batches') FROM progress"
                ).fetchone()
                return row[0] if row else 0
        except sqlite3.OperationalError:  # the store does not exist yet
            return 0

    for reached in (9, 25, 48):
        worker = subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60

        while batches() < reached:
            assert worker.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline, "makes no progress"
            time.sleep(0.002)

        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL

    before = batches()
    with Store(path) as store:
        assert 48 <= before < undisturbed[1].batches
        progress = follow(
            Town(220, 3, 4).source(), store, identity([TOWN_NAME]), every=1e9
        )
        assert store.alerts() == undisturbed[0]

    assert progress.counts == undisturbed[1].counts
    assert (progress.batches, progress.first, progress.last) == (
        undisturbed[1].batches,
        undisturbed[1].first,
        undisturbed[1].last,
    )


def test_store_contains_what_the_engine_publishes(undisturbed):
    town = Town(220, 3, 4)
    engine = Engine(zone=town.zone, interval=town.interval)
    engine.enroll(town.areas)
    last = {alert.id: alert for batch in town.batches() for alert in engine.step(batch)}
    standing = [alert for alert in last.values() if alert.state != "withdrawn"]
    assert standing
    assert undisturbed[0] == sorted(
        standing, key=lambda alert: (alert.raised, alert.id)
    )


def test_a_run_goes_on_by_another_rulebook_from_where_it_stopped(tmp_path, undisturbed):
    town, half = Town(220, 3, 4), undisturbed[1].batches // 2
    book = Rulebook(
        {"meter_current_unbalance": edition(status="retired"), "clock_drift": edition()}
    )
    engine = Engine(zone=town.zone, interval=town.interval)
    last_states = dict[str, Alert]()
    engine.enroll(town.areas)

    for n, batch in enumerate(town.batches()):
        if n == half:
            adopted = engine.adopt(applied(book))
            last_states |= {alert.id: alert for alert in adopted}
        last_states |= {alert.id: alert for alert in engine.step(batch)}

    with Store(tmp_path / "one.db") as store:
        first = replace(town.source(), batches=islice(town.batches(), half))
        follow(first, store, "first half", every=1e9)
        follow(
            replace(town.source(), batches=islice(town.batches(), half, None)),
            store,
            "second",
            rulebook=book,
        )
        standing = [
            alert for alert in last_states.values() if alert.state != "withdrawn"
        ]

        assert store.alerts() == sorted(
            standing, key=lambda alert: (alert.raised, alert.id)
        )
        assert store.rulebook() == book
        assert len(standing) < len(last_states)


def test_rows_in_are_judged_rejected_duplicate_or_late(undisturbed):
    for outcomes in undisturbed[1].counts.values():
        rows = Counter(
            {outcome: sum(reasons.values()) for outcome, reasons in outcomes.items()}
        )
        assert (
            rows["in"]
            == rows["judged"] + rows["rejected"] + rows["duplicate"] + rows["late"]
        )


def test_source_is_not_read_twice(tmp_path, capsys):
    run(["town:60x1"], tmp_path / "a.db", Settings())
    capsys.readouterr()
    run(["town:60x1"], tmp_path / "a.db", Settings())
    output = capsys.readouterr()
    assert "nothing new to read" in output.err
    assert "60" in output.out


def test_next_file_continues_from_the_state_of_the_last(tmp_path, undisturbed):
    """Two files, one a day, give the same as one file; only the first has master data."""
    town = Town(220, 3, 4)
    batches = list(town.batches())
    second_day = town.start + 86_400
    half = next(
        n
        for n, batch in enumerate(batches)
        if isinstance(batch, Readings) and batch.at[0] > second_day
    )

    with Store(tmp_path / "two.db") as store:
        first = Source(
            "one", town.areas, iter(batches[:half]), 0, town.zone, town.interval
        )
        second = Source("two", [], iter(batches[half:]), 0, town.zone, town.interval)
        follow(first, store, "one")
        follow(second, store, "two")
        assert store.alerts() == undisturbed[0]


def test_alerts_in_shadow_are_marked_in_json_and_hidden_from_people(
    tmp_path, capsys, undisturbed
):
    book = Rulebook({"meter_current_unbalance": edition(status="shadow")})
    for _ in range(2):  # the second run reads nothing new
        run([TOWN_NAME], tmp_path / "a.db", Settings(), as_json=True, rulebook=book)
        summary = json.loads(capsys.readouterr().out)
        of_rule = [
            alert
            for alert in summary["list"]
            if alert["rule"] == "meter_current_unbalance"
        ]

        before = [
            alert.id
            for alert in undisturbed[0]
            if alert.rule == "meter_current_unbalance"
        ]

        assert {alert["suppressed_by"] for alert in of_rule} == {"shadow"}
        assert {alert["id"] for alert in of_rule} == set(before)
        assert summary["alerts"]["meter_current_unbalance"]["shadow"] == len(before) > 0
        assert summary["alerts"]["meter_current_unbalance"]["shown"] == 0

    run(
        [TOWN_NAME],
        tmp_path / "a.db",
        Settings(),
        rulebook=book,
        top=999,
        report=tmp_path / "a.html",
    )
    shown = capsys.readouterr().out + (tmp_path / "a.html").read_text("utf-8")

    assert "meter_current_unbalance" not in shown

    with Store(tmp_path / "a.db") as store:
        assert not [
            alert for alert in store.alerts() if alert.rule == "meter_current_unbalance"
        ]


def test_meter_days_run_from_the_first_reading_to_the_last(tmp_path, capsys):
    hour, day = 3600, 86_400
    begin = 1_772_323_200
    # days of the first and the last reading
    spans = {
        "M1": (0, 40),
        "M2": (30, 40),
        "M3": (0, 2),
        "M4": (39, 39),
    }
    rows = sorted(
        (begin + first * day + n * hour, meter)
        for meter, (first, last) in spans.items()
        for n in range((last - first) * 24 + 1)
    )
    (tmp_path / "reads.csv").write_text(
        "meter,area,at,kwh\n"
        + "".join(
            f"{meter},A1,{at},{(at // hour) % 24 / 12 + 0.1}\n" for at, meter in rows
        )
    )

    for every in (1e9, 0.0):
        store = tmp_path / f"{every}.db"
        run(
            [str(tmp_path / "reads.csv")],
            store,
            Settings(zone="UTC"),
            as_json=True,
            every=every,
        )
        summary = json.loads(capsys.readouterr().out)
        assert summary["meter_days"] == pytest.approx(40 + 10 + 2)


def test_run_is_cut_by_time_and_resumes_within_a_batch(
    tmp_path, undisturbed, monkeypatch
):
    """The alerts are those of an undisturbed run, however small the portions and wherever it stops."""
    monkeypatch.setattr("streams.local.follow.STEP_SECONDS", 0.03)
    positions: list[tuple[int, int]] = []

    def stop(progress):
        positions.append((progress.batches, progress.within))
        if len(positions) % 40 == 39:
            raise KeyboardInterrupt

    with Store(tmp_path / "cut.db") as store:
        for _ in range(1000):
            try:
                progress = follow(
                    Town(220, 3, 4).source(),
                    store,
                    TOWN_NAME,
                    every=0.0,
                    on_progress=stop,
                )
                break
            except KeyboardInterrupt:
                stored = store.progress(TOWN_NAME)
                # the last but one was saved, the last was not
                assert (stored.batches, stored.within) == positions[-2]

        assert store.alerts() == undisturbed[0]

    assert progress.counts == undisturbed[1].counts
    assert progress.meter_days == pytest.approx(undisturbed[1].meter_days)
    assert any(within for _, within in positions)


def test_pace_adapts_to_the_source(tmp_path, monkeypatch):
    rows = "".join(f"M1,A1,{1_704_067_200 + 86_400 * n},{n % 7}\n" for n in range(120))
    (tmp_path / "daily.csv").write_text("meter,area,at,kwh\n" + rows)
    row_counts: list[int] = []
    with Store(tmp_path / "a.db") as store:
        monkeypatch.setattr("streams.local.follow.Pace", partial(Pace, 50))
        source = replace(
            open_sources([tmp_path / "daily.csv"]), zone="UTC", interval=86_400
        )
        follow(
            source,
            store,
            "daily",
            on_progress=lambda progress: row_counts.append(progress.rows),
        )

    assert row_counts[0] == 50
    assert row_counts[-1] == 120
    assert len(row_counts) >= 2


def test_rows_of_one_time_are_judged_together(tmp_path):
    rows = "".join(
        f"M{number},A1,{1_704_067_200 + 3600 * hour},{number + 1}\n"
        for hour in range(9)
        for number in range(90)
    )
    (tmp_path / "a.csv").write_text("meter,area,at,kwh\n" + rows)
    batches = list(open_sources([tmp_path / "a.csv"]).batches)
    for pace in (1, 7, 90, 91, 10_000):
        cut = list(portions(iter(batches), Progress("a"), Pace(pace)))
        assert sum(len(portion) for portion, _ in cut) == 810
        assert [last for _, last in cut].count(True) == len(batches)
        assert all(
            earlier.at[-1] < later.at[0] for (earlier, _), (later, _) in pairwise(cut)
        )


def test_rate_is_null_without_meter_days(undisturbed):
    alerts, progress = undisturbed
    shown_rules = {alert.rule for alert in alerts if not alert.suppressed_by}

    for days, rate in (
        (52.0, lambda counts: round(1000 * counts / 52, 3)),
        (0.0, lambda counts: None),
    ):
        summary = summarise(
            msgspec.structs.replace(progress, meter_days=days),
            alerts,
            Town(220, 3, 4).source(),
        )
        assert {
            counts["shown_per_1000_meters_per_day"] == rate(counts["shown"])
            for counts in summary["alerts"].values()
        } == {True}
        assert shown_rules <= summary["alerts"].keys()


def test_meter_days_add_up_over_the_runs_of_one_store(tmp_path, undisturbed):
    town, half = Town(220, 3, 4), undisturbed[1].batches // 2
    with Store(tmp_path / "one.db") as store:
        first = follow(
            replace(town.source(), batches=islice(town.batches(), half)),
            store,
            "first",
            every=1e9,
        )
        second = follow(
            replace(town.source(), batches=islice(town.batches(), half, None)),
            store,
            "second",
        )
        days = first.meter_days + second.meter_days

        assert days == pytest.approx(undisturbed[1].meter_days, rel=0.01)
        assert days == pytest.approx(len(town.grid) * 3, rel=0.05)


NAMES_OF_VERSION_1 = (
    "CREATE TABLE engine (one INT PRIMARY KEY CHECK (one = 1), state BLOB)",
    "INSERT INTO engine SELECT 1, state FROM engines",
    "CREATE TABLE rules (one INT PRIMARY KEY CHECK (one = 1), rulebook BLOB)",
    "INSERT INTO rules SELECT 1, rulebook FROM engines",
    "DROP TABLE engines",
    "ALTER TABLE progress DROP COLUMN shard",
    "ALTER TABLE areas DROP COLUMN shard",
    "ALTER TABLE alerts RENAME COLUMN suppressed_by TO held",
    "UPDATE alerts SET kind = 'files' WHERE kind = 'master_records'",
    "UPDATE alerts SET kind = 'journeys' WHERE kind = 'traces'",
    "ALTER TABLE progress RENAME COLUMN progress TO place",
    "ALTER TABLE progress RENAME TO places",
)
SCHEMA_CHANGES = {
    "no rulebook, no code": ["DROP TABLE rules", "ALTER TABLE alerts DROP COLUMN code"],
    "no checksums": [
        "ALTER TABLE places DROP COLUMN checksum",
        "ALTER TABLE areas DROP COLUMN checksum",
    ],
    "columns of a later version": [
        "ALTER TABLE alerts ADD COLUMN crew",
        "ALTER TABLE places ADD COLUMN pace",
    ],
}


@pytest.mark.parametrize("changes", SCHEMA_CHANGES.values(), ids=SCHEMA_CHANGES)
def test_a_store_with_fewer_or_more_columns_goes_on(changes, tmp_path, undisturbed):
    town = Town(220, 3, 4)
    path = tmp_path / "older.db"
    half = undisturbed[1].batches // 2
    with Store(path) as store:
        follow(
            replace(town.source(), batches=islice(town.batches(), half)),
            store,
            "first half",
            every=1e9,
        )

    with closing(sqlite3.connect(path)) as db:
        for change in (*NAMES_OF_VERSION_1, *changes, "PRAGMA user_version = 0"):
            db.execute(change)
        db.commit()

    notes: list[str] = []
    with Store(path) as store:
        rest = replace(town.source(), batches=islice(town.batches(), half, None))
        follow(rest, store, "second", every=1e9, notify=notes.append)
        assert store.alerts() == undisturbed[0]
        assert store.db.execute("PRAGMA user_version").fetchone() == (Store.VERSION,)

    assert notes == []


def test_store_of_a_later_version_is_refused_with_the_version_to_run(tmp_path):
    with closing(sqlite3.connect(tmp_path / "later.db")) as db:
        db.execute(f"PRAGMA user_version = {Store.VERSION + 1}")
    with pytest.raises(
        StoreError,
        match=r"later\.db was written by a later version .*: run that version",
    ):
        Store(tmp_path / "later.db")


def test_report_shows_alerts_and_the_curves_behind_them(tmp_path, capsys):
    folder, page = tmp_path / "history", tmp_path / "out.html"
    layout.write(
        folder,
        [Area(area="A1", meters=[Meter(meter="<M1>", wiring="3P4W")])],
        [],
        "csv",
    )
    rows = [
        f"<M1>,A1,2026-03-02T{hour:02}:{minute:02}:00+08:00,{0 if hour >= 6 else 220},220,220,1,1,1"
        for hour in range(24)
        for minute in range(0, 60, 15)
    ]
    (folder / "reads.csv").write_text(
        "\n".join(["meter,area,at,ua,ub,uc,ia,ib,ic", *rows]), "utf-8"
    )

    run([str(folder)], tmp_path / "s.db", Settings(zone="Asia/Shanghai"), report=page)
    html = page.read_text("utf-8")
    assert "Voltage loss" in html or "Phase break" in html
    assert '<svg class="chart"' in html
    assert "&lt;M1&gt;" in html
    assert "<M1>" not in html
    assert "planted" not in html
    assert str(page) in capsys.readouterr().out.replace("\n", "")


def test_a_report_of_real_curves_shows_what_can_be_drawn(tmp_path):
    files = [
        str(file) for file in sorted((Path(__file__).parent / "data").glob("garden4_*"))
    ]
    run(files, tmp_path / "s.db", Settings(), report=tmp_path / "out.html")
    html = (tmp_path / "out.html").read_text("utf-8")
    assert "Low reading success" in html
    assert "Current unbalance at the meter" in html
    assert html.count('<svg class="chart"') == 2


def test_meter_in_two_areas_is_noted(tmp_path, capsys):
    file = tmp_path / "reads.csv"
    file.write_text(
        "meter,area,at,kwh\nM1,A1,2026-03-01T01:00:00Z,1\nM1,A2,2026-03-01T01:00:00Z,1\n"
        "M2,A2,2026-03-01T01:00:00Z,1\n",
        "utf-8",
    )
    run([str(file)], tmp_path / "s.db", Settings())
    assert (
        "ids of meters that stand in more than one area: 1;" in capsys.readouterr().out
    )


def test_json_output_is_only_json(tmp_path, capsys):
    run(["town:60x1"], tmp_path / "a.db", Settings(), as_json=True)
    output = capsys.readouterr()
    summary = json.loads(output.out)
    assert output.err == ""
    assert summary["rows"] == sum(
        outcomes["in"] for outcomes in summary["counts"].values()
    )
    assert sum(n["shown"] + n["suppressed"] for n in summary["alerts"].values()) == len(
        summary["list"]
    )


def test_unusable_store_or_source_is_refused_with_the_reason(tmp_path):
    (tmp_path / "notes.txt").write_text(
        "no database, but long enough to be taken for one. " * 40
    )
    with pytest.raises(StoreError, match=r"notes\.txt cannot be used as a store"):
        Store(tmp_path / "notes.txt")
    with pytest.raises(SourceError):
        run([str(tmp_path / "missing.parquet")], tmp_path / "a.db", Settings())
    with Store(tmp_path / "other.db") as store:
        town = Town(60, 1)
        follow(town.source(), store, "one")
        with pytest.raises(
            StoreError, match="zone.* or choose another file with --store"
        ):
            follow(Source("two", [], iter(()), 0, "Europe/Berlin", 900), store, "two")


def test_history_without_zone_and_interval_takes_those_of_the_settings(
    tmp_path, capsys
):
    measured = tmp_path / "own.csv"
    households = Path(__file__).parent / "data" / "sgsc_4households_halfhourly.parquet"
    measured.write_text("meter,area,at,kwh\nM1,A1,2026-03-01T00:00:00Z,1\n")
    sydney = Settings(zone="Australia/Sydney", interval=1800)
    run([str(measured)], tmp_path / "a.db", sydney, as_json=True)
    assert json.loads(capsys.readouterr().out)["from"] == "2026-03-01 11:00"
    # gives both, and they are those of the store
    run([str(households)], tmp_path / "a.db", Settings())
    with pytest.raises(StoreError, match="--store"):
        run(["town:60x1"], tmp_path / "a.db", sydney)


def test_repairs_of_the_reader_are_shown(tmp_path, capsys):
    files = [
        str(file) for file in sorted((Path(__file__).parent / "data").glob("garden4_*"))
    ]
    run(files, tmp_path / "a.db", Settings())
    assert (
        "mended by the reader: 台区编号 had lost its leading zeros 1"
        in capsys.readouterr().out
    )


def test_changed_file_is_another_source(tmp_path):
    file = tmp_path / "readings.csv"
    file.write_text("a")
    before = identity([str(file)])
    file.write_text("ab")
    assert identity([str(file)]) != before
    assert identity([str(tmp_path)]) == identity([str(tmp_path)])
