"""What the routes share."""

from __future__ import annotations

from typing import Any, cast

from litestar import Request

from codelab.auth.schemas import Origin

__all__ = ("origin_of",)


def origin_of(request: Request[Any, Any, Any]) -> Origin:
    """Tell where a request came from."""
    return Origin(
        ip_address=request.client.host if request.client else None,
        user_agent=request.headers.get("user-agent"),
        request_id=cast("dict[str, Any]", request.scope).get("request_id"),
    )
