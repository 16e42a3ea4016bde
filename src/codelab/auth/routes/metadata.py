"""What a client can know without asking anybody: the keys, and the documents that say where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import get
from litestar.datastructures import CacheControlHeader

from codelab.auth.middleware import EXCLUDE

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.discovery import Discovery
    from codelab.auth.keys import KeyRing

__all__ = ("create_routes",)


def create_routes(discovery: Discovery, keys: KeyRing) -> list[HTTPRouteHandler]:
    """Make the routes of the documents."""
    public: dict[str, Any] = {
        "opt": {EXCLUDE: True},
        "cache_control": CacheControlHeader(public=True, max_age=3600),
        "tags": ["auth"],
        "security": [{}],
        "sync_to_thread": False,
    }

    @get("/.well-known/jwks.json", summary="The keys that access tokens are signed with", **public)
    def jwks() -> dict[str, Any]:
        """Show the public keys as a JWK Set (RFC 7517 section 5)."""
        return keys.public_set()

    @get(discovery.server_paths, summary="What this authorization server can do", **public)
    def server() -> dict[str, Any]:
        """Describe the authorization server (RFC 8414, OpenID Connect Discovery 1.0)."""
        return discovery.server

    @get(discovery.resource_paths, summary="Who gives out tokens for the API", **public)
    def resource() -> dict[str, Any]:
        """Describe the API as a protected resource (RFC 9728)."""
        return discovery.resource

    return [jwks, server, resource]
