"""The MCP servers that the operator's file names: processes of this server, one each for all sessions.

Only loaded where there is such a file.
"""

from __future__ import annotations

from codelab.agent.mcp.stdio.pool import Pool

__all__ = ("Pool",)
