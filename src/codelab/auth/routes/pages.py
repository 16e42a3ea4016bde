"""What all pages need: the stylesheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar import MediaType, get
from litestar.datastructures import CacheControlHeader

from codelab.auth.pages import STYLE
from codelab.auth.routes.common import page

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

__all__ = ("create_routes",)


def create_routes() -> list[HTTPRouteHandler]:
    """Make the route."""

    @get(
        "/oauth/style.css",
        sync_to_thread=False,
        cache_control=CacheControlHeader(public=True, max_age=3600),
        summary="The stylesheet of the pages",
        **{**page(), "media_type": MediaType.CSS},
    )
    def style() -> bytes:
        """Send the stylesheet."""
        return STYLE

    return [style]
