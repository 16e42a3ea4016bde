"""Run the benchmarks: ``python3 dev.py bench [--rounds N] [--seconds S]``."""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from pathlib import Path

from benchmarks import sessions, writer
from tests.support.databases import postgres_server


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the medians count (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds of {arguments.seconds} s"
    )
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as server:
        for name, make in {"SQLite": None, "PostgreSQL": server}.items():
            for bench in (writer, sessions):
                rows = asyncio.run(bench.measure(Path(folder), make, arguments.rounds, arguments.seconds))
                floor = rows[0][1]
                for what, rate in rows:
                    print(f"{name:11} {what:58} {rate:9,.0f}/s  {rate / floor:5.2f}")


main()
