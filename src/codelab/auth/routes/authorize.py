"""The authorization endpoint and the page on which people agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from litestar import Request, get, post

from codelab.auth.authorize.request import Refused, Unproven, after_sign_in, to_sign_in_again
from codelab.auth.authorize.service import Step
from codelab.auth.documents import is_document_url
from codelab.auth.pages import redirect
from codelab.auth.pages.front import Front, Page, Purpose, Visit
from codelab.auth.redirects import describe_problem, is_native, source_of
from codelab.auth.routes.common import origin_of, page, page_form

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from litestar.handlers import HTTPRouteHandler

    from codelab.auth.authorize.request import AuthorizationRequest
    from codelab.auth.authorize.service import Authorizing
    from codelab.auth.documents import ClientDocuments
    from codelab.auth.repository.browsers import BrowserRecord

__all__ = ("create_routes",)

AUTHORIZE = "/oauth/authorize"
#: Parameters of a request (RFC 6749 section 4.1.1, RFC 7636, RFC 8707, OpenID Connect Core section 3.1.2.1).
PARAMETERS = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "nonce",
    "prompt",
    "max_age",
    "login_hint",
    "response_mode",
)
_SIGN_IN = ("form_token", "goes_on", "query")
#: Characters of a query that is kept in a form; browsers and proxies take little more.
MAX_QUERY = 8000


class AuthorizePages:
    """Lead a person and their browser through an authorization request."""

    def __init__(self, front: Front, authorizing: Authorizing, documents: ClientDocuments) -> None:
        self._front = front
        self._documents = documents
        self._authorizing = authorizing
        front.purposes[AUTHORIZE] = self._read_purpose

    async def authorize(self, visit: Visit, query: str) -> Page:
        """Answer a request: with a page, or by sending the browser on."""
        browser = await self._front.person(visit)
        if browser is None and (stranger := await self._read_stranger(query)) is not None:
            return self._front.ask_who(visit, stranger)
        asked = await self._read(visit, query)
        step = await self._authorizing.next_step(asked, browser)
        if browser is None or step is Step.SIGN_IN:
            return self._front.ask_who(visit, _purpose(asked))
        if step is Step.CONSENT:
            return self._ask_consent(visit, asked, browser)
        return redirect(await self._authorizing.allow(asked, browser, origin_of(visit), asked=False))

    async def turn_into_link(self, visit: Visit) -> Page:
        """Send a browser that came with a request as a form on to the same with GET."""
        await self._front.read_form(visit)
        # Written anew: what is in a body need not be fit for a header.
        query = urlencode(parse_qsl((await visit.body()).decode(errors="replace")))
        return redirect(f"{self._front.path(AUTHORIZE)}?{query}")

    async def consent(self, visit: Visit) -> Page:
        """Take a person's decision about a request."""
        fields = await self._front.fields(visit)
        query, browser = fields.get("query", ""), await self._front.person(visit)
        if browser is None and (stranger := await self._read_stranger(query)) is not None:
            return self._front.ask_who(visit, stranger)
        asked = await self._read(visit, query)
        if browser is None or await self._authorizing.next_step(asked, browser) is Step.SIGN_IN:
            return self._front.ask_who(visit, _purpose(asked))
        if fields.get("decision") != "allow":
            return redirect(await self._authorizing.deny(asked, browser, origin_of(visit)))
        return redirect(await self._authorizing.allow(asked, browser, origin_of(visit), asked=True))

    async def answer(self, work: Awaitable[Page]) -> Page:
        """Answer to the client what is wrong, where it is proven who that is."""
        try:
            return await work
        except Refused as error:
            return redirect(self._authorizing.answer_refusal(error))

    async def _read(self, visit: Visit, query: str) -> AuthorizationRequest:
        """Read the request of a person, fetching the document of a client that is known by one."""
        _check_length(query)
        client_id = _parameter(query, "client_id")
        if client_id is not None and await self._documents.has_to_be_read(client_id):
            await self._documents.read(client_id, origin_of(visit))
        return await self._authorizing.read(query)

    async def _read_stranger(self, query: str) -> Purpose | None:
        """Let somebody sign in before the document of their client is fetched; None when it need not be.

        Otherwise anybody could make the server fetch whatever they like.
        """
        _check_length(query)
        if not await self._documents.has_to_be_read(_parameter(query, "client_id")):
            return None
        if "none" in (_parameter(query, "prompt") or "").split():
            raise Unproven("client_id names no client that is known without asking", code="unknown_client")
        redirect_uri = _parameter(query, "redirect_uri") or ""
        # Nothing is proven yet; the page has to let the browser follow when it turns out to be right.
        goes_to = () if describe_problem(redirect_uri) else (source_of(redirect_uri),)
        after = after_sign_in(query)
        return Purpose(path=AUTHORIZE, query=query, after=after, goes_to=goes_to)

    async def _read_purpose(self, query: str) -> Purpose:
        _check_length(query)
        return await self._read_stranger(query) or _purpose(await self._authorizing.read(query))

    def _ask_consent(self, visit: Visit, asked: AuthorizationRequest, browser: BrowserRecord) -> Page:
        parts = urlsplit(asked.redirect_uri)
        place = "goes_to"
        if is_native(asked.redirect_uri):
            place = "goes_to_here" if parts.scheme == "http" else "goes_to_app"
        return self._front.show(
            visit,
            "consent",
            goes_to=[source_of(asked.redirect_uri)],
            query=asked.query,
            client=asked.client.name,
            scopes=self._authorizing.scope_of(asked, browser).split(),
            place=place,
            host=parts.netloc or f"{parts.scheme}:",
            self_registered=asked.client.is_registered,
            described_at=urlsplit(asked.client.client_id).netloc if is_document_url(asked.client.client_id) else None,
            username=browser.username,
            other=f"{self._front.path(AUTHORIZE)}?{to_sign_in_again(asked.query)}",
        )


def _check_length(query: str) -> None:
    if len(query) > MAX_QUERY:
        raise Unproven(f"the query is longer than {MAX_QUERY} characters", code="unreadable")


def _parameter(query: str, name: str) -> str | None:
    """Return a parameter that occurs once."""
    values = [value for found, value in parse_qsl(query) if found == name]
    return values[0] if len(values) == 1 else None


def _purpose(asked: AuthorizationRequest) -> Purpose:
    return Purpose(
        path=AUTHORIZE,
        query=asked.query,
        after=after_sign_in(asked.query),
        client=(asked.client.client_id, asked.client.name),
        username=asked.login_hint or "",
        goes_to=(source_of(asked.redirect_uri),),
    )


def create_routes(front: Front, authorizing: Authorizing, documents: ClientDocuments) -> list[HTTPRouteHandler]:
    """Make the routes, and the one on which people sign in for them."""
    pages = AuthorizePages(front, authorizing, documents)

    async def answer(visit: Visit, work: Awaitable[Page]) -> Page:
        return await front.answer(visit, pages.answer(work))

    @get(AUTHORIZE, summary="Ask a person to let a client in", **page(*PARAMETERS))
    async def authorize(request: Request[Any, Any, Any]) -> Page:
        """Answer an authorization request (RFC 6749 section 4.1.1)."""
        query = request.scope["query_string"].decode(errors="replace")
        return await answer(request, pages.authorize(request, query))

    @post(AUTHORIZE, summary="The same, as a form", **page_form(*PARAMETERS))
    async def authorize_by_form(request: Request[Any, Any, Any]) -> Page:
        """Answer a request that came as a form (OpenID Connect Core section 3.1.2.1) as the same with GET.

        The cookie is not sent with a form of another site, but with the link that it is turned into.
        """
        return await answer(request, pages.turn_into_link(request))

    @post(
        "/oauth/sign-in",
        summary="The form of the page on which people sign in",
        **page_form(*_SIGN_IN, "username", "password"),
    )
    async def sign_in(request: Request[Any, Any, Any]) -> Page:
        """Take the form of the page that asks who it is."""
        return await answer(request, front.sign_in(request))

    @post(
        "/oauth/second-factor",
        summary="The form of the page that asks for a second factor",
        **page_form(*_SIGN_IN, "sealed", "code"),
    )
    async def second_factor(request: Request[Any, Any, Any]) -> Page:
        """Take the form of the page that asks for a code."""
        return await answer(request, front.show_factor(request))

    @post(
        "/oauth/consent",
        summary="The form of the page on which people agree",
        **page_form("form_token", "query", "decision"),
    )
    async def consent(request: Request[Any, Any, Any]) -> Page:
        """Take the form of the page that asks whether a client may."""
        return await answer(request, pages.consent(request))

    return [authorize, authorize_by_form, sign_in, second_factor, consent]
