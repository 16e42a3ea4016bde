"""The reference's stream of one answer: Server-Sent Events of ``data:`` lines alone, until the turn ends or waits."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.reference.rendering import ENDINGS, Renderer, error_chunk
from codelab.agent.stream import KEEP_ALIVE, EventStream
from codelab.connections import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.types import Scope, Send

    from codelab.agent.log import EventLog
    from codelab.agent.readers import Readers
    from codelab.agent.reference.face import Outcome
    from codelab.identity import Principal

__all__ = ("AnswerStream",)


class AnswerStream(EventStream):
    """Answer one message with what it leads to, after a cursor that was read before it was carried out."""

    def __init__(
        self,
        log: EventLog,
        readers: Readers,
        principal: Principal,
        session_db_id: int,
        after: int,
        outcome: Outcome | str,
        *,
        client: str,
        send_timeout: float,
        tokens: bool,
    ) -> None:
        super().__init__(
            partial(readers.attach, principal, session_db_id, client),
            partial(log.follow, session_db_id, after),
            send_timeout=send_timeout,
        )
        self._missed = partial(log.page, session_db_id, after, 1000)
        self._outcome = outcome
        self._tokens = tokens

    async def _write(self, scope: Scope, send: Send) -> None:
        watch = Watch(scope, self._send_timeout)

        async def write(chunks: Sequence[str], *, more: bool = True) -> None:
            body = "".join(f"data: {chunk}\n\n" for chunk in chunks).encode()
            await watch.over(send({"type": "http.response.body", "body": body, "more_body": more}))

        try:
            if isinstance(self._outcome, str):
                await write((error_chunk(self._outcome),), more=False)
                return
            turn_id = self._outcome.turn_id
            renderer = Renderer(tokens=self._tokens, turn_id=turn_id)
            if turn_id is None:
                # Nothing goes on by itself: what was committed meanwhile is all that there is to say.
                events, _ = await self._missed()
                rendered = [chunk for event in events for chunk in renderer.render(event)]
                await write([*self._outcome.chunks, *rendered], more=False)
                return
            with self._attach() as subscription:
                batches = self._follow(keep_alive=KEEP_ALIVE, subscription=subscription)
                async with aclosing(batches):
                    async for batch in batches:
                        if not batch:
                            await watch.over(
                                send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})
                            )
                        for event in batch:
                            if chunks := renderer.render(event):
                                await write(chunks)
                            if event.type in ENDINGS and msgspec.json.decode(event.data)["turn_id"] == turn_id:
                                await write((), more=False)
                                return
            await write((error_chunk("The stream ended before the answer; it is kept in the history."),), more=False)
        finally:
            watch.stop()
