"""Clients, as operators see them: make, look at, give a new secret, disable, enable, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from codelab.auth.idempotency import write_once
from codelab.auth.operators.wanted import DEFAULT, check_secret, check_wanted
from codelab.auth.repository import clients, revocations
from codelab.auth.schemas import ClientView
from codelab.auth.seeds import CLIENT_ID, TERMINAL_CLIENT_ID
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now
from codelab.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.audit import Audit, Event
    from codelab.auth.clients import KnownClients
    from codelab.auth.operators.common import Actor
    from codelab.auth.operators.wanted import WantedClient
    from codelab.auth.repository.clients import ClientRow
    from codelab.auth.revocations import Revocations
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.settings import AuthSettings

__all__ = ("Clients", "NewClient")

_SEEDED = {CLIENT_ID, TERMINAL_CLIENT_ID}


class NewClient(NamedTuple):
    """A client with its secret, where it was made here: nobody can find it out later."""

    client: ClientView
    secret: str | None


class Clients:
    """Administer clients. One that is disabled, deleted or given a new secret loses what the old one opened."""

    def __init__(
        self, database: Database, known: KnownClients, audit: Audit, ended: Revocations, settings: AuthSettings
    ) -> None:
        self._database = database
        self._known = known
        self._audit = audit
        self._ended = ended
        self._settings = settings

    async def list(self, limit: int, after: str = "") -> list[ClientView]:
        """List clients by id, those whose ids come after one."""
        async with self._database.read() as session:
            return [_view(row) for row in await clients.list_clients(session, limit, after)]

    async def show(self, client_id: str) -> ClientView:
        """Show one client; never its secret.

        Raises:
            NotFound: there is no such client.
        """
        async with self._database.read() as session:
            return _view(await _find(session, client_id))

    async def create(self, actor: Actor, wanted: WantedClient) -> NewClient:
        """Make a client.

        Raises:
            BadRequest: what is wanted does not fit together.
            Conflict: there is a client with that id.
        """
        grants, scope = check_wanted(wanted)
        made = new_refresh_token() if wanted.confidential and wanted.secret is None else None
        secret, at = made or wanted.secret, now()

        async def unit(transaction: Transaction) -> ClientView | None:
            session = transaction.session
            inserted = await clients.insert_client_if_absent(
                session,
                id=new_id(),
                client_id=wanted.client_id,
                client_secret_hash=hash_token(secret) if secret else None,
                name=wanted.name,
                is_confidential=wanted.confidential,
                allowed_scopes=" ".join(scope),
                default_scopes=" ".join(each for each in scope if each in DEFAULT) or " ".join(scope),
                allowed_grant_types=grants,
                redirect_uris=list(dict.fromkeys(wanted.redirect_uris)),
                post_logout_redirect_uris=list(dict.fromkeys(wanted.post_logout_redirect_uris)),
                is_registered=False,
                access_token_lifetime=self._settings.access_token_lifetime,
                refresh_token_lifetime=self._settings.refresh_token_lifetime,
                is_active=True,
                created_at=at,
                updated_at=at,
            )
            if not inserted:
                return None
            said = {"name": wanted.name, "scope": " ".join(scope), "grants": " ".join(grants)}
            self._record(session, "client_created", actor, wanted.client_id, **said)
            return _view(await _find(session, wanted.client_id))

        client = await self._database.write(unit)
        if client is None:
            raise Conflict(f"There is a client {wanted.client_id!r} already.", field="client_id")
        return NewClient(client, made)

    async def rotate_secret(self, actor: Actor, client_id: str, secret: str | None = None) -> NewClient:
        """Give a confidential client another secret, made here when there is none; the old one ends at once.

        Raises:
            NotFound: there is no such client.
            Conflict: it is a public one.
            BadRequest: the secret is too short.
        """
        if secret is not None:
            check_secret(secret)
        made = new_refresh_token() if secret is None else None

        async def change(session: AsyncSession, client: ClientRow, at: datetime) -> dict[str, Any]:
            if not client.is_confidential:
                raise Conflict(f"{client_id!r} is a public client: it has no secret.")
            hashed = hash_token(made or secret or "")
            await clients.change_client(session, client_id, at, client_secret_hash=hashed)
            return {}

        return NewClient(await self._change(actor, client_id, "client_secret_rotated", change), made)

    async def disable(self, actor: Actor, client_id: str, once: Once | None = None) -> ClientView:
        """Give a client no more tokens, and end those that it has.

        Raises:
            NotFound: there is no such client.
            Conflict: the key of ``once`` came with another request before.
        """

        async def change(session: AsyncSession, client: ClientRow, at: datetime) -> dict[str, Any] | None:
            if not client.is_active:
                return None
            await clients.change_client(session, client_id, at, is_active=False)
            return {"ended": await revocations.end_logins_of_client(session, client_id, at)}

        return await self._change(actor, client_id, "client_disabled", change, once)

    async def enable(self, actor: Actor, client_id: str, once: Once | None = None) -> ClientView:
        """Give a client tokens again.

        Raises:
            NotFound: there is no such client.
            Conflict: the key of ``once`` came with another request before.
        """

        async def change(session: AsyncSession, client: ClientRow, at: datetime) -> dict[str, Any] | None:
            if client.is_active:
                return None
            await clients.change_client(session, client_id, at, is_active=True)
            return {}

        return await self._change(actor, client_id, "client_enabled", change, once)

    async def delete(self, actor: Actor, client_id: str) -> ClientView:
        """Delete a client with all its logins; what it was is returned.

        Raises:
            NotFound: there is no such client.
            Conflict: every server has it.
        """
        if client_id in _SEEDED:
            raise Conflict(f"The client {client_id} is made again at each start; disable it instead.")

        async def change(session: AsyncSession, client: ClientRow, at: datetime) -> dict[str, Any]:
            ended = await revocations.end_logins_of_client(session, client_id, at)
            await clients.delete_client(session, client_id)
            return {"ended": ended, "name": client.name}

        return await self._change(actor, client_id, "client_deleted", change)

    async def _change(
        self,
        actor: Actor,
        client_id: str,
        event: Event,
        change: Callable[[AsyncSession, ClientRow, datetime], Awaitable[dict[str, Any] | None]],
        once: Once | None = None,
    ) -> ClientView:
        """Change a client in one unit of work; ``change`` says what the audit trail tells, None for no change."""
        at = now()

        async def unit(transaction: Transaction) -> ClientView:
            session = transaction.session
            before = await _find(session, client_id)
            told = await change(session, before, at)
            if told is not None:
                self._record(session, event, actor, client_id, **told)
            return _view(await clients.find_client_row(session, client_id) or before)

        client = await write_once(self._database, once, actor, (event, client_id), unit, ClientView)
        self._known.note()
        self._ended.note()
        return client

    def _record(self, session: AsyncSession, event: Event, actor: Actor, client_id: str, **data: Any) -> None:
        self._audit.record(session, event, actor.origin, user_id=None, client_id=client_id, **actor.said, **data)


async def _find(session: AsyncSession, client_id: str) -> ClientRow:
    client = await clients.find_client_row(session, client_id)
    if client is None:
        raise NotFound(f"There is no client {client_id!r}.")
    return client


def _view(row: ClientRow) -> ClientView:
    return ClientView(**row._asdict())
