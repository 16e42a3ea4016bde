"""MCP servers that run as processes and speak over stdin and stdout: which a file names, and how one is run.

Both sides use it, the server and ``codelab chat``; it knows neither. The official SDK is loaded when one is run.
"""

from __future__ import annotations

from codelab.mcpstdio.environment import narrow_environment
from codelab.mcpstdio.file import InvalidFile, StdioServer, read_file, read_servers

__all__ = ("InvalidFile", "StdioServer", "narrow_environment", "read_file", "read_servers")
