"""What the routes share: who calls, and the parameters of lists."""

from __future__ import annotations

from typing import Annotated, cast

from litestar.params import HeaderParameter, QueryParameter
from litestar.types import Message, Scope

from codelab.agent.idempotency import HEADER, Once, read_key
from codelab.identity import Principal

__all__ = ("Client", "Cursor", "Limit", "mark_replay", "provide_once", "provide_principal")

_ONCE = "codelab.once"

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
Client = Annotated[str | None, QueryParameter(description="What the client calls itself; see Claims.")]
Cursor = Annotated[str | None, QueryParameter(description="next_cursor of the page before.")]


async def provide_principal(scope: Scope) -> Principal:
    """Give a handler its caller; the guard has proven that there is one."""
    return cast("Principal", scope["user"])


async def provide_once(
    scope: Scope,
    idempotency_key: Annotated[
        str | None, HeaderParameter(name=HEADER, description="The same key again gets the same answer, for 24 hours.")
    ] = None,
) -> Once | None:
    """Give a handler the key of a request that its client may repeat."""
    if idempotency_key is None:
        return None
    once = read_key(idempotency_key)
    scope["state"][_ONCE] = once
    return once


async def mark_replay(message: Message, scope: Scope) -> None:
    """Say in its headers that an answer is one that was kept; for ``before_send``."""
    if message["type"] == "http.response.start":
        once = scope.get("state", {}).get(_ONCE)
        if once is not None and once.replayed:
            message["headers"] = [*message["headers"], (b"idempotent-replayed", b"true")]
