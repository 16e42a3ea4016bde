"""Token requests that are wrong, each with the answer that RFC 6749 asks for."""

from __future__ import annotations

import base64
import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import pytest

from codelab.db import new_id
from tests.support.auth import CLIENT, FORM, PASSWORD, RunningAuth

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

PASSWORD_GRANT = {"grant_type": "password", "client_id": CLIENT, "username": "admin", "password": PASSWORD}
REFRESH_GRANT = {"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": "unknown"}
SECRET = "s+e: c%41é"


def form(base: dict[str, str] = PASSWORD_GRANT, **changes: str | None) -> bytes:
    """Encode a form with some fields changed, or left out (None)."""
    return urlencode({name: value for name, value in {**base, **changes}.items() if value is not None}).encode()


def basic(user: str, password: str, *, encode: bool = True) -> dict[str, str]:
    """Make an Authorization header; its halves are form-encoded (RFC 6749 section 2.3.1)."""
    halves = [urlencode({"": half})[1:] for half in (user, password)] if encode else [user, password]
    return {"Authorization": "Basic " + base64.b64encode(":".join(halves).encode()).decode()}


class Case(NamedTuple):
    """A wrong request, and what its answer is and says."""

    name: str
    body: bytes
    status: int
    error: str
    says: str
    headers: Mapping[str, str] = MappingProxyType({})


CASES = (
    Case("no body", b"", 400, "invalid_request", "grant_type"),
    Case("no grant_type", form(grant_type=None), 400, "invalid_request", "grant_type"),
    Case("empty grant_type", form(grant_type=""), 400, "invalid_request", "grant_type"),
    Case("unknown grant_type", form(grant_type="foo"), 400, "unsupported_grant_type", "foo"),
    Case("code grant", form(grant_type="authorization_code"), 400, "unauthorized_client", "authorization_code"),
    Case("grant in capitals", form(grant_type="PASSWORD"), 400, "unsupported_grant_type", "PASSWORD"),
    Case("no client_id", form(client_id=None), 400, "invalid_request", "client_id"),
    Case("empty client_id", form(client_id=""), 400, "invalid_request", "client_id"),
    Case("unknown client", form(client_id="nobody"), 401, "invalid_client", "client"),
    Case("client_id in another case", form(client_id=CLIENT.upper()), 401, "invalid_client", "client"),
    Case("disabled client", form(client_id="disabled"), 400, "invalid_grant", "disabled"),
    Case("grant of others", form(client_id="refresh-only"), 400, "unauthorized_client", "password"),
    Case("no username", form(username=None), 400, "invalid_request", "username"),
    Case("no password", form(password=None), 400, "invalid_request", "password"),
    Case("neither", form(username=None, password=None), 400, "invalid_request", "username and password"),
    Case("empty password", form(password=""), 400, "invalid_request", "password"),
    Case("unknown user", form(username="eve"), 401, "invalid_grant", "Invalid username or password"),
    Case("wrong password", form(password="x"), 401, "invalid_grant", "Invalid username or password"),
    Case("password in another case", form(password=PASSWORD.upper()), 401, "invalid_grant", "Invalid username"),
    Case("username in another case", form(username="ADMIN"), 401, "invalid_grant", "Invalid username or password"),
    Case("disabled user", form(username="disabled"), 401, "invalid_grant", "Invalid username or password"),
    Case("SQL in the name", form(username="' OR 1=1 --"), 401, "invalid_grant", "Invalid username or password"),
    Case("password of 1025 bytes", form(password="é" * 512 + "x"), 400, "invalid_request", "password"),
    Case("unknown scope", form(scope="api:read root"), 400, "invalid_scope", "root"),
    Case("scope of others", form(scope="api:admin"), 400, "invalid_scope", "api:admin"),
    Case("scope with a tab", form(scope="api:read\tapi:write"), 400, "invalid_scope", "Scope not allowed"),
    Case("scope of blanks", form(scope="  "), 400, "invalid_scope", "empty"),
    Case("username twice", form() + b"&username=eve", 400, "invalid_request", "username"),
    Case("same value twice", form() + b"&grant_type=password", 400, "invalid_request", "grant_type"),
    Case("unknown one twice", form() + b"&a=1&a=2", 400, "invalid_request", "a: must not"),
    Case("U+0000 in username", form(username="ad\0min"), 400, "invalid_request", "username: must not contain U+0000"),
    Case("U+0000 in password", form(password="\0"), 400, "invalid_request", "password: must not contain U+0000"),
    Case("U+0000 in client_id", form(client_id="\0"), 400, "invalid_request", "client_id: must not contain U+0000"),
    Case("U+0000 in scope", form(scope="api:read\0"), 400, "invalid_request", "scope: must not contain U+0000"),
    Case("bad UTF-8", form(username=None) + b"&username=%ff", 400, "invalid_request", "username: must be UTF-8"),
    Case("raw bad UTF-8", form(username=None) + b"&username=\xff", 400, "invalid_request", "username: must be UTF-8"),
    Case("surrogate", form(username=None) + b"&username=%ed%a0%80", 400, "invalid_request", "username"),
    Case("bad name", form() + b"&%ff=1", 400, "invalid_request", "parameter name"),
    Case("quotes in a name", form() + b'&"\\%0a=1&"\\%0a=2', 400, "invalid_request", "???: must not"),
    Case("JSON body", b'{"grant_type":"password"}', 400, "invalid_request", FORM, {"Content-Type": "application/json"}),
    Case("multipart", form(), 400, "invalid_request", FORM, {"Content-Type": "multipart/form-data; boundary=x"}),
    Case("text", form(), 400, "invalid_request", FORM, {"Content-Type": "text/plain"}),
    Case("no content type", form(), 400, "invalid_request", FORM, {"Content-Type": ""}),
    Case("over 64 KiB", form(username="x" * 70_000), 413, "invalid_request", "Entity Too Large"),
    Case("no refresh_token", form(REFRESH_GRANT, refresh_token=None), 400, "invalid_request", "refresh_token"),
    Case("unknown refresh_token", form(REFRESH_GRANT), 400, "invalid_grant", "Invalid refresh token"),
    Case("U+0000 in it", form(REFRESH_GRANT, refresh_token="\0"), 400, "invalid_request", "refresh_token"),
    Case("refresh by unknown", form(REFRESH_GRANT, client_id="nobody"), 401, "invalid_client", "client"),
    Case("no secret", form(client_id="backend"), 401, "invalid_client", "secret"),
    Case("wrong secret", form(client_id="backend", client_secret="x"), 401, "invalid_client", "secret"),
    Case("wrong Basic", form(client_id=None), 401, "invalid_client", "secret", basic("backend", "x")),
    Case("Basic, not encoded", form(client_id=None), 401, "invalid_client", "", basic("backend", SECRET, encode=False)),
    Case("Basic without a secret", form(client_id=None), 401, "invalid_client", "secret", basic("backend", "")),
    Case("Basic of nobody", form(client_id=None), 401, "invalid_client", "client", basic("nobody", "x")),
    Case("Basic, no base64", form(client_id=None), 401, "invalid_client", "Basic", {"Authorization": "Basic ???"}),
    Case("Basic, no colon", form(client_id=None), 401, "invalid_client", "Basic", {"Authorization": "Basic YWJj"}),
    Case("Basic with U+0000", form(client_id=None), 401, "invalid_client", "Basic", basic("back\0end", "x")),
    Case("Basic and another id", form(), 400, "invalid_request", "client_id", basic("backend", SECRET)),
    Case(
        "secret in two ways",
        form(client_id=None, client_secret=SECRET),
        400,
        "invalid_request",
        "client_secret",
        basic("backend", SECRET),
    ),
    Case("without any secret", form(client_id="broken"), 401, "invalid_client", "secret"),
    Case("empty secret", form(client_id="broken", client_secret=""), 401, "invalid_client", "secret"),
)


async def add_clients(auth: RunningAuth) -> None:
    """Add a confidential client, disabled ones and one without the password grant."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    for name, secret, confidential, active, grants in (
        ("backend", digest, True, True, '["password","refresh_token"]'),
        ("broken", None, True, True, '["password"]'),
        ("disabled", None, False, False, '["password"]'),
        ("refresh-only", None, False, True, '["refresh_token"]'),
        ("password-only", None, False, True, '["password"]'),
    ):
        await auth.execute(
            "INSERT INTO oauth_clients (id, client_id, client_secret_hash, name, is_confidential, allowed_scopes,"
            " default_scopes, allowed_grant_types, access_token_lifetime, refresh_token_lifetime, is_active,"
            " created_at, updated_at) VALUES (:id, :name, :secret, :name, :confidential, 'api:read api:write',"
            " 'api:read', :grants, 600, 6000, :active, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
            id=new_id(),
            name=name,
            secret=secret,
            confidential=confidential,
            active=active,
            grants=grants,
        )


async def add_disabled_user(auth: RunningAuth) -> None:
    """Add a user with the password of ``admin`` who may not log in."""
    await auth.execute(
        "INSERT INTO users (id, username, email, password_hash, is_active, is_verified, created_at, updated_at)"
        " SELECT :id, 'disabled', 'disabled@example.org', password_hash, :no, :no, created_at, updated_at"
        " FROM users WHERE username = 'admin'",
        id=new_id(),
        no=False,
    )


def check_never_stored(answer: httpx2.Response) -> None:
    """No cache may keep what the token endpoint answers (RFC 6749 section 5.1)."""
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    assert answer.headers["Content-Type"] == "application/json"


async def test_bad_requests_get_the_error_of_the_rfc(auth: RunningAuth) -> None:
    """Each wrong request gets its status and error, says what is wrong, and is never stored or issued anything."""
    await add_clients(auth)
    await add_disabled_user(auth)
    for case in CASES:
        answer = await auth.http.post("/oauth/token", content=case.body, headers={"Content-Type": FORM, **case.headers})
        body = answer.json()
        assert (answer.status_code, body.get("error")) == (case.status, case.error), (case.name, body)
        assert case.says in body["error_description"], (case.name, body)
        assert set(body) == {"error", "error_description"}, case.name
        assert (answer.status_code == 401) == ("WWW-Authenticate" in answer.headers), case.name
        check_never_stored(answer)
    assert await auth.rows("SELECT id FROM refresh_tokens") == []


@pytest.mark.parametrize("way", ["basic", "post"])
async def test_confidential_client_proves_itself(auth: RunningAuth, way: str) -> None:
    """A secret with any characters works in the header, form-encoded, and in the body."""
    await add_clients(auth)
    in_header = way == "basic"
    body = form(client_id=None) if in_header else form(client_id="backend", client_secret=SECRET)
    headers = {"Content-Type": FORM, **(basic("backend", SECRET) if in_header else {})}
    answer = await auth.http.post("/oauth/token", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["expires_in"] == 600
    assert answer.json()["scope"] == "api:read"


async def test_client_without_the_refresh_grant_gets_no_refresh_token(auth: RunningAuth) -> None:
    """A refresh token is issued only to a client that can use it."""
    await add_clients(auth)
    answer = await auth.login(client_id="password-only")
    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()


async def test_lenient_where_the_rfc_is(auth: RunningAuth) -> None:
    """Unknown parameters, a charset, another scheme's header and a public client's secret do not hurt."""
    answer = await auth.http.post(
        "/oauth/token",
        content=form(client_secret="x", resource="") + b"&unknown=1&&empty=&empty=",
        headers={"Content-Type": f"{FORM.title()}; charset=UTF-8", "Authorization": "Bearer stale"},
    )
    assert answer.status_code == 200, answer.text
    check_never_stored(answer)


async def test_token_endpoint_takes_post_only(auth: RunningAuth) -> None:
    """Credentials in a query would end in logs: GET is 405."""
    answer = await auth.http.get("/oauth/token", params=PASSWORD_GRANT)
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert (await auth.http.post("/oauth/token", params=PASSWORD_GRANT)).status_code == 400


async def test_failure_inside_is_told_without_details(auth: RunningAuth, caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody foresaw is a 500 in the shape of RFC 6749, logged, and keeps its cause to itself."""
    auth.module._keys._signing = None
    answer = await auth.login()
    assert (answer.status_code, answer.json()["error"]) == (500, "server_error")
    assert "keys" not in answer.text
    assert "the signing keys are not loaded" in caplog.text
    check_never_stored(answer)


async def test_server_that_stops_says_so(auth: RunningAuth) -> None:
    """A request that comes too late is told to try again, and gets no token."""
    await auth.module.database._writer.stop()
    answer = await auth.login()
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    check_never_stored(answer)
