"""Making sessions over HTTP beside a handler that makes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.sides import compare, fresh_database, rate
from tests.support.databases import DatabaseUrls
from tests.support.server import make_settings, serving

if TYPE_CHECKING:
    from tests.support.databases import PostgresServer

__all__ = ("measure",)


async def measure(folder: Path, server: PostgresServer | None, rounds: int, seconds: float) -> list[tuple[str, float]]:
    """Ask with 16 connections; client and server share one process, so the ratio counts and not the rates."""
    urls = DatabaseUrls(agent=fresh_database(folder, server), auth=fresh_database(folder, server))
    with tempfile.TemporaryDirectory() as keys:
        async with serving(make_settings(urls, Path(keys))) as running:
            ada = await running.person()
            headers = {"Authorization": ada.http.headers["Authorization"]}
            async with aiohttp.ClientSession(running.url, headers=headers) as http:

                async def ask(method: str, path: str, status: int) -> None:
                    body: dict[str, str] | None = {} if method == "POST" else None
                    async with http.request(method, path, json=body) as answer:
                        await answer.read()
                        assert answer.status == status

                return await compare(
                    {
                        "GET /health, 16 connections": lambda: rate(lambda: ask("GET", "/health", 200), 16, seconds),
                        "POST /api/v1/sessions, 16 connections": lambda: rate(
                            lambda: ask("POST", "/api/v1/sessions", 201), 16, seconds
                        ),
                    },
                    rounds,
                )
