"""Every command of the pages about databases is run, and prints what the pages show."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import yaml

from tests.support.process import ServerProcess, clean_environ, server_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = ("database-configuration.md", "postgres-quickstart.md")
BLOCK = re.compile(r"^ *```(console|json|sh|sql)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *kinds: str) -> list[str]:
    """Return the code of a page, by kind of block."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return ["\n".join(line.strip() for line in code.splitlines()) for kind, code in found if kind in kinds]


def normal(text: str) -> list[str]:
    """Drop what is another one each time: numbers, digests, times, sizes of columns."""
    text = re.sub(r"\b[0-9a-f]{16}\b", "#", text)
    text = re.sub(r"\d[\d.,:TZ+-]*", "#", text)
    text = re.sub(r"\b(bytes|KiB|MiB)\b", "SIZE", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def agrees(expected: list[str], printed: list[str]) -> bool:
    """Tell whether the lines are these; an ellipsis stands for any lines, also for none."""
    if not expected:
        return not printed
    if expected[0] == "…":
        return any(agrees(expected[1:], printed[skip:]) for skip in range(len(printed) + 1))
    return bool(printed) and expected[0] == printed[0] and agrees(expected[1:], printed[1:])


def test_the_comparison_notices() -> None:
    """What is missing, too much or another line is no agreement."""
    assert agrees(["a", "…", "c"], ["a", "b", "b", "c"])
    for printed in (["a", "b"], ["a", "c", "d"], ["b", "c"]):
        assert not agrees(["a", "…", "c"], printed)


@dataclass
class Reader:
    """Somebody who types what a page shows, in a folder of their own."""

    folder: Path
    urls: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)

    def real(self, command: str) -> str:
        """Put the test's databases, and the names of the backups that were made, in place of the page's."""
        for shown, url in self.urls.items():
            command = command.replace(shown, shlex.quote(url))
        made = sorted((self.folder / "backups").glob("*.json"))
        return re.sub(r"codelab-\d{8}T\d{6}Z", made[-1].name.rpartition("-")[0], command) if made else command

    def shown(self, printed: str) -> str:
        """Take the test's databases and folders back out of what was printed."""
        for shown, url in self.urls.items():
            printed = printed.replace(url, shown)
        return printed.replace(f"{self.folder.resolve()}/", "").replace(f"{self.folder}/", "")

    def type(self, command: str) -> str:
        """Run one command and return what it printed."""
        words = shlex.split(command)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environ[name] = self.urls.get(value, value)
            return ""
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", self.real(command)],
            cwd=self.folder,
            env=clean_environ(self.folder, NO_COLOR="1", **self.environ) | {"PATH": programs},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return self.shown(done.stdout + done.stderr)


async def _talk(server: ServerProcess) -> None:
    async with server.login() as http:
        for _ in range(3):
            made = (await http.post("/api/v1/sessions", json={"agent": "ask"})).json()
            await http.post(f"/api/v1/sessions/{made['id']}/messages", json={"content": "hello"})
            async with asyncio.timeout(60):
                while (await http.get(f"/api/v1/sessions/{made['id']}")).json()["active_turn"]:
                    await asyncio.sleep(0.05)


@pytest.fixture
def page(request: pytest.FixtureRequest) -> Path:
    """One of the pages."""
    return DOCS / str(request.param)


@pytest.fixture
def reader(tmp_path: Path, postgresql: PostgresServer) -> Iterator[Reader]:
    """A reader with two empty PostgreSQL databases."""
    names = ("auth_db", "agent_runtime")
    urls = {f"postgresql://codelab:secret@db.example.com/{name}": postgresql.create() for name in names}
    yield Reader(tmp_path, urls)
    for url in urls.values():
        postgresql.drop(url)


@pytest.mark.timeout(300)  # some fifty processes; on a busy machine they take their time
@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_commands_print_what_the_page_shows(page: Path, reader: Reader) -> None:
    """Each command of a page is run in order, beside a server with data, and its output is the page's."""
    shown = [block for block in blocks(page, "console") if "docker" not in block]
    assert sum(block.count("$ ") for block in shown) >= 5
    old = reader.folder / "old"
    old.mkdir()
    for sample, name in (("sample_agent_runtime.db", "agent_runtime.db"), ("sample_auth.db", "auth.db")):
        shutil.copy(ROOT / "tests" / "reference_import" / "samples" / sample, old / name)
    with server_process(reader.folder) as server:
        asyncio.run(_talk(server))
        for block in shown:
            if "db restore" in block:
                server.stop()
            for command, _, output in (part.partition("\n") for part in block.removeprefix("$ ").split("\n$ ")):
                printed = normal(reader.type(command))
                assert agrees(normal(output), printed), (command, printed)


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_the_russian_page_has_the_same_code(page: Path) -> None:
    """So its commands are run with those of the page that it translates."""
    translated = DOCS / "ru" / page.name

    assert blocks(translated, "console", "sh", "sql") == blocks(page, "console", "sh", "sql")
    assert page.read_text(encoding="utf-8").count("\n## ") == translated.read_text(encoding="utf-8").count("\n## ")


@pytest.mark.parametrize("page", PAGES, indirect=True)
async def test_the_statements_of_the_administrator(page: Path, postgresql: PostgresServer) -> None:
    """The role and the databases that a page has made can be made, and hold what codelab needs."""
    (statements,) = blocks(page, "sql")
    names = {"codelab": "codelab_of_the_page", "agent_runtime": "agent_of_the_page", "auth_db": "auth_of_the_page"}
    for name, other in names.items():
        statements = statements.replace(name, other)
    connection = await asyncpg.connect(postgresql.url)
    try:
        for statement in statements.split(";\n"):
            await connection.execute(statement)
        for database in ("agent_of_the_page", "auth_of_the_page"):
            query = "SELECT has_database_privilege($1, $2, 'CREATE')"
            assert await connection.fetchval(query, "codelab_of_the_page", database)
    finally:
        for database in ("agent_of_the_page", "auth_of_the_page"):
            await connection.execute(f"DROP DATABASE IF EXISTS {database}")
        await connection.execute("DROP ROLE IF EXISTS codelab_of_the_page")
        await connection.close()


@pytest.mark.parametrize("page", PAGES, indirect=True)
def test_what_needs_docker_names_what_is_there(page: Path) -> None:
    """Where no Docker engine is, its commands at least name services of ``compose.yaml`` and files that exist."""
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    lines = [line.removeprefix("$ ") for block in blocks(page, "console", "sh") for line in block.splitlines()]
    for line in lines:
        if not line.startswith("docker compose"):
            continue
        words = shlex.split(line.split("|", maxsplit=1)[0])[2:]
        if words[0] in {"exec", "logs"}:
            assert next(word for word in words[1:] if not word.startswith("-")) in compose["services"], line
        else:
            assert words[0] in {"up", "down"}, line
