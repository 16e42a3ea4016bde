"""The floors of the grants: ``python -m benchmarks.auth_floor sign|rotate [DATABASE]`` serves one, prints its address.

``sign`` is a bare Litestar handler that parses the form and signs an access token. ``rotate`` is a bare program that
uses up a refresh token and keeps its successor, each in a durable transaction of raw sqlite3, and signs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey
from litestar import Litestar, Request, post

from benchmarks.floor import Receive, Send, serve

__all__ = ("Rotation", "sign")

KEY = ECKey.generate_key("P-256")
TABLE = "CREATE TABLE tokens (hash TEXT PRIMARY KEY, family TEXT NOT NULL, used REAL, created REAL NOT NULL)"
USE = "UPDATE tokens SET used = ? WHERE hash = ? AND used IS NULL RETURNING family"
KEEP = "INSERT INTO tokens (hash, family, created) VALUES (?, ?, ?)"


@post("/oauth/token", status_code=200)
async def sign(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Answer with a token for whoever asks."""
    form = parse_qs((await request.body()).decode(), strict_parsing=True)
    at, client = int(time.time()), form["client_id"][0]
    claims = {"iss": "http://127.0.0.1", "sub": client, "aud": "api", "exp": at + 900, "iat": at, "nbf": at}
    claims |= {"jti": str(uuid4()), "client_id": client, "scope": form["scope"][0], "type": "access"}
    token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "k"}, claims, KEY, algorithms=["ES256"])
    return {"access_token": token, "token_type": "bearer", "expires_in": 900, "scope": form["scope"][0]}


class Rotation:
    """``POST`` with a ``refresh_token`` gives the next one; the first of a family is any that begins with ``new``."""

    def __init__(self, path: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", TABLE):
            self._connection.execute(statement)

    async def __call__(self, _scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        shown = parse_qs(body.decode())["refresh_token"][0]
        answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._rotate, shown)
        status = 200 if answer else 400
        text = msgspec.json.encode({"refresh_token": answer})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    def _rotate(self, shown: str) -> str | None:
        run, at, successor = self._connection.execute, time.time(), secrets.token_urlsafe(32)
        run("BEGIN IMMEDIATE")
        found = [("new",)] if shown.startswith("new") else run(USE, (at, _hash(shown))).fetchall()
        if found:
            run(KEEP, (_hash(successor), found[0][0], at))
        run("COMMIT")
        return successor if found else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def main(kind: str, path: str = "") -> None:
    """Serve the floor of one measurement."""
    serve(Litestar([sign], openapi_config=None, logging_config=None) if kind == "sign" else Rotation(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
