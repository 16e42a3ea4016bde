"""What a client asks for when a person shall be signed out (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codelab.auth.redirects import with_parameters
from codelab.auth.repository.clients import find_logout_uris

if TYPE_CHECKING:
    from codelab.auth.tokens import AccessTokens
    from codelab.db import Database

__all__ = ("Logout", "Logouts")

_PASSED = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")


class Logout(NamedTuple):
    """Say whom a client knows and where the browser goes afterwards; None for what is not proven.

    ``passed`` is what the form of our page has to show again for that.
    """

    subject: str | None = None
    redirect_uri: str | None = None
    url: str | None = None
    passed: dict[str, str] = {}  # noqa: RUF012 - nobody changes it


class Logouts:
    """Read such requests."""

    def __init__(self, database: Database, tokens: AccessTokens) -> None:
        self._database = database
        self._tokens = tokens

    async def read(self, fields: dict[str, str]) -> Logout:
        """Read a request; only an ID token of the client, expired or not, proves where its person may be sent to.

        The URI has to be one of the client's, character by character (section 3).
        """
        hint = self._tokens.read_hint(fields.get("id_token_hint", ""))
        if hint is None or fields.get("client_id", hint.client_id) != hint.client_id:
            return Logout()
        uri = fields.get("post_logout_redirect_uri")
        if uri is None:
            return Logout(hint.subject)
        async with self._database.read() as session:
            if uri not in await find_logout_uris(session, hint.client_id):
                return Logout(hint.subject)
        url = with_parameters(uri, {"state": fields["state"]}) if "state" in fields else uri
        return Logout(hint.subject, uri, url, {name: fields[name] for name in _PASSED if name in fields})
