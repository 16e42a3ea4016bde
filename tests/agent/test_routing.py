"""Which agent takes a request: the one that is named, else the one that a model or the keywords choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codelab.settings import AgentSettings
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, last

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running


@pytest.fixture
async def ada(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person whose requests a model routes, as they are where nothing is set."""
    return await (await start(**with_model, routing=AgentSettings().routing)).person()


async def say(model: Upstream, person: Person, content: str, *choices: bytes) -> list[Event]:
    """Send a message to a new session; the model chooses so, then answers."""
    for choice in (*choices, text_answer("Done.")):
        model.play(choice)
    session = await person.session()
    await person.say(session, content)
    return await person.until(session, *END)


async def test_a_model_chooses(model: Upstream, ada: Person) -> None:
    """Once, by a call without tools whose answer is no message; the switch says why and how sure it is."""
    choice = text_answer('```json\n{"agent": "debug", "confidence": "high", "reasoning": "It fails."}\n```')
    events = await say(model, ada, "write why", choice)
    switched = last(events, "agent.switched")

    assert {name: switched[name] for name in ("to_agent", "confidence", "reason", "by")} == {
        "to_agent": "debug",
        "confidence": "high",
        "reason": "It fails.",
        "by": "router",
    }
    assert [e.data["content"] for e in events if e.type == "message.completed"] == ["Done."]
    assert "tools" not in model.bodies[0]


async def test_keywords_choose_where_the_model_does_not(model: Upstream, ada: Person) -> None:
    """No JSON, an agent that is none, another confidence, or nothing."""
    for answer in ("coder", '{"agent": "root", "confidence": "high"}', '{"agent": "ask", "confidence": 1}', " "):
        events = await say(model, ada, "debug the crash", text_answer(answer))
        assert (last(events, "agent.switched")["to_agent"], last(events, "agent.switched")["confidence"]) == (
            "debug",
            "low",
        )


async def test_a_message_names_its_agent(model: Upstream, ada: Person) -> None:
    """No model is asked who; what only looks like a name is for the router."""
    events = await say(model, ada, "@Ask: write it down")
    looks = await say(model, ada, "@asking write it", text_answer("no"))
    switched = last(events, "agent.switched")

    assert (switched["to_agent"], switched["by"], len(model.bodies)) == ("ask", "user", 3)
    assert last(looks, "agent.switched")["to_agent"] == "coder"


@pytest.mark.parametrize("offline", [True, False])
async def test_keywords_alone(
    start: Callable[..., Awaitable[Running]], model: Upstream, with_model: dict[str, Any], *, offline: bool
) -> None:
    """Without a model server, whatever is set, and with one where the operator wants that: no model call routes."""
    settings = {"routing": AgentSettings().routing} if offline else with_model | {"routing": "keywords"}
    person = await (await start(**settings)).person()
    if not offline:
        model.play(text_answer("Done."))
    session = await person.session()
    await person.say(session, "explain the prefix")
    events = await person.until(session, *END)
    switched = last(events, "agent.switched")

    assert (switched["to_agent"], switched["confidence"], switched["by"]) == ("ask", "low", "router")
    assert len(model.bodies) == (0 if offline else 1)
    assert [e.type for e in events].count("message.completed") == 1


async def test_it_is_asked_once(
    start: Callable[..., Awaitable[Running]], model: Upstream, with_model: dict[str, Any]
) -> None:
    """A server that is not to be had costs no wait: keywords choose at once, and only the answer is tried again."""
    settings = with_model | {"routing": "model", "llm_retries": 2, "llm_fallback_models": ("other",)}
    person = await (await start(**settings)).person()
    model.play(b"", status=503)
    model.play(text_answer("Done."))
    session = await person.session()
    await person.say(session, "debug the crash")
    events = await person.until(session, *END)

    assert (last(events, "agent.switched")["confidence"], len(model.bodies)) == ("low", 2)
    assert "model.retrying" not in {event.type for event in events}
