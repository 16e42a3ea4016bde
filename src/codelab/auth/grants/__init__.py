"""The grants of the token endpoint, one file each: rules, and one unit of work each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from codelab.auth.clients import check_grant
from codelab.auth.errors import OAuthError
from codelab.auth.forms import read_client_credentials, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from codelab.auth.clients import KnownClients
    from codelab.auth.refusals import Refusals
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.schemas import Origin, TokenAnswer

    #: Answers a request of a client that has proven itself and may use the grant.
    Grant: TypeAlias = Callable[[ClientRecord, dict[str, str], Origin], Awaitable[TokenAnswer]]

__all__ = ("Grant", "Grants")


class Grants:
    """Answer token requests (RFC 6749 section 3.2); ``grants`` are those that this server has, by ``grant_type``."""

    def __init__(self, clients: KnownClients, refusals: Refusals, grants: Mapping[str, Grant]) -> None:
        self._clients = clients
        self._refusals = refusals
        self._grants = grants

    @property
    def types(self) -> tuple[str, ...]:
        """The values of ``grant_type`` that are answered."""
        return tuple(self._grants)

    async def answer(self, fields: dict[str, str], authorization: str | None, origin: Origin) -> TokenAnswer:
        """Answer one token request.

        Raises:
            OAuthError: the request is refused.
            Unavailable: too many logins wait, or the server is stopping.
        """
        (grant_type,) = require(fields, "grant_type")
        credentials = read_client_credentials(fields, authorization)
        grant = self._grants.get(grant_type)
        if grant is None:
            raise OAuthError(f"Grant type '{grant_type[:100]}' is not supported", code="unsupported_grant_type")
        async with self._refusals.recorded(credentials.client_id, origin):
            client = await self._clients.authenticate(credentials)
        check_grant(client, grant_type)
        async with self._refusals.recorded(credentials.client_id, origin, grant_type):
            return await grant(client, fields, origin)
