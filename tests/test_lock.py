"""The lock files: complete, hashed, and without the address of any registry."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT_ROOT = Path(__file__).parents[1]
PROJECT_TABLE = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
LOCK_FILES = {"requirements.lock": "all", "requirements-dev.lock": "dev"}  # the extra


def required(extra: str) -> Iterator[Requirement]:
    """What an extra brings, and the extras that it names."""
    for text in PROJECT_TABLE["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == PROJECT_TABLE["name"]:
            yield from chain.from_iterable(map(required, requirement.extras))
        else:
            yield requirement


@pytest.mark.parametrize(("lock", "extra"), LOCK_FILES.items(), ids=LOCK_FILES)
def test_lock_pins_every_requirement(lock: str, extra: str):
    text = (PROJECT_ROOT / lock).read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    base = map(Requirement, PROJECT_TABLE["dependencies"])
    for requirement in chain(base, required(extra)):
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
