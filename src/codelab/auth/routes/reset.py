"""The page on which people choose a new password with a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, get, post

from codelab.auth.forms import parse_parameters
from codelab.auth.pages.front import Front, Page, Visit
from codelab.auth.policy import MIN_PASSWORD_LENGTH, WeakPassword
from codelab.auth.resets import RESET
from codelab.auth.routes.common import origin_of, page, page_form

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.resets import Resets

__all__ = ("create_routes",)


class ResetPages:
    """Show the form behind a link, and take it."""

    def __init__(self, front: Front, resets: Resets) -> None:
        self._front = front
        self._resets = resets

    async def look(self, visit: Visit) -> Page:
        """Show the form, or that the link is not good."""
        return await self._ask(visit, parse_parameters(visit.scope["query_string"]).get("token", ""))

    async def take(self, visit: Visit) -> Page:
        """Set the password."""
        fields = await self._front.fields(visit)
        token, password = fields.get("token", ""), fields.get("password", "")
        if password != fields.get("again", ""):
            return await self._ask(visit, token, "differ")
        try:
            if not await self._resets.use(token, password, origin_of(visit)):
                return await self._ask(visit, token)
        except WeakPassword as error:
            return await self._ask(visit, token, error.flaw)
        return self._front.show(visit, "reset_done")

    async def _ask(self, visit: Visit, token: str, flaw: str | None = None) -> Page:
        user = await self._resets.find(token)
        if user is None:
            return self._front.show(visit, "error", status=400, cause="reset_ended", detail=None)
        return self._front.show(
            visit,
            "reset",
            status=400 if flaw else 200,
            token=token,
            username=user.username,
            flaw=flaw,
            shortest=MIN_PASSWORD_LENGTH,
        )


def create_routes(front: Front, resets: Resets) -> list[HTTPRouteHandler]:
    """Make the routes."""
    pages = ResetPages(front, resets)

    @get(RESET, summary="The page on which people choose a new password", **page("token"))
    async def look(request: Request[Any, Any, Any]) -> Page:
        """Show the page behind a link that an administrator made."""
        return await front.answer(request, pages.look(request))

    @post(RESET, summary="The form of that page", **page_form("form_token", "token", "password", "again"))
    async def take(request: Request[Any, Any, Any]) -> Page:
        """Take the form of that page."""
        return await front.answer(request, pages.take(request))

    return [look, take]
