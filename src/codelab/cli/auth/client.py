"""``codelab client``: the programs that ask for tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from codelab.auth.operators.wanted import GRANTS, WantedClient
from codelab.cli.auth.common import actor_of, ask_first, collect, perform, read_secret, show, show_table, yes_option
from codelab.cli.db.common import Report, env_file_option, json_option

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from codelab.auth.operators import Operators
    from codelab.auth.operators.clients import NewClient
    from codelab.auth.schemas import ClientView

__all__ = ("client",)

_COLUMNS = {"client_id": 34, "name": 30, "is_confidential": 17, "is_registered": 15, "is_active": 10}
_secret_option = click.option(
    "--secret-stdin", is_flag=True, help="Read the secret from standard input instead of making one."
)


@click.group()
def client() -> None:
    """Make, look at, disable and delete the programs that ask for tokens.

    The database is that of AUTH_SERVICE__DB_URL, as for `codelab serve`. A server that runs follows within a second.
    """


@client.command()
@click.argument("client_id", metavar="ID")
@click.option("--name", required=True, help="What people see before they agree.")
@click.option("--public/--confidential", default=None, help="Whether it can keep a secret; one has to be said.")
@click.option("--redirect-uri", multiple=True, metavar="URI", help="Where browsers are sent back to; may be repeated.")
@click.option(
    "--post-logout-redirect-uri",
    multiple=True,
    metavar="URI",
    help="Where browsers may be sent after signing out; may be repeated.",
)
@click.option(
    "--grant",
    multiple=True,
    type=click.Choice(tuple(GRANTS)),
    help="How it gets tokens; may be repeated. With a redirect URI: authorization_code and refresh_token.",
)
@click.option("--scope", metavar='"SCOPE …"', help="What it may ask for; all but api:admin unless said.")
@_secret_option
@json_option
@env_file_option
def create(
    client_id: str,
    name: str,
    redirect_uri: tuple[str, ...],
    post_logout_redirect_uri: tuple[str, ...],
    grant: tuple[str, ...],
    scope: str | None,
    env_file: Path | None,
    *,
    public: bool | None,
    secret_stdin: bool,
    as_json: bool,
) -> None:
    r"""Make the client ID.

    A confidential one gets a secret, which is shown once, unless it comes with --secret-stdin.

    \b
    Examples:
      codelab client create my-editor --name "My editor" --public --redirect-uri http://127.0.0.1/callback
      codelab client create nightly --name "Nightly job" --confidential --grant client_credentials --scope api:read
    """
    if public is None:
        raise click.UsageError("say --public, or --confidential for a program that can keep a secret")

    async def work(operators: Operators) -> NewClient:
        wanted = WantedClient(
            client_id=client_id,
            name=name,
            confidential=not public,
            redirect_uris=list(redirect_uri),
            post_logout_redirect_uris=list(post_logout_redirect_uri),
            grants=list(grant),
            scope=scope,
            secret=read_secret(from_stdin=secret_stdin),
        )
        return await operators.clients.create(actor_of("client create"), wanted)

    perform(env_file, work, lambda made: _show_new(Report(as_json), f"The client {client_id} was made.", made))


@client.command("list")
@json_option
@env_file_option
def list_(env_file: Path | None, *, as_json: bool) -> None:
    """List all clients by id, those too that registered themselves."""

    async def work(operators: Operators) -> list[ClientView]:
        return await collect(operators.clients.list, lambda each: each.client_id)

    perform(env_file, work, lambda found: show_table(Report(as_json), "clients", found, _COLUMNS))


@client.command("show")
@click.argument("client_id", metavar="ID")
@json_option
@env_file_option
def show_(client_id: str, env_file: Path | None, *, as_json: bool) -> None:
    """Show the client ID; its secret is known to nobody here."""
    _act(client_id, env_file, lambda operators: operators.clients.show(client_id), as_json=as_json)


@client.command("rotate-secret")
@click.argument("client_id", metavar="ID")
@_secret_option
@json_option
@env_file_option
def rotate_secret(client_id: str, env_file: Path | None, *, secret_stdin: bool, as_json: bool) -> None:
    """Give the client ID another secret; the old one ends at once, its tokens live on.

    Without --secret-stdin a secret is made and shown once.
    """

    async def work(operators: Operators) -> NewClient:
        secret = read_secret(from_stdin=secret_stdin)
        return await operators.clients.rotate_secret(actor_of("client rotate-secret"), client_id, secret)

    perform(env_file, work, lambda made: _show_new(Report(as_json), f"{client_id} has another secret.", made))


@client.command()
@click.argument("client_id", metavar="ID")
@json_option
@env_file_option
def disable(client_id: str, env_file: Path | None, *, as_json: bool) -> None:
    """Give the client ID no more tokens; those that it has end."""
    actor = actor_of("client disable")
    _act(client_id, env_file, lambda operators: operators.clients.disable(actor, client_id), as_json=as_json)


@client.command()
@click.argument("client_id", metavar="ID")
@json_option
@env_file_option
def enable(client_id: str, env_file: Path | None, *, as_json: bool) -> None:
    """Give the client ID tokens again; those that were ended stay ended."""
    actor = actor_of("client enable")
    _act(client_id, env_file, lambda operators: operators.clients.enable(actor, client_id), as_json=as_json)


@client.command()
@click.argument("client_id", metavar="ID")
@yes_option
@json_option
@env_file_option
def delete(client_id: str, env_file: Path | None, *, yes: bool, as_json: bool) -> None:
    """Delete the client ID, with all logins by way of it and what people let it do."""
    ask_first(f"Delete the client {client_id!r}?", yes=yes)
    actor = actor_of("client delete")
    _act(
        client_id,
        env_file,
        lambda operators: operators.clients.delete(actor, client_id),
        "was deleted",
        as_json=as_json,
    )


def _act(
    client_id: str,
    env_file: Path | None,
    work: Callable[[Operators], Awaitable[ClientView]],
    done: str | None = None,
    *,
    as_json: bool,
) -> None:
    def tell(found: ClientView) -> None:
        state = done or ("is in use" if found.is_active else "is disabled")
        show(Report(as_json), f"The client {client_id} {state}.", msgspec.to_builtins(found))

    perform(env_file, work, tell)


def _show_new(report: Report, title: str, made: NewClient) -> None:
    show(report, title, msgspec.to_builtins(made.client), ("secret", made.secret))
