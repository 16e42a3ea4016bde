"""An authorization request (RFC 6749 section 4.1.1, RFC 7636, OpenID Connect Core 1.0 section 3.1.2.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from codelab.auth.clients import check_grant, grant_scope
from codelab.auth.errors import OAuthError
from codelab.auth.forms import parse_parameters
from codelab.auth.redirects import fits, is_native
from codelab.auth.repository.clients import find_client

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.resources import Audiences

__all__ = ("AuthorizationRequest", "Refused", "Unproven", "after_sign_in", "read_request", "to_sign_in_again")

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_PROMPTS = {"none", "login", "consent", "select_account"}
_SIGN_IN_AGAIN = {"login", "select_account"}
_UNSUPPORTED = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}


class Unproven(OAuthError):
    """Refuse a request of which nobody knows where the answer may go: only a page can say so.

    ``code`` is the name of its explanation.
    """


class Refused(OAuthError):
    """Refuse a request whose client is told, by way of the browser (RFC 6749 section 4.1.2.1)."""

    def __init__(self, detail: str, *, code: str, redirect_uri: str, state: str | None) -> None:
        super().__init__(detail, code=code)
        self.redirect_uri = redirect_uri
        self.state = state


@dataclass(frozen=True, kw_only=True)
class AuthorizationRequest:
    """What a client asks a person for; ``query`` is the request itself."""

    query: str
    client: ClientRecord
    redirect_uri: str
    named_redirect_uri: str | None
    state: str | None
    scope: str
    resource: str | None
    code_challenge: str
    nonce: str | None
    prompt: frozenset[str]
    max_age: int | None
    login_hint: str | None

    @property
    def is_native(self) -> bool:
        """Whether the answer goes to a program that nothing proves, so that a person has to say yes each time."""
        return not self.client.is_confidential and is_native(self.redirect_uri)

    def refuse(self, detail: str, code: str) -> Refused:
        """Make the error that goes to the client."""
        return Refused(detail, code=code, redirect_uri=self.redirect_uri, state=self.state)


async def read_request(session: AsyncSession, query: str, audiences: Audiences) -> AuthorizationRequest:
    """Read a request, first who asks and where the answer goes.

    Raises:
        Unproven: the client or its redirect URI is not known.
        Refused: something else is wrong.
    """
    repeated: list[str] = []
    try:
        fields = parse_parameters(query.encode(), repeated)
    except OAuthError as error:
        raise Unproven(error.detail, code="unreadable") from None
    if {"client_id", "redirect_uri"} & set(repeated):
        raise Unproven("client_id or redirect_uri occurs more than once", code="unreadable")
    client = await find_client(session, fields["client_id"]) if "client_id" in fields else None
    if client is None or not client.is_active:
        raise Unproven("client_id names no client", code="unknown_client")
    named = fields.get("redirect_uri")
    redirect_uri = named or (client.redirect_uris[0] if len(client.redirect_uris) == 1 else None)
    if redirect_uri is None or not any(fits(known, redirect_uri) for known in client.redirect_uris):
        raise Unproven("redirect_uri is not one of the client's", code="unknown_redirect")
    try:
        if repeated:
            raise OAuthError(f"{repeated[0]}: must not occur more than once")
        checked = _check(client, fields, audiences)
    except OAuthError as error:
        raise Refused(error.detail, code=error.code, redirect_uri=redirect_uri, state=fields.get("state")) from None
    return AuthorizationRequest(
        query=query,
        client=client,
        redirect_uri=redirect_uri,
        named_redirect_uri=named,
        state=fields.get("state"),
        code_challenge=fields["code_challenge"],
        nonce=fields.get("nonce"),
        login_hint=fields.get("login_hint"),
        **checked,
    )


def _check(client: ClientRecord, fields: dict[str, str], audiences: Audiences) -> dict[str, Any]:
    for name, code in _UNSUPPORTED.items():
        if name in fields:
            raise OAuthError(f"{name}: is not supported", code=code)
    if "response_type" not in fields:
        raise OAuthError("Missing required parameter: response_type")
    if fields["response_type"] != "code":
        raise OAuthError("response_type: must be code", code="unsupported_response_type")
    check_grant(client, "authorization_code")
    if fields.get("response_mode", "query") != "query":
        raise OAuthError("response_mode: must be query")
    if "code_challenge" not in fields:
        raise OAuthError("Missing required parameter: code_challenge (PKCE, RFC 7636)")
    if fields.get("code_challenge_method", "plain") != "S256":
        raise OAuthError("code_challenge_method: must be S256")
    if not _CHALLENGE.fullmatch(fields["code_challenge"]):
        raise OAuthError("code_challenge: must be the SHA-256 of the verifier as base64url")
    prompt = frozenset(fields.get("prompt", "").split())
    if prompt - _PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise OAuthError("prompt: must be none, or some of login, consent and select_account")
    max_age = fields.get("max_age")
    if max_age is not None and not re.fullmatch(r"[0-9]{1,9}", max_age):
        raise OAuthError("max_age: must be a number of seconds")
    return {
        "scope": grant_scope(client, fields.get("scope")),
        "resource": audiences.check(fields.get("resource")),
        "prompt": prompt,
        "max_age": None if max_age is None else int(max_age),
    }


def after_sign_in(query: str) -> str:
    """Return the query of a request once the person has signed in for it: what asked for that is done."""
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if name not in {"prompt", "max_age"}]
    words = [word for name, value in pairs if name == "prompt" for word in value.split() if word not in _SIGN_IN_AGAIN]
    return urlencode(kept + ([("prompt", " ".join(words))] if words else []))


def to_sign_in_again(query: str) -> str:
    """Return the query of a request for which somebody else signs in."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([pair for pair in pairs if pair[0] != "prompt"] + [("prompt", "login consent")])
