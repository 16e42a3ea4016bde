"""From a database URL to an engine, with the settings that make each database safe."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from codelab.db.sqlite_driver import DRIVER

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from codelab.db.urls import DatabaseUrl

__all__ = ("Limits", "create_engine", "create_reader", "writing")

BUSY_TIMEOUT_MS = 5000
#: What is left of the file of SQLite's write-ahead log once it was copied into the database.
WAL_BYTES = 16 * 1024 * 1024
#: How long one starter waits while another migrates a SQLite file.
MIGRATION_BUSY_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class Limits:
    """How many connections a module keeps at most, and how many seconds one statement may take on PostgreSQL.

    One connection is the writer's; one holds the lock of the serving process on PostgreSQL.
    """

    pool_size: int = 10
    statement_timeout: float = 30.0


def create_engine(
    url: DatabaseUrl, application_name: str, *, migrating: bool = False, limits: Limits | None = None
) -> AsyncEngine:
    """Make the engine of one module; no connection is opened yet.

    One that is ``migrating`` has no time-outs on PostgreSQL, since to fill a new column may take its time, and no
    foreign keys on SQLite, since re-creating a table would delete its child rows.
    """
    if url.dialect == "sqlite":
        engine = create_async_engine(
            URL.create(DRIVER, database=str(url.path)), hide_parameters=True, **_pool(limits or Limits())
        )
        _own_transactions(engine.sync_engine, migrating=migrating)
        return engine

    return _postgresql_engine(url, application_name, None if migrating else limits or Limits())


def create_reader(url: DatabaseUrl, application_name: str, *, leave_no_trace: bool = False) -> AsyncEngine:
    """Make an engine that cannot change a database, for looking at all of it: one transaction, one snapshot.

    A SQLite file that is not there is not made. With ``leave_no_trace`` the two files that SQLite puts beside one in
    WAL mode are not made either; that holds while nobody else writes, so it is for a short look.
    """
    if url.dialect == "postgresql":
        engine = _postgresql_engine(url, application_name, None, default_transaction_read_only="on")
        return engine.execution_options(isolation_level="REPEATABLE READ")
    path = url.path
    assert path is not None
    options = {"mode": "ro", "uri": "true"}
    # Without a WAL file everything is in the main file, and SQLite need not make its two files beside it.
    if not Path(f"{path}-wal").exists() and (leave_no_trace or not os.access(path.parent, os.W_OK)):
        options["immutable"] = "1"
    place = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query=options)
    engine = create_async_engine(place, hide_parameters=True)

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _pool(limits: Limits) -> dict[str, int]:
    return {"pool_size": limits.pool_size, "max_overflow": 0}


def _postgresql_engine(url: DatabaseUrl, application_name: str, limits: Limits | None, **more: str) -> AsyncEngine:
    timeout = limits.statement_timeout if limits else None
    settings = {
        "timezone": "UTC",
        "statement_timeout": f"{timeout * 1000:.0f}" if timeout else "0",
        "lock_timeout": "5000" if timeout else "0",
        "idle_in_transaction_session_timeout": "60000" if timeout else "0",
        **more,
    }
    # Said by a statement and not with the start of the connection, where a pooler refuses what it does not know.
    choose = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())

    async def connect() -> asyncpg.Connection[Any]:
        # The DSN goes to asyncpg whole: it knows libpq's options (sslmode, host=/socket, …) better than a translation.
        try:
            connection = await asyncpg.connect(
                url.dsn,
                timeout=url.connect_timeout,
                command_timeout=timeout,
                server_settings={} if "application_name=" in url.dsn else {"application_name": application_name},
            )
        except (ConnectionError, TimeoutError, ssl.SSLError):
            raise
        except OSError as error:
            # A name that is not known now, a socket that is gone, several addresses of which none answers.
            raise ConnectionError(error.errno, error.strerror or str(error)) from error
        try:
            await connection.execute(choose)
        except asyncpg.InterfaceError as error:  # the connection was lost between the two
            connection.terminate()
            raise ConnectionError(str(error)) from error
        except BaseException:  # also a cancelled request: nobody else knows of the connection
            connection.terminate()
            raise
        return connection

    # Parameters are people's text and hashes of secrets: they do not belong into the message of an error.
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_pre_ping=True,
        hide_parameters=True,
        **_pool(limits or Limits()),
    )


def writing(engine: AsyncEngine) -> AsyncEngine:
    """Return the same pool with transactions that write from their first statement.

    A deferred SQLite transaction that turns into a writer fails at once with "database is locked" when another one
    wrote meanwhile; ``BEGIN IMMEDIATE`` waits instead (``busy_timeout``).
    """
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def _lower(value: Any) -> Any:
    """Lower each character alone, as PostgreSQL does (Python looks at its neighbours: a final sigma)."""
    if not isinstance(value, str):
        return value
    return value.lower() if value.isascii() else "".join(character.lower()[0] for character in value)


def _own_transactions(engine: Engine, *, migrating: bool) -> None:
    busy_timeout = MIGRATION_BUSY_TIMEOUT_MS if migrating else BUSY_TIMEOUT_MS
    pragmas = (
        # The time-out first: changing the journal mode needs the lock that another starter may hold.
        f"busy_timeout = {busy_timeout}",
        "journal_mode = WAL",
        "synchronous = FULL",
        # Pages after which a commit copies the log into the database, and bytes that its file keeps after that.
        "wal_autocheckpoint = 1000",
        f"journal_size_limit = {WAL_BYTES}",
        f"foreign_keys = {'OFF' if migrating else 'ON'}",
    )

    @event.listens_for(engine, "connect")
    def _configure(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None  # SQLAlchemy says BEGIN, not the driver
        try:
            cursor = dbapi.cursor()
            for pragma in pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()
        except BaseException:
            dbapi.close()  # SQLAlchemy does not know it yet, and its thread would stay
            raise
        # SQLite's own knows ASCII only; this is PostgreSQL's. No index may use it: other programs have the old one.
        dbapi.create_function("lower", 1, _lower, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
