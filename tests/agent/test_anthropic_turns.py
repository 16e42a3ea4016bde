"""Whole turns with a server of Anthropic's messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.agent.providers.messages_api import answer, check_request, text_block, tool_block
from tests.agent.providers.upstream import run_upstream
from tests.agent.transcripts import END

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.server import Running

CACHED = {"type": "ephemeral"}


async def test_an_answer_is_as_long_as_the_setting_says(start: Callable[..., Awaitable[Running]]) -> None:
    """AGENT_RUNTIME__LLM_MAX_OUTPUT_TOKENS is the ``max_tokens`` of every request."""
    async with run_upstream() as claude:
        settings: dict[str, Any] = {"llm_provider": "anthropic", "llm_proxy_url": claude.url, "llm_model": "claude-x"}
        talker = await (await start(**settings, llm_retries=0, llm_max_output_tokens=4321)).person()
        claude.play(answer(text_block(0, "Hello.")))
        session = await talker.session(agent="ask")
        await talker.say(session, "hi")
        events = await talker.until(session, *END)

    check_request(claude.bodies[0])
    assert events[-1].type == "turn.completed"
    assert [body["max_tokens"] for body in claude.bodies] == [4321]


async def test_the_cache_is_asked_for_and_counted(start: Callable[..., Awaitable[Running]]) -> None:
    """Tools, prompt, transcript and the end of the request before are marked; reads and writes are in the usage."""
    written = {"input_tokens": 5, "cache_creation_input_tokens": 2000, "output_tokens": 40}
    read = {"input_tokens": 7, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 300, "output_tokens": 9}
    ids = [f"call_{number}" for number in range(25)]
    async with run_upstream() as claude:
        settings: dict[str, Any] = {"llm_provider": "anthropic", "llm_proxy_url": claude.url, "llm_model": "claude-x"}
        ada = await (await start(**settings, llm_retries=0)).person()
        calls = [tool_block(index, name, "read_file", '{"path": "a"}') for index, name in enumerate(ids)]
        claude.play(answer(*calls, stop="tool_use", usage=written))
        claude.play(answer(text_block(0, "Done."), usage=read))
        session = await ada.session(agent="ask")
        await ada.say(session, "read them")
        await ada.until(session, "turn.waiting")
        for name in ids:
            await ada.answer(session, name, result=name)
        events = await ada.until(session, *END)
    first, second = claude.bodies
    for body in (first, second):
        check_request(body)
        assert [block.pop("cache_control", None) for block in (body["tools"][-1], body["system"][-1])] == [CACHED] * 2
    places = [marked(body) for body in (first, second)]
    used = [event.data["usage"] for event in events if event.type == "message.completed"]
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")

    assert places == [[(0, 0)], [(0, 0), (2, len(ids) - 1)]]
    assert (first["tools"], first["system"]) == (second["tools"], second["system"])
    assert first["messages"] == second["messages"][:1]
    assert [tuple(each[name] for name in names) for each in used] == [(2005, 0, 2000, 40), (2307, 2000, 300, 9)]
    assert tuple(events[-1].data["usage"][name] for name in names) == (4312, 2000, 2300, 49)


def marked(body: dict[str, Any]) -> list[tuple[int, int]]:
    """Take the marks from the messages of a request; return where they stood: the message and its block."""
    return [
        (number, place)
        for number, message in enumerate(body["messages"])
        for place, block in enumerate(message["content"])
        if block.pop("cache_control", None) == CACHED
    ]
