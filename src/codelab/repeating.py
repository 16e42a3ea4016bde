"""Idempotency-Key over HTTP: read it, describe the routes that take one, and say which answers are repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema

from codelab.idempotency import HEADER, read_key

if TYPE_CHECKING:
    from litestar import Request
    from litestar.config.app import AppConfig
    from litestar.types import Message, Scope

    from codelab.idempotency import Once

__all__ = ("Repeatable", "mark_replays", "read_once")

_ONCE = "codelab.once"
_HEADER = HEADER.lower().encode()


def read_once(request: Request[Any, Any, Any], *, most: int) -> Once | None:
    """Return the key of a request that its client may repeat, None without one; see ``read_key``.

    Raises:
        BadRequest: it is no key.
    """
    given = next((value for name, value in request.scope["headers"] if name == _HEADER), None)
    if given is None:
        return None
    once = read_key(given.decode("latin-1"), most=most)
    request.scope["state"][_ONCE] = once
    return once


def mark_replays(app_config: AppConfig) -> None:
    """Let an application say in its headers that an answer is one that was kept; each module may ask for that."""
    if _mark not in app_config.before_send:
        app_config.before_send.append(_mark)


@dataclass
class Repeatable(Operation):
    """Describe a route that takes a key."""

    def __post_init__(self) -> None:
        described = "The same key again gets the same answer, for 24 hours."
        schema = Schema(type=OpenAPIType.STRING)
        header = Parameter(name=HEADER, param_in="header", description=described, schema=schema)
        self.parameters = [*(self.parameters or ()), header]


async def _mark(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        once = scope.get("state", {}).get(_ONCE)
        if once is not None and once.replayed:
            message["headers"] = [*message["headers"], (b"idempotent-replayed", b"true")]
