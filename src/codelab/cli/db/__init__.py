"""``codelab db``: what an operator does with the databases. Each command has a file of its own beside this one."""

from __future__ import annotations

import click

from codelab.cli.lazy import LazyGroup

__all__ = ("COMMANDS", "db")

#: Command to the module and the name in it, and the line that ``--help`` shows.
COMMANDS = {
    "status": ("codelab.cli.db.status", "status", "Show where the data is, how much, and its schema."),
    "check": ("codelab.cli.db.check", "check", "Prove that the data is whole; --repair what is safe."),
    "upgrade": ("codelab.cli.db.schema", "upgrade", "Bring the schema to this version of codelab."),
    "downgrade": ("codelab.cli.db.schema", "downgrade", "Take the schema back to an older revision."),
    "current": ("codelab.cli.db.schema", "current", "Show the revision of the schema."),
    "history": ("codelab.cli.db.schema", "history", "List the revisions of the schema."),
    "copy": ("codelab.cli.db.copy", "copy", "Copy to another database, SQLite or PostgreSQL, and verify."),
    "export": ("codelab.cli.db.export", "export", "Write everything, one person or one session to a portable file."),
    "import": ("codelab.cli.db.export", "import_", "Read such a file into a database, and verify."),
    "backup": ("codelab.cli.db.backup", "backup", "Back up while the server runs."),
    "restore": ("codelab.cli.db.backup", "restore", "Take a backup back, verified before it is used."),
    "import-reference": ("codelab.cli.db.reference", "import_reference", "Take over an installation of the reference."),
    "erase": ("codelab.cli.db.erase", "erase", "Remove one person's data for good."),
    "vacuum": ("codelab.cli.db.vacuum", "vacuum", "Give space that is no longer used back."),
}


@click.group(cls=LazyGroup, commands_at=COMMANDS)
def db() -> None:
    """Look at, check, move and back up the databases.

    The databases are those of AGENT_RUNTIME__DB_URL and AUTH_SERVICE__DB_URL, as for `codelab serve`.
    """
