"""Clients that refresh as quickly as they are answered: ``python -m benchmarks.refresh_load``, a process of its own.

Standard input is a JSON list of refresh tokens; each is a connection of its own, which goes on with what it is given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("refresh_all",)


class _Connection(asyncio.Protocol):
    def __init__(self, path: str, form: str, token: str, end: float) -> None:
        self._path = path
        self._form = form
        self.token = token
        self._end = end
        self._buffer = bytearray()
        self.count = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        body = f"grant_type=refresh_token&{self._form}&refresh_token={self.token}"
        head = f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:", 0, head)
        length = int(self._buffer[at + 15 : self._buffer.find(b"\r\n", at)])
        if len(self._buffer) < head + 4 + length:
            return
        if self._buffer[9:12] != b"200":
            self.done.set_exception(RuntimeError(bytes(self._buffer[:2000]).decode(errors="replace")))
            self._transport.close()
            return
        self.token = json.loads(self._buffer[head + 4 :])["refresh_token"]
        self._buffer.clear()
        self.count += 1
        if time.perf_counter() < self._end:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc) if exc else self.done.set_result(None)


async def refresh_all(
    port: int, path: str, form: str, tokens: Sequence[str], seconds: float
) -> tuple[float, list[str]]:
    """Refresh for so many seconds; return how many refreshes there were in one, and the tokens that are good now."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = await asyncio.gather(
        *(
            loop.create_connection(
                lambda token=token: _Connection(path, form, token, began + seconds),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            for token in tokens
        )
    )
    await asyncio.gather(*(connection.done for _, connection in made))
    rate = sum(connection.count for _, connection in made) / (time.perf_counter() - began)
    return rate, [connection.token for _, connection in made]


def main(arguments: Sequence[str]) -> None:
    """Print the rate as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/oauth/token")
    parser.add_argument("--form", required=True, help="what says who the client is")
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args(arguments)
    tokens = json.load(sys.stdin)
    rate, left = uvloop.run(refresh_all(given.port, given.path, given.form, tokens, given.seconds))
    print(json.dumps({"rate": rate, "tokens": left}))


if __name__ == "__main__":
    main(sys.argv[1:])
