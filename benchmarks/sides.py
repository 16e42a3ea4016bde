"""How every benchmark measures: all sides in turn, several rounds, medians."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.support.databases import PostgresServer

__all__ = ("compare", "fresh_database", "rate")


def fresh_database(folder: Path, server: PostgresServer | None) -> str:
    """Make an empty database and return its URL."""
    return server.create() if server else f"sqlite:///{folder}/{uuid4().hex}.db"


async def rate(operation: Callable[[], Awaitable[object]], workers: int, seconds: float) -> float:
    """Return how many operations a second ``workers`` of them get done."""
    done = 0
    end = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await operation()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    return done / (time.perf_counter() - began)


async def compare(sides: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> list[tuple[str, float]]:
    """Measure all sides in turn, several times, and return the medians; the first is the floor."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            measured[name].append(await side())
    return [(name, statistics.median(rates)) for name, rates in measured.items()]
