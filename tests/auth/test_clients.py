"""Clients are remembered for a second, and nothing that was changed is missed for longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from codelab.auth import clients
from codelab.auth.operators.common import Actor
from codelab.auth.schemas import Origin
from codelab.auth.tokens import hash_token
from tests.support.auth import CLIENT
from tests.support.operators import document, eventually

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth

OLD, NEW = "o" * 43, "n" * 43
ACTOR = Actor("tests", Origin())


@pytest.fixture
async def machine(served: RunningAuth) -> RunningAuth:
    """The module with a client ``machine`` that acts for itself."""
    await served.client("machine", "client_credentials", secret=OLD)
    return served


async def ask(auth: RunningAuth, secret: str = OLD) -> int:
    """Ask for a token."""
    return (await auth.post("/oauth/token", "machine", secret, grant_type="client_credentials")).status_code


async def change(auth: RunningAuth, statement: str, **parameters: Any) -> None:
    """Change the database as another process does."""
    async with auth.module.database.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


async def test_what_this_process_changed_counts_at_once(machine: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked once for many requests, and again after a new secret, an end, a return and a deletion."""
    monkeypatch.setattr(clients, "_MAX_AGE", 3600.0)
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "FROM oauth_clients" in statement:
            asked.append(statement)

    event.listen(machine.module.database.engine.sync_engine, "before_cursor_execute", note)
    assert [await ask(machine) for _ in range(5)] == [200] * 5
    assert len(asked) == 1

    administered = machine.module.operators.clients
    await administered.rotate_secret(ACTOR, "machine", NEW)
    assert [await ask(machine, secret) for secret in (OLD, NEW)] == [401, 200]
    await administered.disable(ACTOR, "machine")
    assert await ask(machine, NEW) == 400
    await administered.enable(ACTOR, "machine")
    assert await ask(machine, NEW) == 200
    await administered.delete(ACTOR, "machine")
    assert await ask(machine, NEW) == 401


async def test_what_another_process_changed_counts_within_a_second(machine: RunningAuth) -> None:
    """A new secret and a return are good at once; what ended is refused once the second is over."""
    assert await ask(machine) == 200
    await change(machine, "UPDATE oauth_clients SET client_secret_hash = :new", new=hash_token(NEW))
    assert await ask(machine, NEW) == 200
    assert await ask(machine) == 401
    await change(machine, "UPDATE oauth_clients SET is_active = :no", no=False)
    await eventually(400, lambda: ask(machine, NEW))
    await change(machine, "UPDATE oauth_clients SET is_active = :yes", yes=True)
    assert await ask(machine, NEW) == 200


async def test_nobody_logs_in_by_way_of_a_client_that_ended(
    served: RunningAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even within that second: what ended the logins of the client would not have seen this one."""
    monkeypatch.setattr(clients, "_MAX_AGE", 3600.0)
    assert (await served.login("ada")).status_code == 200
    await change(served, "UPDATE oauth_clients SET is_active = :no WHERE client_id = :id", no=False, id=CLIENT)
    refused = await served.login("ada")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert len(await served.rows("SELECT id FROM refresh_tokens")) == 1


async def test_tokens_end_with_their_client(machine: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where this process did it: at our API, for streams, at introspection; a refresh is refused.

    So do the tokens of a person, also where no revocation was written for them.
    """
    monkeypatch.setattr(clients, "_MAX_AGE", 3600.0)
    await machine.client("asking", secret="s")
    fields = {"grant_type": "client_credentials"}
    own = (await machine.post("/oauth/token", "machine", OLD, **fields)).json()["access_token"]
    login = (await machine.login("ada")).json()
    administered = machine.module.operators.clients

    async def introspect(token: str) -> bool:
        answer = await machine.post("/oauth/introspect", "asking", "s", token=token)
        return bool(answer.json()["active"])

    for client_id, token in (("machine", own), (CLIENT, login["access_token"])):
        assert ((await machine.me(token)).status_code, await introspect(token)) == (200, True)
        principal = await machine.module.authenticate(token)
        assert await machine.module.still_valid([principal]) == {principal}
        await administered.disable(ACTOR, client_id)
        await change(machine, "DELETE FROM revoked_tokens")
        assert ((await machine.me(token)).status_code, await introspect(token)) == (401, False)
        assert await machine.module.still_valid([principal]) == set()
    refused = await machine.refresh(login["refresh_token"])
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_tokens_end_with_a_client_that_a_command_disables(machine: RunningAuth) -> None:
    """What ``codelab client disable`` did beside the server ends the tokens of a program, and a person's, soon."""
    own = (await machine.post("/oauth/token", "machine", OLD, grant_type="client_credentials")).json()["access_token"]
    login = (await machine.login("ada")).json()

    async def status(token: str) -> int:
        return (await machine.me(token)).status_code

    for client_id, token in (("machine", own), (CLIENT, login["access_token"])):
        assert await status(token) == 200
        await document(machine.settings, "client", "disable", client_id)
        await eventually(401, lambda token=token: status(token))
    await eventually(400, lambda: ask(machine))
    assert (await machine.refresh(login["refresh_token"])).status_code == 400
