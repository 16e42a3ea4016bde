"""Run the benchmarks: ``python3 dev.py bench [SUITE …] [--rounds N] [--seconds S] [--messages N]``."""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from pathlib import Path

from benchmarks import auth, idle, reading, sessions, storage, streams, writer
from benchmarks.sides import make_durable
from tests.support.databases import postgres_server

#: Measured on each database; ``storage`` moves a whole database between both, once.
_SUITES = {"writer": writer, "sessions": sessions, "streams": streams, "reading": reading, "idle": idle, "auth": auth}


def main() -> None:
    """Run what was named and print one table."""
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"{', '.join(_SUITES)} (all of them by default), storage"
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the medians count (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    parser.add_argument("--messages", type=int, default=100_000, help="what storage moves (default 100,000)")
    arguments = parser.parse_args()
    suites = arguments.suites or list(_SUITES)
    if unknown := set(suites) - {*_SUITES, "storage"}:
        parser.error(f"there is no suite {unknown.pop()!r}")
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds of {arguments.seconds} s"
    )
    print(f"{'database':11} {'what':58} {'measured':>18} {'beside':>9} {'ratio':>6}  goal")
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as server:
        asyncio.run(make_durable(server.url))
        for bench in (_SUITES[suite] for suite in suites if suite in _SUITES):
            for name, make in {"SQLite": None, "PostgreSQL": server}.items():
                for row in asyncio.run(bench.measure(Path(folder), make, arguments.rounds, arguments.seconds)):
                    print(f"{name:11} {row}", flush=True)
        if "storage" in suites:
            for line in storage.measure(Path(folder), server, arguments.messages):
                print(line, flush=True)


main()
