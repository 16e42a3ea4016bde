"""Signing out, also when a client asks for it (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, get, post

from codelab.auth.forms import parse_parameters
from codelab.auth.pages import redirect
from codelab.auth.pages.front import Front, Page, Visit
from codelab.auth.redirects import source_of
from codelab.auth.routes.common import origin_of, page, page_form

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.accounts import Accounts
    from codelab.auth.logouts import Logout, Logouts
    from codelab.auth.repository.browsers import BrowserRecord

__all__ = ("LOGOUT", "create_routes")

LOGOUT = "/oauth/logout"
#: Parameters of a request (section 2).
PARAMETERS = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")


class LogoutPages:
    """Sign people out: at once when the ID token is theirs, else after they have agreed (section 2)."""

    def __init__(self, front: Front, accounts: Accounts, logouts: Logouts) -> None:
        self._front = front
        self._accounts = accounts
        self._logouts = logouts

    async def ask(self, visit: Visit, fields: dict[str, str]) -> Page:
        """Answer a request of a client, or of a person."""
        wanted = await self._logouts.read(fields)
        browser = await self._front.person(visit)
        if browser is None or wanted.subject == browser.user_id:
            return await self._end(visit, browser, wanted)
        goes_to = [source_of(wanted.redirect_uri)] if wanted.redirect_uri else []
        return self._front.show(visit, "logout", username=browser.username, passed=wanted.passed, goes_to=goes_to)

    async def take(self, visit: Visit) -> Page:
        """Take the form of the page, or a client's request that came as a form."""
        fields = await self._front.read_form(visit)
        if "form_token" not in fields:
            return await self.ask(visit, fields)
        await self._front.fields(visit)
        return await self._end(visit, await self._front.person(visit), await self._logouts.read(fields))

    async def _end(self, visit: Visit, browser: BrowserRecord | None, wanted: Logout) -> Page:
        if browser is not None:
            await self._accounts.end_browser(browser, browser.id, origin_of(visit))
        return redirect(wanted.url) if wanted.url else self._front.show(visit, "logged_out")


def create_routes(front: Front, accounts: Accounts, logouts: Logouts) -> list[HTTPRouteHandler]:
    """Make the routes."""
    pages = LogoutPages(front, accounts, logouts)

    async def look(visit: Visit) -> Page:
        return await pages.ask(visit, parse_parameters(visit.scope["query_string"]))

    @get(LOGOUT, summary="Sign out", **page(*PARAMETERS))
    async def ask(request: Request[Any, Any, Any]) -> Page:
        """Sign out who comes with an ID token of theirs, and ask others (RP-Initiated Logout)."""
        return await front.answer(request, look(request))

    @post(LOGOUT, summary="The same, as a form", **page_form("form_token", *PARAMETERS))
    async def take(request: Request[Any, Any, Any]) -> Page:
        """Take the form of that page, or of a client."""
        return await front.answer(request, pages.take(request))

    return [ask, take]
