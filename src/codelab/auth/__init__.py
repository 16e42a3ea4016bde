"""Module ``auth``: users, clients, tokens, keys, audit. ``AuthModule`` is its one public surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codelab.auth.module import AuthModule

__all__ = ("AuthModule",)


def __getattr__(name: str) -> Any:
    """Import the module when it is asked for: commands that only need its data start without Litestar."""
    if name in __all__:
        from codelab.auth import module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
