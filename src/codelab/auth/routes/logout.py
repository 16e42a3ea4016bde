"""Signing out, also when a client asks for it (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, get, post

from codelab.auth.forms import parse_parameters
from codelab.auth.pages.front import Front, Page, Visit
from codelab.auth.routes.common import PAGE, PAGE_FORM, origin_of

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.accounts import Accounts
    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.tokens import AccessTokens

__all__ = ("LOGOUT", "create_routes")

LOGOUT = "/oauth/logout"


class LogoutPages:
    """Sign people out: at once when the ID token is theirs, else after they have agreed (section 2)."""

    def __init__(self, front: Front, accounts: Accounts, tokens: AccessTokens) -> None:
        self._front = front
        self._accounts = accounts
        self._tokens = tokens

    async def ask(self, visit: Visit, fields: dict[str, str]) -> Page:
        """Answer a request of a client, or of a person."""
        browser = await self._front.person(visit)
        if browser is None:
            return self._front.show(visit, "logged_out")
        if self._tokens.subject_of_hint(fields.get("id_token_hint", "")) == browser.user_id:
            return await self._end(visit, browser)
        return self._front.show(visit, "logout", username=browser.username)

    async def take(self, visit: Visit) -> Page:
        """Take the form of the page, or a client's request that came as a form."""
        fields = await self._front.read_form(visit)
        if "form_token" not in fields:
            return await self.ask(visit, fields)
        await self._front.fields(visit)
        browser = await self._front.person(visit)
        return await self._end(visit, browser) if browser else self._front.show(visit, "logged_out")

    async def _end(self, visit: Visit, browser: BrowserRecord) -> Page:
        await self._accounts.end_browser(browser, browser.id, origin_of(visit))
        return self._front.show(visit, "logged_out")


def create_routes(front: Front, accounts: Accounts, tokens: AccessTokens) -> list[HTTPRouteHandler]:
    """Make the routes."""
    pages = LogoutPages(front, accounts, tokens)

    async def look(visit: Visit) -> Page:
        return await pages.ask(visit, parse_parameters(visit.scope["query_string"]))

    @get(LOGOUT, summary="Sign out", **PAGE)
    async def ask(request: Request[Any, Any, Any]) -> Page:
        """Sign out who comes with an ID token of theirs, and ask others (RP-Initiated Logout)."""
        return await front.answer(request, look(request))

    @post(LOGOUT, summary="The same, as a form", **PAGE_FORM)
    async def take(request: Request[Any, Any, Any]) -> Page:
        """Take the form of that page, or of a client."""
        return await front.answer(request, pages.take(request))

    return [ask, take]
