from __future__ import annotations

import asyncio
import base64
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from litestar import Litestar, WebSocket, websocket

from codelab.auth import principals, recent
from codelab.auth.module import AuthModule
from codelab.auth.tokens import mark_of
from codelab.identity import SCOPES, Principal
from codelab.problems import EXCEPTION_HANDLERS
from tests.support.auth import ISSUER, RunningAuth, running_auth

if TYPE_CHECKING:
    from codelab.settings import AuthSettings

RESOURCE = f"{ISSUER}/.well-known/oauth-protected-resource/api/v1"
LOCAL = "codelab_local_c2VjcmV0"


async def access_token(auth: RunningAuth, **fields: str) -> str:
    """Log in for an access token."""
    return str((await auth.login(**fields)).json()["access_token"])


async def test_who_is_calling(auth: RunningAuth) -> None:
    """A route sees the person, the client and the scopes of the token; the scheme is read without regard to case."""
    token = await access_token(auth, scope="api:read")
    answer = await auth.http.get("/me", headers={"Authorization": f"bEARER  {token} "})
    (user,) = await auth.rows("SELECT id FROM users")
    claims = msgspec.json.decode(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert answer.json() == {
        "subject": user["id"],
        "username": "admin",
        "client_id": "codelab-flutter-app",
        "scopes": ["api:read"],
        "expires_at": claims["exp"],
        "proof_ids": [claims["jti"], claims["sid"], mark_of(auth.module._keys.signing[0])],
    }
    assert (await auth.module.authenticate(token)).scopes == {"api:read"}


async def test_nobody_is_calling(auth: RunningAuth) -> None:
    """Without a bearer token a public route answers, and a guarded one asks for it."""
    for headers in ({}, {"Authorization": "Basic YTpi"}):
        assert (await auth.http.get("/public", headers=headers)).json() is True
        refused = await auth.http.get("/me", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{RESOURCE}"'


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer \xff", "bearer x y"])
async def test_bad_token_is_refused_everywhere(auth: RunningAuth, value: str) -> None:
    """A token that is no token is 401 with a challenge, on a public route too."""
    for path in ("/me", "/public"):
        refused = await auth.http.get(path, headers=[(b"Authorization", value.encode("latin-1"))])
        assert refused.status_code == 401
        assert refused.json()["code"] == "invalid_token"
        assert refused.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    keys = await auth.http.get("/.well-known/jwks.json", headers=[(b"Authorization", value.encode("latin-1"))])
    assert keys.status_code == 200


async def test_two_headers_are_refused(auth: RunningAuth) -> None:
    """Which of two tokens counts is not guessed."""
    token = await access_token(auth)
    header = (b"Authorization", f"Bearer {token}".encode())
    assert (await auth.http.get("/me", headers=[header, header])).status_code == 401


async def test_disabled_user_is_refused(auth: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access token ends with its user: after one second at most, and works again when the user does."""
    clock = time.monotonic()
    # Only that module's clock: the event loop has the same one.
    monkeypatch.setattr(principals, "time", SimpleNamespace(monotonic=lambda: clock, time=time.time))
    token = await access_token(auth)
    assert (await auth.me(token)).status_code == 200
    await auth.execute("UPDATE users SET is_active = :active", active=False)
    clock += 1.0
    refused = await auth.me(token)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    await auth.execute("UPDATE users SET is_active = :active", active=True)
    clock += 1.0
    assert (await auth.me(token)).status_code == 200
    await auth.execute("DELETE FROM users")
    clock += 1.0
    assert (await auth.me(token)).status_code == 401


async def test_known_token_expires(auth: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was verified before is refused from its ``exp`` on."""
    body = (await auth.login()).json()
    assert (await auth.me(body["access_token"])).status_code == 200
    late = time.time() + body["expires_in"]
    monkeypatch.setattr(time, "time", lambda: late)
    refused = await auth.me(body["access_token"])
    assert refused.status_code == 401
    assert "expired" in refused.headers["WWW-Authenticate"]


async def test_caches_are_bounded(auth: RunningAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of tokens leaves the memory of the newest ones only, and all of them work."""
    monkeypatch.setattr(recent, "_MAX_ENTRIES", 3)
    tokens = [await access_token(auth) for _ in range(5)]
    for token in tokens + tokens:
        assert (await auth.me(token)).status_code == 200
    assert len(auth.module._principals._verified._values) == 3


async def test_local_secret(settings: AuthSettings) -> None:
    """On a person's own server the secret is the admin with every scope; nearly the secret is nobody."""
    async with running_auth(settings, local_secret=LOCAL) as auth:
        answer = (await auth.me(LOCAL)).json()
        assert (answer["username"], answer["client_id"]) == ("admin", "codelab-local")
        assert set(answer["scopes"]) == set(SCOPES)
        for wrong in (LOCAL[:-1], LOCAL + "x", "codelab_local_", LOCAL.upper()):
            assert (await auth.me(wrong)).status_code == 401
    async with running_auth(settings) as without:
        assert (await without.me(LOCAL)).status_code == 401


async def test_websockets_know_who_is_calling(settings: AuthSettings) -> None:
    """A socket has the principal of its handshake, and a bad token does not open one."""
    seen: list[Any] = []

    @websocket("/socket")
    async def socket(socket: WebSocket[Any, Any, Any]) -> None:
        seen.append(socket.scope["user"])
        await socket.accept()
        await socket.close()

    module = AuthModule(settings, issuer=ISSUER)
    app = Litestar([socket], plugins=[module], exception_handlers=EXCEPTION_HANDLERS, openapi_config=None)
    async with running_auth(settings) as auth:
        token = await access_token(auth)
    async with app.lifespan():
        assert await _handshake(app, token) == "websocket.accept"
        assert await _handshake(app, None) == "websocket.accept"
        assert await _handshake(app, "x") == "websocket.close"
    assert isinstance(seen[0], Principal)
    assert seen[1:] == [None]


async def _handshake(app: Litestar, token: str | None) -> str:
    """Open a socket as an ASGI server does, and return the type of the first message."""
    answers: asyncio.Queue[Any] = asyncio.Queue()
    scope: Any = {
        "type": "websocket",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"",
        "root_path": "",
        "scheme": "ws",
        "headers": [(b"authorization", f"Bearer {token}".encode())] if token else [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": [],
        "extensions": {},
        "state": {},
    }

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await app(scope, receive, answers.put)
    return str(answers.get_nowait()["type"])
