"""Making sessions over HTTP, beside a bare application that commits the same rows as durably."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.processes import codelab, load, post, program
from benchmarks.sides import compare, fresh_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresServer

__all__ = ("measure",)


async def measure(folder: Path, server: PostgresServer | None, rounds: int, seconds: float) -> list[tuple[str, float]]:
    """Ask with 16 connections from a process of its own."""
    async with codelab(folder / uuid4().hex, server) as http:
        with program("floor", "sessions", fresh_database(folder, server)) as floor:
            token = http.headers["Authorization"]

            async def ask(url: str, request: str, status: str) -> float:
                return (await load("load", url, request, "--status", status, "--seconds", str(seconds)))["rate"]

            url = str(http.base_url)
            return await compare(
                {
                    "floor: sessions by a bare application": lambda: ask(floor, post("/", {}), "201"),
                    "POST /api/v1/sessions, 16 connections": lambda: ask(
                        url, post("/api/v1/sessions", {}, token), "201"
                    ),
                    "GET /health, 16 connections": lambda: ask(
                        url, "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n", "200"
                    ),
                },
                rounds,
            )
