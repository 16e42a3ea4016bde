"""Figures and incidents, in the reference's shapes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

__all__ = ("AuditLog", "EventStats", "Metrics", "RequestMetrics", "SessionMetrics", "SessionsWithMetrics")


class RequestMetrics(msgspec.Struct):
    """One model call; its tokens are 0 where the provider told none, its duration where it was not measured."""

    timestamp: datetime
    model: str | None
    duration_ms: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    has_tool_calls: bool
    success: bool
    error: str | None


class SessionMetrics(msgspec.Struct):
    """The model calls of a session; the sums are over all of them, ``requests`` are the newest in order."""

    session_id: str
    total_requests: int
    successful_requests: int
    failed_requests: int
    total_duration_ms: int
    average_duration_ms: float
    total_prompt_tokens: int
    total_completion_tokens: int
    total_tokens: int
    average_tokens_per_request: float
    requests_with_tools: int
    requests: list[RequestMetrics]


class Metrics(msgspec.Struct):
    """What all sessions of a person have done."""

    metrics: dict[str, dict[str, Any]]
    computed: dict[str, float]
    timestamp: datetime


class SessionsWithMetrics(msgspec.Struct):
    """Which sessions have model calls."""

    sessions: list[str]
    count: int


class EventStats(msgspec.Struct):
    """How many events a person's sessions have; each is committed before anybody hears of it, so none is lost."""

    total_published: int
    successful_handlers: int
    failed_handlers: int
    last_event_time: datetime | None
    success_rate: float


class AuditLog(msgspec.Struct):
    """The newest incidents, oldest first."""

    audit_log: list[dict[str, Any]]
    count: int
    filters: dict[str, Any]
