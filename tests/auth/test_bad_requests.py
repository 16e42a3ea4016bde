"""Wrong requests to each endpoint that programs use, with the answer of its RFC; a sequel to ``test_requests``."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import pytest

from codelab.auth.seeds import DEVICE_CODE, TERMINAL_CLIENT_ID
from tests.auth.test_requests import CASES as PASSWORD_CASES
from tests.support.auth import CLIENT, FORM, RunningAuth
from tests.support.flows import VERIFIER, WEB

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = ("token", "introspect", "revoke", "device_authorization")
#: What makes a request right at each endpoint, but that the token of the first is unknown.
RIGHT = {
    "token": {"grant_type": "authorization_code", "code": "x", "code_verifier": VERIFIER, "redirect_uri": WEB},
    "introspect": {"token": "x"},
    "revoke": {"token": "x"},
    "device_authorization": {"scope": "api:read"},
}
TYPES = "urn:ietf:params:oauth:grant-type"
LONG = "x" * 9000
JSON, TEXT = "application/json", "text/plain"


class Case(NamedTuple):
    """A wrong request, and what its answer is."""

    name: str
    path: str
    body: bytes
    status: int
    error: str
    content_type: str = FORM
    authorization: str | None = None


def basic(client_id: str, secret: str) -> str:
    """Write HTTP Basic."""
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def encode(fields: dict[str, str]) -> bytes:
    """Encode a form."""
    return urlencode(fields).encode()


def everywhere() -> Iterator[Case]:
    """Make the mistakes that can be made at each endpoint."""
    for path in PATHS:
        right = encode(RIGHT[path])
        by = b"client_id=backend&client_secret=s&"
        name = next(iter(RIGHT[path])).encode()
        yield from (
            Case("no client", path, right, 400, "invalid_request"),
            Case("unknown client", path, b"client_id=nobody&" + right, 401, "invalid_client"),
            Case("a document's URL", path, b"client_id=https://a.example/c.json&" + right, 401, "invalid_client"),
            Case("disabled client", path, b"client_id=disabled&" + right, 400, "invalid_grant"),
            Case("no secret", path, b"client_id=backend&" + right, 401, "invalid_client"),
            Case("wrong secret", path, b"client_id=backend&client_secret=x&" + right, 401, "invalid_client"),
            Case("secret of another", path, right, 401, "invalid_client", FORM, basic("nobody", "s")),
            Case("wrong Basic", path, right, 401, "invalid_client", FORM, basic("backend", "x")),
            Case("broken Basic", path, right, 401, "invalid_client", FORM, "Basic ???"),
            Case("empty Basic", path, right, 401, "invalid_client", FORM, "Basic"),
            Case("two ids", path, b"client_id=x&" + right, 400, "invalid_request", FORM, basic("backend", "s")),
            Case("two secrets", path, by + right, 400, "invalid_request", FORM, basic("backend", "s")),
            Case("the same twice", path, by + right + b"&client_id=backend", 400, "invalid_request"),
            Case("its parameter twice", path, by + right + b"&" + name + b"=x", 400, "invalid_request"),
            Case("unknown ones twice", path, by + right + b"&a=1&a=2", 400, "invalid_request"),
            Case("JSON", path, b"{}", 400, "invalid_request", JSON),
            Case("JSON called a form", path, b'{"client_id": "backend"}', 400, "invalid_request"),
            Case("text", path, by + right, 400, "invalid_request", TEXT),
            Case("no type", path, by + right, 400, "invalid_request", ""),
            Case("no body", path, b"", 400, "invalid_request"),
            Case("NUL", path, by + right + b"&b=%00", 400, "invalid_request"),
            Case("no UTF-8", path, by + right + b"&b=%ff", 400, "invalid_request"),
            Case("surrogate", path, by + right + b"&b=%ed%a0%80", 400, "invalid_request"),
            Case("too large", path, by + right + b"&b=" + b"x" * 70_000, 413, "invalid_request"),
        )


def of_grants() -> Iterator[Case]:
    """Make the mistakes of single grants."""
    public = {"client_id": "web"}
    code = {**public, **RIGHT["token"]}
    device = {"client_id": TERMINAL_CLIENT_ID, "grant_type": DEVICE_CODE}
    refresh = {**public, "grant_type": "refresh_token"}
    machine = {"client_id": "backend", "client_secret": "s", "grant_type": "client_credentials"}
    for name, fields, status, error in (
        ("unknown code", code, 400, "invalid_grant"),
        ("no code", code | {"code": ""}, 400, "invalid_request"),
        ("very long code", code | {"code": "x" * 20_000}, 400, "invalid_grant"),
        ("code that is no ASCII", code | {"code": "код"}, 400, "invalid_grant"),
        ("code of a client without the grant", code | {"client_id": CLIENT}, 400, "unauthorized_client"),
        ("no device code", device, 400, "invalid_request"),
        ("unknown device code", device | {"device_code": "x"}, 400, "invalid_grant"),
        ("device code that is no ASCII", device | {"device_code": "код"}, 400, "invalid_grant"),
        ("device grant by its short name", device | {"grant_type": "device_code"}, 400, "unsupported_grant_type"),
        ("device grant without the right", device | {"client_id": "web"}, 400, "unauthorized_client"),
        ("implicit", public | {"grant_type": "implicit"}, 400, "unsupported_grant_type"),
        (
            "token exchange",
            public | {"grant_type": f"{TYPES}:token-exchange"},
            400,
            "unsupported_grant_type",
        ),
        (
            "assertion",
            public | {"grant_type": f"{TYPES}:jwt-bearer"},
            400,
            "unsupported_grant_type",
        ),
        ("machine without the right", machine | {"client_id": "web"}, 400, "unauthorized_client"),
        ("machine, unknown scope", machine | {"scope": "x"}, 400, "invalid_scope"),
        ("machine, about people", machine | {"scope": "openid"}, 400, "invalid_scope"),
        ("machine, other resource", machine | {"resource": "https://other.example"}, 400, "invalid_target"),
        ("machine, relative resource", machine | {"resource": "/api/v1"}, 400, "invalid_target"),
        ("refresh with a code", refresh | {"code": "x"}, 400, "invalid_request"),
        (
            "refresh with an access token",
            refresh | {"refresh_token": "a.b.c"},
            400,
            "invalid_grant",
        ),
        (
            "refresh, other resource",
            refresh | {"refresh_token": "x", "resource": "https://x"},
            400,
            "invalid_target",
        ),
    ):
        yield Case(name, "token", encode(fields), status, error)
    for name, fields, status, error in (
        ("device, unknown scope", {"client_id": TERMINAL_CLIENT_ID, "scope": "x"}, 400, "invalid_scope"),
        ("device, blanks as scope", {"client_id": TERMINAL_CLIENT_ID, "scope": " "}, 400, "invalid_scope"),
        ("device, other resource", {"client_id": TERMINAL_CLIENT_ID, "resource": "https://x"}, 400, "invalid_target"),
        ("device without the right", {"client_id": CLIENT}, 400, "unauthorized_client"),
    ):
        yield Case(name, "device_authorization", encode(fields), status, error)
    for path in ("introspect", "revoke"):
        yield Case("no token", path, b"client_id=backend&client_secret=s", 400, "invalid_request")
        yield Case("empty token", path, b"client_id=backend&client_secret=s&token=", 400, "invalid_request")
    yield Case("public client asks", "introspect", f"client_id={CLIENT}&token=x".encode(), 401, "invalid_client")


CASES = (*everywhere(), *of_grants())


async def test_each_gets_the_error_of_its_rfc(auth: RunningAuth) -> None:
    """Status and error are those of the RFC, nothing is stored by caches, nothing is given out or kept."""
    await auth.client("web", "authorization_code", "refresh_token", redirect_uris=[WEB])
    await auth.client("backend", "authorization_code", "client_credentials", DEVICE_CODE, secret="s")
    await auth.client("disabled", "authorization_code", DEVICE_CODE, is_active=False)
    assert len(CASES) + len(PASSWORD_CASES) > 180
    for case in CASES:
        headers = {"Content-Type": case.content_type}
        if case.authorization is not None:
            headers["Authorization"] = case.authorization
        answer = await auth.http.post(f"/oauth/{case.path}", content=case.body, headers=headers)
        told = (case.path, case.name, answer.text)
        assert (answer.status_code, answer.json().get("error")) == (case.status, case.error), told
        assert set(answer.json()) == {"error", "error_description"}, told
        assert answer.headers["Cache-Control"] == "no-store", told
        assert (answer.status_code == 401) == ("WWW-Authenticate" in answer.headers), told
    for table in ("refresh_tokens", "device_codes", "revoked_tokens"):
        assert await auth.rows(f"SELECT id FROM {table}") == [], table  # noqa: S608 - names of this test


@pytest.mark.parametrize("path", PATHS)
async def test_only_post(auth: RunningAuth, path: str) -> None:
    """Secrets in a query would end in logs."""
    for method in ("GET", "PUT", "DELETE"):
        answer = await auth.http.request(method, f"/oauth/{path}", params=RIGHT[path])
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a b",
        "Bearer a.b.c",
        "bearer codelab_local_",
        "Bearer é",
        "Bearer " + "x" * 9000,
    ],
)
async def test_bearer_tokens_that_are_none(auth: RunningAuth, value: str) -> None:
    """RFC 6750 section 3.1: 401 with invalid_token, at our API and at userinfo."""
    for path in ("/me", "/oauth/userinfo"):
        answer = await auth.http.get(path, headers=[(b"Authorization", value.encode())])
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
