"""The OpenAPI document against the server: whatever comes is answered as the document says, and never with a 5xx."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from codelab.auth.seeds import TERMINAL_CLIENT_ID
from codelab.db import new_id
from tests.support.auth import CLIENT
from tests.support.server import ALL_SCOPES, make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Running

#: Requests for each operation: of a run with all tests, and of a long one.
FEW, MANY = 3, 400
#: Seconds that a request may take.
PATIENCE = 30
#: Answers that the server gives on purpose when it is asked for too much at once.
ON_PURPOSE = {503}

#: What the document says of answers.
TRUE = [status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance]
#: Values that mean something, by the names of parameters and members.
USUAL: dict[str, list[Any]] = {
    "action": ["password", "end_all", "make_token", "begin_factor", "confirm_factor", "remove_factor", "end_token"],
    "again": ["correct horse battery"],
    "agent": ["coder", "ask"],
    "agent_type": ["coder", "ask"],
    "client_id": [CLIENT, TERMINAL_CLIENT_ID],
    "code_challenge": ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"],
    "code_challenge_method": ["S256"],
    "confidential": [True, False],
    "content": ["Well?"],
    "decision": ["approve", "edit", "reject", "allow", "deny"],
    "delivery": ["queue", "steer", "reject"],
    "email": ["somebody@example.com"],
    "format": ["json", "sse"],
    "days": ["30", "x"],
    "goes_on": ["/oauth/account", "/oauth/authorize", "/oauth/device"],
    "grant_type": [
        "authorization_code",
        "client_credentials",
        "password",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "grants": [["authorization_code", "refresh_token"], ["client_credentials"]],
    "limit": [1, 100],
    "model": ["fake-llm"],
    "message": [{"type": "user_message", "content": "Well?"}],
    "name": ["Somebody", "weather"],
    "old": ["correct horse battery"],
    "password": ["correct horse battery"],
    "prompt": ["none", "consent"],
    "redirect_uri": ["http://127.0.0.1:9/callback"],
    "redirect_uris": [["http://127.0.0.1/callback"], ["https://app.example.com/callback"]],
    "response_type": ["code"],
    "scope": ["api:read", "openid offline_access api:read api:write"],
    "status": ["pending", "approved"],
    "target_agent": ["coder", "ask"],
    "tool": ["write_file", "execute_command"],
    "tool_name": ["write_file", "execute_command"],
    "token": ["codelab_pat_x"],
    "url": ["http://127.0.0.1:9/mcp", "https://mcp.example.com/mcp"],
    "username": ["admin", "somebody"],
}


class Reader(requests.Session):
    """Read answers to their ends, but for streams of events, which have none: their first bytes are enough."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request."""
        answer = super().send(request, **{**kwargs, "stream": True})
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            answer._content = next(answer.iter_content(1024), b"")
            answer.close()
        return answer


class Fuzzer:
    """Send requests that hypothesis makes from the document; each that fails is kept with what made it.

    ``half`` leaves every other operation out, with 0 or 1 as the first.
    """

    def __init__(
        self, document: dict[str, Any], url: str, token: str, examples: int, seed: int, half: int | None
    ) -> None:
        config = schemathesis.Config()
        config.projects.default.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        self._schema = schemathesis.openapi.from_dict(document, config=config)
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._examples = examples
        self._seed = seed
        self._half = half
        self._http = Reader()
        self.statuses: dict[str, set[int]] = {}
        self.failed: list[str] = []
        #: What the document does not say of an operation, the last that was found.
        self.untrue: dict[str, str] = {}

    def run(self) -> None:
        """Go through all operations."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what schemathesis says of its own dependencies
            for number, operation in enumerate(self._operations(), start=1):
                begun = time.monotonic()
                self._try(operation)
                seconds, statuses = time.monotonic() - begun, sorted(self.statuses[operation.label])
                sys.stdout.write(f"{number}. {operation.label}: {seconds:.0f} s, {statuses}\n")  # seen with -s
        self._http.close()

    def _known(self, path: str) -> dict[str, str]:
        """Make what a path names, so that not every request ends at the door of something unknown."""
        known: dict[str, str] = {}
        if "{session_id}" in path:
            known["session_id"] = self._make("/api/v1/sessions", {})["id"]
            said = self._make(f"/api/v1/sessions/{known['session_id']}/messages", {"content": "Well?"})
            known |= {"message_id": said["message_id"], "turn_id": said["turn_id"], "n": "0"}
        if "{username}" in path:
            known["username"] = f"fuzz-{new_id()}"
            self._make("/api/v1/admin/users", {"username": known["username"], "email": f"{new_id()}@example.com"})
        if "{client_id}" in path:
            known["client_id"] = f"fuzz-{new_id()}"
            client = {"client_id": known["client_id"], "name": "Fuzz", "confidential": True}
            self._make("/api/v1/admin/clients", client | {"grants": ["client_credentials"]})
        return known

    def _make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post(self._url + path, json=body, headers=self._headers, timeout=PATIENCE)
        assert answer.ok, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def _operations(self) -> Iterator[Any]:
        operations = [cast("Any", found).ok() for found in self._schema.get_all_operations()]
        return iter(operations if self._half is None else operations[self._half :: 2])

    def _try(self, operation: Any) -> None:
        statuses = self.statuses.setdefault(operation.label, set())
        known, browser = self._known(operation.path), self._http
        if "pages" in operation.definition.raw["tags"]:
            browser, known["form_token"] = self._sign_in()

        @hypothesis.seed(self._seed)
        @hypothesis.settings(
            max_examples=self._examples,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(), data=strategies.data())
        def send(case: Any, data: Any) -> None:
            self._mend(case, known, data)
            headers = self._headers if browser is self._http else {}
            answer = case.call(base_url=self._url, session=browser, headers=headers, timeout=PATIENCE)
            statuses.add(answer.status_code)
            if answer.status_code >= 500 and answer.status_code not in ON_PURPOSE:
                self.failed.append(f"{answer.status_code} {case.as_curl_command()}")
            try:
                case.validate_response(answer, checks=TRUE)
            except FailureGroup as failures:
                self.untrue[operation.label] = f"{failures.exceptions[0]}\n{case.as_curl_command()}"

        send()

    def _sign_in(self) -> tuple[Reader, str]:
        """Return a browser in which somebody is signed in, and what its forms have to bring."""
        browser, hidden = Reader(), re.compile(r'type="hidden" name="([a-z_]+)" value="([^"]*)"')
        page = browser.get(f"{self._url}/oauth/account", timeout=PATIENCE)
        fields = {"username": "admin", "password": "correct horse battery", **dict(hidden.findall(page.text))}
        page = browser.post(f"{self._url}/oauth/sign-in", data=fields, timeout=PATIENCE)
        return browser, dict(hidden.findall(page.text))["form_token"]

    @staticmethod
    def _mend(case: Any, known: dict[str, str], data: Any) -> None:
        """Put what means something here and there, which would be found by chance only in a long time."""
        described = case.operation.definition.raw
        queries = {each["name"] for each in described.get("parameters", ()) if each["in"] == "query"}
        bodies = list(described.get("requestBody", {}).get("content", {}).values())
        members = set(bodies[0].get("schema", {}).get("properties", ())) if bodies else set()
        usual: dict[str, list[Any]] = USUAL | {name: [value] for name, value in known.items()}
        whole = data.draw(strategies.booleans())  # all that could mean something does
        for values, names in ((case.path_parameters, set()), (case.query, queries), (case.body, members)):
            if not isinstance(values, dict):
                continue
            for name in sorted(usual.keys() & (values.keys() | names if whole else values.keys())):
                if whole or data.draw(strategies.booleans()):
                    values[name] = data.draw(strategies.sampled_from(usual[name]))


async def fuzz(server: Running, examples: int, seed: int, half: int | None) -> Fuzzer:
    """Send requests with a token that may do everything, from a thread: the clients of this test block."""
    auth = server.app.state.auth
    await server.person("admin")
    (admin,) = [user for user in await auth.operators.users.list(10) if user.is_admin]
    token = auth._tokens.issue(user_id=admin.id, client_id=CLIENT, scope=f"{ALL_SCOPES} api:admin", lifetime=86_400)
    document = server.app.openapi_schema.to_schema()
    fuzzer = Fuzzer(document, server.url, token, examples, seed, half)
    await asyncio.to_thread(fuzzer.run)
    return fuzzer


@pytest.mark.timeout(3600)
async def test_no_request_is_an_internal_error(
    migrated: DatabaseUrls, tmp_path: Path, dialect: str, soak: bool, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each operation gets requests that fit the document and that do not; the answers are those that it describes.

    In a short run each database has one half of them, in a long one both have all.
    """
    half = None if soak else (seed + (dialect == "sqlite")) % 2
    async with serving(make_settings(migrated, tmp_path)) as server:
        fuzzer = await fuzz(server, MANY if soak else FEW, seed, half)
        ready = (await server.http.get("/ready")).status_code

    assert fuzzer.failed == []
    assert fuzzer.untrue == {}
    assert ready == 200
    assert len(fuzzer.statuses) > (60 if soak else 30)
    assert not [record for record in caplog.records if record.exc_info]
    # It came past the doors: nothing was refused for want of a token alone.
    assert {200, 400, 404} <= {status for statuses in fuzzer.statuses.values() for status in statuses}
