"""The pages that people see: rendered here, without scripts, in English and Russian."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from litestar import Response

from codelab.auth.pages.texts import choose_language, say

if TYPE_CHECKING:
    from collections.abc import Collection

    from jinja2 import Environment
    from litestar.datastructures import Cookie

__all__ = ("STYLE", "Pages", "redirect")

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
_VARY = "Accept-Language, Cookie"
#: The one stylesheet.
STYLE = files("codelab.auth.pages").joinpath("style.css").read_bytes()


class Pages:
    """Render pages; ``issuer`` may have a path, below which all links are."""

    def __init__(self, issuer: str) -> None:
        self._base = urlsplit(issuer).path.rstrip("/")

    @cached_property
    def _templates(self) -> Environment:
        # A server whose people never see a page does without the library.
        from jinja2 import Environment, PackageLoader, StrictUndefined

        return Environment(loader=PackageLoader("codelab.auth.pages"), autoescape=True, undefined=StrictUndefined)

    def render(
        self,
        name: str,
        languages: str | None,
        *,
        status: int = 200,
        goes_to: Collection[str] = (),
        cookies: Collection[Cookie] = (),
        **values: Any,
    ) -> Response[bytes]:
        """Render a page.

        ``languages`` is the ``Accept-Language`` of the browser. ``goes_to`` are the sources, beside this server, that
        may get what a form of the page leads to: browsers hold redirects against ``form-action`` too.
        """
        language = choose_language(languages)
        template = self._templates.get_template(f"{name}.html")
        page = template.render(
            base=self._base, language=language, say=lambda key, **parts: say(language, key, **parts), **values
        )
        policy = " ".join([f"{_POLICY}; form-action 'self'", *goes_to])
        return Response(
            page.encode(),
            status_code=status,
            media_type="text/html; charset=utf-8",
            headers={**_HEADERS, "Content-Security-Policy": policy, "Content-Language": language, "Vary": _VARY},
            cookies=list(cookies),
        )

    def path(self, path: str) -> str:
        """Return a path of this server as browsers know it."""
        return self._base + path


def redirect(url: str, cookies: Collection[Cookie] = ()) -> Response[bytes]:
    """Send a browser on with GET (303, as RFC 9700 section 4.12 asks for)."""
    headers = {"Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Response(b"", status_code=303, media_type="text/plain", headers=headers, cookies=list(cookies))
