"""The terminal chat and the tools it runs; it speaks only HTTP and never imports the server."""

from __future__ import annotations

__all__ = ()
