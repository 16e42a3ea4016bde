"""Every SQL statement of module ``auth``, for SQLite 3.35 and PostgreSQL 15 alike.

Functions take the session of a reader or of a unit of work and never commit. They use the tables, not the mapped
classes, so nothing is loaded behind a caller's back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Table, case, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from codelab.auth.models import AuditCheckpoint, AuditHead, AuditLog, OAuthClient, RefreshToken, SigningKey, User
from codelab.db.chain import ChainTables

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.chain import Chain

__all__ = (
    "AUDIT",
    "ClientRecord",
    "KeyRecord",
    "RefreshRecord",
    "RotatedRecord",
    "UserRecord",
    "find_active_users",
    "find_client",
    "find_refresh_token",
    "find_user",
    "find_user_by_id",
    "find_user_by_login",
    "has_bcrypt_hashes",
    "insert_audit_log",
    "insert_client_if_absent",
    "insert_refresh_token",
    "insert_signing_key",
    "insert_user_if_absent",
    "is_rotated",
    "list_audit_ids",
    "list_signing_keys",
    "lock",
    "record_login",
    "retire_signing_keys",
    "revoke_family",
    "rotate_refresh_token",
    "set_client_lifetimes",
)

_users = cast("Table", User.__table__)
_clients = cast("Table", OAuthClient.__table__)
_refresh_tokens = cast("Table", RefreshToken.__table__)
_signing_keys = cast("Table", SigningKey.__table__)

#: The audit trail and the chain over it.
AUDIT = ChainTables(
    rows=cast("Table", AuditLog.__table__),
    head=cast("Table", AuditHead.__table__),
    checkpoints=cast("Table", AuditCheckpoint.__table__),
)


class UserRecord(NamedTuple):
    """A user as the database knows it."""

    id: str
    username: str
    password_hash: str
    is_active: bool


class ClientRecord(NamedTuple):
    """A client as the database knows it; ``client_secret_hash`` is SHA-256 in hex."""

    client_id: str
    client_secret_hash: str | None
    is_confidential: bool
    allowed_scopes: str
    default_scopes: str
    allowed_grant_types: list[str]
    access_token_lifetime: int
    refresh_token_lifetime: int
    is_active: bool


class RefreshRecord(NamedTuple):
    """A refresh token, with the state of its user."""

    family_id: str
    user_id: str
    client_id: str
    scope: str
    expires_at: datetime
    revoked: bool
    revoked_at: datetime | None
    user_is_active: bool


class RotatedRecord(NamedTuple):
    """What the successor of a rotated refresh token inherits."""

    family_id: str
    user_id: str
    scope: str


class KeyRecord(NamedTuple):
    """A signing key as the database knows it."""

    kid: str
    public_jwk: dict[str, Any]
    private_jwe: str
    retired_at: datetime | None


_USER = tuple(_users.c[name] for name in UserRecord._fields)
_CLIENT = tuple(_clients.c[name] for name in ClientRecord._fields)
_KEY = tuple(_signing_keys.c[name] for name in KeyRecord._fields)
_REFRESH = (*(_refresh_tokens.c[name] for name in RefreshRecord._fields[:-1]), _users.c.is_active)


async def lock(session: AsyncSession, name: str) -> None:
    """Wait for the lock of this name and hold it to the end of the transaction.

    SQLite needs none: its unit of work began with ``BEGIN IMMEDIATE``, so it is the only one.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


async def _insert_if_absent(session: AsyncSession, table: Table, values: dict[str, Any]) -> bool:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(values).on_conflict_do_nothing().returning(table.c.id)
    return (await session.execute(statement)).one_or_none() is not None


# Users


async def _one_user(session: AsyncSession, *conditions: Any) -> UserRecord | None:
    row = (await session.execute(select(*_USER).where(*conditions))).one_or_none()
    return UserRecord(*row) if row else None


async def find_user(session: AsyncSession, username: str) -> UserRecord | None:
    """Find a user by name."""
    return await _one_user(session, _users.c.username == username)


async def find_user_by_id(session: AsyncSession, user_id: str) -> UserRecord | None:
    """Find a user by id."""
    return await _one_user(session, _users.c.id == user_id)


async def find_active_users(session: AsyncSession, user_ids: Sequence[str]) -> set[str]:
    """Return which of the users are there and not disabled."""
    found = await session.execute(select(_users.c.id).where(_users.c.id.in_(user_ids), _users.c.is_active))
    return set(found.scalars())


async def find_user_by_login(session: AsyncSession, login: str) -> UserRecord | None:
    """Find a user by name or else by email address."""
    statement = (
        select(*_USER)
        .where(or_(_users.c.username == login, _users.c.email == login))
        .order_by(case((_users.c.username == login, 0), else_=1))
        .limit(1)
    )
    row = (await session.execute(statement)).one_or_none()
    return UserRecord(*row) if row else None


async def has_bcrypt_hashes(session: AsyncSession) -> bool:
    """Tell whether somebody's password still has the hash of the system that they came from."""
    found = await session.execute(select(_users.c.id).where(_users.c.password_hash.like("$2%")).limit(1))
    return found.first() is not None


async def insert_user_if_absent(session: AsyncSession, **values: Any) -> bool:
    """Insert a user unless the name or the address is taken; tell whether it was inserted."""
    return await _insert_if_absent(session, _users, values)


async def record_login(session: AsyncSession, user: UserRecord, at: datetime, new_hash: str | None) -> bool:
    """Note a login, and the re-hashed password; False when the user was disabled or got a new password meanwhile."""
    statement = (
        update(_users)
        .where(_users.c.id == user.id, _users.c.is_active, _users.c.password_hash == user.password_hash)
        .values(last_login_at=at, updated_at=_users.c.updated_at)
        .returning(_users.c.id)
    )
    if new_hash is not None:
        statement = statement.values(password_hash=new_hash, updated_at=at)
    return (await session.execute(statement)).one_or_none() is not None


# Clients


async def find_client(session: AsyncSession, client_id: str) -> ClientRecord | None:
    """Find a client by the id that it calls itself."""
    row = (await session.execute(select(*_CLIENT).where(_clients.c.client_id == client_id))).one_or_none()
    return ClientRecord(*row) if row else None


async def insert_client_if_absent(session: AsyncSession, **values: Any) -> bool:
    """Insert a client unless its id is taken; tell whether it was inserted."""
    return await _insert_if_absent(session, _clients, values)


async def set_client_lifetimes(session: AsyncSession, client_id: str, *, access: int, refresh: int) -> None:
    """Set how long a client's tokens live, in seconds."""
    same = (_clients.c.access_token_lifetime == access) & (_clients.c.refresh_token_lifetime == refresh)
    await session.execute(
        update(_clients)
        .where(_clients.c.client_id == client_id, ~same)
        .values(access_token_lifetime=access, refresh_token_lifetime=refresh)
    )


# Refresh tokens


async def find_refresh_token(session: AsyncSession, jti_hash: str) -> RefreshRecord | None:
    """Find a refresh token by its hash."""
    joined = _refresh_tokens.join(_users, _users.c.id == _refresh_tokens.c.user_id)
    statement = select(*_REFRESH).select_from(joined).where(_refresh_tokens.c.jti_hash == jti_hash)
    row = (await session.execute(statement)).one_or_none()
    return RefreshRecord(*row) if row else None


async def insert_refresh_token(session: AsyncSession, **values: Any) -> None:
    """Insert a refresh token."""
    await session.execute(insert(_refresh_tokens).values(values))


async def rotate_refresh_token(
    session: AsyncSession, jti_hash: str, client_id: str, at: datetime
) -> RotatedRecord | None:
    """Use up a refresh token: of all who try, one gets what its successor inherits, the others None."""
    active = select(_users.c.id).where(_users.c.id == _refresh_tokens.c.user_id, _users.c.is_active).exists()
    statement = (
        update(_refresh_tokens)
        .where(
            _refresh_tokens.c.jti_hash == jti_hash,
            _refresh_tokens.c.client_id == client_id,
            ~_refresh_tokens.c.revoked,
            _refresh_tokens.c.expires_at > at,
            active,
        )
        .values(revoked=True, revoked_at=at)
        .returning(*(_refresh_tokens.c[name] for name in RotatedRecord._fields))
    )
    row = (await session.execute(statement)).one_or_none()
    return RotatedRecord(*row) if row else None


async def is_rotated(session: AsyncSession, family_id: str, jti_hash: str) -> bool:
    """Tell whether a refresh token has a successor (a token revoked for another reason has none)."""
    statement = select(_refresh_tokens.c.id).where(
        _refresh_tokens.c.family_id == family_id, _refresh_tokens.c.parent_jti_hash == jti_hash
    )
    return (await session.execute(statement.limit(1))).one_or_none() is not None


async def revoke_family(session: AsyncSession, family_id: str, at: datetime) -> int:
    """Revoke what is alive of a family of refresh tokens; return how many were."""
    statement = (
        update(_refresh_tokens)
        .where(_refresh_tokens.c.family_id == family_id, ~_refresh_tokens.c.revoked)
        .values(revoked=True, revoked_at=at)
        .returning(_refresh_tokens.c.id)
    )
    return len((await session.execute(statement)).all())


# Audit


def insert_audit_log(session: AsyncSession, chain: Chain, **values: Any) -> None:
    """Insert an audit row, right before the commit."""
    chain.append(session, **values)


async def list_audit_ids(session: AsyncSession, user_id: str) -> Sequence[str]:
    """List the ids of the audit rows that tell of a person."""
    rows = await session.execute(select(AUDIT.rows.c.id).where(AUDIT.rows.c.user_id == user_id))
    return rows.scalars().all()


# Signing keys


async def list_signing_keys(session: AsyncSession, at: datetime, alg: str) -> Sequence[KeyRecord]:
    """List the keys of an algorithm that have not expired at a time, the newest first."""
    statement = (
        select(*_KEY)
        .where(_signing_keys.c.alg == alg, or_(_signing_keys.c.expires_at.is_(None), _signing_keys.c.expires_at > at))
        .order_by(_signing_keys.c.created_at.desc(), _signing_keys.c.kid)
    )
    return [KeyRecord(*row) for row in (await session.execute(statement)).all()]


async def insert_signing_key(session: AsyncSession, **values: Any) -> None:
    """Insert a signing key."""
    await session.execute(insert(_signing_keys).values(values))


async def retire_signing_keys(session: AsyncSession, kids: Collection[str], at: datetime, expires_at: datetime) -> None:
    """Let keys sign no more, and be published until they expire."""
    await session.execute(
        update(_signing_keys)
        .where(_signing_keys.c.kid.in_(kids))
        .values(retired_at=func.coalesce(_signing_keys.c.retired_at, at), expires_at=expires_at)
    )
