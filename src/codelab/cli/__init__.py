"""The command ``codelab``.

Commands are imported when they are called: ``--help`` must not wait for a server's imports.
"""

from __future__ import annotations

import importlib

import click

from codelab import __version__

__all__ = ("cli", "main")

#: Command to the module and the name in it, and the line that ``--help`` shows.
COMMANDS = {
    "chat": ("codelab.client.command", "chat", "Chat with agents about the current folder."),
    "serve": ("codelab.cli.serve", "serve", "Run the server."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, meaning) for name, (_, _, meaning) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="codelab")
def cli() -> None:
    """The self-hosted home of coding agents.

    `codelab chat` talks to agents about the folder you are in; they read it, and ask before they write or run anything.
    """


def main() -> None:
    """Run the command line."""
    cli()
