"""Be logged in to a server that has a URL: with a browser or a password, then by refresh, and the credentials file."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import httpx2
import msgspec

from codelab.client.api import http_client, is_loopback, problem_of
from codelab.client.errors import ApiError, ClientError, LoginError, Unreachable
from codelab.client.login import BROWSER_CLIENT_ID, discover, log_in, log_in_elsewhere
from codelab.client.state import hold_lock_async, read_private_json, write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codelab.client.login import Server

__all__ = ("PASSWORD_CLIENT_ID", "Person", "ServerAccess", "check_url")

#: The client of the reference system, which may use the password grant.
PASSWORD_CLIENT_ID = "codelab-flutter-app"
#: Seconds before its end at which an access token is no longer used.
SLACK = 30.0


class Tokens(msgspec.Struct):
    """The answer of the token endpoint."""

    access_token: str
    refresh_token: str | None = None
    expires_in: float = 300.0


class _UserInfo(msgspec.Struct):
    """Who logged in."""

    preferred_username: str


class Login(NamedTuple):
    """Whose login it is, and by way of which client."""

    username: str
    client_id: str


@dataclass(frozen=True)
class Person:
    """Somebody at a terminal, who can be asked for name and password or told what to do, with or without a browser."""

    ask: Callable[[str | None], tuple[str, str]]
    tell: Callable[[str], None]
    has_browser: bool


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


class ServerAccess:
    """Be one person at one server; the refresh token is kept in ``credentials.json``, the access token in memory."""

    def __init__(
        self,
        url: str,
        data: Path,
        *,
        username: str | None = None,
        password: str | None = None,
        person: Person | None = None,
    ) -> None:
        """Prepare; ``person`` is who can be asked, None where there is no terminal."""
        self.url = url
        self.identity = url
        self._path = data / "credentials.json"
        self._lock_path = data / "credentials.lock"
        self._username = username
        self._password = password
        self._person = person
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
        try:
            tokens, login = await self._log_in()
        except ApiError as error:
            raise LoginError(f"Login to {self.url} failed: {error}") from None
        self._password = None
        self._username = login.username
        async with hold_lock_async(self._lock_path):
            return self._take(tokens, login)

    async def _log_in(self) -> tuple[Tokens, Login]:
        if self._username is not None and self._password is not None:
            return await self._log_in_with_password(self._username, self._password)
        if self._person is None:
            raise LoginError(
                f"You are not logged in to {self.url}. Run `codelab chat --url {self.url}` on a terminal, or give "
                "--username and --password-stdin."
            )
        server = await discover(self.url)
        if server is None or server.authorization_endpoint is None:
            return await self._log_in_with_password(*self._person.ask(self._username))
        if self._person.has_browser:
            tokens = await self._request(await log_in(self.url, server, self._username, self._person.tell))
        else:
            tokens = await log_in_elsewhere(self.url, server, self._request, self._person.tell)
        username = await self._name(server, tokens)
        if self._username not in {None, username}:
            raise LoginError(f"You logged in as {username}, not as {self._username}.")
        return tokens, Login(username, BROWSER_CLIENT_ID)

    async def _log_in_with_password(self, username: str, password: str) -> tuple[Tokens, Login]:
        form = {"grant_type": "password", "client_id": PASSWORD_CLIENT_ID, "username": username, "password": password}
        return await self._request(form), Login(username, PASSWORD_CLIENT_ID)

    async def _name(self, server: Server, tokens: Tokens) -> str:
        """Ask who logged in."""
        if server.userinfo_endpoint is None:
            return ""
        headers = {"Authorization": f"Bearer {tokens.access_token}"}
        async with http_client(self.url) as client:
            response = await client.get(server.userinfo_endpoint, headers=headers)
        if not response.is_success:
            raise problem_of(response)
        try:
            return msgspec.json.decode(response.content, type=_UserInfo).preferred_username
        except msgspec.MsgspecError:
            raise ClientError(f"{self.url} did not answer as a codelab server.") from None

    async def _refresh(self) -> tuple[str, float] | None:
        kept = self._kept().get(self.url)
        if not isinstance(kept, dict) or not isinstance(kept.get("refresh_token"), str):
            return None
        if self._username is not None and kept.get("username") != self._username:
            return None
        # Logins of before there was a choice are the reference client's.
        login = Login(str(kept.get("username")), str(kept.get("client_id", PASSWORD_CLIENT_ID)))
        form = {"grant_type": "refresh_token", "client_id": login.client_id, "refresh_token": kept["refresh_token"]}
        try:
            tokens = await self._request(form)
        except ApiError as error:
            if error.code not in ("invalid_grant", "invalid_client", "unauthorized_client"):
                raise LoginError(f"{self.url} did not refresh the login: {error}") from None
            self._save(None)
            return None
        return self._take(tokens, login, kept["refresh_token"])

    async def _request(self, form: dict[str, str]) -> Tokens:
        try:
            async with http_client(self.url) as client:
                response = await client.post(f"{self.url}/oauth/token", data=form)
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

    def _take(self, tokens: Tokens, login: Login, previous: str | None = None) -> tuple[str, float]:
        # Saved before use: the old refresh token is spent, and a crash must not lose the new one.
        if refresh_token := tokens.refresh_token or previous:
            entry = {"username": login.username, "client_id": login.client_id, "refresh_token": refresh_token}
            self._save(entry)
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
