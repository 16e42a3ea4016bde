"""PostgreSQL's own programs ``pg_dump``, ``pg_restore`` and ``psql``, for the tables of one module.

The password reaches them in the environment, never in an argument, where every user of the machine could read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from sqlalchemy import inspect, text

from codelab.db.engine import create_reader
from codelab.db.migrate import current_revision, refuse_foreign
from codelab.db.unfinished import refuse_unfinished
from codelab.errors import CodelabError, StartError
from codelab.storage.layout import tables_at
from codelab.storage.values import quoted

if TYPE_CHECKING:
    from asyncio import StreamWriter
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from codelab.db.schema import ModuleSchema
    from codelab.db.urls import DatabaseUrl

__all__ = ("dump", "programs_fit", "prove_dump", "restore_dump")

CHUNK = 1 << 20


async def programs_fit(url: DatabaseUrl) -> str | None:
    """Say why PostgreSQL's programs cannot be used for a database; None when they can.

    Raises:
        SQLAlchemy's and the driver's errors when the database cannot be reached.
    """
    if missing := [name for name in ("pg_dump", "pg_restore", "psql") if shutil.which(name) is None]:
        return f"{missing[0]} is not on PATH"
    if any(name == "sslpassword" for name, _ in parse_qsl(urlsplit(url.dsn).query)):
        return "sslpassword cannot be given to pg_dump in secret"
    process = await asyncio.create_subprocess_exec("pg_dump", "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    told, _ = await process.communicate()
    found = re.search(rb"\) (\d+)", told)
    ours = int(found[1]) if found else 0
    engine = create_reader(url, "codelab.backup")
    try:
        async with engine.connect() as connection:
            server = int((await connection.execute(text("SHOW server_version_num"))).scalar_one()) // 10_000
    finally:
        await engine.dispose()
    return None if ours >= server else f"pg_dump {ours} is older than the server, which is PostgreSQL {server}"


async def dump(url: DatabaseUrl, schema: ModuleSchema, file: Path) -> tuple[str, dict[str, int]]:
    """Write the module's tables to a file, from one snapshot; return the revision and the rows of each table in it.

    Raises:
        StartError: the database has no tables of the module, or was left half filled.
        CodelabError: ``pg_dump`` failed.
    """
    engine = create_reader(url, f"codelab.{schema.module}.backup")
    try:
        async with engine.connect() as connection:
            snapshot = (await connection.execute(text("SELECT pg_export_snapshot()"))).scalar_one()
            revision, tables = await connection.run_sync(_look, url, schema)
            counts = await _count(connection, sorted(tables))
            names = await connection.run_sync(_full_names, [*tables, schema.version_table])
            dsn, environ = _secretly(url)
            await _run(
                "pg_dump",
                "--format=custom",
                "--no-owner",
                "--no-privileges",
                "--no-password",
                f"--snapshot={snapshot}",
                f"--file={file}",
                *(f"--table={name}" for name in names),
                f"--dbname={dsn}",
                environ=environ,
            )
    finally:
        await engine.dispose()
    return revision, counts


def _look(connection: Connection, url: DatabaseUrl, schema: ModuleSchema) -> tuple[str, tuple[str, ...]]:
    where = f"{url.variable} ({url.masked})"
    refuse_unfinished(connection, schema, where)
    refuse_foreign(set(inspect(connection).get_table_names()), schema, where)
    revision = current_revision(connection, schema)
    if revision is None:
        raise StartError(f"{where}: it has no tables of module {schema.module}.")
    return revision, tables_at(schema, revision)


async def _count(connection: AsyncConnection, tables: Sequence[str]) -> dict[str, int]:
    count = "SELECT count(*) FROM {}"
    return {name: (await connection.execute(text(count.format(quoted(name))))).scalar_one() for name in tables}


def _full_names(connection: Connection, tables: Sequence[str]) -> list[str]:
    query = text(
        "SELECT quote_ident(s.nspname) || '.' || quote_ident(c.relname) FROM unnest(CAST(:names AS text[])) n"
        " JOIN pg_class c ON c.oid = to_regclass(quote_ident(n)) JOIN pg_namespace s ON s.oid = c.relnamespace"
    )
    return list(connection.execute(query, {"names": list(tables)}).scalars())


async def prove_dump(file: Path, tables: Sequence[str]) -> None:
    """Read all of a dump, and look for the rows of each table in its contents.

    Raises:
        CodelabError: it is not whole.
    """
    await _run("pg_restore", f"--file={os.devnull}", str(file))
    listed = await _run("pg_restore", "--list", str(file))
    there = {match[1] for match in re.finditer(r"TABLE DATA \S+ (\S+) ", listed)}
    if missing := sorted(set(tables) - there):
        raise CodelabError(f"{file}: the rows of {missing[0]} are not in it")


async def restore_dump(url: DatabaseUrl, schema: ModuleSchema, file: Path, counts: dict[str, int]) -> None:
    """Put the module's tables of a dump in the place of those that are there, in one transaction.

    The rows are counted in it too, so the old tables are there until the new ones are proven.

    Raises:
        CodelabError: it did not work; nothing was changed.
    """
    engine = create_reader(url, f"codelab.{schema.module}.restore")
    try:
        async with engine.connect() as connection:
            names = [*{*schema.metadata.tables, *counts}, schema.version_table, schema.unfinished_table]
            old = await connection.run_sync(_full_names, names)
    finally:
        await engine.dispose()
    dsn, environ = _secretly(url)
    psql = (
        "psql",
        "--no-psqlrc",
        "--quiet",
        f"--output={os.devnull}",
        "--no-password",
        "--set=ON_ERROR_STOP=1",
        f"--dbname={dsn}",
    )
    async with _started(*psql, environ=environ, stdin=PIPE) as target:
        assert target.stdin is not None
        try:
            target.stdin.write(_head(schema, old).encode())
            await _feed(file, target.stdin)
            # Without this COMMIT, whatever ends here, PostgreSQL takes everything back.
            target.stdin.write(_tail(counts).encode())
            await target.stdin.drain()
            target.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # psql stopped at an error, and says which
        if await target.wait():
            raise CodelabError(f"{url.variable} ({url.masked}): psql: {await _said(target)}; nothing was changed")


async def _feed(file: Path, into: StreamWriter) -> None:
    command = ("pg_restore", "--no-owner", "--no-privileges", "--file=-", str(file))
    async with _started(*command) as source:
        assert source.stdout is not None
        begin = b""
        while b"SET search_path" not in begin and b"set_config('search_path'" not in begin:
            chunk = await source.stdout.read(CHUNK)
            if not chunk:
                break
            begin += chunk
        # A newer pg_dump says it to older servers too, which do not know it.
        into.write(begin.replace(b"SET transaction_timeout = 0;\n", b"", 1))
        while chunk := await source.stdout.read(CHUNK):
            into.write(chunk)
            await into.drain()
        if await source.wait():
            raise CodelabError(f"{file}: pg_restore: {await _said(source)}; nothing was changed")


def _head(schema: ModuleSchema, old: Sequence[str]) -> str:
    lock = f"SELECT pg_advisory_xact_lock(hashtext('codelab.{schema.version_table}'));\n"
    return "BEGIN;\n" + lock + (f"DROP TABLE {', '.join(old)};\n" if old else "")


def _tail(counts: dict[str, int]) -> str:
    checks = ""
    for name, rows in counts.items():
        told = name.replace("'", "").replace("%", "")
        checks += f"IF (SELECT count(*) FROM {quoted(name)}) <> {rows} "
        checks += f"THEN RAISE 'the rows of {told} are not all there'; END IF;\n"
    # The dump empties the search path.
    return f"\nRESET search_path;\nDO $check$ BEGIN\n{checks}END $check$;\nCOMMIT;\n"


def _secretly(url: DatabaseUrl) -> tuple[str, dict[str, str]]:
    """Return the DSN without its password, and the environment that holds it."""
    parts = urlsplit(url.dsn)
    options = parse_qsl(parts.query, keep_blank_values=True)
    user, _, place = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    password = dict(options).get("password") or unquote(password)
    environ = {"PGCONNECT_TIMEOUT": f"{url.connect_timeout:.0f}"}
    if password:
        environ["PGPASSWORD"] = password
    query = urlencode([pair for pair in options if pair[0] != "password"], quote_via=quote)
    return parts._replace(netloc=f"{name}@{place}" if name else place, query=query).geturl(), environ


@contextlib.asynccontextmanager
async def _started(
    *command: str, stdin: int = DEVNULL, environ: dict[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run a program, which is ended when we do not come to its end."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=stdin, stdout=PIPE, stderr=PIPE, env=_environment(environ)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _run(*command: str, environ: dict[str, str] | None = None) -> str:
    async with _started(*command, environ=environ) as process:
        out, err = await process.communicate()
        if process.returncode:
            raise CodelabError(f"{command[0]}: {_line(err)}")
    return out.decode(errors="replace")


async def _said(process: Process) -> str:
    return _line(await process.stderr.read() if process.stderr else b"")


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(more or {})}


def _line(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return (lines[0] if lines else "it ended without a word").rstrip(".")
