"""What the routes share: who calls, and the parameters of lists."""

from __future__ import annotations

from typing import Annotated, cast

from litestar.params import QueryParameter
from litestar.types import Scope

from codelab.identity import Principal

__all__ = ("Cursor", "Limit", "provide_principal")

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[str | None, QueryParameter(description="next_cursor of the page before.")]


async def provide_principal(scope: Scope) -> Principal:
    """Give a handler its caller; the guard has proven that there is one."""
    return cast("Principal", scope["user"])
