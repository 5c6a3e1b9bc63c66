"""A broker with TLS, passwords and access rules on loopback, and the rules that `docs/security.md` grants."""

from __future__ import annotations

import re
import shlex
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from streams.kafka.broker import LOOPBACK_HOST, Broker, free_ports

SECURITY_PAGE = Path(__file__).parents[1] / "docs" / "security.md"
SECURE_PROPERTIES = """
listeners=PLAINTEXT://{plain},SASL_SSL://{secure},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{plain},SASL_SSL://{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class SecureBroker(Broker):
    """A broker that takes users by SASL_SSL at `secure_address`; whoever comes by PLAINTEXT is its administrator."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.secure_port, _ = free_ports()
        self.authority, self._keystore = certificates(folder)

    @property
    def secure_address(self) -> str:
        return f"{LOOPBACK_HOST}:{self.secure_port}"

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.address)

    def _configure(self) -> Path:
        settings = super()._configure()
        with settings.open("a") as file:
            file.write(
                SECURE_PROPERTIES.format(
                    plain=self.address,
                    secure=self.secure_address,
                    controller=f"{LOOPBACK_HOST}:{self._controller_port}",
                    keystore=self._keystore,
                )
            )
        return settings


def certificates(folder: Path) -> tuple[Path, Path]:
    """A new authority's certificate, and a key with a certificate of loopback that it signed, as PEM."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, key, keystore = (
        folder / name for name in ("authority.pem", "authority.key", "broker.pem")
    )
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    _run(*made, "-subj", "/CN=authority", "-keyout", key, "-out", authority)

    name = f"subjectAltName=IP:{LOOPBACK_HOST}"
    signed: list[str | Path] = ["-CA", authority, "-CAkey", key, "-addext", name]
    private, certificate = folder / "broker.key", folder / "broker.crt"
    _run(*made, "-subj", "/CN=broker", *signed, "-keyout", private, "-out", certificate)
    keystore.write_text(private.read_text() + certificate.read_text())
    return authority, keystore


def add_user(admin: KafkaAdminClient, name: str, password: str) -> None:
    """Lets a user log in."""
    admin.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(name, "SCRAM-SHA-512", password, iterations=4096)]
    )


def granted(page: str) -> list[ACL]:
    """The access rules that the lines of `kafka-acls.sh` on a page make."""
    lines = re.findall(
        r"^ +kafka-acls\.sh --bootstrap-server BROKERS (.*)$",
        page.replace("\\\n", " "),
        re.MULTILINE,
    )
    assert lines
    return [rule for line in lines for rule in _rules_of(shlex.split(line))]


def grant(admin: KafkaAdminClient, rules: Iterable[ACL], user: str = "") -> None:
    """Puts access rules in force, if given for another user."""
    made = [
        ACL(
            principal=user or rule.principal,
            host=rule.host,
            operation=rule.operation,
            permission_type=rule.permission_type,
            resource_pattern=rule.resource_pattern,
        )
        for rule in rules
    ]
    answer = admin.create_acls(made)
    assert not answer["failed"], answer


def _rules_of(arguments: Sequence[str]) -> Iterator[ACL]:
    """The access rules that `kafka-acls.sh` makes of its arguments."""
    parser = ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--topic", action="append", default=[])
    parser.add_argument("--group", action="append", default=[])
    options = parser.parse_args(arguments)

    for kind, names in (
        (ResourceType.TOPIC, options.topic),
        (ResourceType.GROUP, options.group),
    ):
        for name, word in product(names, options.operation):
            yield ACL(
                principal=options.allow_principal,
                host="*",
                operation=_operation(word),
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(kind, name),
            )


def _operation(word: str) -> ACLOperation:
    """The operation of a word such as DescribeConfigs."""
    return ACLOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).upper()]


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
