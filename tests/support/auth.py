"""A running module ``auth`` inside the test's own event loop, and a client that talks to it."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from argon2 import PasswordHasher
from litestar import Litestar, Request, get
from litestar.openapi import OpenAPIConfig
from sqlalchemy import text

from codelab.auth.module import AuthModule
from codelab.auth.repository.clients import insert_client_if_absent
from codelab.auth.scopes import SCOPES
from codelab.auth.tokens import hash_token
from codelab.db import new_id, now
from codelab.identity import Principal  # noqa: TC001 - Litestar reads the annotations of handlers
from codelab.problems import EXCEPTION_HANDLERS
from codelab.telemetry import Metrics, Observer
from codelab.web import RequireScopes
from tests.support.apps import talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

    from codelab.settings import AuthSettings

__all__ = ("CHEAP", "CLIENT", "FORM", "ISSUER", "PASSWORD", "RunningAuth", "running_auth")

ISSUER = "http://127.0.0.1:8000"
CLIENT = "codelab-flutter-app"
PASSWORD = "correct horse battery staple"
#: Hundreds of tests log in; those about passwords take the real cost.
CHEAP = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
FORM = "application/x-www-form-urlencoded"


@get(["/me", "/api/v1/me"], middleware=[RequireScopes()], sync_to_thread=False)
def _me(request: Request[Principal, Any, Any]) -> Principal:
    return request.user


@get("/public", sync_to_thread=False)
def _public(request: Request[Any, Any, Any]) -> bool:
    return request.scope["user"] is None


@dataclass
class RunningAuth:
    """A started module, an HTTP client for it, and its database."""

    module: AuthModule
    http: httpx2.AsyncClient
    settings: AuthSettings
    app: Litestar

    async def token(self, **fields: str) -> httpx2.Response:
        """Ask for tokens; the client is the seeded one unless another is named."""
        return await self.http.post("/oauth/token", data={"client_id": CLIENT, **fields})

    async def login(self, username: str = "admin", password: str = PASSWORD, **fields: str) -> httpx2.Response:
        """Ask with the password grant."""
        return await self.token(grant_type="password", username=username, password=password, **fields)

    async def refresh(self, refresh_token: str, **fields: str) -> httpx2.Response:
        """Ask with the refresh grant."""
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token, **fields)

    async def client(self, client_id: str, *grants: str, secret: str | None = None, **values: Any) -> None:
        """Add a client with these grants; with a secret it is a confidential one."""
        at = now()
        row: dict[str, Any] = {
            "id": new_id(),
            "client_id": client_id,
            "client_secret_hash": hash_token(secret) if secret else None,
            "name": f"The {client_id}",
            "is_confidential": secret is not None,
            "allowed_scopes": " ".join(SCOPES),
            "default_scopes": "api:read api:write",
            "allowed_grant_types": list(grants),
            "redirect_uris": [],
            "access_token_lifetime": 600,
            "refresh_token_lifetime": 6000,
            "is_active": True,
            "is_registered": False,
            "created_at": at,
            "updated_at": at,
        }
        await self.module.database.write(lambda tx: insert_client_if_absent(tx.session, **(row | values)))

    async def post(self, path: str, *basic: str, **fields: str) -> httpx2.Response:
        """Send a form, with HTTP Basic when an id and a secret are named."""
        headers = {}
        if basic:
            pair = ":".join(quote_plus(half) for half in basic)
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return await self.http.post(path, data=fields, headers=headers)

    async def me(self, token: str) -> httpx2.Response:
        """Ask who a bearer token belongs to."""
        return await self.http.get("/me", headers={"Authorization": f"Bearer {token}"})

    async def execute(self, statement: str, **parameters: Any) -> None:
        """Change the database behind the module's back."""
        async with self.module.database.engine.begin() as connection:
            await connection.execute(text(statement), parameters)
        self.module._known.note()  # as if the second had passed for which clients are remembered

    async def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """Read the database."""
        async with self.module.database.read() as session:
            return [dict(row) for row in (await session.execute(text(query), parameters)).mappings()]


@asynccontextmanager
async def running_auth(
    settings: AuthSettings, local_secret: str | None = None, hasher: PasswordHasher = CHEAP, issuer: str = ISSUER
) -> AsyncIterator[RunningAuth]:
    """Start an application that has nothing but module ``auth``, one route that needs a token and one that does not."""
    module = AuthModule(settings, issuer=issuer, local_secret=local_secret)
    module._passwords._hasher = hasher
    app = Litestar(
        [_me, _public],
        plugins=[module],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=OpenAPIConfig(title="auth", version="0"),
        logging_config=None,
    )
    app.asgi_handler = Observer(module.surround(app.asgi_handler), Metrics())
    async with talking(app) as http:
        yield RunningAuth(module, http, settings, app)
