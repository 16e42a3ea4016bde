from __future__ import annotations

import asyncio
import dataclasses
import logging
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from codelab.auth.module import AuthModule
from codelab.errors import StartError
from tests.support.auth import CLIENT, PASSWORD, RunningAuth, running_auth

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.settings import AuthSettings


@pytest.fixture
def settings(new_settings: AuthSettings) -> AuthSettings:
    """The first start is what is tested here."""
    return new_settings


async def test_seeds_of_a_new_installation(auth: RunningAuth) -> None:
    """There is the user admin, the reference's public client and that of our terminal, and nothing else."""
    (user,) = await auth.rows("SELECT * FROM users")
    assert (user["username"], user["email"]) == ("admin", "admin@codelab.local")
    assert user["is_active"]
    assert user["is_verified"]
    terminal, client = await auth.rows("SELECT * FROM oauth_clients ORDER BY client_id")
    assert terminal["client_id"] == "codelab-cli"
    assert not terminal["is_confidential"]
    assert "api:admin" not in terminal["default_scopes"]
    assert "password" not in terminal["allowed_grant_types"]
    assert client["client_id"] == CLIENT
    assert not client["is_confidential"]
    assert client["client_secret_hash"] is None
    assert client["allowed_grant_types"] == '["password","refresh_token"]'
    assert client["allowed_scopes"] == client["default_scopes"] == "api:read api:write approvals:decide"
    assert (client["access_token_lifetime"], client["refresh_token_lifetime"]) == (900, 2_592_000)


async def test_second_start_changes_nothing(settings: AuthSettings) -> None:
    """A new master key does not change the password of an admin who is there."""
    async with running_auth(settings):
        pass
    async with running_auth(dataclasses.replace(settings, master_key="another")) as second:
        assert len(await second.rows("SELECT id FROM users")) == 1
        assert len(await second.rows("SELECT id FROM oauth_clients")) == 2
        assert (await second.login()).status_code == 200
        assert (await second.login(password="another")).status_code == 401


async def test_lifetimes_follow_the_settings(settings: AuthSettings) -> None:
    """The lifetimes of the seeded client are those of the last start."""
    async with running_auth(settings):
        pass
    async with running_auth(dataclasses.replace(settings, access_token_lifetime=60)) as second:
        assert (await second.login()).json()["expires_in"] == 60


async def test_concurrent_starters(settings: AuthSettings, tmp_path: Path) -> None:
    """Servers that start at once, in processes of their own, make one admin, whose password is the one in the file."""
    key_file = settings.key_encryption_key_file
    program = (
        "import asyncio, pathlib, sys\n"
        "from codelab.auth.module import AuthModule\n"
        "from codelab.settings import AuthSettings\n"
        "async def main():\n"
        "    settings = AuthSettings(db_url=sys.argv[1], key_encryption_key_file=pathlib.Path(sys.argv[2]))\n"
        "    module = AuthModule(settings, issuer='http://127.0.0.1')\n"
        "    await module.start()\n"
        "    await module.stop()\n"
        "asyncio.run(main())\n"
    )
    starters = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            settings.db_url,
            str(key_file),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    told = b"".join(out + err for out, err in await asyncio.gather(*(one.communicate() for one in starters)))
    assert [one.returncode for one in starters] == [0, 0, 0], told.decode()
    (file,) = tmp_path.rglob("admin-password.txt*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text(encoding="utf-8").strip()
    assert password.encode() not in told
    async with running_auth(settings) as auth:
        for table, count in (("users", 1), ("oauth_clients", 2), ("signing_keys", 1)):
            assert len(await auth.rows(f"SELECT * FROM {table}")) == count, table  # noqa: S608 - names of this test
        assert (await auth.login(password=password)).status_code == 200


async def test_random_password_without_a_terminal(
    settings: AuthSettings, dialect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The password is in a private file beside the SQLite file or the key file; the log names the file only."""
    async with running_auth(dataclasses.replace(settings, master_key=None)) as auth:
        beside = tmp_path if dialect == "sqlite" else settings.key_encryption_key_file.parent
        file = beside / "admin-password.txt"
        password = file.read_text(encoding="utf-8").strip()
        assert (await auth.login(password=password)).status_code == 200
    assert len(password) >= 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in caplog.text
    assert password not in caplog.text
    assert list(beside.glob("admin-password.txt?*")) == []


async def test_random_password_on_a_terminal(
    settings: AuthSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A person at the terminal sees the password there once, and neither a file nor the log has it."""
    settings = dataclasses.replace(settings, master_key=None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    async with running_auth(settings) as auth:
        password = capsys.readouterr().err.partition("shown only this once: ")[2].split()[0]
        assert (await auth.login(password=password)).status_code == 200
    assert password not in caplog.text
    assert list(tmp_path.rglob("admin-password.txt*")) == []


@pytest.mark.parametrize("bad", ["xy" * 513, "\udcff" * 8, "Xq7-vR2", "Password123", "x" * 32, "admin@codelab.local"])
async def test_unusable_master_key(settings: AuthSettings, bad: str) -> None:
    """A first password that nobody could send, or that is easily guessed, ends the start; the line does not show it."""
    module = AuthModule(dataclasses.replace(settings, master_key=bad), issuer="http://127.0.0.1")
    with pytest.raises(StartError, match="AUTH_SERVICE__MASTER_KEY") as refused:
        await module.start()
    await module.stop()
    assert bad not in str(refused.value)


async def test_no_secret_in_the_log(settings: AuthSettings, caplog: pytest.LogCaptureFixture) -> None:
    """Even at DEBUG the log of a whole life holds no password, token, key or secret."""
    caplog.set_level(logging.DEBUG)
    local = "codelab_local_0123456789abcdef"
    async with running_auth(settings, local_secret=local) as auth:
        body = (await auth.login()).json()
        again = (await auth.refresh(body["refresh_token"])).json()
        await auth.login(password="nearly right")
        await auth.refresh(body["refresh_token"], client_secret="client secret")
        await auth.me(again["access_token"])
        await auth.me(local)
        await auth.me("codelab_local_guess")
        private = str(auth.module._keys.signing[1].as_dict(private=True)["d"])
    key = settings.key_encryption_key_file.read_text(encoding="ascii").strip()
    secrets = [PASSWORD, "nearly right", "client secret", local, "codelab_local_guess", private, key]
    secrets += [answer[name] for answer in (body, again) for name in ("access_token", "refresh_token")]
    assert caplog.records
    for secret in secrets:
        assert secret not in caplog.text
