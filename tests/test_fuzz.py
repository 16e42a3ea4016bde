"""The OpenAPI document against the server: whatever fits it, or nearly does, is answered, and never with a 5xx."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.generation import GenerationMode

from tests.support.auth import CLIENT
from tests.support.server import ALL_SCOPES, make_settings, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.databases import DatabaseUrls
    from tests.support.server import Running

#: Requests for each operation: of a run with all tests, and of a long one.
FEW, MANY = 3, 150
#: Answers that the server gives on purpose when it is asked for too much at once.
ON_PURPOSE = {503}


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
        self._http = requests.Session()
        self.statuses: dict[str, set[int]] = {}
        self.failed: list[str] = []

    def run(self) -> None:
        """Go through all operations."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what schemathesis says of its own dependencies
            for operation in self._operations():
                self._try(operation)
        self._http.close()

    def _operations(self) -> Iterator[Any]:
        operations = [cast("Any", found).ok() for found in self._schema.get_all_operations()]
        return iter(operations if self._half is None else operations[self._half :: 2])

    def _try(self, operation: Any) -> None:
        statuses = self.statuses.setdefault(operation.label, set())

        @hypothesis.seed(self._seed)
        @hypothesis.settings(
            max_examples=self._examples,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def send(case: Any) -> None:
            answer = case.call(base_url=self._url, session=self._http, headers=self._headers, timeout=30)
            statuses.add(answer.status_code)
            if answer.status_code >= 500 and answer.status_code not in ON_PURPOSE:
                self.failed.append(f"{answer.status_code} {case.as_curl_command()}")

        send()


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
    """Each operation of the document gets requests that fit it and that do not; the server has an answer to all.

    In a short run each database has one half of them, in a long one both have all.
    """
    half = None if soak else (seed + (dialect == "sqlite")) % 2
    async with serving(make_settings(migrated, tmp_path)) as server:
        fuzzer = await fuzz(server, MANY if soak else FEW, seed, half)
        ready = (await server.http.get("/ready")).status_code

    assert fuzzer.failed == []
    assert ready == 200
    assert len(fuzzer.statuses) > (60 if soak else 30)
    assert not [record for record in caplog.records if record.exc_info]
    # It came past the doors: nothing was refused for want of a token alone.
    assert {200, 400, 404} <= {status for statuses in fuzzer.statuses.values() for status in statuses}
