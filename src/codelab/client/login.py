"""Log in with a browser: authorization code with PKCE on the loopback (RFC 8252), or a device code (RFC 8628)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import sys
import threading
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
import msgspec

from codelab.client.api import http_client, problem_of
from codelab.client.errors import ApiError, ClientError, LoginError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("BROWSER_CLIENT_ID", "Server", "can_open_browser", "discover", "log_in", "log_in_elsewhere")

#: The client that every server knows.
BROWSER_CLIENT_ID = "codelab-cli"
SCOPE = "openid profile api:read api:write approvals:decide"
#: Seconds that a person may take.
PATIENCE = 300.0
#: Bytes of the request with which the browser comes back.
MAX_REQUEST = 16_384
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
#: Seconds that a device waits longer once it is told to slow down (RFC 8628 section 3.5).
SLOWER = 5.0


class Server(msgspec.Struct):
    """What a server says of itself (RFC 8414)."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    userinfo_endpoint: str | None = None


class _Codes(msgspec.Struct):
    """The answer to a device authorization request."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: float = 600.0
    interval: float = 5.0


async def discover(url: str) -> Server | None:
    """Ask a server what it can; None when it has no such document, as the reference system.

    Raises:
        LoginError: it says that it is another one than was asked (RFC 8414 section 3.3).
        Unreachable: it does not answer.
    """
    parts = urlsplit(url)
    document = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path}"
    try:
        async with http_client(url) as client:
            response = await client.get(document)
    except httpx2.TransportError as error:
        raise Unreachable(f"The server at {url} does not answer: {str(error) or type(error).__name__}.") from None
    if not response.is_success:
        return None
    try:
        server = msgspec.json.decode(response.content, type=Server)
    except msgspec.MsgspecError:
        return None
    # Else one server could have people log in to another, and be brought the code.
    if server.issuer.rstrip("/") != url:
        raise LoginError(
            f"The server at {url} calls itself {server.issuer}; use that as --url, or --username and --password-stdin."
        )
    return server


def can_open_browser(environ: Mapping[str, str]) -> bool:
    """Tell whether a browser can be opened where the person sees it."""
    if environ.get("BROWSER"):
        return True
    if environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"):
        return False
    if sys.platform.startswith("linux") and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


async def log_in(url: str, server: Server, username: str | None, tell: Callable[[str], None]) -> dict[str, str]:
    """Log in with the browser of this machine; return the form that asks for tokens.

    Raises:
        LoginError: the person did not agree, or nobody came back.
    """
    if server.authorization_endpoint is None:
        raise LoginError(f"{url} has no login with a browser.")
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    came_back: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = _read_answer(await asyncio.wait_for(_read_line(reader), 10.0), state)
            writer.write(_page(known=answer is not None))
            await writer.drain()
            if answer is not None and not came_back.done():
                came_back.set_result(answer)
        except (OSError, TimeoutError, ValueError):
            pass  # whatever that was, it was not the browser with our answer
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, limit=MAX_REQUEST)
    async with listener:
        redirect_uri = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/callback"
        query = {
            "response_type": "code",
            "client_id": BROWSER_CLIENT_ID,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        } | ({"login_hint": username} if username else {})
        address = f"{server.authorization_endpoint}?{urlencode(query)}"
        tell(f"Log in with your browser. If it does not open, go to:\n{address}")
        # Some browsers keep their caller until they are closed.
        threading.Thread(target=_open, args=(address,), name="codelab-browser", daemon=True).start()
        try:
            answer = await asyncio.wait_for(came_back, PATIENCE)
        except TimeoutError:
            raise LoginError("Nobody logged in with the browser. `--device` lets you use another machine's.") from None
    if answer.get("iss") != server.issuer:
        raise LoginError("The browser came back from another server than it was sent to.")
    if "code" not in answer:
        raise LoginError(f"Login to {url} failed: {answer.get('error_description') or answer.get('error')}")
    return {
        "grant_type": "authorization_code",
        "client_id": BROWSER_CLIENT_ID,
        "code": answer["code"],
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
    }


async def log_in_elsewhere(
    url: str,
    server: Server,
    ask: Callable[[dict[str, str]], Any],
    tell: Callable[[str], None],
) -> Any:
    """Log in with the browser of any machine: show a code, and ``ask`` for tokens until somebody has typed it.

    Raises:
        LoginError: the person did not agree, or the code expired.
    """
    if server.device_authorization_endpoint is None:
        raise LoginError(f"{url} has no login with a code.")
    form = {"client_id": BROWSER_CLIENT_ID, "scope": SCOPE}
    async with http_client(url) as client:
        response = await client.post(server.device_authorization_endpoint, data=form)
    if not response.is_success:
        raise LoginError(f"Login to {url} failed: {problem_of(response)}")
    try:
        codes = msgspec.json.decode(response.content, type=_Codes)
    except msgspec.MsgspecError:
        raise ClientError(f"{url} did not answer as a codelab server.") from None
    direct = codes.verification_uri_complete
    tell(f"Open {codes.verification_uri} in any browser and enter the code {codes.user_code}")
    if direct:
        tell(f"or open {direct}")
    loop = asyncio.get_running_loop()
    interval, ends = codes.interval, loop.time() + codes.expires_in
    question = {"grant_type": DEVICE_GRANT, "client_id": BROWSER_CLIENT_ID, "device_code": codes.device_code}
    while loop.time() < ends:
        await asyncio.sleep(interval)
        try:
            return await ask(question)
        except ApiError as error:
            if error.code == "slow_down":
                interval += SLOWER
            elif error.code != "authorization_pending":
                raise LoginError(f"Login to {url} failed: {error}") from None
        except Unreachable:
            interval += SLOWER  # RFC 8628 section 3.5: a device backs off and goes on
    raise LoginError(f"Nobody entered the code {codes.user_code}.")


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    """Read the head of a request; return its first line."""
    return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]


def _read_answer(line: bytes, state: str) -> dict[str, str] | None:
    """Read where the browser came with; None when that is not the answer to what was asked."""
    method, _, rest = line.decode("ascii").partition(" ")
    target = urlsplit(rest.partition(" ")[0])
    if method != "GET" or target.path != "/callback":
        return None
    answer = dict(parse_qsl(target.query))
    return answer if secrets.compare_digest(answer.get("state", "").encode(), state.encode()) else None


def _page(*, known: bool) -> bytes:
    text = "You are back in the terminal; this page can be closed." if known else "There is nothing here."
    body = f"<!doctype html><meta charset=utf-8><title>codelab</title><p>{text}</p>".encode()
    head = (
        f"HTTP/1.1 {'200 OK' if known else '404 Not Found'}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _open(address: str) -> None:
    with suppress(webbrowser.Error, OSError):  # the address was shown
        webbrowser.open(address)
