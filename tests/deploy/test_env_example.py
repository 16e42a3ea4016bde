from __future__ import annotations

import re

import pytest

from codelab.db import parse_url
from codelab.settings import Settings, read_env_file, variables
from tests.deploy.env_example import ROOT, default_lines, names, postgresql_lines

COMPOSE_VARIABLES = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))


def test_copy_is_accepted_as_it_is() -> None:
    """A plain copy of .env.example starts the server: SQLite, on the volume."""
    settings = Settings.from_environ(read_env_file(ROOT / ".env.example"))

    for url, name in ((settings.agent.db_url, "agent_runtime.db"), (settings.auth.db_url, "auth.db")):
        parsed = parse_url(url, "URL")
        assert parsed.dialect == "sqlite"
        assert str(parsed.path) == f"/data/{name}"


def test_postgresql_block_replaces_the_sqlite_block() -> None:
    """The block for PostgreSQL switches both modules over, and nothing else has to be changed."""
    settings = Settings.from_environ({**default_lines(), **postgresql_lines()})

    for url, name in ((settings.agent.db_url, "agent_runtime"), (settings.auth.db_url, "auth_db")):
        assert parse_url(url, "URL").dialect == "postgresql"
        assert url == f"postgresql://codelab:codelab_password@postgres:5432/{name}"


@pytest.mark.parametrize("name", sorted(names()))
def test_every_variable_exists_and_is_documented(name: str) -> None:
    """What .env.example offers is read by codelab or by compose.yaml, and docs/configuration.md describes it."""
    known = {variable.name for variable in variables()} | COMPOSE_VARIABLES | {"COMPOSE_PROFILES"}

    assert name in known
    assert f"`{name}`" in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_variable_of_compose_is_offered() -> None:
    """Nobody has to read compose.yaml to find out what can be set."""
    assert names() >= COMPOSE_VARIABLES
