"""What a model thinks: streamed and stored as a part of its own, and given back to nobody but itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.folding import fold
from codelab.agent.providers import ReasoningBuffer, ReasoningDelta, ReasoningPart
from codelab.db import now
from codelab.db.upkeep import Batches
from tests.agent.providers.messages_api import answer, check_request, frame, text_block, thinking_block, tool_block
from tests.agent.providers.upstream import STALL, Upstream, run_upstream, text_answer, thought
from tests.agent.transcripts import END, last, text_of, types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.server import Event, Person, Running

SECRET = "c2lnbmF0dXJl"
REDACTED = "b3BhcXVl"


@pytest.fixture
async def claude() -> AsyncIterator[Upstream]:
    """A server of Anthropic's messages API, whose every request was valid."""
    async with run_upstream() as upstream:
        yield upstream
    for body in upstream.bodies:
        check_request(body)


def settings_of(claude: Upstream, **more: Any) -> dict[str, Any]:
    """Make the settings of a server that talks to it."""
    own = {"llm_provider": "anthropic", "llm_proxy_url": claude.url, "llm_model": "claude-x", "llm_retries": 0}
    return own | more


def redacted_block(index: int) -> list[bytes]:
    """Make a block that only the provider can read."""
    block = {"type": "redacted_thinking", "data": REDACTED}
    return [frame("content_block_start", index=index, content_block=block), frame("content_block_stop", index=index)]


def thoughts(events: list[Event]) -> str:
    """Put together what was thought, checking where each piece belongs."""
    text = ""
    for event in events:
        if event.type == "reasoning.delta":
            assert event.data["offset"] == len(text)
            text += event.data["text"]
    return text


class TestBuffer:
    def test_blocks_end_with_their_signature_or_where_text_begins(self) -> None:
        """Each knows where in the text it belongs; a signature alone is a block too."""
        buffer = ReasoningBuffer()
        for delta, at in (
            (ReasoningDelta("one "), 0),
            (ReasoningDelta("two"), 0),
            (ReasoningDelta("", signature="s"), 0),
            (ReasoningDelta("", redacted="r"), 0),
            (ReasoningDelta("", signature="alone"), 0),
            (ReasoningDelta("three"), 4),
            (ReasoningDelta("four"), 9),
        ):
            buffer.add(delta, at)

        assert buffer.parts() == (
            ReasoningPart("one two", signature="s"),
            ReasoningPart(redacted="r"),
            ReasoningPart(signature="alone"),
            ReasoningPart("three", at=4),
            ReasoningPart("four", at=9),
        )


async def test_reasoning_is_streamed_and_kept(start: Callable[..., Awaitable[Running]], claude: Upstream) -> None:
    """The message begins with the first thought; no client ever sees what is the provider's own."""
    ada = await (await start(**settings_of(claude))).person()
    first = [
        thinking_block(0, "Let me ", "see.", signature=SECRET),
        redacted_block(1),
        text_block(2, "I will read."),
        tool_block(3, "call_1", "read_file", '{"path": "a"}'),
    ]
    claude.play(answer(*first, stop="tool_use"))
    claude.play(answer(thinking_block(0, "All read.", signature=SECRET), text_block(1, "Done.")))
    session = await ada.session(agent="ask")
    await ada.say(session, "read a")
    await ada.until(session, "turn.waiting")
    await ada.answer(session, "call_1", result="aaa")
    events = await ada.until(session, *END)
    history = await ada.history(session)
    begun = types(events).index("message.started")
    completed = [event.data for event in events if event.type == "message.completed"]
    back = claude.bodies[1]["messages"][1]["content"]

    assert [event.type for event in events][begun + 1] == "reasoning.delta"
    assert "".join(e.data["text"] for e in events if e.type == "reasoning.delta") == "Let me see.All read."
    assert [each["reasoning"] for each in completed] == [
        [{"at": 0, "text": "Let me see."}],
        [{"at": 0, "text": "All read."}],
    ]
    assert [m.get("reasoning") for m in history if m["role"] == "assistant"] == ["Let me see.", "All read."]
    assert SECRET not in str(events) + str(history)
    assert REDACTED not in str(events) + str(history)
    assert back[:3] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": SECRET},
        {"type": "redacted_thinking", "data": REDACTED},
        {"type": "text", "text": "I will read."},
    ]


async def test_another_model_is_not_told(start: Callable[..., Awaitable[Running]], claude: Upstream) -> None:
    """Where a fallback answers, what the first model thought is left out, and what it thinks is not sent back later."""
    ada = await (await start(**settings_of(claude, llm_fallback_models=("claude-y",)))).person()
    claude.play(answer(thinking_block(0, "X thinks.", signature=SECRET), text_block(1, "One.")))
    claude.play(b"{}", status=404)
    claude.play(answer(thinking_block(0, "Y thinks.", signature=REDACTED), text_block(1, "Two.")))
    claude.play(answer(text_block(0, "Three.")))
    session = await ada.session(agent="ask")
    for words in ("one", "two", "three"):
        accepted = await ada.say(session, words)
        await ada.until(session, *END, turn=accepted["turn_id"])
    asked = [(body["model"], str(body["messages"])) for body in claude.bodies]

    assert [model for model, _ in asked] == ["claude-x", "claude-x", "claude-y", "claude-x"]
    assert ["X thinks." in messages for _, messages in asked] == [False, True, False, True]
    assert not any("Y thinks." in messages for _, messages in asked)


async def test_an_interrupted_answer_keeps_what_was_thought(model: Upstream, talker: Person) -> None:
    """Stopped before its first word and after it: the thoughts are in the event and the history, each at its place."""
    model.play(thought("Well, "), thought("let me see."), STALL)
    model.play(thought("First."), text_of("So:"), thought("Second."), STALL)
    session = await talker.session(agent="ask")

    async def stop_after(end: str) -> list[Event]:
        accepted = await talker.say(session, "think")
        await talker.events(session, lambda event: thought_of(event).endswith(end), after=accepted["seq"])
        await talker.http.post(f"/api/v1/sessions/{session}/cancel")
        return await talker.until(session, *END, turn=accepted["turn_id"])

    await stop_after("let me see.")
    whole = await stop_after("Second.")
    completed = [event.data for event in whole if event.type == "message.completed"]

    assert [(each["content"], each["reasoning"]) for each in completed] == [
        ("", [{"at": 0, "text": "Well, let me see."}]),
        ("So:", [{"at": 0, "text": "First."}, {"at": 3, "text": "Second."}]),
    ]
    history = [m for m in await talker.history(session) if m["role"] == "assistant"]
    assert [m["reasoning"] for m in history] == ["Well, let me see.", "First.\n\nSecond."]


def thought_of(event: Event) -> str:
    """Return what an event adds to the thoughts."""
    return str(event.data["text"]) if event.type == "reasoning.delta" else ""


async def test_thoughts_are_folded_like_text(model: Upstream, running: Running, ada: Person) -> None:
    """Once the turn has ended for a while the whole is in ``message.completed``, marked as what replaces them."""
    session = await ada.session(agent="ask")
    await ada.say(session, "think, then count to 20")
    whole = await ada.until(session, *END)
    deltas = [event.seq for event in whole if event.type in {"message.delta", "reasoning.delta"}]
    database = running.app.state.agent.database
    assert await fold(database, Batches(database), now() + timedelta(seconds=1)) == len(deltas)
    after = await ada.until(session, *END)
    completed = last(after, "message.completed")

    assert thoughts(whole)
    assert completed["replaces"] == {"from": deltas[0], "to": deltas[-1]}
    assert completed["reasoning"] == [{"at": 0, "text": thoughts(whole)}]
    assert not {"message.delta", "reasoning.delta"} & set(types(after))


async def test_the_offline_model_thinks_aloud(ada: Person) -> None:
    """``think, then …`` shows what reasoning looks like without any model server, with its tokens counted."""
    session = await ada.session(agent="ask")
    await ada.say(session, "think, then count to 3")
    events = await ada.until(session, *END)
    completed = last(events, "message.completed")

    assert "count to 3" in thoughts(events)
    assert completed["content"] == "1 2 3"
    assert completed["usage"]["reasoning_tokens"] > 0
    assert completed["usage"]["cost"] == 0


async def test_a_server_without_signatures(model: Upstream, talker: Person) -> None:
    """OpenAI-compatible servers stream reasoning too; they are not sent it back."""
    model.play(thought("Hm."), text_answer("Yes."))
    model.play(text_answer("No."))
    session = await talker.session(agent="ask")
    await talker.say(session, "one")
    events = await talker.until(session, *END)
    again = await talker.say(session, "two")
    await talker.until(session, *END, turn=again["turn_id"])

    assert last(events, "message.completed")["reasoning"] == [{"at": 0, "text": "Hm."}]
    assert "Hm." not in str(model.bodies[1])
