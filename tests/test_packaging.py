"""The package as users get it: a wheel whose commands start anywhere, and start without what they do not need."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).parents[1]
PROJECT_TABLE = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
PACKAGE_VERSION = PROJECT_TABLE["version"]
# Each takes a tenth of a second or more; a command imports them when it runs.
HEAVY_MODULES = (
    "aiokafka",
    "detectors",
    "faust",
    "fsspec",
    "holidays",
    "kafka",
    "mode",
    "models",
    "opentelemetry",
    "prometheus_client",
    "pyarrow",
    "replay",
    "river",
    "scipy",
    "sklearn",
)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a Python prints that finds the project in a folder only."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=PROJECT_ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_command_line_starts_without_heavy_modules():
    show = "import streams.cli, sys; print(*sys.modules)"
    loaded = set(python(PROJECT_ROOT, "-c", show).stdout.split())
    assert "streams.history_commands" in loaded
    assert not loaded.intersection(HEAVY_MODULES)


def test_wheel_holds_the_packages_and_the_licence(unpacked):
    assert sorted(path.name for path in unpacked.iterdir()) == [
        "detectors",
        f"meterwatch-{PACKAGE_VERSION}.dist-info",
        "models",
        "replay",
        "schemas",
        "streams",
    ]
    info = unpacked / f"meterwatch-{PACKAGE_VERSION}.dist-info"
    assert (info / "licenses" / "LICENSE").exists()
    assert "meterwatch = streams.cli:main" in (info / "entry_points.txt").read_text()


def test_commands_start_from_the_wheel(unpacked):
    assert python(unpacked, "-m", "streams", "--version").stdout == (
        f"meterwatch {PACKAGE_VERSION}\n"
    )

    # every command and group of the help can be loaded
    listed = python(unpacked, "-m", "streams", "--help").stdout
    names = [
        line.split()[0]
        for line in listed.partition("Commands:")[2].splitlines()
        if line.startswith("  ") and not line.startswith("   ")
    ]
    assert {"worker", "run", "backup", "rules", "registry"} <= set(names)
    ask = (
        "import sys; from typer.testing import CliRunner; from streams.cli import app\n"
        "for name in sys.argv[1:]:\n"
        "    print(name, CliRunner().invoke(app, [name, '--help']).exit_code)\n"
    )
    answers = python(unpacked, "-c", ask, *names)
    assert answers.stdout.split("\n")[:-1] == [f"{name} 0" for name in names]

    ran = python(unpacked, "-m", "streams", "rules", "list")
    assert (ran.returncode, ran.stderr) == (0, "")
    history = sorted(map(str, (PROJECT_ROOT / "tests/data").glob("garden4_*")))
    watched = python(unpacked, "-m", "streams", "run", *history)
    assert watched.returncode == 0, watched.stderr
    assert "Phase currents differ" in watched.stdout


def test_broker_outside_a_checkout_says_what_it_needs(unpacked):
    ran = python(unpacked, "-m", "streams.kafka.broker", "--port", "29999")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "this broker for development needs `deploy/kafka` of a checkout of meterwatch\n"
    )
