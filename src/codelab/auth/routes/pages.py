"""Where people come by with a browser: the authorization endpoint, signing in, and agreeing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from litestar import Request, Response, get, post
from litestar.datastructures import CacheControlHeader

from codelab.auth.authorize.request import Refused, Unproven, after_sign_in, to_sign_in_again
from codelab.auth.authorize.service import Step
from codelab.auth.browsers import ForgedForm, form_token
from codelab.auth.errors import OAuthError, WrongCredentials
from codelab.auth.forms import MAX_FORM_BYTES, parse_form
from codelab.auth.middleware import EXCLUDE
from codelab.auth.pages import STYLE, redirect
from codelab.auth.passwords import MAX_PASSWORD_BYTES
from codelab.auth.redirects import is_native, source_of
from codelab.auth.routes.common import origin_of
from codelab.problems import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from litestar.handlers import HTTPRouteHandler
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.authorize.request import AuthorizationRequest
    from codelab.auth.authorize.service import Authorizing
    from codelab.auth.browsers import Browsers
    from codelab.auth.logins import Logins
    from codelab.auth.pages import Pages
    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.repository.users import UserRecord

__all__ = ("AUTHORIZE", "Front", "create_routes")

AUTHORIZE = "/oauth/authorize"
#: Bytes of a query that is kept in a form; browsers and proxies take little more.
MAX_QUERY = 8000

Page = Response[bytes]


class Front:
    """Show pages, and take what their forms send."""

    def __init__(self, pages: Pages, browsers: Browsers, logins: Logins, authorizing: Authorizing) -> None:
        self._pages = pages
        self._browsers = browsers
        self._logins = logins
        self._authorizing = authorizing

    async def authorize(self, request: Request[Any, Any, Any], query: str) -> Page:
        """Answer an authorization request: with a page, or by sending the browser on."""
        asked = await self._read(query)
        browser = await self._browsers.find(self._cookie(request))
        return await self._go_on(request, asked, browser)

    async def turn_into_link(self, request: Request[Any, Any, Any]) -> Page:
        """Send a browser that came with a request as a form on to the same with GET."""
        await self._fields(request)
        query = (await request.body()).decode(errors="replace")
        return redirect(f"{self._pages.path(AUTHORIZE)}?{query}")

    async def sign_in(self, request: Request[Any, Any, Any]) -> Page:
        """Sign somebody in and go on with what they came for."""
        fields = await self._fields(request)
        old_cookie = self._browsers.check_form(self._cookie(request), fields.get("form_token"))
        query, username = fields.get("query", ""), fields.get("username", "")
        password = fields.get("password", "")
        asked = await self._read(query)
        cookie, origin = self._browsers.new_cookie(), origin_of(request)

        async def keep(session: AsyncSession, user: UserRecord, at: datetime) -> None:
            await self._browsers.sign_in(session, user.id, cookie, old_cookie, origin, at)

        try:
            if not username or not password or len(password.encode()) > MAX_PASSWORD_BYTES:
                raise WrongCredentials
            await self._logins.log_in(username, password, asked.client.client_id, origin, keep, with_browser=True)
        except WrongCredentials:
            return self._ask_who(request, asked, username, failed=True)
        on = f"{self._pages.path(AUTHORIZE)}?{after_sign_in(query)}"
        return redirect(on, [self._browsers.cookie(cookie)])

    async def consent(self, request: Request[Any, Any, Any]) -> Page:
        """Take a person's decision about a request."""
        fields = await self._fields(request)
        cookie = self._browsers.check_form(self._cookie(request), fields.get("form_token"))
        asked = await self._read(fields.get("query", ""))
        browser = await self._browsers.find(cookie)
        if browser is None or await self._authorizing.next_step(asked, browser) is Step.SIGN_IN:
            return self._ask_who(request, asked)
        if fields.get("decision") != "allow":
            return redirect(await self._authorizing.deny(asked, browser, origin_of(request)))
        return redirect(await self._authorizing.allow(asked, browser, origin_of(request), asked=True))

    async def answer(self, request: Request[Any, Any, Any], work: Awaitable[Page]) -> Page:
        """Answer what goes wrong too: to the client where it is proven where that is, else with a page."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - a person gets a page, whatever it is; `describe` logs bugs
            return self._refuse(request, error)

    def _refuse(self, request: Request[Any, Any, Any], error: Exception) -> Page:
        if isinstance(error, Refused):
            return redirect(self._authorizing.answer_refusal(error))
        known = describe(error)
        cause = "other"
        if isinstance(error, Unproven):
            cause = error.code
        elif isinstance(error, ForgedForm):
            cause = "forged_form"
        elif known.status < 500:
            cause = "unreadable"
        page = self._pages.render(
            "error",
            request.headers.get("accept-language"),
            status=known.status,
            cause=f"error_{cause}",
            detail=known.detail if isinstance(error, OAuthError) and cause != "forged_form" else None,
        )
        page.headers.update(known.headers)
        return page

    @staticmethod
    async def _fields(request: Request[Any, Any, Any]) -> dict[str, str]:
        return parse_form(request.headers.get("content-type"), await request.body())

    async def _read(self, query: str) -> AuthorizationRequest:
        if len(query) > MAX_QUERY:
            raise Unproven(f"the query is longer than {MAX_QUERY} characters", code="unreadable")
        return await self._authorizing.read(query)

    async def _go_on(
        self, request: Request[Any, Any, Any], asked: AuthorizationRequest, browser: BrowserRecord | None
    ) -> Page:
        step = await self._authorizing.next_step(asked, browser)
        if browser is None or step is Step.SIGN_IN:
            return self._ask_who(request, asked)
        if step is Step.CONSENT:
            return self._ask_consent(request, asked, browser)
        return redirect(await self._authorizing.allow(asked, browser, origin_of(request), asked=False))

    def _cookie(self, request: Request[Any, Any, Any]) -> str | None:
        return request.cookies.get(self._browsers.cookie_name)

    def _ask_who(
        self,
        request: Request[Any, Any, Any],
        asked: AuthorizationRequest,
        username: str | None = None,
        *,
        failed: bool = False,
    ) -> Page:
        cookie = self._cookie(request)
        # The form proves that it came from here by a cookie, which a browser that was never here lacks.
        made = None if cookie else self._browsers.new_cookie()
        return self._pages.render(
            "sign_in",
            request.headers.get("accept-language"),
            # RFC 9110: 401 would need a challenge, with which browsers ask for a password in a window of their own.
            status=403 if failed else 200,
            goes_to=[source_of(asked.redirect_uri)],
            cookies=[self._browsers.cookie(made)] if made else [],
            form_token=form_token(cookie or made or ""),
            query=asked.query,
            client=asked.client.name,
            username=(asked.login_hint if username is None else username) or "",
            failed=failed,
        )

    def _ask_consent(
        self, request: Request[Any, Any, Any], asked: AuthorizationRequest, browser: BrowserRecord
    ) -> Page:
        parts = urlsplit(asked.redirect_uri)
        place = "goes_to"
        if is_native(asked.redirect_uri):
            place = "goes_to_here" if parts.scheme == "http" else "goes_to_app"
        return self._pages.render(
            "consent",
            request.headers.get("accept-language"),
            goes_to=[source_of(asked.redirect_uri)],
            form_token=form_token(self._cookie(request) or ""),
            query=asked.query,
            client=asked.client.name,
            scopes=self._authorizing.scope_of(asked, browser).split(),
            place=place,
            host=parts.netloc or f"{parts.scheme}:",
            self_registered=asked.client.is_registered,
            username=browser.username,
            other=f"{self._pages.path(AUTHORIZE)}?{to_sign_in_again(asked.query)}",
        )


def create_routes(front: Front) -> list[HTTPRouteHandler]:
    """Make the routes."""
    page: dict[str, Any] = {"opt": {EXCLUDE: True}, "include_in_schema": False}
    form: dict[str, Any] = {**page, "status_code": 200, "request_max_body_size": MAX_FORM_BYTES}

    @get(AUTHORIZE, **page)
    async def authorize(request: Request[Any, Any, Any]) -> Page:
        """Answer an authorization request (RFC 6749 section 4.1.1)."""
        query = request.scope["query_string"].decode(errors="replace")
        return await front.answer(request, front.authorize(request, query))

    @post(AUTHORIZE, **form)
    async def authorize_by_form(request: Request[Any, Any, Any]) -> Page:
        """Answer a request that came as a form (OpenID Connect Core section 3.1.2.1) as the same with GET.

        The cookie is not sent with a form of another site, but with the link that it is turned into.
        """
        return await front.answer(request, front.turn_into_link(request))

    @post("/oauth/sign-in", **form)
    async def sign_in(request: Request[Any, Any, Any]) -> Page:
        """Take the form of the page that asks who it is."""
        return await front.answer(request, front.sign_in(request))

    @post("/oauth/consent", **form)
    async def consent(request: Request[Any, Any, Any]) -> Page:
        """Take the form of the page that asks whether a client may."""
        return await front.answer(request, front.consent(request))

    @get(
        "/oauth/style.css",
        media_type="text/css",
        sync_to_thread=False,
        cache_control=CacheControlHeader(public=True, max_age=3600),
        **page,
    )
    def style() -> bytes:
        """Send the stylesheet."""
        return STYLE

    return [authorize, authorize_by_form, sign_in, consent, style]
