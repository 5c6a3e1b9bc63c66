"""A real PostgreSQL on loopback, as Debian packages it, in a folder of its own, for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.prometheus import free_port

PROGRAMS_FOLDER = Path("/usr/lib/postgresql")
START_SECONDS = 60.0
UNPRIVILEGED_USER = "postgres"  # PostgreSQL refuses to run as root


class PostgresServer:
    """A running PostgreSQL, and how to freeze and restart it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = free_port()
        self._folder, self._programs = folder, programs
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"postgresql://meterwatch@127.0.0.1:{self.port}/postgres"
        self.sqlalchemy_url = self.address.replace("://", "+psycopg://")

    def begin(self) -> None:
        """Start, and return once it answers."""
        arguments = [
            str(self._programs / "postgres"),
            *("-D", str(self._folder / "data"), "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments, stdout=log, stderr=log, user=_user()
            )

        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            log_text = (self._folder / "log").read_text()
            assert self._process.poll() is None, log_text[-2000:]
            assert time.monotonic() < deadline, log_text[-2000:]
            time.sleep(0.1)

    def end(self) -> None:
        """End at once, as on a power failure of its clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """The rows that a statement gives."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.address, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _programs() -> Path:
    """The folder of the newest PostgreSQL; the test is skipped without one, which fails in CI."""
    found = sorted(PROGRAMS_FOLDER.glob("*/bin/initdb"))
    if not found:
        message = "PostgreSQL is not installed: apt-get install postgresql"
        assert "CI" not in os.environ, message
        pytest.skip(message)
    return found[-1].parent


def _user() -> str | None:
    """The user under whom PostgreSQL runs, None for this one."""
    return UNPRIVILEGED_USER if os.getuid() == 0 else None


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with an empty database within the block."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="meterwatch-postgres-"))

    try:
        if user := _user():
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        arguments = [str(programs / "initdb"), "-D", str(folder / "data")]
        options = [
            "-U",
            "meterwatch",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run(
            [*arguments, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )
        server = PostgresServer(folder, programs)
        server.begin()
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
