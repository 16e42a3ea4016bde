"""Who may do what: every route of the module, taken from the application, so that a new one cannot be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.agent.routes import BODIES, list_routes
from tests.agent.transcripts import last
from tests.support.auth import CLIENT

if TYPE_CHECKING:
    from tests.support.server import Person, Running

PUBLIC = {"/api/v1/health"}
SCOPES = {
    ("GET", "/api/v1/admin/approvals"): "api:admin",
    ("POST", "/api/v1/admin/approvals/{approval_id}/reject"): "api:admin",
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}"): "approvals:decide",
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}/grant-preview"): "api:read",
    ("PUT", "/api/v1/sessions/{session_id}/policy"): "approvals:decide",
    ("POST", "/api/v1/policy/explain"): "api:read",
    ("POST", "/api/v1/ws-tickets"): "api:read",
    ("POST", "/api/v1/sessions/{session_id}/mcp-servers"): "approvals:decide",
    ("DELETE", "/api/v1/sessions/{session_id}/mcp-servers/{server_id}"): "approvals:decide",
}


async def test_somebody_elses_session_does_not_exist(running: Running, ada: Person) -> None:
    """Each route with a session answers another person as if there were no such session, byte for byte."""
    session = await ada.session(agent="coder")
    await ada.say(session, "create hello.py that prints hi")
    events = await ada.until(session, "turn.waiting")
    approval = last(events, "approval.requested")
    bob = await running.person("bob")
    before = (await ada.http.get(f"/api/v1/sessions/{session}")).json()
    tried = 0
    for route in list_routes(running.app, "/api/v1"):
        if "{session_id}" not in route.path:
            continue
        body = route.body
        if body and "call_id" in body:
            body = body | {"call_id": approval["call_id"]}
        answers = []
        for named in (session, "nothing"):
            url = route.url(session_id=named, approval_id=approval["approval_id"])
            answer = await bob.http.request(route.method, url, json=body)
            problem = answer.json()
            problem.pop("request_id")
            answers.append((answer.status_code, answer.headers["content-type"], problem))
        assert answers[0][0] == 404, route
        assert answers[0] == answers[1], route
        tried += 1
    after = (await ada.http.get(f"/api/v1/sessions/{session}")).json()

    assert tried >= 12
    assert before == after
    assert (await bob.http.get("/api/v1/sessions")).json()["total"] == 0


async def test_a_call_and_an_approval_belong_to_one_session(ada: Person) -> None:
    """The ids of one session name nothing in another one of the same person (W8)."""
    first, second = await ada.session(agent="coder"), await ada.session(agent="coder")
    await ada.say(first, "create hello.py that prints hi")
    approval = last(await ada.until(first, "turn.waiting"), "approval.requested")
    decided = await ada.decide(second, approval["approval_id"], "approve")
    answered = await ada.answer(second, approval["call_id"], result=1)
    pending = (await ada.http.get(f"/api/v1/sessions/{first}/pending-approvals")).json()

    assert (decided.status_code, decided.json()["code"]) == (404, "unknown_approval")
    assert (answered.status_code, answered.json()["code"]) == (404, "unknown_call")
    assert pending["count"] == 1


async def test_every_route_needs_a_token_with_its_scope(running: Running, ada: Person) -> None:
    """Nobody gets 401 with a challenge, a token of other scopes 403; nothing is changed by either."""
    session = await ada.session(title="kept")
    everything = {"api:read", "api:write", "approvals:decide", "api:admin"}
    for route in list_routes(running.app, "/api/v1"):
        if route.path in PUBLIC:
            continue
        needed = SCOPES.get((route.method, route.path), "api:read" if route.method == "GET" else "api:write")
        needed = "api:admin" if route.path.startswith("/api/v1/admin/") else needed
        token = running.app.state.auth._tokens.issue(
            user_id=ada.id, client_id=CLIENT, scope=" ".join(everything - {needed}), lifetime=60
        )
        url = route.url(session_id=session)
        tries: list[tuple[dict[str, str], int, str]] = [
            ({}, 401, "Bearer"),
            ({"Authorization": "Basic YTpi"}, 401, "Bearer"),
            ({"Authorization": "Bearer nonsense"}, 401, 'error="invalid_token"'),
            ({"Authorization": f"Bearer {token}"}, 403, f'scope="{needed}"'),
        ]
        for headers, status, challenge in tries:
            answer = await running.http.request(route.method, url, json=route.body, headers=headers)
            assert answer.status_code == status, (route, headers, answer.text)
            assert challenge in answer.headers["www-authenticate"], (route, headers)
            assert answer.headers["content-type"] == "application/problem+json"
    listed = (await ada.http.get("/api/v1/sessions")).json()

    assert [(s["title"], s["message_count"]) for s in listed["sessions"]] == [("kept", 0)]


async def test_a_token_that_reads_and_writes_may_use_every_route(running: Running, ada: Person) -> None:
    """No route asks for more than it needs: without it the test above could not fail for a wrong scope."""
    session = await ada.session(agent="ask")
    answered: dict[str, Any] = {}
    for route in list_routes(running.app, "/api/v1"):
        if route.path.endswith("/events") or route.method == "DELETE" or "/admin/" in route.path:
            continue
        if route.path.endswith("/mcp-servers") and route.method == "POST":  # no host is allowed here
            continue
        answer = await ada.http.request(route.method, route.url(session_id=session), json=route.body)
        answered[f"{route.method} {route.path}"] = answer.status_code

    # what names something that is not there
    naming = ("approvals/{approval_id}", "grant-preview", "tool-calls/", "tool-results", "images/")
    assert {status for name, status in answered.items() if any(part in name for part in naming)} == {404}
    assert {status for status in answered.values() if status >= 400} == {404}
    assert len([status for status in answered.values() if status == 404]) == len(naming)


def test_every_body_is_one_of_a_route() -> None:
    """The table of bodies names no route that is gone."""
    from codelab.app import create_app
    from codelab.settings import Settings

    present = {(r.method, r.path) for r in list_routes(create_app(Settings(), issuer="http://127.0.0.1"))}

    assert set(BODIES) <= present
