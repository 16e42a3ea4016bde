"""Run the benchmarks: ``python3 dev.py bench [SUITE …] [--rounds N] [--seconds S] [--messages N]``."""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from pathlib import Path

from benchmarks import sessions, storage, streams, writer
from tests.support.databases import postgres_server

#: Measured in rounds, by rates; ``storage`` moves a whole database once.
_ROUNDS = {"writer": writer, "sessions": sessions, "streams": streams}


def main() -> None:
    """Run what was named and print one table."""
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description=__doc__)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help="writer, sessions, streams (all three by default), storage"
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the medians count (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    parser.add_argument("--messages", type=int, default=100_000, help="what storage moves (default 100,000)")
    arguments = parser.parse_args()
    suites = arguments.suites or list(_ROUNDS)
    if unknown := set(suites) - {*_ROUNDS, "storage"}:
        parser.error(f"there is no suite {unknown.pop()!r}")
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds of {arguments.seconds} s"
    )
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as server:
        for name, make in {"SQLite": None, "PostgreSQL": server}.items():
            for bench in (_ROUNDS[suite] for suite in suites if suite in _ROUNDS):
                rows = asyncio.run(bench.measure(Path(folder), make, arguments.rounds, arguments.seconds))
                floor = rows[0][1]
                for what, rate in rows:
                    print(f"{name:11} {what:58} {rate:9,.0f}/s  {rate / floor:5.2f}")
        if "storage" in suites:
            for line in storage.measure(Path(folder), server, arguments.messages):
                print(line, flush=True)


main()
