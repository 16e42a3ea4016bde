"""The one place that knows both modules: it assembles them into a Litestar application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advanced_alchemy.extensions.litestar import (
    AlembicAsyncConfig,
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    SQLAlchemyInitPlugin,
    SQLAlchemySerializationPlugin,
)
from litestar import Litestar, MediaType, Response, get
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from codelab import __version__
from codelab.agent.module import AgentModule
from codelab.auth.module import AuthModule
from codelab.hosts import AllowedHosts
from codelab.openapi import Documented
from codelab.problems import EXCEPTION_HANDLERS, Handshakes, note_refusal
from codelab.telemetry import Metrics, Observer
from codelab.web import CodelabRequest

if TYPE_CHECKING:
    from codelab.db import Database
    from codelab.settings import Settings

__all__ = ("create_app",)

#: A stale token must not hide from a load balancer that the process is well.
PUBLIC: dict[str, Any] = {"opt": {"exclude_from_auth": True}, "tags": ["operations"], "security": [{}]}
#: Bytes around a message or a tool result: the JSON that carries it.
BODY_SLACK = 64 * 1024


def create_app(settings: Settings, *, issuer: str, local_secret: str | None = None) -> Litestar:
    """Assemble the application; nothing is opened before its lifespan starts.

    ``issuer`` is the ``iss`` of access tokens; ``local_secret`` the credential of a person's own local server.

    Raises:
        StartError: a setting cannot be used.
    """
    auth = AuthModule(settings.auth, issuer=issuer, local_secret=local_secret, db_wait=settings.server.db_wait)
    agent = AgentModule(
        settings.agent,
        audit_key_file=settings.auth.key_encryption_key_file,
        db_wait=settings.server.db_wait,
        still_valid=auth.still_valid,
        behind_proxy=bool(settings.server.trusted_proxies),
    )
    metrics = Metrics()
    metrics.gauge("codelab_sessions_running", "Sessions whose turn runs now.", lambda: agent.runner.running)
    metrics.gauge("codelab_event_streams", "Clients that follow a session now.", lambda: agent.log.readers)

    removed = "Rows that were not to be kept any longer."
    metrics.total("codelab_rows_removed", removed, "kind", lambda: agent.upkeep.counts | auth.upkeep.counts)

    @get(["/health", "/api/v1/health"], summary="The process answers", **PUBLIC)
    async def health() -> dict[str, str]:
        """Tell that the process answers."""
        return {"status": "healthy", "service": "codelab", "version": __version__}

    @get("/ready", summary="Both modules can serve", **PUBLIC)
    async def ready() -> Response[dict[str, bool]]:
        """Tell whether both modules are migrated and their databases answer."""
        parts = {"auth": await auth.ready(), "agent": await agent.ready()}
        whole = all(parts.values())
        return Response({"ready": whole, **parts}, status_code=200 if whole else 503)

    @get("/metrics", summary="Prometheus metrics", media_type=MediaType.TEXT, **PUBLIC)
    async def show_metrics() -> Response[bytes]:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    # Escaped as \uXXXX a character may take six bytes of JSON for one of UTF-8.
    max_body = max(settings.agent.max_message_bytes * 6, settings.agent.max_result_bytes * 6) + BODY_SLACK
    app = Litestar(
        route_handlers=[health, ready, show_metrics],
        # SQLAlchemy's are first, so they end last: they close connections that the modules still need while they stop.
        # Both by name, since SQLAlchemyPlugin would add them at the end.
        plugins=[
            SQLAlchemyInitPlugin(config=[_alchemy(auth.database), _alchemy(agent.database)]),
            SQLAlchemySerializationPlugin(),
            auth,
            agent,
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        after_exception=[note_refusal],
        request_class=CodelabRequest,
        request_max_body_size=max_body,
        logging_config=None,
        openapi_config=Documented(
            title="codelab",
            version=__version__,
            path="/schema",
            # The pages for people load scripts from elsewhere; the document alone works offline.
            render_plugins=[JsonRenderPlugin()],
            use_handler_docstrings=True,
            security=[{"bearer": []}],
            components=Components(
                security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
            ),
        ),
    )
    app.state.auth = auth
    app.state.agent = agent
    app.state.max_body = max(max_body, agent.max_message_body)
    known = AllowedHosts(auth.surround(Handshakes(app.asgi_handler)), issuer, settings.server.allowed_hosts)
    app.state.observer = app.asgi_handler = Observer(known, metrics)
    return app


def _alchemy(database: Database) -> SQLAlchemyAsyncConfig:
    """Show a module's database to advanced-alchemy's plugin and its ``litestar database`` commands.

    All keys are named: unnamed ones get a suffix when a second application of the process has them.
    """
    name = database.module
    return SQLAlchemyAsyncConfig(
        engine_instance=database.engine,
        session_maker=database.sessions,
        session_config=AsyncSessionConfig(expire_on_commit=False),
        metadata=database.schema.metadata,
        bind_key=name,
        create_all=False,
        session_dependency_key=f"{name}_session",
        engine_dependency_key=f"{name}_engine",
        engine_app_state_key=f"{name}_engine",
        session_maker_app_state_key=f"{name}_session_maker",
        session_scope_key=f"_{name}_session",
        alembic_config=AlembicAsyncConfig(
            script_location=str(database.schema.migrations), version_table_name=database.schema.version_table
        ),
        enable_touch_updated_timestamp_listener=False,
        enable_file_object_listener=False,
        set_default_exception_handler=False,
    )
