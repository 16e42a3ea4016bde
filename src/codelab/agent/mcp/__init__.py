"""Tools of MCP servers: which there are, and the calls of them, which this server makes itself.

``docs/mcp.md`` describes them for people. The official SDK does the protocol; it is an extra and loaded when used.
"""

from __future__ import annotations

from codelab.agent.mcp.catalogue import Catalogue
from codelab.agent.mcp.queue import CallQueue
from codelab.agent.mcp.room import McpRoom
from codelab.agent.mcp.service import McpService

__all__ = ("CallQueue", "Catalogue", "McpRoom", "McpService")
