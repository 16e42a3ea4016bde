"""The surface of module ``agent``: one Litestar plugin that brings its database, its routes and its runner."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from litestar.di import Provide
from litestar.plugins import InitPlugin

from codelab.agent.agents import load_agents
from codelab.agent.audit import AuditTrail
from codelab.agent.cleaning import clean
from codelab.agent.commands import Commands
from codelab.agent.entry import Acquaintances, Entry, InternalKey, Tickets
from codelab.agent.figures import FigureService
from codelab.agent.grants import GrantService
from codelab.agent.images import body_size
from codelab.agent.inbox import Inbox
from codelab.agent.log import EventLog
from codelab.agent.mcp import McpRoom
from codelab.agent.model_choice import Models
from codelab.agent.policies import PolicyService, read_policy
from codelab.agent.providers import create_client, load_prices
from codelab.agent.providers.retry import RetryPolicy
from codelab.agent.readers import Following, Readers
from codelab.agent.reference import ReferenceFace
from codelab.agent.reference.routes import routers as reference_routers
from codelab.agent.routes import router
from codelab.agent.schemas import AgentList
from codelab.agent.sessions import SessionService
from codelab.agent.storage import SCHEMA
from codelab.agent.turns import (
    ApprovalService,
    CallTransitions,
    ClaimService,
    ContextBuilder,
    ContextService,
    Expiry,
    ModelCaller,
    QueueService,
    Runner,
    Summariser,
    Transitions,
    TurnService,
)
from codelab.agent.turns.lease import Lease, Leases
from codelab.agent.turns.limits import TurnLimits
from codelab.agent.turns.router import Router
from codelab.agent.turns.window import ContextLimits
from codelab.agent.turns.work import WorkFinder
from codelab.db import Database, Limits, parse_url
from codelab.db.jobs import Job, Jobs
from codelab.db.upkeep import Upkeep
from codelab.errors import StartError
from codelab.repeating import mark_replays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from litestar import Litestar
    from litestar.config.app import AppConfig

    from codelab.agent.providers import ModelClient
    from codelab.agent.readers import StillValid
    from codelab.settings import AgentSettings

__all__ = ("AgentModule",)

#: The model's name where no server is set.
FAKE_MODEL = "fake-llm"
#: Seconds between two looks at who may still read, and at the clients that have calls.
CHECK_READERS = CHECK_CLAIMS = 0.5
#: Seconds between two looks for approvals whose time is over.
CHECK_APPROVALS = 1.0


class AgentModule(InitPlugin):
    """Serve agents; knows its callers only as ``codelab.identity.Principal``.

    ``audit_key_file`` holds the key with which the audit trail is chained; it is made where there is none.
    ``still_valid`` tells which of some callers may still act; without it a stream lasts as long as its token.
    ``behind_proxy`` says that requests may come through proxies, whose addresses say nothing about clients.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        audit_key_file: Path,
        db_wait: float,
        still_valid: StillValid | None = None,
        behind_proxy: bool = False,
    ) -> None:
        self._db_wait = db_wait
        internal = InternalKey(settings.internal_api_key)
        still_valid = internal.beside(still_valid)
        self.tickets = Tickets(still_valid)
        known = Acquaintances(still_valid, origins=settings.legacy_websocket_origins, behind_proxy=behind_proxy)
        self._entry = Entry(internal, self.tickets, known if settings.legacy_websocket else None)
        self.max_message_body = body_size(settings.max_message_bytes, settings.max_image_bytes)
        self.database = Database(
            parse_url(settings.db_url, SCHEMA.variable),
            SCHEMA,
            Limits(settings.db_pool_size, settings.db_statement_timeout),
        )
        self._agents = agents = load_agents(settings.agents_dir, multi=settings.multi_agent_mode)
        self.policy = read_policy(settings.policy_file, agents)
        models = _find_models(settings)
        if settings.llm_proxy_url:  # the offline model answers for every agent
            models.check_agents(agents.values())
        self.audit = AuditTrail(self.database, audit_key_file)
        self.log = EventLog(self.database, self.audit)
        self.readers = Readers(still_valid)
        self.upkeep = Upkeep("agent", lambda: clean(self.database, settings, self.audit.chain))
        self.inbox = Inbox(self.database)
        self.mcp = mcp = McpRoom(settings, self.database, self.audit, audit_key_file, self.readers)
        calls = CallTransitions(self.log, self.inbox, self.policy, mcp, approval_seconds=settings.approval_seconds)
        self.claims = ClaimService(self.database, self.log, calls, self.readers, grace=settings.claim_grace_seconds)
        lease = Lease(settings.lease_seconds)
        leases = Leases(self.database, lease)
        turn_limits = TurnLimits(settings.max_steps, settings.max_turn_tokens, settings.max_turn_seconds)
        transitions = Transitions(self.log, calls, agents, lease, self.policy, turn_limits)
        retries = RetryPolicy(settings.llm_retries, settings.llm_retry_seconds, settings.llm_fallback_models)
        prices = load_prices(settings.prices_file)
        caller = ModelCaller(self.database, self.log, transitions, _open_client(settings), retries, lease, prices)
        limits = ContextLimits(
            settings.llm_context_tokens, settings.llm_max_output_tokens, settings.max_tool_output_chars
        )
        summariser = Summariser(
            self.database,
            self.log,
            caller,
            lease,
            input_tokens=limits.input_tokens,
            output_tokens=settings.llm_max_output_tokens,
        )
        share = settings.summarise_at
        context = ContextBuilder(
            self.database,
            limits,
            models,
            catalogue=mcp.catalogue,
            summariser=summariser if share else None,
            share=share or 1.0,
        )
        self._models = models.describe(
            owner=settings.llm_provider if settings.llm_proxy_url else FAKE_MODEL,
            context_tokens=settings.llm_context_tokens,
            prices=prices,
        )
        self.context = ContextService(self.database, context, agents)
        router = Router(
            self.database,
            self.log,
            agents,
            caller,
            models,
            lease,
            by_model=settings.routing == "model" and settings.llm_proxy_url is not None,
        )
        self.runner = Runner(
            self.database,
            self.log,
            transitions,
            agents,
            caller,
            context,
            router,
            leases,
            WorkFinder(self.log, transitions, leases, turn_limits, resumes=settings.on_restart == "resume"),
        )
        self._mcp_worker = mcp.make_worker(self.log, calls, self.runner, owner=lease.owner)
        self.expiry = Expiry(self.database, transitions, calls, self.inbox, self.runner)
        self._jobs = Jobs(
            Job("approvals", CHECK_APPROVALS, self.expiry.expire_overdue),
            Job("readers", CHECK_READERS, self.readers.end_invalid),
            Job("claims", CHECK_CLAIMS, self.claims.release_abandoned),
            Job("leases", settings.lease_seconds / 3, self.runner.keep_leases),
        )
        self.sessions = SessionService(self.database, self.log, transitions, self.runner, agents, models)
        self._following = Following(self.sessions, self.log, self.readers, settings.send_timeout)
        self.policies = PolicyService(self.database, self.audit, self.policy, agents, mcp.catalogue)
        self.grants = GrantService(self.database, self.audit)
        self._figures = FigureService(self.database)
        self.queue = QueueService(self.database, transitions)
        self.approvals = ApprovalService(
            self.database,
            transitions,
            calls,
            self.runner,
            agents,
            self.policy,
            self.expiry,
            rejects_for_messages=settings.message_while_asking == "reject_and_continue",
        )
        self.turns = TurnService(
            self.database,
            self.log,
            transitions,
            calls,
            self.runner,
            agents,
            self.approvals,
            max_message_bytes=settings.max_message_bytes,
            max_image_bytes=settings.max_image_bytes,
            max_result_bytes=settings.max_result_bytes,
        )
        self.max_kept_answer = settings.max_kept_answer_bytes
        self.commands = Commands(self.turns, self.approvals, self.claims, max_kept_answer=self.max_kept_answer)
        self.reference = ReferenceFace(self.database, self.sessions, self.turns, self.approvals)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the module to an application."""
        # Of these routers alone: each handler of an application resolves all that the application has.
        services = {
            "agents": Provide(lambda: AgentList.of(self._agents.values()), sync_to_thread=False),
            "sessions": Provide(lambda: self.sessions, sync_to_thread=False),
            "approvals": Provide(lambda: self.approvals, sync_to_thread=False),
            "inbox": Provide(lambda: self.inbox, sync_to_thread=False),
            "claims": Provide(lambda: self.claims, sync_to_thread=False),
            "commands": Provide(lambda: self.commands, sync_to_thread=False),
            "context": Provide(lambda: self.context, sync_to_thread=False),
            "models": Provide(lambda: self._models, sync_to_thread=False),
            "tickets": Provide(lambda: self.tickets, sync_to_thread=False),
            "turns": Provide(lambda: self.turns, sync_to_thread=False),
            "reference": Provide(lambda: self.reference, sync_to_thread=False),
            "queue": Provide(lambda: self.queue, sync_to_thread=False),
            "following": Provide(lambda: self._following, sync_to_thread=False),
            "figures": Provide(lambda: self._figures, sync_to_thread=False),
            "grants": Provide(lambda: self.grants, sync_to_thread=False),
            "mcp": Provide(lambda: self.mcp.service, sync_to_thread=False),
            "policies": Provide(lambda: self.policies, sync_to_thread=False),
        }
        app_config.route_handlers.append(router(services, max_message_body=self.max_message_body))
        app_config.route_handlers.extend(reference_routers(services))
        app_config.middleware.append(self._entry)  # not of the routers, which Litestar copies with all they hold
        mark_replays(app_config)
        app_config.lifespan.append(self._lifespan)
        return app_config

    async def ready(self) -> bool:
        """Tell whether the module can serve."""
        return await self.database.ping()

    @property
    def busy(self) -> bool:
        """Tell whether a turn runs or a client follows a session."""
        return bool(self.runner.running or self.log.readers or self.inbox.readers)

    def end_streams(self) -> None:
        """End every event stream, so that the server can stop while clients are attached."""
        self.log.close()
        self.inbox.close()

    @asynccontextmanager
    async def _lifespan(self, _app: Litestar) -> AsyncIterator[None]:
        try:
            await self.database.start(self._db_wait, alone=True)
            await self.audit.open()
            self.mcp.start()
            await self.runner.recover(proven=True)  # whoever worked on a turn had the lock that is ours now
            await self._mcp_worker.start()
            self._jobs.start()
            self.upkeep.start()
            yield
        finally:
            await self._jobs.stop()
            self.end_streams()
            await self.upkeep.stop()
            await self._mcp_worker.stop()
            await self.runner.stop()
            await self.mcp.stop()
            await self.database.stop()


def _open_client(settings: AgentSettings) -> ModelClient:
    try:
        return create_client(
            settings.llm_proxy_url,
            settings.llm_api_key,
            provider=settings.llm_provider,
            thinking=settings.llm_thinking,
            idle_timeout=settings.llm_idle_timeout,
        )
    except ValueError as error:
        raise StartError(f"AGENT_RUNTIME__LLM_PROXY_URL or AGENT_RUNTIME__LLM_API_KEY: {error}") from None


def _find_models(settings: AgentSettings) -> Models:
    """Find which models there are; without a server the offline one alone."""
    if not settings.llm_proxy_url or not settings.llm_model:
        return Models(FAKE_MODEL)
    return Models(settings.llm_model, settings.llm_models or settings.llm_fallback_models)
