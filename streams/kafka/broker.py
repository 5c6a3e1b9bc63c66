"""A single-node Apache Kafka on loopback for development and tests, from the released jars, without Docker.

``python -m streams.kafka.broker`` runs one until it is interrupted. It needs Java and, the first time, Maven.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Self

CHECKOUT_FOLDER = Path(__file__).resolve().parents[2]
SETTINGS_FOLDER = CHECKOUT_FOLDER / "deploy" / "kafka"
CACHE_FOLDER = CHECKOUT_FOLDER / ".kafka"
LOOPBACK_HOST = "127.0.0.1"
PORT_RANGE = range(15_000, 32_000)
START_SECONDS = 60
STOP_SECONDS = 30


class BrokerError(Exception):
    """The broker did not start or has died; says why."""


class BrokerUnavailableError(BrokerError):
    """Java or Maven is missing, so no broker can run here."""


class Broker:
    """A broker with its data in a folder; a context manager. Port 0 takes a free port and keeps it over restarts."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder.resolve()
        self.port, self._controller_port = (port, port + 1) if port else free_ports()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The bootstrap server of clients."""
        return f"{LOOPBACK_HOST}:{self.port}"

    @property
    def _log(self) -> Path:
        """The file of the broker's warnings and errors."""
        return self.folder / "broker.log"

    def start(self) -> None:
        """Starts the broker and returns when it answers. Raises BrokerError if it cannot."""
        for port in (self.port, self._controller_port):
            if _listens(port):
                raise BrokerError(
                    f"something listens on {LOOPBACK_HOST}:{port} already"
                )

        java = [
            program("java", "Java 17 or newer"),
            "-cp",
            f"{jars()}/*",
            f"-Dlog4j2.configurationFile={SETTINGS_FOLDER / 'log4j2.properties'}",
            "-XX:TieredStopAtLevel=1",
            "-Xmx512m",
        ]
        settings = self._configure()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format_storage(java, settings)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*java, "kafka.Kafka", str(settings)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the broker in good order; does nothing if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the broker with SIGKILL; its folder starts again."""
        self._end(signal.SIGKILL)

    def wait(self) -> None:
        """Waits while the broker runs. Raises BrokerError if it ends by itself."""
        if self.process and self.process.wait():
            raise BrokerError(f"Kafka has died:\n{_last_lines(self._log)}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _format_storage(self, java: list[str], settings: Path) -> None:
        identity = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        command = [
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={identity}",
            "-c",
            str(settings),
        ]
        _run([*java, *command], "format its storage")

    def _configure(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "server.properties"
        settings.write_text(
            (SETTINGS_FOLDER / "server.properties").read_text()
            + f"listeners=PLAINTEXT://{self.address},CONTROLLER://{LOOPBACK_HOST}:{self._controller_port}\n"
            + f"advertised.listeners=PLAINTEXT://{self.address}\n"
            + f"controller.quorum.voters=1@{LOOPBACK_HOST}:{self._controller_port}\n"
            + f"log.dirs={self.folder / 'data'}\n"
        )
        return settings

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if self.process and self.process.poll() is not None:
                raise BrokerError(f"Kafka did not start:\n{_last_lines(self._log)}")
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka did not answer within {START_SECONDS} s:\n{_last_lines(self._log)}"
                )
            time.sleep(0.1)

    def _end(self, sign: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(sign)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def _listens(port: int) -> bool:
    """True if anything accepts connections on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK_HOST, port)) == 0


def answers(port: int) -> bool:
    """True if a broker on this port of loopback answers a metadata request with itself."""
    # Metadata, version 4, no client id, no topics.
    request = struct.pack(">hhihi?", 3, 4, 0, -1, 0, False)

    try:
        with (
            socket.create_connection((LOOPBACK_HOST, port), timeout=5) as connection,
            connection.makefile("rb") as answer,
        ):
            connection.sendall(struct.pack(">i", len(request)) + request)
            _size, _correlation, _throttle, brokers = struct.unpack(
                ">iiii", answer.read(16)
            )
            return bool(brokers > 0)
    except (OSError, struct.error):
        return False


def jars() -> Path:
    """The folder of Kafka's jars, fetched by Maven the first time; its name depends on pom.xml."""
    project = SETTINGS_FOLDER / "pom.xml"
    if not project.exists():
        raise BrokerUnavailableError(
            "this broker for development needs `deploy/kafka` of a checkout of meterwatch"
        )
    digest = hashlib.sha256(project.read_bytes()).hexdigest()[:12]
    folder = CACHE_FOLDER / f"jars-{digest}"
    if folder.exists():
        return folder

    CACHE_FOLDER.mkdir(exist_ok=True)
    with (CACHE_FOLDER / "fetching.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():  # another process may have fetched them meanwhile
            _fetch_jars(project, folder)
    return folder


def _fetch_jars(project: Path, folder: Path) -> None:
    maven = program("mvn", "Maven, once, to fetch Kafka")
    with tempfile.TemporaryDirectory(dir=CACHE_FOLDER) as scratch:
        fetched = Path(scratch) / "jars"
        _run(
            [
                maven,
                "--quiet",
                "--batch-mode",
                "--strict-checksums",
                "--file",
                str(project),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={fetched}",
                "-DincludeScope=runtime",
            ],
            "fetch its jars",
        )
        fetched.rename(folder)


def free_ports() -> tuple[int, int]:
    """Two neighbouring free ports of loopback, below the ports of outgoing connections."""
    while True:
        port = PORT_RANGE.start + secrets.randbelow(len(PORT_RANGE))
        with (
            contextlib.suppress(OSError),
            socket.socket() as first,
            socket.socket() as second,
        ):
            first.bind((LOOPBACK_HOST, port))
            second.bind((LOOPBACK_HOST, port + 1))
            return port, port + 1


def program(name: str, need: str) -> str:
    """The full path of a program. Raises BrokerUnavailableError if it is not on the path."""
    path = shutil.which(name)
    if path is None:
        raise BrokerUnavailableError(
            f"a broker needs {need}: `{name}` is not on the path"
        )
    return path


def _run(command: list[str], purpose: str) -> None:
    """Runs a command to its end. Raises BrokerError with its output if it fails."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BrokerError(f"Kafka could not {purpose}:\n{done.stdout.strip()}")


def _last_lines(log: Path, lines: int = 20) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def main() -> None:
    """Runs a broker on a port of loopback until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m streams.kafka.broker", description=main.__doc__
    )
    parser.add_argument(
        "--port",
        type=int,
        default=9092,
        help="the controller takes the next one (default 9092)",
    )
    port = parser.parse_args().port

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Broker(CACHE_FOLDER / f"broker-{port}", port=port) as broker:
            print(
                f"Kafka listens on {broker.address}, data and log in {broker.folder}; Ctrl-C ends it",
                flush=True,
            )
            broker.wait()
    except KeyboardInterrupt:
        pass
    except BrokerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
