"""What model calls used and cost: of a message, a turn and a session, also of calls that gave no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.agent.providers.messages_api import answer, frame, frames, text_block, tool_block
from tests.agent.providers.upstream import STALL, Upstream, chunk, chunks_of, run_upstream, text_answer
from tests.agent.transcripts import END, call, calls_answer, last

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.support.server import Person, Running

#: Prices of the models below, in USD per million tokens.
PRICES = '[models]\n"priced" = { input = 2, output = 10, cache_read = 0.5, cache_write = 3 }\n'
READ = call("read_file", {"path": "a"}, id="call_1")


def used(read: int, written: int, **more: Any) -> dict[str, Any]:
    """Make the usage of one call as OpenAI tells it."""
    return {"prompt_tokens": read, "completion_tokens": written, **more}


def counts(read: int, written: int, cost: int | None, **more: int) -> dict[str, Any]:
    """Make what is told of it."""
    names = ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "known_cost")
    return {"input_tokens": read, "output_tokens": written, "cost": cost} | dict.fromkeys(names[:3], 0) | more


async def session_usage(person: Person, session: str) -> Any:
    """Read what a session used."""
    return (await person.http.get(f"/api/v1/sessions/{session}")).json()["usage"]


@pytest.fixture
def priced(tmp_path: Path) -> dict[str, Any]:
    """Settings with prices for one model."""
    file = tmp_path / "prices.toml"
    file.write_text(PRICES)
    return {"llm_model": "priced", "prices_file": file}


@pytest.fixture
async def claude() -> AsyncIterator[Upstream]:
    """A server of Anthropic's messages API."""
    async with run_upstream() as upstream:
        yield upstream


@pytest.fixture
def with_claude(claude: Upstream, priced: dict[str, Any]) -> dict[str, Any]:
    """Settings of a server that talks to ``claude``."""
    return priced | {"llm_provider": "anthropic", "llm_proxy_url": claude.url, "llm_retries": 0}


class TestSums:
    async def test_of_a_message_a_turn_and_a_session(
        self,
        start: Callable[..., Awaitable[Running]],
        model: Upstream,
        with_model: dict[str, Any],
        priced: dict[str, Any],
    ) -> None:
        """Two calls and a second turn: each message has its own, the turn and the session have the sums."""
        ada = await (await start(**with_model | priced)).person()
        cached = used(1000, 20, prompt_tokens_details={"cached_tokens": 600})
        model.play(calls_answer(READ).replace(b"data: [DONE]\n\n", chunks_of({"choices": [], "usage": cached})))
        thinking = used(1100, 50, completion_tokens_details={"reasoning_tokens": 30})
        model.play(chunks_of(chunk("Done."), chunk(finish="stop", usage=thinking)))
        model.play(chunks_of(chunk("Hi."), chunk(finish="stop", usage=used(3, 1))))
        session = await ada.session(agent="ask")
        assert await session_usage(ada, session) is None
        await ada.say(session, "read a")
        await ada.until(session, "turn.waiting")
        await ada.answer(session, "call_1", result="aaa")
        events = await ada.until(session, *END)
        first = counts(1000, 20, 400 * 2 + 300 + 200, cache_read_tokens=600)
        second = counts(1100, 50, 2200 + 500, reasoning_tokens=30)
        total = counts(2100, 70, 4000, cache_read_tokens=600, reasoning_tokens=30, known_cost=4000)

        assert [e.data["usage"] for e in events if e.type == "message.completed"] == [first, second]
        assert last(events, "turn.completed")["usage"] == total == await session_usage(ada, session)
        assert [m["usage"] for m in await ada.history(session) if m["role"] == "assistant"] == [first, second]

        again = await ada.say(session, "hi")
        events = await ada.until(session, *END, turn=again["turn_id"])
        assert last(events, "turn.completed")["usage"] == counts(3, 1, 16, known_cost=16)
        sums = {"cost": 4016, "known_cost": 4016, "input_tokens": 2103, "output_tokens": 71}
        assert await session_usage(ada, session) == total | sums
        listed = (await ada.http.get("/api/v1/sessions")).json()["sessions"]
        assert [each["usage"] for each in listed] == [total | sums]

    async def test_an_unknown_model_costs_nobody_knows_what(self, talker: Person, model: Upstream) -> None:
        """The tokens are told; the cost is null and never 0."""
        model.play(chunks_of(chunk("Hi."), chunk(finish="stop", usage=used(3, 1))))
        session = await talker.session(agent="ask")
        await talker.say(session, "hi")
        events = await talker.until(session, *END)

        assert last(events, "message.completed")["usage"] == counts(3, 1, None)
        assert last(events, "turn.completed")["usage"] == counts(3, 1, None, known_cost=0)

    async def test_one_unknown_part_makes_the_sum_unknown(
        self,
        start: Callable[..., Awaitable[Running]],
        model: Upstream,
        with_model: dict[str, Any],
        priced: dict[str, Any],
    ) -> None:
        """A call of which the provider told nothing: what is known of the others stands beside."""
        ada = await (await start(**with_model | priced)).person()
        model.play(calls_answer(READ).replace(b"data: [DONE]\n\n", chunks_of({"choices": [], "usage": used(10, 1)})))
        model.play(text_answer("Done."))
        session = await ada.session(agent="ask")
        await ada.say(session, "read a")
        await ada.until(session, "turn.waiting")
        await ada.answer(session, "call_1", result="aaa")
        events = await ada.until(session, *END)

        assert last(events, "message.completed")["usage"] is None
        assert last(events, "turn.completed")["usage"] == counts(10, 1, None, known_cost=30)
        assert await session_usage(ada, session) == counts(10, 1, None, known_cost=30)


class TestCallsWithoutAnAnswer:
    """The messages API tells at once what was read, so a call that is cut off has a cost."""

    async def test_one_that_a_person_stops(
        self, start: Callable[..., Awaitable[Running]], claude: Upstream, with_claude: dict[str, Any]
    ) -> None:
        """The interrupted message, ``turn.cancelled`` and the session say what was reported until then."""
        ada = await (await start(**with_claude)).person()
        claude.play(*frames(text_block(0, "Once upon"))[:4], STALL)
        session = await ada.session(agent="ask")
        await ada.say(session, "tell me")
        await ada.until(session, "message.delta")
        await ada.http.post(f"/api/v1/sessions/{session}/cancel")
        events = await ada.until(session, *END)

        assert last(events, "message.completed")["usage"] == counts(25, 1, 60)
        assert last(events, "turn.cancelled")["usage"] == counts(25, 1, 60, known_cost=60)
        assert await session_usage(ada, session) == counts(25, 1, 60, known_cost=60)

    async def test_one_that_is_made_again(
        self, start: Callable[..., Awaitable[Running]], claude: Upstream, with_claude: dict[str, Any]
    ) -> None:
        """It failed before its first word, and was paid for all the same."""
        ada = await (await start(**with_claude | {"llm_retries": 1})).person()
        claude.play(frames()[0], frame("error", error={"type": "overloaded_error"}))
        claude.play(answer(text_block(0, "Well.")))
        session = await ada.session(agent="ask")
        await ada.say(session, "tell me")
        events = await ada.until(session, *END)

        assert [event.type for event in events].count("model.retrying") == 1
        assert last(events, "message.completed")["usage"] == counts(25, 9, 140)
        assert last(events, "turn.completed")["usage"] == counts(50, 10, 200, known_cost=200)

    async def test_one_that_fails(
        self, start: Callable[..., Awaitable[Running]], claude: Upstream, with_claude: dict[str, Any]
    ) -> None:
        """``turn.failed`` has it."""
        ada = await (await start(**with_claude)).person()
        claude.play(*frames(text_block(0, "Once"))[:4], frame("error", error={"type": "overloaded_error"}))
        session = await ada.session(agent="ask")
        await ada.say(session, "tell me")
        events = await ada.until(session, *END)

        assert last(events, "turn.failed")["usage"] == counts(25, 1, 60, known_cost=60)
        assert await session_usage(ada, session) == counts(25, 1, 60, known_cost=60)

    async def test_one_that_was_at_work_and_told_nothing(self, talker: Person, model: Upstream) -> None:
        """Its tokens are not known, and neither is what the turn cost."""
        model.play(text_answer("Once").removesuffix(b"data: [DONE]\n\n"), STALL)
        model.play(b"", status=400)
        session = await talker.session(agent="ask")
        await talker.say(session, "tell me")
        await talker.until(session, "message.delta")
        await talker.http.post(f"/api/v1/sessions/{session}/cancel")
        stopped = last(await talker.until(session, *END), "turn.cancelled")
        again = await talker.say(session, "again")
        refused = last(await talker.until(session, *END, turn=again["turn_id"]), "turn.failed")

        assert stopped["usage"] == counts(0, 0, None, known_cost=0)
        assert refused["usage"] == counts(0, 0, 0, known_cost=0)

    async def test_one_that_a_restart_cuts(self, serve: Serve, claude: Upstream, with_claude: dict[str, Any]) -> None:
        """It counts once, and so does the call that is made again."""
        claude.play(*frames(text_block(0, "Once upon"))[:4], STALL)
        claude.play(answer(text_block(0, "Once more.")))
        async with serve(**with_claude) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            await ada.say(session, "tell me")
            await ada.until(session, "message.delta")
        async with serve(**with_claude) as running:
            ada = await running.person()
            events = await ada.until(session, *END)

            assert last(events, "turn.completed")["usage"] == counts(50, 10, 200, known_cost=200)
            assert await session_usage(ada, session) == counts(50, 10, 200, known_cost=200)

    async def test_one_that_writes_a_call_when_a_person_stops_it(
        self, start: Callable[..., Awaitable[Running]], claude: Upstream, with_claude: dict[str, Any]
    ) -> None:
        """There is no message yet; the session has it as soon as the call has ended."""
        ada = await (await start(**with_claude)).person()
        claude.play(*frames(tool_block(0, "call_1", "read_file", '{"pa'))[:4], STALL)
        claude.play(answer(text_block(0, "Well.")))
        session = await ada.session(agent="ask")
        accepted = await ada.say(session, "read a")
        await ada.until(session, "turn.started")
        while not claude.bodies:
            await ada.http.get("/health")
        await ada.http.post(f"/api/v1/sessions/{session}/cancel")
        await ada.until(session, *END, turn=accepted["turn_id"])
        again = await ada.say(session, "again")
        await ada.until(session, *END, turn=again["turn_id"])

        total = await session_usage(ada, session)
        assert (total["input_tokens"], total["cost"]) in {(50, 200), (25, 140)}
