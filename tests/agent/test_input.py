"""Hostile requests: always a problem document of the 4xx kind, never a crash, never half a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tests.agent.routes import BODIES, Route
from tests.agent.test_inbox import administrator
from tests.agent.transcripts import last
from tests.agent.witness import Witness

if TYPE_CHECKING:
    import httpx2

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running

JSON = {"Content-Type": "application/json"}
DEEP = 20_000

#: Bodies that no route takes.
BODIES_OF_NO_ROUTE: dict[str, bytes] = {
    "half": b'{"content": "x"',
    "twice": b'{"content": "x"} {}',
    "single quotes": b"{'content': 'x'}",
    "array": b"[]",
    "array of objects": b'[{"content": "x"}]',
    "string": b'"x"',
    "number": b"5",
    "true": b"true",
    "NaN": b"NaN",
    "NUL": b"\x00",
    "invalid UTF-8": b'{"content": "\xff\xfe"}',
    "invalid UTF-8 name": b'{"\xc3\x28": 1}',
    "surrogate in a name": b'{"\\ud800": 1, "content": "x", "call_id": "c"}',
    "UTF-16": '{"content": "x"}'.encode("utf-16"),
    "deep array": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "open arrays": b"[" * DEEP,
    "form": b"content=x&call_id=y",
    "infinite": b'{"content": Infinity}',
    "too large a number": b'{"content": 1e999, "call_id": "c", "result": 1e999}',
    "too long a number": b'{"content": 1' + b"0" * 5000 + b"}",
}

#: Values that do not fit a member whose type is text.
NO_TEXT: tuple[bytes, ...] = (
    b"5",
    b"-1.5",
    b"true",
    b"[]",
    b"{}",
    b'["x"]',
    b"1" + b"0" * 400,
    b'"\\u0000"',
    b'"a\\u0000b"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
)
#: Values that do not fit a member whose type is an object.
NO_OBJECT: tuple[bytes, ...] = (
    b"5",
    b'"x"',
    b"[]",
    b"true",
    b"1" + b"0" * 400,
    b'{"a": "\\u0000"}',
    b'{"\\ud800": 1}',
    b'{"a": 1e999}',
    b'{"a":' * 150 + b"1" + b"}" * 150,
    b'{"a":' * 450 + b"1" + b"}" * 450,
)
TEXTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/api/v1/sessions"): ("session_id", "title", "agent"),
    ("PATCH", "/api/v1/sessions/{session_id}"): ("title",),
    ("POST", "/api/v1/sessions/{session_id}/messages"): ("content",),
    ("POST", "/api/v1/sessions/{session_id}/tool-results"): ("call_id",),
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}"): ("decision", "feedback"),
    ("POST", "/api/v1/agents/{session_id}/switch"): ("target_agent", "reason"),
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}/grant-preview"): ("scope",),
    ("POST", "/api/v1/policy/explain"): ("agent", "tool"),
}
OBJECTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/api/v1/sessions"): ("metadata",),
    ("PATCH", "/api/v1/sessions/{session_id}"): ("metadata",),
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}"): ("modified_arguments",),
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}/grant-preview"): ("modified_arguments",),
    ("POST", "/api/v1/policy/explain"): ("arguments",),
}
REQUIRED: dict[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/api/v1/sessions/{session_id}/messages"): ("content",),
    ("POST", "/api/v1/sessions/{session_id}/tool-results"): ("call_id",),
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}"): ("decision",),
    ("POST", "/api/v1/agents/{session_id}/switch"): ("target_agent",),
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}/grant-preview"): ("scope",),
    ("POST", "/api/v1/policy/explain"): ("agent", "tool", "arguments"),
}


def assert_problem(answer: httpx2.Response, where: Any, *, status: int | None = 400) -> dict[str, Any]:
    """Fail unless an answer is a problem document that a person and a program can use."""
    assert answer.headers["content-type"] == "application/problem+json", (where, answer.text[:500])
    problem: dict[str, Any] = answer.json()
    assert 400 <= answer.status_code < 500, (where, problem)
    assert status is None or answer.status_code == status, (where, problem)
    assert problem["status"] == answer.status_code
    assert problem["code"].islower(), where
    assert 5 < len(problem["detail"]) < 1000, where
    assert "Traceback" not in answer.text
    assert "msgspec" not in answer.text
    return problem


async def waiting_session(ada: Person) -> tuple[str, str]:
    """Bring a session to an approval; return both ids."""
    session = await ada.session(agent="coder")
    await ada.say(session, "create hello.py that prints hi")
    approval = last(await ada.until(session, "turn.waiting"), "approval.requested")
    return session, approval["approval_id"]


async def test_bodies_that_no_route_takes(running: Running, ada: Person, migrated: DatabaseUrls) -> None:
    """Whatever is no JSON object is refused by every route, and no row of any table changes."""
    session, approval = await waiting_session(ada)
    root = await administrator(running)
    async with Witness.at(migrated) as witness:
        before = await witness.counts()
        for key in BODIES:
            route = Route(*key)
            url = route.url(session_id=session, approval_id=approval)
            for name, body in BODIES_OF_NO_ROUTE.items():
                person = root if "/admin/" in route.path else ada
                answer = await person.http.request(route.method, url, content=body, headers=JSON)
                assert_problem(answer, (key, name))
            if key in REQUIRED:
                for body in (b"", b"null", b"{}"):
                    assert_problem(await ada.http.request(route.method, url, content=body, headers=JSON), (key, body))
        assert await witness.counts() == before


async def test_members_that_do_not_fit_are_named(ada: Person, migrated: DatabaseUrls) -> None:
    """Wrong types, NUL, surrogates, huge numbers, bottomless objects, absent members: ``field`` says which."""
    session, approval = await waiting_session(ada)
    cases: list[tuple[tuple[str, str], str, bytes]] = []
    for key, members in TEXTS.items():
        cases += [(key, member, value) for member in members for value in NO_TEXT]
    for key, members in OBJECTS.items():
        cases += [(key, member, value) for member in members for value in NO_OBJECT]
    async with Witness.at(migrated) as witness:
        before = await witness.counts()
        for key, member, value in cases:
            body = msgspec.json.encode({**BODIES[key], member: msgspec.Raw(value)})
            if member == "modified_arguments":
                body = body.replace(b'"approve"', b'"edit"')
            url = Route(*key).url(session_id=session, approval_id=approval)
            problem = assert_problem(
                await ada.http.request(key[0], url, content=body, headers=JSON), (key, member, value)
            )
            if b"1e999" not in value:  # refused as JSON, before there are members
                assert problem["field"].startswith(member), (key, member, value[:40], problem)
                assert problem["detail"].startswith(problem["field"]), problem
        for key, members in REQUIRED.items():
            for member in members:
                body = msgspec.json.encode({name: value for name, value in BODIES[key].items() if name != member})
                url = Route(*key).url(session_id=session, approval_id=approval)
                problem = assert_problem(await ada.http.request(key[0], url, content=body, headers=JSON), (key, member))
                assert problem["field"] == member
        assert await witness.counts() == before


async def test_members_that_nobody_knows_are_ignored(ada: Person) -> None:
    """As the clients of the reference system expect; a name that is given twice counts once."""
    made = await ada.http.post("/api/v1/sessions", json={"title": "t", "owner_id": "root", "db_id": 1, "x": None})
    twice = await ada.http.post("/api/v1/sessions", content=b'{"title": "a", "title": "b"}', headers=JSON)

    assert (made.status_code, made.json()["title"]) == (201, "t")
    assert "owner_id" not in made.json()
    assert twice.json()["title"] == "b"


async def test_sizes(ada: Person, migrated: DatabaseUrls) -> None:
    """A message of a MiB is taken, one byte more is 413, and so is a body beyond every limit; nothing is written."""
    session = await ada.session(agent="ask")
    url = f"/api/v1/sessions/{session}/messages"
    mebibyte = 1024 * 1024
    async with Witness.at(migrated) as witness:
        before = await witness.counts()
        for content in ("x" * (mebibyte + 1), "é" * (mebibyte // 2 + 1), "x" * 2 * mebibyte):
            problem = assert_problem(await ada.http.post(url, json={"content": content}), len(content), status=413)
            assert (problem["code"], problem["field"]) == ("content_too_large", "content")
        for member in ("result", "error"):
            body = {"call_id": "c", member: "x" * (4 * mebibyte + 1)}
            answer = await ada.http.post(f"/api/v1/sessions/{session}/tool-results", json=body)
            assert assert_problem(answer, member, status=413)["field"] == member
        for other in (f"/api/v1/sessions/{session}/tool-results", "/api/v1/sessions"):
            huge = await ada.http.post(other, content=b" " * (32 * mebibyte), headers=JSON)
            assert_problem(huge, "32 MiB", status=413)
        for empty in ("", " ", "\n\t\r ", "\u3000"):
            assert assert_problem(await ada.http.post(url, json={"content": empty}), empty)["field"] == "content"
        assert await witness.counts() == before
    largest = "count to 1 " + "é" * ((mebibyte - 11) // 2)
    await ada.say(session, largest)
    await ada.until(session, "turn.completed")

    assert (await ada.history(session))[0]["content"] == largest


async def test_content_types(ada: Person) -> None:
    """JSON is read as JSON whatever it is called; anything else is refused."""
    taken: list[str] = []
    for kind in (
        "application/json; charset=utf-8",
        "application/problem+json",
        "text/plain",
        "",
        "nonsense",
        "a/b/c; =;",
    ):
        answer = await ada.http.post("/api/v1/sessions", content=b'{"title": "t"}', headers={"Content-Type": kind})
        if answer.status_code == 201:
            taken.append(kind)
        else:
            assert_problem(answer, kind, status=None)
    for kind in (
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "application/x-msgpack",
    ):
        answer = await ada.http.post("/api/v1/sessions", content=b"\x81title=t\xff", headers={"Content-Type": kind})
        assert_problem(answer, kind, status=None)

    assert "application/json; charset=utf-8" in taken


async def test_paths_and_queries(running: Running, ada: Person) -> None:
    """What cannot be an id names nothing; a path or method that does not exist is a problem document too."""
    session = await ada.session()
    odd = (
        "%00",
        "a%00b",
        "%ED%A0%80",
        "%FF",
        "%2e%2e%2e",
        "a%0Ab",
        "%C3%A9",
        "x" * 4000,
        "'%20OR%201=1--",
        "%25",
        "{id}",
        "*",
    )
    for name in odd:
        for template in (
            "/api/v1/sessions/{}",
            "/api/v1/sessions/{}/history",
            "/api/v1/sessions/{}/events",
            "/api/v1/agents/{}/current",
        ):
            assert_problem(await ada.http.get(template.format(name)), name, status=404)
        approval = f"/api/v1/sessions/{session}/approvals/{name}"
        assert_problem(await ada.http.post(approval, json={"decision": "approve"}), name, status=404)
    for query in ("q=%00", "q=%ED%A0%80x%00", "limit=%00", "cursor=%00", "limit=1&limit=x"):
        assert_problem(await ada.http.get(f"/api/v1/sessions?{query}"), query)
    for query in ("limit=0", "limit=%00", "cursor=%FF", "cursor=WzFd"):
        assert_problem(await ada.http.get(f"/api/v1/sessions/{session}/history?{query}"), query)
    assert_problem(await ada.http.get(f"/api/v1/agents/{session}/current?include_history=perhaps"), "include_history")
    assert_problem(await ada.http.get("/api/v1/nothing"), "path", status=404)
    wrong = await ada.http.put(f"/api/v1/sessions/{session}", json={})
    assert_problem(wrong, "method", status=405)

    assert wrong.headers["allow"]
