"""A device without a browser is let in with another one (RFC 8628)."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.auth.devices import LETTERS, MOST_WAITING, MOST_WRONG, read_user_code
from codelab.auth.seeds import DEVICE_CODE, TERMINAL_CLIENT_ID
from codelab.db import now
from tests.auth.test_cleaning import run, set_time
from tests.support.auth import ISSUER, PASSWORD
from tests.support.browser import Browser, browsing
from tests.support.flows import events

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth


async def begin(auth: RunningAuth, **fields: str) -> Any:
    """Ask for codes."""
    answer = await auth.post("/oauth/device_authorization", **({"client_id": TERMINAL_CLIENT_ID} | fields))
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json()


async def ask(auth: RunningAuth, device_code: str, **fields: str) -> Any:
    """Ask whether the device was let in."""
    asked = {"grant_type": DEVICE_CODE, "client_id": TERMINAL_CLIENT_ID, "device_code": device_code}
    return await auth.post("/oauth/token", **(asked | fields))


async def error_of(auth: RunningAuth, device_code: str, **fields: str) -> str:
    """Ask, and return the error."""
    answer = await ask(auth, device_code, **fields)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


async def forget_questions(auth: RunningAuth) -> None:
    """Let the interval of all devices pass."""
    await set_time(auth, "UPDATE device_codes SET asked_at = :at", now() - timedelta(minutes=1))


async def test_whole_flow(auth: RunningAuth, browser: Browser) -> None:
    """The person types the code, sees the same one, who asks and from where, agrees, and the device is let in."""
    codes = await begin(auth, scope="api:read openid")
    assert set(codes) == {
        *("device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval")
    }
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert codes["verification_uri"] == f"{ISSUER}/oauth/device"
    assert await error_of(auth, codes["device_code"]) == "authorization_pending"

    await browser.open(codes["verification_uri"])
    await browser.sign_in("admin", PASSWORD)
    await browser.submit(user_code=codes["user_code"].replace("-", " ").lower())
    for told in (codes["user_code"], "codelab chat", "read your sessions", "127.0.0.1", "python-httpx2"):
        assert told in browser.page.text
    await browser.submit("allow")
    assert "codelab chat may go on" in browser.page.text

    answer = await ask(auth, codes["device_code"])
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["scope"] == "api:read openid"
    assert body["id_token"]
    assert (await auth.me(body["access_token"])).json()["username"] == "admin"
    assert (await auth.refresh(body["refresh_token"], client_id=TERMINAL_CLIENT_ID)).status_code == 200
    assert await events(auth) == ["login_success", "device_allowed", "device_login", "token_refresh"]
    assert await error_of(auth, codes["device_code"]) == "invalid_grant"


@pytest.mark.parametrize("first", [True, False], ids=["at the beginning", "with the code"])
async def test_the_api_is_named_by_whoever_asks_for_it(auth: RunningAuth, browser: Browser, *, first: bool) -> None:
    """A resource holds that is named where the device begins, or where it asks for its tokens (RFC 8707)."""
    api = {"resource": f"{ISSUER}/api/v1"}
    codes = await begin(auth, **(api if first else {}))
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    await browser.submit("allow")
    answer = await ask(auth, codes["device_code"], **({} if first else api))
    claims = answer.json()["access_token"].split(".")[1]

    assert msgspec.json.decode(urlsafe_b64decode(claims + "=="))["aud"] == api["resource"]


async def test_complete_address(auth: RunningAuth, browser: Browser) -> None:
    """The address with the code in it leads to the same question, never past it (section 3.3.1)."""
    codes = await begin(auth)
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    assert codes["user_code"] in browser.page.text
    assert await error_of(auth, codes["device_code"]) == "authorization_pending"
    await browser.submit("allow")
    assert (await ask(auth, codes["device_code"])).status_code == 200


async def test_a_person_says_no(auth: RunningAuth, browser: Browser) -> None:
    """The device hears access_denied, and the code is no good any more."""
    codes = await begin(auth)
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    await browser.submit("deny")
    assert "was not let in" in browser.page.text
    assert await error_of(auth, codes["device_code"]) == "access_denied"
    assert (await browser.open(codes["verification_uri_complete"])).status_code == 400
    assert (await events(auth))[-1] == "device_denied"


async def test_a_device_that_asks_too_often(auth: RunningAuth) -> None:
    """It is told to slow down, and has to wait five seconds longer each time (section 3.5)."""
    code = (await begin(auth))["device_code"]
    told = [await error_of(auth, code) for _ in range(3)]
    assert told == ["authorization_pending", "slow_down", "slow_down"]
    (row,) = await auth.rows('SELECT "interval" FROM device_codes')
    assert row["interval"] == 15
    await forget_questions(auth)
    assert await error_of(auth, code) == "authorization_pending"


async def test_codes_expire(auth: RunningAuth, browser: Browser) -> None:
    """After ten minutes the device hears expired_token, and the person's code is unknown."""
    codes = await begin(auth)
    await set_time(auth, "UPDATE device_codes SET expires_at = :at", now())
    assert await error_of(auth, codes["device_code"]) == "expired_token"
    await browser.open(codes["verification_uri_complete"])
    page = await browser.sign_in("admin", PASSWORD)
    assert (page.status_code, "No device waits" in page.text) == (400, True)
    await set_time(auth, "UPDATE device_codes SET expires_at = :at", now() - timedelta(days=2))
    assert (await run(auth))["ended flows"] == 1


async def test_once(auth: RunningAuth, browser: Browser) -> None:
    """Of 20 who ask at once with a code that was let in, one gets tokens."""
    codes = await begin(auth)
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    await browser.submit("allow")
    answers = await asyncio.gather(*(ask(auth, codes["device_code"]) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 19]


async def test_one_decision(auth: RunningAuth, browser: Browser) -> None:
    """Of all who decide about a device at once, one does; what was decided stays."""
    codes = await begin(auth)
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    fields = browser.read.forms[0].fields
    forms = [fields | {"decision": decision} for decision in ("allow", "deny") * 5]
    answers = await asyncio.gather(*(browser.http.post("/oauth/device", data=form) for form in forms))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 9]
    (decided,) = [form["decision"] for form, answer in zip(forms, answers, strict=True) if answer.is_success]
    assert (await browser.http.post("/oauth/device", data=forms[0])).status_code == 400
    assert (await ask(auth, codes["device_code"])).status_code == {"allow": 200, "deny": 400}[decided]


async def test_codes_cannot_be_guessed(auth: RunningAuth, browser: Browser) -> None:
    """After ten wrong codes a sign-in can try no more, a right one included; a new one can after a wait."""
    codes = await begin(auth)
    await browser.open("/oauth/device")
    await browser.sign_in("admin", PASSWORD)
    wrong = [LETTERS[index] * 8 for index in range(MOST_WRONG - 2)] + ["short", "AEIOUAEI"]
    for code in wrong:
        page = await browser.open(f"/oauth/device?user_code={code}")
        assert (page.status_code, "No device waits" in page.text) == (400, True)
    page = await browser.open(codes["verification_uri_complete"])
    assert (page.status_code, "Too many wrong codes" in page.text) == (429, True)
    assert page.headers["Retry-After"] == "60"
    async with browsing(auth.app) as again:
        await again.open(codes["verification_uri_complete"])
        page = await again.sign_in("admin", PASSWORD)
        assert (page.status_code, "Too many wrong codes" in page.text) == (429, True)
        assert 0 < int(page.headers["Retry-After"]) <= 60
        await auth.execute("DELETE FROM failure_counts")
        await again.open(codes["verification_uri_complete"])
        assert codes["user_code"] in again.page.text


async def test_forms_of_others_are_refused(auth: RunningAuth, browser: Browser) -> None:
    """Only a page that this browser was shown decides."""
    codes = await begin(auth)
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    fields = browser.read.forms[0].fields | {"decision": "allow", "form_token": "x"}
    assert (await browser.http.post("/oauth/device", data=fields)).status_code == 400
    assert await error_of(auth, codes["device_code"]) == "authorization_pending"


async def test_people_who_may_not(auth: RunningAuth, browser: Browser) -> None:
    """A device gets no more than the person has, and nothing from a person who was disabled meanwhile."""
    await auth.client("admins", DEVICE_CODE)
    await auth.execute("UPDATE users SET is_admin = :no", no=False)
    codes = await begin(auth, client_id="admins", scope="api:admin api:read")
    await browser.open(codes["verification_uri_complete"])
    await browser.sign_in("admin", PASSWORD)
    assert "administer" not in browser.page.text
    await browser.submit("allow")
    body = (await ask(auth, codes["device_code"], client_id="admins")).json()
    assert (body["scope"], "refresh_token" in body) == ("api:read", False)
    codes = await begin(auth, client_id="admins")
    await browser.open(codes["verification_uri_complete"])
    await browser.submit("allow")
    await auth.execute("UPDATE users SET is_active = :no", no=False)
    assert await error_of(auth, codes["device_code"], client_id="admins") == "invalid_grant"


async def test_bad_requests(auth: RunningAuth) -> None:
    """Each gets the error of the RFC."""
    await auth.client("other", DEVICE_CODE)
    for fields, status, error in (
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"client_id": ""}, 400, "invalid_request"),
        ({"client_id": "codelab-flutter-app"}, 400, "unauthorized_client"),
        ({"scope": "nonsense"}, 400, "invalid_scope"),
        ({"resource": "https://other.example"}, 400, "invalid_target"),
    ):
        answer = await auth.post("/oauth/device_authorization", **({"client_id": TERMINAL_CLIENT_ID} | fields))
        assert (answer.status_code, answer.json()["error"]) == (status, error), fields
    code = (await begin(auth))["device_code"]
    assert await error_of(auth, "unknown") == "invalid_grant"
    assert await error_of(auth, "") == "invalid_request"
    assert await error_of(auth, code, client_id="other") == "invalid_grant"
    assert await error_of(auth, code, client_id="codelab-flutter-app") == "unauthorized_client"


async def test_nothing_is_kept_in_clear(auth: RunningAuth) -> None:
    """The database knows the device code only by its hash."""
    codes = await begin(auth)
    assert codes["device_code"] not in str(await auth.rows("SELECT * FROM device_codes"))


async def test_devices_that_wait_are_bounded(auth: RunningAuth) -> None:
    """An address cannot fill the database with codes that nobody uses."""
    for _ in range(MOST_WAITING):
        await begin(auth)
    refused = await auth.post("/oauth/device_authorization", client_id=TERMINAL_CLIENT_ID)
    assert refused.json()["error"] == "slow_down"
    assert refused.headers["Retry-After"]


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("WDJB-MJHT", "WDJBMJHT"),
        (" wdjb mjht ", "WDJBMJHT"),
        ("WDJB", None),
        ("WDJB-MJHTX", None),
        ("ABCDEFGH", None),
        ("", None),
        ("ＷＤＪＢＭＪＨＴ", None),  # noqa: RUF001 - letters that only look the same
    ],
)
def test_codes_as_people_type_them(shown: str, code: str | None) -> None:
    """Capitals, hyphens and blanks do not matter."""
    assert read_user_code(shown) == code
