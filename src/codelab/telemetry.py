"""Logs, metrics, request ids."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog
from litestar.enums import ScopeType
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from codelab.db.types import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
    from prometheus_client import Metric

    from codelab.settings import Settings

__all__ = ("Metrics", "Observer", "configure_logging")

access = logging.getLogger("codelab.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def configure_logging(settings: Settings) -> None:
    """Send all logs to standard error: one line each, JSON or for people."""
    chosen = settings.server.log_format
    console = chosen == "console" or (chosen == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        final: list[Any] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    else:
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.server.log_level.upper())
    logging.getLogger("codelab.agent").setLevel(settings.agent.log_level.upper())
    logging.getLogger("codelab.auth").setLevel(settings.auth.log_level.upper())
    # What these say at INFO is of no use to an operator, and may hold statements, or URLs with somebody's key.
    http = ("uvicorn", "httpx", "httpcore", "httpx2", "httpcore2")
    for noisy in ("alembic", "aiosqlite", "sqlalchemy", "asyncio", *http):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # The SDK of MCP logs what servers say, as often as they say it.
    for hearsay in ("mcp", "client"):
        logging.getLogger(hearsay).setLevel(logging.CRITICAL)


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "codelab_http_requests",
            "Answered HTTP requests.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "codelab_http_request_seconds",
            "Time to the end of the answer; event streams count when they end.",
            ("method", "route"),
            registry=self.registry,
        )

    def total(self, name: str, meaning: str, label: str, read: Callable[[], dict[str, int]]) -> None:
        """Add figures that only grow and are read when they are asked for, by the value of a label."""
        self.registry.register(_Totals(name, meaning, label, read))

    def gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Add a figure that is read when it is asked for."""
        Gauge(name, meaning, registry=self.registry).set_function(read)


class _Totals(Collector):
    def __init__(self, name: str, meaning: str, label: str, read: Callable[[], dict[str, int]]) -> None:
        self._described = (name, meaning)
        self._label = label
        self._read = read

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(*self._described, labels=[self._label])
        for value, count in self._read().items():
            family.add_metric([value], count)
        yield family


class Observer:
    """Give each request an id, a log line and a place in the metrics.

    It wraps the whole application, not single routes, so that answers to unknown paths are seen too.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self.open_requests = 0
        self.last_request = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == ScopeType.HTTP:
            await self._observe(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _observe(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        # The scope is where ASGI programs leave what they know of a request; its type names only the standard members.
        scope["request_id"] = request_id  # type: ignore[typeddict-unknown-key]  # see above
        status = 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        self.open_requests += 1
        try:
            await self._app(scope, receive, observe)
        finally:
            self.open_requests -= 1
            self.last_request = time.monotonic()
            took = time.perf_counter() - began
            route = str(scope.get("path_template") or "unknown")
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(scope["method"], route).observe(took)
            details: dict[str, Any] = {"method": scope["method"], "route": route, "status": status}
            session_id = scope.get("path_params", {}).get("session_id")
            if session_id is not None:
                details["session_id"] = str(session_id)[:36]
            access.info("request", extra=details | {"milliseconds": round(took * 1000, 1)})
            structlog.contextvars.unbind_contextvars("request_id")
