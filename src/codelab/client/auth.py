"""Log in to a server that has a URL: RFC 6749 password and refresh grants, and the credentials file."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
import msgspec

from codelab.client.api import http_client, is_loopback, problem_of
from codelab.client.errors import ApiError, ClientError, LoginError, Unreachable
from codelab.client.state import hold_lock_async, read_private_json, write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ("CLIENT_ID", "PasswordAccess", "check_url")

CLIENT_ID = "codelab-flutter-app"
#: Seconds before its end at which an access token is no longer used.
SLACK = 30.0


class Tokens(msgspec.Struct):
    """The answer of the token endpoint."""

    access_token: str
    refresh_token: str | None = None
    expires_in: float = 300.0


def check_url(url: str, *, insecure_http: bool) -> str:
    """Check a base URL and return it in its one form.

    Raises:
        ClientError: it is no URL of a server, or a password would cross a network in clear text.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ClientError(f"--url: {url} is not a URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClientError("--url: an address such as https://codelab.example.org is expected.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ClientError("--url: only scheme, host, port and path are expected; use --username for the name.")
    if parts.scheme == "http" and not is_loopback(url) and not insecure_http:
        raise ClientError(
            "--url: http:// would send the password and the chat unencrypted; use https://, or --insecure-http "
            "where you trust the network."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    netloc = host if port in (None, default) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/").removesuffix("/api/v1"), "", ""))


class PasswordAccess:
    """Be one person at one server; the refresh token is kept in ``credentials.json``, the access token in memory."""

    def __init__(
        self,
        url: str,
        data: Path,
        *,
        username: str | None = None,
        password: str | None = None,
        ask: Callable[[str | None], tuple[str, str]] | None = None,
    ) -> None:
        """Prepare; ``ask`` asks the person for name and password, ``None`` where there is no terminal."""
        self.url = url
        self.identity = url
        self._path = data / "credentials.json"
        self._lock_path = data / "credentials.lock"
        self._username = username
        self._password = password
        self._ask = ask
        self._access: tuple[str, float] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def address(self) -> str:
        """Return the base URL."""
        return self.url

    async def token(self) -> str:
        """Return an access token that is valid now; log in or refresh first where that is needed."""
        async with self._one_at_a_time:
            if self._access is None or self._access[1] <= time.monotonic():
                self._access = await self._obtain()
            return self._access[0]

    async def renew(self, refused: str) -> None:
        """Get another access token in place of a refused one."""
        async with self._one_at_a_time:
            if self._access is not None and self._access[0] == refused:
                self._access = None

    async def recover(self) -> None:
        """Do nothing: a server with a URL stays where it is."""

    async def _obtain(self) -> tuple[str, float]:
        # An explicit password wins over what was kept: the person says who they are.
        if self._password is None:
            async with hold_lock_async(self._lock_path):
                if (access := await self._refresh()) is not None:
                    return access
        username, password = self._credentials()
        form = {"grant_type": "password", "username": username, "password": password}
        try:
            tokens = await self._request(form)
        except ApiError as error:
            raise LoginError(f"Login to {self.url} failed: {error}") from None
        self._password = None
        self._username = username
        async with hold_lock_async(self._lock_path):
            return self._take(tokens, username)

    async def _refresh(self) -> tuple[str, float] | None:
        kept = self._kept().get(self.url)
        if not isinstance(kept, dict) or not isinstance(kept.get("refresh_token"), str):
            return None
        if self._username is not None and kept.get("username") != self._username:
            return None
        try:
            tokens = await self._request({"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]})
        except ApiError as error:
            if error.code not in ("invalid_grant", "invalid_client", "unauthorized_client"):
                raise LoginError(f"{self.url} did not refresh the login: {error}") from None
            self._save(None)
            return None
        return self._take(tokens, str(kept.get("username")), kept["refresh_token"])

    def _credentials(self) -> tuple[str, str]:
        if self._username is not None and self._password is not None:
            return self._username, self._password
        if self._ask is None:
            raise LoginError(
                f"You are not logged in to {self.url}. Run `codelab chat --url {self.url}` on a terminal, or give "
                "--username and --password-stdin."
            )
        return self._ask(self._username)

    async def _request(self, form: dict[str, str]) -> Tokens:
        try:
            async with http_client(self.url) as client:
                response = await client.post(f"{self.url}/oauth/token", data=form | {"client_id": CLIENT_ID})
        except httpx2.TransportError as error:
            raise Unreachable(
                f"The server at {self.url} does not answer: {str(error) or type(error).__name__}."
            ) from None
        if not response.is_success:
            raise problem_of(response)
        try:
            return msgspec.json.decode(response.content, type=Tokens)
        except msgspec.MsgspecError:
            raise ClientError(f"{self.url} did not answer as a codelab server.") from None

    def _take(self, tokens: Tokens, username: str, previous: str | None = None) -> tuple[str, float]:
        # Saved before use: the old refresh token is spent, and a crash must not lose the new one.
        if refresh_token := tokens.refresh_token or previous:
            self._save({"username": username, "refresh_token": refresh_token})
        return tokens.access_token, time.monotonic() + max(tokens.expires_in - SLACK, 1.0)

    def _kept(self) -> dict[str, Any]:
        found = read_private_json(self._path)
        return found if isinstance(found, dict) else {}

    def _save(self, entry: dict[str, str] | None) -> None:
        kept = self._kept()
        kept.pop(self.url, None)
        if entry is not None:
            kept[self.url] = entry
        write_private(self._path, msgspec.json.encode(kept))
