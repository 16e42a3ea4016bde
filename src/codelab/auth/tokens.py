"""Access tokens (JWT profile of RFC 9068) and refresh tokens (opaque, known by their hash only)."""

from __future__ import annotations

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwt import JWTClaimsRegistry

from codelab.auth.keys import ALGORITHM
from codelab.db import new_id
from codelab.errors import Unauthenticated
from codelab.identity import challenge

if TYPE_CHECKING:
    from datetime import datetime

    from joserfc.jwk import ECKey

    from codelab.auth.keys import KeyRing
    from codelab.auth.resources import Audiences

__all__ = ("AccessTokens", "Hint", "hash_token", "ids_of", "key_mark", "mark_of", "new_refresh_token", "refuse")

_MAX_TOKEN_BYTES = 8192
_TYPES = {"at+jwt", "application/at+jwt"}
_TEXT_CLAIMS = ("sub", "client_id", "scope", "jti")


def refuse(detail: str) -> Unauthenticated:
    """Make the error for a bearer token that is not accepted (RFC 6750 section 3.1)."""
    return Unauthenticated(detail, code="invalid_token", headers=challenge("invalid_token", detail))


class Hint(NamedTuple):
    """What an ID token tells that a client shows as a hint: whom it is about, and which client it was made for."""

    subject: str
    client_id: str


class AccessTokens:
    """Issue and verify access tokens of one issuer for our own API."""

    def __init__(self, keys: KeyRing, *, issuer: str, audiences: Audiences) -> None:
        self._keys = keys
        self.issuer = issuer
        self._audiences = audiences
        self._registry = JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "values": list(audiences.accepted)},
            exp={"essential": True},
            nbf={"essential": True},
            iat={"essential": True},
            type={"essential": True, "value": "access"},
        )

    def issue(
        self,
        *,
        user_id: str,
        client_id: str,
        scope: str,
        lifetime: int,
        audience: str | None = None,
        family_id: str | None = None,
    ) -> str:
        """Sign a token that lives ``lifetime`` seconds.

        ``family_id`` becomes ``sid``: the login that the token comes from, and with which it ends.
        """
        at = int(time.time())
        kid, key = self._keys.signing
        header = {"alg": ALGORITHM, "typ": "at+jwt", "kid": kid}
        claims = {
            "iss": self.issuer,
            "sub": user_id,
            "aud": audience or self._audiences.default,
            "exp": at + lifetime,
            "iat": at,
            "nbf": at,
            "jti": new_id(),
            "client_id": client_id,
            "scope": scope,
            "type": "access",
        }
        if family_id is not None:
            claims["sid"] = family_id
        return jwt.encode(header, claims, key, algorithms=[ALGORITHM])

    def issue_id_token(
        self,
        *,
        user_id: str,
        client_id: str,
        access_token: str,
        lifetime: int,
        auth_time: datetime | None,
        nonce: str | None,
    ) -> str:
        """Sign who logged in when, for the client (OpenID Connect Core 1.0 section 2); no proof for any API."""
        at = int(time.time())
        kid, key = self._keys.signing
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": user_id,
            "aud": client_id,
            "exp": at + lifetime,
            "iat": at,
            "at_hash": half_hash(access_token),
        }
        if auth_time is not None:
            claims["auth_time"] = int(auth_time.timestamp())
        if nonce is not None:
            claims["nonce"] = nonce
        return jwt.encode({"alg": ALGORITHM, "typ": "JWT", "kid": kid}, claims, key, algorithms=[ALGORITHM])

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that this server signed and that is valid now.

        Raises:
            Unauthenticated: with a challenge; which check failed is not told, but for the end of its life.
        """
        if len(token) > _MAX_TOKEN_BYTES:
            raise refuse("The access token is not valid.")
        try:
            decoded = jwt.decode(token, self._key_of, algorithms=[ALGORITHM])
            self._registry.validate(decoded.claims)
        except ExpiredTokenError:
            raise refuse("The access token has expired.") from None
        except (JoseError, ValueError, TypeError):  # joserfc's, for a header that is JSON text
            raise refuse("The access token is not valid.") from None
        typ = decoded.header.get("typ")
        texts = all(isinstance(decoded.claims.get(name), str) for name in _TEXT_CLAIMS)
        if not texts or not isinstance(typ, str) or typ.lower() not in _TYPES:
            raise refuse("The access token is not valid.")
        return decoded.claims

    def read_hint(self, token: str) -> Hint | None:
        """Read an ID token of this server, expired or not; None for anything else."""
        if len(token) > _MAX_TOKEN_BYTES:
            return None
        try:
            decoded = jwt.decode(token, self._key_of, algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError):
            return None
        claims = decoded.claims
        subject, client_id = claims.get("sub"), claims.get("aud")
        ours = claims.get("iss") == self.issuer and decoded.header.get("typ") == "JWT"
        return Hint(subject, client_id) if ours and isinstance(subject, str) and isinstance(client_id, str) else None

    def _key_of(self, token: Any) -> ECKey:
        key = self._keys.find(token.headers().get("kid"))
        if key is None:
            raise ValueError("unknown kid")
        return key


def ids_of(claims: dict[str, Any]) -> tuple[str, ...]:
    """Return the ids by which an access token can be revoked: its own, and that of its login."""
    sid = claims.get("sid")
    return (claims["jti"], sid) if isinstance(sid, str) else (claims["jti"],)


def mark_of(kid: str) -> str:
    """Return the id by which all tokens that a key signed can be revoked, as long as other ids of that kind."""
    return kid[:36]


def key_mark(token: str) -> str:
    """Return the mark of the key of a token that was verified."""
    return mark_of(str(jws.extract_compact(token.encode()).headers()["kid"]))


def new_refresh_token() -> str:
    """Make 256 random bits as base64url."""
    return secrets.token_urlsafe(32)


def half_hash(token: str) -> str:
    """Hash a token as ``at_hash`` does: the left half of its SHA-256 as base64url (section 3.1.3.6)."""
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()[:16]).decode().rstrip("=")


def hash_token(token: str) -> str:
    """Hash a token or secret of high entropy for storage: SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
