"""Model servers that are busy for a while: what is tried again, what is not, and what the events say of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.providers import ModelError
from codelab.agent.providers.retry import Attempts, RetryPolicy
from tests.agent.providers.upstream import CUT, STALL, event, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running


@pytest.fixture
async def patient(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person whose server asks each of three models up to three times."""
    more = {"llm_retries": 2, "llm_retry_seconds": 60.0, "llm_fallback_models": ("second", "third")}
    return await (await start(**with_model | more)).person()


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
async def test_a_busy_server_is_asked_again(model: Upstream, patient: Person, status: int) -> None:
    """Two refusals, then an answer: the turn completes, and the log says what happened."""
    for _ in range(2):
        model.play(b'{"error": {"message": "slow down"}}', status=status)
    model.play(text_answer("Here I am."))
    session = await patient.session(agent="ask")
    await patient.say(session, "hello")
    events = await patient.until(session, *END)
    retries = [each.data for each in events if each.type == "model.retrying"]

    assert events[-1].type == "turn.completed"
    assert [each["attempt"] for each in retries] == [2, 3]
    assert {(each["model"], each["next_model"]) for each in retries} == {("test-model", "test-model")}
    assert all(0 <= each["delay"] <= 1.0 for each in retries)
    assert all("slow down" in each["error"] for each in retries)
    assert model.bodies[0] == model.bodies[1] == model.bodies[2]
    assert types(events)[1:5] == ["turn.started", "model.retrying", "model.retrying", "message.started"]


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ((b'{"error": {"message": "no"}}',), 400, "model_refused"),
        ((b'{"error": {"message": "no"}}',), 401, "model_credentials"),
        ((b'{"error": {"message": "no"}}',), 413, "model_refused"),
        ((CUT,), 200, "model_disconnected"),
        ((b"<html>",), 200, "model_garbage"),
        ((text_of("Once"), event({"error": {"type": "overloaded_error"}})), 200, "model_overloaded"),
        ((text_of("Once"), CUT), 200, "model_disconnected"),
    ],
)
async def test_what_is_not_safe_is_not_tried_again(
    model: Upstream, patient: Person, pieces: tuple[Any, ...], status: int, code: str
) -> None:
    """A refusal, a lost connection, and anything after the first word fail the turn; what was said is kept."""
    model.play(*pieces, status=status)
    session = await patient.session(agent="ask")
    await patient.say(session, "hello")
    events = await patient.until(session, *END)
    said = [(m["content"], m["status"]) for m in (await patient.history(session))[1:]]

    assert last(events, "turn.failed")["code"] == code
    assert "model.retrying" not in types(events)
    assert len(model.bodies) == 1
    assert said == ([("Once", "interrupted")] if text_of("Once") in pieces else [])


async def test_fallback_models_take_over(model: Upstream, patient: Person) -> None:
    """The first is overloaded, the second unknown, the third answers: it is named in the answer and in the history."""
    for _ in range(3):
        model.play(b"", status=529)
    model.play(b'{"error": {"message": "no such model"}}', status=404)
    model.play(text_answer("Third time."))
    session = await patient.session(agent="ask")
    await patient.say(session, "hello")
    events = await patient.until(session, *END)
    retries = [each.data for each in events if each.type == "model.retrying"]

    assert events[-1].type == "turn.completed"
    assert [body["model"] for body in model.bodies] == ["test-model"] * 3 + ["second", "third"]
    assert [(each["model"], each["next_model"]) for each in retries[2:]] == [
        ("test-model", "second"),
        ("second", "third"),
    ]
    assert last(events, "message.started")["model"] == last(events, "message.completed")["model"] == "third"


async def test_an_error_event_before_the_first_word_is_a_failure_like_its_status(
    model: Upstream, patient: Person
) -> None:
    """Servers that answer 200 and then say that they are overloaded are asked again."""
    model.play(event({"error": {"type": "overloaded_error", "message": "Overloaded"}}))
    model.play(text_answer("Now."))
    session = await patient.session(agent="ask")
    await patient.say(session, "hello")
    events = await patient.until(session, *END)

    assert events[-1].type == "turn.completed"
    assert last(events, "model.retrying")["reason"] == "model_overloaded"


async def test_all_is_in_vain(model: Upstream, patient: Person) -> None:
    """When no model is to be had the turn fails once with the last failure, and the results so far stay."""
    model.play(calls_answer(call("read_file", {"path": "a"}, id="c")))
    for _ in range(9):
        model.play(b"", status=503)
    session = await patient.session(agent="ask")
    await patient.say(session, "hello")
    await patient.until(session, "turn.waiting")
    await patient.answer(session, "c", result="A")
    events = await patient.until(session, *END)

    assert last(events, "turn.failed")["code"] == "model_overloaded"
    assert len(model.bodies) == 10
    assert types(events).count("turn.failed") == 1


async def test_a_cancel_ends_the_waiting(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """While an hour's Retry-After passes a person cancels: the turn is cancelled, and the next message is answered."""
    ada = await (await start(**with_model | {"llm_retries": 1, "llm_retry_seconds": 3600.0})).person()
    model.play(b"", status=429, headers={"Retry-After": "1000"})
    session = await ada.session(agent="ask")
    await ada.say(session, "hello")
    waiting = last(await ada.until(session, "model.retrying"), "model.retrying")
    cancelled = await ada.http.post(f"/api/v1/sessions/{session}/cancel")
    model.play(text_answer("Yes."))
    again = await ada.say(session, "again")
    await ada.until(session, "turn.completed", turn=again["turn_id"])

    assert waiting["delay"] >= 1000
    assert cancelled.json()["state"] == "cancelled"
    assert len(model.bodies) == 2


async def test_a_restart_while_waiting_goes_on(serve: Any, model: Upstream, with_model: dict[str, Any]) -> None:
    """The process ends during a pause: the next one makes the call, and the turn completes."""
    settings = with_model | {"llm_retries": 1, "llm_retry_seconds": 3600.0}
    model.play(b"", status=503, headers={"Retry-After": "1000"})
    async with serve(**settings) as running:
        ada = await running.person()
        session = await ada.session(agent="ask")
        accepted = await ada.say(session, "hello")
        await ada.until(session, "model.retrying")
    model.play(text_answer("Back."))
    async with serve(**settings) as running:
        ada = await running.person()
        events = await ada.until(session, *END, turn=accepted["turn_id"])

    assert events[-1].type == "turn.completed"
    assert types(events).count("turn.started") == 1


async def test_silence_is_not_paid_for_twice(
    model: Upstream, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
) -> None:
    """A server that took the request and says nothing may be at work: no second call."""
    ada = await (await start(**with_model | {"llm_retries": 2, "llm_idle_timeout": 0.5})).person()
    model.play(STALL)
    session = await ada.session(agent="ask")
    await ada.say(session, "hello")
    failed = last(await ada.until(session, *END), "turn.failed")

    assert failed["code"] == "model_timeout"
    assert len(model.bodies) == 1
    await asyncio.wait_for(model.closed_by_client.wait(), 30)


class TestPolicy:
    def error(self, retry_after: float | None = None) -> ModelError:
        """Make a transient failure."""
        return ModelError("model_overloaded", "busy", retry_after=retry_after, status=503)

    def test_pauses_grow_and_are_jittered(self) -> None:
        """Each pause is below its bound, which doubles, and many of them are not the same."""
        pauses: list[list[float]] = [[] for _ in range(4)]
        for _ in range(50):
            attempts = Attempts(RetryPolicy(4, 1000.0), "m")
            for column in pauses:
                retry = attempts.after(self.error())
                assert retry is not None
                column.append(retry.delay)

        for bound, column in zip((0.5, 1.0, 2.0, 4.0), pauses, strict=True):
            assert max(column) <= bound
            assert len(set(column)) > 25
        assert max(pauses[3]) > 1.0

    def test_the_providers_wish_is_kept_or_nothing_is_tried(self) -> None:
        """No call before Retry-After has passed; one that is longer than the time left is final."""
        within = Attempts(RetryPolicy(1, 60.0), "m").after(self.error(20.0))
        assert within is not None
        assert 20.0 <= within.delay <= 20.5
        assert Attempts(RetryPolicy(1, 60.0), "m").after(self.error(61.0)) is None
        other = Attempts(RetryPolicy(1, 60.0, ("other",)), "m").after(self.error(61.0))
        assert other is not None
        assert (other.model, other.delay) == ("other", 0.0)

    async def test_a_date_is_understood(self, model: Upstream, patient: Person) -> None:
        """Retry-After as a date: the pause lasts until then."""
        when = datetime.now(UTC) + timedelta(seconds=3)
        model.play(b"", status=429, headers={"Retry-After": format_datetime(when, usegmt=True)})
        model.play(text_answer("Now."))
        session = await patient.session(agent="ask")
        await patient.say(session, "hello")
        events = await patient.until(session, *END)

        assert events[-1].type == "turn.completed"
        assert 0 < last(events, "model.retrying")["delay"] <= 4
