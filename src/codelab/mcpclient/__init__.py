"""What a client of MCP servers needs: a file that names them, their processes, questions, and answers read as text.

Both sides are such clients, the server and ``codelab chat``; it knows neither. The official SDK is loaded late.
"""

from __future__ import annotations

from codelab.mcpclient.environment import narrow_environment
from codelab.mcpclient.file import InvalidFile, StdioServer, read_file, read_servers

__all__ = ("InvalidFile", "StdioServer", "narrow_environment", "read_file", "read_servers")
