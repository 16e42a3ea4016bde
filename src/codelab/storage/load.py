"""Fill a module's tables from rows that come from elsewhere: whole, verified, or not at all.

The target is marked first (``codelab.db.unfinished``). Then one transaction makes the tables at the revision of the
source, writes the rows, reads them back and compares, brings the schema to its head and takes the mark away. So a
crash leaves what was there before and the mark, and a server refuses to start until the command was run again.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import inspect, text

from codelab.db import Database
from codelab.db.faults import FAILURES
from codelab.db.serving import claim_of, claim_or_refuse
from codelab.db.unfinished import mark, mark_of, unmark
from codelab.errors import CodelabError, StartError
from codelab.storage.ahead import ahead
from codelab.storage.digest import TableDigest
from codelab.storage.layout import known_revision, migrate_to, revision_of, tables_at
from codelab.storage.rows import open_rows
from codelab.storage.values import describe, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from sqlalchemy import Connection

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl
    from codelab.storage.rows import Rows
    from codelab.storage.values import Batch, Table

__all__ = ("Job", "Progress", "Source", "load")

#: Seconds that a database server has to answer.
WAIT = 5.0


class Progress(Protocol):
    """What is told about rows while they are moved."""

    def begin(self, what: str, total: int | None) -> None:
        """Start with the next table or step."""
        ...

    def advance(self, rows: int) -> None:
        """Count rows that are done."""
        ...


class Source(Protocol):
    """Where rows come from."""

    @property
    def revision(self) -> str:
        """The revision of the schema that the rows are of."""
        ...

    @property
    def tables(self) -> Sequence[Table]:
        """The tables of the module at that revision, in the order in which they can be read, each once."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """How many rows a table has, for progress."""
        ...

    @property
    def expected(self) -> Mapping[str, TableDigest]:
        """The digests that are known before, from the manifest of an archive."""
        ...

    def read(self, table: Table) -> AsyncGenerator[Batch]:
        """Give the rows of a table."""
        ...


@dataclass
class Job:
    """One module's rows on their way.

    ``operation`` and ``remedy`` are shown after a crash, so they hold no password. ``replace`` drops the tables that
    are there. ``marked`` and ``done`` tell about the target: no server starts on one that is marked.
    """

    schema: ModuleSchema
    source: Source
    url: DatabaseUrl
    operation: str
    remedy: str
    replace: bool = False
    digests: dict[str, TableDigest] = field(default_factory=dict)
    marked: bool = False
    done: bool = False
    seconds: float = 0.0

    @property
    def where(self) -> str:
        """The target in a message."""
        return f"{self.url.variable} ({self.url.masked})"


async def load(jobs: Sequence[Job], progress: Progress) -> None:
    """Load one module after the other; all targets are marked before the first.

    A job that fails, or is cancelled, leaves its target as it was; those before it are done.

    Raises:
        StartError: a target cannot be used, holds data already, or a server uses it.
        CodelabError: a row is refused, or what arrived is not what was sent.
    """
    claimed: set[object] = set()
    async with contextlib.AsyncExitStack() as stack:
        for job in jobs:
            await stack.enter_async_context(_target(job, claimed))
        for job in jobs:
            began = time.perf_counter()
            await _fill(job, progress)
            job.done, job.marked, job.seconds = True, False, time.perf_counter() - began


@contextlib.asynccontextmanager
async def _target(job: Job, claimed: set[object]) -> AsyncIterator[None]:
    """Mark a target, and take the mark and a file that we made away when the job does not come to its end."""
    path = job.url.path
    made = path is not None and not path.exists()
    database = Database(job.url, job.schema)
    try:
        await database.reach(WAIT)
        async with _alone(job, database, claimed):
            async with open_rows(job.url, writing=True) as rows, rows.transaction():
                await rows.call(_refuse, job)
                before = await rows.call(mark_of, job.schema)
                await rows.call(mark, job.schema, job.operation, job.remedy)
            job.marked = True
            try:
                yield
            except BaseException:
                if not job.done:
                    # A database that is away keeps the mark, and so is refused until the command was run again.
                    with contextlib.suppress(StartError):
                        async with open_rows(job.url, writing=True) as rows, rows.transaction():
                            job.done = await rows.call(_take_mark_away, job.schema, before)
                        job.marked = not job.done and before is not None
                raise
    finally:
        await database.stop()
        if made and not job.done and path is not None:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            job.marked = False


@contextlib.asynccontextmanager
async def _alone(job: Job, database: Database, claimed: set[object]) -> AsyncIterator[None]:
    """Keep servers away, which would write into the old data or show the new before it is whole."""
    key = (job.url.path or job.url.dsn, job.schema.module)
    if key in claimed:
        yield
        return
    claimed.add(key)
    claim = claim_of(job.url, job.schema.module, database.engine)
    await claim_or_refuse(claim, job.where, 0)
    try:
        yield
    finally:
        with contextlib.suppress(*FAILURES):
            await claim.release()


def _take_mark_away(connection: Connection, schema: ModuleSchema, before: tuple[str, str] | None) -> bool:
    """Put the mark of before in the place of ours; tell whether it was gone, since the rows had been committed."""
    if mark_of(connection, schema) is None:
        return True
    if before is None:
        unmark(connection, schema)
    else:
        mark(connection, schema, *before)
    return False


def _refuse(connection: Connection, job: Job) -> None:
    source = job.source
    if not known_revision(job.schema, source.revision):
        raise StartError(
            f"{job.schema.module}: the rows are of schema revision {source.revision}, which is unknown to this "
            "program, so a newer one made them. Install that version."
        )
    if {table.name for table in source.tables} != set(tables_at(job.schema, source.revision)):
        raise CodelabError(f"{job.schema.module}: the tables are not those of schema revision {source.revision}")
    if not job.replace and revision_of(connection, job.schema, job.where) is not None:
        raise StartError(
            f"{job.where}: it already has the tables of module {job.schema.module}. Name an empty database, or replace "
            "what is there with --replace."
        )


async def _fill(job: Job, progress: Progress) -> None:
    async with open_rows(job.url, writing=True) as rows:
        async with rows.transaction():
            await rows.call(_make_tables, job)
            described = {table.name: table for table in await rows.call(describe, [t.name for t in job.source.tables])}
            targets = [described[t.name].arranged([column.name for column in t.columns]) for t in job.source.tables]
            await rows.prepare(targets)
            for source, target in zip(job.source.tables, targets, strict=True):
                progress.begin(f"{job.schema.module}: {source.name}", job.source.counts.get(source.name))
                digest = job.digests[source.name] = TableDigest()
                async with (
                    contextlib.aclosing(ahead(job.source.read(source))) as batches,
                    contextlib.aclosing(_counted(batches, digest, progress)) as counted,
                ):
                    await rows.write(target, counted)
                if source.name in job.source.expected and digest != job.source.expected[source.name]:
                    raise CodelabError(f"{source.name}: the rows are not those that the manifest tells of")
            await rows.complete(targets)
            for target in targets:
                await _verify(rows, target, job, progress)
            await rows.call(_finish, job)
        await rows.settle(targets)


def _make_tables(connection: Connection, job: Job) -> None:
    if connection.dialect.name == "postgresql":
        # The lock of those who migrate at their start.
        lock = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
        connection.execute(lock, {"name": f"codelab.{job.schema.version_table}"})
    _refuse(connection, job)
    if (present := revision_of(connection, job.schema, job.where)) is not None:
        there = set(inspect(connection).get_table_names())
        gone = [name for name in (*tables_at(job.schema, present), job.schema.version_table) if name in there]
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"DROP TABLE {', '.join(map(quoted, gone))}"))
        else:
            for name in reversed(gone):
                connection.execute(text(f"DROP TABLE {quoted(name)}"))
    migrate_to(connection, job.schema, job.source.revision)
    # Rows that a migration wrote come again from the source.
    for name in reversed(tables_at(job.schema, job.source.revision)):
        connection.execute(text(f"DELETE FROM {quoted(name)}"))


async def _counted(batches: AsyncIterator[Batch], digest: TableDigest, progress: Progress) -> AsyncGenerator[Batch]:
    async for batch in batches:
        digest.add(batch.lines)
        yield batch
        progress.advance(len(batch.lines))


async def _verify(rows: Rows, table: Table, job: Job, progress: Progress) -> None:
    wanted = job.digests[table.name]
    progress.begin(f"{job.schema.module}: verify {table.name}", wanted.rows)
    found = TableDigest()
    async with contextlib.aclosing(ahead(rows.read(table))) as batches:
        async for batch in batches:
            found.add(batch.lines)
            progress.advance(len(batch.lines))
    if found != wanted:
        raise CodelabError(
            f"{table.name}: what was written is not what was read ({wanted.rows} rows sent, {found.rows} found, "
            f"digests {wanted.hex[:12]}… and {found.hex[:12]}…)"
        )


def _finish(connection: Connection, job: Job) -> None:
    migrate_to(connection, job.schema, "head")
    unmark(connection, job.schema)
