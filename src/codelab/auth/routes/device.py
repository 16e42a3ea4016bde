"""The device authorization endpoint, and the page on which somebody lets the device in (RFC 8628)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from litestar import Request, Response, get, post

from codelab.auth.forms import parse_parameters
from codelab.auth.pages.front import Front, Page, Purpose, Visit
from codelab.auth.routes.common import answer_form, describe_form, origin_of, page, page_form

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.devices import Devices
    from codelab.auth.repository.browsers import BrowserRecord

__all__ = ("DEVICE", "create_routes")

DEVICE = "/oauth/device"


class DevicePages:
    """Let a person find the device that waits, and decide about it."""

    def __init__(self, front: Front, devices: Devices) -> None:
        self._front = front
        self._devices = devices
        front.purposes[DEVICE] = self._read_purpose

    async def look(self, visit: Visit, query: str) -> Page:
        """Show the page: who is it, which code, or what the device may do."""
        purpose = await self._read_purpose(query)
        browser = await self._front.person(visit)
        if browser is None:
            return self._front.ask_who(visit, purpose)
        shown = parse_parameters(purpose.query.encode()).get("user_code")
        if shown is None:
            return self._ask_code(visit, browser)
        found = await self._devices.find(shown, browser, origin_of(visit))
        if found.device is None:
            return self._ask_code(visit, browser, shown, wrong=not found.wait, wait=found.wait)
        return self._front.show(
            visit,
            "device",
            user_code=f"{found.device.user_code[:4]}-{found.device.user_code[4:]}",
            client=found.device.client_name,
            address=found.device.ip_address,
            program=found.device.user_agent,
            scopes=self._devices.scope_of(found.device, browser).split(),
            username=browser.username,
        )

    async def decide(self, visit: Visit) -> Page:
        """Take a person's decision about a device."""
        fields = await self._front.fields(visit)
        shown = fields.get("user_code", "")
        browser = await self._front.person(visit)
        if browser is None:
            return self._front.ask_who(visit, await self._read_purpose(urlencode({"user_code": shown})))
        found = await self._devices.find(shown, browser, origin_of(visit))
        if found.device is None:
            return self._ask_code(visit, browser, shown, wrong=not found.wait, wait=found.wait)
        allow = fields.get("decision") == "allow"
        if not await self._devices.decide(found.device, browser, origin_of(visit), allow=allow):
            return self._ask_code(visit, browser, shown, wrong=True)
        return self._front.show(visit, "device_done", allowed=allow, client=found.device.client_name)

    def _ask_code(
        self, visit: Visit, browser: BrowserRecord, shown: str = "", *, wrong: bool = False, wait: int = 0
    ) -> Page:
        page = self._front.show(
            visit,
            "device_code",
            status=429 if wait else 400 if wrong else 200,
            user_code=shown[:20],
            wrong=wrong,
            throttled=wait > 0,
            username=browser.username,
        )
        if wait:
            page.headers["Retry-After"] = str(wait)
        return page

    @staticmethod
    async def _read_purpose(query: str) -> Purpose:
        code = parse_parameters(query.encode()).get("user_code")
        kept = urlencode({"user_code": code[:20]}) if code else ""
        return Purpose(path=DEVICE, query=kept, after=kept)


def create_routes(front: Front, devices: Devices) -> list[HTTPRouteHandler]:
    """Make the routes."""
    pages = DevicePages(front, devices)

    @post(
        "/oauth/device_authorization",
        summary="Ask for the codes of a device",
        **describe_form(also=("scope", "resource")),
    )
    async def begin(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        """Give a device its codes (RFC 8628 section 3.1)."""
        return await answer_form(request, devices.begin)

    @get(DEVICE, summary="The page on which people let devices in", **page("user_code"))
    async def look(request: Request[Any, Any, Any]) -> Page:
        """Show the page on which a device is let in, with ``user_code`` the one that has this code."""
        query = request.scope["query_string"].decode(errors="replace")
        return await front.answer(request, pages.look(request, query))

    @post(DEVICE, summary="The form of that page", **page_form("form_token", "user_code", "decision"))
    async def decide(request: Request[Any, Any, Any]) -> Page:
        """Take the form of that page."""
        return await front.answer(request, pages.decide(request))

    return [begin, look, decide]
