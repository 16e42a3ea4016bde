"""What a server's process learns of the environment that it is started from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("narrow_environment",)

#: What programs need to run at all, and to speak a person's language; nothing that could be a secret.
KEPT = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"})


def narrow_environment(environ: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a server: few of ``environ``, and all of ``added``, which its file names."""
    return {
        name: value
        for name, value in environ.items()
        # Functions that a shell exports are code.
        if (name in KEPT or name.startswith("LC_")) and not value.startswith("()")
    } | dict(added)
