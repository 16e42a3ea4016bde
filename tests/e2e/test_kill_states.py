"""The server is killed exactly there: one session in each state that a turn can be in, and one kill for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from tests.e2e.conversation import END, Line, Talk
from tests.e2e.proof import prove, prove_whole, settle
from tests.support.forking import forked_server
from tests.support.process import server_environ

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import TypeAlias

    import httpx2
    import pytest

    from tests.support.databases import DatabaseUrls

    #: What is done after the restart; it ends when the turns of the state have ended.
    After: TypeAlias = Callable[[], Awaitable[None]]

#: An answer that streams for several seconds.
LONG = "count to 500"


class Mute:
    """A client that sends commands and never reads an answer, until ``close``."""

    def __init__(self) -> None:
        self._open: list[asyncio.StreamWriter] = []
        self.sent = 0

    async def post(self, http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> str:
        """Send a command; return its key."""
        url = urlsplit(str(http.base_url))
        _, writer = await asyncio.open_connection(url.hostname, url.port)
        self._open.append(writer)
        self.sent += 1
        key, content = f"mute-{self.sent}", msgspec.json.encode(body)
        head = (
            f"POST /api/v1/sessions{path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
            f"Authorization: {http.headers['Authorization']}\r\nIdempotency-Key: {key}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()
        return key

    async def close(self) -> None:
        """Hang up."""
        for writer in self._open:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _ended(talk: Talk, *turns: str) -> None:
    for turn in turns:
        await talk.until(*END, turn=turn)


async def streaming(talk: Talk, _mute: Mute) -> After:
    """An answer streams."""
    turn = (await talk.say(LONG))["turn_id"]
    await talk.until("message.started", turn=turn)
    await talk.line.events(20)
    return lambda: _ended(talk, turn)


async def in_line(talk: Talk, _mute: Mute) -> After:
    """One message is answered, and two wait in the queue."""
    turns = [(await talk.say(content))["turn_id"] for content in (LONG, "count to 2", "count to 3")]
    await talk.until("message.started", turn=turns[0])
    return lambda: _ended(talk, *turns)


async def said_unheard(talk: Talk, mute: Mute) -> After:
    """A message was taken, and its sender does not know."""
    http = (await talk.line.person()).http
    key = await mute.post(http, f"/{talk.session}/messages", {"content": "count to 9", "delivery": "queue"})
    while not talk.seen:
        await talk.line.events(1)

    async def after() -> None:
        await _ended(talk, (await talk.say("count to 9", key=key))["turn_id"])

    return after


async def steered(talk: Talk, _mute: Mute) -> After:
    """A message waits to join the turn that runs."""
    turn = (await talk.say(LONG))["turn_id"]
    await talk.until("message.started", turn=turn)
    joined = await talk.say("count to 4", "steer")
    assert joined["turn_id"] == turn
    return lambda: _ended(talk, turn)


async def cancelled_unheard(talk: Talk, mute: Mute) -> After:
    """A turn was cancelled while it streamed, and who cancelled it does not know."""
    turn = (await talk.say(LONG))["turn_id"]
    await talk.until("message.started", turn=turn)
    key = await mute.post((await talk.line.person()).http, f"/{talk.session}/cancel", {})
    await talk.until("turn.cancelled", turn=turn)

    async def after() -> None:
        assert (await talk.cancel(key=key))["turn_id"] == turn

    return after


async def requested(talk: Talk, _mute: Mute) -> After:
    """Two calls wait for their results."""
    turn, calls = await _called(talk)

    async def after() -> None:
        for call in calls:
            await talk.answer(call, {"content": f"of {call}"})
        await _ended(talk, turn)

    return after


async def claimed(talk: Talk, _mute: Mute) -> After:
    """A client runs one call, and has answered the other."""
    turn, calls = await _called(talk)
    for call in calls:
        await talk.claim(call)
    await talk.answer(calls[0], {"content": "first"})

    async def after() -> None:
        await talk.answer(calls[1], {"content": "second"})
        await _ended(talk, turn)

    return after


async def claimed_unheard(talk: Talk, mute: Mute) -> After:
    """A client was given a call, and does not know."""
    turn, calls = await _called(talk)
    http = (await talk.line.person()).http
    path = f"/{talk.session}/tool-calls/{calls[0]}/claim"
    key = await mute.post(http, path, {"client_id": talk.client})
    await talk.until("tool.claimed", turn=turn)

    async def after() -> None:
        await talk.claim(calls[0], key=key)
        for call in calls:
            await talk.answer(call, {"content": f"of {call}"})
        await _ended(talk, turn)

    return after


async def answered_unheard(talk: Talk, mute: Mute) -> After:
    """The last result was taken, and who sent it does not know."""
    turn, calls = await _called(talk)
    await talk.answer(calls[0], {"content": "first"})
    body = {"call_id": calls[1], "result": {"content": "second"}, "client_id": talk.client}
    key = await mute.post((await talk.line.person()).http, f"/{talk.session}/tool-results", body)
    while [event.type for event in talk.seen].count("tool.completed") < len(calls):
        await talk.line.events(1)

    async def after() -> None:
        await talk.answer(calls[1], {"content": "second"}, key=key)
        await _ended(talk, turn)

    return after


async def undecided(talk: Talk, _mute: Mute) -> After:
    """A question waits for a person."""
    turn, approval = await _asked(talk)

    async def after() -> None:
        await talk.decide(approval, decision="reject", feedback="not now")
        await _ended(talk, turn)

    return after


async def decided_unheard(talk: Talk, mute: Mute) -> After:
    """A decision was taken and its call handed out, and who decided does not know."""
    turn, approval = await _asked(talk)
    http = (await talk.line.person()).http
    key = await mute.post(http, f"/{talk.session}/approvals/{approval}", {"decision": "approve"})
    call = (await talk.until("tool.requested", turn=turn)).data["call_id"]

    async def after() -> None:
        await talk.decide(approval, decision="approve", key=key)
        await talk.answer(call, {"bytes_written": 12})
        await _ended(talk, turn)

    return after


async def _called(talk: Talk) -> tuple[str, list[str]]:
    turn = (await talk.say("read a.txt and b.txt"))["turn_id"]
    return turn, (await talk.until("turn.waiting", turn=turn)).data["call_ids"]


async def _asked(talk: Talk) -> tuple[str, str]:
    turn = (await talk.say("create hello.py that prints hi"))["turn_id"]
    return turn, (await talk.until("turn.waiting", turn=turn)).data["approval_ids"][0]


#: Those that last, and those that pass by themselves and so are brought about last.
LASTING = (requested, claimed, claimed_unheard, answered_unheard, undecided, decided_unheard, said_unheard)
PASSING = (streaming, in_line, steered, cancelled_unheard)


async def test_a_kill_in_every_state(databases: DatabaseUrls, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """What was acknowledged is there once, a repeated command gets the answer that it missed, and every turn ends."""
    line, mute = Line(), Mute()
    talks = {state: Talk(line, random.Random(0)) for state in (*LASTING, *PASSING)}
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(110):
        stack.push_async_callback(line.close)
        stack.push_async_callback(mute.close)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        with forked_server(tmp_path, databases) as server:
            await line.connect(server)
            for talk in talks.values():
                await talk.open()
            following = [tasks.create_task(talk.follow()) for talk in talks.values()]
            afterwards: dict[Any, After] = {}
            for states in (LASTING, PASSING):
                reached = await asyncio.gather(*(state(talks[state], mute) for state in states))
                afterwards |= dict(zip(states, reached, strict=True))
            server.kill()
            line.cut()
        with forked_server(tmp_path, databases) as server:
            person = await line.connect(server)
            for state, talk in talks.items():
                with subtests.test(state=state.__name__):
                    await afterwards[state]()
                    await settle(person, talk.session)
                    await prove(talk, person)
            assert line.replayed == mute.sent
            for task in following:
                task.cancel()
            assert server.stop() == 0
    prove_whole(tmp_path, server_environ(tmp_path, databases))
    for state in (streaming, in_line, steered):
        cut = [event.data for event in talks[state].seen if event.data.get("status") == "interrupted"]
        assert len(cut) == 1, state.__name__


async def test_a_server_that_does_not_resume(databases: DatabaseUrls, tmp_path: Path) -> None:
    """With ON_RESTART=fail a turn that was cut off ends as failed; what waited for a person or in line goes on."""
    line, mute = Line(), Mute()
    cut, waiting = Talk(line, random.Random(0)), Talk(line, random.Random(0))
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(110):
        stack.push_async_callback(line.close)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        with forked_server(tmp_path, databases) as server:
            await line.connect(server)
            for talk in (cut, waiting):
                await talk.open()
            following = [tasks.create_task(talk.follow()) for talk in (cut, waiting)]
            go_on = await undecided(waiting, mute)
            turns = [(await cut.say(content))["turn_id"] for content in (LONG, "count to 2")]
            await cut.until("message.started", turn=turns[0])
            server.kill()
            line.cut()
        with forked_server(tmp_path, databases, AGENT_RUNTIME__ON_RESTART="fail") as server:
            person = await line.connect(server)
            await go_on()
            ends = [await cut.until(*END, turn=turn) for turn in turns]
            history = await person.history(cut.session)
            await prove(waiting, person)
            for task in following:
                task.cancel()
            assert server.stop() == 0
    prove_whole(tmp_path, server_environ(tmp_path, databases))

    assert [event.type for event in ends] == ["turn.failed", "turn.completed"]
    assert ends[0].data["code"] == "interrupted_by_restart"
    assert [m["status"] for m in history if m["role"] == "assistant"] == ["interrupted", "completed"]
