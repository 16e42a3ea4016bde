"""The HTTP API of the server (docs/api.md), as the chat uses it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from codelab.client.errors import ApiError, ClientError, Unauthorized, Unreachable
from codelab.client.wire import Accepted, Claim, Event, McpServer, Session, encode, read, read_event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ("Access", "Api", "http_client", "is_loopback", "problem_of")

#: Seconds before each further try when the server does not answer.
BACKOFF = (0.2, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0)
#: Seconds without a byte on an event stream; the server sends a comment every 15.
STREAM_SILENCE = 50.0
#: Bytes of one event: a tool result or a whole answer.
MAX_EVENT = 64 * 1024 * 1024

_RETRIED = frozenset({502, 503, 504})


class Access(Protocol):
    """Where the server is and who we are there."""

    #: Tells servers apart in `sessions.json`.
    identity: str

    async def address(self) -> str:
        """Return the base URL, without a slash at its end."""

    async def token(self) -> str:
        """Return an access token that is valid now."""

    async def renew(self, refused: str) -> None:
        """Get another token in place of one that was refused."""

    async def recover(self) -> None:
        """Find the server again, after it did not answer."""


def is_loopback(url: str) -> bool:
    """Tell whether a URL leads to this machine."""
    import ipaddress

    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def http_client(url: str) -> httpx2.AsyncClient:
    """Make a client for a server; what goes to this machine never goes through a proxy, redirects are not followed."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(30.0, connect=10.0),
        # Shorter than servers keep an idle connection: a message must not be sent into one that is just being closed.
        limits=httpx2.Limits(keepalive_expiry=2.0),
        trust_env=not is_loopback(url),
        follow_redirects=False,
    )


def problem_of(response: httpx2.Response) -> ApiError:
    """Read an error answer, in either shape of docs/api.md."""
    try:
        body = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        body = None
    body = body if isinstance(body, dict) else {}
    code = str(body.get("code") or body.get("error") or "")
    said = body.get("detail") or body.get("error_description") or body.get("title") or response.reason_phrase
    detail = f"{said}" if said else f"The server answered {response.status_code}."
    kind = Unauthorized if response.status_code == 401 else ApiError
    return kind(response.status_code, code, detail)


class Api:
    """Speak to one server as one person."""

    def __init__(self, access: Access, client: httpx2.AsyncClient) -> None:
        self._access = access
        self._client = client

    async def agents(self) -> list[dict[str, Any]]:
        """List the agents."""
        found = await self._request("GET", "/agents")
        agents = found.get("agents") if isinstance(found, dict) else found
        return [agent for agent in agents if isinstance(agent, dict)] if isinstance(agents, list) else []

    async def models(self) -> list[dict[str, Any]]:
        """List the models that a session may choose, the default first."""
        found = await self._request("GET", "/models")
        models = found.get("data") if isinstance(found, dict) else None
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    async def choose_model(self, session_id: str, model: str) -> None:
        """Have a model answer in a session, from its next call on."""
        await self._request("PATCH", f"/sessions/{_part(session_id)}", {"model": model}, again=True)

    async def switch(self, session_id: str, agent: str) -> None:
        """Hand the session to another agent."""
        await self._request("POST", f"/agents/{_part(session_id)}/switch", {"target_agent": agent})

    async def create_session(self, metadata: dict[str, Any], agent: str | None, model: str | None = None) -> Session:
        """Open a session."""
        body: dict[str, Any] = {"metadata": metadata} | ({"agent": agent} if agent else {})
        body |= {"model": model} if model else {}
        return read(await self._request("POST", "/sessions", body), Session)

    async def session(self, session_id: str) -> Session:
        """Look a session up."""
        return read(await self._request("GET", f"/sessions/{_part(session_id)}"), Session)

    async def update_metadata(self, session_id: str, metadata: dict[str, Any]) -> None:
        """Replace the metadata of a session."""
        await self._request("PATCH", f"/sessions/{_part(session_id)}", {"metadata": metadata}, again=True)

    async def history(self, session_id: str) -> list[dict[str, Any]]:
        """Return the messages of a session, the oldest first."""
        messages: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            query = f"?limit=1000&cursor={quote(cursor, safe='')}" if cursor else "?limit=1000"
            page = await self._request("GET", f"/sessions/{_part(session_id)}/history{query}")
            found = page.get("messages") if isinstance(page, dict) else None
            messages += [message for message in found or () if isinstance(message, dict)]
            following = page.get("next_cursor") if isinstance(page, dict) else None
            if not following or not found:
                return messages
            cursor = str(following)

    async def send(self, session_id: str, content: str, images: Sequence[dict[str, str]] = ()) -> Accepted:
        """Send a message of the person."""
        body: dict[str, Any] = {"content": content} | ({"images": images} if images else {})
        return read(await self._request("POST", f"/sessions/{_part(session_id)}/messages", body), Accepted)

    async def claim(self, session_id: str, call_id: str, client: str) -> Claim:
        """Take a tool call for a client, which then runs it; no other may."""
        path = f"/sessions/{_part(session_id)}/tool-calls/{_part(call_id)}/claim"
        return read(await self._request("POST", path, {"client_id": client}, again=True), Claim)

    async def answer_tool(
        self, session_id: str, call_id: str, client: str, *, result: Any = None, error: str | None = None
    ) -> None:
        """Answer a tool call; the server takes the first answer and ignores repeated ones."""
        outcome = {"result": result} if error is None else {"error": error}
        body = {"call_id": call_id, "client_id": client} | outcome
        await self._request("POST", f"/sessions/{_part(session_id)}/tool-results", body, again=True)

    async def decide(
        self,
        session_id: str,
        approval_id: str,
        decision: str,
        *,
        arguments: Any = None,
        feedback: str | None = None,
        grant: dict[str, Any] | None = None,
    ) -> None:
        """Decide about an approval; ``grant`` says where and how long such calls need not be asked for."""
        body: dict[str, Any] = {"decision": decision}
        if decision == "edit":
            body["modified_arguments"] = arguments
        if feedback:
            body["feedback"] = feedback
        if grant is not None:
            body["grant"] = grant
        path = f"/sessions/{_part(session_id)}/approvals/{_part(approval_id)}"
        await self._request("POST", path, body, again=True)

    async def preview_grant(self, session_id: str, approval_id: str, grant: dict[str, Any]) -> dict[str, Any]:
        """Ask what a grant would allow; nothing is changed."""
        path = f"/sessions/{_part(session_id)}/approvals/{_part(approval_id)}/grant-preview"
        return read(await self._request("POST", path, grant, again=True), dict[str, Any])

    async def grants(self) -> list[dict[str, Any]]:
        """Return the grants of this person that hold, the newest first."""
        return read(read(await self._request("GET", "/grants"), dict[str, Any]).get("grants"), list[dict[str, Any]])

    async def revoke_grant(self, grant_id: str) -> None:
        """Take a grant back."""
        await self._request("DELETE", f"/grants/{_part(grant_id)}", again=True)

    async def tell_mcp_server(self, session_id: str, server: dict[str, Any]) -> McpServer:
        """Tell a session what tools an MCP server of ours has."""
        path = f"/sessions/{_part(session_id)}/mcp-servers"
        return read(await self._request("POST", path, server, again=True), McpServer)

    async def remove_mcp_server(self, session_id: str, server_id: str) -> None:
        """Take an MCP server out of a session."""
        await self._request("DELETE", f"/sessions/{_part(session_id)}/mcp-servers/{_part(server_id)}", again=True)

    async def cancel(self, session_id: str) -> None:
        """Stop the turn that runs."""
        await self._request("POST", f"/sessions/{_part(session_id)}/cancel", {}, again=True)

    async def events(self, session_id: str, after: int, client: str) -> AsyncIterator[Event]:
        """Follow the event log after a cursor, for ever, each event once and in order, as a client of that name.

        A stream that breaks is opened again at the cursor.

        Raises:
            Unreachable: the server stayed away.
            ApiError: the server refuses, for example because the session was deleted.
        """
        failures = 0
        while True:
            try:
                async for event in self._stream(session_id, after, client):
                    if event.seq > after:
                        after, failures = event.seq, 0
                        yield event
            except Unauthorized:
                failures += 1
                if failures > 1:
                    raise
                continue
            except (httpx2.TransportError, Unreachable):
                pass
            if failures == len(BACKOFF):
                raise Unreachable("The connection to the server was lost. `codelab chat --continue` goes on later.")
            await asyncio.sleep(BACKOFF[failures])
            failures += 1
            with suppress(Unreachable):
                await self._access.recover()

    async def _stream(self, session_id: str, after: int, client: str) -> AsyncIterator[Event]:
        token = await self._access.token()
        path = f"/api/v1/sessions/{_part(session_id)}/events?after={after}&client={client}"
        url = await self._access.address() + path
        timeout = httpx2.Timeout(30.0, connect=10.0, read=STREAM_SILENCE)
        headers = {"Authorization": f"Bearer {token}"}
        async with self._client.sse(url, headers=headers, timeout=timeout, max_event_size=MAX_EVENT) as source:
            response = source.response
            if response.status_code != 200:
                await response.aread()
                if response.status_code == 401:
                    await self._access.renew(token)
                if response.status_code in _RETRIED:
                    raise Unreachable("The server is not ready.")
                raise problem_of(response)
            async for sent in source:
                if sent.id.isascii() and sent.id.isdigit() and sent.data:
                    yield read_event(int(sent.id), sent.event, sent.data)

    async def _request(self, method: str, path: str, body: Any = None, *, again: bool = False) -> Any:
        """Send one request; what may be repeated without harm is repeated when no answer came."""
        again = again or method == "GET"
        content = None if body is None else encode(body)
        renewed = False
        failures = 0
        while True:
            token = await self._access.token()
            url = f"{await self._access.address()}/api/v1{path}"
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            try:
                response = await self._client.request(method, url, content=content, headers=headers)
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                # A connection that was never made took nothing along.
                if not (again or isinstance(error, httpx2.ConnectError)):
                    raise Unreachable("The connection broke; the server may or may not have taken this.") from None
                if failures == len(BACKOFF):
                    raise Unreachable(f"The server at {urlsplit(url).netloc} does not answer.") from None
            else:
                if response.status_code == 401 and not renewed:
                    await self._access.renew(token)
                    renewed = True
                    continue
                if not (again and response.status_code in _RETRIED) or failures == len(BACKOFF):
                    return _read_answer(response)
            await asyncio.sleep(BACKOFF[failures])
            failures += 1
            await self._access.recover()


def _read_answer(response: httpx2.Response) -> Any:
    if not response.is_success:
        raise problem_of(response)
    if not response.content:
        return None
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        raise ClientError("The server did not answer with JSON; is the URL that of a codelab server?") from None


def _part(text: str) -> str:
    # "." and ".." are unreserved and would be taken as path segments.
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")
