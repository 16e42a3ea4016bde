"""The floors: bare ASGI applications under the same uvicorn that commit the same rows with the same durability.

``python -m benchmarks.floor sessions|relay URL`` listens on a free port and prints it. No framework, no
validation, no ownership, no log: what is left is what the machine, uvicorn and the database cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import aiohttp
import asyncpg
import msgspec
import uvicorn
from uuid_utils import uuid7

__all__ = ("SqliteGroup", "serve")

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

TABLES = (
    """CREATE TABLE IF NOT EXISTS sessions (db_id INTEGER PRIMARY KEY, id TEXT NOT NULL, owner_id TEXT NOT NULL,
    title TEXT, created_at TEXT NOT NULL, metadata TEXT NOT NULL, UNIQUE (owner_id, id))""",
    "CREATE TABLE IF NOT EXISTS contexts (id TEXT PRIMARY KEY, session_db_id INTEGER NOT NULL, agent TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS counters (owner_id TEXT PRIMARY KEY, live INTEGER NOT NULL)",
)
SESSION = "INSERT INTO sessions (id, owner_id, created_at, metadata) VALUES (?, ?, ?, '{}') RETURNING db_id"
CONTEXT = "INSERT INTO contexts (id, session_db_id, agent) VALUES (?, ?, 'orchestrator')"
COUNT = "INSERT INTO counters VALUES (?, 1) ON CONFLICT (owner_id) DO UPDATE SET live = counters.live + 1"


class SqliteGroup:
    """Commit all sessions that wait in one transaction, in one thread."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        for table in TABLES:
            self._connection.execute(table)

    async def commit(self, ids: list[str]) -> None:
        """Insert sessions with these ids."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, ids)

    def _write(self, ids: list[str]) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        at = datetime.now(UTC).isoformat()
        for session_id in ids:
            (db_id,) = run(SESSION, (session_id, "ada", at)).fetchone()
            run(CONTEXT, (str(uuid7()), db_id))
            run(COUNT, ("ada",))
        run("COMMIT")


class PostgresGroup:
    """The same on PostgreSQL, on one connection."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None

    async def commit(self, ids: list[str]) -> None:
        """Insert sessions with these ids."""
        if self._connection is None:
            self._connection = await asyncpg.connect(self._dsn)
            for table in TABLES:
                await self._connection.execute(table.replace("INTEGER PRIMARY KEY", "BIGSERIAL PRIMARY KEY"))
        at = datetime.now(UTC).isoformat()
        async with self._connection.transaction():
            for session_id in ids:
                db_id = await self._connection.fetchval(_numbered(SESSION), session_id, "ada", at)
                await self._connection.execute(_numbered(CONTEXT), str(uuid7()), db_id)
                await self._connection.execute(_numbered(COUNT), "ada")


def _numbered(statement: str) -> str:
    parts = statement.split("?")
    return "".join(part + (f"${number}" if number < len(parts) else "") for number, part in enumerate(parts, 1))


class Sessions:
    """``POST /`` makes a session and answers when it is committed."""

    def __init__(self, group: SqliteGroup | PostgresGroup) -> None:
        self._group = group
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, _scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        while (await receive()).get("more_body"):
            pass
        session_id = str(uuid7())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((session_id, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        await future
        body = msgspec.json.encode({"id": session_id, "created_at": time.time()})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._group.commit([session_id for session_id, _ in batch])
            for _, future in batch:
                future.set_result(None)


class Relay:
    """``POST /`` asks the model and passes each of its chunks on, one by one; nothing is kept."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._http: aiohttp.ClientSession | None = None

    async def __call__(self, _scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout())
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with self._http.post(self._model, data=body) as answer:
            async for line in answer.content:
                if line != b"\n":
                    await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def serve(app: Any) -> None:
    """Serve an application on a free port and print the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener, contextlib.suppress(KeyboardInterrupt):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listener])


def main(kind: str, url: str) -> None:
    """Serve the floor of one measurement; the URL is that of a database, or of a model."""
    if kind == "relay":
        serve(Relay(url))
        return
    group = SqliteGroup(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else PostgresGroup(url)
    serve(Sessions(group))


if __name__ == "__main__":
    main(*sys.argv[1:])
