"""Look at a module's data without changing anything: no file is made, nothing is migrated, no mode is touched."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy import inspect, text

from codelab.db.engine import create_reader
from codelab.db.faults import FAILURES, reason
from codelab.db.migrate import current_revision, refuse_foreign, refuse_newer, revisions
from codelab.db.serving import file_is_served, server_is_served
from codelab.db.unfinished import refuse_unfinished
from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl

__all__ = ("ModuleStatus", "look")


class ModuleStatus(msgspec.Struct, kw_only=True):
    """What there is of one module.

    ``problem`` is why a server could not serve it as it is (``ready`` is then false), ``unreachable`` why nothing else
    is known. Sizes are bytes; ``size`` of PostgreSQL is that of the module's tables with their indexes. Where
    ``estimated`` is true the rows are what PostgreSQL's planner believes (-1: it never counted).
    """

    module: str
    variable: str
    url: str
    dialect: Literal["sqlite", "postgresql"]
    ready: bool = False
    problem: str | None = None
    unreachable: str | None = None
    served: bool = False
    server_version: str | None = None
    revision: str | None = None
    head: str | None = None
    pending: list[str] = []
    size: int | None = None
    wal_size: int | None = None
    estimated: bool = False
    tables: dict[str, int] = {}


async def look(url: DatabaseUrl, schema: ModuleSchema, *, estimate: bool = False) -> ModuleStatus:
    """Look at one module's data; a database that cannot be reached is told in ``unreachable``."""
    status = ModuleStatus(module=schema.module, variable=url.variable, url=url.masked, dialect=url.dialect)
    status.head = revisions(schema)[-1].id
    if url.path is not None and not url.path.exists():
        status.unreachable = f"there is no file {url.path}; a server makes it at its first start"
        status.problem = status.unreachable
        return status
    engine = create_reader(url, f"codelab.{schema.module}.status", leave_no_trace=True)
    try:
        async with engine.connect() as connection:
            if url.path is not None:
                _look_at_file(url.path, status)
                status.served = await asyncio.to_thread(file_is_served, url.path, schema.module)
            else:
                status.served = await server_is_served(connection, schema.module)
            await connection.run_sync(_look_inside, schema, status, estimate)
    except FAILURES as error:
        status.unreachable = reason(error)
        status.problem = status.unreachable
    finally:
        await engine.dispose()
    status.ready = status.problem is None
    return status


def _look_at_file(path: Path, status: ModuleStatus) -> None:
    status.size = path.stat().st_size
    wal = path.with_name(f"{path.name}-wal")
    status.wal_size = wal.stat().st_size if wal.exists() else 0


def _look_inside(connection: Connection, schema: ModuleSchema, status: ModuleStatus, estimate: bool) -> None:  # noqa: FBT001 - run_sync has no names
    if connection.dialect.name == "postgresql":
        version = connection.execute(text("SHOW server_version")).scalar_one()
        status.server_version = f"PostgreSQL {str(version).split(' ', maxsplit=1)[0]}"
    else:
        status.server_version = f"SQLite {sqlite3.sqlite_version}"
    present = set(inspect(connection).get_table_names())
    status.revision = current_revision(connection, schema)
    steps = [step.id for step in revisions(schema)]
    if status.revision in steps or status.revision is None:
        status.pending = steps[steps.index(status.revision) + 1 :] if status.revision else steps
    try:
        refuse_unfinished(connection, schema, schema.variable)
        refuse_foreign(present, schema, schema.variable)
        refuse_newer(status.revision, schema, schema.variable)
    except StartError as error:
        status.problem = str(error).removeprefix(f"{schema.variable}: ")
    if status.problem is None and status.pending:
        status.problem = f"migrations are pending: {', '.join(status.pending)}; the next start runs them"
    names = [name for name in sorted(schema.metadata.tables) if name in present]
    if connection.dialect.name == "postgresql":
        sizes = text(
            "SELECT coalesce(sum(pg_total_relation_size(to_regclass(quote_ident(n)))), 0)"
            " FROM unnest(CAST(:names AS text[])) n"
        )
        status.size = int(connection.execute(sizes, {"names": names}).scalar_one())
        if estimate:
            status.estimated = True
            status.tables = _estimate(connection, names)
            return
    count = "SELECT count(*) FROM {}"
    status.tables = {name: connection.execute(text(count.format(name))).scalar_one() for name in names}


def _estimate(connection: Connection, names: list[str]) -> dict[str, int]:
    query = text(
        "SELECT n, reltuples::bigint FROM unnest(CAST(:names AS text[])) n"
        " JOIN pg_class ON oid = to_regclass(quote_ident(n))"
    )
    rows: Any = connection.execute(query, {"names": names})
    return dict(tuple(row) for row in rows)
