"""A model server that fails in every way: the turn ends with a sentence, and the next message works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.conftest import API_KEY
from tests.agent.providers.upstream import CUT, STALL, chunk, chunks_of, event, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Running

#: What the server does: pieces of a body, its status, the code of the failure, and what was said before it.
FAILURES: dict[str, tuple[tuple[Any, ...], int, str, str]] = {
    "400": ((b'{"error": {"message": "%(key)s is bad at %(url)s/v1"}}',), 400, "model_refused", ""),
    "401": ((b'{"error": {"message": "Incorrect API key provided: %(key)s"}}',), 401, "model_credentials", ""),
    "403": ((b"forbidden %(url)s",), 403, "model_credentials", ""),
    "404": ((b'{"error": {"message": "no model at %(url)s"}}',), 404, "model_refused", ""),
    "429": ((b'{"error": {"message": "slow down"}}',), 429, "model_rate_limited", ""),
    "500": ((b"<html><body>nginx %(url)s</body></html>",), 500, "model_failed", ""),
    "503": ((b"",), 503, "model_overloaded", ""),
    "silent from the start": ((STALL,), 200, "model_timeout", ""),
    "silent in the middle": ((text_of("Let me think"), STALL), 200, "model_timeout", "Let me think"),
    "cut off at the start": ((CUT,), 200, "model_disconnected", ""),
    "cut off in the middle": ((text_of("Once upon"), CUT), 200, "model_disconnected", "Once upon"),
    "ended in the middle": ((text_of("Once upon"),), 200, "model_disconnected", "Once upon"),
    "garbage": ((b"%(key)s is not JSON",), 200, "model_garbage", ""),
    "garbage in the middle": ((text_of("So"), b"data: {{{ %(url)s\n\n"), 200, "model_garbage", "So"),
    "half a JSON, then the end": (
        (text_of("So"), b'data: {"choices": [{"delta": {"cont'),
        200,
        "model_disconnected",
        "So",
    ),
    "half a JSON, then a reset": (
        (text_of("So"), b'data: {"choices": [{"delta": {"cont', CUT),
        200,
        "model_disconnected",
        "So",
    ),
    "a web page": ((b"<html>%(url)s</html>",), 200, "model_garbage", ""),
    "nothing": ((), 200, "model_garbage", ""),
    "an error in the stream": (
        (text_of("So"), event({"error": {"message": "overloaded at %(url)s", "type": "overloaded_error"}})),
        200,
        "model_overloaded",
        "So",
    ),
    "cut off in a call": (
        (text_of("I read."), event(chunk(tool_calls=[call("read_file", '{"pa', id="c") | {"index": 0}])), CUT),
        200,
        "model_disconnected",
        "I read.",
    ),
}


@pytest.fixture
async def running(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Running:
    """A server that loses patience with its model soon."""
    return await start(**with_model | {"llm_idle_timeout": 1.0})


async def test_every_failure_ends_the_turn_with_a_sentence(model: Upstream, running: Running) -> None:
    """No address, no key and no markup reaches a person; what was said is kept as interrupted; the session goes on."""
    ada = await running.person()
    secrets = {"url": model.url, "key": API_KEY}
    for name, (pieces, status, code, said) in FAILURES.items():
        real = [_fill(piece, secrets) if isinstance(piece, bytes) else piece for piece in pieces]
        model.play(*real, status=status)
        model.play(text_answer("All is well."))
        session = await ada.session(agent="ask")
        first = await ada.say(session, f"first: {name}")
        events = await ada.until(session, *END)
        failed = events[-1].data
        assert (events[-1].type, failed["turn_id"], failed["code"]) == ("turn.failed", first["turn_id"], code), name
        assert re.fullmatch(r"The .{10,100}?\.( It said: .{1,200})?", failed["error"]), (name, failed["error"])

        second = await ada.say(session, "second")
        events = await ada.until(session, *END, turn=second["turn_id"])
        assert events[-1].type == "turn.completed", name
        assert "tool.requested" not in types(events), name
        history = await ada.history(session)
        cut = [("assistant", said, "interrupted")] if said else []
        assert [(m["role"], m["content"], m["status"]) for m in history] == [
            ("user", f"first: {name}", "completed"),
            *cut,
            ("user", "second", "completed"),
            ("assistant", "All is well.", "completed"),
        ]
        assert [m["content"] for m in model.bodies[-1]["messages"][1:]] == [f"first: {name}", "second"]
        shown = str(events) + str(history) + (await ada.http.get(f"/api/v1/sessions/{session}")).text
        host = model.url.removeprefix("http://")
        assert not [secret for secret in (API_KEY, host, "<html", "127.0.0.1") if secret in shown], (name, shown)
        await ada.http.delete(f"/api/v1/sessions/{session}")


def _fill(piece: bytes, secrets: dict[str, str]) -> bytes:
    for name, secret in secrets.items():
        piece = piece.replace(b"%(" + name.encode() + b")s", secret.encode())
    return piece


async def test_a_failure_between_tools_keeps_their_results(model: Upstream, running: Running) -> None:
    """The server fails after a result was taken: the result is in the transcript of the next turn, with its call."""
    ada = await running.person()
    model.play(calls_answer(call("read_file", {"path": "a"}, id="call_0")))
    model.play(b"", status=500)
    model.play(text_answer("It says hello."))
    session = await ada.session(agent="ask")
    await ada.say(session, "read a")
    await ada.until(session, "turn.waiting")
    await ada.answer(session, "call_0", result="hello")
    failed = last(await ada.until(session, *END), "turn.failed")
    again = await ada.say(session, "try again")
    await ada.until(session, "turn.completed", turn=again["turn_id"])

    assert failed["code"] == "model_failed"
    assert [m["role"] for m in model.bodies[-1]["messages"]] == ["system", "user", "assistant", "tool", "user"]


async def test_nobody_answers_at_the_address(start: Callable[..., Awaitable[Running]]) -> None:
    """A server that is not there is one clear sentence without its address."""
    ada = await (await start(llm_proxy_url="http://127.0.0.1:9", llm_model="m", llm_retries=0)).person()
    session = await ada.session(agent="ask")
    await ada.say(session, "hello")
    failed = last(await ada.until(session, *END), "turn.failed")

    assert failed["code"] == "model_unreachable"
    assert "127.0.0.1" not in failed["error"]


async def test_an_answer_without_a_word_completes_the_turn(model: Upstream, running: Running) -> None:
    """A model may say nothing: the turn is completed with an empty message, and the next one is valid."""
    ada = await running.person()
    model.play(chunks_of(chunk(finish="stop")))
    model.play(text_answer("Sorry, I was away."))
    session = await ada.session(agent="ask")
    await ada.say(session, "hello")
    events = await ada.until(session, *END)
    again = await ada.say(session, "are you there?")
    await ada.until(session, "turn.completed", turn=again["turn_id"])

    assert last(events, "message.completed")["content"] == ""
    assert types(events)[-3:] == ["message.started", "message.completed", "turn.completed"]
