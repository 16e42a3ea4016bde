from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher

from codelab.auth.repository import tables
from codelab.db import Database, now
from tests.auth.test_requests import add_clients
from tests.support.auth import PASSWORD, RunningAuth, running_auth
from tests.support.flows import events

if TYPE_CHECKING:
    from codelab.settings import AuthSettings


async def age(auth: RunningAuth, seconds: float) -> None:
    """Let everything that was revoked have been so for longer."""
    async with auth.module.database.engine.begin() as connection:
        table = tables.tokens
        before = now() - timedelta(seconds=seconds)
        await connection.execute(table.update().where(table.c.revoked_at.is_not(None)).values(revoked_at=before))


async def tokens(auth: RunningAuth, **fields: str) -> dict[str, Any]:
    """Log in and return the answer's body."""
    answer = await auth.login(**fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_login_and_refresh(auth: RunningAuth) -> None:
    """A login gives tokens that work, a refresh gives new ones, and both answers have the shape of RFC 6749."""
    first = await tokens(auth)
    assert set(first) == {"access_token", "refresh_token", "token_type", "expires_in", "scope"}
    assert first["token_type"] == "bearer"
    assert first["expires_in"] == 900
    assert first["scope"] == "api:read api:write approvals:decide"
    second = (await auth.refresh(first["refresh_token"])).json()
    assert set(second) == set(first)
    assert second["refresh_token"] != first["refresh_token"]
    for token in (first["access_token"], second["access_token"]):
        assert (await auth.me(token)).json()["username"] == "admin"
    assert await events(auth) == ["login_success", "token_refresh"]


async def test_login_by_email_and_its_note(auth: RunningAuth) -> None:
    """The address works as the name does, and the login is noted on the user."""
    assert (await auth.rows("SELECT last_login_at FROM users"))[0]["last_login_at"] is None
    await tokens(auth, username="admin@codelab.local")
    assert (await auth.rows("SELECT last_login_at FROM users"))[0]["last_login_at"] is not None


async def test_username_wins_over_another_users_address(auth: RunningAuth) -> None:
    """Somebody who takes another's address as a username logs in as themselves."""
    await auth.execute(
        "INSERT INTO users (id, username, email, password_hash, is_active, is_verified, created_at, updated_at)"
        " SELECT 'other', 'admin@codelab.local', 'other@example.org', password_hash, is_active, is_verified,"
        " created_at, updated_at FROM users WHERE username = 'admin'"
    )
    body = await tokens(auth, username="admin@codelab.local")
    assert (await auth.me(body["access_token"])).json()["subject"] == "other"


async def test_scope_can_be_narrowed_never_widened(auth: RunningAuth) -> None:
    """A login and a refresh may ask for less; a refresh for more is refused and uses nothing up."""
    body = await tokens(auth, scope="approvals:decide api:read api:read")
    assert body["scope"] == "api:read approvals:decide"
    refused = await auth.refresh(body["refresh_token"], scope="api:read api:write")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    narrowed = (await auth.refresh(body["refresh_token"], scope="api:read")).json()
    assert narrowed["scope"] == "api:read"
    assert (await auth.me(narrowed["access_token"])).json()["scopes"] == ["api:read"]
    # RFC 6749 section 6: the new refresh token keeps the whole scope.
    assert (await auth.refresh(narrowed["refresh_token"])).json()["scope"] == "api:read approvals:decide"


async def test_parallel_refreshes_within_the_grace(auth: RunningAuth) -> None:
    """50 parallel uses of one token all succeed, with tokens of one login that all work on."""
    shown = (await tokens(auth))["refresh_token"]
    answers = [answer.json() for answer in await asyncio.gather(*(auth.refresh(shown) for _ in range(50)))]
    assert len({answer["refresh_token"] for answer in answers}) == 50
    families = await auth.rows("SELECT DISTINCT family_id FROM refresh_tokens")
    assert len(families) == 1
    again = [await auth.refresh(answer["refresh_token"]) for answer in answers[:3]]
    assert [answer.status_code for answer in again] == [200] * 3
    assert await events(auth) == ["login_success"] + ["token_refresh"] * 53
    # One of them is shown again much later: all of the login ends.
    await age(auth, 11)
    assert (await auth.refresh(answers[0]["refresh_token"])).json()["error"] == "invalid_grant"
    for answer in (*answers[5:7], *(each.json() for each in again)):
        assert (await auth.refresh(answer["refresh_token"])).json()["error"] == "invalid_grant"


async def test_parallel_refreshes_without_a_grace_have_one_winner(settings: AuthSettings) -> None:
    """Of 50 parallel uses of one token exactly one succeeds; the others are replays, which end the login."""
    async with running_auth(replace(settings, refresh_grace=0.0)) as auth:
        shown = (await tokens(auth))["refresh_token"]
        answers = await asyncio.gather(*(auth.refresh(shown) for _ in range(50)))
        won = [answer.json() for answer in answers if answer.status_code == 200]
        lost = [(answer.status_code, answer.json()["error"]) for answer in answers if answer.status_code != 200]
        assert len(won) == 1
        assert lost == [(400, "invalid_grant")] * 49
        assert (await auth.refresh(won[0]["refresh_token"])).status_code == 400
        assert (await events(auth))[:3] == ["login_success", "token_refresh", "token_reuse"]


async def test_without_a_grace_no_clock_makes_one(settings: AuthSettings) -> None:
    """A token that was used up a moment later than the replay came in, as by a request beside it, is a replay too."""
    async with running_auth(replace(settings, refresh_grace=0.0)) as auth:
        first = await tokens(auth)
        await auth.refresh(first["refresh_token"])
        await age(auth, -60)
        assert (await auth.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await events(auth))[-1] == "token_reuse"


@pytest.mark.parametrize("grace", [0.0, 10.0])
async def test_parallel_refreshes_at_two_processes(
    settings: AuthSettings, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    """The rotation is decided by the database, not by this process: two servers on it still give one success."""

    async def serve_beside(_database: Database, _wait: float) -> None:
        """Let the second one serve, as it may when the lock of the first was lost with its connection."""

    monkeypatch.setattr(Database, "_serve_alone", serve_beside)
    settings = replace(settings, refresh_grace=grace)
    async with running_auth(settings) as first, running_auth(settings) as second:
        shown = (await tokens(first))["refresh_token"]
        both = (first, second)
        answers = await asyncio.gather(*(both[number % 2].refresh(shown) for number in range(50)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == ([200] * 50 if grace else [200] + [400] * 49)


async def test_parallel_logins_all_succeed(auth: RunningAuth, *, soak: bool) -> None:
    """Many logins at once, at the real cost, wait for one another and none fails, also while the hash is renewed."""
    many = 40 if soak else 16  # four for each thread that hashes
    auth.module._passwords._hasher = PasswordHasher()  # other parameters than those of the stored hash
    answers = await asyncio.gather(*(auth.login() for _ in range(many)))
    assert [answer.status_code for answer in answers] == [200] * many
    assert len({answer.json()["refresh_token"] for answer in answers}) == many
    assert await events(auth) == ["login_success"] * many


async def test_late_replay_ends_the_family(auth: RunningAuth) -> None:
    """A used token that comes back after the grace revokes what grew from it, is audited, and harms no other login."""
    first = await tokens(auth)
    other = await tokens(auth)
    second = (await auth.refresh(first["refresh_token"])).json()
    await age(auth, 11)
    replay = await auth.refresh(first["refresh_token"])
    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert (await auth.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await auth.refresh(other["refresh_token"])).status_code == 200
    (row,) = await auth.rows("SELECT * FROM audit_logs WHERE event_type = 'token_reuse'")
    assert not row["success"]
    assert row["error_message"]
    assert row["user_id"] is not None


async def test_token_that_was_never_used_is_no_replay(auth: RunningAuth) -> None:
    """The owner's own newest token, revoked with its family, is refused without a second alarm."""
    first = await tokens(auth)
    second = (await auth.refresh(first["refresh_token"])).json()
    await age(auth, 60)
    await auth.refresh(first["refresh_token"])
    await age(auth, 60)
    await auth.refresh(second["refresh_token"])
    assert (await events(auth)).count("token_reuse") == 1


async def test_early_replay_is_answered(auth: RunningAuth) -> None:
    """A retry within the grace gets tokens of the same login, keeps its scope, and raises no alarm."""
    first = await tokens(auth, scope="api:read api:write")
    second = (await auth.refresh(first["refresh_token"])).json()
    await age(auth, 5)
    third = await auth.refresh(first["refresh_token"])
    assert third.json()["scope"] == "api:read api:write"
    for body in (second, third.json()):
        assert (await auth.refresh(body["refresh_token"])).status_code == 200
    assert "token_reuse" not in await events(auth)


async def test_no_sibling_of_the_dead(auth: RunningAuth) -> None:
    """Within the grace nothing is given out for a login that has ended, or a user who was disabled."""
    first = await tokens(auth)
    await auth.refresh(first["refresh_token"])
    await auth.execute("UPDATE users SET is_active = :no", no=False)
    assert (await auth.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    await auth.execute("UPDATE users SET is_active = :yes", yes=True)
    assert (await auth.refresh(first["refresh_token"])).status_code == 200
    await auth.execute("UPDATE refresh_tokens SET revoked = :yes, revoked_at = created_at WHERE NOT revoked", yes=True)
    assert (await auth.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    assert "token_reuse" not in await events(auth)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET is_active = :no",
        "UPDATE oauth_clients SET is_active = :no",
        "UPDATE refresh_tokens SET expires_at = created_at",
        "UPDATE refresh_tokens SET revoked = NOT :no",
        "DELETE FROM refresh_tokens WHERE revoked = :no",
    ],
)
async def test_refresh_is_refused(auth: RunningAuth, change: str) -> None:
    """Disabled user, disabled client, expired, revoked or forgotten token: 400 invalid_grant."""
    shown = (await tokens(auth))["refresh_token"]
    await auth.execute(change, no=False)
    refused = await auth.refresh(shown)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_token_of_another_client(auth: RunningAuth) -> None:
    """Another client cannot use a refresh token, nor use it up."""
    await add_clients(auth)
    shown = (await tokens(auth))["refresh_token"]
    stolen = await auth.refresh(shown, client_id="refresh-only")
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert (await auth.refresh(shown)).status_code == 200


async def test_tokens_are_stored_as_hashes(auth: RunningAuth) -> None:
    """The database holds neither a password nor a refresh token."""
    body = await tokens(auth)
    await auth.refresh(body["refresh_token"])
    stored = ""
    for table in ("users", "refresh_tokens", "audit_logs", "signing_keys"):
        stored += str(await auth.rows(f"SELECT * FROM {table}"))  # noqa: S608 - names of the line above
    assert body["refresh_token"] not in stored
    assert body["access_token"] not in stored
    assert PASSWORD not in stored


async def test_audit_knows_who_and_from_where(auth: RunningAuth) -> None:
    """A failed login is kept with address, agent and request id; what the caller chose is cut, and no password."""
    await auth.http.post(
        "/oauth/token",
        data={"grant_type": "password", "client_id": "codelab-flutter-app", "username": "x" * 900, "password": "hush"},
        headers={"User-Agent": "tester/1 " + "y" * 900, "X-Request-ID": "01a20601-3a5d-774f-a629-4cb4f7f7d7bf"},
    )
    await auth.login(password="also hush")
    unknown, wrong = await auth.rows("SELECT * FROM audit_logs ORDER BY id")
    assert unknown["event_type"] == wrong["event_type"] == "login_failed"
    assert unknown["user_id"] is None
    assert wrong["user_id"] is not None
    assert unknown["ip_address"] == "127.0.0.1"
    assert unknown["user_agent"].startswith("tester/1 yyy")
    assert len(unknown["user_agent"]) == 512
    assert '"request_id":"01a20601-3a5d-774f-a629-4cb4f7f7d7bf"' in unknown["event_data"]
    assert "x" * 512 + '"' in unknown["event_data"]
    assert '"username":"admin"' in wrong["event_data"]
    assert "hush" not in f"{unknown}{wrong}"


async def test_password_changed_during_the_login(auth: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is disabled while the hash is computed gets no token."""
    verify = auth.module._passwords.verify

    async def verify_late(password: str, stored: str | None, **options: Any) -> Any:
        verdict = await verify(password, stored, **options)
        await auth.execute("UPDATE users SET is_active = :no", no=False)
        return verdict

    monkeypatch.setattr(auth.module._passwords, "verify", verify_late)
    refused = await auth.login()
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_grant")
    assert await auth.rows("SELECT id FROM refresh_tokens") == []
    assert await events(auth) == ["login_failed"]


async def test_hash_is_renewed_on_login(auth: RunningAuth) -> None:
    """A hash of weaker parameters is replaced at the next login, which works before and after."""
    weak = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    await auth.execute("UPDATE users SET password_hash = :weak", weak=weak)
    await tokens(auth)
    (row,) = await auth.rows("SELECT password_hash FROM users")
    assert row["password_hash"].startswith("$argon2id$")
    assert row["password_hash"] != weak
    await tokens(auth)
