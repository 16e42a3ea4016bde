"""Import an installation of the reference system: the one place where its data meet both modules."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from codelab.agent import importing as agent
from codelab.auth import importing as auth
from codelab.db import Database, parse_url
from codelab.db.migrate import alembic_config, current_revision
from codelab.errors import StartError, Unavailable
from codelab.import_records import Tally
from codelab.key_file import open_key_file, read_key_file
from codelab.reference import Accounts, Conversations, open_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from joserfc.jwk import OctKey
    from sqlalchemy import Connection

    from codelab.db import ModuleSchema, Transaction
    from codelab.import_records import SessionRecord, TokenKey
    from codelab.installation import Installation, Store
    from codelab.reference import Source

__all__ = ("Outcome", "Progress", "import_reference")

T = TypeVar("T")


class Progress(Protocol):
    """Who is told how far the work is."""

    def begin(self, what: str, total: int | None) -> None:
        """Begin a step of so many rows."""
        ...

    def advance(self, rows: int) -> None:
        """Count rows that are done."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What was done, by module, and who owns the sessions."""

    auth: Tally
    agent: Tally
    owner: str


class _DryRunError(Exception):
    """Take back what a unit of work did."""


async def import_reference(
    installation: Installation,
    *,
    agent_url: str,
    auth_url: str,
    key: TokenKey | None,
    owner: str | None,
    dry_run: bool,
    progress: Progress,
) -> Outcome:
    """Import both databases of the reference, ``auth`` first, each in one transaction.

    ``key`` proves its refresh tokens, which are left out without it. ``owner`` is the name of the user who owns the
    sessions from now on. Safe to run again: what is there already is left as it is. A dry run takes everything back.

    Raises:
        StartError: a database cannot be used, a server serves the target, or nobody can be the owner.
        Unavailable: the target did not answer in the middle of the work.
    """
    async with contextlib.AsyncExitStack() as stack:
        people = await stack.enter_async_context(open_source("auth", auth_url))
        talks = await stack.enter_async_context(open_source("agent", agent_url))
        # The agent's database first: it is the one that a running server holds.
        agent_database, auth_database = [
            await stack.enter_async_context(_target(installation, name, dry_run=dry_run)) for name in ("agent", "auth")
        ]
        wrapping = None
        if not dry_run:
            # Made only for what it has to wrap: without it the server chains the audit trail at its first start.
            path = installation.settings.auth.key_encryption_key_file
            wrapping = open_key_file(path) if key else read_key_file(path)

        async def take_people(tx: Transaction) -> tuple[Tally, tuple[str, str]]:
            tally = await _take_people(tx, people, key, wrapping)
            return tally, await auth.find_owner(tx, owner)

        auth_tally, (owner_id, owner_name) = await _write(auth_database, take_people, dry_run=dry_run)
        agent_tally = await _write(
            agent_database, lambda tx: _take_talks(tx, talks, owner_id, progress), dry_run=dry_run
        )
        return Outcome(auth_tally, agent_tally, owner_name)


async def _take_people(tx: Transaction, source: Source, key: TokenKey | None, wrapping: OctKey | None) -> Tally:
    tally, accounts = Tally(), Accounts(source)
    await auth.import_accounts(
        tx,
        tally,
        users=await accounts.users(tally),
        clients=await accounts.clients(tally),
        tokens=await accounts.tokens(tally, wanted=key is not None),
        audit_logs=accounts.audit(tally),
        key=key,
        wrapping=wrapping,
    )
    return tally


async def _take_talks(tx: Transaction, source: Source, owner_id: str, progress: Progress) -> Tally:
    tally, conversations = Tally(), Conversations(source, agent.fits_session_id)
    await conversations.count(tally)
    (total,) = await source.rows("SELECT count(*) AS n FROM sessions")
    progress.begin("sessions", total["n"])

    async def counted() -> AsyncIterator[SessionRecord]:
        async for record in conversations.sessions(tally):
            yield record
            progress.advance(1)

    await agent.import_sessions(tx, counted(), tally, owner_id)
    return tally


async def _write(database: Database, unit: Callable[[Transaction], Awaitable[T]], *, dry_run: bool) -> T:
    outcome: list[T] = []

    async def run(tx: Transaction) -> None:
        outcome[:] = [await unit(tx)]
        if dry_run:
            raise _DryRunError

    try:
        await database.write_alone(run)
    except _DryRunError:
        pass
    except DBAPIError as error:
        raise Unavailable(
            f"{database.url.masked}: cannot be written ({type(error.orig).__name__}). Nothing of this module was kept; "
            "run the same command again."
        ) from None
    return outcome[0]


@contextlib.asynccontextmanager
async def _target(installation: Installation, name: str, *, dry_run: bool) -> AsyncIterator[Database]:
    """Open a database of this installation for writing, while no server serves it."""
    store = installation.stores[name]
    with contextlib.ExitStack() as stack:
        database = store.open()
        try:
            if not dry_run or await _is_current(store, database, installation.settings.server.db_wait):
                await database.reach(installation.settings.server.db_wait)
            else:
                # A dry run makes no tables: what an empty database would become is found out in another one.
                await database.stop()
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codelab-dry-run-")))
                scratch = parse_url(f"sqlite:///{folder}/{name}.db", store.storage.schema.variable)
                database = Database(scratch, store.storage.schema)
            await database.start(0, alone=name == "agent")
            yield database
        finally:
            await database.stop()


async def _is_current(store: Store, database: Database, wait: float) -> bool:
    """Tell whether a database has the tables of this version; False when it has none at all.

    Raises:
        StartError: it has those of another version.
    """
    path = store.url.path
    if path is not None and (not path.exists() or path.stat().st_size == 0):
        return False
    await database.reach(wait)
    async with database.engine.connect() as connection:
        current, head = await connection.run_sync(_revisions, store.storage.schema)
    if current is not None and current != head:
        raise StartError(f"{store.url.masked}: its schema is {current}, not {head}; run `codelab db upgrade` first.")
    return current is not None


def _revisions(connection: Connection, schema: ModuleSchema) -> tuple[str | None, str | None]:
    script = ScriptDirectory.from_config(alembic_config(schema, connection))
    return current_revision(connection, schema), script.get_current_head()
