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
    from codelab.agent.readers import Readers
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.db import Database
    from codelab.settings import AgentSettings

__all__ = ("McpRoom",)


class McpRoom:
    """Hold what others ask about tools, and make the worker when the runner is there.

    Raises:
        StartError: servers are allowed, and the SDK is not installed.
    """

    def __init__(
        self, settings: AgentSettings, database: Database, audit: AuditTrail, key_file: Path, readers: Readers
    ) -> None:
        if settings.mcp_allowed_hosts and find_spec("mcp") is None:
            raise StartError("AGENT_RUNTIME__MCP_ALLOWED_HOSTS: needs the extra codelab[mcp], which is not installed.")
        sealer = Sealer(key_file)
        self._settings = settings
        self._database = database
        self.queue = CallQueue()
        clients = settings.mcp_client_servers
        self.catalogue = Catalogue(database, sealer, settings.mcp_allowed_hosts, clients=clients)
        told = ClientServers(database, audit, self.queue, readers.is_attached, allowed=clients)
        self.service = McpService(database, audit, self.catalogue, sealer, self.queue, told)

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
