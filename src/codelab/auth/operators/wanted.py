"""What a client that an operator makes may be."""

from __future__ import annotations

import re

import msgspec

from codelab.auth.operators.common import check_text
from codelab.auth.redirects import describe_problem
from codelab.auth.scopes import SCOPES
from codelab.auth.seeds import DEVICE_CODE
from codelab.errors import BadRequest

__all__ = ("DEFAULT", "GRANTS", "WantedClient", "check_secret", "check_wanted")

#: What a client may be given, by the names that operators use.
GRANTS = {
    "authorization_code": "authorization_code",
    "refresh_token": "refresh_token",
    "client_credentials": "client_credentials",
    "device_code": DEVICE_CODE,
    "password": "password",
}
#: What a client may ask for, and what it gets without asking, unless an operator says something else.
ALLOWED = [scope for scope in SCOPES if scope != "api:admin"]
DEFAULT = {"api:read", "api:write"}
#: A secret that somebody chose is kept as its SHA-256, so that it has to be beyond guessing.
MIN_SECRET, MAX_SECRET = 32, 255
_ID = re.compile(r"[!-~]{1,255}")
_SECRET = re.compile(r"[!-~]+")


class WantedClient(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Say what client to make.

    ``grants`` are names such as ``authorization_code``; none: those of a program that people log in to. ``scope`` is
    what it may ask for; none: all but ``api:admin``. ``secret`` is of a confidential client, made when there is none.
    """

    client_id: str
    name: str
    confidential: bool
    redirect_uris: list[str] = []
    post_logout_redirect_uris: list[str] = []
    grants: list[str] = []
    scope: str | None = None
    secret: str | None = None


def check_wanted(wanted: WantedClient) -> tuple[list[str], list[str]]:
    """Return the grants and the scopes of a client that can be made.

    Raises:
        BadRequest: what is wanted does not fit together.
    """
    if not _ID.fullmatch(wanted.client_id):
        raise BadRequest("client_id: must have 1 to 255 visible ASCII characters without blanks", field="client_id")
    if wanted.client_id.startswith(("https://", "http://")):
        raise BadRequest("client_id: a URL names a document that the client keeps itself", field="client_id")
    check_text(wanted.name, "name")
    for field in ("redirect_uris", "post_logout_redirect_uris"):
        for uri in getattr(wanted, field):
            if (problem := describe_problem(uri)) is not None:
                raise BadRequest(f"{field[:-1]}: {uri[:100]} {problem}", field=field)
    grants = _read_grants(wanted)
    scope = list(dict.fromkeys(wanted.scope.split())) if wanted.scope is not None else ALLOWED
    if unknown := [each for each in scope if each not in SCOPES]:
        raise BadRequest(f"scope: {unknown[0][:100]!r} is none of {' '.join(SCOPES)}", field="scope")
    if not scope:
        raise BadRequest("scope: must not be empty", field="scope")
    if wanted.secret is not None:
        if not wanted.confidential:
            raise BadRequest("secret: a public client has none", field="secret")
        check_secret(wanted.secret)
    return grants, scope


def _read_grants(wanted: WantedClient) -> list[str]:
    by_code = bool(wanted.redirect_uris)
    names = wanted.grants or (["authorization_code", "refresh_token"] if by_code else [])
    for name in names:
        if name not in GRANTS and name not in GRANTS.values():
            raise BadRequest(f"grant: {name[:100]!r} is none of {', '.join(GRANTS)}", field="grants")
    grants = list(dict.fromkeys(GRANTS.get(name, name) for name in names))
    if not set(grants) - {"refresh_token"}:
        raise BadRequest("grant: say how it gets tokens, or name a redirect URI", field="grants")
    if "authorization_code" in grants and not by_code:
        raise BadRequest("redirect_uri: is required for authorization_code", field="redirect_uris")
    if "client_credentials" in grants and not wanted.confidential:
        raise BadRequest("grant: client_credentials is for confidential clients", field="grants")
    return grants


def check_secret(secret: str) -> None:
    """Accept a secret that somebody chose.

    Raises:
        BadRequest: it is too short, too long, or has other characters than visible ASCII ones.
    """
    if not MIN_SECRET <= len(secret) <= MAX_SECRET or not _SECRET.fullmatch(secret):
        detail = f"secret: must have {MIN_SECRET} to {MAX_SECRET} visible ASCII characters without blanks"
        raise BadRequest(detail, field="secret")
