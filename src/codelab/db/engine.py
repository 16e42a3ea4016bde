"""From a database URL to an engine, with the settings that make each database safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from codelab.db.urls import DatabaseUrl

__all__ = ("create_engine", "writing")

BUSY_TIMEOUT_MS = 5000


def create_engine(url: DatabaseUrl, application_name: str) -> AsyncEngine:
    """Make the engine of one module; no connection is opened yet."""
    if url.dialect == "sqlite":
        engine = create_async_engine(url.sqlalchemy_url, hide_parameters=True)
        _own_transactions(engine.sync_engine)
        return engine

    async def connect() -> asyncpg.Connection[Any]:
        # The DSN goes to asyncpg whole: it knows libpq's options (sslmode, host=/socket, …) better than a translation.
        settings = {
            "timezone": "UTC",
            "statement_timeout": "30000",
            "lock_timeout": "5000",
            "idle_in_transaction_session_timeout": "60000",
        }
        if "application_name=" not in url.dsn:
            settings["application_name"] = application_name
        return await asyncpg.connect(url.dsn, timeout=url.connect_timeout, command_timeout=30, server_settings=settings)

    # Parameters are people's text and hashes of secrets: they do not belong into the message of an error.
    return create_async_engine(url.sqlalchemy_url, async_creator=connect, pool_pre_ping=True, hide_parameters=True)


def writing(engine: AsyncEngine) -> AsyncEngine:
    """Return the same pool with transactions that write from their first statement.

    A deferred SQLite transaction that turns into a writer fails at once with "database is locked" when another one
    wrote meanwhile; ``BEGIN IMMEDIATE`` waits instead (``busy_timeout``).
    """
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def _own_transactions(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _configure(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None  # SQLAlchemy says BEGIN, not the driver
        cursor = dbapi.cursor()
        # The time-out first: changing the journal mode needs the lock that another starter may hold.
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
