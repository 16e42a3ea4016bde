"""Databases with rows in every table, and the command line as an operator uses it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.storage.filled import fill
from tests.support.process import clean_environ, run_codelab
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.support.databases import DatabaseUrls


@pytest.fixture
async def filled(migrated: DatabaseUrls, tmp_path: Path) -> DatabaseUrls:
    """Both databases after turns with calls, approvals, hand-overs and rotated tokens; nobody serves them."""
    async with serving(make_settings(migrated, tmp_path)) as server:
        await fill(server)
    return migrated


@dataclass
class Operator:
    """Run ``codelab db`` on two databases."""

    folder: Path
    databases: DatabaseUrls
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every command."""
        return clean_environ(
            self.folder,
            **{
                "AGENT_RUNTIME__DB_URL": self.databases.agent,
                "AUTH_SERVICE__DB_URL": self.databases.auth,
                "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE": str(self.folder / "auth.key"),
                **self.extra,
            },
        )

    def db(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return run_codelab("db", *arguments, folder=self.folder, environ=self.environ)

    def told(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with ``--json`` and return its document."""
        done = self.db(*arguments, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def line(self, *arguments: str, code: int) -> str:
        """Run a command that fails, and return the one line that it says."""
        done = self.db(*arguments)
        assert done.returncode == code, done.stderr + done.stdout
        (line,) = done.stderr.splitlines()
        assert "Traceback" not in done.stdout
        return line


@pytest.fixture
def programs(dialect: str, request: pytest.FixtureRequest) -> str:
    """A PATH on which PostgreSQL's programs are those of the server of the tests."""
    path = os.environ.get("PATH", "")
    if dialect == "postgresql":
        folder = request.getfixturevalue("postgresql").bin
        if folder is not None:
            return f"{folder}{os.pathsep}{path}"
    return path


@pytest.fixture
def operator(migrated: DatabaseUrls, tmp_path: Path, programs: str) -> Operator:
    """An operator of the databases of ``migrated`` or ``filled``."""
    return Operator(tmp_path, migrated, {"PATH": programs})
