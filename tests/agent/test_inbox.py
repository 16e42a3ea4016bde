"""The inbox of a person, what an administrator may do to it, and what a message does to what waits."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import text

from tests.agent.providers.upstream import text_answer
from tests.agent.test_approvals import WRITE, ask, change, let_time_pass
from tests.agent.transcripts import last
from tests.support.server import ALL_SCOPES, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Person, Running

INBOX, STREAM, ADMIN = "/api/v1/approvals", "/api/v1/approvals/events", "/api/v1/admin/approvals"


async def listed(person: Person, url: str = INBOX, **params: str) -> list[dict[str, Any]]:
    """Return the approvals of a list."""
    answer = await person.http.get(url, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["approvals"]
    return found


@asynccontextmanager
async def following(person: Person, after: str = "0") -> AsyncIterator[AsyncIterator[Event]]:
    """Follow the inbox of a person."""
    async with person.http.sse(STREAM, params={"after": after}) as source:
        yield (
            Event(int(event.id or 0), event.event, msgspec.json.decode(event.data))
            async for event in source
            if event.data
        )


async def administrator(running: Running) -> Person:
    """Make a person who may administer the server, and an owner of nothing."""
    root = await running.person("root", f"{ALL_SCOPES} api:admin")

    async def unit(tx: Any) -> None:
        await tx.session.execute(text("UPDATE users SET is_admin = true WHERE username = 'root'"))

    await running.app.state.auth.database.write(unit)
    return root


async def next_of(events: AsyncIterator[Event]) -> Event:
    """Wait for one event."""
    async with asyncio.timeout(30):
        return await anext(events)


async def test_the_inbox_is_a_persons_own(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """It has what waits in all their sessions, in pages, by status, and nothing of anybody else."""
    running = await start(**with_model)
    ada, bob = await running.person(), await running.person("bob")
    one, (first,) = await ask(ada, model)
    other, (second,) = await ask(ada, model)
    await ask(bob, model)
    waiting = await listed(ada)
    page = (await ada.http.get(INBOX, params={"limit": 1})).json()
    rest = (await ada.http.get(INBOX, params={"limit": 1, "cursor": page["next_cursor"]})).json()
    model.play(text_answer("Well."))
    await ada.decide(one, first["approval_id"], "reject")
    decided = await listed(ada, status="rejected")
    every = await listed(ada, status="all")
    await ada.http.delete(f"/api/v1/sessions/{other}")

    assert [(each["session_id"], each["approval_id"]) for each in waiting] == [
        (other, second["approval_id"]),
        (one, first["approval_id"]),
    ]
    assert [page["approvals"], rest["approvals"], rest["next_cursor"]] == [waiting[:1], waiting[1:], None]
    assert [each["approval_id"] for each in decided] == [first["approval_id"]]
    assert [each["status"] for each in every] == ["rejected", "pending"]
    assert await listed(ada) == []
    for wrong in ({"cursor": "x"}, {"status": "open"}):
        assert (await ada.http.get(INBOX, params=wrong)).status_code == 400


async def test_the_stream_follows_the_inbox(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """What waits, then each change after its commit; with its cursor a reader that was away gets what changed."""
    running = await start(**with_model)
    ada, bob = await running.person(), await running.person("bob")
    one, (first,) = await ask(ada, model)
    async with following(ada) as events:
        begun = await next_of(events)
        await ask(bob, model)
        other, (second,) = await ask(ada, model)
        asked = await next_of(events)
        await ada.decide(one, first["approval_id"], "approve")
        decided = await next_of(events)
    model.play(text_answer("Well."))
    await ada.decide(other, second["approval_id"], "reject")
    async with following(ada, after=str(asked.seq)) as events:
        missed = [await next_of(events), await next_of(events)]
    async with following(ada, after="latest") as events:
        _, (third,) = await ask(ada, model)
        newest = await next_of(events)

    assert [(e.seq, e.type) for e in (begun, asked, decided)] == [
        (1, "approval.requested"),
        (2, "approval.requested"),
        (3, "approval.resolved"),
    ]
    assert [e.data["approval_id"] for e in (begun, asked, decided)] == [
        each["approval_id"] for each in (first, second, first)
    ]
    assert [(e.seq, e.data["status"]) for e in missed] == [(3, "approved"), (4, "rejected")]
    assert (newest.seq, newest.data["approval_id"]) == (5, third["approval_id"])


async def test_the_stream_ends_with_the_token(start: Callable[..., Awaitable[Running]]) -> None:
    """Also an idle one; the last words say why, and the cursor stays."""
    running = await start()
    ada = await running.person(lifetime=2)
    async with following(ada) as events:
        end = await next_of(events)

    assert (end.type, end.data["reason"]) == ("stream.end", "token_expired")
    assert running.app.state.agent.inbox.readers == 0


async def test_an_administrator_lists_and_rejects(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """And cannot approve, nor can anybody else who is not the owner; without the scope there is nothing at all."""
    running = await start(**with_model)
    ada = await running.person()
    root = await administrator(running)
    session, (asked,) = await ask(ada, model)
    (seen,) = await listed(root, ADMIN)
    model.play(text_answer("Well."))
    url = f"{ADMIN}/{asked['approval_id']}/reject"
    approving = await root.decide(session, asked["approval_id"], "approve")
    refused = [await ada.http.get(ADMIN), await ada.http.post(url, json={})]
    once = {"Idempotency-Key": "k1"}
    rejected = await root.http.post(url, json={"feedback": "not on my watch"}, headers=once)
    repeated = await root.http.post(url, json={"feedback": "not on my watch"}, headers=once)
    events = await ada.until(session, "turn.completed")
    again = await root.http.post(url, json={})
    unknown = await root.http.post(f"{ADMIN}/nothing/reject", json={})

    assert (seen["owner_id"], seen["session_id"], seen["arguments"]) == (ada.id, session, WRITE)
    assert approving.status_code == 404
    assert [answer.status_code for answer in refused] == [403, 403]
    assert (rejected.json()["status"], rejected.json()["decided_by"]) == ("rejected", root.id)
    assert last(events, "approval.resolved")["feedback"] == "not on my watch"
    assert (repeated.status_code, repeated.content) == (200, rejected.content)
    assert (again.status_code, again.json()["code"]) == (409, "approval_decided")
    assert unknown.status_code == 404


async def test_an_administrator_comes_too_late(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """What has expired cannot be rejected."""
    running = await start(**with_model)
    root = await administrator(running)
    _, (asked,) = await ask(await running.person(), model)
    model.play(text_answer("Well."))
    await let_time_pass(running)
    late = await root.http.post(f"{ADMIN}/{asked['approval_id']}/reject", json={})

    assert (late.status_code, late.json()["approval"]["status"]) == (409, "expired")


class TestMessages:
    """A message of the owner while an approval waits."""

    async def test_it_rejects_and_the_turn_goes_on_with_it(self, talker: Person, model: Upstream) -> None:
        """The model sees the rejection and then the message, in the same turn."""
        session, (asked,) = await ask(talker, model)
        model.play(text_answer("Well."))
        sent = await talker.say(session, "write b.md instead")
        events = await talker.until(session, "turn.completed")
        messages = model.bodies[-1]["messages"][-2:]

        assert (sent["turn_id"], last(events, "approval.resolved")["status"]) == (asked["turn_id"], "rejected")
        assert msgspec.json.decode(messages[0]["content"])["status"] == "rejected"
        assert messages[1] == {"role": "user", "content": "write b.md instead"}
        assert len([event for event in events if event.type == "turn.completed"]) == 1

    async def test_it_waits_where_the_operator_wants_that(
        self, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
    ) -> None:
        """The approval waits still, and the message has a turn of its own after it."""
        running = await start(**with_model, message_while_asking="wait")
        ada = await running.person()
        session, (asked,) = await ask(ada, model)
        model.play(text_answer("Well."))
        model.play(text_answer("And well."))
        sent = await ada.say(session, "and then?")
        assert [each["approval_id"] for each in await listed(ada)] == [asked["approval_id"]]
        await ada.decide(session, asked["approval_id"], "reject")
        events = await ada.events(
            session, lambda e: e.type == "turn.completed" and e.data["turn_id"] == sent["turn_id"]
        )

        assert sent["turn_id"] != asked["turn_id"]
        assert [event.type for event in events].count("turn.completed") == 2

    async def test_who_may_not_decide_rejects_nothing(
        self, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
    ) -> None:
        """A client of the same person without the scope cannot decide by a message either."""
        running = await start(**with_model)
        ada, same = await running.person(), await running.person(scope="api:read api:write")
        session, (asked,) = await ask(ada, model)
        await same.say(session, "never mind")

        assert [each["approval_id"] for each in await listed(ada)] == [asked["approval_id"]]


async def test_numbers_are_counted_for_each_person(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """Two people at once: each has 1, 2, 3 … without gaps, whatever is committed together."""
    running = await start(**with_model)
    people = [await running.person(name) for name in ("ada", "bob")]
    many = [WRITE | {"path": f"{n}.md"} for n in range(5)]
    for person in people:
        await ask(person, model, *many)
    for person in people:
        async with following(person) as events:
            assert [(await next_of(events)).seq for _ in many] == [1, 2, 3, 4, 5]


async def test_numbers_go_on_after_those_from_elsewhere(
    start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], model: Upstream
) -> None:
    """A session that was imported alone brings numbers that were not counted here; and counted ones are never lower."""
    running = await start(**with_model)
    ada = await running.person()
    await ask(ada, model)
    await change(running, "UPDATE pending_approvals SET inbox_seq = 7")
    await ask(ada, model)
    await change(running, "UPDATE session_counters SET inbox_seq = 20")
    await ask(ada, model)
    async with following(ada) as events:
        numbers = [(await next_of(events)).seq for _ in range(3)]

    assert numbers == [7, 8, 21]
