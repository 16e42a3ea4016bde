"""The error that a model reads."""

from __future__ import annotations

__all__ = ("ToolError",)


class ToolError(Exception):
    """A tool could not do its work; the sentence is what the model sees."""
