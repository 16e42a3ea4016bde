"""The settings of module ``auth``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codelab.settings.variables import LOG_LEVEL, keep, number, one_of, optional, path, switch, variable, whole

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

__all__ = ("AuthSettings",)


@dataclass(frozen=True)
class AuthSettings:
    """Settings of module ``auth``; the names are those of the reference system where it has them."""

    db_url: str = variable(
        "AUTH_SERVICE__DB_URL",
        "sqlite:///data/auth.db",
        "Database of users, clients, tokens and audit logs; the scheme picks SQLite or PostgreSQL.",
        str,
        secret=True,
    )
    db_pool_size: int = variable(
        "AUTH_SERVICE__DB_POOL_SIZE",
        "10",
        "Connections to the database at most, the one that writes included.",
        whole(4, 200),
    )
    db_statement_timeout: float = variable(
        "AUTH_SERVICE__DB_STATEMENT_TIMEOUT",
        "30",
        "Seconds after which PostgreSQL ends a statement.",
        number(1, 3600),
    )
    jwt_issuer: str | None = variable(
        "AUTH_SERVICE__JWT_ISSUER",
        "",
        "`iss` of access tokens. Default: the address that the server binds; any bind but loopback needs it.",
        optional,
    )
    jwt_audience: str = variable("AUTH_SERVICE__JWT_AUDIENCE", "codelab-api", "`aud` of access tokens.", str)
    refresh_grace: float = variable(
        "AUTH_SERVICE__REFRESH_GRACE_SECONDS",
        "10",
        "Seconds in which a used refresh token may come back for new tokens; later, and with `0`, it ends the login.",
        number(0, 300),
    )
    password_grant: bool = variable(
        "AUTH_SERVICE__PASSWORD_GRANT",
        "on",
        "`off` removes the password grant, for everybody: people then log in with a browser only.",
        switch,
    )
    login_failures: int = variable(
        "AUTH_SERVICE__LOGIN_FAILURES",
        "10",
        "Wrong passwords or codes in a minute, of one address about one account, after which it has to wait.",
        whole(1, 1_000_000),
    )
    login_failures_per_address: int = variable(
        "AUTH_SERVICE__LOGIN_FAILURES_PER_ADDRESS",
        "100",
        "The same, of one address about all accounts together.",
        whole(1, 1_000_000),
    )
    registration: str = variable(
        "AUTH_SERVICE__REGISTRATION",
        "token",
        "Who may register clients (RFC 7591): `open`, all; `token`, who has a token with `api:admin`; `off`, nobody.",
        one_of("token", "open", "off"),
    )
    client_documents: bool = variable(
        "AUTH_SERVICE__CLIENT_DOCUMENTS",
        "on",
        "`off`: no client is the https URL of a document that describes it, and nothing is fetched from the internet.",
        switch,
    )
    access_token_lifetime: int = variable(
        "AUTH_SERVICE__ACCESS_TOKEN_LIFETIME",
        "900",
        "Seconds that an access token of a seeded client lives.",
        whole(10, 86_400),
    )
    refresh_token_lifetime: int = variable(
        "AUTH_SERVICE__REFRESH_TOKEN_LIFETIME",
        "2592000",
        "Seconds that a refresh token of a seeded client lives.",
        whole(60, 366 * 86_400),
    )
    master_key: str | None = variable(
        "AUTH_SERVICE__MASTER_KEY",
        "",
        "First password of the user `admin`. Unset: a random one, shown once or kept in `admin-password.txt`.",
        optional,
        secret=True,
    )
    key_encryption_key_file: Path = variable(
        "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE",
        "data/auth.key",
        "File with the key that encrypts the signing keys in the database; made (mode 0600) when absent. Back it up.",
        path,
    )
    key_max_age: timedelta | None = variable(
        "AUTH_SERVICE__KEY_MAX_AGE",
        "90d",
        "Age at which the signing key is followed by a new one, as `codelab keys rotate` does: `12h`, `90d` or "
        "`forever`.",
        keep,
    )
    keep_ended_tokens: timedelta | None = variable(
        "AUTH_SERVICE__KEEP_ENDED_TOKENS",
        "30d",
        "How long an expired or revoked refresh token is remembered, to notice its use: `12h`, `2d` or `forever`.",
        keep,
    )
    keep_expired_keys: timedelta | None = variable(
        "AUTH_SERVICE__KEEP_EXPIRED_KEYS",
        "30d",
        "How long a signing key is kept after the last token that it signed has expired: `12h`, `2d` or `forever`.",
        keep,
    )
    keep_audit: timedelta | None = variable(
        "AUTH_SERVICE__KEEP_AUDIT",
        "forever",
        "How long the audit trail is kept; older rows go behind a checkpoint with which the rest can be verified.",
        keep,
    )
    log_level: str = variable(
        "AUTH_SERVICE__LOG_LEVEL", "info", "Log level of this module: debug, info, warning or error.", LOG_LEVEL
    )
