"""MCP servers of sessions, moved and erased: nothing is lost, nothing is left, and their headers stay sealed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from codelab.agent.storage import SCHEMA
from tests.storage.commands import digests, document
from tests.storage.hostile import contents
from tests.storage.test_archive import unpack
from tests.support.databases import DatabaseUrls, run_in_thread
from tests.support.mcp import run_mcp_server
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import Person

SECRET = "Bearer zK4-for-that-server-only"
BARE = SECRET.removeprefix("Bearer ")


@dataclass
class Installation:
    """A server that may use one MCP server, which is always at the same place."""

    folder: Path
    port: int = 0
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def fill(self, databases: DatabaseUrls, *names: str) -> None:
        """Give a session of each person two servers, one with a header."""
        async with run_mcp_server(self.port) as remote:
            self.port = int(remote.place.rpartition(":")[2])
            settings = make_settings(databases, self.folder, mcp_allowed_hosts=(remote.place,))
            async with serving(settings) as server:
                for name in names:
                    person = await server.person(name)
                    session = await person.session(session_id=f"of-{name}", agent="coder")
                    for server_name, headers in (("sealed", {"Authorization": SECRET}), ("plain", None)):
                        body = {"name": server_name, "url": f"{remote.url}?of={name}", "headers": headers}
                        answer = await person.http.post(f"/api/v1/sessions/{session}/mcp-servers", json=body)
                        assert answer.status_code == 201, answer.text
                    self.listed[name] = await servers(person, session)

    async def look(self, databases: DatabaseUrls, name: str) -> None:
        """Serve these databases: the person's servers are those of before, and are asked with their headers."""
        async with run_mcp_server(self.port) as remote:
            settings = make_settings(databases, self.folder, mcp_allowed_hosts=(remote.place,))
            async with serving(settings) as server:
                person = await server.person(name)
                assert await servers(person, f"of-{name}") == self.listed[name]
                async with server.app.state.agent.database.read() as db:
                    query = text("SELECT db_id FROM sessions WHERE id = :id")
                    key = (await db.execute(query, {"id": f"of-{name}"})).scalar_one()
                await server.app.state.agent.mcp.catalogue.refresh(key)
                async with asyncio.timeout(30):
                    while remote.tokens != {SECRET, None}:
                        await asyncio.sleep(0.01)
                assert [one["error"] for one in await servers(person, f"of-{name}")] == [None, None]


async def servers(person: Person, session: str) -> list[dict[str, Any]]:
    """List the servers of a session."""
    answer = await person.http.get(f"/api/v1/sessions/{session}/mcp-servers")
    found: list[dict[str, Any]] = answer.json()["mcp_servers"]
    return found


def rows_of(databases: DatabaseUrls) -> list[str]:
    """Read the rows of all MCP servers."""
    return contents(databases.agent, SCHEMA.metadata)["mcp_servers"]


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """A folder with the key file of the commands and of the servers."""
    monkeypatch.setenv("AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE", str(tmp_path / "auth.key"))
    return Installation(tmp_path)


def test_servers_move_with_their_sessions(
    installation: Installation, migrated: DatabaseUrls, make: Callable[[str], str], dialect: str, tmp_path: Path
) -> None:
    """By archive and by copy, to the other kind of database; with the key file they are asked as before."""
    other = "postgresql" if dialect == "sqlite" else "sqlite"
    imported, copied = (DatabaseUrls(make(other), make(other)) for _ in range(2))
    run_in_thread(lambda: installation.fill(migrated, "ada"))
    rows = rows_of(migrated)
    archive = tmp_path / "all.tar.zst"
    document("export", str(archive), databases=migrated)
    document("import", str(archive), databases=imported)
    for name in ("agent", "auth"):
        document("copy", "--from", getattr(migrated, name), "--to", getattr(copied, name))
    archived = b"".join(content for _, content in unpack(archive))

    assert len(rows) == 2
    assert rows_of(imported) == rows_of(copied) == rows
    assert b"?of=ada" in archived
    assert BARE.encode() not in archived
    assert BARE not in str(rows)
    for target in (imported, copied):
        run_in_thread(lambda target=target: installation.look(target, "ada"))


def test_servers_go_with_their_person(
    installation: Installation, migrated: DatabaseUrls, dialect: str, tmp_path: Path
) -> None:
    """Erased, nothing of Ada's servers is left, in no byte of SQLite's files; Bob's are asked as before."""
    run_in_thread(lambda: installation.fill(migrated, "ada", "bob"))
    part = tmp_path / "ada.tar.zst"
    exported = document("export", str(part), "--user", "ada", databases=migrated)
    before = rows_of(migrated)
    answer = document("erase", "--user", "ada", "--yes", databases=migrated)
    after = rows_of(migrated)

    assert digests(exported)["agent"]["mcp_servers"][0] == 2
    assert b"?of=bob" not in b"".join(content for _, content in unpack(part))
    assert answer["modules"]["agent"]["rows"]["mcp_servers"] == 2
    assert (len(before), len(after)) == (4, 2)
    assert set(after) < set(before)
    assert all("?of=bob" in row for row in after)
    whole = str(contents(migrated.agent, SCHEMA.metadata))
    assert not any(server["id"] in whole or server["url"] in whole for server in installation.listed["ada"])
    if dialect == "sqlite":
        path = Path(migrated.agent.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}*"):
            assert b"?of=ada" not in file.read_bytes()
    run_in_thread(lambda: installation.look(migrated, "bob"))
