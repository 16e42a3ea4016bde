"""Making sessions over HTTP, beside a bare application that commits the same rows as durably."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.processes import codelab, get, load, post, program
from benchmarks.sides import Row, compare, fresh_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresServer

__all__ = ("measure",)


CREATE = "POST /api/v1/sessions, 16 connections"


async def measure(folder: Path, server: PostgresServer | None, rounds: int, seconds: float) -> list[Row]:
    """Ask with 16 connections from a process of its own."""
    async with codelab(folder / uuid4().hex, server) as side:
        with program("floor", "sessions", fresh_database(folder, server)) as floor:
            token, url = side.token, side.url

            async def ask(url: str, request: str, status: str) -> float:
                return (await load("load", url, request, "--status", status, "--seconds", str(seconds)))["rate"]

            return await compare(
                {
                    "floor: sessions by a bare application": lambda: ask(floor, post("/", {}), "201"),
                    CREATE: lambda: ask(url, post("/api/v1/sessions", {}, token), "201"),
                    "GET /health, 16 connections": lambda: ask(url, get("/health"), "200"),
                },
                rounds,
                goals={CREATE: 0.30},
            )
