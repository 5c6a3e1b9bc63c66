"""Workers and commands on a broker with TLS, passwords and access rules: the least rights, and a line for a refusal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
)

from schemas.topics import (
    ALERTS_TOPIC,
    ALL_TOPICS,
    CHECKPOINTS_TOPIC,
    INSPECTIONS_TOPIC,
)
from streams.cli import main
from streams.kafka import rights
from streams.kafka.broker import BrokerUnavailableError
from streams.kafka.exits import ExitCode
from streams.kafka.rights import CommandRights, RightsRequest
from streams.settings import load
from tests.secure_broker import (
    SECURITY_PAGE,
    SecureBroker,
    add_user,
    certificates,
    grant,
    granted,
)
from tests.workers import WorkerProcess, all_checkpointed, published_states, wait

DATA_FOLDER = Path(__file__).parent / "data"
GARDEN_FILES = [str(path) for path in sorted(DATA_FOLDER.glob("garden4_*"))]
RULES_FILE = str(Path(__file__).parents[1] / "deploy" / "rules.toml")
PAGE_USERS = ("topics", "send", "worker", "alerts", "publish", "archive", "backup")
RIGHTS_BY_USER = {
    "send": rights.SEND_RIGHTS,
    "alerts": rights.ALERTS_RIGHTS,
    "publish": rights.PUBLISH_RIGHTS,
    "archive": rights.ARCHIVE_RIGHTS,
    "backup": rights.BACKUP_RIGHTS,
    "restore": rights.RESTORE_RIGHTS,
    "worker": CommandRights(
        {**rights.WORKER_RIGHTS.topics, **rights.VERDICT_RIGHTS.topics}, group=True
    ),
}
NO_RIGHTS = "nobody"  # knows a password, and may do nothing
LESS_THAN_A_WORKER = {  # users, and the right of a worker that each lacks
    "mute": (ALERTS_TOPIC, ACLOperation.WRITE),
    "unaware": (INSPECTIONS_TOPIC, ACLOperation.READ),
}
Environment = dict[str, str]
Run = Callable[..., tuple[int, str, str]]


def page_rules() -> list[ACL]:
    return granted(SECURITY_PAGE.read_text())


def worker_rules_without(right: tuple[str, ACLOperation]) -> list[ACL]:
    """The rules of a worker but one."""
    of_worker = [rule for rule in page_rules() if rule.principal == "User:worker"]
    left = [
        rule
        for rule in of_worker
        if (rule.resource_pattern.resource_name, rule.operation) != right
    ]
    assert len(left) == len(of_worker) - 1
    return left


def withheld_write(topic: str) -> ACL:
    """A rule by which the worker may no longer write a topic."""
    return ACL(
        principal="User:worker",
        host="*",
        operation=ACLOperation.WRITE,
        permission_type=ACLPermissionType.DENY,
        resource_pattern=ResourcePattern(ResourceType.TOPIC, topic),
    )


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A broker with the users and the rights of the page, and two users with less."""
    try:
        with SecureBroker(tmp_path_factory.mktemp("secure")) as broker:
            admin = broker.admin()
            for user in (*PAGE_USERS, NO_RIGHTS, *LESS_THAN_A_WORKER):
                add_user(admin, user, f"password of {user}")
            grant(admin, page_rules())

            for user, right in LESS_THAN_A_WORKER.items():
                grant(admin, worker_rules_without(right), f"User:{user}")
            admin.close()
            yield broker
    except BrokerUnavailableError as error:
        pytest.skip(str(error))


def environment_of(user: str, broker: SecureBroker, **others: str) -> Environment:
    """The environment of a user's process."""
    return {
        "METERWATCH_BROKERS": broker.secure_address,
        "METERWATCH_SECURITY_PROTOCOL": "SASL_SSL",
        "METERWATCH_SASL_USERNAME": user,
        "METERWATCH_SASL_PASSWORD": f"password of {user}",
        "METERWATCH_SSL_CAFILE": str(broker.authority),
        "METERWATCH_PARTITIONS": "1",
        "METERWATCH_CLOCK": "stream",
        "METERWATCH_CHECKPOINT_SECONDS": "0.5",
        "METERWATCH_SESSION_SECONDS": "6",
        "METERWATCH_METRICS_PORT": "0",
    } | others


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; gives exit code, output and errors."""

    def run_command(environment: Environment, *arguments: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["meterwatch", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return code, *capfd.readouterr()

    return run_command


def refused(run: Run, environment: Environment, *arguments: str) -> str:
    """The only line of a command that is refused."""
    code, output, errors = run(environment, *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("user", RIGHTS_BY_USER)
def test_page_grants_what_the_command_checks(user):
    topics = {
        (rule.resource_pattern.resource_name, rule.operation.name)
        for rule in page_rules()
        if rule.principal == f"User:{user}"
        and rule.resource_pattern.resource_type is ResourceType.TOPIC
    }
    assert topics == {
        (topic, right.name)
        for topic, needed in RIGHTS_BY_USER[user].topics.items()
        for right in needed
    }
    groups = {
        (rule.resource_pattern.resource_name, rule.operation.name)
        for rule in page_rules()
        if rule.principal == f"User:{user}"
        and rule.resource_pattern.resource_type is ResourceType.GROUP
    }
    assert groups == ({("meterwatch", "READ")} if RIGHTS_BY_USER[user].group else set())


def test_broker_that_does_not_say_the_rights_is_asked_for_the_topics_alone():
    request = RightsRequest(["alerts"]).prepare({RightsRequest.API_KEY: (0, 5)})
    assert request.to_object() == {
        "topics": ["alerts"],
        "allow_auto_topic_creation": False,
    }


@pytest.mark.broker
def test_least_rights_are_enough(secure, run, tmp_path):
    for user, *arguments in (
        ("topics", "topics"),
        ("send", "send", *GARDEN_FILES),
        ("publish", "rules", "publish", RULES_FILE),
    ):
        code, _, errors = run(environment_of(user, secure), *arguments)
        assert not code, errors

    settings = load(
        {"METERWATCH_BROKERS": secure.address, "METERWATCH_PARTITIONS": "1"}
    )
    log = tmp_path / "log"
    with WorkerProcess(environment_of("worker", secure), log) as worker:
        wait(lambda: worker.rows() and all_checkpointed(settings))
        assert worker.end() == 0
    assert "not counted" not in log.read_text()

    states = published_states(settings)
    shown = [state for state in states.values() if not state["suppressed_by"]]
    assert shown
    code, output, _ = run(environment_of("alerts", secure), "alerts", "--once")
    assert (code, len(output.splitlines())) == (0, len(shown))

    archive = str(tmp_path / "archive")
    code, _, errors = run(
        environment_of("archive", secure), "archive", archive, "--once"
    )
    assert not code, errors
    backup = str(tmp_path / "backup")
    code, _, errors = run(environment_of("backup", secure), "backup", backup)
    assert not code, errors


@pytest.mark.broker
@pytest.mark.parametrize(
    "arguments",
    [
        ("topics",),
        ("send", *GARDEN_FILES),
        ("worker",),
        ("alerts", "--once"),
        ("rules", "publish", RULES_FILE),
    ],
    ids=lambda arguments: arguments[0],
)
def test_refusal_is_a_line(secure, run, arguments, tmp_path):
    # a wrong password, an authority that did not sign, a name that is not in the certificate, no right
    wrong = environment_of("worker", secure, METERWATCH_SASL_PASSWORD="wrong")  # noqa: S106
    line = refused(run, wrong, *arguments)
    assert line == (
        f"the broker at {secure.secure_address} refuses this client: "
        "it does not know `sasl_username` with this `sasl_password`"
    )

    stranger, _ = certificates(tmp_path)
    strange = environment_of("worker", secure, METERWATCH_SSL_CAFILE=str(stranger))
    line = refused(run, strange, *arguments)
    assert "its certificate is not trusted, see `ssl_cafile`: " in line

    by_name = f"localhost:{secure.secure_port}"
    named = environment_of("worker", secure, METERWATCH_BROKERS=by_name)
    assert "Hostname mismatch" in refused(run, named, *arguments)

    line = refused(run, environment_of(NO_RIGHTS, secure), *arguments)
    assert line.startswith("this user may not ")


@pytest.mark.broker
def test_missing_right_is_named(secure, run):
    for user, arguments, missing in (
        ("mute", ["worker"], "write `alerts`"),
        (NO_RIGHTS, ["rules", "publish", RULES_FILE], "read `rules`; write `rules`"),
        (
            NO_RIGHTS,
            ["topics"],
            "describe " + ", ".join(sorted(f"`{topic.name}`" for topic in ALL_TOPICS)),
        ),
    ):
        line = refused(run, environment_of(user, secure), *arguments)
        said = "docs/security.md lists the rights that each command needs"
        assert line == f"this user may not {missing}. {said}"

    line = refused(run, environment_of(NO_RIGHTS, secure), "worker")
    assert "; read the group `meterwatch`. " in line


@pytest.mark.broker
def test_mechanism_that_the_broker_does_not_take_is_named(secure, run):
    other = environment_of("topics", secure, METERWATCH_SASL_MECHANISM="SCRAM-SHA-256")
    line = refused(run, other, "topics")
    assert line.endswith("it takes no `sasl_mechanism` SCRAM-SHA-256")


@pytest.mark.broker
def test_worker_without_the_right_to_inspections_goes_on(secure, run, tmp_path):
    code, _, errors = run(environment_of("topics", secure), "topics")
    assert not code, errors
    with WorkerProcess(environment_of("unaware", secure), tmp_path / "log") as worker:
        wait(lambda: "holds partitions" in worker.log.read_text())
        assert worker.end() == 0
        log = worker.log.read_text()
    (line,) = [line for line in log.splitlines() if "inspections" in line]
    assert " WARNING verdicts of inspections are not counted: " in line
    assert "this user may not read `inspections`. " in line


@pytest.mark.broker
def test_right_that_is_taken_away_ends_the_worker_with_a_line(secure, run, tmp_path):
    admin = secure.admin()
    code, _, errors = run(environment_of("topics", secure), "topics")
    assert not code, errors
    with WorkerProcess(environment_of("worker", secure), tmp_path / "log") as worker:
        wait(lambda: "holds partitions" in worker.log.read_text())
        denied = withheld_write(CHECKPOINTS_TOPIC)
        admin.create_acls([denied])
        code, _, errors = run(environment_of("send", secure), "send", *GARDEN_FILES)
        assert not code, errors
        wait(lambda: worker.process.poll() is not None)
        admin.delete_acls([denied])
        admin.close()

        assert worker.process.returncode == ExitCode.BROKERS
        log = worker.log.read_text()
        (line,) = [line for line in log.splitlines() if " CRITICAL " in line]
        assert "`checkpoints` does not take a checkpoint: TopicAuthorization" in line
        assert "Traceback" not in log
