"""The command as a person runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from codelab import cli
from tests.support.forking import fork_codelab
from tests.support.process import clean_environ

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.reference_import.reference import Reference
    from tests.support.databases import DatabaseUrls


@pytest.fixture
def environ(databases: DatabaseUrls, tmp_path: Path) -> dict[str, str]:
    """The environment of an installation with empty databases."""
    return clean_environ(tmp_path, AGENT_RUNTIME__DB_URL=databases.agent, AUTH_SERVICE__DB_URL=databases.auth)


@pytest.fixture
def arguments(sample: Reference) -> tuple[str, ...]:
    """The command with both sources."""
    agent, auth = sample.urls
    return ("db", "import-reference", "--agent-db", agent, "--auth-db", auth)


def one_line(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which a command was refused."""
    assert (answer.returncode, answer.stdout) == (2, "")
    (line,) = answer.stderr.splitlines()
    return line


def test_the_report(environ: dict[str, str], arguments: tuple[str, ...], tmp_path: Path) -> None:
    """A dry run and the real one print the same report, for people and as JSON; the second run finds everything."""
    trial = fork_codelab(*arguments, "--owner", "alice", "--dry-run", folder=tmp_path, environ=environ)
    assert trial.returncode == 0, trial.stderr
    assert trial.stdout.splitlines()[-1] == "The sessions belong to alice. Dry run: nothing was changed."
    real = fork_codelab(*arguments, "--owner", "alice", folder=tmp_path, environ=environ)
    assert real.returncode == 0, real.stderr
    assert real.stdout.splitlines()[:-1] == trial.stdout.splitlines()[:-1]
    assert "repaired: clients: codelab-internal: its secret is published" in real.stdout
    assert "skipped: refresh_tokens: 2 that live: only the reference's key can prove them" in real.stdout
    again = fork_codelab(*arguments, "--owner", "alice", "--json", folder=tmp_path, environ=environ)
    document = json.loads(again.stdout)
    assert document["counts"]["messages"] == {
        "read": 22,
        "imported": 0,
        "already_there": 22,
        "repaired": 0,
        "skipped": 0,
    }
    assert (document["owner"], document["dry_run"], document["repairs"]) == ("alice", False, [])


def test_refusals_are_one_line(environ: dict[str, str], arguments: tuple[str, ...], tmp_path: Path) -> None:
    """What cannot be done ends with exit code 2, one line, and nothing imported."""
    assert "users who may log in: admin, alice" in one_line(fork_codelab(*arguments, folder=tmp_path, environ=environ))
    keys = fork_codelab(*arguments, "--keys", str(tmp_path), folder=tmp_path, environ=environ)
    assert "has neither public_key.pem nor private_key.pem" in one_line(keys)
    other = (*arguments[:-1], "mysql://root:hunter2@db/auth")
    line = one_line(fork_codelab(*other, folder=tmp_path, environ=environ))
    assert line.startswith("codelab: --auth-db: the scheme 'mysql' is not supported")
    assert "hunter2" not in line


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_start_on_the_references_database_says_how_to_import_it(
    environ: dict[str, str], sample: Reference, tmp_path: Path
) -> None:
    """``codelab serve`` on the reference's file refuses with the command, which then works as it is shown."""
    environ |= {"AUTH_SERVICE__DB_URL": sample.urls[1]}
    line = one_line(fork_codelab("serve", "--port", "0", folder=tmp_path, environ=environ))
    shown = line.partition("run: codelab ")[2].split()
    assert shown == ["db", "import-reference", "--agent-db", "URL", "--auth-db", sample.urls[1]]
    environ |= {"AUTH_SERVICE__DB_URL": f"sqlite:///{tmp_path}/fresh.db"}
    shown[shown.index("URL")] = sample.urls[0]
    done = fork_codelab(*shown, "--owner", "admin", folder=tmp_path, environ=environ)
    assert done.returncode == 0, done.stderr


def test_help_names_every_option() -> None:
    """``--help`` shows what may be given."""
    from click.testing import CliRunner

    shown = CliRunner().invoke(cli.cli, ["db", "import-reference", "--help"]).output
    for option in ("--agent-db", "--auth-db", "--keys", "--owner", "--issuer", "--audience", "--dry-run", "--json"):
        assert option in shown
