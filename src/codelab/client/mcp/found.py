"""Which servers a chat runs: those of a file that the person names, and those of the project's that they allow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codelab.client.errors import ClientError
from codelab.client.mcp.consent import Consents, describe
from codelab.mcpclient import InvalidFile, StdioServer, read_file, read_servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.client.console import Console

__all__ = ("FILE", "Asker", "find_servers", "read_named")

#: The file of a project, in its folder.
FILE = ".mcp.json"
MISSING = "MCP servers are left out: they need the extra `mcp`. Install it with: pip install 'codelab[mcp]'"


class Asker(Protocol):
    """Somebody who can be asked."""

    async def trust(self, lines: list[tuple[str, str]]) -> bool | None:
        """Show what would be started and ask whether it may be; ``None`` when they do not answer."""


def read_named(path: Path) -> tuple[StdioServer, ...]:
    """Read the file that the person names.

    Raises:
        ClientError: it is not there, or it is wrong; what and where is said.
    """
    path = path.expanduser().absolute()
    try:
        return read_servers(read_file(path), path)
    except FileNotFoundError:
        raise ClientError(f"--mcp-file: {path} is not there.") from None
    except InvalidFile as error:
        raise ClientError(f"--mcp-file: {error}") from None


async def find_servers(
    named: Sequence[StdioServer], folder: str, data: Path, asker: Asker | None, console: Console
) -> list[StdioServer]:
    """Return what shall run: the ``named`` ones, and those of the folder's own file where the person says yes.

    Without an ``asker`` only an earlier yes counts. Whatever is left out, a line says so.
    """
    servers = {server.name: server for server in await _find_own(Path(folder) / FILE, data, asker, console)}
    for server in named:
        if server.name in servers:
            console.note(f"{FILE}: {server.name} is left out; the server of that name in --mcp-file runs.")
        servers[server.name] = server
    if servers and find_spec("mcp") is None:
        console.note(MISSING, "yellow")
        return []
    return list(servers.values())


async def _find_own(path: Path, data: Path, asker: Asker | None, console: Console) -> tuple[StdioServer, ...]:
    try:
        raw = read_file(path)
        servers = read_servers(raw, path)
    except FileNotFoundError:
        return ()
    except InvalidFile as error:
        console.note(f"{error}. Its MCP servers are left out.", "yellow")
        return ()
    if not servers:
        return ()
    if find_spec("mcp") is None:  # nobody is asked about what cannot be started; the caller says why
        return servers
    names = ", ".join(server.name for server in servers)
    consents = Consents(data)
    allowed = consents.find(path, raw)
    if allowed is None and asker is not None:
        allowed = await asker.trust(describe(path, servers))
        if allowed is not None:
            await consents.remember(path, raw, allowed=allowed)
    if allowed:
        return servers
    if allowed is None:
        console.note(f"{FILE}: nobody has allowed its MCP servers ({names}); they are not started.", "yellow")
    else:
        console.note(f"{FILE}: you said no to its MCP servers ({names}). `--mcp-file {FILE}` starts them.")
    return ()
