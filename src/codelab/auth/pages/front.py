"""What all pages do: know the browser, read forms, sign people in, and say what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litestar import Request, Response

from codelab.auth.authorize.request import Unproven
from codelab.auth.browsers import ForgedForm, form_token
from codelab.auth.errors import OAuthError, WrongCredentials
from codelab.auth.forms import parse_form
from codelab.auth.logins import SecondFactorNeeded
from codelab.auth.pages import redirect
from codelab.auth.passwords import MAX_PASSWORD_BYTES
from codelab.auth.people.factors import Restart
from codelab.auth.routes.common import origin_of
from codelab.auth.throttle import Throttled
from codelab.problems import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.auth.browsers import Browsers
    from codelab.auth.logins import Logins
    from codelab.auth.pages import Pages
    from codelab.auth.people.factors import SecondFactors
    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.repository.users import UserRecord

__all__ = ("Front", "Page", "Purpose", "Visit")

Page = Response[bytes]
Visit = Request[Any, Any, Any]


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """Say what somebody signs in for: the page at ``path`` and its query, and where that page leads afterwards.

    ``after`` is its query once the person has signed in. ``client`` is the program that they came from, by id and name.
    """

    path: str
    query: str
    after: str
    client: tuple[str, str] | None = None
    username: str = ""
    goes_to: tuple[str, ...] = ()


class Front:
    """Show pages; ``purposes`` read a query for each page that people sign in for."""

    def __init__(self, pages: Pages, browsers: Browsers, logins: Logins, factors: SecondFactors) -> None:
        self._pages = pages
        self._browsers = browsers
        self._logins = logins
        self._factors = factors
        self.purposes: dict[str, Callable[[str], Awaitable[Purpose]]] = {}

    def show(self, visit: Visit, name: str, **values: Any) -> Page:
        """Render a page in the language of the browser, with what its forms have to show."""
        cookie = visit.cookies.get(self._browsers.cookie_name)
        # A form proves that it came from here by a cookie, which a browser that was never here lacks.
        made = None if cookie else self._browsers.new_cookie()
        return self._pages.render(
            name,
            visit.headers.get("accept-language"),
            cookies=[self._browsers.cookie(made)] if made else [],
            form_token=form_token(cookie or made or ""),
            **values,
        )

    def path(self, path: str) -> str:
        """Return a path of this server as browsers know it."""
        return self._pages.path(path)

    async def person(self, visit: Visit) -> BrowserRecord | None:
        """Return who is signed in with this browser, None when nobody is."""
        return await self._browsers.find(visit.cookies.get(self._browsers.cookie_name))

    async def fields(self, visit: Visit) -> dict[str, str]:
        """Read a form that a page of ours made for this browser.

        Raises:
            OAuthError: it is no form.
            ForgedForm: it is somebody else's.
        """
        fields = await self.read_form(visit)
        self._browsers.check_form(visit.cookies.get(self._browsers.cookie_name), fields.get("form_token"))
        return fields

    @staticmethod
    async def read_form(visit: Visit) -> dict[str, str]:
        """Read a form from anywhere.

        Raises:
            OAuthError: it is no form.
        """
        return parse_form(visit.headers.get("content-type"), await visit.body())

    def ask_who(
        self, visit: Visit, purpose: Purpose, username: str | None = None, failed: OAuthError | None = None
    ) -> Page:
        """Show the page on which people sign in."""
        wait = failed.seconds if isinstance(failed, Throttled) else 0
        page = self.show(
            visit,
            "sign_in",
            # RFC 9110: 401 would need a challenge, with which browsers ask for a password in a window of their own.
            status=429 if wait else 403 if failed else 200,
            goes_to=purpose.goes_to,
            goes_on=purpose.path,
            query=purpose.query,
            client=purpose.client[1] if purpose.client else None,
            username=purpose.username if username is None else username,
            failed=failed is not None,
            minutes=-(-wait // 60),
        )
        if failed is not None and wait:
            page.headers.update(failed.headers)
        return page

    async def sign_in(self, visit: Visit) -> Page:
        """Sign somebody in and go on with what they came for, or ask for their second factor first."""
        fields = await self.fields(visit)
        purpose = await self._purpose_of(fields)
        username, password = fields.get("username", ""), fields.get("password", "")
        cookie, keep = self._begin(visit)
        client_id = purpose.client[0] if purpose.client else None
        try:
            if not username or not password or len(password.encode()) > MAX_PASSWORD_BYTES:
                raise WrongCredentials
            await self._logins.log_in(username, password, client_id, origin_of(visit), keep, with_browser=True)
        except SecondFactorNeeded as needed:
            return self._ask_factor(visit, purpose, self._factors.seal(needed.user))
        except (WrongCredentials, Throttled) as error:
            return self.ask_who(visit, purpose, username, error)
        return redirect(f"{self.path(purpose.path)}?{purpose.after}", [self._browsers.cookie(cookie)])

    async def show_factor(self, visit: Visit) -> Page:
        """Sign somebody in whose password was right, with their second factor."""
        fields = await self.fields(visit)
        purpose = await self._purpose_of(fields)
        cookie, keep = self._begin(visit)
        client_id, sealed = purpose.client[0] if purpose.client else None, fields.get("sealed", "")
        try:
            await self._factors.prove(sealed, fields.get("code", ""), client_id, origin_of(visit), keep)
        except (WrongCredentials, Throttled) as error:
            return self._ask_factor(visit, purpose, sealed, error)
        except Restart:
            return self.ask_who(visit, purpose)
        return redirect(f"{self.path(purpose.path)}?{purpose.after}", [self._browsers.cookie(cookie)])

    async def _purpose_of(self, fields: dict[str, str]) -> Purpose:
        read = self.purposes.get(fields.get("goes_on", ""))
        if read is None:
            raise OAuthError("goes_on: names no page")
        return await read(fields.get("query", ""))

    def _begin(self, visit: Visit) -> tuple[str, Callable[[AsyncSession, UserRecord, datetime], Awaitable[None]]]:
        cookie, origin = self._browsers.new_cookie(), origin_of(visit)
        old_cookie = visit.cookies.get(self._browsers.cookie_name, "")

        async def keep(session: AsyncSession, user: UserRecord, at: datetime) -> None:
            await self._browsers.sign_in(session, user.id, cookie, old_cookie, origin, at)

        return cookie, keep

    def _ask_factor(self, visit: Visit, purpose: Purpose, sealed: str, failed: OAuthError | None = None) -> Page:
        wait = failed.seconds if isinstance(failed, Throttled) else 0
        page = self.show(
            visit,
            "second_factor",
            status=429 if wait else 403 if failed else 200,
            goes_to=purpose.goes_to,
            goes_on=purpose.path,
            query=purpose.query,
            sealed=sealed,
            failed=failed is not None,
            minutes=-(-wait // 60),
        )
        if failed is not None and wait:
            page.headers.update(failed.headers)
        return page

    async def answer(self, visit: Visit, work: Awaitable[Page]) -> Page:
        """Answer with a page what goes wrong too."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - a person gets a page, whatever it is; `describe` logs bugs
            return self._refuse(visit, error)

    def _refuse(self, visit: Visit, error: Exception) -> Page:
        known = describe(error)
        cause = "other"
        if isinstance(error, Unproven):
            cause = error.code
        elif isinstance(error, ForgedForm):
            cause = "forged_form"
        elif known.status < 500:
            cause = "unreadable"
        detail = known.detail if isinstance(error, OAuthError) and cause != "forged_form" else None
        page = self.show(visit, "error", status=known.status, cause=f"error_{cause}", detail=detail)
        page.headers.update(known.headers)
        return page
