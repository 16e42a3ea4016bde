"""``codelab user``: the people who may log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from codelab.cli.auth.common import actor_of, ask_first, collect, perform, read_secret, show, show_table, yes_option
from codelab.cli.db.common import Report, env_file_option, json_option, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from codelab.auth.operators import Operators
    from codelab.auth.operators.users import NewUser
    from codelab.auth.schemas import UserView

__all__ = ("user",)

_COLUMNS = {"username": 26, "email": 34, "is_active": 11, "is_admin": 10, "last_login_at": 30}
_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of making one."
)


@click.group()
def user() -> None:
    """Make, look at, disable and delete the people who may log in.

    The database is that of AUTH_SERVICE__DB_URL, as for `codelab serve`. A server that runs follows within a second.
    """


@user.command()
@click.argument("name")
@click.option("--email", required=True, metavar="ADDRESS", help="Their address; they can log in with it too.")
@click.option("--admin", is_flag=True, help="They may administer this server.")
@_password_option
@json_option
@env_file_option
def create(name: str, email: str, env_file: Path | None, *, admin: bool, password_stdin: bool, as_json: bool) -> None:
    r"""Make the user NAME.

    Without --password-stdin a password is made and shown once.

    \b
    Examples:
      codelab user create ada --email ada@example.com
      printf %s "$PASSWORD" | codelab user create root --email ops@example.com --admin --password-stdin
    """

    async def work(operators: Operators) -> NewUser:
        password = read_secret(from_stdin=password_stdin)
        return await operators.users.create(actor_of("user create"), name, email, password, is_admin=admin)

    perform(env_file, work, lambda made: _show_new(Report(as_json), f"The user {name} was made.", made))


@user.command("list")
@json_option
@env_file_option
def list_(env_file: Path | None, *, as_json: bool) -> None:
    """List everybody who has an account, by name."""

    async def work(operators: Operators) -> list[UserView]:
        return await collect(operators.users.list, lambda each: each.username)

    perform(env_file, work, lambda found: show_table(Report(as_json), "users", found, _COLUMNS))


@user.command("show")
@click.argument("name")
@json_option
@env_file_option
def show_(name: str, env_file: Path | None, *, as_json: bool) -> None:
    """Show the user NAME."""
    _act(name, env_file, lambda operators: operators.users.show(name), as_json=as_json)


@user.command()
@click.argument("name")
@json_option
@env_file_option
def disable(name: str, env_file: Path | None, *, as_json: bool) -> None:
    """Let NAME log in no more, and log them out everywhere.

    Their tokens, browsers and event streams end; nothing of theirs is removed.
    """
    actor = actor_of("user disable")
    _act(name, env_file, lambda operators: operators.users.disable(actor, name), as_json=as_json)


@user.command()
@click.argument("name")
@json_option
@env_file_option
def enable(name: str, env_file: Path | None, *, as_json: bool) -> None:
    """Let NAME log in again; what was ended stays ended."""
    actor = actor_of("user enable")
    _act(name, env_file, lambda operators: operators.users.enable(actor, name), as_json=as_json)


@user.command("reset-password")
@click.argument("name")
@_password_option
@json_option
@env_file_option
def reset_password(name: str, env_file: Path | None, *, password_stdin: bool, as_json: bool) -> None:
    r"""Give NAME another password, and log them out everywhere.

    Without --password-stdin a password is made and shown once.

    \b
    Example:
      codelab user reset-password ada
    """

    async def work(operators: Operators) -> NewUser:
        password = read_secret(from_stdin=password_stdin)
        return await operators.users.reset_password(actor_of("user reset-password"), name, password)

    perform(env_file, work, lambda made: _show_new(Report(as_json), f"{name} has another password.", made))


@user.command("reset-link")
@click.argument("name")
@click.option(
    "--issuer", metavar="URL", help="The address of the server. Default: AUTH_SERVICE__JWT_ISSUER of its settings."
)
@json_option
@env_file_option
def reset_link(name: str, env_file: Path | None, *, issuer: str | None, as_json: bool) -> None:
    r"""Make a link with which NAME chooses another password: good once, and for a day.

    The password until then stays good. When the link is used, all logins of NAME end.

    \b
    Example:
      codelab user reset-link ada --issuer http://127.0.0.1:8000
    """
    where = issuer or load_settings(env_file).auth.jwt_issuer
    if where is None:
        raise click.UsageError("AUTH_SERVICE__JWT_ISSUER is not set; say --issuer http://127.0.0.1:8000 or the like")

    async def work(operators: Operators) -> str:
        return await operators.users.make_reset_link(actor_of("user reset-link"), name, where)

    perform(env_file, work, lambda url: show(Report(as_json), f"{name} can choose a password.", {}, ("link", url)))


@user.command("remove-factor")
@click.argument("name")
@json_option
@env_file_option
def remove_factor(name: str, env_file: Path | None, *, as_json: bool) -> None:
    """Let NAME, who lost their second factor, sign in without one."""
    actor = actor_of("user remove-factor")
    done = "has no second factor any more"
    _act(name, env_file, lambda operators: operators.users.remove_factor(actor, name), done, as_json=as_json)


@user.command()
@click.argument("name")
@yes_option
@json_option
@env_file_option
def delete(name: str, env_file: Path | None, *, yes: bool, as_json: bool) -> None:
    """Delete the account NAME, with all its logins.

    Their sessions with agents stay, without an owner who could see them. To remove everything that is theirs, use
    `codelab db erase --user NAME` instead.
    """
    ask_first(f"Delete the account {name!r}?", yes=yes)
    actor = actor_of("user delete")
    _act(name, env_file, lambda operators: operators.users.delete(actor, name), "was deleted", as_json=as_json)


def _act(
    name: str,
    env_file: Path | None,
    work: Callable[[Operators], Awaitable[UserView]],
    done: str | None = None,
    *,
    as_json: bool,
) -> None:
    def tell(found: UserView) -> None:
        state = done or ("may log in" if found.is_active else "is disabled")
        show(Report(as_json), f"The user {name} {state}.", msgspec.to_builtins(found))

    perform(env_file, work, tell)


def _show_new(report: Report, title: str, made: NewUser) -> None:
    show(report, title, msgspec.to_builtins(made.user), ("password", made.password))
