"""A browser without scripts: it keeps cookies, follows redirects, sends forms, and obeys ``form-action``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litestar import Litestar

__all__ = ("Browser", "Form", "browsing", "query_of")


class Form:
    """A form of a page: where it goes, and what its fields hold."""

    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        self.fields: dict[str, str] = {}
        self.buttons: list[tuple[str | None, str]] = []


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "form":
            self.forms.append(Form(values["action"], values["method"]))
        elif tag == "a":
            self.links.append(values["href"])
        elif tag == "input" and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "button":
            self.forms[-1].buttons.append((values.get("name"), values.get("value", "")))


class Browser:
    """One person's browser; ``left`` is the URL with which it was sent away from the server."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.left: str | None = None
        self.page: httpx2.Response
        self.seen: list[httpx2.Response] = []

    @property
    def read(self) -> _Reader:
        """The page that it shows."""
        reader = _Reader()
        reader.feed(self.page.text)
        return reader

    async def open(self, url: str, **headers: str) -> httpx2.Response:
        """Go to a URL."""
        self.left = None
        return await self._go(await self.http.get(url, headers=headers), None)

    async def submit(self, decision: str | None = None, **fields: str) -> httpx2.Response:
        """Fill the form of the page in, and press its only button or the one with this value."""
        (form,) = self.read.forms
        pressed = {name: value for name, value in form.buttons if name and value == decision}
        assert (not decision) or pressed, f"no such button: {decision}"
        allowed = self._form_action()
        sent = form.fields | pressed | fields
        if form.method == "get":
            answer = await self.http.get(form.action, params=sent)
        else:
            answer = await self.http.post(form.action, data=sent)
        return await self._go(answer, allowed)

    async def sign_in(self, username: str, password: str) -> httpx2.Response:
        """Fill in the page that asks who it is."""
        return await self.submit(username=username, password=password)

    def _form_action(self) -> list[str]:
        policy = dict(
            part.strip().partition(" ")[::2] for part in self.page.headers["Content-Security-Policy"].split(";")
        )
        return policy["form-action"].split()

    async def _go(self, answer: httpx2.Response, form_action: list[str] | None) -> httpx2.Response:
        for _ in range(10):
            self.seen.append(answer)
            if not answer.is_redirect:
                self.page = answer
                return answer
            assert answer.status_code == 303
            url = urljoin(str(answer.url), answer.headers["Location"])
            parts, own = urlsplit(url), urlsplit(str(self.http.base_url))
            if (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
                # Browsers hold each redirect that follows a form against the policy of the page.
                sources = {f"{parts.scheme}:", f"{parts.scheme}://{parts.netloc}"}
                assert form_action is None or sources & set(form_action), f"{url} is blocked by {form_action}"
                self.left = url
                return answer
            answer = await self.http.get(url)
        raise AssertionError("it goes round in circles")


def query_of(url: str | None) -> dict[str, str]:
    """Read the query of a URL, in which every parameter occurs once."""
    assert url is not None
    found = parse_qs(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values()), found
    return {name: values[0] for name, values in found.items()}


@asynccontextmanager
async def browsing(app: Litestar, origin: str = "http://127.0.0.1:8000") -> AsyncIterator[Browser]:
    """Give a browser with no cookies that calls an application in process."""
    transport = httpx2.ASGITransport(cast("Any", app))  # the two libraries type ASGI in their own ways
    async with httpx2.AsyncClient(transport=transport, base_url=origin) as http:
        yield Browser(http)
