"""The reference's WebSocket: its frames in both directions over one session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.reference.frames import read_text
from codelab.agent.reference.rendering import Renderer, error_chunk
from codelab.agent.socket import SessionSocket
from codelab.problems import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar import WebSocket

    from codelab.agent.commands import Commands
    from codelab.agent.reference.face import ReferenceFace
    from codelab.agent.repository.events import Event
    from codelab.identity import Principal

__all__ = ("ReferenceSocket",)


class ReferenceSocket(SessionSocket):
    """Carry one accepted WebSocket of a reference client to its end."""

    def __init__(
        self,
        socket: WebSocket[Any, Any, Any],
        principal: Principal,
        session_id: str,
        commands: Commands,
        face: ReferenceFace,
        session_db_id: int,
        *,
        client: str,
        send_timeout: float,
        tokens: bool,
    ) -> None:
        super().__init__(socket, principal, session_id, commands, client=client, send_timeout=send_timeout)
        self._face = face
        self._session_db_id = session_db_id
        self._renderer = Renderer(tokens=tokens)

    async def _greet(self) -> Sequence[str]:
        """Say first what the session waits for: its client may have been away when it was asked."""
        return await self._face.open_calls(self._session_db_id, self._renderer)

    def _render(self, event: Event) -> Sequence[str]:
        return self._renderer.render(event)

    async def _answer(self, raw: str | bytes) -> Sequence[str]:
        try:
            outcome = await self._face.carry_out(read_text(raw), self._principal, self._session_id)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged where nobody expected it
            return (error_chunk(describe(error).detail),)
        return outcome.chunks
