"""What these commands share: the services, who acts, secrets, and how the outcome is told."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from codelab.auth.operators import open_operators
from codelab.auth.operators.common import Actor
from codelab.auth.schemas import Origin
from codelab.cli.db.common import Report, load_settings, run
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from codelab.auth.operators import Operators

__all__ = ("actor_of", "ask_first", "collect", "perform", "read_secret", "show", "show_table", "yes_option")

T = TypeVar("T")
#: Rows that are read at once.
PAGE = 500

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def actor_of(command: str) -> Actor:
    """Say who calls a command: the account on this machine."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError):
        account = "unknown"
    return Actor(f"command line: {account}", Origin(user_agent=f"codelab {command}"))


def perform(env_file: Path | None, work: Callable[[Operators], Awaitable[T]], tell: Callable[[T], None]) -> None:
    """Run ``work``, then ``tell`` its outcome, and leave with the exit code."""

    async def main() -> None:
        settings = load_settings(env_file)
        async with open_operators(settings.auth, settings.server.db_wait) as operators:
            outcome = await work(operators)
        tell(outcome)

    run(main())


async def collect(read: Callable[[int, str], Awaitable[Sequence[T]]], key: Callable[[T], str]) -> list[T]:
    """Read all pages of a list."""
    rows: list[T] = []
    while page := await read(PAGE, key(rows[-1]) if rows else ""):
        rows.extend(page)
    return rows


def read_secret(*, from_stdin: bool) -> str | None:
    """Read a password or secret from standard input, without its last line break; None when it is not asked for.

    Raises:
        StartError: there is none, or it is no UTF-8.
    """
    if not from_stdin:
        return None
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError:
        raise StartError("standard input is not UTF-8.") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise StartError("standard input is empty; it should be the secret: printf %s 'secret' | codelab …")
    return secret


def ask_first(question: str, *, yes: bool) -> None:
    """Ask whether to go on.

    Raises:
        click.UsageError: there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask here; say --yes")
    click.confirm(question, abort=True, err=True)


def show(report: Report, title: str, document: dict[str, Any], secret: tuple[str, str | None] | None = None) -> None:
    """Tell of one thing, and a secret that was made; it is shown only here."""
    report.line(title, "bold")
    for name, value in document.items():
        report.line(f"  {name:<27}{_text(value)}")
    if secret is not None and secret[1] is not None:
        report.line(f"The {secret[0]}, shown only this once: {secret[1]}", "yellow")
        document = document | {secret[0]: secret[1]}
    report.finish(document)


def show_table(report: Report, name: str, rows: Sequence[msgspec.Struct], columns: dict[str, int]) -> None:
    """Tell of several things: these members of each, so many characters wide."""
    documents: list[dict[str, Any]] = [msgspec.to_builtins(row) for row in rows]
    report.line("".join(f"{column:<{width}}" for column, width in columns.items()).rstrip(), "bold")
    for document in documents:
        cells = (f"{_text(document[column]):<{width - 1}} " for column, width in columns.items())
        report.line("".join(cells).rstrip(), "" if document.get("is_active", True) else "dim")
    report.finish({name: documents})


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(str(each) for each in value) or "-"
    return str(value)
