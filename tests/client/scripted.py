"""A small server that speaks docs/api.md as a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ("ScriptedServer", "Tap")

#: Seconds that a test waits for something that must happen.
PATIENCE = 20.0


class Tap:
    """What arrived at the server, in order; ``wait`` waits for the next item."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def put(self, item: dict[str, Any]) -> None:
        """Note one item."""
        self.items.append(item)
        self._queue.put_nowait(item)

    async def wait(self) -> dict[str, Any]:
        """Return the next item that nobody has waited for yet."""
        return await asyncio.wait_for(self._queue.get(), PATIENCE)


class ScriptedServer:
    """One session; ``script`` is called for each message and appends what happens to the log."""

    session_id = "s.1"

    def __init__(self) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.script: Callable[[str, str], Awaitable[None]] | None = None
        self.metadata: dict[str, Any] = {}
        self.active_turn: dict[str, str] | None = None
        self.created = Tap()
        self.patched = Tap()
        self.messages = Tap()
        self.claims = Tap()
        self.results = Tap()
        self.decisions = Tap()
        self.cancels = Tap()
        self.switches = Tap()
        self.logins = Tap()
        #: MCP servers that were told, and ids of those that were taken away.
        self.told = Tap()
        self.removed = Tap()
        #: What a tool of one is called in place of its own name, and the name that is answered for it.
        self.lies: dict[str, tuple[str, str]] = {}
        self.streams: list[int] = []
        self.clients: list[str] = []
        self.tokens = {"token-0"}
        self.refresh_tokens: dict[str, str] = {}
        self.password = "correct horse"
        #: Calls that another client has.
        self.taken: set[str] = set()
        #: Answers of the decision route other than 200, used up in order.
        self.refusals: list[tuple[int, str]] = []
        #: The event stream is cut after each of these many events, used up in order.
        self.cuts: list[int] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = 0
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedServer]:
        """Serve on an ephemeral port."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        base = f"/api/v1/sessions/{self.session_id}"
        app.add_routes(
            [
                web.post("/oauth/token", self._token),
                web.get("/api/v1/agents", self._agents),
                web.get("/api/v1/models", self._models),
                web.post(f"/api/v1/agents/{self.session_id}/switch", self._switch),
                web.post("/api/v1/sessions", self._create),
                web.get(base, self._session),
                web.patch(base, self._patch),
                web.post(f"{base}/messages", self._message),
                web.post(f"{base}/tool-calls/{{call_id}}/claim", self._claim),
                web.post(f"{base}/tool-results", self._result),
                web.post(f"{base}/approvals/{{approval_id}}", self._decision),
                web.post(f"{base}/cancel", self._cancel),
                web.post(f"{base}/mcp-servers", self._tell_mcp),
                web.delete(f"{base}/mcp-servers/{{server_id}}", self._remove_mcp),
                web.get(f"{base}/history", self._history),
                web.get(f"{base}/events", self._events),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await runner.cleanup()

    async def emit(self, kind: str, **data: Any) -> int:
        """Append an event to the log; returns its seq."""
        async with self._changed:
            self.log.append((kind, data))
            self._changed.notify_all()
            return len(self.log)

    async def say(self, turn_id: str, text: str, message_id: str = "m1") -> None:
        """Stream an answer in two parts and complete it."""
        await self.emit("message.started", message_id=message_id, turn_id=turn_id, agent="coder", model="fake")
        half = len(text) // 2
        await self.emit("message.delta", message_id=message_id, offset=0, text=text[:half])
        await self.emit("message.delta", message_id=message_id, offset=half, text=text[half:])
        await self.complete(turn_id, text, message_id)

    async def complete(self, turn_id: str, text: str, message_id: str = "m1", status: str = "completed") -> None:
        """Complete an answer."""
        await self.emit(
            "message.completed",
            message_id=message_id,
            turn_id=turn_id,
            agent="coder",
            model="fake",
            content=text,
            status=status,
            tool_calls=[],
            usage=None,
        )

    async def request(
        self, turn_id: str, call_id: str, tool: str, arguments: dict[str, Any], approval_id: str | None = None
    ) -> None:
        """Ask the client to run a tool."""
        await self.emit(
            "tool.requested",
            call_id=call_id,
            turn_id=turn_id,
            tool_name=tool,
            arguments=arguments,
            approval_id=approval_id,
        )

    async def question(
        self,
        turn_id: str,
        call_id: str,
        tool: str,
        arguments: dict[str, Any],
        approval_id: str,
        request_type: str = "tool",
        reason: str = "because of the policy",
    ) -> None:
        """Ask a person to decide."""
        await self.emit(
            "approval.requested",
            approval_id=approval_id,
            request_type=request_type,
            call_id=call_id,
            turn_id=turn_id,
            tool_name=tool,
            arguments=arguments,
            reason=reason,
            digest="00",
            created_at="2026-01-01T00:00:00.000000Z",
        )

    async def take_result(self, turn_id: str, tool: str) -> dict[str, Any]:
        """Wait for the result of a call and log it."""
        result = await self.results.wait()
        status = "failed" if "error" in result else "completed"
        await self.emit(
            "tool.completed",
            call_id=result["call_id"],
            turn_id=turn_id,
            tool_name=tool,
            status=status,
            result=result.get("result"),
            error=result.get("error"),
        )
        return result

    async def finish(self, turn_id: str, kind: str = "turn.completed", **data: Any) -> None:
        """End a turn."""
        self.active_turn = None
        await self.emit(kind, turn_id=turn_id, **data)

    def _check(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise web.HTTPUnauthorized(
                text=json.dumps({"code": "invalid_token", "detail": "The token is not valid."}),
                content_type="application/problem+json",
            )

    async def _token(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        self.logins.put({key: str(value) for key, value in form.items()})
        if form["grant_type"] == "password":
            if form["password"] != self.password:
                return web.json_response(
                    {"error": "invalid_grant", "error_description": "Invalid username or password"}, status=401
                )
        elif self.refresh_tokens.pop(str(form["refresh_token"]), None) is None:
            return web.json_response({"error": "invalid_grant", "error_description": "Refused"}, status=401)
        number = len(self.logins.items)
        self.tokens = {f"token-{number}"}
        self.refresh_tokens[f"refresh-{number}"] = str(form.get("username"))
        return web.json_response(
            {
                "access_token": f"token-{number}",
                "refresh_token": f"refresh-{number}",
                "token_type": "bearer",
                "expires_in": 900,
                "scope": "api:read api:write approvals:decide",
            }
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "id": self.session_id,
            "session_id": self.session_id,
            "title": None,
            "current_agent": "coder",
            "message_count": len(self.messages.items),
            "metadata": self.metadata,
            "last_seq": len(self.log),
            "active_turn": self.active_turn,
        }

    async def _agents(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"agents": [{"type": "coder", "description": "writes code"}], "total": 1})

    async def _models(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"object": "list", "data": [{"id": "small"}, {"id": "large"}]})

    async def _switch(self, request: web.Request) -> web.Response:
        self._check(request)
        self.switches.put(await request.json())
        return web.json_response({})

    async def _create(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        self.metadata = body.get("metadata", {})
        self.created.put(body)
        return web.json_response(self._describe(), status=201)

    async def _session(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response(self._describe())

    async def _patch(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        self.metadata = body.get("metadata", self.metadata)
        self.patched.put(body)
        return web.json_response(self._describe())

    async def _message(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        self._turns += 1
        turn_id = f"t{self._turns}"
        self.active_turn = {"turn_id": turn_id, "state": "running"}
        seq = await self.emit(
            "message.created", message_id=f"u{self._turns}", turn_id=turn_id, role="user", content=body["content"]
        )
        self.messages.put(body)
        if self.script is not None:
            task = asyncio.ensure_future(self.script(turn_id, body["content"]))
            self._tasks.add(task)
        return web.json_response({"message_id": f"u{self._turns}", "turn_id": turn_id, "seq": seq}, status=202)

    async def _claim(self, request: web.Request) -> web.Response:
        self._check(request)
        call_id = request.match_info["call_id"]
        body = await request.json()
        self.claims.put({"call_id": call_id} | body)
        if call_id in self.taken:
            return web.json_response({"code": "call_claimed", "detail": "Another client runs this call."}, status=409)
        asked = [data for kind, data in self.log if kind == "tool.requested" and data["call_id"] == call_id][-1]
        return web.json_response({name: asked[name] for name in ("call_id", "tool_name", "arguments")} | body)

    async def _result(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        claim = {"call_id": body["call_id"], "client_id": body.pop("client_id")}
        if claim not in self.claims.items:
            return web.json_response({"code": "call_claimed", "detail": "You have not claimed it."}, status=409)
        self.results.put(body)
        return web.json_response({"call_id": body["call_id"], "status": "completed", "seq": len(self.log)})

    async def _decision(self, request: web.Request) -> web.Response:
        self._check(request)
        self.decisions.put({"approval_id": request.match_info["approval_id"]} | await request.json())
        if self.refusals:
            status, code = self.refusals.pop(0)
            return web.json_response({"code": code, "detail": f"refused: {code}"}, status=status)
        return web.json_response({"status": "approved"})

    async def _cancel(self, request: web.Request) -> web.Response:
        self._check(request)
        self.cancels.put({})
        turn, self.active_turn = self.active_turn, None
        if turn is not None:
            await self.emit("turn.cancelled", turn_id=turn["turn_id"], reason="cancelled by the user")
        return web.json_response({"turn_id": turn and turn["turn_id"], "state": turn and "cancelled"})

    async def _tell_mcp(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        self.told.put(body)
        if self.refusals:
            status, code = self.refusals.pop(0)
            return web.json_response({"code": code, "detail": f"refused: {code}"}, status=status)
        name = body["name"]
        named = [self.lies.get(tool["name"], (f"mcp__{name}__{tool['name']}", tool["name"])) for tool in body["tools"]]
        tools = [{"tool_name": tool_name, "name": own} for tool_name, own in named]
        return web.json_response({"id": f"id-{name}", "tools": tools}, status=201)

    async def _remove_mcp(self, request: web.Request) -> web.Response:
        self._check(request)
        self.removed.put({"id": request.match_info["server_id"]})
        return web.Response(status=204)

    async def _history(self, request: web.Request) -> web.Response:
        self._check(request)
        messages = [
            {"role": "user" if kind == "message.created" else "assistant", "status": "completed", "agent": "coder"}
            | {"content": data["content"]}
            for kind, data in self.log
            if kind in ("message.created", "message.completed")
        ]
        return web.json_response({"messages": messages, "next_cursor": None})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        after = int(request.query.get("after", "0"))
        self.streams.append(after)
        self.clients.append(request.query["client"])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        room = self.cuts.pop(0) if self.cuts else None
        while room is None or room > 0:
            async with self._changed:
                while len(self.log) <= after:
                    await self._changed.wait()
            kind, data = self.log[after]
            after += 1
            text = f"id: {after}\nevent: {kind}\ndata: {json.dumps(data)}\n\n: alive\n\n"
            with contextlib.suppress(ConnectionResetError):
                await response.write(text.encode())
            room = None if room is None else room - 1
        if request.transport is not None:
            request.transport.close()
        return response
