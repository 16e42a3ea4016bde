"""What the clients of model servers have in common: one streamed POST, its limits, and errors that name no host."""

from __future__ import annotations

import asyncio
import io
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from codelab import __version__
from codelab.agent.providers.failures import error_from_exception, error_from_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import aiohttp

    from codelab.agent.providers.base import Delta, ModelError, ModelRequest, Pace

__all__ = ("Reader", "StreamingClient", "build_endpoint")

_MAX_ERROR_BYTES = 64 * 1024
_MAX_PLAIN_BODY_BYTES = 1024 * 1024
_DRAIN_SECONDS = 0.2
_ERROR_SECONDS = 10.0


def build_endpoint(base_url: str, path: str = "/chat/completions") -> str:
    """Return the address of ``path`` below ``base_url``, with or without ``/v1`` or a slash at its end.

    A base that ends in another version (``/v4``) or in ``path`` is taken as it is. Raises ``ValueError``.
    """
    wrong = "the address of the model provider must look like https://host/v1"
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(wrong) from None
    if not usable:
        raise ValueError(wrong)
    whole = parts.path.rstrip("/")
    if not whole.endswith(path):
        whole += "" if re.search(r"/v\d+[a-z0-9]*$", whole) else "/v1"
        whole += path
    return urlunsplit((parts.scheme, parts.netloc, whole, parts.query, ""))


class Reader(Protocol):
    """Read the body of an answer, fed in blocks split anywhere, into deltas."""

    done: bool

    @property
    def finished(self) -> bool:
        """Whether the model said that its answer is complete."""
        ...

    def feed(self, block: bytes) -> list[Delta]:
        """Return the deltas that ``block`` completes; once ``done`` is true the rest of the body does not matter."""
        ...

    def end(self) -> list[Delta]:
        """Return the last deltas when the body has ended; raise ``ModelError`` when the answer is not complete."""
        ...


class StreamingClient(ABC):
    """Stream answers from one server; what it speaks is the subclass's.

    ``connect_timeout`` bounds the way to an open connection, ``idle_timeout`` every silence after it, both in seconds;
    an answer as a whole may take as long as it wants. Raises ``ValueError`` for a bad address or key.
    """

    name = "http"
    path = "/"

    def __init__(
        self, base_url: str, api_key: str | None, *, connect_timeout: float = 10.0, idle_timeout: float = 120.0
    ) -> None:
        self._endpoint = build_endpoint(base_url, self.path)
        api_key = (api_key or "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", api_key):
            raise ValueError("the API key of the model provider must be printable ASCII without spaces")
        parts = urlsplit(self._endpoint)
        if api_key and parts.username is not None:
            raise ValueError("the model provider takes an API key or a user in its address, not both")
        self._api_key = api_key
        self._secrets = [s for s in (api_key, parts.netloc, parts.hostname, parts.username, parts.password) if s]
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def _headers(self) -> dict[str, str]:
        """Return the headers of every request that are the provider's own."""

    @abstractmethod
    def _encode(self, request: ModelRequest) -> bytes:
        """Write the body of a request."""

    @abstractmethod
    def _new_reader(self) -> Reader:
        """Make what reads one answer."""

    @abstractmethod
    def _adapt(self, status: int, said: bytes, sent: bytes) -> bool:
        """Tell whether a refused request should be made once more, without what this server does not know."""

    async def stream(self, request: ModelRequest, pace: Pace | None = None) -> AsyncGenerator[Delta, None]:
        """Stream the answer to ``request``, see ``ModelClient.stream``."""
        import aiohttp

        reader = self._new_reader()
        failure: ModelError | None = None
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._post(request)
            while not reader.done:
                if pace is not None and (due := pace()) is not None:
                    await due
                block = await _read_block(response)
                if not block:
                    break
                for delta in reader.feed(block):
                    yield delta
            if reader.finished:
                await _drain(response)
        except (aiohttp.ClientError, OSError) as error:
            # An answer that was complete stays complete when only its end was lost.
            failure = None if reader.finished else error_from_exception(error)
        finally:
            if response is not None:
                response.close()
        # Raised out here, so that no traceback leads on to an exception of aiohttp, which holds address and key.
        if failure is not None:
            raise failure
        for delta in reader.end():
            yield delta

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, request: ModelRequest) -> aiohttp.ClientResponse:
        while True:
            body = self._encode(request)
            response = await self._open_session().post(
                self._endpoint,
                # aiohttp warns about larger bytes, and sends a file piece by piece.
                data=body if len(body) <= _MAX_PLAIN_BODY_BYTES else io.BytesIO(body),
                # A redirect would carry the transcript, and maybe the key, to a server that nobody configured.
                allow_redirects=False,
            )
            if 200 <= response.status < 300:
                return response
            try:
                said = await _read_error_body(response)
            finally:
                response.close()
            if self._adapt(response.status, said, body):
                continue
            raise error_from_status(
                response.status, said, retry_after=response.headers.get("Retry-After"), secrets=self._secrets
            )

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            headers = {
                "Content-Type": "application/json",
                "Accept": "text/event-stream, application/json",
                # Compression would hold tokens back until its window is full.
                "Accept-Encoding": "identity",
                "User-Agent": f"codelab/{__version__}",
            }
            self._session = aiohttp.ClientSession(
                headers=headers | self._headers(),
                # The turns bound the number of calls; a pool that is full would only make them wait unseen.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_timeout, sock_read=self._idle_timeout),
            )
        return self._session


async def _read_block(response: aiohttp.ClientResponse) -> bytes:
    """Return the next bytes of the body, none at its end."""
    import aiohttp

    try:
        return await response.content.readany()
    except RuntimeError:
        # aiohttp says so when the transport is closing and the loss of the connection has not been told yet.
        raise aiohttp.ClientConnectionError from None


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Wait a moment for the end of a body whose content is complete: only then is the connection used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await _read_block(response):
                pass


async def _read_error_body(response: aiohttp.ClientResponse) -> bytes:
    import aiohttp

    body = b""
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(_ERROR_SECONDS):
            while len(body) < _MAX_ERROR_BYTES and (block := await _read_block(response)):
                body += block
    return body[:_MAX_ERROR_BYTES]
