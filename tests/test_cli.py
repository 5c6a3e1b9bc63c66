"""The commands, as a user types them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from contextlib import aclosing

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from msgspec.structs import replace

from detectors.rule import ALL_RULES
from replay.layout import write_areas
from replay.simulation.town import Town
from schemas.alert import Alert
from schemas.topics import ALERTS_TOPIC, ALL_TOPICS
from schemas.wire import encode_alert
from streams.cli import main
from streams.kafka.alerts import published_alerts
from streams.kafka.rulebooks import RECORD_KEY, newest
from streams.local.store import claimed
from streams.settings import load

SAMPLE_ALERT = Alert(
    id="a1",
    rule="voltage_loss",
    version=1,
    kind="readings",
    area="A1",
    subject="M1",
    state="raised",
    change="raised",
    revision=0,
    severity=1,
    since=1772380800,
    raised=1772380800,
    at=1772380800,
    score=1.5,
    phase="A",
    evidence={},
    suppressed_by="",
    en="Phase A [of 3] has lost its voltage.",
    zh="A相失压。",
)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs a command; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["meterwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def on_broker(broker, monkeypatch, request):
    monkeypatch.setenv("METERWATCH_BROKERS", broker.address)
    monkeypatch.setenv("METERWATCH_PREFIX", f"{request.node.name}.")
    monkeypatch.setenv("METERWATCH_PARTITIONS", "2")


def test_history_is_judged_by_the_settings(command, monkeypatch, tmp_path):
    (tmp_path / "own.csv").write_text(
        "meter,area,at,kwh\nM1,A1,2026-03-01T00:00:00Z,1\n"
    )
    (tmp_path / "other.toml").write_text('zone = "Australia/Sydney"\n')
    assert (
        "2026-03-01 11:00"
        in command("--settings", "other.toml", "run", "own.csv", "--store", "one.db")[1]
    )
    monkeypatch.setenv("METERWATCH_ZONE", "UTC")
    assert "2026-03-01 00:00" in command("run", "own.csv", "--store", "two.db")[1]
    monkeypatch.setenv("METERWATCH_ZONE", "no/where")
    code, _, error = command("run", "own.csv")
    assert code == 2
    assert "METERWATCH_ZONE: `zone` is 'no/where', which is not a time zone" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect"],
        ["score"],
        ["rank"],
        ["stalls"],
        ["tune", "zero_usage", "--set", "days=7,9"],
        ["compare", "--rules", "none.toml"],
        ["explain", "--rule", "zero_usage", "--meter", "M1", "--at", "2026-03-12"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_zone_of_the_settings_is_taken_where_a_history_names_none(
    command, tmp_path, arguments
):
    (tmp_path / "none.toml").write_text("")
    rows = "".join(
        f"M1,A1,2026-03-{day:02}T{hour:02}:00:00Z,{0.1 * hour}\n"
        for day in range(1, 15)
        for hour in range(24)
    )
    (tmp_path / "own.csv").write_text("meter,area,at,kwh\n" + rows)
    code, _, error = command(*arguments, "own.csv")
    assert (code, error) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["send", "nowhere.parquet"], "nowhere.parquet"),
        (["send", "town:1x1"], "a town has at least 50 meters"),
        (["run", "nowhere.parquet"], "nowhere.parquet"),
        (["registry", "load", "nowhere.jsonl"], "nowhere.jsonl"),
        (
            ["--settings", "nowhere.toml", "topics"],
            "nowhere.toml: there is no such file",
        ),
        (["topics"], "no answer from the brokers at 127.0.0.1:1"),
        (["alerts", "--once"], "127.0.0.1"),
        (["worker"], "no answer from the brokers at 127.0.0.1:1"),
        (
            ["--settings", "nowhere.toml", "run", "town:60x1"],
            "nowhere.toml: there is no such file",
        ),
        (
            ["run", "town:60x1", "--rules", "nowhere.toml"],
            "nowhere.toml: there is no such file",
        ),
        (["rules", "publish", "nowhere.toml"], "nowhere.toml: there is no such file"),
        (["rules", "list", "--published"], "no answer from the brokers at 127.0.0.1:1"),
        (
            ["rules", "list", "--published", "--rules", "x.toml"],
            "--rules and --published exclude each other",
        ),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_user_error_is_reported_in_one_line(command, monkeypatch, arguments, message):
    monkeypatch.setenv("METERWATCH_BROKERS", "127.0.0.1:1")
    code, output, error = command(*arguments)
    assert (code, output) == (2, "")
    assert message in error
    assert "Traceback" not in error


def test_topics_are_created_once_and_then_checked(command, on_broker, monkeypatch):
    code, output, _ = command("topics", "--json")
    created = json.loads(output)
    assert code == 0
    assert {topic["state"] for topic in created} == {"created"}
    counts = [1 if topic.single else 2 for topic in ALL_TOPICS]
    assert [topic["partitions"] for topic in created] == counts
    code, output, _ = command("topics")
    assert code == 0
    assert output.count("there") == len(ALL_TOPICS)
    monkeypatch.setenv("METERWATCH_PARTITIONS", "3")
    code, _, error = command("topics")
    assert code == 2
    assert "meter.reads` has 2 partitions, not 3" in error


def test_source_topic_has_times_of_the_broker(command, on_broker, broker):
    prefix = "test_source_topic_has_times_of_the_broker."
    command("topics")

    async def broker_time() -> int:
        async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
            sent = await producer.send_and_wait(
                f"{prefix}payments", b"{}", timestamp_ms=1_000
            )
            return sent.timestamp

    assert asyncio.run(broker_time()) == pytest.approx(time.time() * 1000, abs=60_000)


@pytest.mark.parametrize(
    ("topic", "policy", "fault"),
    [
        (
            "payments",
            "delete",
            "keep the producers' times: set their message.timestamp.type to LogAppendTime",
        ),
        *(
            (
                topic,
                policy,
                "are not compacted alone, so retention deletes what is in force: set their cleanup.policy to compact",
            )
            for topic, policy in (
                ("registry", "delete"),
                ("inspections", "compact,delete"),
                ("alerts", "delete"),
            )
        ),
        ("alerts", "compact,delete", ""),
    ],
)
def test_topic_of_other_hands_is_refused_unless_it_keeps_what_is_in_force(
    topic, policy, fault, command, on_broker, broker, monkeypatch
):
    prefix = f"other_hands_{policy.replace(',', '_')}_{topic}."
    monkeypatch.setenv("METERWATCH_PREFIX", prefix)
    name = f"{prefix}{topic}"

    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        await admin.create_topics(
            [
                NewTopic(
                    name,
                    num_partitions=2,
                    replication_factor=1,
                    topic_configs={"cleanup.policy": policy},
                )
            ]
        )
        await admin.close()

    asyncio.run(create())
    command("topics")  # not every broker need know a topic as new as this
    code, _, error = command("topics")
    assert code == (2 if fault else 0)
    assert (f"`{name}` {fault}" if fault else "") in error


def test_areas_go_to_the_registry(command, on_broker, tmp_path):
    areas = Town(300, 1).areas
    write_areas(tmp_path / "areas.jsonl", areas)
    code, output, _ = command("registry", "load", "areas.jsonl", "--json")
    assert code == 0
    assert json.loads(output)["sent"] == {
        "test_areas_go_to_the_registry.registry": len(areas)
    }


def test_invalid_area_line_is_refused(command, on_broker, tmp_path):
    (tmp_path / "areas.jsonl").write_text('{"area": "A1"}\n{"area": 2}\n')
    code, _, error = command("registry", "load", "areas.jsonl")
    assert code == 2
    assert "areas.jsonl has 1 lines that are no area" in error


def test_alerts_are_listed_by_their_last_state(command, on_broker, broker):
    command("topics")
    settings = load(
        {
            "METERWATCH_PREFIX": "test_alerts_are_listed_by_their_last_state.",
            "METERWATCH_PARTITIONS": "2",
        }
    )
    alerts = [
        SAMPLE_ALERT,
        replace(
            SAMPLE_ALERT,
            id="a2",
            suppressed_by="repeat",
            raised=SAMPLE_ALERT.raised + 1,
        ),
        replace(SAMPLE_ALERT, id="a3"),
        replace(
            SAMPLE_ALERT, id="a3", state="withdrawn", change="withdrawn", revision=1
        ),
    ]

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
            for alert in alerts:
                key, value, headers = encode_alert(alert)
                await producer.send_and_wait(
                    settings.topic(ALERTS_TOPIC), value, key, headers=headers
                )

    asyncio.run(send())
    code, output, _ = command("alerts", "--once")
    assert code == 0
    assert output.splitlines() == [
        "2026-03-02 00:00 1 raised    A1 M1                    Phase A [of 3] has lost its voltage."
    ]

    _, output, _ = command("alerts", "--once", "--suppressed", "--zh")
    assert output.splitlines()[1].endswith("A相失压。 (suppressed: repeat)")

    _, output, _ = command("alerts", "--once", "--suppressed", "--json")
    assert [json.loads(line)["id"] for line in output.splitlines()] == ["a1", "a2"]


def test_invalid_alert_is_skipped_with_a_note(command, on_broker, broker, caplog):
    command("topics")
    prefix = "test_invalid_alert_is_skipped_with_a_note."
    settings = load(
        {
            "METERWATCH_BROKERS": broker.address,
            "METERWATCH_PREFIX": prefix,
            "METERWATCH_PARTITIONS": "2",
        }
    )
    odd = replace(
        SAMPLE_ALERT,
        id="a2",
        severity=9,
        raised=SAMPLE_ALERT.at + 1,
        en="[/red] \x1b[2J",
        suppressed_by="[/x]\r",
    )

    values = [
        encode_alert(SAMPLE_ALERT)[1],
        None,
        b"",
        b"{",
        b"\xff",
        b"[" * 5_000,
        encode_alert(odd)[1],
        encode_alert(replace(SAMPLE_ALERT, id="a3"))[1],
        msgspec.json.encode(replace(SAMPLE_ALERT, at=10**18)),
    ]

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=broker.address, transactional_id="somebody"
        ) as producer:
            for value in values:
                async with producer.transaction():
                    await producer.send_and_wait(
                        settings.topic(ALERTS_TOPIC), value, b"a9", 0
                    )

            async with producer.transaction():
                await producer.send_and_wait(
                    settings.topic(ALERTS_TOPIC), None, b"a3", 0
                )

            await producer.begin_transaction()
            await producer.send_and_wait(
                settings.topic(ALERTS_TOPIC),
                encode_alert(replace(SAMPLE_ALERT, id="a4"))[1],
                b"a4",
                0,
            )
            await producer.abort_transaction()

    async def follow() -> list[str]:
        async with aclosing(published_alerts(settings, past=True)) as alerts:
            return [(await anext(alerts)).id for _ in range(3)]

    asyncio.run(send())
    code, output, _ = command("alerts", "--once", "--suppressed")
    assert code == 0
    assert output.splitlines() == [
        "2026-03-02 00:00 1 raised    A1 M1                    Phase A [of 3] has lost its voltage.",
        "2026-03-02 00:00 9 raised    A1 M1                    [/red] \\x1b[2J (suppressed: [/x]\\r)",
    ]
    assert caplog.text.count("is passed over") == 7
    assert "it has no value" in caplog.text
    assert asyncio.run(follow()) == ["a1", "a2", "a3"]


def test_invalid_rulebook_is_skipped_with_a_note(command, on_broker, broker):
    command("topics")
    topic = "test_invalid_rulebook_is_skipped_with_a_note.rules"

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=broker.address, transactional_id="somebody else"
        ) as producer:
            for value in (
                None,
                b"",
                b"\xff",
                b"[" * 5_000,
                b'{"rules": {"[/red]\\u001b": 1}}',
                b"7",
                b'{"rules": []}',
            ):
                async with producer.transaction():
                    await producer.send_and_wait(topic, value, RECORD_KEY, 0)

    asyncio.run(send())
    code, output, error = command("rules", "list", "--published", "--json")
    assert (code, len(json.loads(output))) == (0, len(ALL_RULES))
    assert error.count("is passed over") == 6
    assert "\x1b" not in error


CHANGED_RULEBOOK = """
[voltage_deviation]
status = "published"
version = 2
settings.over = 1.03
segments.pv.over = 1.08
proposed_by = "Li"
"""


def test_rules_are_listed_and_shown(command, tmp_path):
    (tmp_path / "rules.toml").write_text(
        '[zero_usage]\nstatus = "shadow"\nversion = 7\nsettings.days = 14\n'
    )
    code, output, _ = command("rules", "list", "--rules", "rules.toml", "--json")
    listed = {row["rule"]: row for row in json.loads(output)}

    assert code == 0
    assert listed.keys() == ALL_RULES.keys()
    assert (listed["zero_usage"]["status"], listed["zero_usage"]["version"]) == (
        "shadow",
        7,
    )
    assert listed["voltage_loss"] == {
        "rule": "voltage_loss",
        "family": "voltage",
        "title": "Voltage loss",
        "标题": "失压",
        "judged on": "readings",
        "severity": "1",
        "status": "published",
        "version": 1,
    }

    table = command("rules", "list")[1].splitlines()
    assert len(table) == len(ALL_RULES) + 1
    assert any(
        re.fullmatch(
            r"voltage_loss +voltage +Voltage loss +失压 +readings +1 +published +1",
            line,
        )
        for line in table
    )

    code, output, _ = command("rules", "show", "zero_usage", "--rules", "rules.toml")
    assert code == 0

    for message in (
        "zero_usage, Zero usage 零电量: shadow, version 7",
        "Nothing used for 7 days",
        "`days` 14",
        "segment residential: `days` 30.",
        "tests/cases/zero_usage.toml",
        "{zero_days:.0f}",
    ):
        assert message in output

    assert (
        command("rules", "show", "zero_use")[2]
        == "error: there is no rule zero_use; did you mean zero_usage?\n"
    )


def test_a_rulebook_is_checked(command, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(CHANGED_RULEBOOK)
    code, output, _ = command("rules", "check", "rules.toml")
    assert code == 0
    assert output.splitlines() == [
        "rules.toml: 1 rules, 1 set otherwise than in code",
        "voltage_deviation: version 2 is not approved",
    ]

    for text, message in (
        ("[voltage_deviation", "rules.toml: Expected ']'"),
        (
            CHANGED_RULEBOOK.replace("1.03", "nan"),
            "rules.toml: voltage_deviation: `over` is nan, which is not finite",
        ),
        (
            CHANGED_RULEBOOK.replace("= 2", "= 1"),
            "rules.toml: voltage_deviation: version 1 is in force; raise `version` above",
        ),
    ):
        file.write_text(text)
        code, _, error = command("rules", "check", "rules.toml")
        assert code == 2
        assert message in error

    assert command("rules", "check", "nowhere.toml") == (
        2,
        "",
        "error: nowhere.toml: there is no such file\n",
    )


def test_run_takes_an_unapproved_rulebook_and_warns(command, tmp_path):
    (tmp_path / "rules.toml").write_text(CHANGED_RULEBOOK)
    code, output, error = command("run", "town:60x1", "--rules", "rules.toml", "--json")
    assert code == 0
    assert (
        error
        == "rules.toml: voltage_deviation: version 2 is not approved; it holds for this run alone\n"
    )
    versions = {alert["rule"]: alert["version"] for alert in json.loads(output)["list"]}
    assert versions.pop("voltage_deviation") == 2
    assert {*versions.values()} <= {1}


def test_run_refuses_a_store_of_other_rules(command, tmp_path):
    (tmp_path / "rules.toml").write_text(CHANGED_RULEBOOK)
    assert command("run", "town:60x1")[0] == 0
    code, output, error = command("run", "town:60x1", "--rules", "rules.toml")
    assert (code, output) == (2, "")
    assert error.endswith(
        "holds all of town:60x1 as other rules judged it; choose another file with --store\n"
    )


def test_a_run_shows_its_gravest_alerts(command):
    code, output, _ = command("run", "town:60x6", "--top", "3", "--store", "a.db")
    assert code == 0
    shown = [
        text
        for text in output.splitlines()
        if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d ", text)
    ]
    assert [text.split()[2] for text in shown] == ["1"] * 3
    assert "suppressed_by" not in " ".join(shown)
    assert (
        "Suspected"
        not in command("run", "town:60x6", "--top", "0", "--store", "b.db")[1]
    )


def test_second_run_on_one_store_is_refused(command, tmp_path):
    with claimed(tmp_path / "meterwatch.db"):
        code, _, error = command("run", "town:60x1")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith(
        "error: another run is writing to meterwatch.db: wait for its end"
    )
    assert command("run", "town:60x1")[0] == 0


def test_rulebook_is_published_by_two_people(command, on_broker, tmp_path, monkeypatch):
    (tmp_path / "rules.toml").write_text(CHANGED_RULEBOOK)
    change = "voltage_deviation, version 1 -> 2: over 1.07 -> 1.03, over in the segment pv not set -> 1.08\n"
    assert command("rules", "diff", "rules.toml") == (0, change, "")

    for approver, message in (
        ("", "version 2 is not approved"),
        ("Li", "Li has proposed and approved version 2"),
    ):
        code, _, error = command(
            "rules",
            "publish",
            "rules.toml",
            *(("--approved-by", approver) if approver else ()),
        )
        assert (code, error) == (2, f"error: voltage_deviation: {message}\n")

    assert command("rules", "publish", "rules.toml", "--approved-by", "Wang") == (
        0,
        change,
        "",
    )

    for action in ("publish", "diff"):
        code, output, _ = command("rules", action, "rules.toml")
        assert (code, output.partition(" than ")[0]) == (0, "nothing is set otherwise")

    listed = json.loads(command("rules", "list", "--published", "--json")[1])
    assert {row["rule"]: row["version"] for row in listed if row["version"] > 1} == {
        "voltage_deviation": 2
    }

    edition = asyncio.run(newest(load(os.environ))).rules["voltage_deviation"]
    assert (edition.proposed_by, edition.approved_by) == ("Li", "Wang")

    (tmp_path / "rules.toml").write_text("")
    code, _, error = command("rules", "publish", "rules.toml", "--approved-by", "Wang")
    assert code == 2
    assert (
        "voltage_deviation: version 2 is in force; going back to the code's settings needs a version too"
        in error
    )


def test_rulebook_is_compared_with_the_code_without_a_broker(
    command, tmp_path, monkeypatch
):
    monkeypatch.setenv("METERWATCH_BROKERS", "127.0.0.1:1")
    (tmp_path / "rules.toml").write_text(CHANGED_RULEBOOK)
    code, output, error = command("rules", "diff", "rules.toml")
    assert code == 0
    assert output.startswith("voltage_deviation, version 1 -> 2")
    assert error.startswith("beside the code: no answer from the brokers")
