"""Routes of figures, in the reference's shapes: true ones, of the caller's own sessions."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from codelab.agent.figures import MOST_ENTRIES, FigureService
from codelab.agent.routes.common import AgentRequest
from codelab.agent.schemas.metrics import AuditLog, EventStats, Metrics, SessionMetrics, SessionsWithMetrics

__all__ = ("HANDLERS",)


@get("/events/metrics", summary="What your sessions have done")
async def get_metrics(request: AgentRequest, figures: NamedDependency[FigureService]) -> Metrics:
    """Count switches, model calls, tool calls, decisions and errors."""
    return await figures.of_person(request.principal)


@get("/events/metrics/sessions", summary="Your sessions that have model calls")
async def list_sessions(request: AgentRequest, figures: NamedDependency[FigureService]) -> SessionsWithMetrics:
    """Name the sessions in which a model was asked."""
    return await figures.sessions(request.principal)


@get("/events/metrics/session/{session_id:str}", summary="The model calls of a session")
async def get_session_metrics(
    request: AgentRequest, session_id: FromPath[str], figures: NamedDependency[FigureService]
) -> SessionMetrics:
    """Return tokens and times of a session's model calls."""
    return await figures.of_session(request.principal, session_id)


@get("/events/audit-log", summary="Questions, decisions, switches and failures of your sessions")
async def get_audit_log(
    request: AgentRequest,
    figures: NamedDependency[FigureService],
    session_id: Annotated[str | None, QueryParameter(max_length=36)] = None,
    event_type: Annotated[str | None, QueryParameter(max_length=50)] = None,
    limit: Annotated[int, QueryParameter(ge=0, le=MOST_ENTRIES, description="How many at most; 0: all.")] = 100,
) -> AuditLog:
    """Return the newest incidents."""
    return await figures.audit_log(request.principal, session_id=session_id, event_type=event_type, limit=limit)


@get("/events/stats", summary="How many events your sessions have")
async def get_stats(request: AgentRequest, figures: NamedDependency[FigureService]) -> EventStats:
    """Count events."""
    return await figures.stats(request.principal)


HANDLERS = (get_metrics, list_sessions, get_session_metrics, get_audit_log, get_stats)
