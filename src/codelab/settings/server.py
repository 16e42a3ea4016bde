"""The settings of the process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codelab.settings.variables import LOG_LEVEL, IPNetwork, hosts, networks, number, one_of, path, variable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("ServerSettings",)


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the process that carries both modules."""

    db_wait: float = variable(
        "CODELAB_DB_WAIT", "30", "Seconds that the start waits for PostgreSQL to answer.", number(0, 3600)
    )
    trusted_proxies: tuple[IPNetwork, ...] = variable(
        "CODELAB_TRUSTED_PROXIES",
        "",
        "Addresses or networks, by comma, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Default: none.",
        networks,
    )
    allowed_hosts: tuple[str, ...] = variable(
        "CODELAB_ALLOWED_HOSTS",
        "",
        "Names, by comma, under which the server is asked for, beside that of the issuer and the loopback ones.",
        hosts,
    )
    log_level: str = variable(
        "CODELAB_LOG_LEVEL", "info", "Log level of everything else: debug, info, warning or error.", LOG_LEVEL
    )
    log_format: str = variable(
        "CODELAB_LOG_FORMAT",
        "auto",
        "`json`, `console`, or `auto`: console on a terminal, else JSON.",
        one_of("auto", "json", "console"),
    )
    data_dir: Path | None = variable(
        "CODELAB_DATA_DIR",
        "",
        "Data folder of `codelab chat` and its local server. Default: the user's data folder of the operating system.",
        lambda value: path(value) if value else None,
    )
    idle_seconds: float = variable(
        "CODELAB_IDLE_SECONDS",
        "900",
        "Seconds without a request, a stream or a running turn after which a local server ends.",
        number(1, 7 * 86_400),
    )
