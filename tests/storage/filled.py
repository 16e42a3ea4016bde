"""Work of every kind, done through the API, so that each table of both modules has rows."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import TYPE_CHECKING

from codelab.agent.folding import fold
from codelab.db import now
from codelab.db.upkeep import Batches

if TYPE_CHECKING:
    from tests.support.server import Running

__all__ = ("fill",)

END = ("turn.completed", "turn.failed", "turn.cancelled")
LOGIN = {"grant_type": "password", "client_id": "codelab-flutter-app", "username": "admin"}


async def fill(server: Running) -> None:
    """Hold turns with images, answers, calls, an approval decided and one that waits; rotate refresh tokens; fold."""
    login = await server.http.post("/oauth/token", data={**LOGIN, "password": "correct horse battery"})
    assert login.status_code == 200, login.text
    refresh = login.json()["refresh_token"]
    for _ in range(2):
        form = {"grant_type": "refresh_token", "client_id": LOGIN["client_id"], "refresh_token": refresh}
        refresh = (await server.http.post("/oauth/token", data=form)).json()["refresh_token"]
    ada = await server.person()
    said = await ada.session(agent="ask")
    await ada.say(said, "count to 5")
    await ada.until(said, *END)
    picture = {"media_type": "image/gif", "data": base64.b64encode(b"GIF89a and more").decode()}
    await ada.until(said, *END, turn=(await ada.say(said, "what is this", images=[picture] * 2))["turn_id"])
    decided = await ada.session(agent="coder")
    await ada.say(decided, "create hello.py that prints hi")
    waiting = await ada.until(decided, "turn.waiting")
    (approval,) = [event.data for event in waiting if event.type == "approval.requested"]
    await ada.decide(decided, approval["approval_id"], "approve", grant={"scope": "agent", "times": 3})
    call = (await ada.until(decided, "tool.requested"))[-1].data
    claim = f"/api/v1/sessions/{decided}/tool-calls/{call['call_id']}/claim"
    assert (await ada.http.post(claim, json={"client_id": "me"})).is_success
    await ada.answer(decided, call["call_id"], result={"path": "hello.py", "bytes_written": 12}, client_id="me")
    await ada.until(decided, *END)
    routed = await ada.session()
    await ada.say(routed, "explain what a cursor is")
    await ada.until(routed, *END)
    undecided = await ada.session(agent="coder")
    await ada.say(undecided, "create bye.py that prints bye")
    await ada.until(undecided, "turn.waiting")
    deleted = await ada.session(agent="ask")
    assert (await ada.http.delete(f"/api/v1/sessions/{deleted}")).status_code in {200, 204}
    async with asyncio.timeout(30):  # the runner's tasks end a moment after the event
        while server.app.state.agent.runner.running:
            await asyncio.sleep(0.01)
    database = server.app.state.agent.database
    assert await fold(database, Batches(database), now() + timedelta(seconds=1))
