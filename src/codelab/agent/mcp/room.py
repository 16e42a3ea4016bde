"""All that module ``agent`` has for MCP servers, put together."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from codelab.agent.mcp.catalogue import Catalogue
from codelab.agent.mcp.clients import ClientServers
from codelab.agent.mcp.queue import CallQueue
from codelab.agent.mcp.sealing import Sealer
from codelab.agent.mcp.service import McpService
from codelab.agent.mcp.worker import Worker
from codelab.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.agent.audit import AuditTrail
    from codelab.agent.log import EventLog
    from codelab.agent.mcp.stdio import Pool
    from codelab.agent.readers import Readers
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.db import Database
    from codelab.settings import AgentSettings

__all__ = ("McpRoom",)

HOSTS, FILE = "AGENT_RUNTIME__MCP_ALLOWED_HOSTS", "AGENT_RUNTIME__MCP_FILE"


class McpRoom:
    """Hold what others ask about tools, and make the worker when the runner is there.

    Raises:
        StartError: servers are allowed or named, and the SDK is not installed; or the file of servers is wrong.
    """

    def __init__(
        self, settings: AgentSettings, database: Database, audit: AuditTrail, key_file: Path, readers: Readers
    ) -> None:
        named = {HOSTS: settings.mcp_allowed_hosts, FILE: settings.mcp_file}
        if (variable := next((name for name, value in named.items() if value), None)) and find_spec("mcp") is None:
            raise StartError(f"{variable}: needs the extra codelab[mcp], which is not installed.")
        sealer = Sealer(key_file)
        self._settings = settings
        self._database = database
        self.queue = CallQueue()
        self._pool = None if settings.mcp_file is None else _make_pool(settings.mcp_file, settings)
        clients = settings.mcp_client_servers
        self.catalogue = Catalogue(database, sealer, settings.mcp_allowed_hosts, self._pool, clients=clients)
        told = ClientServers(database, audit, self.catalogue, self.queue, readers.is_attached, allowed=clients)
        self.service = McpService(database, audit, self.catalogue, sealer, self.queue, told)

    def start(self) -> None:
        """Start the operator's servers, without waiting for them."""
        if self._pool is not None:
            self._pool.start()

    async def stop(self) -> None:
        """End them, and ask no other any more."""
        await self.catalogue.listings.close()
        if self._pool is not None:
            await self._pool.stop()

    def make_worker(self, log: EventLog, calls: CallTransitions, runner: Runner, *, owner: str) -> Worker:
        """Make what calls the tools."""
        return Worker(
            self._database,
            log,
            calls,
            runner,
            self.catalogue,
            self.queue,
            owner=owner,
            seconds=self._settings.mcp_call_seconds,
            most=self._settings.max_result_bytes,
        )


def _make_pool(path: Path, settings: AgentSettings) -> Pool:
    # Late: where there is no such file nothing of this is loaded.
    from codelab.agent.mcp.stdio import Pool
    from codelab.mcpclient import InvalidFile, read_file, read_servers

    try:
        servers = read_servers(read_file(path), path.absolute())
    except FileNotFoundError:
        raise StartError(f"{FILE}: {path} is not there.") from None
    except InvalidFile as error:
        raise StartError(f"{FILE}: {error}.") from None
    return Pool(servers, seconds=settings.mcp_call_seconds, most=settings.max_result_bytes)
