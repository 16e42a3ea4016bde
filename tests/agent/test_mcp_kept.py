"""What is kept of MCP servers: headers that only the right key opens, and nothing when its session is gone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.cleaning import remove_deleted
from codelab.db import now
from codelab.db.upkeep import Batches
from tests.agent.mcp import allow, completed
from tests.agent.providers.upstream import text_answer
from tests.agent.test_mcp import SECRET, add
from tests.agent.transcripts import END, call, calls_answer, last
from tests.agent.witness import Witness
from tests.support.mcp import McpServer, run_mcp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person


@pytest.fixture
async def remote() -> AsyncIterator[McpServer]:
    """An MCP server that is given a header."""
    async with run_mcp_server() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[McpServer]:
    """An MCP server that is given none."""
    async with run_mcp_server() as server:
        yield server


@pytest.fixture
async def witness(migrated: DatabaseUrls) -> AsyncIterator[Witness]:
    """A second program at the database."""
    async with Witness.at(migrated) as witness:
        yield witness


@pytest.fixture
def settings(remote: McpServer, other: McpServer, with_model: dict[str, Any]) -> dict[str, Any]:
    """A server that may use both."""
    return {**with_model, "mcp_allowed_hosts": (remote.place, other.place)}


async def give_both(ada: Person, remote: McpServer, other: McpServer) -> str:
    """Make a session that has both servers and lets agents call them."""
    session = await ada.session(agent="coder")
    sealed = await add(ada, session, remote, "sealed", headers={"Authorization": SECRET})
    assert (sealed.status_code, (await add(ada, session, other, "plain")).status_code) == (201, 201)
    await allow(ada, session)
    return session


async def servers(ada: Person, session: str) -> dict[str, dict[str, Any]]:
    """List the servers of a session by name."""
    found = (await ada.http.get(f"/api/v1/sessions/{session}/mcp-servers")).json()["mcp_servers"]
    return {server["name"]: server for server in found}


async def call_both(ada: Person, session: str, model: Upstream) -> dict[str, dict[str, Any]]:
    """Let the model call a tool of each; return how the calls ended."""
    calls = [
        call(f"mcp__{name}__add", {"a": 1, "b": 2}, id=f"{name}{len(model.bodies)}") for name in ("sealed", "plain")
    ]
    model.play(calls_answer(*calls))
    model.play(text_answer("Well."))
    accepted = await ada.say(session, "add")
    events = await ada.until(session, *END, turn=accepted["turn_id"])
    assert last(events, "turn.completed")
    return {made["id"].rstrip("0123456789"): completed(events)[made["id"]] for made in calls}


async def test_with_another_key_file_headers_are_not_read(
    serve: Serve,
    settings: dict[str, Any],
    remote: McpServer,
    other: McpServer,
    model: Upstream,
    tmp_path: Path,
) -> None:
    """Its ``error`` says so, and nobody asks that server without them; the others work, and it can be added anew."""
    async with serve(**settings) as running:
        ada = await running.person()
        session = await give_both(ada, remote, other)
        assert {end["result"] for end in (await call_both(ada, session, model)).values()} == {"3"}
    asked = len(remote.asked)
    (tmp_path / "auth.key").rename(tmp_path / "auth.key.old")
    async with serve(**settings) as running:
        ada = await running.person()
        ends = await call_both(ada, session, model)
        told = await servers(ada, session)
        gone = await ada.http.delete(f"/api/v1/sessions/{session}/mcp-servers/{told['sealed']['id']}")
        again = await add(ada, session, remote, "sealed", headers={"Authorization": SECRET})
        mended = await call_both(ada, session, model)
        after = await servers(ada, session)

    assert remote.tokens == {SECRET}
    assert "cannot be decrypted with the key file" in told["sealed"]["error"]
    assert told["plain"]["error"] is None
    assert ends["plain"]["result"] == "3"
    assert ends["sealed"]["status"] == "failed"
    assert "Authorization" not in str(told)
    assert SECRET not in str(told)
    assert (gone.status_code, again.status_code) == (204, 201)
    assert {end["result"] for end in mended.values()} == {"3"}
    assert after["sealed"]["error"] is None
    assert len(remote.asked) > asked


async def test_the_old_key_file_opens_them_again(
    serve: Serve,
    settings: dict[str, Any],
    remote: McpServer,
    other: McpServer,
    model: Upstream,
    tmp_path: Path,
) -> None:
    """Nothing is lost while another key file is there: with the right one back the server is asked as before."""
    async with serve(**settings) as running:
        ada = await running.person()
        session = await give_both(ada, remote, other)
    key = tmp_path / "auth.key"
    right = key.read_bytes()
    key.unlink()
    async with serve(**settings) as running:
        ada = await running.person()
        ends = await call_both(ada, session, model)
        assert (await servers(ada, session))["sealed"]["error"]
    key.write_bytes(right)
    async with serve(**settings) as running:
        ada = await running.person()
        mended = await call_both(ada, session, model)
        told = await servers(ada, session)

    assert (ends["sealed"]["status"], mended["sealed"]["result"]) == ("failed", "3")
    assert told["sealed"]["error"] is None
    assert remote.tokens == {SECRET}


async def test_headers_are_for_one_server_and_one_url(
    serve: Serve, settings: dict[str, Any], remote: McpServer, other: McpServer, model: Upstream, witness: Witness
) -> None:
    """Who can change rows of the database sends no secret elsewhere, and learns none from them."""
    async with serve(**settings) as running:
        session = await give_both(await running.person(), remote, other)
    ((sealed,),) = await witness.rows("SELECT headers FROM mcp_servers WHERE name = 'sealed'")
    await witness.change("UPDATE mcp_servers SET url = $1 WHERE name = 'sealed'", other.url)
    async with serve(**settings) as running:
        ada = await running.person()
        moved, url_changed = await call_both(ada, session, model), await servers(ada, session)
    await witness.change("UPDATE mcp_servers SET url = $1 WHERE name = 'sealed'", remote.url)
    await witness.change("UPDATE mcp_servers SET headers = $1 WHERE name = 'plain'", sealed)
    async with serve(**settings) as running:
        ada = await running.person()
        copied, headers_copied = await call_both(ada, session, model), await servers(ada, session)

    assert (moved["sealed"]["status"], moved["plain"]["result"]) == ("failed", "3")
    assert (copied["sealed"]["result"], copied["plain"]["status"]) == ("3", "failed")
    assert "cannot be decrypted" in url_changed["sealed"]["error"]
    assert "cannot be decrypted" in headers_copied["plain"]["error"]
    assert (remote.tokens, other.tokens) == ({SECRET}, {None})
    assert SECRET.removeprefix("Bearer ") not in sealed


async def test_nothing_is_left_of_a_deleted_session(
    serve: Serve, settings: dict[str, Any], remote: McpServer, other: McpServer, witness: Witness
) -> None:
    """Its servers go with it, and those of another session stay; deleted, it is listed and asked no more."""
    async with serve(**settings) as running:
        ada = await running.person()
        session, kept = [await give_both(ada, remote, other) for _ in range(2)]
        await ada.http.delete(f"/api/v1/sessions/{session}")
        listed = await ada.http.get(f"/api/v1/sessions/{session}/mcp-servers")
        added = await add(ada, session, other, "late")
        database = running.app.state.agent.database
        assert await remove_deleted(database, Batches(database), now() - timedelta(days=30)) == 0
        assert len(await witness.rows("SELECT id FROM mcp_servers")) == 4
        assert await remove_deleted(database, Batches(database), now() + timedelta(seconds=1)) >= 3
        left = {row[0] for row in await witness.rows("SELECT id FROM mcp_servers")}
        still = await servers(ada, kept)

    assert (listed.status_code, added.status_code) == (404, 404)
    assert left == {server["id"] for server in still.values()}
    assert len(left) == 2
