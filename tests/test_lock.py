"""The lock files: complete, hashed, and without the address of any registry."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT_ROOT = Path(__file__).parents[1]
PROJECT_TABLE = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
RUNTIME_DEPENDENCIES = PROJECT_TABLE["dependencies"]
LOCK_FILES = {
    "requirements.lock": RUNTIME_DEPENDENCIES,
    "requirements-dev.lock": RUNTIME_DEPENDENCIES
    + PROJECT_TABLE["optional-dependencies"]["dev"],
}


@pytest.mark.parametrize(("lock", "wanted"), LOCK_FILES.items(), ids=LOCK_FILES)
def test_lock_pins_every_requirement(lock: str, wanted: list[str]):
    text = (PROJECT_ROOT / lock).read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(
            pinned[canonicalize_name(requirement.name)]
        )


@pytest.mark.parametrize("lock", LOCK_FILES)
def test_every_pin_has_hashes_and_no_address(lock: str):
    lines = [
        line
        for line in (PROJECT_ROOT / lock).read_text().splitlines()
        if not line.startswith("#")
    ]
    pins = [at for at, line in enumerate(lines) if not line.startswith(" ")]
    assert all(re.match(r"[\w.-]+==\S+", lines[at]) for at in pins)
    assert all(lines[at + 1].startswith("    --hash=sha256:") for at in pins)
    assert not any("://" in line or "--index" in line for line in lines)
