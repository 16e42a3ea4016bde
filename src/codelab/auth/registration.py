"""Clients that register themselves (RFC 7591): what they may say of themselves, and what they are given."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from codelab.auth.errors import OAuthError
from codelab.auth.redirects import describe_problem
from codelab.auth.repository import clients
from codelab.auth.scopes import SCOPES
from codelab.auth.seeds import DEVICE_CODE
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now
from codelab.errors import BadRequest
from codelab.text import reject_unstorable
from codelab.web import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.auth.audit import Audit
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction
    from codelab.settings import AuthSettings

__all__ = ("ALLOWED", "DEFAULT", "Metadata", "Registration", "read_metadata")

#: Those with which a person decides: with the others anybody could make programs that act for themselves.
GRANTS = ("authorization_code", "refresh_token", DEVICE_CODE)
#: What a client may ask people for. To administer is for clients that an administrator made.
ALLOWED = tuple(scope for scope in SCOPES if scope != "api:admin")
DEFAULT = "api:read api:write"
METHODS = ("client_secret_basic", "client_secret_post", "none")
MOST_URIS, LONGEST_NAME, LONGEST_URI = 20, 100, 2000
#: Registrations that may wait for their first use; they go after seven days.
MOST_UNUSED = 10_000


class Metadata(NamedTuple):
    """What a client says of itself, as far as this server takes it."""

    redirect_uris: list[str]
    grant_types: list[str]
    method: str
    scope: str | None
    name: str | None
    client_uri: str | None
    post_logout_redirect_uris: list[str]


def _refuse(detail: str, code: str = "invalid_client_metadata") -> OAuthError:
    return OAuthError(detail, code=code)


def _texts(document: dict[str, Any], name: str, default: list[str]) -> list[str]:
    value = document.get(name)
    if value is None:  # some libraries send null for what they leave out
        return default
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _refuse(f"{name}: must be an array of strings")
    return list(dict.fromkeys(value))


def _text(document: dict[str, Any], name: str, longest: int) -> str | None:
    value = document.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise _refuse(f"{name}: must be a string of at most {longest} characters")
    try:
        reject_unstorable(value, name)
    except BadRequest as error:
        raise _refuse(error.detail) from None
    return value


def read_metadata(body: bytes, methods: Sequence[str] = METHODS) -> Metadata:
    """Read client metadata (section 2); members that this server does not know are ignored, as the RFC asks.

    ``methods`` are the ways in which the client may prove itself, the first what it gets without asking.

    Raises:
        OAuthError: ``invalid_redirect_uri`` or ``invalid_client_metadata`` (section 3.2.2).
    """
    try:
        document = read_json(body)
    except BadRequest as error:
        raise _refuse(error.detail) from None
    if not isinstance(document, dict):
        raise _refuse("The body must be a JSON object")
    grants = [grant for grant in _texts(document, "grant_types", ["authorization_code"]) if grant in GRANTS]
    if not set(grants) - {"refresh_token"}:
        raise _refuse(f"grant_types: must have authorization_code or {DEVICE_CODE}")
    by_code = "authorization_code" in grants
    if by_code and "code" not in _texts(document, "response_types", ["code"]):
        raise _refuse("response_types: must have code")
    method = document.get("token_endpoint_auth_method") or methods[0]
    if method not in methods:
        raise _refuse(f"token_endpoint_auth_method: must be one of {', '.join(methods)}")
    scope = _text(document, "scope", 1000)
    client_uri = _text(document, "client_uri", LONGEST_URI)
    if client_uri is not None and not _is_web(client_uri):
        raise _refuse("client_uri: must be an http or https URL")
    name = _text(document, "client_name", LONGEST_NAME)
    if name is not None and not name.isprintable():
        # People read it before they agree: nothing in it may turn or hide the text around it.
        raise _refuse("client_name: must have visible characters only")
    return Metadata(
        redirect_uris=_redirects(document, "redirect_uris", "invalid_redirect_uri", needed=by_code),
        grant_types=grants,
        method=method,
        scope=None if scope is None else " ".join(each for each in ALLOWED if each in scope.split(" ")) or None,
        name=name,
        client_uri=client_uri,
        post_logout_redirect_uris=_redirects(document, "post_logout_redirect_uris", "invalid_client_metadata"),
    )


def _redirects(document: dict[str, Any], name: str, code: str, *, needed: bool = False) -> list[str]:
    uris = _texts(document, name, [])
    if len(uris) > MOST_URIS:
        raise _refuse(f"{name}: must be at most {MOST_URIS}", code)
    for uri in uris:
        if (problem := describe_problem(uri)) is not None:
            raise _refuse(f"{name}: {uri[:100]} {problem}", code)
    if needed and not uris:
        raise _refuse(f"{name}: is required", code)
    return uris


def _is_web(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


class Registration:
    """Register clients."""

    def __init__(self, database: Database, audit: Audit, settings: AuthSettings) -> None:
        self._database = database
        self._audit = audit
        self._settings = settings

    async def register(self, body: bytes, origin: Origin) -> dict[str, Any]:
        """Register a client and return what it is now (section 3.2.1); its secret is shown only here.

        Raises:
            OAuthError: it cannot be registered so, or too many registrations wait for their first use.
        """
        said = read_metadata(body)
        client_id, at = secrets.token_urlsafe(18), now()
        secret = None if said.method == "none" else new_refresh_token()
        name = said.name or client_id

        async def unit(transaction: Transaction) -> bool:
            session = transaction.session
            if await clients.count_unused(session, MOST_UNUSED) >= MOST_UNUSED:
                return False
            await clients.insert_client_if_absent(
                session,
                id=new_id(),
                client_id=client_id,
                client_secret_hash=hash_token(secret) if secret else None,
                name=name,
                is_confidential=secret is not None,
                allowed_scopes=said.scope or " ".join(ALLOWED),
                default_scopes=said.scope or DEFAULT,
                allowed_grant_types=said.grant_types,
                redirect_uris=said.redirect_uris,
                post_logout_redirect_uris=said.post_logout_redirect_uris,
                token_endpoint_auth_method=said.method,
                client_uri=said.client_uri,
                is_registered=True,
                access_token_lifetime=self._settings.access_token_lifetime,
                refresh_token_lifetime=self._settings.refresh_token_lifetime,
                is_active=True,
                created_at=at,
                updated_at=at,
            )
            self._audit.record(session, "client_registered", origin, user_id=None, client_id=client_id, name=name)
            return True

        if not await self._database.write(unit):
            raise OAuthError("Too many registrations are not in use", code="temporarily_unavailable")
        answer: dict[str, Any] = {
            "client_id": client_id,
            "client_id_issued_at": int(at.timestamp()),
            "client_name": name,
            "redirect_uris": said.redirect_uris,
            "grant_types": said.grant_types,
            "response_types": ["code"] if "authorization_code" in said.grant_types else [],
            "token_endpoint_auth_method": said.method,
            "scope": said.scope or " ".join(ALLOWED),
        }
        if said.post_logout_redirect_uris:
            answer["post_logout_redirect_uris"] = said.post_logout_redirect_uris
        if said.client_uri:
            answer["client_uri"] = said.client_uri
        if secret is not None:
            answer |= {"client_secret": secret, "client_secret_expires_at": 0}
        return answer
