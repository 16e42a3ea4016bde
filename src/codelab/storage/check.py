"""Prove that a module's data is whole, and mend what can be mended without a guess.

First what every database has (pages, references, indexes, schema), then the rules that the module itself names. All of
it reads one snapshot, so it is right beside a running server; mending needs the database for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import and_, delete, func, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from codelab.db.engine import create_engine, create_reader, writing
from codelab.db.faults import FAILURES, reason
from codelab.db.migrate import current_revision, find_drift, refuse_foreign, refuse_newer, revisions
from codelab.db.serving import hold_alone
from codelab.db.unfinished import refuse_unfinished
from codelab.errors import StartError
from codelab.storage.module import Finding

if TYPE_CHECKING:
    from sqlalchemy import Connection, ForeignKeyConstraint, Table
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.elements import ColumnElement

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl
    from codelab.storage.module import ModuleStorage

__all__ = ("Checked", "check", "mend")

#: Rows that one finding names at most.
NAMED = 10


class Checked(msgspec.Struct, kw_only=True):
    """What a check of one module found, and what was mended before."""

    module: str
    url: str
    findings: list[Finding]
    mended: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether there is no fault."""
        return not any(finding.severity == "fault" for finding in self.findings)


async def check(url: DatabaseUrl, storage: ModuleStorage) -> Checked:
    """Check one module's data; nothing is changed.

    Raises:
        StartError: the database cannot be reached.
    """
    schema = storage.schema
    checked = Checked(module=schema.module, url=url.masked, findings=[])
    if url.path is not None and not url.path.exists():
        raise StartError(f"{url.variable} ({url.masked}): there is no file {url.path}.")
    engine = create_reader(url, f"codelab.{schema.module}.check")
    try:
        async with engine.connect() as connection:
            checked.findings += await _check_database(connection, schema)
            findings = await connection.run_sync(_check_schema, schema)
            checked.findings += findings
            if any(finding.severity == "fault" for finding in findings):
                skipped = "the rules of the module were not checked: its schema is not as this program needs it"
                checked.findings.append(Finding(check="schema", severity="note", detail=skipped))
                return checked
            checked.findings += await connection.run_sync(_find_orphans, schema)
            for rule in storage.checks:
                checked.findings += await rule.find(connection)
    except FAILURES as error:
        if not checked.findings and not _is_damage(error):
            raise StartError(f"{url.variable} ({url.masked}): cannot be read: {reason(error)}.") from None
        checked.findings.append(Finding(check="integrity", severity="fault", detail=f"reading ended: {reason(error)}"))
    finally:
        await engine.dispose()
    return checked


def _is_damage(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and any(word in str(error.orig) for word in ("malformed", "not a database"))


async def _check_database(connection: AsyncConnection, schema: ModuleSchema) -> list[Finding]:
    if connection.dialect.name == "postgresql":
        return await _check_indexes(connection, schema)
    said = list((await connection.exec_driver_sql("PRAGMA integrity_check")).scalars())
    found = [Finding(check="integrity", severity="fault", detail=line) for line in said if line != "ok"]
    for name in schema.metadata.tables:
        broken = (await connection.exec_driver_sql(f"PRAGMA foreign_key_check({name})")).fetchall()
        if broken:
            rows = tuple(f"{name} rowid {row.rowid}" for row in broken[:NAMED])
            detail = f"{len(broken)} rows of {name} refer to rows that are not there (foreign_key_check)"
            # The orphans among them are found once more, with their keys, and mended there.
            found.append(Finding(check="foreign_keys", severity="fault", detail=detail, rows=rows))
    return found


async def _check_indexes(connection: AsyncConnection, schema: ModuleSchema) -> list[Finding]:
    """Check every B-tree of the module's tables with amcheck, where the extension is installed."""
    if (await connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'"))).first() is None:
        detail = "indexes were not checked: the extension amcheck is not installed (CREATE EXTENSION amcheck)"
        return [Finding(check="amcheck", severity="note", detail=detail)]
    query = text(
        "SELECT i.indexrelid::bigint, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND i.indisvalid"
        " AND i.indrelid IN (SELECT to_regclass(quote_ident(n)) FROM unnest(CAST(:names AS text[])) n) ORDER BY 2"
    )
    found: list[Finding] = []
    for key, name in (await connection.execute(query, {"names": list(schema.metadata.tables)})).all():
        try:
            async with connection.begin_nested():
                await connection.execute(text("SELECT bt_index_check(CAST(:key AS oid), true)"), {"key": key})
        except DBAPIError as error:
            refused = "permission denied" in reason(error)
            detail = f"index {name}: {reason(error)}"
            found.append(Finding(check="amcheck", severity="note" if refused else "fault", detail=detail))
            if refused:
                break
    return found


def _check_schema(connection: Connection, schema: ModuleSchema) -> list[Finding]:
    present = set(inspect(connection).get_table_names())
    current = current_revision(connection, schema)
    head = revisions(schema)[-1].id
    try:
        refuse_unfinished(connection, schema, schema.variable)
        refuse_foreign(present, schema, schema.variable)
        refuse_newer(current, schema, schema.variable)
    except StartError as error:
        detail = str(error).removeprefix(f"{schema.variable}: ")
        return [Finding(check="schema", severity="fault", detail=detail)]
    if current != head:
        detail = f"it is at revision {current or 'none'}, and {head} is needed; run codelab db upgrade"
        return [Finding(check="schema", severity="fault", detail=detail)]
    if drift := find_drift(connection, schema):
        return [Finding(check="schema", severity="fault", detail=f"not as the migrations made it: {d}") for d in drift]
    return []


def _references(schema: ModuleSchema) -> list[tuple[Table, ForeignKeyConstraint]]:
    return [(table, key) for table in schema.metadata.sorted_tables for key in table.foreign_key_constraints]


def _is_orphan(table: Table, key: ForeignKeyConstraint) -> ColumnElement[bool]:
    """The condition that a row refers to a parent that is not there."""
    parent = key.referred_table.alias("parent")
    pairs = [(element.parent, parent.c[element.column.name]) for element in key.elements]
    there = select(1).select_from(parent).where(*(child == column for child, column in pairs)).exists()
    return and_(*(table.c[child.name].is_not(None) for child, _ in pairs), ~there)


def _find_orphans(connection: Connection, schema: ModuleSchema) -> list[Finding]:
    found: list[Finding] = []
    for table, key in _references(schema):
        condition = _is_orphan(table, key)
        count = connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
        if not count:
            continue
        keys = connection.execute(select(*table.primary_key.columns).where(condition).limit(NAMED)).all()
        rows = tuple(f"{table.name} {'/'.join(map(str, row))}" for row in keys)
        detail = f"{count} rows of {table.name} belong to a row of {key.referred_table.name} that is not there"
        found.append(Finding(check="orphans", severity="fault", detail=detail, rows=rows, repairable=True))
    return found


def _mend_orphans(connection: Connection, schema: ModuleSchema) -> list[str]:
    """Do what the database does when a parent goes: nothing leads to these rows any more."""
    did: list[str] = []
    for table, key in _references(schema):
        condition = _is_orphan(table, key)
        if key.ondelete == "CASCADE":
            changed = connection.execute(delete(table).where(condition)).rowcount
            sentence = f"removed {changed} rows of {table.name} whose {key.referred_table.name} is not there"
        elif key.ondelete == "SET NULL":
            nothing = {column.name: None for column in key.columns}
            changed = connection.execute(update(table).where(condition).values(nothing)).rowcount
            sentence = f"emptied the reference of {changed} rows of {table.name} to {key.referred_table.name}"
        else:
            continue
        if changed:
            did.append(sentence)
    return did


async def mend(url: DatabaseUrl, storage: ModuleStorage) -> list[str]:
    """Mend what is safe, in one transaction, with the database for itself; return a sentence for each thing done.

    Raises:
        StartError: a server uses the database, or it cannot be reached.
    """
    schema = storage.schema
    did: list[str] = []
    async with hold_alone(url, schema.module, "a repair"):
        engine = create_engine(url, f"codelab.{schema.module}.repair", migrating=True)
        try:
            async with writing(engine).begin() as connection:
                did += await connection.run_sync(_mend_orphans, schema)
                for rule in storage.checks:
                    if rule.repair is not None:
                        did += await rule.repair(connection)
        except FAILURES as error:
            raise StartError(f"{url.variable} ({url.masked}): cannot be repaired: {reason(error)}.") from None
        finally:
            await engine.dispose()
    return did
