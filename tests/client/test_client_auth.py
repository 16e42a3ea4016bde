from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import msgspec
import pytest

from codelab.client.auth import Person, ServerAccess, check_url
from codelab.client.errors import ClientError, LoginError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.scripted import ScriptedServer

PASSWORD = "correct horse"


def kept(data: Path) -> dict[str, dict[str, str]]:
    """Read the credentials file."""
    return msgspec.json.decode((data / "credentials.json").read_bytes(), type=dict[str, dict[str, str]])


def ada(server: ScriptedServer, data: Path, password: str | None = PASSWORD) -> ServerAccess:
    """Make the access of user ada."""
    return ServerAccess(server.url, data, username="ada", password=password)


def asked(name: str) -> Person:
    """Make a person who types a name, unless it is known, and the password."""
    return Person(lambda known: (known or name, PASSWORD), tell=print, has_browser=False)


class TestLogin:
    async def test_the_password_is_used_once_and_never_kept(self, server: ScriptedServer, data: Path) -> None:
        """A second chat lives on the refresh token, in a file of mode 0600."""
        assert await ada(server, data).token() == "token-1"
        assert await ServerAccess(server.url, data).token() == "token-2"

        assert [form["grant_type"] for form in server.logins.items] == ["password", "refresh_token"]
        assert server.logins.items[0]["client_id"] == "codelab-flutter-app"
        assert kept(data) == {
            server.url: {"username": "ada", "client_id": "codelab-flutter-app", "refresh_token": "refresh-2"}
        }
        assert stat.S_IMODE((data / "credentials.json").stat().st_mode) == 0o600
        assert PASSWORD not in (data / "credentials.json").read_text()

    async def test_a_wrong_password_is_one_sentence(self, server: ScriptedServer, data: Path) -> None:
        """It says what the server said, and not the password."""
        with pytest.raises(LoginError, match="Invalid username or password") as caught:
            await ada(server, data, "wrong!").token()

        assert "wrong!" not in str(caught.value)

    async def test_an_access_token_is_kept_in_memory_until_it_is_refused(
        self, server: ScriptedServer, data: Path
    ) -> None:
        """One login serves many requests; a refused token is replaced by a refresh."""
        access = ada(server, data)
        first = await access.token()
        again = await access.token()
        await access.renew(first)
        second = await access.token()
        await access.renew(first)

        assert (first, again, second, await access.token()) == ("token-1", "token-1", "token-2", "token-2")

    async def test_a_refused_refresh_token_asks_for_the_password_again(
        self, server: ScriptedServer, data: Path
    ) -> None:
        """On a terminal the person logs in again."""
        await ada(server, data).token()
        server.refresh_tokens.clear()
        access = ServerAccess(server.url, data, person=asked("ada"))

        assert await access.token() == "token-3"

    async def test_without_a_terminal_it_says_how_to_log_in(self, server: ScriptedServer, data: Path) -> None:
        """The sentence names the way."""
        with pytest.raises(LoginError, match="--password-stdin"):
            await ServerAccess(server.url, data).token()

    async def test_another_name_is_another_login(self, server: ScriptedServer, data: Path) -> None:
        """The kept login of ada is not used for bob."""
        await ada(server, data).token()
        access = ServerAccess(server.url, data, username="bob", person=asked(""))
        await access.token()

        assert server.logins.items[-1]["username"] == "bob"

    async def test_chats_side_by_side_never_use_a_refresh_token_twice(self, server: ScriptedServer, data: Path) -> None:
        """Refresh tokens rotate: a second use would end the login of all of them."""
        await ada(server, data).token()
        chats = [ServerAccess(server.url, data) for _ in range(5)]
        await asyncio.gather(*(chat.token() for chat in chats))

        assert len(server.logins.items) == 6
        assert list(server.refresh_tokens) == ["refresh-6"]
        assert kept(data)[server.url]["refresh_token"] == "refresh-6"


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "known_as"),
        [
            ("https://Codelab.Example.org/", "https://codelab.example.org"),
            ("https://x.org:443/api/v1", "https://x.org"),
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://localhost:80/base/", "http://localhost/base"),
            ("http://[::1]:8000/", "http://[::1]:8000"),
        ],
    )
    def test_one_server_has_one_name(self, url: str, known_as: str) -> None:
        """Spellings of one address share one login."""
        assert check_url(url, insecure_http=False) == known_as

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "codelab.example.org",
            "ftp://x.org",
            "https://",
            "https://u:p@x.org",
            "https://x.org/?a",
            "http://x:99999",
        ],
    )
    def test_what_is_no_address_is_refused(self, url: str) -> None:
        """The sentence names the option."""
        with pytest.raises(ClientError, match="--url"):
            check_url(url, insecure_http=True)

    @pytest.mark.parametrize("url", ["http://codelab.example.org", "http://10.0.0.7:8000", "http://127.0.0.1.evil.org"])
    def test_a_password_does_not_cross_a_network_in_clear(self, url: str) -> None:
        """http:// to another machine needs --insecure-http."""
        with pytest.raises(ClientError, match="--insecure-http"):
            check_url(url, insecure_http=False)

        assert check_url(url, insecure_http=True) == url
