"""The self-hosted home of coding agents: one process, one command."""

from __future__ import annotations

__all__ = ("__version__",)

__version__ = "0.1.0"
