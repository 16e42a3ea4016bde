"""How every benchmark measures: all sides in turn, several rounds, medians."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from codelab.db import parse_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.support.databases import PostgresServer

__all__ = ("Row", "compare", "fresh_database", "make_durable", "rate", "rounds_of")


@dataclass(frozen=True)
class Row:
    """One measurement, with that of the floor in the same run, and the goal where there is one.

    ``at_least`` is a goal for the ratio to the floor, ``below`` and ``above`` are goals for the value itself.
    """

    what: str
    value: float
    unit: str
    floor: float | None = None
    at_least: float | None = None
    below: float | None = None
    above: float | None = None

    @property
    def goal(self) -> str:
        """Say the goal and whether it was met."""
        ratio = self.value / self.floor if self.floor else 0.0
        if self.at_least is not None:
            return f">= {self.at_least:.2f} {'met' if ratio >= self.at_least else 'MISSED'}"
        if self.below is not None:
            return f"< {self.below:g} {self.unit} {'met' if self.value < self.below else 'MISSED'}"
        if self.above is not None:
            return f">= {self.above:g} {self.unit} {'met' if self.value >= self.above else 'MISSED'}"
        return ""

    def __str__(self) -> str:
        shown = f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.3g}"
        floor = "" if self.floor is None else f"{self.floor:,.0f}" if self.floor >= 100 else f"{self.floor:.3g}"
        ratio = f"{self.value / self.floor:.2f}" if self.floor else ""
        return f"{self.what:58} {shown:>9} {self.unit:8} {floor:>9} {ratio:>6}  {self.goal}"


def fresh_database(folder: Path, server: PostgresServer | None) -> str:
    """Make an empty database and return its URL."""
    return server.create() if server else f"sqlite:///{folder}/{uuid4().hex}.db"


async def make_durable(url: str) -> None:
    """Let a server that belongs to the tests write to the disk as one that people use."""
    connection = await asyncpg.connect(parse_url(url, "bare").dsn)
    try:
        if await connection.fetchval("SHOW fsync") == "off":
            for option in ("fsync", "full_page_writes", "synchronous_commit"):
                await connection.execute(f"ALTER SYSTEM SET {option} = on")
            await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


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


async def rounds_of(
    sides: Mapping[str, Callable[[], Awaitable[Mapping[str, float]]]], rounds: int
) -> dict[str, dict[str, float]]:
    """Measure several things on all sides in turn, several times, and return the medians by side and thing."""
    measured: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            measured[name].append(await side())
    return {
        name: {thing: statistics.median(one[thing] for one in results) for thing in results[0]}
        for name, results in measured.items()
    }


async def compare(
    sides: Mapping[str, Callable[[], Awaitable[float]]], rounds: int, *, goals: Mapping[str, float] | None = None
) -> list[Row]:
    """Measure rates of all sides in turn, several times, and return the medians; the first side is the floor."""

    def one(side: Callable[[], Awaitable[float]]) -> Callable[[], Awaitable[dict[str, float]]]:
        async def measure() -> dict[str, float]:
            return {"rate": await side()}

        return measure

    medians = await rounds_of({name: one(side) for name, side in sides.items()}, rounds)
    floor = next(iter(medians.values()))["rate"]
    return [Row(name, of["rate"], "/s", floor, at_least=(goals or {}).get(name)) for name, of in medians.items()]
