"""Fetch small JSON documents from URLs that a stranger named, without being led into the network of the server.

https only; the name is resolved once, every address has to be a public one before anything is connected, and the
connection goes to exactly these; no redirects, no proxies, no cookies; bounds on size and time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    import aiohttp

__all__ = ("Document", "Fetcher", "NotFetched", "is_public")

#: Bytes of a document at most, seconds for all of it, and documents that are fetched at once.
MAX_BYTES = 16 * 1024
TIMEOUT = 5.0
AT_ONCE = 8
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,9})", re.IGNORECASE)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotFetched(Exception):
    """Say in a few words why a document could not be had; never what an internal server answered."""


class Document(NamedTuple):
    """A document, and for how many seconds its server says that it is good; None where it says nothing."""

    body: bytes
    max_age: int | None


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet, also when it hides an IPv4 address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        hidden = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if hidden is None and found in _NAT64:
            hidden = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if hidden is not None and not is_public(str(hidden)):
            return False
    return found.is_global and not found.is_multicast


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetcher:
    """Fetch documents; the arguments are for tests, whose servers have no public address.

    ``resolve`` turns a name into addresses, ``allowed`` says which may be connected, ``tls`` is whom to trust.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[str, int], Awaitable[list[str]]] = _resolve,
        allowed: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._tls = tls
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, url: str) -> Document:
        """Fetch a document.

        Raises:
            NotFetched: it cannot be had.
        """
        import aiohttp

        try:
            async with self._slots, asyncio.timeout(TIMEOUT):
                addresses = await self._addresses(url)
                return await self._get(url, addresses)
        except TimeoutError:
            raise NotFetched(f"no answer within {TIMEOUT:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise NotFetched("its server cannot be reached") from None

    async def _addresses(self, url: str) -> list[str]:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise NotFetched("it is no https URL")
        addresses = await self._resolve(parts.hostname, parts.port or 443)
        # One that is not allowed is enough: a name that leads to both is a trap.
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise NotFetched("its address is not on the internet")
        return addresses

    async def _get(self, url: str, addresses: list[str]) -> Document:
        import aiohttp

        connector = aiohttp.TCPConnector(
            resolver=_pinned(addresses), ssl=self._tls or True, use_dns_cache=False, force_close=True
        )
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "codelab"}
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
            ) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise NotFetched(f"its server answered {response.status}")
            kind = response.content_type
            if kind != "application/json" and not kind.endswith("+json"):
                raise NotFetched("it is no JSON document")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise NotFetched("it is compressed")
            body = bytearray()
            async for chunk in response.content.iter_chunked(4096):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise NotFetched(f"it has more than {MAX_BYTES} bytes")
            found = _MAX_AGE.search(response.headers.get("Cache-Control", ""))
            return Document(bytes(body), int(found[1]) if found else None)


def _pinned(addresses: list[str]) -> aiohttp.abc.AbstractResolver:
    """Answer every question with the addresses that were looked at."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Pinned(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:  # noqa: ARG002 - aiohttp's signature
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in addresses
            ]

        async def close(self) -> None:
            """There is nothing to close."""

    return Pinned()
