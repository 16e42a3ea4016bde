from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("requirements.lock", "requirements-mcp.lock", "requirements-dev.lock")


def read_lock(name: str) -> dict[str, tuple[str, int]]:
    """Return version and number of hashes of each locked package."""
    locked: dict[str, tuple[str, int]] = {}
    text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=sha256:")
            parsed = Requirement(requirement.strip())
            (pin,) = parsed.specifier
            assert pin.operator == "=="
            locked[canonicalize_name(parsed.name)] = (pin.version, len(hashes))
    return locked


def requirements_of(lock: str) -> list[str]:
    """Return what pyproject.toml asks a lock to hold."""
    groups = PROJECT["dependency-groups"]
    extras: dict[str, list[str]] = {
        "requirements-mcp.lock": PROJECT["project"]["optional-dependencies"]["mcp"],
        "requirements-dev.lock": groups["dev"],
    }
    extra = extras.get(lock, [])
    return [*PROJECT["project"]["dependencies"], *groups["build"], *extra]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_place(lock: str) -> None:
    """A lock says what to install and never from where, so that every mirror will do."""
    text = (ROOT / lock).read_text(encoding="utf-8")

    assert "://" not in text
    assert [] == [line for line in text.splitlines() if line.lstrip().startswith("--") and "--hash=sha256:" not in line]
    assert not re.search(r"\b[a-z0-9-]+\.(org|com|net|io|dev|local)\b", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    """Nothing can be installed that differs from what was locked."""
    locked = read_lock(lock)

    assert len(locked) > 20
    assert [] == [name for name, (_, hashes) in locked.items() if hashes == 0]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_locked_within_its_range(lock: str) -> None:
    """pyproject.toml and the lock belong together; `python3 dev.py lock` brings them back together."""
    locked = read_lock(lock)

    for text in requirements_of(lock):
        wanted = Requirement(text)
        version, _ = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version, prereleases=True), f"{text} is locked at {version}"


def test_development_adds_to_the_runtime_and_changes_nothing() -> None:
    """The versions that are tested are the versions that run, with the extra and without."""
    runtime, extra, dev = (read_lock(lock) for lock in LOCKS)

    assert runtime == {name: extra.get(name) for name in runtime}
    assert extra == {name: dev.get(name) for name in extra}
    assert "mcp" not in runtime


def test_the_tests_use_the_extra_itself() -> None:
    """What the tests need of the SDK is what the extra promises."""
    (extra,) = PROJECT["project"]["optional-dependencies"]["mcp"]

    assert extra in PROJECT["dependency-groups"]["dev"]


def test_every_dependency_is_accounted_for() -> None:
    """CONTRIBUTING.md says of each runtime dependency who keeps it and what we would miss."""
    rows = re.findall(r"^\| `([^`\s]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(rows) == sorted(Requirement(text).name for text in PROJECT["project"]["dependencies"])
