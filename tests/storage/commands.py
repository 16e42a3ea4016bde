"""``codelab db`` as a person calls it, in this process."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

from click.testing import CliRunner

from codelab.cli import cli

if TYPE_CHECKING:
    from click.testing import Result

    from tests.support.databases import DatabaseUrls

__all__ = ("call", "digests", "document", "environ", "refused")


def environ(databases: DatabaseUrls) -> dict[str, str]:
    """Name the databases of an installation."""
    return {"AGENT_RUNTIME__DB_URL": databases.agent, "AUTH_SERVICE__DB_URL": databases.auth}


def call(*arguments: str, databases: DatabaseUrls | None = None, stdin: str | None = None) -> Result:
    """Call ``codelab db``; ``databases`` are those of the installation."""
    with mock.patch.dict(os.environ, {} if databases is None else environ(databases)):
        return CliRunner().invoke(cli, ["db", *arguments], input=stdin)


def document(*arguments: str, databases: DatabaseUrls | None = None) -> dict[str, Any]:
    """Call a command that ends well, and return the document that it prints."""
    result = call(*arguments, "--json", databases=databases)
    assert (result.exit_code, result.stderr) == (0, ""), (result.stderr, result.exception)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def digests(answer: dict[str, Any]) -> dict[str, dict[str, tuple[int, str]]]:
    """Return the rows and the digest of each table of each module."""
    return {
        name: {table: (entry["rows"], entry["digest"]) for table, entry in sorted(module.get("tables", module).items())}
        for name, module in answer["modules"].items()
    }


def refused(*arguments: str, databases: DatabaseUrls | None = None, code: int) -> str:
    """Call a command that is refused with this exit code, and return what it says about it: one line at the end."""
    result = call(*arguments, databases=databases)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("codelab: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
