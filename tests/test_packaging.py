"""The package as users get it: a wheel whose commands start anywhere, and start without what they do not need."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from replay.extras import EXTRA_MODULES
from schemas.suspicion import SuspicionFeature, SuspicionModel
from streams.cli import app
from streams.kafka.broker import free_ports

PROJECT_ROOT = Path(__file__).parents[1]
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
    "river",
    "scipy",
    "sklearn",
)
SUSPICION_MODEL = SuspicionModel(
    features=[SuspicionFeature(name="bill_change", mean=0, scale=1, weight=-1)],
    bias=-2,
    learned_from="a town",
    visits=100,
    thefts=10,
)
ASKED_FILES = {
    "cases/all_voltage_loss.toml": (
        PROJECT_ROOT / "tests/cases/all_voltage_loss.toml"
    ).read_text(),
    "history.csv": "meter,area,at,ua,ia,pa\n"
    + "".join(f"M1,A1,{1_700_000_100 + 900 * k},220,5,1.1\n" for k in range(400)),
    "areas.jsonl": '{"area": "A1", "meters": [{"meter": "M1"}]}\n',
    "queries.toml": 'url = "sqlite://"\nareas = "select 1"\n',
    "rules.toml": "",
    "suspicion.json": msgspec.json.encode(SUSPICION_MODEL).decode(),
    "topic.toml": 'topic = "t"\narea = "registry"\n[columns]\nmeter = "m"\nat = "t"\nua = "u"\n',
}
BUILD_FILES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".gitattributes",
    ".git_archival.txt",
)
# Without an extra: works. With one: names it.
ASKED_COMMANDS = (
    ("alerts", "kafka"),
    ("alerts --once", "kafka"),
    ("archive new", "kafka"),
    ("backup new", "kafka"),
    ("bridge topic.toml", "kafka"),
    ("compare history.csv --rules rules.toml", ""),
    ("demo --meters 100 --days 2", ""),
    ("explain history.csv --rule all_voltage_loss --meter M1 --at 2023-11-15", ""),
    ("inspect history.csv", ""),
    ("learn suspicion history.csv", "models"),
    ("map history.csv", ""),
    ("map some.topic --out topics.toml", "kafka"),
    ("map topic.toml", "kafka"),
    ("rank history.csv", ""),
    ("registry check areas.jsonl", ""),
    ("registry dump", "kafka"),
    ("registry dump history.csv", ""),
    ("registry load areas.jsonl", "kafka"),
    ("registry show A1", "kafka"),
    ("registry sync queries.toml", "sql"),
    ("restore cases", "kafka"),
    ("rules check rules.toml", ""),
    ("rules diff rules.toml", ""),
    ("rules list", ""),
    ("rules list --published", "kafka"),
    ("rules publish rules.toml", "kafka"),
    ("rules show all_voltage_loss", ""),
    ("rules test cases", ""),
    ("run history.csv", ""),
    ("run s3://bucket/kept", "s3"),
    ("run book.xlsx", "xlsx"),
    ("run history.csv --scheduler tcp://127.0.0.1:1", "dask"),
    ("score history.csv", ""),
    ("send history.csv", "kafka"),
    ("send --labels labels.csv", "kafka"),
    ("series history.csv --column ua", ""),
    ("sink alertmanager http://127.0.0.1:1", "kafka"),
    ("sink postgres postgresql://127.0.0.1:1/x", "sql"),
    ("sink webhook http://127.0.0.1:1", "kafka"),
    (f"stalls {PROJECT_ROOT}/tests/data/hospital_billing_300cases.parquet", ""),
    ("suspects history.csv", ""),
    ("topics", "kafka"),
    ("tune all_voltage_loss history.csv --set lost=0.5,0.6", ""),
    ("use-classes history.csv", "models"),
    ("worker", "kafka"),
)
# Runs commands given as lines of JSON in one process, for imports take most of the time of each.
ANSWER_COMMANDS = """
import contextlib, io, json, sys
from streams.cli import main
for arguments in map(json.loads, sys.stdin):
    sys.argv = ["meterwatch", *arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    texts = [each.buffer.getvalue().decode() for each in (out, err)]
    print(json.dumps([code, *texts]))
"""


def ran(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a command prints that finds no other packages than its own Python's."""
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(folder),
    ]
    subprocess.run(build, cwd=PROJECT_ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def requirements_of(wheel: Path) -> list[Requirement]:
    """What the wheel says that it needs, with the markers of extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", ())]


def applies(requirement: Requirement, extra: str = "") -> bool:
    """True if a requirement holds here, with an extra or without any."""
    marker = requirement.marker
    return marker is None or marker.evaluate({"extra": extra})


def needed(requirements: Iterable[Requirement]) -> Iterator[Distribution]:
    """The distributions that requirements bring, and theirs."""
    waiting = [requirement for requirement in requirements if applies(requirement)]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        found = distribution(requirement.name)
        wanted = map(Requirement, found.requires or ())
        waiting += [each for each in wanted if applies(each) and each.name not in seen]
        seen.update(each.name for each in waiting)
        yield found


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a Python that has the wheel and what it requires, without any extra."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for found in needed(requirements_of(wheel)):
        for file in found.files or ():
            place = packages / file.parts[0]
            if file.parts[0] not in {"..", "__pycache__"} and not place.exists():
                place.symlink_to(str(found.locate_file(file.parts[0])))

    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps"]
    subprocess.run([*install, "--python", python, wheel], check=True)
    return python.parent


def test_command_line_starts_without_heavy_modules():
    show = "import streams.cli, sys; print(*sys.modules)"
    loaded = set(ran(sys.executable, "-c", show, folder=PROJECT_ROOT).stdout.split())
    assert "streams.history_commands" in loaded
    assert not loaded.intersection(HEAVY_MODULES)
    light = {"replay.addresses", "replay.extras"}
    assert {name for name in loaded if name.startswith("replay.")} == light


def test_wheel_holds_the_packages_and_the_licence(wheel):
    version = wheel.name.split("-")[1]
    info = f"meterwatch-{version}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        programs = archive.read(f"{info}/entry_points.txt").decode()

    assert {name.partition("/")[0] for name in names} == {
        "detectors",
        info,
        "models",
        "replay",
        "schemas",
        "streams",
    }
    assert f"{info}/licenses/LICENSE" in names
    assert "meterwatch = streams.cli:main" in programs


def test_commands_start_from_the_wheel(wheel, base, tmp_path):
    version = f"meterwatch {wheel.name.split('-')[1]}\n"
    assert ran(base / "meterwatch", "--version", folder=tmp_path).stdout == version
    module = ran(base / "python", "-m", "streams", "--version", folder=tmp_path)
    assert module.stdout == version

    history = sorted((PROJECT_ROOT / "tests/data").glob("garden4_*"))
    watched = ran(base / "meterwatch", "run", *history, folder=tmp_path)
    assert watched.returncode == 0, watched.stderr
    assert "Phase currents differ" in watched.stdout

    refused = ran(base / "meterwatch", "worker", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "error: this needs the extra kafka: pip install 'meterwatch[kafka]' (there is no module faust)\n"
    )


def all_commands(command: Any, path: str = "") -> Iterator[str]:
    """Every command with the groups that it belongs to."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path


def test_every_command_is_asked():
    paths = list(all_commands(typer.main.get_command(app)))
    assert {"worker", "rules publish"} <= set(paths)
    for path in paths:
        asked = [
            each for each, _ in ASKED_COMMANDS if f"{each} ".startswith(f"{path} ")
        ]
        assert asked, path


def test_every_command_works_without_extras_or_names_its_extra(base, tmp_path):
    for name, text in ASKED_FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "")

    lines = (json.dumps(asked.split()) for asked, _ in ASKED_COMMANDS)
    asking = subprocess.run(
        [base / "python", "-c", ANSWER_COMMANDS],
        cwd=tmp_path,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    answers = list(map(json.loads, asking.stdout.splitlines()))
    assert len(answers) == len(ASKED_COMMANDS), asking.stderr
    for (asked, extra), (code, out, err) in zip(ASKED_COMMANDS, answers, strict=True):
        if extra:
            assert (code, out, err.count("\n")) == (2, "", 1), f"{asked}: {err}"
            assert f"pip install 'meterwatch[{extra}]'" in err, asked
        else:
            assert code == 0, f"{asked}: {err}"


def test_every_package_of_an_extra_is_known_to_the_commands(wheel):
    def packages(extra: str = "") -> set[str]:
        found = (each.name for each in requirements_of(wheel) if applies(each, extra))
        return set(map(canonicalize_name, found))

    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].keys() - {"all", "bench", "dev"}
    assert extras == EXTRA_MODULES.keys()

    owners = packages_distributions()
    known = set()
    for extra, modules in EXTRA_MODULES.items():
        assert packages(extra) <= packages("all")
        for module in modules:
            brought = packages(extra) - packages()
            brought &= set(map(canonicalize_name, owners[module]))
            assert brought, f"{extra} does not bring {module}"
            known |= brought
    assert known == packages("all") - packages()


def built_version(folder: Path) -> str:
    """The version of what would be built in a folder."""
    return ran(
        sys.executable, "-m", "hatchling", "version", folder=folder
    ).stdout.strip()


def test_version_is_the_tag_with_git_and_without(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in BUILD_FILES:
        shutil.copy(PROJECT_ROOT / name, clone)
    assert built_version(clone) == "0.0.0"  # a copy, as in an image's build

    def git(*arguments: str) -> None:
        names = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *names, *arguments], cwd=clone, check=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    assert built_version(clone).startswith("0.0.1.dev1+g")
    git("tag", "--annotate", "--message", "1.2.3", "v1.2.3")
    assert built_version(clone) == "1.2.3"

    git("archive", "--output", "../archive.zip", "HEAD")
    shutil.unpack_archive(tmp_path / "archive.zip", tmp_path / "archive")
    assert built_version(tmp_path / "archive") == "1.2.3"
    git("commit", "--quiet", "--allow-empty", "--message", "two")
    assert built_version(clone).startswith("1.2.4.dev1+g")


def test_broker_outside_a_checkout_says_what_it_needs(base, tmp_path):
    broker = ("-m", "streams.kafka.broker", "--port", str(free_ports()[0]))
    refused = ran(base / "python", *broker, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "this broker for development needs `deploy/kafka` of a checkout of meterwatch\n"
    )
