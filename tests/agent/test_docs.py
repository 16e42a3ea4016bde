"""``docs/api.md`` and the OpenAPI document against what the server does."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from codelab.agent.frames import FRAMES
from codelab.agent.log import EVENT_TYPES
from codelab.agent.socket import CLOSE_CODES
from codelab.agent.stream import ENDS
from codelab.agent.subscription import End
from codelab.app import create_app
from codelab.local import LocalServer
from codelab.settings import Settings
from tests.agent.providers.upstream import STALL, text_answer, thought
from tests.agent.routes import Route, list_routes, list_sockets
from tests.agent.test_steer import steer
from tests.agent.transcripts import END, call, calls_answer, text_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar import Litestar

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running

API = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
REFERENCE = (Path(__file__).parents[2] / "docs" / "reference-clients.md").read_text(encoding="utf-8")
#: Other forms of the document.
ALIASES = {"/schema", "/schema/{path}"}


def documented_events() -> dict[str, set[str]]:
    """Read the table of events: type to the members of its data."""
    section = API.split("\n## Events\n")[1]
    rows = re.findall(r"^\| `([a-z.]+)` \| `\{([^}]*)\}`", section, re.MULTILINE)
    return {kind: set(members.split(", ")) for kind, members in rows}


def documented_routes() -> set[Route]:
    """Read the tables of routes: ours, and those that only the reference's clients use."""
    sections = API.split("\n## Routes\n")[1].split("\n### ")[0] + REFERENCE.split("\n## Routes\n")[1].split("\n## ")[0]
    return {Route(*found) for found in re.findall(r"^\| `([A-Z]+) (/\S*)` \|", sections, re.MULTILINE)}


def whole_app() -> Litestar:
    """Make an application with every route that there is, that of a person's own server too."""
    app = create_app(Settings(), issuer="http://127.0.0.1")
    app.register(LocalServer({}, 0).route())
    return app


async def every_event(model: Upstream, ada: Person) -> list[Event]:
    """Play all that can happen in sessions; return every event."""
    session = await ada.session(agent="coder")
    write = call("write_file", {"path": "a", "content": ""})
    model.play(
        calls_answer(
            call("read_file", {"path": "a"}, id="read"),
            write | {"id": "approve"},
            write | {"id": "reject"},
            write | {"id": "edit"},
            call("nothing", {}, id="deny"),
            call("update_plan", {"items": [{"text": "look", "status": "pending"}]}, id="plan"),
            call("switch_mode", {"mode": "debug"}, id="switch"),
            text="All at once.",
        )
    )
    model.play(thought("Hm."), text_answer("Done."))
    await ada.say(session, "go")
    waiting = await ada.until(session, "turn.waiting")
    approvals = {e.data["call_id"]: e.data["approval_id"] for e in waiting if e.type == "approval.requested"}
    await ada.decide(session, approvals["approve"], "approve")
    await ada.decide(session, approvals["reject"], "reject", feedback="no")
    changed = {"path": "b", "content": "c"}
    await ada.decide(session, approvals["edit"], "edit", modified_arguments=changed)
    await steer(ada, session, "and mind the time")
    await ada.http.post(f"/api/v1/sessions/{session}/tool-calls/read/claim", json={"client_id": "me"})
    await ada.answer(session, "read", error="not there", client_id="me")
    await ada.answer(session, "approve", result={"ok": True})
    await ada.answer(session, "edit", result=None)
    await ada.until(session, "turn.completed")
    await ada.http.post(f"/api/v1/agents/{session}/switch", json={"target_agent": "ask"})
    model.play(b"", status=500)
    model.play(b"", status=500)
    await ada.say(session, "fail")
    await ada.until(session, "turn.failed")
    model.play(text_of("Well"), STALL)
    accepted = await ada.say(session, "stop")
    await ada.until(session, "message.delta", after=accepted["seq"])
    await ada.http.post(f"/api/v1/sessions/{session}/cancel")
    first = await ada.until(session, "turn.cancelled")

    routed = await ada.session()
    model.play(calls_answer(call("execute_command", {"command": "ls"}, id="run")))
    await ada.say(routed, "run ls")
    await ada.until(routed, "turn.waiting")
    await ada.http.post(f"/api/v1/sessions/{routed}/cancel")
    routed_events = await ada.until(routed, *END)

    full = await ada.session(agent="ask")
    for answers in (("Done.",), ("Summary.", "Done.")):
        for text in answers:
            model.play(text_answer(text))
        accepted = await ada.say(full, "word " * 6000)
        await ada.until(full, "turn.completed", turn=accepted["turn_id"])
    return first + routed_events + await ada.until(full, "turn.completed", turn=accepted["turn_id"])


@pytest.fixture
async def talker(start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]) -> Person:
    """A person whose server asks its model twice, in a window that is soon full."""
    small = {"llm_retries": 1, "llm_context_tokens": 20_000, "llm_max_output_tokens": 4_000}
    return await (await start(**with_model | small)).person()


async def test_events_are_as_documented(model: Upstream, talker: Person) -> None:
    """In a recording of everything that can happen each type occurs, with exactly the members of the table."""
    documented = documented_events()
    async with asyncio.timeout(60):
        events = await every_event(model, talker)
    seen: dict[str, set[str]] = {}
    for event in events:
        assert set(event.data) == documented[event.type], event
        seen.setdefault(event.type, set()).update(event.data)

    assert set(seen) == set(documented) == set(EVENT_TYPES)


async def test_values_are_as_documented(model: Upstream, talker: Person) -> None:
    """Where the table names the values of a member, the recording holds these and no others."""
    events = await every_event(model, talker)

    def values(kind: str, member: str) -> set[Any]:
        return {event.data[member] for event in events if event.type == kind}

    assert values("tool.completed", "status") == {"completed", "failed", "denied", "rejected", "cancelled"}
    assert values("approval.resolved", "status") == {"approved", "rejected", "cancelled"}
    assert values("approval.resolved", "decision") == {"approve", "edit", "reject", None}
    assert values("agent.switched", "by") == {"router", "agent", "user"}
    assert values("message.completed", "status") == {"completed", "interrupted"}
    assert values("message.created", "role") == {"user"}
    assert values("message.created", "delivery") == {"queue", "steer"}


def test_every_route_is_documented_and_every_documented_route_exists() -> None:
    """The tables of ``docs/api.md`` and ``docs/reference-clients.md`` are the application's route table."""
    present = {route for route in list_routes(whole_app()) if route.path not in ALIASES}

    assert documented_routes() == present | set(list_sockets(whole_app()))


def test_every_frame_is_documented_with_its_members() -> None:
    """The table of commands is that of the server, member by member."""
    section = API.split("\n## The WebSocket\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z._]+)` \| (.*) \|$", section, re.MULTILINE)
    documented = {kind: set(re.findall(r"`(\w+)`", members)) for kind, members in rows}

    assert documented == {
        kind: set(frame.__struct_fields__) - {"id", "idempotency_key"} for kind, frame in FRAMES.items()
    }


def test_every_end_of_a_stream_is_documented() -> None:
    """Reasons and close codes are those of the server."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{4}) \|", API.split("\n## Events\n")[1], re.MULTILINE)

    assert {End(reason): int(code) for reason, code in rows} == CLOSE_CODES
    assert set(CLOSE_CODES) == set(ENDS) == set(End)


def test_the_openapi_document_is_whole() -> None:
    """Each route is in it once, with its parameters, a valid schema for each body, and no dangling reference."""
    app = whole_app()
    document = app.openapi_schema.to_schema()
    listed = {
        Route(method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete"}
    }
    present = {route for route in list_routes(app) if not route.path.startswith("/schema")}
    operations = [
        operation for item in document["paths"].values() for name, operation in item.items() if name != "parameters"
    ]
    ids = [operation["operationId"] for operation in operations]

    assert document["openapi"].startswith("3.1")
    assert listed == present
    assert len(set(ids)) == len(ids)
    for path, item in document["paths"].items():
        for operation in item.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]
            assert operation["responses"]
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r"'\$ref': '([^']+)'", str(document)))
    assert references == {f"#/components/schemas/{name}" for name in schemas} & references
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
