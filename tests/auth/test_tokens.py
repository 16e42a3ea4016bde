"""Access tokens as other people's libraries see them, and as attackers make them."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from codelab.errors import Unauthenticated
from tests.support.auth import CLIENT, ISSUER, RunningAuth

if TYPE_CHECKING:
    from collections.abc import Callable


def sign(header: dict[str, Any], claims: dict[str, Any], key: ECKey) -> str:
    """Sign with whatever algorithm the header names."""
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def encode(part: object) -> str:
    """Encode one part of a JWT."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hmac_with(secret: bytes) -> Callable[[dict[str, Any], dict[str, Any], ECKey], str]:
    """Sign with HS256 and a secret that the attacker knows."""

    def forge(header: dict[str, Any], claims: dict[str, Any], _: ECKey) -> str:
        content = f"{encode({**header, 'alg': 'HS256'})}.{encode(claims)}"
        return f"{content}.{encode(hmac.digest(secret, content.encode(), 'sha256'))}"

    return forge


def pem(key: ECKey) -> bytes:
    """Write the public key as PEM."""
    return key.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


FOREIGN = ECKey.generate_key("P-256")
NOW = int(time.time())

ATTACKS: dict[str, Callable[[dict[str, Any], dict[str, Any], ECKey], str]] = {
    "alg none": lambda h, c, _: f"{encode({**h, 'alg': 'none'})}.{encode(c)}.",
    "alg None": lambda h, c, _: f"{encode({**h, 'alg': 'None'})}.{encode(c)}.",
    "alg missing": lambda h, c, _: f"{encode({'typ': h['typ'], 'kid': h['kid']})}.{encode(c)}.{encode(b'x' * 64)}",
    "HS256 with the public key as PEM": lambda h, c, k: hmac_with(pem(k))(h, c, k),
    "HS256 with the public key as JWK": lambda h, c, k: hmac_with(json.dumps(k.as_dict(private=False)).encode())(
        h, c, k
    ),
    "HS256 with an empty secret": hmac_with(b"\0" * 32),
    "ES384 header on our key": lambda h, c, k: (
        encode({**h, "alg": "ES384"}) + sign(h, c, k)[sign(h, c, k).index(".") :]
    ),
    "foreign key, our kid": lambda h, c, _: sign(h, c, FOREIGN),
    "foreign key, its kid": lambda h, c, _: sign({**h, "kid": FOREIGN.thumbprint()}, c, FOREIGN),
    "no kid": lambda h, c, k: sign({"alg": "ES256", "typ": "at+jwt"}, c, k),
    "kid is a path": lambda h, c, k: sign({**h, "kid": "../../etc/passwd"}, c, k),
    "kid is a list": lambda h, c, k: f"{encode({**h, 'kid': [h['kid']]})}.{encode(c)}.{encode(b'x' * 64)}",
    "embedded jwk": lambda h, c, _: sign({**h, "jwk": FOREIGN.as_dict(private=False)}, c, FOREIGN),
    "jku": lambda h, c, _: sign({**h, "jku": "http://127.0.0.1:9/jwks.json"}, c, FOREIGN),
    "x5u": lambda h, c, _: sign({**h, "x5u": "http://127.0.0.1:9/cert"}, c, FOREIGN),
    "unknown crit": lambda h, c, k: _resigned({**h, "crit": ["x"], "x": 1}, c, k),
    "typ JWT": lambda h, c, k: sign({**h, "typ": "JWT"}, c, k),
    "typ of an ID token": lambda h, c, k: sign({**h, "typ": "id_token+jwt"}, c, k),
    "no typ": lambda h, c, k: _resigned({"alg": "ES256", "kid": h["kid"]}, c, k),
    "refresh used as access": lambda h, c, k: sign(h, {**c, "type": "refresh"}, k),
    "no type": lambda h, c, k: sign(h, _without(c, "type"), k),
    "wrong aud": lambda h, c, k: sign(h, {**c, "aud": "other"}, k),
    "aud of others": lambda h, c, k: sign(h, {**c, "aud": ["a", "b"]}, k),
    "aud nearly the resource": lambda h, c, k: sign(h, {**c, "aud": f"{ISSUER}/api/v1/"}, k),
    "aud of the issuer": lambda h, c, k: sign(h, {**c, "aud": ISSUER}, k),
    "no aud": lambda h, c, k: sign(h, _without(c, "aud"), k),
    "wrong iss": lambda h, c, k: sign(h, {**c, "iss": ISSUER + "/"}, k),
    "no iss": lambda h, c, k: sign(h, _without(c, "iss"), k),
    "expired": lambda h, c, k: sign(h, {**c, "exp": NOW - 1}, k),
    "no exp": lambda h, c, k: sign(h, _without(c, "exp"), k),
    "exp null": lambda h, c, k: sign(h, {**c, "exp": None}, k),
    "exp as text": lambda h, c, k: sign(h, {**c, "exp": str(NOW + 60)}, k),
    "exp true": lambda h, c, k: sign(h, {**c, "exp": True}, k),
    "exp NaN": lambda h, c, k: sign(h, {**c, "exp": float("nan")}, k),
    "not yet": lambda h, c, k: sign(h, {**c, "nbf": NOW + 3600}, k),
    "no nbf": lambda h, c, k: sign(h, _without(c, "nbf"), k),
    "no sub": lambda h, c, k: sign(h, _without(c, "sub"), k),
    "sub is a number": lambda h, c, k: sign(h, {**c, "sub": 1}, k),
    "scope is a list": lambda h, c, k: sign(h, {**c, "scope": ["api:read"]}, k),
    "no client": lambda h, c, k: sign(h, _without(c, "client_id"), k),
    "claims are a list": lambda h, _, k: _resigned(h, [], k),
    "changed claims": lambda h, c, k: _swapped(sign(h, c, k), {**c, "scope": "api:admin"}),
    "DER signature": lambda h, c, k: f"{encode(h)}.{encode(c)}." + encode(_der(k, f"{encode(h)}.{encode(c)}")),
    "zero signature": lambda h, c, _: f"{encode(h)}.{encode(c)}.{encode(bytes(64))}",
    "empty signature": lambda h, c, _: f"{encode(h)}.{encode(c)}.",
    "nested 3000 deep": lambda *_: f"{encode(b'[' * 3000)}.{encode({})}.{encode(b'x')}",
    "header nested deep": lambda *_: ".".join((encode(b'{"alg":' + b"[" * 3000), encode({}), encode(b"x"))),
    "alg is a list": lambda h, c, _: f"{encode({**h, 'alg': ['ES256']})}.{encode(c)}.{encode(b'x' * 64)}",
    "alg is an object": lambda h, c, _: f"{encode({**h, 'alg': {}})}.{encode(c)}.{encode(b'x' * 64)}",
    "alg is null": lambda h, c, _: f"{encode({**h, 'alg': None})}.{encode(c)}.{encode(b'x' * 64)}",
    "kid is an object": lambda h, c, _: f"{encode({**h, 'kid': {}})}.{encode(c)}.{encode(b'x' * 64)}",
    "typ is a number": lambda h, c, k: _resigned({**h, "typ": 1}, c, k),
    "header is a list": lambda h, c, _: f"{encode([h])}.{encode(c)}.{encode(b'x' * 64)}",
    "header is a number": lambda h, c, _: f"{encode(1)}.{encode(c)}.{encode(b'x' * 64)}",
    "header is text": lambda h, c, _: f"{encode('alg')}.{encode(c)}.{encode(b'x' * 64)}",
    "b64 is false": lambda h, c, k: _resigned({**h, "b64": False, "crit": ["b64"]}, c, k),
    "five parts": lambda *_: "a.b.c.d.e",
    "one part": lambda *_: "abc",
    "nothing": lambda *_: "..",
    "not ASCII": lambda *_: "é.é.é",
    "surrogate": lambda *_: "\ud800",
    "NUL": lambda *_: "\0.\0.\0",
    "long": lambda *_: "a" * 100_000,
    "local secret, when none is set": lambda *_: "codelab_local_",
}


def _without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def _resigned(header: dict[str, Any], claims: object, key: ECKey) -> str:
    """Sign parts that the library would refuse to make."""
    return pyjwt.PyJWS().encode(json.dumps(claims).encode(), _private(key), algorithm="ES256", headers=header)


def _private(key: ECKey) -> ec.EllipticCurvePrivateKey:
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return private


def _swapped(token: str, claims: dict[str, Any]) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{encode(claims)}.{signature}"


def _der(key: ECKey, content: str) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256

    return _private(key).sign(content.encode(), ec.ECDSA(SHA256()))


@pytest.fixture
def dialect() -> str:
    """Tokens do not touch the database: one dialect is enough."""
    return "sqlite"


async def test_attacks_are_refused(auth: RunningAuth) -> None:
    """No token that this server did not issue for its own API, or no more, is accepted; each gets a challenge."""
    kid, key = auth.module._keys.signing
    valid = (await auth.login()).json()["access_token"]
    claims = jwt.decode(valid, key, algorithms=["ES256"]).claims
    header = {"alg": "ES256", "typ": "at+jwt", "kid": kid}
    assert (await auth.module.authenticate(sign(header, claims, key))).username == "admin"
    for name, forge in ATTACKS.items():
        with pytest.raises(Unauthenticated) as refused:
            pytest.fail(f"{name}: {await auth.module.authenticate(forge(header, claims, key))}")
        assert 'Bearer error="invalid_token"' in refused.value.headers["WWW-Authenticate"], name
    # None of them spoiled the cache.
    assert (await auth.me(valid)).status_code == 200


async def test_a_foreign_client_verifies_our_tokens(auth: RunningAuth) -> None:
    """PyJWT, with nothing but the JWKS, accepts an access token and finds the claims of RFC 9068 and the reference."""
    answer = await auth.http.get("/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] in {"public, max-age=3600", "max-age=3600, public"}
    assert answer.headers["Content-Type"] == "application/json"
    keys = pyjwt.PyJWKSet.from_dict(answer.json())
    token = (await auth.login()).json()["access_token"]
    header = pyjwt.get_unverified_header(token)
    claims = pyjwt.decode(token, keys[header["kid"]], algorithms=["ES256"], audience="codelab-api", issuer=ISSUER)
    assert header["typ"] == "at+jwt"
    assert set(claims) == {"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "scope", "type", "sid"}
    assert claims["client_id"] == CLIENT
    assert claims["type"] == "access"
    assert claims["exp"] - claims["iat"] == 900
    (row,) = await auth.rows("SELECT id FROM users")
    assert claims["sub"] == row["id"]


async def test_the_jwks_is_public(auth: RunningAuth) -> None:
    """The set has one P-256 key, named by its thumbprint (RFC 7638), without its private part."""
    (key,) = (await auth.http.get("/.well-known/jwks.json")).json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert key["kid"] == ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")}).thumbprint()


async def test_tokens_have_ids_of_their_own(auth: RunningAuth) -> None:
    """Two tokens of one moment differ."""
    first, second = [(await auth.login()).json()["access_token"] for _ in range(2)]
    assert first != second
