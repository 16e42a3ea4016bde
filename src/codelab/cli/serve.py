"""``codelab serve``: one uvicorn process with both modules."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codelab.errors import StartError
from codelab.settings import Settings, read_env_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    import uvicorn
    from litestar import Litestar

    from codelab.db import Database
    from codelab.local import LocalServer

__all__ = ("serve",)

#: Seconds that open requests get after SIGTERM; event streams are ended at once.
GRACE = 3


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option("--env-file", type=click.Path(path_type=Path), help="Read NAME=value settings from this file too.")
@click.option("--local", is_flag=True, hidden=True, help="Serve one person on this machine; started by `codelab chat`.")
def serve(host: str, port: int, env_file: Path | None, *, local: bool) -> None:
    r"""Run the server: one process, SQLite by default.

    Settings come from the environment (docs/configuration.md). The environment wins over --env-file.

    \b
    Examples:
      codelab serve
      codelab serve --host 0.0.0.0 --port 8080 --env-file .env
      AGENT_RUNTIME__DB_URL=postgresql://codelab@db/agent_runtime codelab serve
    """
    try:
        if local:
            from codelab.local import LocalServer, local_environ

            environ = local_environ(os.environ)
            settings = Settings.from_environ(environ)
            with _listen("127.0.0.1", 0) as listener:
                address = listener.getsockname()
                _run(_serve(settings, listener, _origin(address), LocalServer(os.environ, address[1])))
            return
        environ = {**(read_env_file(env_file) if env_file else {}), **{k: v for k, v in os.environ.items() if v}}
        settings = Settings.from_environ(environ)
        with _listen(host, port) as listener:
            issuer = settings.auth.jwt_issuer or _default_issuer(listener.getsockname())
            _run(_serve(settings, listener, issuer, None))
    except StartError as error:
        click.echo(f"codelab: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Bind before anything else is started, so that a port in use costs nothing and says so in one line."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.create_server(found[0][4][:2], family=found[0][0], backlog=2048)
    except (OSError, UnicodeError) as error:
        # Python adds the address to what the system says; getaddrinfo has numbers of its own.
        number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
        reason = os.strerror(number) if number else getattr(error, "strerror", None) or "the address cannot be used"
        hint = "; choose another with --port" if port else ""
        raise StartError(f"cannot listen on {host} port {port}: {reason}{hint}.") from None
    with listener:
        # asyncio sets this only on sockets whose protocol is named; without it a small answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _origin(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def _default_issuer(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    if not ipaddress.ip_address(address[0]).is_loopback:
        raise StartError(
            f"AUTH_SERVICE__JWT_ISSUER is not set: a server on {address[0]} can be reached under other names, so say "
            "which address people use, for example AUTH_SERVICE__JWT_ISSUER=https://codelab.example.com."
        )
    return _origin(address)


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main)
    except BaseExceptionGroup as group:
        # Litestar starts its parts in a task group, which wraps what they raise.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, StartError):
            raise error from None
        raise


async def _serve(settings: Settings, listener: socket.socket, issuer: str, local: LocalServer | None) -> None:
    import uvicorn

    from codelab.app import create_app
    from codelab.connections import uvicorn_options
    from codelab.telemetry import configure_logging

    configure_logging(settings)
    app = create_app(settings, issuer=issuer, local_secret=local.secret if local else None)
    if local:
        app.register(local.route())
    proxies = [str(network) for network in settings.server.trusted_proxies]
    config = uvicorn.Config(
        app,
        lifespan="off",  # run below: an error of the start must end in one line, not in uvicorn's traceback
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        timeout_graceful_shutdown=GRACE,
        **uvicorn_options(app),
    )
    await _reach_databases(app, settings.server.db_wait)
    async with app.lifespan():
        server = _server(config, app)
        # What the start made lives as long as the process: a full collection need not walk through it again.
        gc.collect()
        gc.freeze()
        async with _ended_when_taken_over(app, server):
            if local:
                async with local.serving(app, server, settings.server.idle_seconds):
                    await server.serve(sockets=[listener])
                return
            click.echo(f"codelab serves on {_origin(listener.getsockname())} (Ctrl-C stops it)", err=True)
            await server.serve(sockets=[listener])


def _databases(app: Litestar) -> tuple[Database, ...]:
    return (app.state.auth.database, app.state.agent.database)


async def _reach_databases(app: Litestar, wait: float) -> None:
    """Wait for both databases before either module makes tables, keys or users."""
    try:
        for database in _databases(app):
            await database.reach(wait)
    except StartError:
        for database in _databases(app):
            await database.stop()
        raise


@contextlib.asynccontextmanager
async def _ended_when_taken_over(app: Litestar, server: uvicorn.Server) -> AsyncIterator[None]:
    """End the server when another process has become the one that serves a database of ours.

    Raises:
        StartError: that is why it ended.
    """

    async def watch(database: Database) -> None:
        await database.taken_over.wait()
        server.should_exit = True
        app.state.agent.end_streams()

    watches = [asyncio.create_task(watch(database), name="codelab-taken-over") for database in _databases(app)]
    try:
        yield
    finally:
        for task in watches:
            task.cancel()
    for database in _databases(app):
        if database.taken_over.is_set():
            raise StartError(database.taken_over_line)


def _server(config: uvicorn.Config, app: Litestar) -> uvicorn.Server:
    """Make a server that SIGTERM and Ctrl-C stop within seconds, also while clients follow event streams."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn would raise the signal again after its end, and so kill the process before the lifespan ends.
            def stop(*_: object) -> None:
                self.should_exit = True
                app.state.agent.end_streams()

            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    return Server(config)
