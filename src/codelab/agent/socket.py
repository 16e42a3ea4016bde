"""One session over one WebSocket (RFC 6455): the event log as frames, and commands with their answers.

A reply may come before or after the events of its command; what it says is committed.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from litestar.exceptions import WebSocketDisconnect

from codelab.agent.frames import FrameError, event_frame, read_frame, refusal_frame, reply_frame
from codelab.agent.stream import ENDS
from codelab.agent.subscription import End
from codelab.connections import Watch, abort
from codelab.problems import describe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from litestar import WebSocket

    from codelab.agent.commands import Commands
    from codelab.agent.log import EventLog
    from codelab.agent.readers import Readers
    from codelab.agent.repository.events import Event
    from codelab.agent.subscription import Subscription
    from codelab.identity import Principal

__all__ = ("BEARER", "CLOSE_CODES", "SessionSocket", "accept")

#: Seconds that a silent socket waits for events before it looks again; pings of the protocol keep it open.
WAIT = 3600.0
#: The close code of each end; 1009 (a frame too large) and 1002 (a broken protocol) come from the protocol itself.
CLOSE_CODES = {
    End.STOPPING: 1001,
    End.EXPIRED: 4401,
    End.REVOKED: 4403,
    End.DELETED: 4404,
    End.SLOW: 4408,
}


#: The subprotocol beside which a browser sends its token; a server has to choose one of those that it is offered.
BEARER = "bearer"


async def accept(socket: WebSocket[Any, Any, Any]) -> None:
    """End the handshake of a socket; the token that its client offered as a subprotocol is not repeated."""
    offered = socket.scope.get("subprotocols") or ()
    await socket.accept(subprotocols=BEARER if BEARER in offered else None)


class SessionSocket:
    """Carry one accepted WebSocket to its end."""

    def __init__(
        self,
        socket: WebSocket[Any, Any, Any],
        principal: Principal,
        session_id: str,
        commands: Commands,
        *,
        client: str,
        send_timeout: float,
    ) -> None:
        self._socket = socket
        self._principal = principal
        self._session_id = session_id
        self._commands = commands
        self._client = client
        self._send_timeout = send_timeout
        self._watch = Watch(socket.scope, send_timeout)

    async def serve(self, log: EventLog, readers: Readers, session_db_id: int, after: int) -> None:
        """Send events and answer commands until either side ends it."""
        with readers.attach(self._principal, session_db_id, self._client) as subscription:
            # Before any command is taken: what a command leads to is told by its events, in their order.
            greeting = await self._greet()
            batches = log.follow(session_db_id, after, keep_alive=WAIT, subscription=subscription)
            sending = self._send_events(greeting, batches, subscription)
            events = asyncio.create_task(sending, name="codelab-socket-events")
            commands = asyncio.create_task(self._take_commands(), name="codelab-socket-commands")
            try:
                await asyncio.wait((events, commands), return_when=asyncio.FIRST_COMPLETED)
            finally:
                events.cancel()
                commands.cancel()
                results = await asyncio.gather(events, commands, return_exceptions=True)
                self._watch.stop()
        for result in results:
            if isinstance(result, Exception):
                raise result
        if subscription.end is not None:
            await self._close(subscription.end)

    async def _send_events(
        self, greeting: Sequence[str], batches: AsyncGenerator[list[Event], None], subscription: Subscription
    ) -> None:
        for text in greeting:
            await self._send(text)
        async with aclosing(batches):
            async for batch in batches:
                for event in batch:
                    if subscription.end is not None and not subscription.end.owes:
                        return
                    for text in self._render(event):
                        await self._send(text)

    async def _take_commands(self) -> None:
        """Carry out one command after the other, so that they keep their order."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            raw: Any = message.get("text") if message.get("text") is not None else message.get("bytes")
            for text in await self._answer(raw or b""):
                await self._send(text)

    async def _greet(self) -> Sequence[str]:
        return ()

    def _render(self, event: Event) -> Sequence[str]:
        return (event_frame(event),)

    async def _answer(self, raw: str | bytes) -> Sequence[str]:
        try:
            command = read_frame(raw)
        except FrameError as refused:
            return (refusal_frame(refused.id, refused.error),)
        try:
            result, replayed = await self._commands.carry_out(command, self._principal, self._session_id, self._client)
            return (reply_frame(command.id, result, replayed=replayed),)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged where nobody expected it
            return (refusal_frame(command.id, describe(error)),)

    async def _send(self, text: str) -> None:
        try:
            await self._watch.over(self._socket.send_text(text))
        except WebSocketDisconnect:
            # The other task is told as well, and ends this one.
            await asyncio.Event().wait()

    async def _close(self, end: End) -> None:
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._socket.close(code=CLOSE_CODES[end], reason=ENDS[end])
        except TimeoutError:
            abort(self._socket.scope)
