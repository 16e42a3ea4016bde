"""The settings of module ``agent``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codelab.settings.models import ModelSettings
from codelab.settings.variables import (
    LOG_LEVEL,
    MEBIBYTE,
    internal_key,
    keep,
    names,
    number,
    one_of,
    optional_path,
    places,
    switch,
    truth,
    variable,
    whole,
)

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

__all__ = ("AgentSettings",)


@dataclass(frozen=True)
class AgentSettings(ModelSettings):
    """Settings of module ``agent``; the names are those of the reference system where it has them."""

    db_url: str = variable(
        "AGENT_RUNTIME__DB_URL",
        "sqlite:///data/agent_runtime.db",
        "Database of sessions, messages and turns; the scheme picks SQLite or PostgreSQL.",
        str,
        secret=True,
    )
    db_pool_size: int = variable(
        "AGENT_RUNTIME__DB_POOL_SIZE",
        "10",
        "Connections to the database at most, the one that writes included.",
        whole(4, 200),
    )
    db_statement_timeout: float = variable(
        "AGENT_RUNTIME__DB_STATEMENT_TIMEOUT",
        "30",
        "Seconds after which PostgreSQL ends a statement.",
        number(1, 3600),
    )
    max_message_bytes: int = variable(
        "AGENT_RUNTIME__MAX_MESSAGE_BYTES",
        str(MEBIBYTE),
        "Largest user message, in bytes of UTF-8.",
        whole(1, 1024 * MEBIBYTE),
    )
    max_image_bytes: int = variable(
        "AGENT_RUNTIME__MAX_IMAGE_BYTES",
        str(5 * MEBIBYTE),
        "Largest image in a message, in bytes; a message has at most eight.",
        whole(1024, 64 * MEBIBYTE),
    )
    max_result_bytes: int = variable(
        "AGENT_RUNTIME__MAX_RESULT_BYTES",
        str(4 * MEBIBYTE),
        "Largest tool result, in bytes of JSON.",
        whole(1024, 1024 * MEBIBYTE),
    )
    max_kept_answer_bytes: int = variable(
        "AGENT_RUNTIME__MAX_KEPT_ANSWER_BYTES",
        "262144",
        "Largest answer that is kept for an `Idempotency-Key`, in bytes; of a longer one, only that it was given.",
        whole(0, 64 * MEBIBYTE),
    )
    max_steps: int = variable(
        "AGENT_RUNTIME__MAX_STEPS", "50", "Model calls in one turn before a person is asked.", whole(1, 10_000)
    )
    max_turn_tokens: int = variable(
        "AGENT_RUNTIME__MAX_TURN_TOKENS",
        "0",
        "Tokens, read and written, that one turn may use before a person is asked; `0`: no limit.",
        whole(0, 10**12),
    )
    max_turn_seconds: int = variable(
        "AGENT_RUNTIME__MAX_TURN_SECONDS",
        "3600",
        "Seconds that the model may work in one turn before a person is asked; `0`: no limit.",
        whole(0, 31_536_000),
    )
    agents_dir: Path | None = variable(
        "AGENT_RUNTIME__AGENTS_DIR",
        "",
        "Folder with definitions of agents beside or in place of codelab's own, as [Agents](agents.md) describes.",
        optional_path,
    )
    multi_agent_mode: bool = variable(
        "AGENT_RUNTIME__MULTI_AGENT_MODE",
        "true",
        "`false`: the one agent `universal` does everything, without routing and hand-overs.",
        truth,
    )
    routing: str = variable(
        "AGENT_RUNTIME__ROUTING",
        "model",
        "Who chooses an agent: `model`, by a short call (keywords where it fails, and with `fake-llm`), or `keywords`.",
        one_of("keywords", "model"),
    )
    policy_file: Path | None = variable(
        "AGENT_RUNTIME__POLICY_FILE",
        "",
        "File with rules about what agents may do, as [The policy](policy.md) describes. Unset: the built-in rules.",
        optional_path,
    )
    mcp_allowed_hosts: tuple[str, ...] = variable(
        "AGENT_RUNTIME__MCP_ALLOWED_HOSTS",
        "",
        "Hosts, by comma, with `:port` unless it is the usual one, of [MCP servers](mcp.md) that people may add.",
        places,
    )
    mcp_file: Path | None = variable(
        "AGENT_RUNTIME__MCP_FILE",
        "",
        "File with [MCP servers](mcp.md#servers-of-the-operator) that this server runs as processes, for all sessions.",
        optional_path,
    )
    mcp_call_seconds: float = variable(
        "AGENT_RUNTIME__MCP_CALL_SECONDS",
        "60",
        "Seconds after which a call of an MCP tool fails, the model is told; and in which a server has to begin.",
        number(0.1, 3600),
    )
    mcp_client_servers: bool = variable(
        "AGENT_RUNTIME__MCP_CLIENT_SERVERS",
        "on",
        "`off`: clients may not bring the tools of [MCP servers](mcp.md#servers-on-your-own-machine) that they run.",
        switch,
    )
    approval_seconds: int = variable(
        "AGENT_RUNTIME__APPROVAL_SECONDS",
        "86400",
        "Seconds that a person has to decide about a call before it expires: it is not run then.",
        whole(1, 31_536_000),
    )
    message_while_asking: str = variable(
        "AGENT_RUNTIME__MESSAGE_WHILE_ASKING",
        "reject_and_continue",
        "What a message does to approvals that wait in its session: `reject_and_continue`, or `wait` until decided.",
        one_of("reject_and_continue", "wait"),
    )
    claim_grace_seconds: float = variable(
        "AGENT_RUNTIME__CLAIM_GRACE_SECONDS",
        "30",
        "Seconds that a client which runs a tool call may be away before the call is taken from it.",
        number(0.1, 86_400),
    )
    lease_seconds: float = variable(
        "AGENT_RUNTIME__LEASE_SECONDS",
        "15",
        "Seconds after which another process may take over a running turn that this one did not say to be at work on.",
        number(1, 3600),
    )
    on_restart: str = variable(
        "AGENT_RUNTIME__ON_RESTART",
        "resume",
        "What becomes of a turn that was running when the server ended: `resume` or `fail`.",
        one_of("resume", "fail"),
    )
    send_timeout: float = variable(
        "AGENT_RUNTIME__SEND_TIMEOUT",
        "30",
        "Seconds that a client of an event stream may take to accept what is sent before it is disconnected.",
        number(0.1, 3600),
    )
    keep_deltas: timedelta | None = variable(
        "AGENT_RUNTIME__KEEP_DELTAS",
        "1h",
        "How long an ended turn's pieces of text are kept beside the whole answers: `12h`, `2d` or `forever`.",
        keep,
    )
    keep_deleted_sessions: timedelta | None = variable(
        "AGENT_RUNTIME__KEEP_DELETED_SESSIONS",
        "30d",
        "How long a deleted session stays in the database before all of it is removed: `12h`, `2d` or `forever`.",
        keep,
    )
    keep_audit: timedelta | None = variable(
        "AGENT_RUNTIME__KEEP_AUDIT",
        "forever",
        "How long the audit trail of agents is kept: `365d` or `forever`; what is left can still be verified.",
        keep,
    )
    internal_api_key: str | None = variable(
        "AGENT_RUNTIME__INTERNAL_API_KEY",
        "",
        "Key that a program may show in `X-Internal-Auth` instead of a token, at least 32 characters. Unset: none may.",
        internal_key,
        secret=True,
    )
    legacy_websocket: bool = variable(
        "AGENT_RUNTIME__LEGACY_WEBSOCKET",
        "off",
        "`on` lets in sockets without a token: a risk, see [Clients of the reference system](reference-clients.md).",
        switch,
    )
    legacy_websocket_origins: tuple[str, ...] = variable(
        "AGENT_RUNTIME__LEGACY_WEBSOCKET_ORIGINS",
        "",
        "Values of `Origin`, by comma, with which such a socket may come; without `Origin` it always may.",
        names,
    )
    log_level: str = variable(
        "AGENT_RUNTIME__LOG_LEVEL", "info", "Log level of this module: debug, info, warning or error.", LOG_LEVEL
    )
