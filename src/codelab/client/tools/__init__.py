"""The tools that the chat runs on this machine, inside its folder."""

from __future__ import annotations

__all__ = ()
