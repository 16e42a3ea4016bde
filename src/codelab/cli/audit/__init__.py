"""``codelab audit``: the audit trails of both modules, beside a running server too."""

from __future__ import annotations

import click

from codelab.cli.lazy import LazyGroup

__all__ = ("COMMANDS", "audit")

#: Command to the module and the name in it, and the line that ``--help`` shows.
COMMANDS = {
    "tail": ("codelab.cli.audit.tail", "tail", "Show the newest rows, and go on with --follow."),
    "verify": ("codelab.cli.audit.verify", "verify", "Prove that no row was changed, removed, moved or put in."),
    "export": ("codelab.cli.audit.export", "export", "Write the rows as JSON, one a line."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def audit() -> None:
    """Look at the audit trails: who logged in, what agents were refused, and what people decided.

    The key of their chains is in the file that AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE names.
    """
