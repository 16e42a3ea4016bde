"""The command ``codelab``.

Commands are imported when they are called: ``--help`` must not wait for a server's imports.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import click

from codelab import __version__
from codelab.cli.lazy import LazyGroup

__all__ = ("cli", "main")

#: Command to the module and the name in it, and the line that ``--help`` shows.
COMMANDS = {
    "audit": ("codelab.cli.audit", "audit", "Verify and export the audit trails."),
    "chat": ("codelab.client.command", "chat", "Chat with agents about the current folder."),
    "client": ("codelab.cli.auth.client", "client", "Make and look at the programs that ask for tokens."),
    "db": ("codelab.cli.db", "db", "Look at, check, move and back up the databases."),
    "keys": ("codelab.cli.auth.keys", "keys", "Look at, rotate and retire the keys that sign tokens."),
    "policy": ("codelab.cli.policy", "policy", "Look at the rules about what agents may do."),
    "serve": ("codelab.cli.serve", "serve", "Run the server."),
    "user": ("codelab.cli.auth.user", "user", "Make, look at and disable the people who may log in."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="codelab")
def cli() -> None:
    """The self-hosted home of coding agents.

    `codelab chat` talks to agents about the folder you are in; they read it, and ask before they write or run anything.
    """


def main() -> None:
    """Run the command line."""
    # Alembic's templates would load Pygments, to colour tracebacks that nobody is shown: 5 MB and a tenth of a second.
    # None makes Python say that there is no such module.
    sys.modules.setdefault("mako.ext.pygmentplugin", cast("Any", None))
    cli()
