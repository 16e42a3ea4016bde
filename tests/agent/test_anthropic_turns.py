"""Whole turns with a server of Anthropic's messages API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.agent.providers.messages_api import answer, check_request, text_block
from tests.agent.providers.upstream import run_upstream
from tests.agent.transcripts import END

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.server import Running


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
