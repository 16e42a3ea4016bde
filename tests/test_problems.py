"""What a caller is told when a request cannot be served, and what an operator sees of it."""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from litestar import get
from litestar.params import FromPath  # noqa: TC002 - Litestar reads it while the program runs
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from codelab.app import create_app
from codelab.errors import (
    BadRequest,
    CodelabError,
    Conflict,
    Forbidden,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.support.apps import talking
from tests.support.databases import DatabaseUrls
from tests.support.server import make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx2

TOKEN = "codelab_local_" + "t" * 43
SECRET = "hunter2"

#: Errors that a handler may raise, by the last part of a path.
RAISED: dict[str, Exception] = {
    "bug": RuntimeError(f"the password is {SECRET}"),
    "constraint": IntegrityError(f"INSERT {SECRET}", None, Exception(f"duplicate {SECRET}")),
    "gone": OperationalError(f"SELECT {SECRET}", None, Exception("disk is full")),
    "pool": PoolTimeoutError(f"QueuePool {SECRET}"),
    "refused": ConnectionRefusedError(111, f"Connection refused {SECRET}"),
    "slow": TimeoutError(SECRET),
    "shutdown": asyncpg.AdminShutdownError(f"terminating {SECRET}"),
    "many": asyncpg.TooManyConnectionsError(f"sorry {SECRET}"),
    "lost": asyncpg.ConnectionDoesNotExistError(f"closed {SECRET}"),
    "recursion": RecursionError(SECRET),
    "conflict": Conflict(
        "Taken.", code="session_exists", field="session_id", headers={"X-Try": "other"}, extra={"taken_by": "ada"}
    ),
}


@get("/raise/{name:str}", opt={"exclude_from_auth": True}, sync_to_thread=False)
def _raise(name: FromPath[str]) -> bool:
    raise RAISED[name]


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the whole application, with all rights; messages may have 1000 bytes."""
    databases = DatabaseUrls(f"sqlite:///{tmp_path}/agent.db", f"sqlite:///{tmp_path}/auth.db")
    settings = make_settings(databases, tmp_path, max_message_bytes=1000, max_result_bytes=1000)
    app = create_app(settings, issuer="http://testserver", local_secret=TOKEN)
    app.register(_raise)
    async with talking(app) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


def read_problem(answer: httpx2.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """Check the contract of docs/api.md for an error, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "code", "detail", "request_id"} <= set(problem)
    assert (problem["type"], problem["status"], problem["code"]) == ("about:blank", status, code)
    assert problem.get("field") == field
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in answer.text
    return problem


async def post(http: httpx2.AsyncClient, body: bytes, path: str = "/api/v1/sessions") -> httpx2.Response:
    """Send a body as it is."""
    return await http.post(path, content=body, headers={"Content-Type": "application/json"})


class TestRouting:
    async def test_an_unknown_route(self, http: httpx2.AsyncClient) -> None:
        """404, as a problem."""
        read_problem(await http.get("/nowhere"), 404, "not_found")
        read_problem(await http.get("/api/v1/nowhere"), 404, "not_found")

    async def test_a_wrong_method(self, http: httpx2.AsyncClient) -> None:
        """405, and which methods there are."""
        answer = await http.put("/api/v1/sessions")

        read_problem(answer, 405, "method_not_allowed")
        assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))

    async def test_no_token(self, http: httpx2.AsyncClient) -> None:
        """401 with the challenge of RFC 6750."""
        del http.headers["Authorization"]
        answer = await http.get("/api/v1/sessions")

        read_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b'{"title": }',
            b'{"title": "x"} more',
            b"title=x",
            b'{"title": "\xff"}',
            '{"title": "x"}'.encode("utf-16"),
            b'{"metadata": {"x": NaN}}',
            b'{"metadata": {"x": 1e999}}',
            b'{"metadata": {"\\ud800": Infinity}}',
        ],
        ids=repr,
    )
    async def test_no_json(self, body: bytes, http: httpx2.AsyncClient) -> None:
        """400 that says that the body is no JSON, in one line."""
        problem = read_problem(await post(http, body), 400, "invalid_request")

        assert problem["detail"].startswith("The body is not valid JSON")
        assert "\n" not in problem["detail"]

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"[]", None),
            (b"5", None),
            (b'"text"', None),
            (b'{"title": 5}', "title"),
            (b'{"metadata": []}', "metadata"),
            (b'{"metadata": "x"}', "metadata"),
            (b'{"session_id": ""}', "session_id"),
            (b'{"session_id": "a/b"}', "session_id"),
            (b'{"title": "' + b"x" * 501 + b'"}', "title"),
        ],
        ids=repr,
    )
    async def test_wrong_types(self, body: bytes, field: str | None, http: httpx2.AsyncClient) -> None:
        """400 that names the field, where there is one."""
        read_problem(await post(http, body), 400, "invalid_request", field)

    @pytest.mark.parametrize(
        ("body", "field", "character"),
        [
            (b'{"title": "a\\u0000"}', "title", "U+0000"),
            (b'{"title": "a\\ud800"}', "title", "U+D800"),
            (b'{"title": "\\udc00\\ud800"}', "title", "U+DC00"),
            (b'{"metadata": {"a": {"b": ["x", "\\u0000"]}}}', "metadata.a.b[1]", "U+0000"),
            (b'{"metadata": {"a\\udfff": 1}}', "metadata", "U+DFFF"),
        ],
    )
    async def test_text_that_cannot_be_stored(
        self, body: bytes, field: str, character: str, http: httpx2.AsyncClient
    ) -> None:
        """400 that names the field and the character, the same on both databases."""
        problem = read_problem(await post(http, body), 400, "invalid_request", field)

        assert problem["detail"] == f"{field}: must not contain {character}"

    async def test_text_that_looks_like_it_is_kept(self, http: httpx2.AsyncClient) -> None:
        """Pairs of surrogates, other control characters and U+FFFD are text."""
        answer = await post(http, b'{"title": "\\ud83d\\ude00\\u0001\\ufffd"}')

        assert (answer.status_code, answer.json()["title"]) == (201, "😀\x01\ufffd")

    async def test_a_missing_field(self, http: httpx2.AsyncClient) -> None:
        """400 that names it."""
        await post(http, b'{"session_id": "s"}')
        answer = await post(http, b"{}", "/api/v1/sessions/s/messages")

        read_problem(answer, 400, "invalid_request", "content")

    @pytest.mark.parametrize(
        ("query", "field"), [("limit=x", "limit"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("q=%00", "q")]
    )
    async def test_a_parameter(self, query: str, field: str, http: httpx2.AsyncClient) -> None:
        """400 that names the parameter of the query."""
        read_problem(await http.get(f"/api/v1/sessions?{query}"), 400, "invalid_request", field)

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 50_000,
            b"[" * 30_000 + b"]" * 30_000,
            b'{"title": "\\ud800", "metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
            b'{"metadata": {"x":' + b"[" * 500 + b"]" * 500 + b"}}",
        ],
        ids=lambda body: f"{body[:24]!r}-{len(body)}",
    )
    async def test_a_body_that_is_nested_deeply(self, body: bytes, http: httpx2.AsyncClient) -> None:
        """400, whoever has to recurse first."""
        answer = await post(http, body)

        assert "nested" in read_problem(answer, 400, "invalid_request", answer.json().get("field"))["detail"]

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_huge_body(self, chunked: bool, http: httpx2.AsyncClient) -> None:
        """413, with or without a length in advance."""

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b" " * 10_000

        answer = await http.post(
            "/api/v1/sessions",
            content=chunks() if chunked else b" " * 500_000,
            headers={"Content-Type": "application/json"},
        )

        assert ("content-length" in answer.request.headers) is not chunked
        read_problem(answer, 413, "content_too_large")

    async def test_a_message_that_is_too_long(self, http: httpx2.AsyncClient) -> None:
        """413 that names the field; one byte less is taken."""
        await post(http, b'{"session_id": "s"}')
        long = await http.post("/api/v1/sessions/s/messages", json={"content": "é" * 500 + "x"})
        taken = await http.post("/api/v1/sessions/s/messages", json={"content": "é" * 500})

        read_problem(long, 413, "content_too_large", "content")
        assert taken.status_code == 202


class TestErrors:
    @pytest.mark.parametrize("name", ["bug", "constraint"])
    async def test_a_bug(self, name: str, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
        """500 without a word of the error; the log has it all, under the same request id."""
        read_problem(await http.get(f"/raise/{name}"), 500, "internal_error")

        assert "an error that nobody expected" in caplog.text
        assert "Traceback" in caplog.text

    @pytest.mark.parametrize("name", ["gone", "pool", "refused", "slow", "shutdown", "many", "lost"])
    async def test_a_database_that_is_away(
        self, name: str, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """503 that says when to come back; no traceback, since it is no bug."""
        answer = await http.get(f"/raise/{name}")

        read_problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "the database does not answer" in caplog.text
        assert "Traceback" not in caplog.text

    async def test_the_log_says_why_a_database_is_away(
        self, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What the driver said is for the operator, without the statement."""
        await http.get("/raise/gone")

        assert "disk is full" in caplog.text
        assert SECRET not in caplog.text

    async def test_a_recursion_without_end(self, http: httpx2.AsyncClient) -> None:
        """Whatever recursed did so over what the caller sent."""
        read_problem(await http.get("/raise/recursion"), 400, "invalid_request")

    async def test_an_error_on_purpose(self, http: httpx2.AsyncClient) -> None:
        """Code, field, headers and further members reach the caller."""
        answer = await http.get("/raise/conflict")
        problem = read_problem(answer, 409, "session_exists", "session_id")

        assert (problem["title"], problem["detail"], problem["taken_by"]) == ("Conflict", "Taken.", "ada")
        assert answer.headers["x-try"] == "other"

    @pytest.mark.parametrize(
        ("kind", "status", "code"),
        [
            (BadRequest, 400, "invalid_request"),
            (Unauthenticated, 401, "unauthenticated"),
            (Forbidden, 403, "forbidden"),
            (NotFound, 404, "not_found"),
            (Conflict, 409, "conflict"),
            (TooLarge, 413, "content_too_large"),
            (Unavailable, 503, "unavailable"),
        ],
    )
    async def test_the_family(
        self,
        kind: type[CodelabError],
        status: int,
        code: str,
        http: httpx2.AsyncClient,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Each error has its status and its stable code."""
        monkeypatch.setitem(RAISED, "kind", kind("A sentence."))

        assert read_problem(await http.get("/raise/kind"), status, code)["detail"] == "A sentence."


class TestRequestIds:
    @pytest.mark.parametrize("given", ["abcdefgh", "01234567-89ab_cdef.XYZ", "x" * 64])
    async def test_a_sane_one_is_kept(self, given: str, http: httpx2.AsyncClient) -> None:
        """The caller's id comes back, in the header and in problems."""
        for path in ("/health", "/nowhere", "/raise/bug"):
            answer = await http.get(path, headers={"X-Request-ID": given})
            assert answer.headers["x-request-id"] == given
            assert answer.json().get("request_id", given) == given

    @pytest.mark.parametrize("given", ["", "short", "x" * 65, "a b c d e", "abcdefgh\u00e9", 'abcdefgh"', "{abcdefgh}"])
    async def test_another_is_replaced(self, given: str, http: httpx2.AsyncClient) -> None:
        """What could harm a log is replaced by an id of ours."""
        answer = await http.get("/nowhere", headers=[(b"X-Request-ID", given.encode())])

        assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
        assert uuid.UUID(answer.json()["request_id"]).version == 7

    async def test_it_is_in_the_log(self, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
        """Each request leaves one record with its method, route and status, and nothing of its body or query."""
        caplog.set_level(logging.INFO, "codelab.access")
        await http.get(f"/api/v1/sessions/{'s' * 50}?q={SECRET}")
        records = [record for record in caplog.records if record.name == "codelab.access"]

        assert len(records) == 1
        details = vars(records[0])
        assert (details["method"], details["route"]) == ("GET", "/api/v1/sessions/{session_id}")
        assert details["status"] == 404
        assert details["session_id"] == "s" * 36
        assert SECRET not in repr(details)


class TestMetrics:
    async def test_requests_are_counted_by_template(self, http: httpx2.AsyncClient) -> None:
        """Ids do not become labels, and paths that nobody serves share one."""
        for path in ("/api/v1/sessions/a", "/api/v1/sessions/b", "/health", "/nowhere/1", "/nowhere/2", "/raise/bug"):
            await http.get(path)
        counted = await _counted(http)

        assert counted["GET", "/api/v1/sessions/{session_id}", "404"] == 2
        assert counted["GET", "/health", "200"] == 1
        assert counted["GET", "unknown", "404"] == 2
        assert counted["GET", "/raise/{name}", "500"] == 1
        assert not [route for _, route, _ in counted if re.search(r"sessions/[ab]|nowhere", route)]

    async def test_times_and_gauges_are_there(self, http: httpx2.AsyncClient) -> None:
        """The histogram has the same routes, and the gauges are read when asked."""
        await http.get("/health")
        text = (await http.get("/metrics")).text

        assert 'codelab_http_request_seconds_count{method="GET",route="/health"} 1.0' in text
        assert "codelab_sessions_running 0.0" in text
        assert "codelab_event_streams 0.0" in text

    async def test_two_applications_do_not_share_figures(self, http: httpx2.AsyncClient, tmp_path: Path) -> None:
        """Each application counts for itself."""
        await http.get("/health")
        other = DatabaseUrls(f"sqlite:///{tmp_path}/other/agent.db", f"sqlite:///{tmp_path}/other/auth.db")
        app = create_app(make_settings(other, tmp_path / "other"), issuer="http://testserver")
        async with talking(app) as client:
            assert ("GET", "/health", "200") not in await _counted(client)


async def _counted(http: httpx2.AsyncClient) -> dict[tuple[str, str, str], float]:
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    return {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "codelab_http_requests_total"
    }
