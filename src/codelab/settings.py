"""Every environment variable that codelab reads, read once into frozen objects.

Nothing else reads ``os.environ``. ``docs/configuration.md`` lists the same variables; a test holds the two together.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ("AgentSettings", "AuthSettings", "ServerSettings", "Settings", "Variable", "read_env_file", "variables")

T = TypeVar("T")
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Variable:
    """Describe one environment variable: its name, default as text, meaning, and whether it may hold a secret."""

    name: str
    default: str
    meaning: str
    parse: Callable[[str], Any]
    secret: bool = False


def _variable(name: str, default: str, meaning: str, parse: Callable[[str], T], *, secret: bool = False) -> T:
    described = Variable(name, default, meaning, parse, secret)
    # A secret stays out of the repr, and so out of every log and traceback that shows settings.
    return field(default_factory=lambda: parse(default), metadata={"variable": described}, repr=not secret)


def _optional(value: str) -> str | None:
    return value or None


def _path(value: str) -> Path:
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user, or no home folder") from None


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g} is expected")
        return number

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high} is expected")
        return int(value)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected")
        return value.lower()

    return parse


def _names(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _keep(value: str) -> timedelta | None:
    """Read for how long something is kept; None is for ever."""
    text = value.strip().lower()
    if text in {"0", "forever"}:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([dh])", text)
    if found is None or not int(found[1]):
        raise ValueError("days like 30d, hours like 12h, or forever is expected")
    return timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1]))


def _thinking(value: str) -> str:
    if value.lower() in {"default", "adaptive", "off"}:
        return value.lower()
    try:
        return str(_whole(1024, 1_000_000)(value))
    except ValueError:
        raise ValueError("default, adaptive, off or a number of tokens from 1024 is expected") from None


def _networks(value: str) -> tuple[IPNetwork, ...]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts)


_LOG_LEVEL = _one_of("debug", "info", "warning", "error")
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class AgentSettings:
    """Settings of module ``agent``; the names are those of the reference system where it has them."""

    db_url: str = _variable(
        "AGENT_RUNTIME__DB_URL",
        "sqlite:///data/agent_runtime.db",
        "Database of sessions, messages and turns; the scheme picks SQLite or PostgreSQL.",
        str,
        secret=True,
    )
    db_pool_size: int = _variable(
        "AGENT_RUNTIME__DB_POOL_SIZE",
        "10",
        "Connections to the database at most, the one that writes included.",
        _whole(4, 200),
    )
    db_statement_timeout: float = _variable(
        "AGENT_RUNTIME__DB_STATEMENT_TIMEOUT",
        "30",
        "Seconds after which PostgreSQL ends a statement.",
        _number(1, 3600),
    )
    llm_provider: str = _variable(
        "AGENT_RUNTIME__LLM_PROVIDER",
        "openai",
        "What the model server speaks: `openai` (chat completions) or `anthropic` (messages).",
        _one_of("openai", "anthropic"),
    )
    llm_proxy_url: str | None = _variable(
        "AGENT_RUNTIME__LLM_PROXY_URL",
        "",
        "Base URL of the model server, with or without `/v1`. Unset: the offline `fake-llm`.",
        _optional,
        secret=True,
    )
    llm_api_key: str | None = _variable(
        "AGENT_RUNTIME__LLM_API_KEY", "", "Key sent to that server.", _optional, secret=True
    )
    llm_model: str | None = _variable(
        "AGENT_RUNTIME__LLM_MODEL", "", "Model to ask for; required with `AGENT_RUNTIME__LLM_PROXY_URL`.", _optional
    )
    llm_idle_timeout: float = _variable(
        "AGENT_RUNTIME__LLM_IDLE_TIMEOUT",
        "120",
        "Seconds without a byte from the model server after which the turn fails.",
        _number(0.1, 3600),
    )
    llm_fallback_models: tuple[str, ...] = _variable(
        "AGENT_RUNTIME__LLM_FALLBACK_MODELS",
        "",
        "Models of the same server, by comma, that are asked in order when the first is not to be had.",
        _names,
    )
    llm_retries: int = _variable(
        "AGENT_RUNTIME__LLM_RETRIES",
        "4",
        "How often each model is asked again when the server is busy or not there.",
        _whole(0, 100),
    )
    llm_retry_seconds: float = _variable(
        "AGENT_RUNTIME__LLM_RETRY_SECONDS",
        "120",
        "Seconds after which one model call is not made again, the pauses that the server asks for included.",
        _number(0, 3600),
    )
    llm_thinking: str = _variable(
        "AGENT_RUNTIME__LLM_THINKING",
        "default",
        "How Anthropic's models think: `default` (as the model is made), `adaptive`, `off`, or a budget in tokens.",
        _thinking,
    )
    llm_max_output_tokens: int = _variable(
        "AGENT_RUNTIME__LLM_MAX_OUTPUT_TOKENS",
        "16384",
        "Longest answer that is asked for, in tokens, where the provider demands a limit (Anthropic).",
        _whole(256, 1_000_000),
    )
    llm_context_tokens: int = _variable(
        "AGENT_RUNTIME__LLM_CONTEXT_TOKENS",
        "128000",
        "Tokens that fit into the model's window, the answer included; older messages are left out, with a mark.",
        _whole(4_000, 100_000_000),
    )
    max_tool_output_chars: int = _variable(
        "AGENT_RUNTIME__MAX_TOOL_OUTPUT_CHARS",
        "32000",
        "Characters of a tool's output that a model is shown; what is left out of its middle leaves a mark.",
        _whole(100, 100_000_000),
    )
    max_message_bytes: int = _variable(
        "AGENT_RUNTIME__MAX_MESSAGE_BYTES",
        str(_MEBIBYTE),
        "Largest user message, in bytes of UTF-8.",
        _whole(1, 1024 * _MEBIBYTE),
    )
    max_result_bytes: int = _variable(
        "AGENT_RUNTIME__MAX_RESULT_BYTES",
        str(4 * _MEBIBYTE),
        "Largest tool result, in bytes of JSON.",
        _whole(1024, 1024 * _MEBIBYTE),
    )
    max_steps: int = _variable(
        "AGENT_RUNTIME__MAX_STEPS", "50", "Model calls in one turn before it fails.", _whole(1, 10_000)
    )
    send_timeout: float = _variable(
        "AGENT_RUNTIME__SEND_TIMEOUT",
        "30",
        "Seconds that a client of an event stream may take to accept what is sent before it is disconnected.",
        _number(0.1, 3600),
    )
    keep_deltas: timedelta | None = _variable(
        "AGENT_RUNTIME__KEEP_DELTAS",
        "1h",
        "How long an ended turn's pieces of text are kept beside the whole answers: `12h`, `2d` or `forever`.",
        _keep,
    )
    keep_deleted_sessions: timedelta | None = _variable(
        "AGENT_RUNTIME__KEEP_DELETED_SESSIONS",
        "30d",
        "How long a deleted session stays in the database before all of it is removed: `12h`, `2d` or `forever`.",
        _keep,
    )
    log_level: str = _variable(
        "AGENT_RUNTIME__LOG_LEVEL", "info", "Log level of this module: debug, info, warning or error.", _LOG_LEVEL
    )


@dataclass(frozen=True)
class AuthSettings:
    """Settings of module ``auth``; the names are those of the reference system where it has them."""

    db_url: str = _variable(
        "AUTH_SERVICE__DB_URL",
        "sqlite:///data/auth.db",
        "Database of users, clients, tokens and audit logs; the scheme picks SQLite or PostgreSQL.",
        str,
        secret=True,
    )
    db_pool_size: int = _variable(
        "AUTH_SERVICE__DB_POOL_SIZE",
        "10",
        "Connections to the database at most, the one that writes included.",
        _whole(4, 200),
    )
    db_statement_timeout: float = _variable(
        "AUTH_SERVICE__DB_STATEMENT_TIMEOUT",
        "30",
        "Seconds after which PostgreSQL ends a statement.",
        _number(1, 3600),
    )
    jwt_issuer: str | None = _variable(
        "AUTH_SERVICE__JWT_ISSUER",
        "",
        "`iss` of access tokens. Default: the address that the server binds; any bind but loopback needs it.",
        _optional,
    )
    jwt_audience: str = _variable("AUTH_SERVICE__JWT_AUDIENCE", "codelab-api", "`aud` of access tokens.", str)
    access_token_lifetime: int = _variable(
        "AUTH_SERVICE__ACCESS_TOKEN_LIFETIME",
        "900",
        "Seconds that an access token of a seeded client lives.",
        _whole(10, 86_400),
    )
    refresh_token_lifetime: int = _variable(
        "AUTH_SERVICE__REFRESH_TOKEN_LIFETIME",
        "2592000",
        "Seconds that a refresh token of a seeded client lives.",
        _whole(60, 366 * 86_400),
    )
    master_key: str | None = _variable(
        "AUTH_SERVICE__MASTER_KEY",
        "",
        "First password of the user `admin`. Unset: a random one, shown once or kept in `admin-password.txt`.",
        _optional,
        secret=True,
    )
    key_encryption_key_file: Path = _variable(
        "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE",
        "data/auth.key",
        "File with the key that encrypts the signing keys in the database; made (mode 0600) when absent. Back it up.",
        _path,
    )
    keep_ended_tokens: timedelta | None = _variable(
        "AUTH_SERVICE__KEEP_ENDED_TOKENS",
        "30d",
        "How long an expired or revoked refresh token is remembered, to notice its use: `12h`, `2d` or `forever`.",
        _keep,
    )
    keep_expired_keys: timedelta | None = _variable(
        "AUTH_SERVICE__KEEP_EXPIRED_KEYS",
        "30d",
        "How long a signing key is kept after the last token that it signed has expired: `12h`, `2d` or `forever`.",
        _keep,
    )
    keep_audit: timedelta | None = _variable(
        "AUTH_SERVICE__KEEP_AUDIT",
        "forever",
        "How long the audit trail is kept; older rows go behind a checkpoint with which the rest can be verified.",
        _keep,
    )
    log_level: str = _variable(
        "AUTH_SERVICE__LOG_LEVEL", "info", "Log level of this module: debug, info, warning or error.", _LOG_LEVEL
    )


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the process that carries both modules."""

    db_wait: float = _variable(
        "CODELAB_DB_WAIT", "30", "Seconds that the start waits for PostgreSQL to answer.", _number(0, 3600)
    )
    trusted_proxies: tuple[IPNetwork, ...] = _variable(
        "CODELAB_TRUSTED_PROXIES",
        "",
        "Addresses or networks, by comma, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Default: none.",
        _networks,
    )
    log_level: str = _variable(
        "CODELAB_LOG_LEVEL", "info", "Log level of everything else: debug, info, warning or error.", _LOG_LEVEL
    )
    log_format: str = _variable(
        "CODELAB_LOG_FORMAT",
        "auto",
        "`json`, `console`, or `auto`: console on a terminal, else JSON.",
        _one_of("auto", "json", "console"),
    )
    data_dir: Path | None = _variable(
        "CODELAB_DATA_DIR",
        "",
        "Data folder of `codelab chat` and its local server. Default: the user's data folder of the operating system.",
        lambda value: _path(value) if value else None,
    )
    idle_seconds: float = _variable(
        "CODELAB_IDLE_SECONDS",
        "900",
        "Seconds without a request, a stream or a running turn after which a local server ends.",
        _number(1, 7 * 86_400),
    )


@dataclass(frozen=True)
class Settings:
    """Hold all settings of one process."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    server: ServerSettings = field(default_factory=ServerSettings)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; an empty value counts as unset.

        Raises:
            StartError: a value cannot be parsed; the line names the variable, and never shows a secret.
        """
        settings = cls(_read(AgentSettings, environ), _read(AuthSettings, environ), _read(ServerSettings, environ))
        if settings.agent.llm_proxy_url and not settings.agent.llm_model:
            raise StartError(
                "AGENT_RUNTIME__LLM_MODEL is not set: AGENT_RUNTIME__LLM_PROXY_URL needs the name of a model."
            )
        if settings.agent.llm_provider != "openai" and not settings.agent.llm_proxy_url:
            raise StartError(
                "AGENT_RUNTIME__LLM_PROXY_URL is not set: AGENT_RUNTIME__LLM_PROVIDER needs the address of a server, "
                "such as https://api.anthropic.com."
            )
        return settings


def _read(kind: type[T], environ: Mapping[str, str]) -> T:
    values: dict[str, Any] = {}
    for name, variable in _described(kind):
        raw = environ.get(variable.name, "")
        if not raw:
            continue
        try:
            values[name] = variable.parse(raw)
        except ValueError as error:
            shown = "" if variable.secret else f" {raw!r}"
            raise StartError(f"{variable.name}: cannot use the value{shown}: {error}.") from None
    return kind(**values)


def _described(kind: type[Any]) -> Iterator[tuple[str, Variable]]:
    for item in fields(kind):
        yield item.name, item.metadata["variable"]


def variables() -> tuple[Variable, ...]:
    """List every environment variable that codelab reads."""
    kinds = (AgentSettings, AuthSettings, ServerSettings)
    return tuple(variable for kind in kinds for _, variable in _described(kind))


def read_env_file(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines; ``#`` begins a comment line, matching quotes around a value are dropped.

    Raises:
        StartError: the file cannot be read or a line has no ``=``.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"--env-file {path}: cannot be read: {reason}.") from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        entry = line.strip().removeprefix("export ").strip()
        if not entry or entry.startswith("#"):
            continue
        name, equals, value = entry.partition("=")
        if not equals or not name.strip().isidentifier():
            raise StartError(f"--env-file {path}, line {number}: NAME=value is expected.")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values
