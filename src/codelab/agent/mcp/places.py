"""Which places on the network MCP servers may be at."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ("PORTS", "RefusedUrl", "read_place")

#: The usual ports, by scheme.
PORTS = {"https": 443, "http": 80}


class RefusedUrl(ValueError):
    """Say why a server may not be connected; the sentence is for the person who named it."""


def read_place(url: str, allowed: Collection[str]) -> str:
    """Return the host of a URL, with its port unless it is the scheme's own, where the operator allows that.

    Raises:
        RefusedUrl: it is no URL of a server that may be connected.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise RefusedUrl("is no URL") from None
    if parts.scheme not in PORTS or not host or parts.username is not None or parts.fragment:
        raise RefusedUrl("must be an http or https URL without a user name and a fragment")
    bare = f"[{host}]" if ":" in host else host
    place = bare if port in {None, PORTS[parts.scheme]} else f"{bare}:{port}"
    if place not in allowed:
        raise RefusedUrl("is on a host that the operator does not allow (AGENT_RUNTIME__MCP_ALLOWED_HOSTS)")
    if parts.scheme == "http" and not _is_loopback(host):
        raise RefusedUrl("must be an https URL")
    return place


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
