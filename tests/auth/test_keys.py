from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import jwt as pyjwt
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from codelab.auth.keys import make_key
from codelab.auth.module import AuthModule
from codelab.db import now
from codelab.errors import StartError
from codelab.key_file import open_key_file, write_private_file
from tests.auth.test_cleaning import set_time
from tests.support.auth import ISSUER, RunningAuth, running_auth
from tests.support.operators import document, eventually, refused

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.settings import AuthSettings

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX")


@pytest.fixture
def settings(new_settings: AuthSettings) -> AuthSettings:
    """The first start is what is tested here."""
    return new_settings


def mode(path: Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


async def kids(auth: RunningAuth) -> list[str]:
    """List the published keys."""
    return [key["kid"] for key in (await auth.http.get("/.well-known/jwks.json")).json()["keys"]]


async def test_keys_survive_a_restart(settings: AuthSettings) -> None:
    """Tokens of before the restart work after it; the database does not hold the private key in clear."""
    async with running_auth(settings) as first:
        token = (await first.login()).json()["access_token"]
        before = await kids(first)
        (row,) = await first.rows("SELECT * FROM signing_keys")
        secret = first.module._keys.signing[1].as_dict(private=True)["d"]
        assert str(secret) not in str(row)
    async with running_auth(settings) as second:
        assert await kids(second) == before
        assert (await second.me(token)).status_code == 200


@pytest.mark.parametrize("content", [None, "", "not a key\n", "A" * 43 + "=\n"])
async def test_lost_key_file(settings: AuthSettings, caplog: pytest.LogCaptureFixture, content: str | None) -> None:
    """Without its key file, or with a wrong one, the server starts with a new key, says so, and old tokens end."""
    path = settings.key_encryption_key_file
    async with running_auth(settings) as first:
        old = (await first.login()).json()
        old_kids = await kids(first)
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="ascii")
    caplog.clear()
    async with running_auth(settings) as second:
        assert "cannot be decrypted" in caplog.text
        assert not set(await kids(second)) & set(old_kids)
        assert (await second.me(old["access_token"])).status_code == 401
        # The login itself lives on: its refresh token does not depend on the key.
        fresh = (await second.refresh(old["refresh_token"])).json()["access_token"]
        assert (await second.me(fresh)).status_code == 200
    caplog.clear()
    async with running_auth(settings) as third:
        assert "cannot be decrypted" not in caplog.text
        assert (await third.me(fresh)).status_code == 200
    if content in {"", "not a key\n"}:
        (aside,) = path.parent.glob("auth.key.unusable-*")
        assert aside.read_text(encoding="ascii") == content


async def test_renamed_key_is_not_used(settings: AuthSettings) -> None:
    """A private key that does not belong to its row's id signs nothing and is not published."""
    async with running_auth(settings) as first:
        await first.execute("UPDATE signing_keys SET kid = 'other'")
    async with running_auth(settings) as second:
        token = (await second.login()).json()["access_token"]
        assert "other" not in await kids(second)
        assert (await second.me(token)).status_code == 200


async def test_planted_key_is_not_trusted(settings: AuthSettings) -> None:
    """A key that was not encrypted with the key file is not believed, nor is a public part that was swapped."""
    planted = ECKey.generate_key("P-256")
    public = json.dumps({**planted.as_dict(private=False), "kid": planted.thumbprint(), "use": "sig", "alg": "ES256"})
    async with running_auth(settings) as first:
        valid = (await first.login()).json()["access_token"]
        before = await kids(first)
        await first.execute("UPDATE signing_keys SET public_jwk = :public", public=public)
        await first.execute(
            "INSERT INTO signing_keys (kid, alg, public_jwk, private_jwe, created_at)"
            " SELECT :kid, alg, :public, private_jwe, created_at FROM signing_keys",
            kid=planted.thumbprint(),
            public=public,
        )
    claims = pyjwt.decode(valid, options={"verify_signature": False})
    header = {"alg": "ES256", "typ": "at+jwt"}
    async with running_auth(settings) as second:
        assert await kids(second) == before
        assert (await second.me(valid)).status_code == 200
        for kid in (planted.thumbprint(), *before):
            forged = jwt.encode({**header, "kid": kid}, claims, planted, algorithms=["ES256"])
            assert (await second.me(forged)).status_code == 401


async def test_starters_share_one_key(settings: AuthSettings) -> None:
    """Servers that look for a key at the same moment end up with one key file and one signing key."""
    modules = [AuthModule(settings, issuer=ISSUER) for _ in range(5)]
    for module in modules:
        await module.database.start(5)
    await asyncio.gather(*(module._keys.load() for module in modules))
    assert len({module._keys.signing[0] for module in modules}) == 1
    for module in modules:
        await module.stop()
    async with running_auth(settings) as last:
        assert len(await last.rows("SELECT kid FROM signing_keys")) == 1


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key file that is not there yet, nor its folder."""
    return tmp_path / "deep" / "er" / "auth.key"


@posix
def test_key_file_is_private(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is made once, with its folder, for its owner only, and the log says to back it up."""
    before = os.umask(0)
    try:
        key = open_key_file(key_file)
    finally:
        os.umask(before)
    assert mode(key_file) == 0o600
    assert "Back it up" in caplog.text
    assert key_file.read_text(encoding="ascii").strip() not in caplog.text
    assert open_key_file(key_file).as_dict() == key.as_dict()
    assert [path.name for path in key_file.parent.iterdir()] == ["auth.key"]


def test_key_file_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder that is a file, or a key file that is a folder, ends the start with a line that names the variable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE"):
        open_key_file(tmp_path / "file" / "auth.key")
    with pytest.raises(StartError, match="AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE"):
        open_key_file(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_private_file_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """The second writer leaves the first one's file as it is, also where the file system has no hard links."""
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "secret"
    assert write_private_file(path, "first")
    assert not write_private_file(path, "second")
    assert path.read_text(encoding="utf-8") == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


class TestRotation:
    async def test_a_rotated_key_is_served_until_its_tokens_have_expired(self, served: RunningAuth) -> None:
        """By command: the server signs with the new key, the tokens of the old one are good, and then it is gone."""
        (old,) = await kids(served)
        before = (await served.login("ada")).json()["access_token"]
        made = await document(served.settings, "keys", "rotate")

        async def signs() -> str:
            return served.module._keys.signing[0]

        await eventually(made["kid"], signs)
        assert set(await kids(served)) == {made["kid"], old}
        after = (await served.login("ada")).json()["access_token"]
        assert pyjwt.get_unverified_header(after)["kid"] == made["kid"]
        assert [(await served.me(token)).status_code for token in (before, after)] == [200, 200]
        listed = (await document(served.settings, "keys", "list"))["keys"]
        assert [(key["kid"], key["state"]) for key in listed] == [(made["kid"], "signs"), (old, "verifies")]
        until = datetime.fromisoformat(listed[1]["expires_at"]).timestamp()
        assert until >= pyjwt.decode(before, options={"verify_signature": False})["exp"]
        await set_time(served, "UPDATE signing_keys SET expires_at = :at WHERE kid = :kid", now(), kid=old)
        await eventually([made["kid"]], lambda: kids(served))
        # Nothing is parsed again that is known.
        assert len(served.module._keys._parsed) == 1

    async def test_a_retired_key_takes_its_tokens_along(self, served: RunningAuth) -> None:
        """A key that somebody else may know: no token of it is good, and each login goes on with a new one."""
        (old,) = await kids(served)
        tokens = (await served.login("ada")).json()
        person = await served.module.authenticate(tokens["access_token"])
        assert await served.module.still_valid([person]) == {person}
        assert "make a new one first" in await refused(served.settings, "keys", "retire", old, "--yes")
        for wrong in ("x", "-Yz-x"):
            assert f"no signing key '{wrong}'" in await refused(served.settings, "keys", "retire", wrong, "--yes")
        made = await document(served.settings, "keys", "rotate")
        assert (await document(served.settings, "keys", "retire", old, "--yes"))["state"] == "expired"
        await eventually([made["kid"]], lambda: kids(served))

        async def status() -> int:
            return (await served.me(tokens["access_token"])).status_code

        # It was verified a moment ago, and is refused all the same.
        await eventually(401, status)
        assert await served.module.still_valid([person]) == set()
        fresh = (await served.refresh(tokens["refresh_token"])).json()["access_token"]
        assert (await served.me(fresh)).status_code == 200
        rows = await served.rows(
            "SELECT event_type, event_data FROM audit_logs WHERE event_type LIKE 'key_%' ORDER BY seq"
        )
        assert [(row["event_type"], json.loads(row["event_data"])["kid"]) for row in rows] == [
            ("key_made", made["kid"]),
            ("key_retired", old),
        ]

    def test_no_kid_looks_like_an_option(self) -> None:
        """One thumbprint of 64 would begin with a dash, and could not be given to a command as it is."""
        assert not [kid for kid in (make_key().thumbprint() for _ in range(600)) if kid.startswith("-")]

    async def test_an_old_key_is_followed_by_itself(self, served: RunningAuth) -> None:
        """A key older than the setting is rotated while the server runs, once, and the audit trail says why."""
        (old,) = await kids(served)
        await set_time(served, "UPDATE signing_keys SET created_at = :at", now() - timedelta(days=91))
        async with asyncio.timeout(30):
            while len(found := await kids(served)) == 1:
                await asyncio.sleep(0.05)
        await asyncio.gather(*(served.module._keys.refresh() for _ in range(5)))
        assert await kids(served) == found
        assert served.module._keys.signing[0] != old
        (row,) = await served.rows("SELECT event_data FROM audit_logs WHERE event_type = 'key_made'")
        assert json.loads(row["event_data"])["reason"] == "age"

    async def test_a_server_outlives_its_keys(self, served: RunningAuth, caplog: pytest.LogCaptureFixture) -> None:
        """When somebody empties the table, the server goes on with the key that it has, and says so."""
        await served.execute("DELETE FROM signing_keys")
        await served.module._keys.refresh()
        assert "No signing key in the database can be used" in caplog.text
        token = (await served.login("ada")).json()["access_token"]
        assert (await served.me(token)).status_code == 200
