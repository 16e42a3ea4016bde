"""What administrators do over REST: people, clients, keys, and the audit trail, as on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from codelab.auth.errors import NO_STORE
from codelab.auth.idempotency import MAX_KEPT_ANSWER
from codelab.auth.operators.common import Actor
from codelab.auth.operators.wanted import WantedClient
from codelab.auth.routes.common import origin_of
from codelab.auth.schemas import (
    AuditPage,
    ClientPage,
    ClientView,
    KeyPage,
    KeyView,
    NewPassword,
    NewSecret,
    ResetLink,
    UserPage,
    UserView,
    WantedPassword,
    WantedSecret,
    WantedUser,
)
from codelab.identity import Principal
from codelab.repeating import Repeatable, read_once
from codelab.web import OneRouter, RequireScopes

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.operators import Operators
    from codelab.idempotency import Once

__all__ = ("create_routes",)

AdminRequest = Request[Principal, Any, Any]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
After = Annotated[str, QueryParameter(description="The last name or id of the page before.")]


def create_routes(operators: Operators, issuer: str) -> OneRouter:
    """Make the routes; all need ``api:admin``."""
    handlers = (*_users(operators, issuer), *_clients(operators), *_keys(operators), _audit(operators))
    return OneRouter(
        "/api/v1/admin",
        route_handlers=handlers,
        middleware=[RequireScopes()],
        opt={"scope": "api:admin"},
        tags=["administration"],
    )


def _actor(request: AdminRequest) -> Actor:
    return Actor(request.user.subject, origin_of(request))


async def _once(request: AdminRequest) -> Once | None:
    once = read_once(request, most=MAX_KEPT_ANSWER)
    if once is not None:
        # These routes read no body; whoever sends one with a key all the same has to send the same one again.
        once.body = (await request.body()).decode("latin-1")
    return once


def _users(operators: Operators, issuer: str) -> list[HTTPRouteHandler]:
    users = operators.users

    @get("/users", summary="List people")
    async def list_users(limit: Limit = 100, after: After = "") -> UserPage:
        """List people by name."""
        return UserPage(users=await users.list(limit, after))

    @post("/users", summary="Make a user")
    async def create_user(request: AdminRequest, data: JSONBody[WantedUser]) -> Response[NewPassword]:
        """Make a user; without a password one is made, and told only here."""
        made = await users.create(_actor(request), data.username, data.email, data.password, is_admin=data.is_admin)
        return Response(NewPassword(user=made.user, password=made.password), headers=NO_STORE)

    @get("/users/{username:str}", summary="Show a user")
    async def show_user(username: FromPath[str]) -> UserView:
        """Show a person."""
        return await users.show(username)

    @delete("/users/{username:str}", status_code=200, summary="Delete a user")
    async def delete_user(request: AdminRequest, username: FromPath[str]) -> UserView:
        """Delete an account with all its logins."""
        return await users.delete(_actor(request), username)

    @post("/users/{username:str}/disable", status_code=200, operation_class=Repeatable, summary="Disable a user")
    async def disable_user(request: AdminRequest, username: FromPath[str]) -> UserView:
        """Let a person log in no more, and log them out everywhere."""
        return await users.disable(_actor(request), username, await _once(request))

    @post("/users/{username:str}/enable", status_code=200, operation_class=Repeatable, summary="Enable a user")
    async def enable_user(request: AdminRequest, username: FromPath[str]) -> UserView:
        """Let a person log in again."""
        return await users.enable(_actor(request), username, await _once(request))

    @post("/users/{username:str}/reset-password", status_code=200, summary="Give a user another password")
    async def reset_password(
        request: AdminRequest, username: FromPath[str], data: JSONBody[WantedPassword]
    ) -> Response[NewPassword]:
        """Give a person another password, and log them out everywhere; without one it is made, and told only here."""
        made = await users.reset_password(_actor(request), username, data.password)
        return Response(NewPassword(user=made.user, password=made.password), headers=NO_STORE)

    @post("/users/{username:str}/reset-link", status_code=200, summary="Make a link to a new password")
    async def make_reset_link(request: AdminRequest, username: FromPath[str]) -> Response[ResetLink]:
        """Make a link with which a person chooses a password, good once and for a day; it is told only here."""
        url = await users.make_reset_link(_actor(request), username, issuer)
        return Response(ResetLink(url=url), headers=NO_STORE)

    @delete("/users/{username:str}/second-factor", status_code=200, summary="Remove a user's second factor")
    async def remove_factor(request: AdminRequest, username: FromPath[str]) -> UserView:
        """Let a person who lost their second factor sign in without one."""
        return await users.remove_factor(_actor(request), username)

    accounts = [list_users, create_user, show_user, delete_user, disable_user, enable_user]
    return [*accounts, reset_password, make_reset_link, remove_factor]


def _clients(operators: Operators) -> list[HTTPRouteHandler]:
    clients = operators.clients

    @get("/clients", summary="List clients")
    async def list_clients(limit: Limit = 100, after: After = "") -> ClientPage:
        """List clients by id."""
        return ClientPage(clients=await clients.list(limit, after))

    @post("/clients", summary="Make a client")
    async def create_client(request: AdminRequest, data: JSONBody[WantedClient]) -> Response[NewSecret]:
        """Make a client; the secret of a confidential one is told only here."""
        made = await clients.create(_actor(request), data)
        return Response(NewSecret(client=made.client, secret=made.secret), headers=NO_STORE)

    @get("/clients/{client_id:str}", summary="Show a client")
    async def show_client(client_id: FromPath[str]) -> ClientView:
        """Show a client; its secret is known to nobody here."""
        return await clients.show(client_id)

    @delete("/clients/{client_id:str}", status_code=200, summary="Delete a client")
    async def delete_client(request: AdminRequest, client_id: FromPath[str]) -> ClientView:
        """Delete a client with all logins by way of it."""
        return await clients.delete(_actor(request), client_id)

    @post("/clients/{client_id:str}/disable", status_code=200, operation_class=Repeatable, summary="Disable a client")
    async def disable_client(request: AdminRequest, client_id: FromPath[str]) -> ClientView:
        """Give a client no more tokens; those that it has end."""
        return await clients.disable(_actor(request), client_id, await _once(request))

    @post("/clients/{client_id:str}/enable", status_code=200, operation_class=Repeatable, summary="Enable a client")
    async def enable_client(request: AdminRequest, client_id: FromPath[str]) -> ClientView:
        """Give a client tokens again."""
        return await clients.enable(_actor(request), client_id, await _once(request))

    @post("/clients/{client_id:str}/rotate-secret", status_code=200, summary="Give a client another secret")
    async def rotate_secret(
        request: AdminRequest, client_id: FromPath[str], data: JSONBody[WantedSecret]
    ) -> Response[NewSecret]:
        """Give a confidential client another secret; without one it is made, and told only here."""
        made = await clients.rotate_secret(_actor(request), client_id, data.secret)
        return Response(NewSecret(client=made.client, secret=made.secret), headers=NO_STORE)

    return [list_clients, create_client, show_client, delete_client, disable_client, enable_client, rotate_secret]


def _keys(operators: Operators) -> list[HTTPRouteHandler]:
    keys = operators.keys

    @get("/keys", summary="List signing keys")
    async def list_keys() -> KeyPage:
        """List the keys that sign or verify access tokens, the newest first."""
        return KeyPage(keys=await keys.list())

    @post("/keys/rotate", operation_class=Repeatable, summary="Make a new signing key")
    async def rotate_keys(request: AdminRequest) -> KeyView:
        """Make a new key, which signs from now on; nobody is logged out."""
        return await keys.rotate(_actor(request), await _once(request))

    @post("/keys/{kid:str}/retire", status_code=200, operation_class=Repeatable, summary="Retire a signing key")
    async def retire_key(request: AdminRequest, kid: FromPath[str]) -> KeyView:
        """Publish a key no more: every access token that it signed ends at once."""
        return await keys.retire(_actor(request), kid, await _once(request))

    return [list_keys, rotate_keys, retire_key]


def _audit(operators: Operators) -> HTTPRouteHandler:
    @get("/audit", summary="Read the audit trail")
    async def list_audit(
        limit: Limit = 100,
        before: Annotated[
            int | None, QueryParameter(ge=0, le=2**63 - 1, description="Only rows before this `seq`.")
        ] = None,
        event: Annotated[str | None, QueryParameter(description="Only events of this type.")] = None,
        user_id: Annotated[str | None, QueryParameter(description="Only what tells of this person.")] = None,
    ) -> AuditPage:
        """Read the audit trail, the newest row first."""
        return AuditPage(rows=await operators.trail.list(limit, before=before, event=event, user_id=user_id))

    return list_audit
