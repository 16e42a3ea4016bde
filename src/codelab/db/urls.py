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

_MASK = "***"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}")
# What may be shown as it is written. Anything else of a URL may be a part of a password that was not escaped.
_USER = re.compile(r"[\w.%~+-]*")
_HOST = r"(?:[\w.%~-]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]*)?"
_PLACE = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[\w.%~+-]*)?")
_OPTION = re.compile(
    r"(?:application_name|connect_timeout|database|dbname|host|passfile|port|service|sslcert|sslcrl|sslkey|sslmode"
    r"|sslnegotiation|sslrootcert|target_session_attrs|user)=[\w./,:~ -]*"
)
_SECRET_OPTION = re.compile(r"[a-z_]*(?:pass|secret|token)[a-z_]*", re.IGNORECASE)
# White space and '#' would silently end or change what urllib reads; lone surrogates cannot be sent.
_UNREADABLE = re.compile("[\x00-\x20#\x7f\ud800-\udfff]")


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


def mask_url(url: str) -> str:
    """Replace every password in a database URL by ``***``, also one given as a query option.

    Works on text that is no valid URL: only what looks like a user, hosts, a database or a known harmless option is
    shown, since the rest may belong to a password with unescaped reserved characters.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return _MASK
    place, question, query = rest.partition("?")
    if scheme.lower() in SQLITE_SCHEMES and place.startswith("/"):
        return f"{scheme}://{place}{question}{_MASK if question else ''}"
    if "@" in query:  # an unescaped '?' in the password, or an unescaped '@' in an option: who could tell?
        return f"{scheme}://{_MASK}"
    userinfo, at, place = place.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    user = user if _USER.fullmatch(user) else _MASK
    place = place if _PLACE.fullmatch(place) else _MASK
    options = "&".join(_mask_option(option) for option in query.split("&")) if question else ""
    return f"{scheme}://{user}{colon}{_MASK if colon else ''}{at}{place}{question}{options}"


def _mask_option(option: str) -> str:
    if _OPTION.fullmatch(unquote(option)):
        return option
    name, equals, _ = option.partition("=")
    return f"{name}={_MASK}" if equals and _SECRET_OPTION.fullmatch(unquote(name)) else _MASK


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
    shown = f"the scheme {scheme!r}" if separator and _SCHEME.fullmatch(scheme) else "a value without a scheme"
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
    try:
        path = Path(place[1:]).expanduser().absolute()
    except RuntimeError:
        raise StartError(f"{variable}: {mask_url(url)} names the home folder of a user who is not known.") from None
    return DatabaseUrl(variable=variable, dialect="sqlite", masked=mask_url(url), path=path)


def _parse_postgresql(url: str, variable: str) -> DatabaseUrl:
    masked = mask_url(url)
    before, _, query = url.partition("?")
    if before.count("@") > 1:
        raise StartError(f"{variable}: the user or password holds an '@'; write it as %40.")
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2] + parts.path
        if _UNREADABLE.search(url) or "@" in query or not _PLACE.fullmatch(place):
            raise ValueError
        ports = re.findall(r":([0-9]+)(?=[,/]|$)", place)
        if any(not 0 < int(port) < 65536 for port in ports):
            raise ValueError
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise StartError(
            f"{variable}: {masked} cannot be read as a PostgreSQL URL; write reserved characters in names and "
            "passwords as %XX ('@' is %40, '/' is %2F, '?' is %3F, '#' is %23)."
        ) from None
    timeout = 5.0
    kept: list[tuple[str, str]] = []
    for name, value in options:
        if name == "connect_timeout":
            if not re.fullmatch("[1-9][0-9]{0,3}", value):
                raise StartError(f"{variable}: connect_timeout must be a whole number of seconds from 1 to 9999.")
            timeout = float(value)
        else:
            kept.append((name, value))
    dsn = f"postgresql://{parts.netloc}{parts.path}"
    if kept:
        dsn += "?" + urlencode(kept, quote_via=quote, safe="/")
    return DatabaseUrl(variable=variable, dialect="postgresql", masked=masked, dsn=dsn, connect_timeout=timeout)
