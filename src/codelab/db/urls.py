"""From a database URL as people write it to a driver, and never a password in a message.

The scheme picks the driver. What follows it is libpq's: asyncpg reads libpq's query options from a DSN itself, so a
PostgreSQL URL reaches it whole; only ``connect_timeout``, which asyncpg takes as an argument, is moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from codelab.errors import StartError

__all__ = ("DatabaseUrl", "mask_url", "parse_url")

SQLITE_SCHEMES = ("sqlite", "sqlite+aiosqlite")
POSTGRESQL_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2")
SUPPORTED = (
    "sqlite:///FILE, sqlite+aiosqlite:///FILE, postgresql://… (also postgres, postgresql+asyncpg, postgresql+psycopg2)"
)

_SECRET_OPTION = re.compile(r"pass(word|wd|phrase)?$|secret|token", re.IGNORECASE)
_MASK = "***"


@dataclass(frozen=True)
class DatabaseUrl:
    """A database URL that was understood.

    ``masked`` is the URL as it was configured, with passwords masked: the only form that may be printed. ``path`` is
    set for SQLite; ``dsn`` (with the password) and ``connect_timeout`` (seconds) for PostgreSQL.
    """

    variable: str
    dialect: Literal["sqlite", "postgresql"]
    masked: str
    path: Path | None = None
    dsn: str = field(default="", repr=False)
    connect_timeout: float = 5.0

    @property
    def sqlalchemy_url(self) -> str:
        """The URL for ``create_async_engine``; a PostgreSQL one is empty, its connections come from ``dsn``."""
        return f"sqlite+aiosqlite:///{self.path}" if self.dialect == "sqlite" else "postgresql+asyncpg://"


def mask_url(url: str) -> str:
    """Replace every password in a database URL by ``***``, also one given as a query option.

    Works on text that is no valid URL: between a scheme and the last ``@`` nothing after the first colon survives.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _MASK if "@" in url or ":" in url else url
    whole, (rest, question, query) = rest, rest.partition("?")
    if "@" in query and "@" not in rest:  # an unescaped '?' in the password
        rest, question, query = whole, "", ""
    userinfo, at, place = rest.rpartition("@")
    if at and ":" in userinfo:
        userinfo = f"{userinfo.partition(':')[0]}:{_MASK}"
    masked_query = "&".join(_mask_option(option) for option in query.split("&")) if question else ""
    return f"{scheme}://{userinfo}{at}{place}{question}{masked_query}"


def _mask_option(option: str) -> str:
    name, equals, _ = option.partition("=")
    return f"{name}={_MASK}" if equals and _SECRET_OPTION.search(unquote(name)) else option


def parse_url(url: str, variable: str) -> DatabaseUrl:
    """Understand a database URL.

    Raises:
        StartError: one line that names the variable, the scheme and what is supported.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() in SQLITE_SCHEMES:
        return _parse_sqlite(url, rest, variable)
    if separator and scheme.lower() in POSTGRESQL_SCHEMES:
        return _parse_postgresql(url, variable)
    shown = f"the scheme {scheme!r}" if separator else "a value without a scheme"
    raise StartError(f"{variable}: {shown} is not supported; use {SUPPORTED}.")


def _parse_sqlite(url: str, rest: str, variable: str) -> DatabaseUrl:
    place, question, _ = rest.partition("?")
    if question:
        raise StartError(f"{variable}: options after '?' are not supported for SQLite; name a file only.")
    if not place.startswith("/") or place in {"/", "/:memory:"}:
        raise StartError(
            f"{variable}: SQLite needs a file: sqlite:///relative/path.db or sqlite:////absolute/path.db "
            "(a database in memory would be lost at the end of the process)."
        )
    if "\x00" in unquote(place):
        raise StartError(f"{variable}: the path must not contain U+0000.")
    # Resolved once: a later change of the working folder must not move the database.
    path = Path(place[1:]).expanduser().absolute()
    return DatabaseUrl(variable=variable, dialect="sqlite", masked=mask_url(url), path=path)


def _parse_postgresql(url: str, variable: str) -> DatabaseUrl:
    masked = mask_url(url)
    if url.partition("?")[0].count("@") > 1:
        raise StartError(f"{variable}: the user or password holds an '@'; write it as %40.")
    try:
        parts = urlsplit(url)
        for host in parts.netloc.rpartition("@")[2].split(","):
            port = host.rpartition(":")[2] if ":" in host and not host.endswith("]") else ""
            if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise StartError(f"{variable}: {masked} cannot be read as a PostgreSQL URL.") from None
    timeout = 5.0
    kept: list[tuple[str, str]] = []
    for name, value in options:
        if name == "connect_timeout":
            if not value.isascii() or not value.isdigit() or int(value) < 1:
                raise StartError(f"{variable}: connect_timeout must be a whole number of seconds from 1.")
            timeout = float(value)
        else:
            kept.append((name, value))
    dsn = f"postgresql://{parts.netloc}{parts.path}"
    if kept:
        dsn += "?" + urlencode(kept, quote_via=quote, safe="/")
    return DatabaseUrl(variable=variable, dialect="postgresql", masked=masked, dsn=dsn, connect_timeout=timeout)
