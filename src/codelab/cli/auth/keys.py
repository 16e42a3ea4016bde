"""``codelab keys``: the keys that sign access tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from codelab.cli.auth.common import actor_of, ask_first, perform, show, show_table, yes_option
from codelab.cli.db.common import Report, env_file_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.auth.operators import Operators
    from codelab.auth.schemas import KeyView

__all__ = ("keys",)

_COLUMNS = {"kid": 46, "state": 10, "created_at": 30, "expires_at": 30}


@click.group()
def keys() -> None:
    """Look at, rotate and retire the keys that sign access tokens.

    The database is that of AUTH_SERVICE__DB_URL, as for `codelab serve`. A server that runs follows within a second.
    """


@keys.command("list")
@json_option
@env_file_option
def list_(env_file: Path | None, *, as_json: bool) -> None:
    """List the keys, the newest first, and whether each signs, still verifies, or has expired."""

    async def work(operators: Operators) -> list[KeyView]:
        return await operators.keys.list()

    perform(env_file, work, lambda found: show_table(Report(as_json), "keys", found, _COLUMNS))


@keys.command()
@json_option
@env_file_option
def rotate(env_file: Path | None, *, as_json: bool) -> None:
    """Make a new key, which signs from now on; nobody is logged out.

    The key before it is published until the last token that it signed has expired. A server does the same by itself
    when its key is older than AUTH_SERVICE__KEY_MAX_AGE.
    """

    async def work(operators: Operators) -> KeyView:
        return await operators.keys.rotate(actor_of("keys rotate"))

    perform(env_file, work, lambda key: show(Report(as_json), "A new key signs.", msgspec.to_builtins(key)))


@keys.command(context_settings={"ignore_unknown_options": True})  # the kid of an older key may begin with "-"
@click.argument("kid")
@yes_option
@json_option
@env_file_option
def retire(kid: str, env_file: Path | None, *, yes: bool, as_json: bool) -> None:
    r"""Publish the key KID no more: every access token that it signed ends at once.

    For a key that somebody else may know. Clients get new access tokens with their refresh tokens.

    \b
    Example:
      codelab keys rotate && codelab keys retire 4mXq…
    """
    ask_first(f"End every access token that {kid} signed?", yes=yes)

    async def work(operators: Operators) -> KeyView:
        return await operators.keys.retire(actor_of("keys retire"), kid)

    perform(env_file, work, lambda key: show(Report(as_json), "The key was retired.", msgspec.to_builtins(key)))
