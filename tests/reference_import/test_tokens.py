"""People who are logged in at the reference stay so: its refresh tokens are good here, once."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OctKey, RSAKey
from sqlalchemy import text

from codelab.errors import StartError
from codelab.reference import read_token_key
from codelab.reference.keys import AUDIENCE, ISSUER
from tests.reference_import.reference import Reference, change, dump, import_reference, insert, stamp
from tests.support.server import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from codelab.import_records import TokenKey
    from codelab.reference_import import Outcome
    from codelab.settings import Settings

CLIENT = "codelab-flutter-app"
ALICE = "2ad3c8fe-3f84-4143-8983-6aeab39a3bad"


class Issuer:
    """The reference's auth-service, as far as it signs: RSA, one constant key id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.key = RSAKey.generate_key(2048)
        (folder / "private_key.pem").write_bytes(self.key.as_pem(private=True))
        (folder / "public_key.pem").write_bytes(self.key.as_pem(private=False))

    @property
    def token_key(self) -> TokenKey:
        """Read the key as the command does."""
        return read_token_key(self.folder, ISSUER, AUDIENCE)

    def sign(self, *, key: Any = None, algorithm: str = "RS256", **changes: Any) -> tuple[str, str]:
        """Sign a refresh token; return it and its ``jti``."""
        at, jti = int(time.time()), str(uuid.uuid4())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": ALICE,
            "aud": AUDIENCE,
            "exp": at + 3600,
            "iat": at,
            "nbf": at,
            "jti": jti,
            "type": "refresh",
            "client_id": CLIENT,
            "scope": "api:read api:write",
        } | changes
        pem = key if key is not None else self.key.as_pem(private=True)
        return pyjwt.encode(claims, pem, algorithm=algorithm, headers={"kid": "2024-01-key-1"}), claims["jti"]

    def grant(self, reference: Reference, parent: str | None = None, **values: Any) -> tuple[str, str]:
        """Sign a refresh token and store its row as the reference does."""
        token, jti = self.sign()
        store(reference, jti, parent, **values)
        return token, jti


def digest(jti: str) -> str:
    """Hash a ``jti`` as the reference does."""
    return sha256(jti.encode()).hexdigest()


def store(reference: Reference, jti: str, parent: str | None = None, **values: Any) -> None:
    """Store the row of a refresh token."""
    at = datetime.now(UTC)
    row = {
        "id": str(uuid.uuid4()),
        "jti_hash": digest(jti),
        "user_id": ALICE,
        "client_id": CLIENT,
        "scope": "api:read api:write",
        "expires_at": stamp(at + timedelta(hours=1)),
        "revoked": 0,
        "revoked_at": None,
        "parent_jti_hash": digest(parent) if parent else None,
        "created_at": stamp(at),
    }
    insert(reference.auth, "refresh_tokens", **(row | values))


def short_key() -> bytes:
    """Make the PEM of an RSA key that is too short; joserfc would warn."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
    return key.private_bytes(encoding, form, serialization.NoEncryption())


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """The keys of the reference."""
    return Issuer(tmp_path / "keys")


async def refresh(http: httpx2.AsyncClient, token: str, client: str = CLIENT) -> httpx2.Response:
    """Ask with the refresh grant, as the IDE does."""
    form = {"grant_type": "refresh_token", "client_id": client, "refresh_token": token}
    return await http.post("/oauth/token", data=form)


async def sessions(http: httpx2.AsyncClient, token: str) -> int:
    """Ask for something with an access token."""
    return (await http.get("/api/v1/sessions", headers={"Authorization": f"Bearer {token}"})).status_code


def told(outcome: Outcome, kind: str = "refresh_tokens") -> tuple[int, int, int, int]:
    """What became of a kind."""
    count = outcome.auth.of(kind)
    return count.read, count.imported, count.already_there, count.skipped


@pytest.fixture
def settings(settings_with_tables: Settings) -> Settings:
    """What an import does to tables that are not there is tested with the samples."""
    return settings_with_tables


async def test_an_old_refresh_token_is_good_once(settings: Settings, reference: Reference, issuer: Issuer) -> None:
    """It is answered with tokens of ours, which work on; what was good there for writing may decide here."""
    token, _ = issuer.grant(reference)
    outcome = await import_reference(settings, reference.urls, key=issuer.token_key)
    assert told(outcome) == (1, 1, 0, 0)
    assert told(outcome, "keys") == (1, 1, 0, 0)
    async with serving(settings) as running:
        first = await refresh(running.http, token)
        assert first.status_code == 200, first.text
        assert first.json()["scope"] == "api:read api:write approvals:decide"
        assert await sessions(running.http, first.json()["access_token"]) == 200
        assert (await refresh(running.http, token)).json()["error"] == "invalid_grant"
        second = await refresh(running.http, first.json()["refresh_token"])
        assert second.status_code == 200
    again = await import_reference(settings, reference.urls, key=issuer.token_key)
    assert told(again) == (1, 0, 1, 0)
    async with serving(settings) as running:
        assert (await refresh(running.http, token)).status_code == 400


async def test_a_token_that_was_used_there_ends_its_family(
    settings: Settings, reference: Reference, issuer: Issuer
) -> None:
    """When one that the reference had rotated comes back here, everything that grew from it is revoked."""
    old, old_jti = issuer.grant(reference, revoked=1, revoked_at="2026-11-01 00:00:00.000000")
    live, _ = issuer.grant(reference, parent=old_jti)
    other, _ = issuer.grant(reference)
    outcome = await import_reference(settings, reference.urls, key=issuer.token_key)
    assert told(outcome) == (3, 3, 0, 0)
    async with serving(settings) as running:
        fresh = (await refresh(running.http, live)).json()["refresh_token"]
        assert (await refresh(running.http, old)).json()["error"] == "invalid_grant"
        assert (await refresh(running.http, fresh)).json()["error"] == "invalid_grant"
        assert (await refresh(running.http, other)).status_code == 200
    assert sum("token_reuse" in row for row in (await dump(settings))["auth.audit_logs"]) == 1


async def test_a_late_replay_here_ends_the_family(settings: Settings, reference: Reference, issuer: Issuer) -> None:
    """An old token that is used a second time after the grace revokes what it was answered with."""
    token, _ = issuer.grant(reference)
    await import_reference(settings, reference.urls, key=issuer.token_key)
    async with serving(replace(settings, auth=replace(settings.auth, refresh_grace=0.0))) as running:
        first = (await refresh(running.http, token)).json()
        assert (await refresh(running.http, token)).status_code == 400
        assert (await refresh(running.http, first["refresh_token"])).status_code == 400


async def test_what_is_not_a_live_refresh_token_of_the_reference(
    settings: Settings, reference: Reference, issuer: Issuer
) -> None:
    """Another key, algorithm, issuer, audience, type, person or client, an end in the past, no row: all are refused."""
    stranger = RSAKey.generate_key(2048)
    symmetric = OctKey.generate_key(256)
    bad: dict[str, tuple[str, str]] = {
        "key": issuer.sign(key=stranger.as_pem(private=True)),
        "hs256": issuer.sign(key=symmetric.raw_value, algorithm="HS256"),
        "es256": issuer.sign(key=ECKey.generate_key("P-256").as_pem(private=True), algorithm="ES256"),
        "rs512": issuer.sign(algorithm="RS512"),
        "issuer": issuer.sign(iss="https://elsewhere"),
        "audience": issuer.sign(aud="other"),
        "type": issuer.sign(type="access"),
        "expired": issuer.sign(exp=int(time.time()) - 120),
        "person": issuer.sign(sub=str(uuid.uuid4())),
    }
    for _, jti in bad.values():
        store(reference, jti)
    unknown, _ = issuer.sign()
    _, jti = good = issuer.grant(reference)
    await import_reference(settings, reference.urls, key=issuer.token_key)
    head, payload, _ = good[0].split(".")
    unsigned = pyjwt.encode(pyjwt.decode(good[0], options={"verify_signature": False}), "", algorithm="none")
    async with serving(settings) as running:
        for name, (token, _) in bad.items():
            answer = await refresh(running.http, token)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), name
        for token in (unknown, unsigned, f"{head}.{payload}.", f"{head}.{payload}.AAAA", "a.b.c", "..", "x" * 20000):
            assert (await refresh(running.http, token)).status_code == 400
        # Neither what the row holds nor what its hash is made of opens anything.
        row = next(row for row in (await dump(settings))["auth.refresh_tokens"] if ALICE in row)
        for text in (jti, digest(jti), str(row[1]), str(row[0])):
            assert (await refresh(running.http, text)).status_code == 400
        assert (await refresh(running.http, good[0])).status_code == 200


async def test_access_tokens_of_the_reference_are_not_accepted(
    settings: Settings, reference: Reference, issuer: Issuer
) -> None:
    """They end within the hour, and the refresh token is at hand; the RSA key proves nothing else and is not shown."""
    issuer.grant(reference)
    await import_reference(settings, reference.urls, key=issuer.token_key)
    async with serving(settings) as running:
        for kind in ("access", "refresh"):
            token, _ = issuer.sign(type=kind)
            assert await sessions(running.http, token) == 401
        shown = (await running.http.get("/.well-known/jwks.json")).json()["keys"]
        assert [key["kty"] for key in shown] == ["EC"]


async def test_a_key_that_was_planted_is_not_believed(
    settings: Settings, reference: Reference, issuer: Issuer, tmp_path: Path
) -> None:
    """Whoever writes their own public key into the table, or swaps one, makes no token of theirs good."""
    good, _ = issuer.grant(reference)
    await import_reference(settings, reference.urls, key=issuer.token_key)
    mallory = Issuer(tmp_path / "mallory")
    forged, jti = mallory.sign()
    store(reference, jti)
    await import_reference(settings, reference.urls, key=issuer.token_key)
    async with serving(settings) as running, running.app.state.auth.database.engine.begin() as connection:
        statement = text("UPDATE signing_keys SET public_jwk = :jwk WHERE alg = 'RS256'")
        jwk = msgspec.json.encode(mallory.token_key.public_jwk).decode()
        await connection.execute(statement, {"jwk": jwk})
        planted = text(
            "INSERT INTO signing_keys (kid, alg, public_jwk, private_jwe, created_at)"
            " SELECT 'inherited-x', alg, public_jwk, private_jwe, created_at FROM signing_keys WHERE alg = 'RS256'"
        )
        await connection.execute(planted)
    async with serving(settings) as running:
        assert (await refresh(running.http, forged)).status_code == 400
        assert (await refresh(running.http, good)).status_code == 200


async def test_tokens_that_are_left_out(settings: Settings, reference: Reference, issuer: Issuer) -> None:
    """Dead ones and those of people or clients that were not taken over are counted, with the reason."""
    issuer.grant(reference, revoked=1)
    issuer.grant(reference, expires_at="2026-01-01 00:00:00.000000")
    issuer.grant(reference, user_id="nobody")
    issuer.grant(reference, client_id="codelab-internal")
    issuer.grant(reference, scope="api:admin api:read")
    outcome = await import_reference(settings, reference.urls, key=issuer.token_key)

    assert told(outcome) == (5, 1, 0, 4)
    assert {note.what for note in outcome.auth.skips} == {
        "revoked, expired or unreadable",
        "its user or its client was not taken over",
        "its client is confidential and gets a new secret",
    }
    (row,) = (await dump(settings))["auth.refresh_tokens"]
    assert "api:read" in row


async def test_with_keys_later(settings: Settings, reference: Reference, issuer: Issuer) -> None:
    """Without ``--keys`` the tokens stay behind and the report says so; a later run with it takes them."""
    token, _ = issuer.grant(reference)
    first = await import_reference(settings, reference.urls)
    assert told(first) == (1, 0, 0, 1)
    trial = await import_reference(settings, reference.urls, key=issuer.token_key, dry_run=True)
    assert told(trial) == (1, 1, 0, 0)
    assert (await dump(settings))["auth.signing_keys"] == []
    assert not settings.auth.key_encryption_key_file.exists()
    second = await import_reference(settings, reference.urls, key=issuer.token_key)
    assert second == trial
    async with serving(settings) as running:
        assert (await refresh(running.http, token)).status_code == 200


async def test_another_client_learns_nothing(settings: Settings, reference: Reference, issuer: Issuer) -> None:
    """A token that another client shows is unknown, and stays good for its own."""
    change(reference.auth, "UPDATE oauth_clients SET is_confidential = 0, client_secret_hash = NULL")
    token, _ = issuer.grant(reference)
    await import_reference(settings, reference.urls, key=issuer.token_key)
    async with serving(settings) as running:
        assert (await refresh(running.http, token, "codelab-internal")).status_code == 400
        assert (await refresh(running.http, token)).status_code == 200


class TestKeys:
    def test_either_file_will_do(self, issuer: Issuer) -> None:
        """The private key is read for its public part only."""
        both = issuer.token_key
        (issuer.folder / "public_key.pem").unlink()
        assert issuer.token_key == both
        assert set(both.public_jwk) == {"kty", "n", "e"}

    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (dict, "has neither public_key.pem nor private_key.pem"),
            (lambda: {"public_key.pem": b"hello"}, "no RSA key in PEM form"),
            (lambda: {"public_key.pem": ECKey.generate_key("P-256").as_pem(private=False)}, "no RSA key in PEM form"),
            (
                lambda: {"private_key.pem": RSAKey.generate_key(2048).as_pem(private=True, password="x")},
                "without a passphrase",
            ),
            (lambda: {"private_key.pem": short_key()}, "fewer than 2048"),
            (
                lambda: {
                    "public_key.pem": RSAKey.generate_key(2048).as_pem(private=False),
                    "private_key.pem": RSAKey.generate_key(2048).as_pem(private=True),
                },
                "do not belong together",
            ),
        ],
        ids=["no file", "no key", "an EC key", "a passphrase", "a short key", "two keys"],
    )
    def test_keys_that_cannot_be_used(self, tmp_path: Path, make: Callable[[], dict[str, bytes]], problem: str) -> None:
        """One line says what is wrong with the folder."""
        for name, content in make().items():
            (tmp_path / name).write_bytes(content)
        with pytest.raises(StartError, match=problem) as refused:
            read_token_key(tmp_path, ISSUER, AUDIENCE)

        assert "\n" not in str(refused.value)
