"""The key ``X-Internal-Auth`` of the reference system: a program that is trusted, as a caller with sessions of its own.

It may read and write. It may not decide what agents do, since nobody has looked, and administers nothing.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from codelab.errors import Unauthenticated
from codelab.identity import Principal, challenge

if TYPE_CHECKING:
    from collections.abc import Collection

    from litestar.types import Scope

    from codelab.agent.readers import StillValid

__all__ = ("SERVICE", "InternalKey")

_HEADER = b"x-internal-auth"
#: Its subject is nobody's: those of people are UUIDs.
SERVICE = Principal(
    subject="service:internal-api-key",
    username="internal",
    client_id="internal-api-key",
    scopes=frozenset({"api:read", "api:write"}),
)


class InternalKey:
    """Know the program that has the key; without a key nobody has it."""

    def __init__(self, key: str | None) -> None:
        self._key = key.encode() if key else None

    def find(self, scope: Scope) -> Principal | None:
        """Return the program behind a request, None where it shows no key or this server has none.

        Raises:
            Unauthenticated: it shows another one.
        """
        if self._key is None:
            return None
        shown = [value for name, value in scope["headers"] if name == _HEADER]
        if not shown:
            return None
        if len(shown) > 1 or not hmac.compare_digest(shown[0], self._key):
            raise Unauthenticated("unauthorized", headers=challenge())  # the reference's word
        return SERVICE

    def beside(self, still_valid: StillValid | None) -> StillValid | None:
        """Let the program stay valid, of whom module auth knows nothing."""
        if still_valid is None:
            return None
        people_are = still_valid

        async def answer(principals: Collection[Principal]) -> set[Principal]:
            asked = set(principals)
            people = asked - {SERVICE}
            return (asked & {SERVICE}) | (await people_are(people) if people else set())

        return answer
