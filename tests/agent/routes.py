"""Every route of an application, and a body that each takes: no test has a list of its own to forget one in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litestar.routes import HTTPRoute, WebSocketRoute

if TYPE_CHECKING:
    from litestar import Litestar

__all__ = ("BODIES", "Route", "list_routes", "list_sockets")

#: A valid body for each route of module agent that takes one.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/sessions"): {"title": "t"},
    ("PATCH", "/api/v1/sessions/{session_id}"): {"title": "changed"},
    ("POST", "/api/v1/sessions/{session_id}/messages"): {"content": "count to 1"},
    ("POST", "/api/v1/sessions/{session_id}/tool-calls/{call_id}/claim"): {"client_id": "me"},
    ("POST", "/api/v1/sessions/{session_id}/tool-results"): {"call_id": "call_1", "result": {}},
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}"): {"decision": "approve"},
    ("POST", "/api/v1/agents/{session_id}/switch"): {"target_agent": "debug"},
    ("POST", "/api/v1/sessions/{session_id}/approvals/{approval_id}/grant-preview"): {"scope": "session"},
    ("POST", "/api/v1/admin/approvals/{approval_id}/reject"): {"feedback": "no"},
    ("PUT", "/api/v1/sessions/{session_id}/policy"): {"rules": [{"tool": "write_file", "effect": "deny"}]},
    ("POST", "/api/v1/sessions/{session_id}/mcp-servers"): {"name": "any", "url": "https://mcp.example.com"},
    ("POST", "/api/v1/ws-tickets"): {"session_id": "any"},
    ("POST", "/api/v1/policy/explain"): {"agent": "coder", "tool": "read_file", "arguments": {"path": "a"}},
}


@dataclass(frozen=True)
class Route:
    """A method and a path with its parameters in braces."""

    method: str
    path: str

    @property
    def body(self) -> dict[str, Any] | None:
        """Return a body that the route takes."""
        return BODIES.get((self.method, self.path))

    def url(self, **parameters: str) -> str:
        """Fill the path; parameters without a value get one that names nothing."""
        return re.sub(r"\{(\w+)\}", lambda found: parameters.get(found[1], "nothing"), self.path)


def list_routes(app: Litestar, prefix: str = "/") -> list[Route]:
    """List the routes of an application below a path; those of the OpenAPI document are left out."""
    routes = []
    for route in app.routes:
        if isinstance(route, HTTPRoute) and route.path.startswith(prefix):
            path = _template(route.path)
            routes += [Route(method, path) for method in sorted(route.methods - {"OPTIONS", "HEAD"})]
    return sorted(routes, key=lambda route: (route.path, route.method))


def list_sockets(app: Litestar) -> list[Route]:
    """List the WebSockets of an application; their method is ``WS``."""
    return [Route("WS", _template(route.path)) for route in app.routes if isinstance(route, WebSocketRoute)]


def _template(path: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
