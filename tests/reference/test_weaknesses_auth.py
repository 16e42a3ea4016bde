"""The reference's weaknesses in logging in, and that none of them is ours; the others are in ``test_weaknesses.py``."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from codelab.errors import StartError
from codelab.settings import Settings
from tests.support.auth import CHEAP, PASSWORD, running_auth

if TYPE_CHECKING:
    from codelab.settings import AuthSettings
    from tests.support.auth import RunningAuth
    from tests.support.server import Running


async def test_w03_refresh_works(auth: RunningAuth) -> None:
    """A refresh token gives new tokens on both databases, again and again."""
    answer = await auth.login()
    for _ in range(3):
        answer = await auth.refresh(answer.json()["refresh_token"])
        assert answer.status_code == 200, answer.text

    assert (await auth.me(answer.json()["access_token"])).json()["username"] == "admin"


async def test_w04_rotation_is_atomic(settings: AuthSettings) -> None:
    """Of parallel refreshes of one token one wins, and the use of a used one ends the login; no two families live."""
    async with running_auth(replace(settings, refresh_grace=0)) as auth:
        token = (await auth.login()).json()["refresh_token"]
        answers = await asyncio.gather(*(auth.refresh(token) for _ in range(4)))
        live = await auth.rows("SELECT count(*) AS n FROM refresh_tokens WHERE revoked = :no", no=False)

    assert [answer.status_code for answer in answers].count(200) == 1
    assert live[0]["n"] <= 1


async def test_w15_no_limit_is_shared_and_no_header_believed(running: Running) -> None:
    """Two people at one address make 200 requests, whatever they say where they come from, and none is refused.

    Throttling of logins is tested with module auth.
    """
    people = [await running.person("ada"), await running.person("bob")]
    headers = [{"X-Forwarded-For": f"10.0.0.{number}"} for number in range(100)]
    answers = await asyncio.gather(
        *(person.http.get("/api/v1/agents", headers=header) for person in people for header in headers)
    )

    assert {answer.status_code for answer in answers} == {200}


async def test_w16_no_secret_is_logged_and_no_default_works(
    settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """At every level the log has no password, no token and no key; the reference's passwords and keys open nothing."""
    caplog.set_level(logging.DEBUG, "codelab")
    async with running_auth(settings) as auth:
        right = (await auth.login()).json()
        tries = [await auth.login(password=word) for word in ("admin", "admin123", "internal-secret-123")]
        secrets = [PASSWORD, "admin123", right["access_token"], right["refresh_token"]]
        for secret in ("internal-secret-123", "internal-secret-change-in-production"):
            answer = await auth.post("/oauth/token", "codelab-internal", secret, grant_type="client_credentials")
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    logged = "".join(str(vars(record)) for record in caplog.records if record.name.startswith("codelab"))

    assert {answer.status_code for answer in tries} <= {400, 401}
    assert logged
    assert not [secret for secret in secrets if secret in logged]
    with pytest.raises(StartError) as refused:
        Settings.from_environ({"AGENT_RUNTIME__INTERNAL_API_KEY": "change-me-internal-key"})
    assert "change-me" not in str(refused.value)


async def test_w17_clients_with_secrets_work_and_errors_are_told(auth: RunningAuth) -> None:
    """A confidential client is let in by its secret alone; an unknown client or scope is no failed login of anybody."""
    await auth.client("machine", "client_credentials", secret="a secret of its own")
    good = await auth.post("/oauth/token", "machine", "a secret of its own", grant_type="client_credentials")
    bad = await auth.post("/oauth/token", "machine", "another", grant_type="client_credentials")
    unknown = await auth.login(client_id="nobody")
    scope = await auth.login(scope="everything")
    failed = await auth.rows("SELECT count(*) AS n FROM audit_logs WHERE event_type = 'login_failed'")

    assert good.status_code == 200, good.text
    assert (bad.status_code, bad.json()["error"]) == (401, "invalid_client")
    assert (unknown.status_code, unknown.json()["error"]) == (401, "invalid_client")
    assert (scope.status_code, scope.json()["error"]) == (400, "invalid_scope")
    assert failed[0]["n"] == 0


async def test_w18_passwords_are_hashed_off_the_loop(settings: AuthSettings) -> None:
    """While logins are being hashed the server answers; who is unknown costs the same computation."""
    loop_thread, release = threading.get_ident(), threading.Event()
    threads: list[int] = []

    class Hasher:
        def __getattr__(self, name: str) -> Any:
            return getattr(CHEAP, name)

        def verify(self, stored: str, password: str) -> bool:
            threads.append(threading.get_ident())
            assert release.wait(60)
            return CHEAP.verify(stored, password)

    hasher: Any = Hasher()
    async with running_auth(settings, hasher=hasher) as auth:
        logins = [asyncio.create_task(auth.login(username=name)) for name in ("admin", "nobody")]
        try:
            async with asyncio.timeout(60):
                while len(threads) < 2:
                    await asyncio.sleep(0)  # the loop goes on while both hashers stand still
                assert (await auth.http.get("/public")).status_code == 200
                assert not any(login.done() for login in logins)
        finally:
            release.set()
        known, unknown = await asyncio.gather(*logins)

    assert (known.status_code, unknown.status_code) == (200, 401)
    assert len(threads) == 2
    assert loop_thread not in threads


async def test_w19_the_database_is_set_up_and_nothing_is_open(auth: RunningAuth, dialect: str) -> None:
    """Eight logins at once succeed on both databases; SQLite writes ahead; no documentation page, no open CORS."""
    answers = await asyncio.gather(*(auth.login() for _ in range(8)))
    cross = await auth.http.get("/me", headers={"Origin": "https://evil.example"})
    pages = [await auth.http.get(path) for path in ("/docs", "/redoc")]

    assert [answer.status_code for answer in answers] == [200] * 8
    assert "access-control-allow-credentials" not in cross.headers
    assert "access-control-allow-origin" not in cross.headers
    assert {page.status_code for page in pages} == {404}
    if dialect == "sqlite":
        assert await auth.rows("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
        assert (await auth.rows("PRAGMA busy_timeout"))[0]["timeout"] >= 1000
