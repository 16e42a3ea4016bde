"""What the routes share: who calls, and the parameters of lists."""

from __future__ import annotations

from typing import Annotated, cast

from litestar.params import QueryParameter

from codelab.idempotency import Once
from codelab.identity import Principal
from codelab.repeating import read_once
from codelab.web import CodelabRequest

__all__ = ("AgentRequest", "Client", "Cursor", "Limit")

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
        return read_once(self, most=self.app.state.agent.max_kept_answer)
