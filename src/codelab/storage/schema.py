"""Bring a module's schema to a revision, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.db import Database
from codelab.db.engine import create_engine, create_reader
from codelab.db.faults import FAILURES, reason
from codelab.db.migrate import current_revision, downgrade, refuse_newer, upgrade
from codelab.db.serving import hold_alone
from codelab.errors import StartError

if TYPE_CHECKING:
    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl

__all__ = ("move_schema", "read_revision")


async def read_revision(url: DatabaseUrl, schema: ModuleSchema) -> str | None:
    """Return the revision of a database, None where it has none; nothing is changed.

    Raises:
        StartError: it cannot be reached.
    """
    if url.path is not None and not url.path.exists():
        return None
    engine = create_reader(url, f"codelab.{schema.module}.schema", leave_no_trace=True)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(current_revision, schema)
    except FAILURES as error:
        raise StartError(f"{url.variable} ({url.masked}): {reason(error)}.") from None
    finally:
        await engine.dispose()


async def move_schema(
    url: DatabaseUrl, schema: ModuleSchema, revision: str, wait: float, *, down: bool = False
) -> tuple[str | None, str | None]:
    """Run the migrations to a revision in one transaction; return the revision before and after.

    Raises:
        StartError: a server uses the database, it cannot be reached within ``wait`` seconds or migrated, or there is no
            such revision; nothing was changed.
    """
    if down and await read_revision(url, schema) is None:
        raise StartError(f"{url.variable} ({url.masked}): it has no tables of module {schema.module}.")
    database = Database(url, schema)
    try:
        await database.reach(wait)
    finally:
        await database.stop()
    async with hold_alone(url, schema.module, "a change of its schema"):
        before = await read_revision(url, schema)
        refuse_newer(before, schema, f"{url.variable} ({url.masked})")
        engine = create_engine(url, f"codelab.{schema.module}.schema", migrating=True)
        try:
            await (downgrade if down else upgrade)(engine, schema, masked=url.masked, revision=revision)
        except FAILURES as error:
            raise StartError(
                f"{url.variable} ({url.masked}): cannot be migrated: {reason(error)}; nothing was changed."
            ) from None
        finally:
            await engine.dispose()
        return before, await read_revision(url, schema)
