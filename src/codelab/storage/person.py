"""One person's or one session's data, selected for an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from codelab.errors import CodelabError
from codelab.storage.snapshot import open_snapshot
from codelab.storage.subset import equals, owned, with_parents
from codelab.storage.values import quoted

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from codelab.db.urls import DatabaseUrl
    from codelab.storage.module import ModuleStorage
    from codelab.storage.snapshot import Snapshot

__all__ = ("find_person", "person_roots", "select_rows")


async def find_person(url: DatabaseUrl, storage: ModuleStorage, name: str) -> str:
    """Return the id of the person with a name, from the module that knows people.

    Raises:
        CodelabError: nobody has that name.
    """
    assert storage.person_name is not None
    table, column = storage.person_name
    (key,) = (root.column for root in storage.person_roots if root.table == table)
    async with open_snapshot(url, storage.schema) as snapshot:
        found = await snapshot.rows.call(_find, table, column, key, name)
    if found is None:
        raise CodelabError(f"nobody has the user name {name!r}")
    return found


def _find(connection: Connection, table: str, column: str, key: str, name: str) -> str | None:
    statement = text(f"SELECT {quoted(key)} FROM {quoted(table)} WHERE {quoted(column)} = :name")
    found = connection.execute(statement, {"name": name}).scalar_one_or_none()
    return None if found is None else str(found)


async def select_rows(snapshot: Snapshot, storage: ModuleStorage, *, person: str | None, session: str | None) -> None:
    """Let a snapshot give the rows of one person (their id), of one session (its public id), or of one of theirs.

    Raises:
        CodelabError: there is no such session, or several people have one with this id.
    """
    trail = storage.trail.table if storage.trail is not None else None
    names = [table.name for table in snapshot.tables if table.name != trail]

    def select(connection: Connection) -> dict[str, str]:
        roots = person_roots(storage, person) if person is not None else {}
        if session is not None:
            roots = _session(connection, storage, roots, session)
        return with_parents(connection, names, owned(connection, names, roots))

    snapshot.conditions = await snapshot.rows.call(select)


def person_roots(storage: ModuleStorage, person: str) -> dict[str, str]:
    """Give the condition in SQL for the rows in which a person's data begins, by table."""
    return {root.table: equals(root.column, person) for root in storage.person_roots}


def _session(connection: Connection, storage: ModuleStorage, roots: dict[str, str], session: str) -> dict[str, str]:
    if storage.session_root is None:
        return {}
    table, column = storage.session_root
    condition = equals(column, session)
    if table in roots:
        condition = f"{condition} AND {roots[table]}"
    elif owner := next((root.column for root in storage.person_roots if root.table == table), None):
        query = f"SELECT count(DISTINCT {quoted(owner)}) FROM {quoted(table)} WHERE {condition}"
        if connection.exec_driver_sql(query).scalar_one() > 1:
            raise CodelabError(f"several people have a session {session!r}; say whose with --user")
    if not connection.exec_driver_sql(f"SELECT count(*) FROM {quoted(table)} WHERE {condition}").scalar_one():
        raise CodelabError(f"there is no session {session!r}")
    return {table: condition}
