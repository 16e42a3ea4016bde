"""``codelab user``, ``client`` and ``keys`` as a person calls them, beside a server in this process."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

from click.testing import CliRunner

from codelab.cli import cli

if TYPE_CHECKING:
    from click.testing import Result

    from codelab.settings import AuthSettings

__all__ = ("call", "document", "eventually", "refused")


async def call(settings: AuthSettings, *arguments: str, stdin: str | None = None) -> Result:
    """Call ``codelab`` with the settings of a server; in a thread, since it has an event loop of its own."""
    environ = {
        "AUTH_SERVICE__DB_URL": settings.db_url,
        "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE": str(settings.key_encryption_key_file),
    }
    with mock.patch.dict(os.environ, environ):
        return await asyncio.to_thread(CliRunner().invoke, cli, arguments, input=stdin)


async def document(settings: AuthSettings, *arguments: str, stdin: str | None = None) -> Any:
    """Call a command that ends well, and return the document that it prints."""
    result = await call(settings, *arguments, "--json", stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, ""), (arguments, result.stderr, result.exception)
    return json.loads(result.stdout)


async def refused(settings: AuthSettings, *arguments: str, code: int = 1, stdin: str | None = None) -> str:
    """Call a command that is refused with this exit code, and return what it says about it: one line."""
    result = await call(settings, *arguments, stdin=stdin)
    assert result.exit_code == code, (arguments, result.output, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("codelab: ")]
    return line


async def eventually(expected: Any, ask: Any) -> None:
    """Wait until an answer is the expected one: a server follows a command within a second."""
    async with asyncio.timeout(30):
        while await ask() != expected:
            await asyncio.sleep(0.05)
