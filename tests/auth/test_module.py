from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from codelab.auth.module import AuthModule
from codelab.errors import StartError
from tests.support.auth import ISSUER

if TYPE_CHECKING:
    from codelab.settings import AuthSettings
    from tests.support.auth import RunningAuth


@pytest.fixture
def settings(new_settings: AuthSettings) -> AuthSettings:
    """The first start is what is tested here."""
    return new_settings


async def test_ready_from_start_to_stop(settings: AuthSettings) -> None:
    """The module is ready between its start and its stop, and can start again."""
    module = AuthModule(settings, issuer=ISSUER)
    assert not await module.ready()
    await module.start()
    assert await module.ready()
    await module.stop()
    assert not await module.ready()
    await module.start()
    assert await module.ready()
    await module.stop()


async def test_failed_start_leaves_nothing_open(settings: AuthSettings) -> None:
    """A start that fails in its middle can be stopped, and a later one succeeds."""
    module = AuthModule(
        dataclasses.replace(settings, key_encryption_key_file=settings.key_encryption_key_file.parent), issuer=ISSUER
    )
    settings.key_encryption_key_file.parent.mkdir()
    with pytest.raises(StartError):
        await module.start()
    await module.stop()
    again = AuthModule(settings, issuer=ISSUER)
    await again.start()
    assert await again.ready()
    await again.stop()


def test_unknown_database_is_named(settings: AuthSettings) -> None:
    """A URL that is not supported is refused before anything starts, naming the variable."""
    with pytest.raises(StartError, match="AUTH_SERVICE__DB_URL"):
        AuthModule(dataclasses.replace(settings, db_url="mysql://db/auth"), issuer=ISSUER)


async def test_openapi_describes_the_routes(auth: RunningAuth) -> None:
    """The token endpoint is in the document with the form that it takes, and the shape of its answers."""
    document = (await auth.http.get("/schema/openapi.json")).json()
    operation = document["paths"]["/oauth/token"]["post"]
    form = operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert {"grant_type", "client_id", "username", "password", "refresh_token", "scope"} <= set(form["properties"])
    assert set(operation["responses"]) >= {"200", "400", "401"}
    assert operation["security"] == [{}]
    assert document["paths"]["/.well-known/jwks.json"]["get"]["responses"]["200"]
