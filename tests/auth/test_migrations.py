from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from sqlalchemy import Connection, inspect

from codelab.auth.storage import SCHEMA
from codelab.db.migrate import alembic_config, check_drift

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth

TABLES = {
    *("users", "oauth_clients", "refresh_tokens", "audit_logs", "signing_keys"),
    *("auth_audit_head", "auth_audit_checkpoints"),
    *("revoked_tokens", "browser_sessions", "consents", "authorization_codes", "device_codes", "failure_counts"),
    *("password_resets", "personal_tokens", "second_factors", "recovery_codes"),
}
_OF_PEOPLE = (
    "browser_sessions",
    "consents",
    "authorization_codes",
    "device_codes",
    "password_resets",
    "personal_tokens",
)


async def test_migrations_lead_to_the_models(auth: RunningAuth) -> None:
    """Nothing is left for autogenerate to do after the migrations ran."""
    async with auth.module.database.engine.connect() as connection:
        await connection.run_sync(check_drift, SCHEMA)


async def test_downgrade_leaves_an_empty_database(auth: RunningAuth) -> None:
    """The way down drops every table, and the way up makes them again."""

    def there_and_back(connection: Connection) -> tuple[set[str], set[str]]:
        config = alembic_config(SCHEMA, connection)
        command.downgrade(config, "base")
        below = set(inspect(connection).get_table_names())
        command.upgrade(config, "head")
        return below, set(inspect(connection).get_table_names())

    async with auth.module.database.engine.begin() as connection:
        below, above = await connection.run_sync(there_and_back)
    assert not below & TABLES
    assert above >= TABLES


async def test_indexes_of_the_reference_are_there(auth: RunningAuth) -> None:
    """Lookups of the reference system find their index, and what must be unique is."""

    def unique(connection: Connection) -> dict[str, bool]:
        found = inspect(connection)
        return {str(index["name"]): bool(index["unique"]) for t in TABLES for index in found.get_indexes(t)}

    async with auth.module.database.engine.connect() as connection:
        indexes = await connection.run_sync(unique)
    for name in ("users_username", "users_email", "oauth_clients_client_id", "refresh_tokens_jti_hash"):
        assert indexes.pop(f"ix_{name}") is True
    assert indexes.pop("ix_audit_logs_seq") is True
    for name in (
        "browser_sessions_token_hash",
        "authorization_codes_code_hash",
        "device_codes_device_code_hash",
        "password_resets_token_hash",
        "personal_tokens_token_hash",
    ):
        assert indexes.pop(f"ix_{name}") is True
    assert indexes.pop("ix_device_codes_user_code") is True
    assert indexes.pop("ix_second_factors_user_id") is True
    assert indexes.pop("ix_recovery_codes_user_id") is False
    indexes.pop("uq_consents_user_id", None)  # PostgreSQL shows the index of a constraint, SQLite does not
    assert indexes == dict.fromkeys(
        (
            "ix_users_is_active",
            "ix_oauth_clients_is_active",
            *(f"ix_refresh_tokens_{name}" for name in ("family_id", "user_id", "client_id", "expires_at", "revoked")),
            *(f"ix_audit_logs_{name}" for name in ("user_id", "event_type", "success", "created_at")),
            *(f"ix_{table}_user_id" for table in _OF_PEOPLE),
            *(
                f"ix_{table}_client_id"
                for table in _OF_PEOPLE
                if table not in {"browser_sessions", "password_resets", "personal_tokens"}
            ),
            *(
                f"ix_{table}_expires_at"
                for table in ("revoked_tokens", "failure_counts", *_OF_PEOPLE)
                if table != "consents"
            ),
        ),
        False,
    )
