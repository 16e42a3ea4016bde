"""The page on which people look after their account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, get, post

from codelab.auth.accounts import FRESH
from codelab.auth.errors import OAuthError, WrongCredentials
from codelab.auth.pages import redirect
from codelab.auth.pages.front import Front, Page, Purpose, Visit
from codelab.auth.people.qr import draw_qr
from codelab.auth.people.totp import show_secret, uri_of
from codelab.auth.personal_tokens import DAYS, PERSONAL_SCOPES
from codelab.auth.policy import MIN_PASSWORD_LENGTH, WeakPassword
from codelab.auth.routes.common import origin_of, page, page_form
from codelab.auth.throttle import Throttled
from codelab.db import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.accounts import Accounts
    from codelab.auth.people.factors import SecondFactors
    from codelab.auth.personal_tokens import PersonalTokens
    from codelab.auth.repository.browsers import BrowserRecord

__all__ = ("create_routes",)

ACCOUNT = "/oauth/account"
FIELDS = ("form_token", "action", "id", "old", "password", "again", "name", "days", "code")
_PURPOSE = Purpose(path=ACCOUNT, query="", after="")


class AccountPages:
    """Show the page, and do what its forms ask for."""

    def __init__(self, front: Front, accounts: Accounts, tokens: PersonalTokens, factors: SecondFactors) -> None:
        self._front = front
        self._accounts = accounts
        self._tokens = tokens
        self._factors = factors
        self._actions: dict[str, Callable[[Visit, BrowserRecord, dict[str, str]], Awaitable[Page | None]]] = {
            "password": self._change_password,
            "end_browser": self._end_browser,
            "end_login": self._end_login,
            "end_all": self._end_all,
            "remove_app": self._remove_app,
            "make_token": self._make_token,
            "end_token": self._end_token,
            "begin_factor": self._begin_factor,
            "confirm_factor": self._confirm_factor,
            "remove_factor": self._remove_factor,
        }
        front.purposes[ACCOUNT] = self._read_purpose

    async def look(self, visit: Visit) -> Page:
        """Show the page, or ask who it is."""
        browser = await self._front.person(visit)
        if browser is None:
            return self._front.ask_who(visit, _PURPOSE)
        return await self._show(visit, browser)

    async def act(self, visit: Visit) -> Page:
        """Do what a form asks for, and show the page again."""
        fields = await self._front.fields(visit)
        browser = await self._front.person(visit)
        if browser is None:
            return self._front.ask_who(visit, _PURPOSE)
        action = self._actions.get(fields.get("action", ""))
        if action is None:
            raise OAuthError("action: is none of this page")
        page = await action(visit, browser, fields)
        return page or redirect(self._front.path(ACCOUNT))

    async def _show(
        self, visit: Visit, browser: BrowserRecord, status: int = 200, done: str | None = None, **values: Any
    ) -> Page:
        found = await self._accounts.look(browser)
        shown = {"flaw": None, "minutes": 0, "token": None, "done": done, "setup": None, "codes": []} | values
        return self._front.show(
            visit,
            "account",
            status=status,
            username=browser.username,
            factor=await self._factors.is_on(browser.user_id),
            here=browser.id,
            browsers=found.browsers,
            logins=found.logins,
            apps=found.apps,
            tokens=found.tokens,
            shortest=MIN_PASSWORD_LENGTH,
            days=DAYS,
            scopes=PERSONAL_SCOPES,
            **shown,
        )

    async def _change_password(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> Page:
        new = fields.get("password", "")
        if new != fields.get("again", ""):
            return await self._show(visit, browser, 400, flaw="differ")
        try:
            await self._accounts.change_password(browser, fields.get("old", ""), new, origin_of(visit))
        except WeakPassword as error:
            return await self._show(visit, browser, 400, flaw=error.flaw)
        except WrongCredentials:
            return await self._show(visit, browser, 403, flaw="wrong")
        except Throttled as error:
            page = await self._show(visit, browser, 429, flaw="wrong", minutes=-(-error.seconds // 60))
            page.headers.update(error.headers)
            return page
        return await self._show(visit, browser, done="password")

    async def _end_browser(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> None:
        await self._accounts.end_browser(browser, fields.get("id", ""), origin_of(visit))

    async def _end_login(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> None:
        await self._accounts.end_login(browser, fields.get("id", ""), origin_of(visit))

    async def _end_all(self, visit: Visit, browser: BrowserRecord, _fields: dict[str, str]) -> None:
        await self._accounts.end_all(browser, origin_of(visit))

    async def _remove_app(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> None:
        await self._accounts.remove_app(browser, fields.get("id", ""), origin_of(visit))

    async def _make_token(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> Page:
        if _is_stale(browser):
            return self._front.ask_who(visit, _PURPOSE, browser.username)
        scopes = [scope for scope in PERSONAL_SCOPES if f"scope {scope}" in fields]
        days = int(fields["days"]) if fields.get("days", "").isdecimal() else 0
        try:
            token = await self._tokens.create(browser.user_id, fields.get("name", ""), scopes, days, origin_of(visit))
        except OAuthError:
            return await self._show(visit, browser, 400, flaw="token")
        return await self._show(visit, browser, token=token, done="token")

    async def _end_token(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> None:
        await self._tokens.end(browser.user_id, fields.get("id", ""), origin_of(visit))

    async def _begin_factor(self, visit: Visit, browser: BrowserRecord, _fields: dict[str, str]) -> Page:
        if _is_stale(browser):
            return self._front.ask_who(visit, _PURPOSE, browser.username)
        return await self._show_setup(visit, browser, await self._factors.begin(browser.user_id))

    async def _confirm_factor(self, visit: Visit, browser: BrowserRecord, fields: dict[str, str]) -> Page | None:
        codes = await self._factors.confirm(browser.user_id, fields.get("code", ""), origin_of(visit))
        if codes is not None:
            return await self._show(visit, browser, codes=codes, done="factor")
        secret = await self._factors.secret_of(browser.user_id)
        return await self._show_setup(visit, browser, secret, failed=True) if secret else None

    async def _remove_factor(self, visit: Visit, browser: BrowserRecord, _fields: dict[str, str]) -> Page | None:
        if _is_stale(browser):
            return self._front.ask_who(visit, _PURPOSE, browser.username)
        await self._factors.remove(browser.user_id, origin_of(visit))
        return None

    async def _show_setup(self, visit: Visit, browser: BrowserRecord, secret: bytes, *, failed: bool = False) -> Page:
        setup = {"qr": draw_qr(uri_of(secret, browser.username, "codelab")), "secret": show_secret(secret)}
        return await self._show(visit, browser, 400 if failed else 200, setup=setup, flaw="code" if failed else None)

    @staticmethod
    async def _read_purpose(_query: str) -> Purpose:
        return _PURPOSE


def _is_stale(browser: BrowserRecord) -> bool:
    return now() - browser.auth_time > FRESH


def create_routes(
    front: Front, accounts: Accounts, tokens: PersonalTokens, factors: SecondFactors
) -> list[HTTPRouteHandler]:
    """Make the routes."""
    pages = AccountPages(front, accounts, tokens, factors)

    @get(ACCOUNT, summary="The page on which people look after their account", **page())
    async def look(request: Request[Any, Any, Any]) -> Page:
        """Show the account of who is signed in."""
        return await front.answer(request, pages.look(request))

    @post(ACCOUNT, summary="The forms of that page", **page_form(*FIELDS))
    async def act(request: Request[Any, Any, Any]) -> Page:
        """Take a form of that page; ``action`` says which."""
        return await front.answer(request, pages.act(request))

    return [look, act]
