"""What a client may ask for (RFC 6749 section 3.3), and who may be given it."""

from __future__ import annotations

from codelab.auth.errors import OAuthError
from codelab.identity import SCOPES as API_SCOPES

__all__ = ("ABOUT_PEOPLE", "SCOPES", "narrow_scope", "within_rights", "without_people")

#: Scopes that say something about the person who logged in: a client that acts for itself has no use for them.
ABOUT_PEOPLE = {
    "openid": "know who you are",
    "profile": "see your user name",
    "email": "see your email address",
    "offline_access": "stay logged in while you are away",
}
#: Every scope of this server, with what it permits.
SCOPES = ABOUT_PEOPLE | API_SCOPES
_ADMIN = "api:admin"


def narrow_scope(allowed: str, requested: str) -> str:
    """Return the requested scopes, sorted and each once, when all of them are allowed.

    Raises:
        OAuthError: ``invalid_scope``.
    """
    wanted = {scope for scope in requested.split(" ") if scope}
    if refused := wanted - set(allowed.split(" ")):
        raise OAuthError(f"Scope not allowed: {' '.join(sorted(refused))[:200]}", code="invalid_scope", field="scope")
    return _named(wanted)


def without_people(scope: str) -> str:
    """Leave out what is about a person.

    Raises:
        OAuthError: ``invalid_scope``, when nothing is left.
    """
    return _named(set(scope.split()) - set(ABOUT_PEOPLE))


def within_rights(scope: str, *, is_admin: bool) -> str:
    """Leave out what this person may not do themselves.

    Raises:
        OAuthError: ``invalid_scope``, when nothing is left.
    """
    return scope if is_admin else _named(set(scope.split()) - {_ADMIN})


def _named(scopes: set[str]) -> str:
    if not scopes:
        raise OAuthError("The scope is empty", code="invalid_scope", field="scope")
    return " ".join(sorted(scopes))
