"""What must hold for a session, whatever happened to its server while its client talked."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from tests.e2e.conversation import END
from tests.support.forking import fork_codelab
from tests.support.server import Event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conversation import Talk
    from tests.support.server import Person

__all__ = ("prove", "prove_whole", "read_log", "settle")


async def settle(person: Person, session: str) -> None:
    """Return when nothing of a session is open any more; times out when something stays so."""
    url = f"/api/v1/sessions/{session}"
    while (await person.http.get(url)).json()["active_turn"] or (await person.http.get(f"{url}/queue")).json()["count"]:
        await asyncio.sleep(0.05)


async def read_log(person: Person, session: str) -> list[Event]:
    """Read the whole log in pages."""
    events: list[Event] = []
    while True:
        params = {"format": "json", "after": str(len(events)), "limit": "1000"}
        page = (await person.http.get(f"/api/v1/sessions/{session}/events", params=params)).json()
        if not page["events"]:
            return events
        events += [Event(each["seq"], each["type"], each["data"]) for each in page["events"]]


async def prove(talk: Talk, person: Person) -> None:
    """Fail unless every promise was kept, once, and nothing is left open."""
    log = await read_log(person, talk.session)
    history = await person.history(talk.session)
    pending = (await person.http.get(f"/api/v1/sessions/{talk.session}/pending-approvals")).json()

    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert talk.seen == log[: len(talk.seen)]
    assert pending["count"] == 0
    _prove_messages(talk, log, history)
    _prove_calls(talk, log, history)
    _prove_turns(talk, log, history)
    _prove_answers(log, history)


def _of(log: list[Event], kind: str, member: str) -> list[Any]:
    return [event.data[member] for event in log if event.type == kind]


def _promised(talk: Talk, command: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(promise.sent, promise.answer) for promise in talk.promises if promise.command == command]


def _prove_messages(talk: Talk, log: list[Event], history: list[dict[str, Any]]) -> None:
    """Every message is there once, in the order in which it was sent, word for word."""
    said = [(answer["message_id"], answer["seq"], sent["content"]) for sent, answer in _promised(talk, "say")]
    created = [event for event in log if event.type == "message.created"]
    assert [(event.data["message_id"], event.seq, event.data["content"]) for event in created] == said
    asked = [(m["id"], m["content"], m["status"]) for m in history if m["role"] == "user"]
    assert sorted(asked) == sorted((message_id, content, "completed") for message_id, _, content in said)


def _prove_calls(talk: Talk, log: list[Event], history: list[dict[str, Any]]) -> None:
    """Every result, decision and claim is there once, as it was sent; every call has one result."""
    completed = {event.data["call_id"]: event for event in log if event.type == "tool.completed"}
    results = {m["tool_call_id"]: m["content"] for m in history if m["role"] == "tool"}
    called = [call["call_id"] for calls in _of(log, "message.completed", "tool_calls") for call in calls]
    assert Counter(_of(log, "tool.completed", "call_id")) == Counter(called)
    assert Counter(m["tool_call_id"] for m in history if m["role"] == "tool") == Counter(called)
    for sent, answer in _promised(talk, "answer"):
        event = completed[sent["call_id"]]
        assert (event.seq, event.data["status"]) == (answer["seq"], answer["status"])
        assert event.data["result"] == sent["result"]
        kept = msgspec.json.decode(results[sent["call_id"]])
        assert sent["result"] in (kept, kept.get("result"))  # beside a note when a person changed the arguments

    resolved = {event.data["approval_id"]: event.data for event in log if event.type == "approval.resolved"}
    assert Counter(_of(log, "approval.requested", "approval_id")) == Counter(
        _of(log, "approval.resolved", "approval_id")
    )
    for sent, answer in _promised(talk, "decide"):
        event_data = resolved[answer["approval_id"]]
        assert (event_data["decision"], event_data["status"]) == (sent["decision"], answer["status"])
        assert event_data["arguments"] == sent.get("modified_arguments", event_data["arguments"])

    claimed = Counter((event.data["call_id"], event.data["client_id"]) for event in log if event.type == "tool.claimed")
    assert claimed == Counter((answer["call_id"], talk.client) for _, answer in _promised(talk, "claim"))


def _prove_turns(talk: Talk, log: list[Event], history: list[dict[str, Any]]) -> None:
    """Every turn ended once: those that a person cancelled as cancelled, all others completed."""
    ends = Counter((event.data["turn_id"], event.type) for event in log if event.type in END)
    cancelled = {answer["turn_id"] for _, answer in _promised(talk, "cancel")} - {None}
    turns = {message["turn_id"] for message in history}
    assert ends == Counter((turn, "turn.cancelled" if turn in cancelled else "turn.completed") for turn in turns)


def _prove_answers(log: list[Event], history: list[dict[str, Any]]) -> None:
    """What was streamed of an answer is the answer, also of one that was cut off; none streams still."""
    said: dict[str, str] = {}
    for event in log:
        if event.type == "message.delta":
            before = said.setdefault(event.data["message_id"], "")
            assert event.data["offset"] == len(before)
            said[event.data["message_id"]] = before + event.data["text"]
    ended = {
        event.data["message_id"]: (event.data["content"], event.data["status"])
        for event in log
        if event.type == "message.completed"
    }
    answers = {m["id"]: (m["content"], m["status"]) for m in history if m["role"] == "assistant"}
    assert answers == ended
    assert Counter(_of(log, "message.completed", "message_id")) == Counter(_of(log, "message.started", "message_id"))
    for message_id, (content, status) in ended.items():
        assert said.get(message_id, "") == content
        assert status in {"completed", "interrupted"}


def prove_whole(folder: Path, environ: dict[str, str]) -> None:
    """Fail unless ``codelab db check`` finds both databases whole."""
    checked = fork_codelab("db", "check", "--json", folder=folder, environ=environ)
    assert checked.returncode == 0, checked.stdout + checked.stderr
