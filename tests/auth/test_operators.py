"""What operators do on the command line, beside a server that runs and follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.auth.storage import describe
from tests.support.auth import PASSWORD, RunningAuth
from tests.support.operators import call, document, eventually, refused

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret that nobody can guess, of more than 32".replace(" ", "-").replace(",", "")


async def status(auth: RunningAuth, token: str) -> int:
    """Ask with an access token."""
    return (await auth.me(token)).status_code


async def trail(auth: RunningAuth, *events: str) -> list[dict[str, Any]]:
    """Return the rows of the audit trail of these kinds."""
    rows = await auth.rows("SELECT * FROM audit_logs ORDER BY seq")
    return [row for row in rows if row["event_type"] in events]


async def check_chain(auth: RunningAuth) -> None:
    """The audit trail is whole, with what both processes wrote."""
    async with auth.module.database.engine.connect() as connection:
        for check in describe(auth.settings).checks:
            assert [found for found in await check.find(connection) if found.severity == "fault"] == []


class TestUsers:
    async def test_life_of_an_account(self, served: RunningAuth) -> None:
        """Made, logged in, disabled, enabled, given another password, deleted: the server follows each step."""
        settings = served.settings
        made = await document(settings, "user", "create", "bob", "--email", "bob@example.com", "--admin")
        assert (made["username"], made["is_admin"], len(made["password"])) == ("bob", True, 24)
        first = (await served.login("bob@example.com", made["password"])).json()
        assert await status(served, first["access_token"]) == 200

        assert (await document(settings, "user", "disable", "bob"))["is_active"] is False
        await eventually(401, lambda: status(served, first["access_token"]))
        assert (await served.refresh(first["refresh_token"])).status_code == 400
        assert (await served.login("bob", made["password"])).status_code == 401

        assert (await document(settings, "user", "enable", "bob"))["is_active"] is True
        second = (await served.login("bob", made["password"])).json()
        # What was ended stays ended.
        assert (await served.refresh(first["refresh_token"])).status_code == 400
        assert await status(served, first["access_token"]) == 401

        reset = await document(settings, "user", "reset-password", "bob", "--password-stdin", stdin=f"{PASSWORD}é\n")
        assert "password" not in reset
        await eventually(401, lambda: status(served, second["access_token"]))
        assert (await served.login("bob", made["password"])).status_code == 401
        third = (await served.login("bob", f"{PASSWORD}é")).json()

        await document(settings, "user", "delete", "bob", "--yes")
        await eventually(401, lambda: status(served, third["access_token"]))
        assert "no user 'bob'" in await refused(settings, "user", "show", "bob")
        rows = await trail(served, "user_created", "user_disabled", "user_enabled", "password_reset", "user_deleted")
        told = [(row["event_type"], msgspec.json.decode(row["event_data"])["by"].split(":")[0]) for row in rows]
        assert told == [
            ("user_created", "tests"),
            ("user_created", "command line"),
            ("user_disabled", "command line"),
            ("user_enabled", "command line"),
            ("password_reset", "command line"),
            ("user_deleted", "command line"),
        ]
        assert made["password"] not in str(rows)
        await check_chain(served)

    async def test_lists_and_shows(self, served: RunningAuth) -> None:
        """Everybody is listed by name, without anything of their password."""
        found = await document(served.settings, "user", "list")
        assert [user["username"] for user in found["users"]] == ["ada", "admin"]
        assert "password_hash" not in found["users"][0]
        shown = await call(served.settings, "user", "show", "ada")
        assert "ada@example.com" in shown.stdout
        assert "\x1b" not in shown.stdout

    async def test_refusals(self, served: RunningAuth) -> None:
        """What cannot be done is said in one line, with exit code 1 or 2, and changes nothing."""
        settings = served.settings
        create = ("user", "create")
        for line, arguments, code, stdin in (
            ("name or address is there", (*create, "ada", "--email", "x@example.com"), 1, None),
            ("name or address is there", (*create, "ada@example.com", "--email", "x@example.com"), 1, None),
            ("name or address is there", (*create, "eve", "--email", "ada@example.com"), 1, None),
            ("email: must be an address", (*create, "eve", "--email", "example.com"), 1, None),
            ("username: must have 1 to 255", (*create, "e\nve", "--email", "e@example.com"), 1, None),
            ("username: must have 1 to 255", (*create, " eve", "--email", "e@example.com"), 1, None),
            ("at least 8", (*create, "eve", "--email", "e@example.com", "--password-stdin"), 1, "short\n"),
            ("at most 1024", (*create, "eve", "--email", "e@example.com", "--password-stdin"), 1, "x" * 1025),
            ("standard input is empty", (*create, "eve", "--email", "e@example.com", "--password-stdin"), 2, "\n"),
            ("no user 'eve'", ("user", "disable", "eve"), 1, None),
            ("no user 'eve'", ("user", "reset-password", "eve"), 1, None),
            ("last administrator", ("user", "disable", "admin"), 1, None),
            ("made again at each start", ("user", "delete", "admin", "--yes"), 1, None),
        ):
            assert line in await refused(settings, *arguments, code=code, stdin=stdin), arguments
        unasked = await call(settings, "user", "delete", "ada")
        assert (unasked.exit_code, "say --yes" in unasked.stderr) == (2, True)
        assert [row["username"] for row in await served.rows("SELECT username FROM users ORDER BY username")] == [
            "ada",
            "admin",
        ]
        assert len(await trail(served, "user_created", "user_disabled", "user_deleted", "password_reset")) == 1


class TestClients:
    async def test_life_of_a_client(self, served: RunningAuth) -> None:
        """Made with a secret that is shown once, given another one, disabled, enabled, deleted."""
        settings = served.settings
        arguments = ("--name", "Nightly", "--confidential", "--grant", "client_credentials", "--scope", "api:read")
        made = await document(settings, "client", "create", "nightly", *arguments)
        assert (made["is_confidential"], made["allowed_scopes"], len(made["secret"])) == (True, "api:read", 43)

        async def ask(secret: str) -> int:
            fields = {"grant_type": "client_credentials"}
            return (await served.post("/oauth/token", "nightly", secret, **fields)).status_code

        assert await ask(made["secret"]) == 200
        rotated = await document(settings, "client", "rotate-secret", "nightly", "--secret-stdin", stdin=SECRET)
        assert "secret" not in rotated
        assert await ask(SECRET) == 200
        await eventually(401, lambda: ask(made["secret"]))
        await document(settings, "client", "disable", "nightly")
        await eventually(400, lambda: ask(SECRET))
        await document(settings, "client", "enable", "nightly")
        assert await ask(SECRET) == 200
        uris = ("--redirect-uri", "https://a.example/cb", "--post-logout-redirect-uri", "https://a.example/bye")
        await document(settings, "client", "create", "web", "--name", "Web", "--public", *uris)
        shown = await document(settings, "client", "show", "web")
        assert shown["post_logout_redirect_uris"] == ["https://a.example/bye"]
        wrong = (*("client", "create", "x", "--name", "X", "--public"), *uris[:3], "http://a.example/")
        assert "post_logout_redirect_uri: http://a.example/ must be https" in await refused(settings, *wrong)
        shown = await document(settings, "client", "show", "nightly")
        assert "secret" not in str(shown)
        await document(settings, "client", "delete", "nightly", "--yes")
        await eventually(401, lambda: ask(SECRET))
        kinds = ("created", "secret_rotated", "disabled", "enabled", "deleted")
        rows = await trail(served, *(f"client_{kind}" for kind in kinds))
        told = [(row["event_type"], row["client_id"]) for row in rows if row["client_id"] != "web"]
        assert told == [(f"client_{kind}", "nightly") for kind in kinds]
        assert not any(secret in str(rows) for secret in (SECRET, made["secret"]))
        await check_chain(served)

    async def test_logins_end_with_their_client(self, served: RunningAuth) -> None:
        """Disabled or deleted, it takes the logins by way of it along; those by way of others go on."""
        arguments = ("--name", "Old", "--public", "--grant", "password", "--grant", "refresh_token")
        other = (await served.login("ada")).json()
        for end in (("disable", "old"), ("delete", "old", "--yes")):
            await document(served.settings, "client", "create", "old", *arguments)
            tokens = (await served.login("ada", client_id="old")).json()
            assert await status(served, tokens["access_token"]) == 200
            await document(served.settings, "client", *end)
            await eventually(401, lambda token=tokens["access_token"]: status(served, token))
            assert (await served.refresh(tokens["refresh_token"], client_id="old")).status_code in {400, 401}
            await call(served.settings, "client", "delete", "old", "--yes")
        assert await status(served, other["access_token"]) == 200

    async def test_what_a_client_may_be(self, served: RunningAuth) -> None:
        """The exact form of a client for people: with a redirect URI it has the grants and scopes that it needs."""
        uris = ("--redirect-uri", "http://127.0.0.1/callback", "--redirect-uri", "com.example.app:/done")
        made = await document(served.settings, "client", "create", "editor", "--name", "My editor", "--public", *uris)
        assert made["allowed_grant_types"] == ["authorization_code", "refresh_token"]
        assert made["redirect_uris"] == ["http://127.0.0.1/callback", "com.example.app:/done"]
        assert "api:admin" not in made["allowed_scopes"].split()
        assert made["default_scopes"] == "api:read api:write"
        assert "secret" not in made
        listed = await document(served.settings, "client", "list")
        assert [each["client_id"] for each in listed["clients"]] == ["codelab-cli", "codelab-flutter-app", "editor"]

    async def test_refusals(self, served: RunningAuth) -> None:
        """What does not fit together is refused in one line that names the option."""
        public, confidential = ("--name", "X", "--public"), ("--name", "X", "--confidential")
        by_code, device = ("--redirect-uri", "https://x.example/cb"), ("--grant", "device_code")
        for line, arguments, stdin in (
            ("a client 'codelab-cli' already", ("codelab-cli", *public, *by_code), None),
            ("client_id: must have", ("a b", *public, *by_code), None),
            ("client_id: a URL", ("https://x.example/client", *public, *by_code), None),
            ("name: must have", ("x", "--name", "a\u202eb", "--public", *by_code), None),
            ("redirect_uri: http://x.example", ("x", *public, "--redirect-uri", "http://x.example"), None),
            ("grant: say how", ("x", *public), None),
            ("redirect_uri: is required", ("x", *public, "--grant", "authorization_code"), None),
            ("confidential clients", ("x", *public, "--grant", "client_credentials"), None),
            ("scope: 'everything'", ("x", *public, *device, "--scope", "everything"), None),
            ("scope: must not be empty", ("x", *public, *device, "--scope", " "), None),
            ("a public client has none", ("x", *public, *device, "--secret-stdin"), SECRET),
            ("secret: must have 32", ("x", *confidential, *device, "--secret-stdin"), "short"),
        ):
            assert line in await refused(served.settings, "client", "create", *arguments, stdin=stdin), arguments
        assert "public client" in await refused(served.settings, "client", "rotate-secret", "codelab-cli")
        assert "no client 'x'" in await refused(served.settings, "client", "disable", "x")
        line = await refused(served.settings, "client", "delete", "codelab-flutter-app", "--yes")
        assert "made again at each start" in line
        assert len(await served.rows("SELECT id FROM oauth_clients")) == 2
        unsaid = await call(served.settings, "client", "create", "x", "--name", "X", *by_code)
        assert (unsaid.exit_code, "--public" in unsaid.stderr) == (2, True)


@pytest.mark.parametrize("content", [None, "another"])
async def test_another_key_file_is_refused(served: RunningAuth, tmp_path: Path, content: str | None) -> None:
    """In another folder, where the key file would be another, a command changes nothing and makes no file."""
    from dataclasses import replace

    from codelab.key_file import open_key_file

    other = tmp_path / "elsewhere" / "auth.key"
    if content:
        open_key_file(other)
    settings = replace(served.settings, key_encryption_key_file=other)
    line = await refused(settings, "user", "disable", "ada", code=2)
    assert "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE" in line
    assert other.exists() == (content is not None)
    assert (await served.login("ada")).status_code == 200
    await check_chain(served)
