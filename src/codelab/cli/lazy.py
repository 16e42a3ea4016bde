"""Groups of commands whose code is imported when one of them is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("LazyGroup",)


class LazyGroup(click.Group):
    """Know commands by module, name in it, and the line that ``--help`` shows."""

    def __init__(self, *args: Any, commands_at: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order in which ``--help`` shows them."""
        return list(self._at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command."""
        if cmd_name not in self._at:
            return None
        module, name, _ = self._at[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        for each in (command, *(command.commands.values() if isinstance(command, click.Group) else ())):
            if each.help:
                # Docstrings are raw, so click's mark for "do not wrap this" arrives as two characters.
                each.help = each.help.replace("\\b\n", "\b\n")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, meaning) for name, (_, _, meaning) in self._at.items()])
