"""The way to an MCP server over HTTP: to that one place, at an address that was looked at, and never endless."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from codelab.agent.mcp.places import PORTS, RefusedUrl, read_place
from codelab.fetching import is_public

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Collection

__all__ = ("Guarded",)


class Guarded(httpx2.AsyncBaseTransport):
    """Carry requests to one place only; a private address has to be among the allowed hosts itself.

    ``most`` bounds the bytes of one answer.
    """

    def __init__(self, place: str, allowed: Collection[str], most: int, tls: ssl.SSLContext | None = None) -> None:
        self._place = place
        self._hosts = {_without_port(entry) for entry in allowed}
        self._most = most
        self._scheme: str | None = None
        self._inner = httpx2.AsyncHTTPTransport(verify=tls or True, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the address that its host has now."""
        read_place(str(request.url), {self._place})  # a redirect may lead elsewhere
        if request.url.scheme != (self._scheme or request.url.scheme):
            raise RefusedUrl("must stay on its scheme")  # the place of usual ports is that of both schemes
        self._scheme = request.url.scheme
        host = request.url.host
        address = await self._resolve(host, request.url.port or PORTS[request.url.scheme])
        request.headers["Accept-Encoding"] = "identity"
        # A copy: where a redirect leads is read from the request, which has to keep the name of its host.
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        response = await self._inner.handle_async_request(pinned)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("the answer is compressed")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._most)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _resolve(self, host: str, port: int) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        # One that is not allowed is enough: a name that leads to both is a trap.
        if not addresses or not all(is_public(one) or one in self._hosts for one in addresses):
            raise httpx2.ConnectError("its address is not on the internet and not allowed by the operator")
        return addresses[0]


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream = stream
        self._left = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise httpx2.RemoteProtocolError("the answer is too large")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _without_port(entry: str) -> str:
    return urlsplit(f"//{entry}").hostname or ""
