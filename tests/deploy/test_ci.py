from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="CI runs on Linux")

ROOT = Path(__file__).resolve().parents[2]
#: Put together from halves: this file is searched too.
REGISTRY = "pypi" + ".org"


class Checkout:
    """A repository with the real .ci/run and a `python3` that only tells how it was called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "run", root / ".ci")
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        self.write("README.md", "# codelab\n\n```sh\npython3 dev.py test -k all\n```\n")
        self.write("requirements.lock", "litestar==2.25.0 \\\n    --hash=sha256:00\n")
        self.write("requirements-mcp.lock", "mcp==2.3.0 \\\n    --hash=sha256:00\n")
        self.write("requirements-dev.lock", "pytest==9.2.0 \\\n    --hash=sha256:00\n")
        self.python("exit 0")

    def write(self, name: str, text: str) -> None:
        """Write one of the files."""
        (self.root / name).write_text(text, encoding="utf-8")

    def python(self, body: str) -> None:
        """Choose what `python3` does after it has told how it was called."""
        program = self.root / ".git" / "python3"
        program.write_text(f'#!/bin/sh\necho "ran: $*"\n{body}\n', encoding="utf-8")
        program.chmod(0o755)

    def run(self) -> tuple[int, str, str]:
        """Run .ci/run: exit code, output, errors."""
        done = subprocess.run(
            ["/bin/bash", str(self.root / ".ci" / "run")],
            env={"PATH": f"{self.root / '.git'}:/usr/bin:/bin"},
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository in which nothing is wrong."""
    return Checkout(tmp_path)


def test_runs_lint_and_then_the_command_of_the_readme(checkout: Checkout) -> None:
    """What README.md teaches is what runs, and it comes last."""
    code, out, err = checkout.run()

    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("ran:")] == [
        "ran: dev.py lint",
        "ran: dev.py test -k all",
    ]


def test_readme_without_the_command_fails(checkout: Checkout) -> None:
    """A README that stops teaching the command is noticed."""
    checkout.write("README.md", "# codelab\n")

    code, _, err = checkout.run()

    assert code == 1
    assert "README.md" in err


@pytest.mark.parametrize("command", ["lint", "test"])
def test_one_failure_fails_all_and_the_tests_run_anyway(checkout: Checkout, command: str) -> None:
    """Every check runs, and the exit code tells of each failure."""
    checkout.python(f'[ "$2" != {command} ] || exit 3')

    code, out, _ = checkout.run()

    assert code == 1
    assert "ran: dev.py test -k all" in out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.md", f"taken from {REGISTRY}\n"),
        ("notes.md", f"see {'/ro' + 'ot/'}notes\n"),
        ("requirements.lock", "codelab @ https://example.com/codelab.whl\n"),
        ("requirements-mcp.lock", "--find-links x\n"),
        ("requirements-dev.lock", "--index-url x\n"),
    ],
)
def test_registries_and_paths_of_a_machine_are_found(checkout: Checkout, name: str, text: str) -> None:
    """A file that ties the project to one machine or registry fails the run and is named."""
    checkout.write(name, text)

    code, out, err = checkout.run()

    assert code == 1
    assert name in out
    assert "hygiene" in err


def test_search_that_cannot_run_is_a_failure(checkout: Checkout) -> None:
    """A check that did not happen never counts as passed."""
    (checkout.root / "requirements.lock").unlink()

    code, _, err = checkout.run()

    assert code == 1
    assert "hygiene" in err
