"""Import people, clients, refresh tokens and the audit trail of another system."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from codelab.auth import audit, inherited
from codelab.auth.passwords import is_bcrypt
from codelab.auth.repository import importing as rows
from codelab.auth.repository.audit import AUDIT
from codelab.auth.repository.clients import find_client
from codelab.auth.repository.keys import insert_signing_key
from codelab.auth.repository.users import find_user
from codelab.auth.schemas import Origin
from codelab.auth.seeds import CLIENT_ID
from codelab.db import now
from codelab.db.chain import Chain
from codelab.errors import StartError
from codelab.identity import SCOPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from joserfc.jwk import OctKey

    from codelab.db import Transaction
    from codelab.import_records import AuditRecord, ClientRecord, Tally, TokenKey, TokenRecord, UserRecord

__all__ = ("find_owner", "import_accounts")

_ADMIN, _WRITE, _DECIDE = "api:admin", "api:write", "approvals:decide"
#: The grants that a client of the other system may go on using; later ones need settings that it never had.
_GRANTS = ("password", "refresh_token")
_BATCH = 500
#: Names that one line of an error lists.
_NAMES = 20


async def import_accounts(
    tx: Transaction,
    tally: Tally,
    *,
    users: Sequence[UserRecord],
    clients: Sequence[ClientRecord],
    tokens: Sequence[TokenRecord],
    audit_logs: AsyncIterator[AuditRecord],
    key: TokenKey | None,
    wrapping: OctKey | None,
) -> None:
    """Write records in this transaction; what is there already by its id is left as it is.

    ``key`` proves ``tokens``; it is kept encrypted with ``wrapping``, the key of the key file, and not without. That
    key chains the audit trail too; without it, as in a dry run, the rows stay out of the chain.
    """
    await _take_users(tx, tally, users)
    await _take_clients(tx, tally, clients)
    if tokens and key is not None:
        await _take_tokens(tx, tally, tokens)
        await _keep_key(tx, tally, key, wrapping, tokens)
    batch: list[AuditRecord] = []
    async for record in audit_logs:
        batch.append(record)
        if len(batch) == _BATCH:
            await _take_audit(tx, tally, batch)
            batch.clear()
    await _take_audit(tx, tally, batch)
    if wrapping is not None:
        await Chain(AUDIT, audit.chain_key(wrapping)).adopt(tx.session, "imported from the reference")


async def find_owner(tx: Transaction, name: str | None) -> tuple[str, str]:
    """Return id and name of the user of a name, or of the only one who may log in.

    Raises:
        StartError: there is no such user, or without a name more than one; the line lists the names.
    """
    active = await rows.list_active_users(tx.session)
    if name is not None:
        user = await find_user(tx.session, name)
        if user is not None:
            return user.id, user.username
    elif len(active) == 1:
        return active[0]
    names = ", ".join(username for _, username in active[:_NAMES]) or "none"
    names += ", …" if len(active) > _NAMES else ""
    problem = f"there is no user {name!r}" if name is not None else "say who owns the sessions, which had no owners"
    raise StartError(f"--owner: {problem}; users who may log in: {names}. Nothing was imported.")


async def _take_users(tx: Transaction, tally: Tally, users: Sequence[UserRecord]) -> None:
    known = await rows.known_ids(tx.session, "users", [user.id for user in users])
    for user in users:
        if user.id in known:
            tally.of("users").already_there += 1
        elif await rows.has_user_like(tx.session, user.username, user.email):
            tally.skip("users", user.username, "somebody else has that name or that address here")
        else:
            values = {name: getattr(user, name) for name in user.__struct_fields__}
            await rows.add(tx.session, "users", **values)
            tally.of("users").imported += 1
            if not is_bcrypt(user.password_hash):
                what = "the hash of the password is of an unknown kind; it cannot be used to log in"
                tally.mend("users", user.username, what)


def _map_scopes(scopes: Iterable[str], *, public: bool) -> str:
    """Name the scopes here: who could write there could also answer tool calls, which is to decide about them."""
    kept = {scope for scope in scopes if scope in SCOPES and scope != _ADMIN}
    if public and _WRITE in kept:
        kept.add(_DECIDE)
    return " ".join(sorted(kept))


async def _take_clients(tx: Transaction, tally: Tally, clients: Sequence[ClientRecord]) -> None:
    known = await rows.known_ids(tx.session, "oauth_clients", [client.id for client in clients])
    for client in clients:
        if client.id in known:
            tally.of("clients").already_there += 1
            continue
        if await find_client(tx.session, client.client_id) is not None:
            if client.client_id == CLIENT_ID:
                tally.of("clients").already_there += 1
            else:
                tally.skip("clients", client.client_id, "another client has that id here")
            continue
        await _take_client(tx, tally, client)


async def _take_client(tx: Transaction, tally: Tally, client: ClientRecord) -> None:
    scopes = _map_scopes(client.scopes, public=not client.is_confidential)
    grants = [grant for grant in client.grant_types if grant in _GRANTS]
    dropped = sorted((set(client.scopes) - set(scopes.split())) | (set(client.grant_types) - set(grants)))
    await rows.add(
        tx.session,
        "oauth_clients",
        id=client.id,
        client_id=client.client_id,
        name=client.name,
        description=client.description,
        is_confidential=client.is_confidential,
        allowed_scopes=scopes,
        default_scopes=scopes,
        allowed_grant_types=grants,
        access_token_lifetime=client.access_token_lifetime,
        refresh_token_lifetime=client.refresh_token_lifetime,
        is_active=client.is_active and not client.is_confidential,
        created_at=client.created_at,
        updated_at=client.updated_at,
    )
    tally.of("clients").imported += 1
    if dropped:
        tally.mend("clients", client.client_id, f"what it may not have here was dropped: {' '.join(dropped)[:500]}")
    if client.is_confidential:
        tally.mend("clients", client.client_id, "its secret is published; it is disabled until it gets a new one")


async def _take_tokens(tx: Transaction, tally: Tally, tokens: Sequence[TokenRecord]) -> None:
    known = await rows.known_ids(tx.session, "refresh_tokens", [token.id for token in tokens])
    hashes = {token.id: inherited.inherited_hash(token.jti_hash) for token in tokens}
    known_hashes = await rows.known_ids(tx.session, "refresh_tokens", hashes.values(), "jti_hash")
    people = await rows.known_ids(tx.session, "users", {token.user_id for token in tokens})
    for token in tokens:
        if token.id in known or hashes[token.id] in known_hashes:
            tally.of("refresh_tokens").already_there += 1
            continue
        client = await find_client(tx.session, token.client_id)
        if token.user_id not in people or client is None:
            tally.skip("refresh_tokens", token.id, "its user or its client was not taken over")
            continue
        if client.is_confidential:
            tally.skip("refresh_tokens", token.id, "its client is confidential and gets a new secret")
            continue
        granted = set(_map_scopes(token.scopes, public=True).split()) & set(client.allowed_scopes.split())
        await rows.add(
            tx.session,
            "refresh_tokens",
            id=token.id,
            jti_hash=hashes[token.id],
            parent_jti_hash=inherited.inherited_hash(token.parent_jti_hash) if token.parent_jti_hash else None,
            family_id=token.family_id,
            user_id=token.user_id,
            client_id=token.client_id,
            scope=" ".join(sorted(granted)),
            expires_at=token.expires_at,
            revoked=not token.live,
            revoked_at=token.revoked_at,
            created_at=token.created_at,
        )
        tally.of("refresh_tokens").imported += 1


async def _keep_key(
    tx: Transaction, tally: Tally, key: TokenKey, wrapping: OctKey | None, tokens: Sequence[TokenRecord]
) -> None:
    """Keep the key that proves the tokens, until the last of them ends."""
    kid, expires_at, at = inherited.key_id(key), max(token.expires_at for token in tokens), now()
    tally.of("keys").read = 1
    if await rows.known_ids(tx.session, "signing_keys", [kid], "kid"):
        await rows.extend_key(tx.session, kid, expires_at)
        tally.of("keys").already_there = 1
        return
    tally.of("keys").imported = 1
    if wrapping is None:  # a dry run, which must not make a key file
        return
    await insert_signing_key(
        tx.session,
        kid=kid,
        alg=inherited.ALGORITHM,
        public_jwk=key.public_jwk,
        private_jwe=inherited.wrap(key, wrapping),
        created_at=at,
        retired_at=at,
        expires_at=expires_at,
    )


async def _take_audit(tx: Transaction, tally: Tally, batch: Collection[AuditRecord]) -> None:
    known = await rows.known_ids(tx.session, "audit_logs", [record.id for record in batch])
    people = await rows.known_ids(tx.session, "users", {record.user_id for record in batch if record.user_id})
    for record in batch:
        if record.id in known:
            tally.of("audit_logs").already_there += 1
            continue
        row = audit.describe(
            cast("audit.Event", record.event),
            Origin(record.ip_address, record.user_agent),
            user_id=record.user_id if record.user_id in people else None,
            client_id=record.client_id,
            error=record.error,
            past=audit.Past(record.id, record.at),
            source="reference",
            reference_user_id=record.user_id,
            reference_data=record.data,
        )
        await rows.add(tx.session, "audit_logs", **row)
        tally.of("audit_logs").imported += 1
