"""MCP servers of the person, run by the chat beside it: which there are, their processes, and calls of their tools."""

from __future__ import annotations

__all__ = ()
