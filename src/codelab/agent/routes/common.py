"""What the routes share: who calls, and the parameters of lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.params import QueryParameter
from litestar.types import Message, Scope

from codelab.agent.idempotency import HEADER, Once, read_key
from codelab.identity import Principal
from codelab.web import CodelabRequest

__all__ = ("AgentRequest", "Client", "Cursor", "Limit", "Repeatable", "mark_replay")

_ONCE = "codelab.once"
_HEADER = HEADER.lower().encode()

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
Client = Annotated[str | None, QueryParameter(description="What the client calls itself; see Claims.")]
Cursor = Annotated[str | None, QueryParameter(description="next_cursor of the page before.")]


class AgentRequest(CodelabRequest):
    """A request for module ``agent``.

    What it knows would be dependencies, but Litestar resolves several of these in a group of tasks, which costs more
    than all the rest that it does for a request.
    """

    @property
    def principal(self) -> Principal:
        """The caller; ``RequireScopes`` has proven that there is one."""
        return cast("Principal", self.scope["user"])

    @property
    def once(self) -> Once | None:
        """The key of a request that its client may repeat, see ``Repeatable``.

        Raises:
            BadRequest: it is no key.
        """
        given = next((value for name, value in self.scope["headers"] if name == _HEADER), None)
        if given is None:
            return None
        once = read_key(given.decode("latin-1"), most=self.app.state.agent.max_kept_answer)
        self.scope["state"][_ONCE] = once
        return once


@dataclass
class Repeatable(Operation):
    """Describe a route that takes ``AgentRequest.once``."""

    def __post_init__(self) -> None:
        described = "The same key again gets the same answer, for 24 hours."
        schema = Schema(type=OpenAPIType.STRING)
        header = Parameter(name=HEADER, param_in="header", description=described, schema=schema)
        self.parameters = [*(self.parameters or ()), header]


async def mark_replay(message: Message, scope: Scope) -> None:
    """Say in its headers that an answer is one that was kept; for ``before_send``."""
    if message["type"] == "http.response.start":
        once = scope.get("state", {}).get(_ONCE)
        if once is not None and once.replayed:
            message["headers"] = [*message["headers"], (b"idempotent-replayed", b"true")]
