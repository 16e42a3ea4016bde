"""Put the chat together: which server, which session, one message or many."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from codelab.client.api import Access, Api, http_client
from codelab.client.approvals import Approvals, Mode
from codelab.client.auth import Person, ServerAccess, check_url
from codelab.client.chat import Chat, interruptible
from codelab.client.console import Console
from codelab.client.errors import ClientError
from codelab.client.images import read_image
from codelab.client.local import LocalAccess
from codelab.client.login import can_open_browser
from codelab.client.mcp.found import find_servers, read_named
from codelab.client.state import SessionBook, find_data_folder, make_data_folder
from codelab.client.tools.errors import ToolError
from codelab.client.tools.paths import Folder
from codelab.client.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from codelab.client.mcp.servers import Servers
    from codelab.client.terminal import Terminal
    from codelab.mcpclient import StdioServer

__all__ = ("Options", "run")


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    url: str | None = None
    username: str | None = None
    password: str | None = None
    insecure_http: bool = False
    device: bool = False
    resume: bool = False
    session: str | None = None
    agent: str | None = None
    model: str | None = None
    images: tuple[Path, ...] = ()
    prompt: str | None = None
    approve: Mode | None = None
    json: bool = False
    mcp_file: Path | None = None
    mcp: bool = True
    data_dir: Path | None = None


def run(options: Options, environ: Mapping[str, str]) -> int:
    """Run a chat in the current folder and return the exit code.

    Raises:
        ClientError: a sentence for the person; nothing more can be done.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not end the chat.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    images = [read_image(path) for path in options.images]
    named = read_named(options.mcp_file) if options.mcp_file else ()
    data = options.data_dir.expanduser().absolute() if options.data_dir else find_data_folder(environ)
    make_data_folder(data)
    folder = Folder(Path.cwd(), data)
    try:
        folder.resolve(".")
    except ToolError:
        raise ClientError("This is codelab's own data folder; start the chat in the folder of a project.") from None
    access: Access
    if options.url is not None:
        access = _log_in(options, options.url, data, environ)
    else:
        access = local = LocalAccess(data, environ, lambda line: click.echo(line, err=True))
        # Before there is an event loop, so that Ctrl-C ends the wait.
        local.start()
    return asyncio.run(_chat(options, images, named, access, data, folder, environ))


async def _chat(
    options: Options,
    images: list[dict[str, str]],
    named: tuple[StdioServer, ...],
    access: Access,
    data: Path,
    folder: Folder,
    environ: Mapping[str, str],
) -> int:
    one_shot = options.prompt is not None
    answers = None if options.json else sys.stdout
    console = Console(answers=answers, notes=sys.stderr if one_shot else sys.stdout)
    terminal: Terminal | None = None
    if not one_shot:
        from codelab.client.terminal import Terminal

        terminal = Terminal(console, data)
    # Log in before anything is typed.
    await access.token()
    specs = await find_servers(named, folder.root, data, terminal, console) if options.mcp else []
    async with _running(specs, environ, console) as mcp, http_client(await access.address()) as client:
        toolbox = Toolbox(folder, environ, mcp)
        approvals = Approvals(options.approve or ("none" if terminal is None else "ask"), terminal, toolbox)
        book = SessionBook(data)
        chat = Chat(
            Api(access, client), toolbox, approvals, console, book, access.identity, options.agent, options.model
        )
        async with chat:
            if options.session or options.resume:
                await chat.attach(options.session, show_tail=not one_shot)
            if terminal is not None:
                from codelab.client.interactive import talk

                return await talk(chat, terminal, console)
            outcome = await interruptible(chat, chat.say(options.prompt or "", images))
        if options.json:
            sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        elif outcome.error:
            console.error(outcome.sentence)
        return 0 if outcome.status == "completed" else 1


@asynccontextmanager
async def _running(
    specs: list[StdioServer], environ: Mapping[str, str], console: Console
) -> AsyncIterator[Servers | None]:
    """Run MCP servers; whatever ends the chat, they are ended before."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    if not specs:
        yield None
        return
    from codelab.client.mcp.servers import Servers

    servers = Servers(specs, environ, console)
    servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


def _log_in(options: Options, given: str, data: Path, environ: Mapping[str, str]) -> ServerAccess:
    url = check_url(given, insecure_http=options.insecure_http)

    def ask(username: str | None) -> tuple[str, str]:
        from codelab.client.terminal import ask_login

        # The event loop keeps Ctrl-C for itself; at this question it has to end the chat.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return ask_login(url, username)
        finally:
            signal.signal(signal.SIGINT, handler)

    person: Person | None = None
    if sys.stdin.isatty() and sys.stderr.isatty():
        has_browser = not options.device and can_open_browser(environ)
        person = Person(ask, lambda line: click.echo(line, err=True), has_browser)
    return ServerAccess(url, data, username=options.username, password=options.password, person=person)
